"""A backend that hangs, drips, floods, dies midway or talks nonsense, and none at all."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from contextlib import closing, suppress
from pathlib import Path

import pytest

from chatrelaybot.dialects import Delta
from chatrelaybot.errors import (
    FailureKind,
    PermanentError,
    TransientError,
)
from tests.asking import (
    ask,
    backend_at,
    comments,
    failure_of,
    full_port,
    headers_at_a_drip,
    no_headers,
    sending,
    silence,
    text_of,
    whole,
)
from tests.scripted_backend import (
    CHUNKED,
    DEADLINE,
    END,
    Exchange,
    Script,
    ScriptedBackend,
    event,
    head,
    part,
)


@pytest.mark.parametrize(
    "response",
    [
        b"220 mail.example.com ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46" * 4 + b"\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        head("Content-Length: 1", "Content-Length: 2"),
        head(content_type="application/json") + b"secret words",
        head(content_type="application/json") + b"[" * 100_000,
        head(content_type="application/json") + b'{"n": ' + b"9" * 10_000 + b"}",
        head(content_type="application/json") + b'"\xff"',
        head() + event("message_part", "secret words"),
    ],
)
def test_what_makes_no_sense_is_garbled(response: bytes) -> None:
    error = failure_of(sending(response))
    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.GARBLED
    assert "secret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "response",
    [
        head() + part("a"),
        head("Content-Length: 9999") + part("a"),
        head(f"Content-Length: {len(part('a'))}") + part("a") + END,
        head(CHUNKED) + b"%x\r\n%b\r\n" % (len(part("a")), part("a")),
        head(CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(part("a")), part("a")),
        head(CHUNKED) + b"%x\r\n%b\r\nxyz\r\n" % (len(part("a")), part("a")),
        head(CHUNKED) + b"ffff\r\n" + part("a"),
        head() + part("a") + END.rstrip(b"\n"),
        head() + part("a") + b"data: {",
        head("Content-Length: 99", content_type="application/json") + b'{"full_response": "a"}',
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTT",
        head().removesuffix(b"\r\n"),
    ],
)
def test_an_answer_that_breaks_off_is_cut(response: bytes) -> None:
    error = failure_of(sending(response))
    assert isinstance(error, TransientError)
    assert error.kind is FailureKind.CUT


def test_a_reset_midway_is_a_cut_and_the_text_before_it_is_there() -> None:
    has_text = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(head() + part("a"))
        assert has_text.wait(DEADLINE)
        exchange.reset()

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        deltas = iter(ask(backend))
        assert next(deltas) == Delta("a")
        has_text.set()
        with pytest.raises(TransientError) as caught:
            next(deltas)
    assert caught.value.kind is FailureKind.CUT


@pytest.mark.parametrize("script", [Exchange.hang_up, Exchange.reset])
def test_a_backend_that_hangs_up_unheard_is_unreachable(script: Script) -> None:
    error = failure_of(script)
    assert isinstance(error, TransientError)
    assert error.kind is FailureKind.UNREACHABLE


def _continuing(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)


@pytest.mark.parametrize("script", [no_headers, headers_at_a_drip, _continuing, silence])
def test_no_headers_and_no_bytes_end_at_the_idle_deadline(script: Script) -> None:
    started = time.monotonic()
    error = failure_of(script, idle_seconds=0.4, silence_seconds=60.0)

    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.SLOW
    assert 0.4 <= time.monotonic() - started < 3.0


def _comments_in_a_flood(exchange: Exchange) -> None:
    exchange.send(head() + part("a"))
    exchange.flood(b":\n\n" * 1000)


def _unknown_events(exchange: Exchange) -> None:
    exchange.send(head(CHUNKED))
    exchange.send_chunk(part("a"))
    exchange.drip(b"7\r\ndata:\n\n\r\n", 0.05)


def _chunk_extension(exchange: Exchange) -> None:
    exchange.send(head(CHUNKED))
    exchange.send_chunk(part("a"))
    exchange.send(b"5;")
    exchange.drip(b"x", 0.05)


def _json_at_a_drip(exchange: Exchange) -> None:
    exchange.send(head(content_type="application/json"))
    exchange.drip(b" ", 0.05)


@pytest.mark.parametrize(
    "script",
    [comments, _comments_in_a_flood, _unknown_events, _chunk_extension, _json_at_a_drip],
)
def test_bytes_without_text_end_at_the_silence_deadline(script: Script) -> None:
    started = time.monotonic()
    error = failure_of(script, idle_seconds=5.0, silence_seconds=0.7)

    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.SLOW
    assert 0.7 <= time.monotonic() - started < 3.0


def test_text_puts_both_deadlines_off() -> None:
    gate = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(head())
        for _ in range(9):
            exchange.send(part("a"))
            assert not gate.wait(0.12)
        exchange.send(END)
        exchange.hang_up()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, idle_seconds=0.9, silence_seconds=0.9)) as backend,
    ):
        assert text_of(backend) == "a" * 9


def test_the_reader_of_the_text_may_take_longer_than_the_deadlines() -> None:
    script = sending(head(), part("a"), part("b"), END)
    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, idle_seconds=0.1, silence_seconds=0.1)) as backend,
        ask(backend) as answer,
    ):
        deltas = iter(answer)
        assert next(deltas) == Delta("a")
        assert not threading.Event().wait(0.2)
        assert list(deltas) == [Delta("b")]


@pytest.mark.parametrize(
    ("beginning", "flood", "kind"),
    [
        (head(), b"data: xxxxxxxx" * 1000, FailureKind.TOO_LONG),
        (head(), b"data: x\n" * 1000, FailureKind.TOO_LONG),
        (head(), b": x\n" * 1000, FailureKind.TOO_LONG),
        (head(content_type="application/json"), b" " * 4096, FailureKind.TOO_LONG),
        (head(CHUNKED) + b"ffffffffff\r\ndata: ", b"x" * 4096, FailureKind.TOO_LONG),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100, FailureKind.GARBLED),
        (b"HTTP/1.1 200 OK\r\nA: ", b"x" * 4096, FailureKind.GARBLED),
        (b"", b"x" * 4096, FailureKind.GARBLED),
    ],
)
def test_what_has_no_end_is_given_up(beginning: bytes, flood: bytes, kind: FailureKind) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(beginning)
        exchange.flood(flood)

    error = failure_of(script)
    assert isinstance(error, PermanentError)
    assert error.kind is kind


def test_an_event_of_a_mebibyte_is_still_an_answer() -> None:
    text = "x" * ((1 << 20) - 100)
    script = sending(head(), part(text), END)
    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert text_of(backend) == text


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "x" * 64 + ".invalid"])
def test_no_connection_is_unreachable(host: str) -> None:
    backend = backend_at(f"http://{host}:{_free_port()}/?token=hush")
    with closing(backend), pytest.raises(TransientError) as caught:
        text_of(backend)
    assert caught.value.kind is FailureKind.UNREACHABLE
    assert caught.value.__cause__ is not None
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_connecting_ends_after_its_seconds() -> None:
    started = time.monotonic()
    with (
        full_port() as port,
        closing(backend_at(f"http://127.0.0.1:{port}/", connect_seconds=0.3)) as backend,
        pytest.raises(TransientError) as caught,
    ):
        text_of(backend)
    assert caught.value.kind is FailureKind.UNREACHABLE
    assert 0.3 <= time.monotonic() - started < 3.0


def test_no_end_of_an_answer_leaves_a_file_open() -> None:
    scripts = [whole, Exchange.reset, Exchange.hang_up, sending(head(), part("a")), sending(b"?")]
    with ScriptedBackend(*scripts * 3, sending(head(status="500 Oops"))) as server:
        before = _open_files()
        backend = backend_at(server.url)
        for _ in range(16):
            with suppress(TransientError, PermanentError):
                text_of(backend)
        backend.close()
        # What the server holds open is its own.
        assert _open_files() - before <= server.connection_count


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
