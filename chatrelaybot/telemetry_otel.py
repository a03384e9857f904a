"""OpenTelemetry's SDK, set up as its own variables say. Imported only where it is on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.telemetry_environment import GRPC, Exports, Signal, protocol
from chatrelaybot.telemetry_metrics import Attributes, Sink
from chatrelaybot.telemetry_otel_logs import LogHandler
from chatrelaybot.telemetry_otel_metrics import Meters
from chatrelaybot.telemetry_otel_spans import OTelTracer
from chatrelaybot.telemetry_spans import Tracer

_SCOPE = "chatrelaybot"
#: Within one flush of ours, so that a collector that is away does not hold up a stop; seconds.
_TIMEOUT = "3"
_EXPORTERS: dict[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


class OpenTelemetry:
    """The providers of the signals that are exported."""

    def __init__(self, *, exports: Exports, resource: Attributes) -> None:
        """`resource` holds what is said of this process where the operator says nothing else.

        Raises:
            ConfigurationError: What is asked for cannot be had.
        """
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _TIMEOUT)
        # What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say wins.
        said = OTELResourceDetector().detect().attributes
        self._resource = Resource.create({**resource, **said})
        self._closers: list[Callable[[], object]] = []
        self.tracer: Tracer | None = self._tracer(exports) if exports.traces else None
        self.meters: Sink | None = self._meters(exports) if exports.metrics else None
        self.log_handler: logging.Handler | None = self._logs(exports) if exports.logs else None

    @property
    def closers(self) -> tuple[Callable[[], object], ...]:
        """What sends the rest, each in a time of its own, and ends the export of a signal."""
        return tuple(self._closers)

    def _tracer(self, exports: Exports) -> Tracer:
        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        if "otlp" in exports.traces:
            provider.add_span_processor(BatchSpanProcessor(_otlp("traces")))
        if "console" in exports.traces:
            provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        self._closers.append(provider.shutdown)
        return OTelTracer(provider.get_tracer(_SCOPE), propagator=get_global_textmap())

    def _meters(self, exports: Exports) -> Sink:
        exporters: list[Any] = [_otlp("metrics")] if "otlp" in exports.metrics else []
        if "console" in exports.metrics:
            exporters.append(ConsoleMetricExporter())
        provider = MeterProvider(
            metric_readers=[PeriodicExportingMetricReader(each) for each in exporters],
            resource=self._resource,
            shutdown_on_exit=False,
        )
        self._closers.append(provider.shutdown)
        return Meters(provider.get_meter(_SCOPE))

    def _logs(self, exports: Exports) -> logging.Handler:
        provider = LoggerProvider(resource=self._resource, shutdown_on_exit=False)
        if "otlp" in exports.logs:
            provider.add_log_record_processor(BatchLogRecordProcessor(_otlp("logs")))
        if "console" in exports.logs:
            provider.add_log_record_processor(SimpleLogRecordProcessor(ConsoleLogRecordExporter()))
        self._closers.append(provider.shutdown)
        return LogHandler(provider.get_logger(_SCOPE))


def _otlp(signal: Signal) -> Any:
    """Return the exporter for a signal, in the protocol that is asked for."""
    way = "grpc" if protocol(signal, os.environ) == GRPC else "http"
    module, name = _EXPORTERS[signal]
    try:
        exporters = import_module(f"opentelemetry.exporter.otlp.proto.{way}.{module}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            f"the exporter for {way} is not installed",
            f"pip install 'chatrelaybot[{way}]', or use http/protobuf",
        ) from error
    try:
        return getattr(exporters, name)()
    except Exception as error:  # Whatever it makes of the operator's variables.
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_*",
            f"the exporter of {signal} cannot be set up ({type(error).__name__})",
            "look at its endpoint, headers, certificates and compression",
        ) from error
