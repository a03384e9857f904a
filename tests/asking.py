"""Asking a scripted backend through the backend's door."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from chatrelaybot.backend import Answer, Backend
from chatrelaybot.dialects import dialect
from chatrelaybot.errors import PermanentError, TransientError
from chatrelaybot.events import Question
from chatrelaybot.telemetry_spans import Unrecorded
from tests.scripted_backend import (
    CHUNKED,
    END,
    Exchange,
    Script,
    ScriptedBackend,
    head,
    part,
)

QUESTION = Question(
    event_id="Ev1",
    team_id="T1",
    channel="C1",
    user_id="U1",
    text="wörum?",
    ts="1700000000.000100",
    thread_ts=None,
)


def backend_at(url: str, *, name: str = "relay", **options: Any) -> Backend:
    values: dict[str, Any] = {
        "url": url,
        "dialect": dialect(name, model="m", system_prompt="", separator=""),
        "token": None,
        "headers": {},
        "connect_seconds": 5.0,
        "idle_seconds": 5.0,
        "silence_seconds": 5.0,
        "pool_size": 4,
    }
    return Backend(**{**values, **options})


def ask(backend: Backend) -> Answer:
    return backend.ask(QUESTION, span=Unrecorded("00-" + "1" * 32 + "-" + "2" * 16 + "-01"))


def text_of(backend: Backend) -> str:
    with ask(backend) as answer:
        return "".join(delta.text for delta in answer)


def whole(exchange: Exchange) -> None:
    exchange.send(head(CHUNKED))
    exchange.send_chunk(part("tea") + END)
    exchange.end_chunks()


def sending(*pieces: bytes) -> Script:
    """Return a script that sends these bytes and a FIN."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"".join(pieces))
        exchange.hang_up()

    return script


def failure_of(
    script: Script, *, tls: ssl.SSLContext | None = None, **options: Any
) -> TransientError | PermanentError:
    """Return the error that the answer to this script ends with."""
    with (
        ScriptedBackend(script, tls=tls) as server,
        closing(backend_at(server.url, **options)) as backend,
    ):
        with pytest.raises((TransientError, PermanentError)) as caught:
            text_of(backend)
        assert len(server.requests) == 1
    error = caught.value
    assert isinstance(error, TransientError | PermanentError)
    return error


def headers_at_a_drip(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX: ")
    exchange.drip(b"x", 0.05)


def no_headers(exchange: Exchange) -> None:
    exchange.wait_until_client_hangs_up()


def silence(exchange: Exchange) -> None:
    exchange.send(head() + part("a"))
    exchange.wait_until_client_hangs_up()


def comments(exchange: Exchange) -> None:
    exchange.send(head() + part("a"))
    exchange.drip(b":", 0.05)


@contextmanager
def full_port() -> Iterator[int]:
    """A port that lets a connection neither in nor down: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
