"""The dialect `relay`: `message_part` events that end with `stream_end`, or one JSON object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chatrelaybot.dialects.outcome import (
    Delta,
    Event,
    Failure,
    Finish,
    Outcome,
    garbled,
    json_object,
)
from chatrelaybot.events import Question

_KINDS = frozenset({"message_part", "stream_end", "error"})


class Relay:
    """The dialect with no state of its own."""

    def __init__(self, *, separator: str) -> None:
        """`separator` stands between two parts of an answer."""
        self._separator = separator

    @property
    def chat_model(self) -> None:
        return None

    def body(self, question: Question) -> dict[str, object]:
        return {
            "user_id": question.user_id,
            "query": question.text,
            "channel_id": question.channel,
            "team_id": question.team_id,
            "thread_ts": question.thread_ts,
            "ts": question.ts,
        }

    def decoder(self) -> RelayDecoder:
        return RelayDecoder(separator=self._separator)


class RelayDecoder:
    """One answer in the dialect."""

    def __init__(self, *, separator: str) -> None:
        self._separator = separator
        self._has_part = False

    def decode_event(self, event: Event) -> Outcome | None:
        kind, data = event.event, event.data
        if not data or data.isspace() or (kind not in _KINDS and kind != "message"):
            return None
        fields = json_object(data)
        if kind == "message":
            # Without a name of its own an event says in its data what it is. What has neither is
            # unknown, whatever its data is: a plain "ping", for one.
            kind = str(fields.get("event")) if fields else ""
            if kind not in _KINDS:
                return None
        if fields is None:
            raise garbled()
        if kind == "message_part":
            return self._part(fields)
        return Finish() if kind == "stream_end" else _failure(fields)

    def decode_json(self, body: object) -> Iterable[Outcome]:
        if not isinstance(body, dict):
            raise garbled()
        text = body.get("full_response")
        if body.get("error") or (text is None and "error" in body):
            return (_failure(body),)
        if not isinstance(text, str):
            raise garbled()
        return (Delta(text), Finish()) if text else (Finish(),)

    def end(self) -> Finish | None:
        return None

    def _part(self, fields: Mapping[str, Any]) -> Delta | None:
        chunk = fields.get("text_chunk")
        if not isinstance(chunk, str):
            raise garbled()
        text = self._separator + chunk if self._has_part else chunk
        self._has_part = True
        return Delta(text) if text else None


def _failure(fields: Mapping[str, Any]) -> Failure:
    words = fields.get("error")
    return Failure(words if isinstance(words, str) else "")
