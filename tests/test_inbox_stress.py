"""The inbox against a simple model, under many threads, at kill -9, and with a long queue."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, Pool, delete, event

from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Delivery, Enqueued, Lease
from chatrelaybot.errors import ConfigurationError, LeaseLost
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.schema import questions
from tests.elapsing import elapse

#: Longer than any wait here should take; seconds.
DEADLINE = 30.0
#: The model's times are multiples of this, so that the time which really passes is nothing.
STEP = 10.0
LEASE = 15 * STEP
RETENTION = 36 * STEP
LIMIT = 4

#: Enqueues one question after the other, and prints the id of each when it is stored.
ENQUEUER = """
import itertools, sys
from chatrelaybot.database import Database
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox

database = Database(url=sys.argv[1])
database.open()
inbox = Inbox(database=database, owner="child", retention_hours=1.0)
for n in itertools.count():
    question = Question(f"Ev{n}", "T1", "C1", "U1", "text", f"{n}.1", f"{n}.1")
    inbox.enqueue([(question, "00-trace")])
    print(question.id, flush=True)
"""


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "inbox.db"


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def _url(request: pytest.FixtureRequest, file: Path) -> str:
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres").create_database()
        return url
    return f"sqlite:///{file}"


@pytest.fixture(name="database")
def _database(file: Path) -> Iterator[Database]:
    database = Database(url=f"sqlite:///{file}")
    database.open()
    yield database
    database.close()


def question(number: int, thread: int, event_id: str | None = None) -> Question:
    return Question(
        event_id=event_id or f"Ev{number}",
        team_id="T1",
        channel="C1",
        user_id="U1",
        text=f"question {number}",
        ts=f"{number:04}.0001",
        thread_ts=f"{thread}.0001",
    )


@dataclass
class Known:
    """What the model knows of one question."""

    question: Question
    state: str = "ready"
    is_refused: bool = False
    ready_at: float = 0.0
    attempt: int = 0
    crash_count: int = 0
    lease_until: float = 0.0
    finished_at: float = 0.0
    delivery: Delivery | None = None
    stale: list[Delivery] = field(default_factory=list)

    @property
    def rank(self) -> tuple[str, str]:
        return self.question.ts, self.question.id


class InboxModel(RuleBasedStateMachine):
    """The rules of the queue in plain Python, beside the real one in a real database."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.now = 1000.0 * STEP
        self.known: dict[str, Known] = {}

    @initialize()
    def begin(self) -> None:
        self.open()
        self.database.write(lambda connection: connection.execute(delete(questions)))

    def open(self) -> None:
        self.database = Database(url=self.url)
        self.database.open()
        self.inbox = Inbox(
            database=self.database,
            owner="model",
            chance=lambda: 0.0,
            lease_seconds=LEASE,
            queue_limit=LIMIT,
            retention_hours=RETENTION / 3600.0,
        )

    def teardown(self) -> None:
        self.database.close()

    def of(self, state: str) -> list[Known]:
        return [known for known in self.known.values() if known.state == state]

    def next_ones(self) -> list[Known]:
        """Return the questions whose turn it is, in the order in which they are leased."""
        taken = {k.question.conversation for k in self.of("leased") if not k.is_refused}
        refused = sorted((k for k in self.of("ready") if k.is_refused), key=lambda k: k.rank)
        heads = []
        for known in sorted(self.of("ready"), key=lambda k: k.rank):
            if not known.is_refused and known.question.conversation not in taken:
                taken.add(known.question.conversation)
                heads.append(known)
        return refused + heads

    def some_leased(self, data: st.DataObject) -> tuple[Known, Delivery]:
        known = data.draw(st.sampled_from(self.of("leased")))
        assert known.delivery is not None
        return known, known.delivery

    @rule(
        batch=st.lists(
            st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 15)),
            min_size=1,
            max_size=4,
        )
    )
    def enqueue(self, batch: list[tuple[int, int, int]]) -> None:
        asked_ones = [question(number, thread, f"Ev{n}") for number, thread, n in batch]
        events = {known.question.event_id for known in self.known.values()}
        expected, new = [], []
        for asked in asked_ones:
            is_known = asked.id in self.known or asked.event_id in events
            expected.append(Enqueued.DUPLICATE if is_known else Enqueued.NEW)
            if not is_known:
                events.add(asked.event_id)
                self.known[asked.id] = Known(asked)
                new.append((len(expected) - 1, asked.id))
        room = LIMIT - sum(not known.is_refused for known in self.of("ready"))
        for index, key in new[room:] if room < 0 else []:
            expected[index] = Enqueued.REFUSED
            self.known[key].is_refused = True

        assert self.inbox.enqueue([(asked, "00-trace") for asked in asked_ones]) == expected

    @rule(limit=st.integers(1, 4))
    def lease(self, limit: int) -> None:
        due = [known for known in self.next_ones() if known.ready_at <= self.now][:limit]

        deliveries = self.inbox.lease(limit)

        assert [delivery.question.id for delivery in deliveries] == [k.question.id for k in due]
        for known, delivery in zip(due, deliveries, strict=True):
            known.state, known.delivery = "leased", delivery
            known.attempt += 1
            known.lease_until = self.now + LEASE
            assert delivery.question == known.question
            assert delivery.is_refused == known.is_refused
            assert (delivery.attempt, delivery.crash_count) == (known.attempt, known.crash_count)

    @precondition(lambda self: self.of("leased"))
    @rule(data=st.data(), is_buried=st.booleans())
    def end(self, data: st.DataObject, is_buried: bool) -> None:
        known, delivery = self.some_leased(data)
        if is_buried:
            self.inbox.bury(delivery, reason="hopeless")
        else:
            self.inbox.finish(delivery, outcome="delivered")
        known.state = "dead" if is_buried else "done"
        known.finished_at = self.now
        known.stale.append(delivery)

    @precondition(lambda self: self.of("leased"))
    @rule(data=st.data(), after=st.integers(0, 5))
    def retry(self, data: st.DataObject, after: int) -> None:
        known, delivery = self.some_leased(data)
        self.inbox.retry(delivery, after=after * STEP)
        known.state, known.ready_at = "ready", self.now + after * STEP
        known.stale.append(delivery)

    @precondition(lambda self: self.of("leased"))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        known, delivery = self.some_leased(data)
        self.inbox.release(delivery)
        known.state, known.ready_at = "ready", 0.0
        known.attempt -= 1
        known.stale.append(delivery)

    @precondition(lambda self: any(known.stale for known in self.known.values()))
    @rule(data=st.data())
    def settle_with_a_lost_lease(self, data: st.DataObject) -> None:
        stale = [delivery for known in self.known.values() for delivery in known.stale]
        with pytest.raises(LeaseLost):
            self.inbox.finish(data.draw(st.sampled_from(stale)), outcome="delivered")

    @rule(steps=st.integers(1, 30))
    def wait(self, steps: int) -> None:
        self.now += steps * STEP
        elapse(self.database, steps * STEP)

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        running = {k.delivery.lease.id: k for k in self.of("leased") if k.delivery}
        lease_ids = data.draw(st.sets(st.sampled_from(sorted(running)))) if running else set()

        leases = [known.delivery.lease for known in running.values() if known.delivery]
        extended = [lease for lease in leases if lease.id in lease_ids]
        assert self.inbox.extend([*extended, Lease("unknown", 0.0)]) == {"unknown"}

        for lease_id, known in running.items():
            if lease_id in lease_ids:
                known.lease_until = self.now + LEASE
            elif known.lease_until <= self.now:
                self.take_back(known)

    @rule()
    def crash(self) -> None:
        """Start again without a word to the old inbox."""
        running = self.of("leased")
        self.database.close()
        self.open()

        if self.database.is_shared:
            assert self.inbox.recover() == 0
            self.wait(int(LEASE / STEP))
            self.inbox.extend([])
        else:
            assert self.inbox.recover() == len(running)

        for known in running:
            self.take_back(known)

    def take_back(self, known: Known) -> None:
        known.state, known.ready_at = "ready", 0.0
        known.attempt -= 1
        known.crash_count += 1
        assert known.delivery is not None
        known.stale.append(known.delivery)

    @rule()
    def purge(self) -> None:
        old = [
            known
            for known in self.of("done") + self.of("dead")
            if known.finished_at <= self.now - RETENTION
        ]

        assert self.inbox.purge() == len(old)

        for known in old:
            del self.known[known.question.id]

    @invariant()
    def counts_agree(self) -> None:
        waiting, running, dead = (len(self.of(state)) for state in ("ready", "leased", "dead"))
        assert self.inbox.counts() == Counts(waiting, running, dead)

    @invariant()
    def next_time_agrees(self) -> None:
        waits = [max(0.0, known.ready_at - self.now) for known in self.next_ones()]
        assert self.inbox.next_ready_in() == pytest.approx(min(waits, default=None), abs=0.9 * STEP)


