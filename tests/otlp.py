"""A collector of traces, metrics and logs that keeps what it is sent for a test to look at.

It speaks OTLP over HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1 import trace_pb2

#: Longer than anything here should take; seconds.
DEADLINE = 20.0

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What an exporter has sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes  #: unpacked


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    at: float  #: seconds since 1970
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str  #: empty: none
    started: float  #: seconds since 1970
    ended: float
    attributes: Attributes
    events: tuple[Event, ...]
    is_failed: bool
    resource: Attributes

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def event_names(self) -> list[str]:
        return [event.name for event in self.events]


@dataclass(frozen=True, slots=True)
class Point:
    """What one instrument shows, for one set of attributes."""

    name: str
    kind: str  #: sum, gauge or histogram
    unit: str
    attributes: Attributes
    value: float  #: of a histogram: the sum
    count: int  #: of a histogram: how many values there were
    resource: Attributes


@dataclass(frozen=True, slots=True)
class LogRecord:
    body: str
    severity: str
    severity_number: int
    trace_id: str
    span_id: str
    attributes: Attributes
    resource: Attributes


class Collector:
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        #: Guards what follows, and is notified when something has come.
        self._came = threading.Condition()
        self._requests: list[Request] = []
        self._status = 200
        self._free = threading.Event()
        self._free.set()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, status: int) -> None:
        """Answer with this status from now on."""
        self._status = status

    def hang(self) -> None:
        """Answer nothing, until the test is over."""
        self._free.clear()

    @property
    def requests(self) -> list[Request]:
        with self._came:
            return self._requests[:]

    @property
    def raw(self) -> bytes:
        """Everything that came, headers too."""
        return b"\n".join(
            part
            for request in self.requests
            for part in (request.path.encode(), repr(request.headers).encode(), request.body)
        )

    @property
    def spans(self) -> list[Span]:
        return [span for request in self._of("/v1/traces") for span in spans_in(request.body)]

    @property
    def log_records(self) -> list[LogRecord]:
        return [one for request in self._of("/v1/logs") for one in _log_records(request.body)]

    @property
    def points(self) -> list[Point]:
        """What the instruments showed when they were last exported."""
        exports = self._of("/v1/metrics")
        return list(_points(exports[-1].body)) if exports else []

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def wait_for(self, predicate: Callable[[], object]) -> None:
        """Wait until something that came makes it true."""
        with self._came:
            assert self._came.wait_for(predicate, DEADLINE), (
                sorted({span.name for span in self.spans}),
                sorted({point.name for point in self.points}),
                sorted({record.body for record in self.log_records}),
            )

    def take(self, request: Request) -> int:
        """Keep a request; return the status that it is answered with."""
        with self._came:
            self._requests.append(request)
            self._came.notify_all()
        self._free.wait()
        return self._status

    def _of(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, collector: Collector) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collector = collector

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: exporters that have waited long enough hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.collector.take(Request(self.path, headers, body))
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of ours that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def one(spans: Iterable[Span], name: str) -> Span:
    """Return the only span of that name."""
    (span,) = [span for span in spans if span.name == name]
    return span


def spans_in(body: bytes) -> Iterator[Span]:
    return spans_of(ExportTraceServiceRequest.FromString(body))


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            yield from (_span(span, resource) for span in scope.spans)


def _span(span: trace_pb2.Span, resource: Attributes) -> Span:
    return Span(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        started=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        attributes=_attributes(span.attributes),
        events=tuple(
            Event(event.name, event.time_unix_nano / 1e9, _attributes(event.attributes))
            for event in span.events
        ),
        is_failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        resource=resource,
    )


def _points(body: bytes) -> Iterator[Point]:
    for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from _points_of(metric, resource)


def _points_of(metric: Metric, resource: Attributes) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    assert kind in ("sum", "gauge", "histogram"), kind
    for point in getattr(metric, kind).data_points:
        is_histogram = kind == "histogram"
        yield Point(
            name=metric.name,
            kind=kind,
            unit=metric.unit,
            attributes=_attributes(point.attributes),
            value=point.sum if is_histogram else point.as_double or float(point.as_int),
            count=point.count if is_histogram else 1,
            resource=resource,
        )


def _log_records(body: bytes) -> Iterator[LogRecord]:
    for group in ExportLogsServiceRequest.FromString(body).resource_logs:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield LogRecord(
                    body=record.body.string_value,
                    severity=record.severity_text,
                    severity_number=record.severity_number,
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    attributes=_attributes(record.attributes),
                    resource=resource,
                )


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
