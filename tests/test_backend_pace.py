"""How often an answer is read: with many at once less often, and then more comes at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from chatrelaybot.backend import AnswerCancelled
from chatrelaybot.dialects import Delta
from tests.asking import ask, backend_at, silence, text_of
from tests.scripted_backend import CHUNKED, DEADLINE, END, Exchange, ScriptedBackend, head, part

#: So slow that an answer would take far longer than a test.
_HARDLY_EVER = 0.01


@pytest.fixture(name="may_go_on")
def _may_go_on() -> threading.Semaphore:
    return threading.Semaphore(0)


def test_parts_that_come_within_an_interval_are_read_together(
    may_go_on: threading.Semaphore,
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for pieces in ([part("a")], [part("b")], [part("c"), part("d"), END]):
            for piece in pieces:
                exchange.send_chunk(piece)
            assert may_go_on.acquire(timeout=DEADLINE)
        exchange.end_chunks()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, reads_per_second=2.0)) as backend,
    ):
        deltas = iter(ask(backend))
        # What has come with the head counts for no read.
        for text in "ab":
            assert next(deltas) == Delta(text)
            may_go_on.release()
        started = time.monotonic()
        assert next(deltas) == Delta("c")
        assert 0.3 <= time.monotonic() - started < 2.0
        started = time.monotonic()
        assert next(deltas) == Delta("d")
        assert time.monotonic() - started < 0.3
        may_go_on.release()


def test_the_more_answers_the_less_often_each_is_read(may_go_on: threading.Semaphore) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head())
        for text in "abc":
            exchange.send(part(text))
            assert may_go_on.acquire(timeout=DEADLINE)
        exchange.wait_until_client_hangs_up()

    with (
        ScriptedBackend(*[silence] * 4, script) as server,
        closing(backend_at(server.url, pool_size=5, reads_per_second=10.0)) as backend,
        ExitStack() as stack,
    ):
        answers = [iter(stack.enter_context(ask(backend))) for _ in range(5)]
        assert [next(deltas) for deltas in answers] == [Delta("a")] * 5
        may_go_on.release()
        assert next(answers[-1]) == Delta("b")
        started = time.monotonic()
        may_go_on.release()
        assert next(answers[-1]) == Delta("c")
        assert 0.3 <= time.monotonic() - started < 2.0
        may_go_on.release()


def test_the_end_of_the_connection_is_not_waited_for(may_go_on: threading.Semaphore) -> None:
    def script(exchange: Exchange) -> None:
        _two_reads(exchange)
        assert may_go_on.acquire(timeout=DEADLINE)
        exchange.send(part("c") + END)
        exchange.hang_up()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, reads_per_second=_HARDLY_EVER)) as backend,
    ):
        deltas = iter(ask(backend))
        assert next(deltas) == Delta("a")
        may_go_on.release()
        started = time.monotonic()
        assert "".join(delta.text for delta in deltas) == "bc"
        assert time.monotonic() - started < 5.0


def test_a_cancel_is_not_waited_for() -> None:
    def script(exchange: Exchange) -> None:
        _two_reads(exchange)
        exchange.wait_until_client_hangs_up()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, reads_per_second=_HARDLY_EVER)) as backend,
        ThreadPoolExecutor(1, thread_name_prefix="chatrelaybot-test") as pool,
    ):
        answer = ask(backend)
        deltas = iter(answer)
        assert next(deltas) == Delta("a")
        reading = pool.submit(list, deltas)
        _pause()
        answer.cancel()
        assert isinstance(reading.exception(DEADLINE), AnswerCancelled)


def test_answers_that_have_ended_do_not_count() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for piece in (part("a"), part("b") + END):
            _pause()
            exchange.send_chunk(piece)
        exchange.end_chunks()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, reads_per_second=10.0)) as backend,
    ):
        started = time.monotonic()
        for _ in range(10):
            assert text_of(backend) == "ab"
        assert time.monotonic() - started < 4.0


def test_a_connection_is_kept_though_its_end_comes_late() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        _pause()
        exchange.send_chunk(part("tea") + END)
        threading.Event().wait(0.005)
        exchange.end_chunks()

    with (
        ScriptedBackend(script) as server,
        closing(backend_at(server.url, reads_per_second=_HARDLY_EVER)) as backend,
    ):
        assert [text_of(backend), text_of(backend)] == ["tea", "tea"]
        assert server.connection_count == 1


def _two_reads(exchange: Exchange) -> None:
    """Send the head and two parts, each in its own time: the rest is read at a pace."""
    exchange.send(head())
    for text in "ab":
        _pause()
        exchange.send(part(text))


def _pause() -> None:
    assert not threading.Event().wait(0.05)
