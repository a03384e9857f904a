"""Ending an answer from another thread, and everything within TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from chatrelaybot.backend import Answer, AnswerCancelled, Backend
from chatrelaybot.dialects import Delta
from chatrelaybot.errors import (
    ChatRelayBotError,
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
from tests.forwarder import CERTIFICATE
from tests.scripted_backend import (
    CHUNKED,
    DEADLINE,
    END,
    Exchange,
    Script,
    ScriptedBackend,
    head,
    part,
)


@pytest.fixture(name="pool")
def _pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4, thread_name_prefix="chatrelaybot-test") as pool:
        yield pool


def _cancelled(pool: ThreadPoolExecutor, backend: Backend, is_time: Callable[[], object]) -> float:
    """Cancel an answer when `is_time` returns; return the seconds until its reader knew."""
    answer = ask(backend)
    reading: Future[float] = pool.submit(_read_until_cancelled, answer)
    is_time()
    cancelled_at = time.monotonic()
    answer.cancel()
    return reading.result(DEADLINE) - cancelled_at


def _read_until_cancelled(answer: Answer) -> float:
    with pytest.raises(AnswerCancelled):
        list(answer)
    return time.monotonic()


@pytest.mark.parametrize(
    "script",
    [
        no_headers,
        silence,
        lambda exchange: headers_at_a_drip(exchange),
        lambda exchange: (exchange.send(head(CHUNKED)), exchange.wait_until_client_hangs_up()),
        lambda exchange: (
            exchange.send(head(content_type="application/json")),
            exchange.wait_until_client_hangs_up(),
        ),
    ],
)
def test_a_cancel_ends_a_blocked_read_at_once(pool: ThreadPoolExecutor, script: Script) -> None:
    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        assert _cancelled(pool, backend, lambda: server.wait_for_requests(1)) < 2.0


def test_a_cancel_ends_a_read_on_a_kept_connection(pool: ThreadPoolExecutor) -> None:
    with ScriptedBackend(whole, no_headers) as server, closing(backend_at(server.url)) as backend:
        text_of(backend)
        assert _cancelled(pool, backend, lambda: server.wait_for_requests(2)) < 2.0
        assert len(server.requests) == 2


def test_a_cancel_ends_connecting(pool: ThreadPoolExecutor) -> None:
    with full_port() as port, closing(backend_at(f"http://127.0.0.1:{port}/")) as backend:
        assert _cancelled(pool, backend, lambda: threading.Event().wait(0.1)) < 2.0


def test_an_answer_cancelled_before_it_is_read_asks_nobody() -> None:
    with ScriptedBackend(whole) as server, closing(backend_at(server.url)) as backend:
        answer = ask(backend)
        answer.cancel()
        with pytest.raises(AnswerCancelled):
            list(answer)
        assert server.connection_count == 0


def test_text_that_is_here_already_does_not_outlive_a_cancel() -> None:
    script = sending(head(), part("a"), part("b"), END)
    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url)) as backend,
        ask(backend) as answer,
    ):
        deltas = iter(answer)
        next(deltas)
        answer.cancel()
        with pytest.raises(AnswerCancelled):
            next(deltas)


def test_an_answer_that_is_left_midway_hangs_up() -> None:
    is_over = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(head() + part("a"))
        exchange.wait_until_client_hangs_up()
        is_over.set()

    with ScriptedBackend(script) as server, closing(backend_at(server.url)) as backend:
        with ask(backend) as answer:
            assert next(iter(answer)) == Delta("a")
        assert is_over.wait(DEADLINE)


def test_cancels_at_any_moment_never_hurt_another_answer(pool: ThreadPoolExecutor) -> None:
    """Connections go from answer to answer; a cancel must not end one that has gone on."""
    with ScriptedBackend(whole) as server, closing(backend_at(server.url, pool_size=8)) as backend:

        def ask_and_cancel(number: int) -> None:
            answer = ask(backend)
            cancelling = threading.Timer(number % 20 * 0.0002, answer.cancel)
            cancelling.name = "chatrelaybot-test-cancel"
            cancelling.start()
            with suppress(AnswerCancelled):
                assert list(answer) == [Delta("tea")]
            cancelling.join(DEADLINE)

        cancelled = [pool.submit(ask_and_cancel, number) for number in range(200)]
        assert [text_of(backend) for _ in range(200)] == ["tea"] * 200
        for future in cancelled:
            future.result(DEADLINE)


# ---- TLS ----


def _server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def test_a_backend_of_a_given_authority_is_trusted() -> None:
    with (
        ScriptedBackend(whole, tls=_server_side()) as server,
        closing(backend_at(server.url, ca_bundle=str(CERTIFICATE))) as backend,
    ):
        assert [text_of(backend), text_of(backend)] == ["tea", "tea"]
        assert server.connection_count == 1


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_backend_of_the_authority_that_the_environment_names_is_trusted(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, str(CERTIFICATE))

    with (
        ScriptedBackend(whole, tls=_server_side()) as server,
        closing(backend_at(server.url)) as backend,
    ):
        assert text_of(backend) == "tea"


def test_a_dead_kept_connection_is_replaced_within_tls_too() -> None:
    with (
        ScriptedBackend(whole, Exchange.reset, whole, tls=_server_side()) as server,
        closing(backend_at(server.url, ca_bundle=str(CERTIFICATE))) as backend,
    ):
        assert [text_of(backend), text_of(backend)] == ["tea", "tea"]
        assert len(server.requests) == 3


def test_an_unknown_backend_is_not_asked() -> None:
    with (
        ScriptedBackend(whole, tls=_server_side()) as server,
        closing(backend_at(server.url)) as backend,
    ):
        with pytest.raises(TransientError) as caught:
            text_of(backend)
        assert caught.value.kind is FailureKind.UNREACHABLE
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.requests == []


def test_deadlines_hold_within_tls() -> None:
    options = {"ca_bundle": str(CERTIFICATE), "silence_seconds": 0.5}
    error = failure_of(comments, tls=_server_side(), **options)

    assert isinstance(error, PermanentError)
    assert error.kind is FailureKind.SLOW


def test_a_cancel_ends_a_blocked_read_within_tls(pool: ThreadPoolExecutor) -> None:
    with (
        ScriptedBackend(silence, tls=_server_side()) as server,
        closing(backend_at(server.url, ca_bundle=str(CERTIFICATE))) as backend,
    ):
        assert _cancelled(pool, backend, lambda: server.wait_for_requests(1)) < 2.0


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_handshake_that_never_ends_is_given_up(
    pool: ThreadPoolExecutor, is_cancelled: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with closing(backend_at(url, connect_seconds=5.0 if is_cancelled else 0.3)) as backend:
            if is_cancelled:
                assert _cancelled(pool, backend, lambda: threading.Event().wait(0.2)) < 2.0
                return
            with pytest.raises(ChatRelayBotError) as caught:
                text_of(backend)
    assert isinstance(caught.value, TransientError)
    assert caught.value.kind is FailureKind.UNREACHABLE
