"""The instruments over OpenTelemetry's meters."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from chatrelaybot.telemetry_metrics import (
    INSTRUMENTS,
    SECONDS,
    Attributes,
    Instrument,
    Kind,
    Read,
)


class Meters:
    """A sink whose values are exported now and then."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for instrument in INSTRUMENTS:
            self._make(instrument)

    def count(self, instrument: Instrument, amount: float, attributes: Attributes) -> None:
        """Add to a counter."""
        self._counters[instrument.name].add(amount, _set(attributes))

    def record(self, instrument: Instrument, value: float, attributes: Attributes) -> None:
        """Put a value into a histogram."""
        self._histograms[instrument.name].record(value, _set(attributes))

    def observe(self, instrument: Instrument, read: Read) -> None:
        """Ask `read` before each export."""

        def look(_: CallbackOptions) -> Iterator[Observation]:
            for value, attributes in read():
                yield Observation(value, attributes)

        name, unit, words = instrument.name, instrument.unit, instrument.description
        if instrument.kind is Kind.TOTAL:
            self._meter.create_observable_counter(name, [look], unit, words)
        else:
            self._meter.create_observable_gauge(name, [look], unit, words)

    def _make(self, instrument: Instrument) -> None:
        name, unit, words = instrument.name, instrument.unit, instrument.description
        if instrument.kind is Kind.COUNTER:
            self._counters[name] = self._meter.create_counter(name, unit, words)
            for values in instrument.known:
                known = dict(zip(instrument.attributes, values, strict=True))
                self._counters[name].add(0, known)
        elif instrument.kind is Kind.HISTOGRAM:
            self._histograms[name] = self._meter.create_histogram(
                name, unit, words, explicit_bucket_boundaries_advisory=SECONDS
            )


def _set(attributes: Attributes) -> Attributes:
    """Leave out what has no value."""
    return {name: value for name, value in attributes.items() if value}
