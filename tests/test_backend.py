"""Asking, and the answers of a backend that keeps to its contract, or says that it does not."""

from __future__ import annotations

import json
import threading
import time
import traceback
from contextlib import closing

import pytest

from chatrelaybot.dialects import Delta
from chatrelaybot.errors import (
    FailureKind,
    PermanentError,
    TransientError,
)
from tests.asking import (
    QUESTION,
    ask,
    backend_at,
    failure_of,
    sending,
    text_of,
    whole,
)
from tests.scripted_backend import (
    CHUNKED,
    DEADLINE,
    END,
    Exchange,
    ScriptedBackend,
    event,
    head,
    part,
)

# ---- what is sent ----


def test_the_request_is_the_dialects_and_nothing_else() -> None:
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        text_of(backend)
        (request,) = server.requests

    assert request.line == "POST /v1/chat/stream HTTP/1.1"
    headers = {name.lower(): value for name, value in request.headers}
    assert headers.pop("user-agent").startswith("chatrelaybot/")
    assert headers == {
        "host": f"localhost:{server.port}",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "idempotency-key": QUESTION.id,
        "content-length": str(len(request.body)),
    }
    assert list(json.loads(request.body).items()) == [
        ("user_id", "U1"),
        ("query", "wörum?"),
        ("channel_id", "C1"),
        ("team_id", "T1"),
        ("thread_ts", None),
        ("ts", "1700000000.000100"),
    ]


def test_token_and_further_headers_are_sent_and_ours_stay() -> None:
    further = {"X-Team": "tea", "accept": "*/*", "USER-AGENT": "me", "authorization": "Basic x"}
    with (
        ScriptedBackend(whole) as server,
        closing(backend_at(server.url, token="hush", headers=further)) as backend,
    ):
        text_of(backend)
        (request,) = server.requests

    assert request.header("x-team") == ["tea"]
    assert request.header("accept") == ["text/event-stream"]
    assert request.header("user-agent") == ["me"]
    assert request.header("authorization") == ["Bearer hush"]


def test_cookies_are_not_kept() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED, "Set-Cookie: who=you; Path=/"))
        exchange.send_chunk(END)
        exchange.end_chunks()

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        text_of(backend)
        text_of(backend)
        assert [request.header("cookie") for request in server.requests] == [[], []]


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        assert text_of(backend) == "tea"


def test_nothing_is_sent_before_the_answer_is_read() -> None:
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        with ask(backend):
            pass
        assert server.connection_count == 0


# ---- what comes ----


@pytest.mark.parametrize("framing", ["chunked", "closed at its end", "of a known length"])
def test_text_is_here_before_the_next_is_sent(framing: str) -> None:
    parts = [part("a"), part("b"), END]
    gates = [threading.Event() for _ in parts]
    fields = {
        "chunked": (CHUNKED,),
        "closed at its end": (),
        "of a known length": (f"Content-Length: {len(b''.join(parts))}",),
    }

    def script(exchange: Exchange) -> None:
        exchange.send(head(*fields[framing]))
        for piece, gate in zip(parts, gates, strict=True):
            assert gate.wait(DEADLINE)
            if framing == "chunked":
                exchange.send_chunk(piece)
            else:
                exchange.send(piece)
        if framing == "chunked":
            exchange.end_chunks()
        elif framing == "closed at its end":
            exchange.hang_up()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url)) as backend,
        ask(backend) as answer,
    ):
        deltas = iter(answer)
        for gate, text in zip(gates, "ab", strict=False):
            gate.set()
            assert next(deltas) == Delta(text)
        gates[-1].set()
        assert list(deltas) == []
        assert not answer.is_truncated


def test_an_event_may_come_byte_by_byte() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for byte in part("täe") + END:
            exchange.send_chunk(bytes([byte]))
        exchange.end_chunks()

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert text_of(backend) == "täe"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/event-stream",
        "text/event-stream; charset=latin-1",
        "Text/Event-Stream ;",
        "TEXT/EVENT-STREAM",
    ],
)
def test_events_are_utf_8_whatever_the_parameters_say(content_type: str) -> None:
    script = sending(head(content_type=content_type), part("tée"), END)
    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert text_of(backend) == "tée"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_an_answer_in_one_piece(content_type: str) -> None:
    body = '{"full_response": "täa"}'.encode()
    script = sending(head(content_type=content_type), body)
    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert list(ask(backend)) == [Delta("täa")]


