"""What is told of a call of Slack's Web API: how long it took, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from chatrelaybot import telemetry_spans
from chatrelaybot.telemetry_metrics import HTTP_DURATION, Metrics, Words
from chatrelaybot.telemetry_spans import NO_SPAN, Span, Value


class Call:
    """One call, while it is made."""

    def __init__(self) -> None:
        self.status = ""
        self.error_type = ""

    def answered(self, status: int, code: str | None) -> None:
        """Note the HTTP status, and Slack's error code if it gave one."""
        self.status = str(status)
        self.error_type = code or ("" if status == 200 else self.status)


class SlackCalls:
    """Safe for any number of threads."""

    def __init__(self, *, api_url: str, metrics: Metrics) -> None:
        url = urlsplit(api_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        self._attributes = {
            "http.request.method": "POST",
            "server.address": url.hostname or "",
            "server.port": str(port),
        }
        self._span_attributes: dict[str, Value] = {**self._attributes, "server.port": port}
        self._metrics = metrics
        self._error_types = Words()

    @contextmanager
    def call(self, method: str, facts: Mapping[str, Value], *, is_passing: bool) -> Iterator[Call]:
        """Tell of a call below what this thread is doing.

        A passing one is an event of that; of the hundreds that an answer can take there would
        otherwise be as many spans.
        """
        above = telemetry_spans.current()
        span = NO_SPAN if is_passing else above.child(method, {**self._span_attributes, **facts})
        call = Call()
        began_at = time.monotonic()
        try:
            yield call
        except Exception as error:
            call.error_type = call.error_type or type(error.__cause__ or error).__name__
            raise
        finally:
            seconds = time.monotonic() - began_at
            self._record(method, call, seconds)
            if is_passing:
                _add_event(above, method, {**facts, "chatrelaybot.seconds": seconds}, call)
            else:
                _end(span, call)

    def _record(self, method: str, call: Call, seconds: float) -> None:
        attributes = {
            **self._attributes,
            "url.template": method,
            "http.response.status_code": call.status,
            "error.type": call.error_type and self._error_types.of(call.error_type),
        }
        self._metrics.record(HTTP_DURATION, seconds, attributes)


def _add_event(above: Span, method: str, facts: Mapping[str, Value], call: Call) -> None:
    error = {"error.type": call.error_type} if call.error_type else {}
    above.add_event(method, {**facts, **error})


def _end(span: Span, call: Call) -> None:
    if call.status:
        span.set({"http.response.status_code": int(call.status)})
    if call.error_type:
        span.fail(call.error_type)
    span.end()
