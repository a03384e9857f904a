"""The sample backend's side of the two dialects: what it reads, and the bytes that it writes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Protocol


class BadRequest(ValueError):
    """The request is not what the dialect asks for; the words are for its sender."""


class Wire(Protocol):
    """One dialect, for one request."""

    name: str

    def begin(self) -> bytes: ...  # events before the first text

    def text(self, text: str) -> bytes: ...  # an event with text

    def done(self) -> bytes: ...  # the events that end an answer

    def failed(self, words: str) -> bytes: ...  # the event that says it failed

    def whole(self, text: str) -> object: ...  # an answer in one piece

    def error(self, words: str) -> object: ...  # an error in one piece


class RelayWire:
    """`relay`: events `message_part`, `stream_end` and `error`."""

    name = "relay"

    def begin(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        return _event({"text_chunk": text}, event="message_part")

    def done(self) -> bytes:
        return _event({"status": "done"}, event="stream_end")

    def failed(self, words: str) -> bytes:
        return _event({"error": words}, event="error")

    def whole(self, text: str) -> object:
        return {"full_response": text}

    def error(self, words: str) -> object:
        return {"error": words}


class OpenAIWire:
    """`openai`: https://platform.openai.com/docs/api-reference/chat-streaming."""

    name = "openai"

    def __init__(self, *, model: str) -> None:
        self._facts = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def done(self) -> bytes:
        return self._chunk({}, finish_reason="stop") + b"data: [DONE]\n\n"

    def failed(self, words: str) -> bytes:
        return _event(self.error(words))

    def whole(self, text: str) -> object:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**self._facts, "object": "chat.completion", "choices": [choice]}

    def error(self, words: str) -> object:
        return {"error": {"message": words, "type": "server_error", "code": None}}

    def _chunk(self, delta: Mapping[str, str], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._facts, "object": "chat.completion.chunk", "choices": [choice]})


def _event(data: object, *, event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def read_relay(body: bytes) -> str:
    """Return the question of a `relay` request."""
    request = _object(body)
    for key in ("user_id", "query", "channel_id"):
        if not isinstance(request.get(key), str):
            raise BadRequest(f"{key} must be a string")
    if not str(request["query"]).strip():
        raise BadRequest("query is empty")
    return str(request["query"])


def read_openai(body: bytes) -> tuple[str, str, bool]:
    """Return the question of an `openai` request, its model, and whether it wants a stream."""
    request = _object(body)
    model, messages = request.get("model"), request.get("messages")
    if not isinstance(model, str) or not model:
        raise BadRequest("model must be a string")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise BadRequest("messages must be a list of objects")
    said = [each.get("content") for each in messages if each.get("role") == "user"]
    if not said or not isinstance(said[-1], str) or not said[-1].strip():
        raise BadRequest("messages must have one with role user and some content")
    return said[-1], model, request.get("stream") is True


def _object(body: bytes) -> dict[str, object]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object")
    return request


def wanted_type(accept: str) -> str | None:
    """Choose by the Accept header: a stream where it is named, else JSON, else None."""
    named = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if "text/event-stream" in named:
        return "text/event-stream"
    # No header at all means that anything will do:
    # https://www.rfc-editor.org/rfc/rfc9110#name-accept
    if named & {"application/json", "application/*", "*/*", ""}:
        return "application/json"
    return None
