"""What is told of a question to the backend: one span over the whole answer, and its times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from chatrelaybot.telemetry_metrics import (
    CHAT_DURATION,
    CHAT_FIRST_CHUNK,
    FIRST_PART,
    HTTP_DURATION,
    Metrics,
)
from chatrelaybot.telemetry_spans import Span, Value


class BackendCalls:
    """Begins what is told of each call. Safe for any number of threads."""

    def __init__(self, *, url: str, chat_model: str | None, metrics: Metrics) -> None:
        """`chat_model` is the language model at the other end, where one is."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        # No more of the URL: its path is the secret of many a webhook, and so is its query.
        self._http = {
            "http.request.method": "POST",
            "server.address": parts.hostname or "",
            "server.port": str(port),
        }
        self._chat = _chat(chat_model) if chat_model else {}
        self._name = f"chat {chat_model}" if chat_model else "POST"
        self._metrics = metrics
        self._span_attributes: dict[str, Value] = {
            **self._http,
            "server.port": port,
            **self._chat,
            **({"gen_ai.request.stream": True} if chat_model else {}),
        }

    def begin(self, above: Span) -> BackendCall:
        """Begin to tell of a call."""
        span = above.child(self._name, self._span_attributes)
        return BackendCall(span, http=self._http, chat=self._chat, metrics=self._metrics)


class BackendCall:
    """One call, from its sending to the end of its answer. One thread's."""

    def __init__(
        self, span: Span, *, http: Mapping[str, str], chat: Mapping[str, str], metrics: Metrics
    ) -> None:
        self._span = span
        self._http = dict(http)
        self._chat = dict(chat)
        self._metrics = metrics
        self._began_at = time.monotonic()
        self._part_count = 0
        self._is_over = False

    def headers(self) -> Mapping[str, str]:
        """Return the headers that carry the trace to the backend."""
        return self._span.headers()

    def answered(self, status: int) -> None:
        """Note the head of the answer."""
        self._http["http.response.status_code"] = str(status)
        self._span.set({"http.response.status_code": status})

    def took_part(self) -> None:
        """Note a piece of text."""
        self._part_count += 1
        if self._part_count > 1:
            return
        seconds = time.monotonic() - self._began_at
        self._span.set({"chatrelaybot.backend.time_to_first_part": seconds})
        self._span.add_event("first part", {})
        self._metrics.record(FIRST_PART, seconds)
        if self._chat:
            self._span.set({"gen_ai.response.time_to_first_chunk": seconds})
            self._metrics.record(CHAT_FIRST_CHUNK, seconds, self._chat)

    def failed(self, kind: str) -> None:
        """Note what has ended the answer early."""
        self._http["error.type"] = kind
        self._span.fail(kind)

    def end(self) -> None:
        """Note that it is over; a second time is without effect."""
        if self._is_over:
            return
        self._is_over = True
        seconds = time.monotonic() - self._began_at
        self._span.set({"chatrelaybot.backend.parts": self._part_count})
        self._span.end()
        self._metrics.record(HTTP_DURATION, seconds, self._http)
        if self._chat:
            error = {"error.type": self._http.get("error.type", "")}
            self._metrics.record(CHAT_DURATION, seconds, {**self._chat, **error})


def _chat(model: str) -> dict[str, str]:
    # The provider is whose protocol is spoken; who is behind it nobody can tell.
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
    }
