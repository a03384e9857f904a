"""Log records for OpenTelemetry's export.

The SDK's own handler, and the instrumentation that takes its place, send an exception's words and
whatever else a record holds; what this one sends is what the log on stderr shows.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from chatrelaybot import telemetry_spans
from chatrelaybot.telemetry_logs import facts, is_exporters, mask, shown_error

_SEVERITIES = {
    logging.DEBUG: (SeverityNumber.DEBUG, "DEBUG"),
    logging.INFO: (SeverityNumber.INFO, "INFO"),
    logging.WARNING: (SeverityNumber.WARN, "WARN"),
    logging.ERROR: (SeverityNumber.ERROR, "ERROR"),
    logging.CRITICAL: (SeverityNumber.FATAL, "FATAL"),
}


class LogHandler(logging.Handler):
    """Hands records to the SDK, which sends them in batches."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over a record; not those about the export itself, which would never end."""
        if is_exporters(record):
            return
        try:
            self._hand_over(record)
        except Exception:  # noqa: BLE001 - a record that cannot be told must not hurt who logs it
            self.handleError(record)

    def _hand_over(self, record: logging.LogRecord) -> None:
        level = max(level for level in _SEVERITIES if level <= max(record.levelno, logging.DEBUG))
        number, text = _SEVERITIES[level]
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                context=_context(),
                severity_number=number,
                severity_text=text,
                body=mask(record.getMessage()),
                attributes=_attributes(record),
            )
        )


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "logger": record.name,
        "thread.name": record.threadName,
        **{
            name: value if isinstance(value, bool | int | float) else mask(str(value))
            for name, value in facts(record).items()
            if value is not None
        },
    }
    if error := shown_error(record):
        attributes["exception.type"] = error["type"]
        attributes["exception.stacktrace"] = mask(error["traceback"])
    return attributes


def _context() -> Context:
    """Return the context of what this thread is doing: its trace."""
    traceparent = telemetry_spans.current().traceparent
    found = telemetry_spans.ids(traceparent)
    if found is None:
        return Context()
    flags = TraceFlags(int(traceparent[-2:], 16))
    where = SpanContext(int(found[0], 16), int(found[1], 16), is_remote=False, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(where), Context())
