from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from chatrelaybot import telemetry_spans
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.database import Database
from chatrelaybot.delivery import Delivery, Stop
from chatrelaybot.errors import LeaseLost
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.workers import Workers

DEADLINE = 10.0
TRACEPARENT = f"00-{'1' * 32}-{'2' * 16}-01"
#: Far less than the leaser sleeps when nobody wakes it; seconds.
AT_ONCE = 1.0


class Crew:
    """Workers over a real inbox, whose answers end when a test says so."""

    def __init__(self, directory: Path, *, size: int) -> None:
        self._database = Database(url=f"sqlite:///{directory}/crew.sqlite3")
        self._database.open()
        self.inbox = Inbox(
            database=self._database,
            owner="crew",
            retention_hours=1.0,
            lease_seconds=0.2,
            on_ready=lambda: self.workers.wake(),
        )
        self.workers = Workers(inbox=self.inbox, answer=self._answer, size=size)
        self.failures: list[Exception] = []
        self.loop = Loop(
            "leaser", self.workers.step, failed=self.failures.append, wake=self.workers.wake
        )
        #: Guards what follows, and is notified when it changes.
        self._changed = threading.Condition()
        self._asked: list[str] = []
        self._done: set[str] = set()
        self._is_broken = False

    def ask(self, *texts: str) -> None:
        self.inbox.enqueue(
            [
                (
                    Question(f"Ev{text}", "T", f"C{text}", "U", text, f"{number}.1", None),
                    TRACEPARENT,
                )
                for number, text in enumerate(texts)
            ]
        )

    def finish(self, text: str) -> None:
        """Let the answer to a question end."""
        with self._changed:
            self._done.add(text)
            self._changed.notify_all()

    def break_next(self) -> None:
        self._is_broken = True

    def wait_until_asked(self, *texts: str, timeout: float = DEADLINE) -> None:
        with self._changed:
            is_asked = self._changed.wait_for(lambda: self._asked == list(texts), timeout)
            assert is_asked, self._asked

    def close(self) -> None:
        if self.loop.is_alive():
            self.loop.stop()
        self.workers.drain(0.0)
        self._database.close()

    def _answer(self, delivery: Delivery, stop: Future[Stop]) -> None:
        text = delivery.question.text
        stop.add_done_callback(lambda _: self.finish(text))
        with self._changed:
            self._asked.append(text)
            self._changed.notify_all()
            if self._is_broken:
                self._is_broken = False
                raise RuntimeError("a fault of this program")
            assert self._changed.wait_for(lambda: text in self._done, DEADLINE)
        if stop.done():
            with suppress(LeaseLost):
                self.inbox.release(delivery)
        else:
            self.inbox.finish(delivery, outcome="delivered")


@pytest.fixture(name="crew")
def _crew(tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path, size=2)
    yield crew
    crew.close()
    assert crew.failures == []


def test_a_question_that_comes_while_the_leaser_sleeps_is_leased_at_once(crew: Crew) -> None:
    crew.loop.start()
    crew.ask("first")
    crew.wait_until_asked("first")
    crew.ask("second")

    crew.wait_until_asked("first", "second", timeout=AT_ONCE)


def test_a_question_that_came_before_the_leaser_sleeps_wakes_it(crew: Crew) -> None:
    crew.workers.wake()
    started = time.monotonic()

    crew.workers.step()

    assert time.monotonic() - started < AT_ONCE


def test_a_worker_that_is_free_again_takes_the_next_question_at_once(crew: Crew) -> None:
    crew.loop.start()
    crew.ask("1", "2", "3", "4")
    crew.wait_until_asked("1", "2")

    crew.finish("2")
    crew.wait_until_asked("1", "2", "3", timeout=AT_ONCE)
    crew.finish("1")
    crew.wait_until_asked("1", "2", "3", "4", timeout=AT_ONCE)


def test_a_question_is_tried_again_when_its_time_has_come(crew: Crew) -> None:
    crew.ask("again")
    (delivery,) = crew.inbox.lease(1)
    crew.loop.start()
    crew.inbox.retry(delivery, after=0.3)

    crew.wait_until_asked("again", timeout=0.3 + AT_ONCE)


def test_a_drain_gives_running_answers_their_time(crew: Crew) -> None:
    crew.ask("long")
    crew.workers.step()
    crew.wait_until_asked("long")
    timer = threading.Timer(0.2, crew.finish, ["long"])
    timer.start()
    started = time.monotonic()

    crew.workers.drain(DEADLINE)

    assert 0.1 < time.monotonic() - started < AT_ONCE
    assert crew.inbox.counts().waiting == 0
    timer.join()


def test_what_a_drain_leaves_is_given_back(crew: Crew) -> None:
    crew.ask("1", "2", "3")
    crew.workers.step()
    crew.wait_until_asked("1", "2")

    crew.workers.drain(0.1)

    assert crew.inbox.counts().waiting == 3
    assert {delivery.attempt for delivery in crew.inbox.lease(3)} == {1}


def test_one_who_hurries_ends_a_drain_and_leases_no_more(crew: Crew) -> None:
    crew.loop.start()
    crew.ask("1", "2")
    crew.wait_until_asked("1", "2")
    timer = threading.Timer(0.1, crew.workers.hurry)
    timer.start()
    started = time.monotonic()

    crew.workers.drain(DEADLINE)

    assert time.monotonic() - started < AT_ONCE
    crew.loop.stop()
    assert crew.inbox.counts().waiting == 2
    timer.join()


def test_a_question_whose_answering_broke_comes_back_and_is_counted(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    crew.break_next()
    crew.loop.start()
    crew.ask("broken")
    crew.wait_until_asked("broken")
    deadline = time.monotonic() + DEADLINE
    while len(crew._asked) < 2:
        assert time.monotonic() < deadline
        crew.workers.beat()

    crew.wait_until_asked("broken", "broken")
    assert "a fault of this program" in caplog.text


def test_what_is_said_of_an_answering_that_broke_is_found_by_its_trace(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    at: list[str] = []

    class Ear(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            at.append(telemetry_spans.current().traceparent)
            return super().filter(record)

    log, ear = logging.getLogger("chatrelaybot.workers"), Ear()
    log.addFilter(ear)
    crew.break_next()
    crew.ask("broken")
    with caplog.at_level(logging.ERROR):
        crew.workers.step()
        crew.wait_until_asked("broken")
        crew.workers.drain(DEADLINE)
    log.removeFilter(ear)

    assert at == [TRACEPARENT]


def test_a_lost_lease_stops_the_answer(crew: Crew) -> None:
    crew.ask("lost")
    crew.workers.step()
    crew.wait_until_asked("lost")
    crew.inbox.recover()
    (taken,) = crew.inbox.lease(1)

    crew.workers.beat()
    crew.wait_until_asked("lost")
    deadline = time.monotonic() + DEADLINE
    while crew.workers.running_count:
        assert time.monotonic() < deadline
    crew.inbox.finish(taken, outcome="delivered")
