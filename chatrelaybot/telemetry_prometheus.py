"""The instruments as Prometheus reads them: text, at the moment when it asks.

Names are made from OpenTelemetry's as its specification has it, so that a dashboard does not care
which way a value came: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from chatrelaybot.telemetry_metrics import (
    INSTRUMENTS,
    SECONDS,
    Attributes,
    Instrument,
    Kind,
    Read,
)

_UNITS = {"s": "_seconds"}


def metric_name(instrument: Instrument) -> str:
    """Return the name without the `_total`, `_bucket` and so on that some kinds add."""
    return _plain(instrument.name) + _UNITS.get(instrument.unit, "")


class Prometheus:
    """A sink that keeps what it is told, for whoever asks."""

    def __init__(self, *, resource: Attributes) -> None:
        """`resource` says what program this is; every scrape shows it as `target_info`."""
        # A series beside each series, which nothing here asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._observed = _Observed(resource)
        self._registry.register(self._observed)
        _Process(registry=self._registry)
        for instrument in INSTRUMENTS:
            self._make(instrument)

    def scrape(self) -> tuple[bytes, str]:
        """Return everything in Prometheus's text format, and the type of that."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def count(self, instrument: Instrument, amount: float, attributes: Attributes) -> None:
        """Add to a counter."""
        counter = self._counters[instrument.name]
        _child(counter, instrument, attributes).inc(amount)

    def record(self, instrument: Instrument, value: float, attributes: Attributes) -> None:
        """Put a value into a histogram."""
        histogram = self._histograms[instrument.name]
        _child(histogram, instrument, attributes).observe(value)

    def observe(self, instrument: Instrument, read: Read) -> None:
        """Ask `read` at each scrape."""
        self._observed.reads[instrument] = read

    def _make(self, instrument: Instrument) -> None:
        labels = [_plain(name) for name in instrument.attributes]
        name, words = metric_name(instrument), instrument.description
        if instrument.kind is Kind.COUNTER:
            counter = Counter(name, words, labels, registry=self._registry)
            self._counters[instrument.name] = counter
            for values in instrument.known:
                counter.labels(*values)
        elif instrument.kind is Kind.HISTOGRAM:
            histogram = Histogram(name, words, labels, registry=self._registry, buckets=SECONDS)
            self._histograms[instrument.name] = histogram


class _Process(ProcessCollector):
    """The library's, where a sandbox hides /proc/stat: it would show nothing at all.

    https://www.freedesktop.org/software/systemd/man/systemd.exec.html#ProcSubset=
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class _Observed:
    """The instruments that are looked at when somebody asks."""

    def __init__(self, resource: Attributes) -> None:
        self.reads: dict[Instrument, Read] = {}
        self._resource = resource

    def collect(self) -> Iterator[Metric]:
        labels = {_plain(name): value for name, value in self._resource.items()}
        target = GaugeMetricFamily("target_info", "What this is", labels=[*labels])
        target.add_metric([*labels.values()], 1.0)
        yield target
        for instrument, read in list(self.reads.items()):
            yield _family(instrument, read)


def _family(instrument: Instrument, read: Read) -> Metric:
    kind = CounterMetricFamily if instrument.kind is Kind.TOTAL else GaugeMetricFamily
    labels = [_plain(name) for name in instrument.attributes]
    family = kind(metric_name(instrument), instrument.description, labels=labels)
    for value, attributes in read():
        family.add_metric(_values(instrument, attributes), value)
    return family


def _child(metric: Any, instrument: Instrument, attributes: Attributes) -> Any:
    return metric.labels(*_values(instrument, attributes)) if instrument.attributes else metric


def _values(instrument: Instrument, attributes: Attributes) -> list[str]:
    # A label without a value is the same as none.
    return [attributes.get(name, "") for name in instrument.attributes]


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