def test_chat_completions_are_understood() -> None:
    script = sending(
        head(),
        b'data: {"choices": [{"delta": {"role": "assistant", "content": "te"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]}\n\n',
        b"data: [DONE]\n\n",
    )
    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, name="openai")) as backend,
    ):
        with ask(backend) as answer:
            assert [delta.text for delta in answer] == ["te", "a"]
            assert answer.is_truncated
        (request,) = server.requests
    assert json.loads(request.body)["stream"] is True


@pytest.mark.parametrize("ending", ["fin", "reset", "garbage", "silence"])
def test_after_its_finish_reason_a_completion_is_whole_however_the_body_ends(ending: str) -> None:
    has_text = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        exchange.send_chunk(
            b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
        )
        assert has_text.wait(DEADLINE)
        if ending == "reset":
            exchange.reset()
        elif ending == "garbage":
            exchange.send(b"not a chunk\r\n")
        if ending in ("fin", "garbage"):
            exchange.hang_up()
        else:
            exchange.wait_until_client_hangs_up() if ending == "silence" else None

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, name="openai", idle_seconds=0.2)) as backend,
        ask(backend) as answer,
    ):
        deltas = iter(answer)
        assert next(deltas) == Delta("a")
        has_text.set()
        assert list(deltas) == []


# ---- connections ----


def test_a_connection_is_kept_for_the_next_answer() -> None:
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        for _ in range(3):
            assert text_of(backend) == "tea"
        assert server.connection_count == 1


def test_a_kept_connection_survives_a_late_cancel() -> None:
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        with ask(backend) as answer:
            assert list(answer) == [Delta("tea")]
        answer.cancel()
        answer.close()
        assert text_of(backend) == "tea"
        assert server.connection_count == 1


def test_json_of_a_known_length_leaves_the_connection_usable() -> None:
    body = b'{"full_response": "tea"}'

    def script(exchange: Exchange) -> None:
        length = f"Content-Length: {len(body)}"
        exchange.send(head(length, content_type="application/json") + body)

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert [text_of(backend), text_of(backend)] == ["tea", "tea"]
        assert server.connection_count == 1


def test_a_backend_that_lingers_after_the_end_keeps_nobody_waiting() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        exchange.send_chunk(part("tea") + END)
        exchange.wait_until_client_hangs_up()

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        started = time.monotonic()
        assert text_of(backend) == "tea"
        assert time.monotonic() - started < 2.0


def test_a_backend_that_goes_on_after_the_end_is_hung_up_on() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        exchange.send_chunk(part("tea") + END)
        exchange.flood(b"400\r\n" + b"x" * 1024 + b"\r\n")

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        started = time.monotonic()
        assert text_of(backend) == "tea"
        assert time.monotonic() - started < 2.0


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_kept_connection_that_turns_out_dead_is_replaced_once(how: str) -> None:
    """A race that every keep-alive has: the backend hangs up while the next question is sent."""

    def dying(exchange: Exchange) -> None:
        exchange.hang_up() if how == "fin" else exchange.reset()

    with (
        ScriptedBackend(whole, dying, whole) as server,
        closing(backend_at(server.url)) as backend,
    ):
        assert [text_of(backend), text_of(backend)] == ["tea", "tea"]
        assert server.connection_count == 2
        keys = [request.header("idempotency-key") for request in server.requests]
        assert keys == [[QUESTION.id]] * 3


def test_what_replaces_a_dead_connection_is_a_new_one() -> None:
    """The other kept ones are as old, and most likely as dead."""
    may_end = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        exchange.send_chunk(part("a"))
        assert may_end.wait(DEADLINE)
        exchange.send_chunk(END)
        exchange.end_chunks()

    scripts = [slow, slow, Exchange.reset, whole]
    with ScriptedBackend(*scripts) as server, closing(backend_at(server.url)) as backend:
        both = [iter(ask(backend)), iter(ask(backend))]
        assert [next(deltas) for deltas in both] == [Delta("a"), Delta("a")]
        may_end.set()
        assert [list(deltas) for deltas in both] == [[], []]
        assert text_of(backend) == "tea"
        assert server.connection_count == 3


