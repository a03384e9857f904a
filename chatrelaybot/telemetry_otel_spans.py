"""Spans over OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import baggage as baggages
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import Tracer as ApiTracer

from chatrelaybot.telemetry_spans import Role, Span, Value, ids

_KINDS = {
    Role.PRODUCER: SpanKind.PRODUCER,
    Role.CONSUMER: SpanKind.CONSUMER,
    Role.CLIENT: SpanKind.CLIENT,
}


class OTelTracer:
    """Begins spans that are recorded."""

    def __init__(self, tracer: ApiTracer, *, propagator: TextMapPropagator) -> None:
        self._tracer = tracer
        self._propagator = propagator

    def start(
        self,
        name: str,
        attributes: Mapping[str, Value],
        *,
        role: Role,
        parent: str | None = None,
        started_at: float | None = None,
        baggage: Mapping[str, str] | None = None,
    ) -> Span:
        context = Context()
        for key, value in (baggage or {}).items():
            context = baggages.set_baggage(key, value, context)
        if (above := _span_context(parent or "")) is not None:
            context = set_span_in_context(NonRecordingSpan(above), context)
        return self.start_in(context, name, attributes, role=role, started_at=started_at)

    def start_in(
        self,
        context: Context,
        name: str,
        attributes: Mapping[str, Value],
        *,
        role: Role,
        started_at: float | None = None,
    ) -> Span:
        """Begin a span below the one in the context."""
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_KINDS[role],
            attributes=attributes,
            start_time=None if started_at is None else int(started_at * 1e9),
        )
        return _OTelSpan(span, set_span_in_context(span, context), self)

    def carry(self, context: Context) -> dict[str, str]:
        """Return the headers that the operator's propagators make of a context."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context=context)
        return headers


class _OTelSpan:
    def __init__(self, span: ApiSpan, context: Context, tracer: OTelTracer) -> None:
        self._span = span
        self._context = context
        self._tracer = tracer
        where = span.get_span_context()
        flags = f"{int(where.trace_flags):02x}"
        self.traceparent = f"00-{where.trace_id:032x}-{where.span_id:016x}-{flags}"

    def child(
        self, name: str, attributes: Mapping[str, Value], *, role: Role = Role.CLIENT
    ) -> Span:
        return self._tracer.start_in(self._context, name, attributes, role=role)

    def add_event(self, name: str, attributes: Mapping[str, Value]) -> None:
        self._span.add_event(name, attributes)

    def set(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        # The SDK warns of a second end.
        if self._span.is_recording():
            self._span.end()

    def headers(self) -> Mapping[str, str]:
        # The backend is promised the first, whatever the propagators are.
        return {"traceparent": self.traceparent, **self._tracer.carry(self._context)}


def _span_context(traceparent: str) -> SpanContext | None:
    found = ids(traceparent)
    if found is None:
        return None
    flags = TraceFlags(int(traceparent[-2:], 16))
    return SpanContext(int(found[0], 16), int(found[1], 16), is_remote=True, trace_flags=flags)
