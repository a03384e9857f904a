"""What the operator sees of this process: spans, metrics and log records, and where they go."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import chatrelaybot
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.telemetry_environment import Exports, exports
from chatrelaybot.telemetry_metrics import Metrics, Sink
from chatrelaybot.telemetry_spans import NO_TRACER, Spans, Tracer

if TYPE_CHECKING:
    from chatrelaybot.telemetry_otel import OpenTelemetry
    from chatrelaybot.telemetry_prometheus import Prometheus


class Telemetry:
    """Spans and metrics for all parts. What is off is not even imported."""

    def __init__(
        self,
        *,
        exporter: str,
        variables: Mapping[str, str],
        instance: str,
        has_scrapes: bool,
    ) -> None:
        """`variables` are OpenTelemetry's, from outside the environment, which wins over them.

        `exporter` is what stands for those that are not set: otlp, console or none. `instance`
        names this process. With `has_scrapes` somebody may ask for the metrics as text.

        Raises:
            ConfigurationError: What is asked for cannot be had.
        """
        self.instance = instance
        # Empty is the same as not set.
        stronger = {name: value for name, value in os.environ.items() if value}
        wanted = exports(exporter, {**variables, **stronger})
        resource = {
            "service.name": "chatrelaybot",
            "service.version": chatrelaybot.__version__,
            "service.instance.id": instance,
        }
        otel = _opened(wanted, variables, resource) if wanted else None
        self._scrapes = _prometheus(resource) if has_scrapes else None
        self._log_handler = otel.log_handler if otel else None
        self._closers = otel.closers if otel else ()
        tracer: Tracer = NO_TRACER if otel is None or otel.tracer is None else otel.tracer
        sinks: list[Sink | None] = [self._scrapes, otel.meters if otel else None]
        self.spans = Spans(tracer)
        self.metrics = Metrics([sink for sink in sinks if sink is not None])
        if self._log_handler is not None:
            logging.getLogger().addHandler(self._log_handler)

    @property
    def scrape(self) -> Callable[[], tuple[bytes, str]] | None:
        """What returns the metrics as Prometheus reads them, and their type; None: nobody asks."""
        return self._scrapes.scrape if self._scrapes else None

    @property
    def closers(self) -> tuple[Callable[[], object], ...]:
        """What sends what is left; each may take long where the collector is away."""
        return self._closers

    def mute(self) -> None:
        """Send no more log records."""
        if self._log_handler is not None:
            logging.getLogger().removeHandler(self._log_handler)


def _opened(
    wanted: Exports, variables: Mapping[str, str], resource: Mapping[str, str]
) -> OpenTelemetry:
    # The SDK reads nothing but the environment of the process, some of it while it is imported.
    for name, value in variables.items():
        if not os.environ.get(name):
            os.environ[name] = value
    try:
        from chatrelaybot.telemetry_otel import OpenTelemetry
    except ValueError as error:
        raise ConfigurationError(
            "OTEL_PROPAGATORS", "one of them is unknown", "use tracecontext,baggage"
        ) from error
    return OpenTelemetry(exports=wanted, resource=resource)


def _prometheus(resource: Mapping[str, str]) -> Prometheus:
    from chatrelaybot.telemetry_prometheus import Prometheus

    return Prometheus(resource=resource)