MODEL_SETTINGS = settings(
    stateful_step_count=35,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # Shrinking a failure takes minutes with a real database.
)


def test_the_inbox_does_what_the_model_does(url: str) -> None:
    class Model(InboxModel):
        def __init__(self) -> None:
            super().__init__(url)

    examples = 25 if url.startswith("sqlite") else 12  # Each takes four times as long.
    run_state_machine_as_test(Model, settings=settings(MODEL_SETTINGS, max_examples=examples))


def test_many_threads_answer_every_question_once_and_in_order(url: str) -> None:
    """Those of two instances, where there can be two."""
    with ExitStack() as opened:
        databases = [Database(url=url) for _ in range(1 if url.startswith("sqlite") else 2)]
        for database in databases:
            database.open()
            opened.callback(database.close)
        answer_all(
            [
                Inbox(database=database, owner=f"test {n}", retention_hours=1.0)
                for n, database in enumerate(databases)
            ]
        )


def answer_all(inboxes: list[Inbox]) -> None:
    threads, each = 7, 40
    new: list[str] = []
    order: dict[str, list[str]] = defaultdict(list)
    busy: set[str] = set()
    clashes: list[str] = []
    lock = threading.Lock()  # Guards the four above.
    all_done = threading.Event()

    def enqueue(inbox: Inbox, half: int) -> None:
        for n in range(half, threads * each, 2):
            asked = question(n, n % threads)
            results = inbox.enqueue([(asked, "00-trace"), (asked, "00-trace")])
            with lock:
                new.extend(asked.id for result in results if result is Enqueued.NEW)

    def answer(inbox: Inbox) -> None:
        while not all_done.is_set():
            for delivery in inbox.lease(2):
                place = delivery.question.conversation
                with lock:
                    clashes.extend([place] if place in busy else [])
                    busy.add(place)
                inbox.record_post(delivery, 0, "9.1")
                with lock:
                    busy.remove(place)
                    order[place].append(delivery.question.ts)
                    if sum(map(len, order.values())) == threads * each:
                        all_done.set()
                inbox.finish(delivery, outcome="delivered")

    with ThreadPoolExecutor(12) as pool:
        # Each question is enqueued at both instances, and about at the same time.
        enqueuers = [pool.submit(enqueue, inboxes[n % len(inboxes)], n // 2) for n in range(4)]
        for future in enqueuers:
            future.result(DEADLINE)
        answerers = [pool.submit(answer, inboxes[n % len(inboxes)]) for n in range(8)]
        is_complete = all_done.wait(DEADLINE)
        all_done.set()
        for future in answerers:
            future.result(DEADLINE)

    assert is_complete
    assert len(new) == len(set(new)) == threads * each
    assert clashes == []
    assert all(answered == sorted(answered) for answered in order.values())
    assert [len(set(answered)) for answered in order.values()] == [each] * threads
    assert inboxes[0].counts() == Counts(waiting=0, running=0, dead=0)


def test_a_question_survives_a_kill_once_it_is_enqueued(file: Path) -> None:
    url = f"sqlite:///{file}"
    command = [sys.executable, "-c", ENQUEUER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            assert process.stdout is not None
            told = {process.stdout.readline().strip() for _ in range(50)}
            with pytest.raises(ConfigurationError, match="another ChatRelayBot is using"):
                Database(url=url).open()
        finally:
            process.kill()
        told |= set(process.stdout.read().split())

    database = Database(url=url)
    database.open()
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)
    stored = {delivery.question.id for delivery in inbox.lease(100_000)}
    database.close()
    assert told <= stored
    # The last one may have been stored without its print.
    assert len(stored) <= len(told) + 1


def test_no_statement_looks_at_every_question(database: Database, file: Path) -> None:
    """Else thousands that wait would slow down every lease."""
    inbox = Inbox(database=database, owner="test", retention_hours=1.0, queue_limit=2)
    seen: dict[str, None] = {}

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen[statement] = None

    event.listen(Engine, "before_cursor_execute", note)
    try:
        inbox.enqueue([(question(n, n), "00-trace") for n in range(4)])
        refused, first, second = inbox.lease(3)
        inbox.extend([first.lease])
        inbox.finish(first, outcome="delivered")
        inbox.bury(second, reason="hopeless")
        inbox.retry(refused, after=0.0)
        inbox.purge()
        inbox.counts()
        inbox.next_ready_in()
        inbox.recover()
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    with closing(sqlite3.connect(file)) as connection:
        connection.create_function("database_time", 0, time.time)
        plans = {
            row[3]
            for statement in seen
            if not statement.startswith("BEGIN")
            for row in connection.execute(
                f"EXPLAIN QUERY PLAN {statement}", (None,) * statement.count("?")
            )
        }
    assert [
        plan for plan in plans if plan.startswith("SCAN questions") and "INDEX" not in plan
    ] == []
    # These have only what waits for its turn, and what is being answered.
    assert "SCAN questions USING COVERING INDEX questions_due" in plans
    assert "SCAN questions USING COVERING INDEX questions_leased" in plans


@pytest.fixture(name="steps")
def _steps() -> Iterator[list[None]]:
    """Give one item for every ten steps of SQLite's machine, in all connections."""
    steps: list[None] = []

    def count(connection: sqlite3.Connection, _entry: object) -> None:
        connection.set_progress_handler(lambda: steps.append(None), 10)

    event.listen(Pool, "connect", count)
    yield steps
    event.remove(Pool, "connect", count)


@pytest.mark.parametrize("conversations", [1, 10_000])
def test_a_long_queue_costs_no_more_than_a_short_one(
    steps: list[None], database: Database, conversations: int
) -> None:
    """Counted in steps and not in seconds: those are the same on a busy machine."""
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)

    def fill(numbers: range) -> None:
        inbox.enqueue([(question(n, n % conversations), "00-trace") for n in numbers])

    def cost() -> int:
        steps.clear()
        for _ in range(10):
            (delivery,) = inbox.lease(1)
            if conversations == 1:  # The workers ask when nothing more is due.
                inbox.next_ready_in()
            inbox.finish(delivery, outcome="delivered")
        return len(steps)

    fill(range(20))
    short = cost()
    for start in range(20, 10_000, 500):
        fill(range(start, start + 500))
    assert cost() < 1.5 * short