def test_two_dead_connections_are_one_too_many() -> None:
    with (
        ScriptedBackend(whole, Exchange.reset) as server,
        closing(backend_at(server.url)) as backend,
    ):
        text_of(backend)
        with pytest.raises(TransientError) as caught:
            text_of(backend)
        assert caught.value.kind is FailureKind.UNREACHABLE
        assert len(server.requests) == 3


def test_a_kept_connection_that_has_answered_is_not_replaced() -> None:
    with (
        ScriptedBackend(whole, sending(b"HTTP/1.1 200 O")) as server,
        closing(backend_at(server.url)) as backend,
    ):
        text_of(backend)
        with pytest.raises(TransientError) as caught:
            text_of(backend)
        assert caught.value.kind is FailureKind.CUT
        assert len(server.requests) == 2


# ---- refusals ----


@pytest.mark.parametrize(
    ("status", "kind", "is_transient"),
    [
        ("301 Moved", FailureKind.REFUSED, False),
        ("307 Temporary", FailureKind.REFUSED, False),
        ("400 Bad", FailureKind.REFUSED, False),
        ("401 Who", FailureKind.REFUSED, False),
        ("404 Where", FailureKind.REFUSED, False),
        ("408 Timeout", FailureKind.FAILED, True),
        ("422 What", FailureKind.REFUSED, False),
        ("425 Early", FailureKind.FAILED, True),
        ("429 Many", FailureKind.OVERLOADED, True),
        ("500 Oops", FailureKind.FAILED, True),
        ("502 Gateway", FailureKind.FAILED, True),
        ("503 Busy", FailureKind.OVERLOADED, True),
        ("504 Slow", FailureKind.FAILED, True),
    ],
)
def test_a_status_says_what_to_do(status: str, kind: FailureKind, is_transient: bool) -> None:
    script = sending(head("Location: http://localhost:9/", "Content-Length: 0", status=status))
    error = failure_of(script)

    assert error.kind is kind
    assert isinstance(error, TransientError) is is_transient


@pytest.mark.parametrize("status", ["302 Found", "500 Oops"])
def test_the_body_of_a_refusal_is_not_read(status: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head("Location: /elsewhere", status=status))
        exchange.flood(b"x" * 65536)

    started = time.monotonic()
    failure_of(script)
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize("status", ["429 Many", "503 Busy", "500 Oops"])
def test_retry_after_is_obeyed_up_to_twenty_seconds(status: str) -> None:
    short = failure_of(sending(head("Retry-After: 20", status=status)))
    assert isinstance(short, TransientError)
    assert short.retry_after == 20.0

    long = failure_of(sending(head("Retry-After: 21", status=status)))
    assert isinstance(long, PermanentError)
    assert long.kind is short.kind


@pytest.mark.parametrize(
    "content_type", ["", "text/html", "text/x-event-stream", "x bogus", "application/jsonl"]
)
def test_another_type_is_refused(content_type: str) -> None:
    error = failure_of(sending(head(content_type=content_type), part("tea"), END))
    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.GARBLED


@pytest.mark.parametrize(
    "field", ["Content-Encoding: gzip", "Content-Encoding: br", "Transfer-Encoding: gzip, chunked"]
)
def test_a_compressed_answer_is_refused_unread(field: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(field))
        exchange.flood(b"\x1f\x8b" + b"x" * 65536)

    error = failure_of(script)
    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.GARBLED


def test_identity_is_no_compression() -> None:
    script = sending(head("Content-Encoding: identity"), part("tea"), END)
    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert text_of(backend) == "tea"


@pytest.mark.parametrize(
    "response",
    [
        head(content_type="text/event-stream") + event("error", '{"error": "secret words"}'),
        head(content_type="application/json") + b'{"error": "secret words"}',
    ],
)
def test_an_error_of_the_backend_is_told_without_its_words(response: bytes) -> None:
    error = failure_of(sending(response))
    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.FAILED
    assert "secret" not in "".join(traceback.format_exception(error))
