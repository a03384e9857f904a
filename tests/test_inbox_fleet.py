"""Two instances that share an inbox on a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.sql.base import Executable

from chatrelaybot import statements
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Delivery, Enqueued, PostedPart
from chatrelaybot.errors import LeaseLost
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from tests.elapsing import elapse
from tests.group_commit import together
from tests.postgres import PostgresServer

#: Longer than any wait here should take; seconds.
DEADLINE = 20.0
LEASE = 15.0


class Instance:
    """An inbox with a connection of its own to the database."""

    def __init__(self, url: str, name: str) -> None:
        self.database = Database(url=url)
        self.database.open()
        self.inbox = Inbox(
            database=self.database,
            owner=name,
            lease_seconds=LEASE,
            retention_hours=1.0,
            queue_limit=20_000,
        )

    def enqueue(self, *questions: Question) -> list[Enqueued]:
        return self.inbox.enqueue([(question, "00-trace") for question in questions])

    def lease(self) -> Delivery:
        (delivery,) = self.inbox.lease(1)
        return delivery

    def finish(self, delivery: Delivery) -> None:
        self.inbox.finish(delivery, outcome="delivered")


@pytest.fixture(name="url")
def _url(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture(name="instances")
def _instances(url: str) -> Iterator[tuple[Instance, Instance]]:
    with ExitStack() as opened:
        pair = Instance(url, "first"), Instance(url, "second")
        for instance in pair:
            opened.callback(instance.database.close)
        yield pair


@pytest.fixture(name="first")
def _first(instances: tuple[Instance, Instance]) -> Instance:
    return instances[0]


@pytest.fixture(name="second")
def _second(instances: tuple[Instance, Instance]) -> Instance:
    return instances[1]


@pytest.fixture(name="callers")
def _callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as callers:
        yield callers


def question(number: int, *, thread: str = "1.1") -> Question:
    return Question(
        event_id=f"Ev{number}",
        team_id="T1",
        channel="C1",
        user_id="U1",
        text=f"question {number}",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=thread,
    )


@contextmanager
def held(url: str, *questions: Question) -> Iterator[None]:
    """Hold the rows in a transaction that stays open, as an instance does that is paused in it.

    Whoever waits for one of them meanwhile fails, with a TransientError.
    """
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        keys = [question.id for question in questions]
        connection.execute("SELECT 1 FROM questions WHERE id = ANY(%s) FOR UPDATE", [keys])
        yield


@contextmanager
def meeting_before(words: str) -> Iterator[None]:
    """Have both instances wait for each other before the first statement with these words."""
    meeting = threading.Barrier(2)
    met: set[int] = set()

    def meet(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        thread = threading.get_ident()
        if words in statement and thread not in met:
            met.add(thread)
            meeting.wait(DEADLINE)

    event.listen(Engine, "before_cursor_execute", meet)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", meet)
    assert len(met) == 2


def turns(instance: Instance) -> list[str]:
    query = text("SELECT text FROM questions WHERE has_turn ORDER BY ts")
    return list(instance.database.read(lambda connection: connection.scalars(query).all()))


# What one does, the other sees.


def test_what_one_instance_enqueued_another_answers(first: Instance, second: Instance) -> None:
    assert first.enqueue(question(1)) == [Enqueued.NEW]
    assert second.enqueue(question(1)) == [Enqueued.DUPLICATE]

    delivery = second.lease()

    assert delivery.question == question(1)
    assert first.inbox.lease(1) == []
    second.finish(delivery)
    assert first.inbox.counts() == Counts(waiting=0, running=0, dead=0)


def test_a_conversation_keeps_its_order_across_instances(first: Instance, second: Instance) -> None:
    second.enqueue(question(2), question(4))
    first.enqueue(question(1), question(3))

    answered = []
    for instance, other in [(first, second), (second, first)] * 2:
        delivery = instance.lease()
        assert other.inbox.lease(1) == []
        answered.append(delivery.question)
        instance.finish(delivery)

    assert answered == [question(n) for n in (1, 2, 3, 4)]


def test_a_lease_is_not_taken_over_before_it_ends(first: Instance, second: Instance) -> None:
    first.enqueue(question(1))
    delivery = first.lease()
    elapse(first.database, LEASE - 5.0)

    assert second.inbox.extend([]) == set()
    assert second.inbox.recover() == 0
    assert second.inbox.lease(1) == []

    assert first.inbox.extend([delivery.lease]) == set()
    elapse(first.database, LEASE - 5.0)
    second.inbox.extend([])
    assert second.inbox.lease(1) == []
    first.finish(delivery)


def test_a_lease_that_ended_goes_to_another_instance_and_is_lost_to_the_first(
    first: Instance, second: Instance
) -> None:
    first.enqueue(question(1))
    lost = first.lease()
    first.inbox.record_post(lost, 0, "9.1")
    elapse(first.database, LEASE + 1.0)

    second.inbox.extend([])
    taken_over = second.lease()

    assert taken_over.question == question(1)
    assert (taken_over.attempt, taken_over.crash_count) == (1, 1)
    assert taken_over.parts == (PostedPart(0, "9.1"),)
    assert first.inbox.extend([lost.lease]) == {lost.lease.id}
    with pytest.raises(LeaseLost):
        first.inbox.record_post(lost, 0, "9.2")
    with pytest.raises(LeaseLost):
        first.inbox.retry(lost, after=0.0)
    with pytest.raises(LeaseLost):
        first.finish(lost)
    second.finish(taken_over)


def test_a_lease_that_ended_can_still_be_extended_while_nobody_has_taken_it(
    first: Instance, second: Instance
) -> None:
    first.enqueue(question(1))
    delivery = first.lease()
    elapse(first.database, LEASE + 1.0)

    assert first.inbox.extend([delivery.lease]) == set()

    second.inbox.extend([])
    assert second.inbox.lease(1) == []
    first.finish(delivery)


# At the same moment.


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_the_first_questions_of_a_conversation_may_come_to_two_instances_at_the_same_moment(
    instances: tuple[Instance, Instance], callers: ThreadPoolExecutor, numbers: tuple[int, int]
) -> None:
    """Neither sees the other's, so both give their own the turn: the index lets only one."""
    with meeting_before("UPDATE questions SET has_turn"):
        stored = [
            callers.submit(instance.enqueue, question(number))
            for instance, number in zip(instances, numbers, strict=True)
        ]
        assert [future.result(DEADLINE) for future in stored] == [[Enqueued.NEW]] * 2

    assert turns(instances[0]) == ["question 1"]
    assert all(instance.database.is_reachable for instance in instances)


def test_the_same_question_may_come_to_two_instances_at_the_same_moment(
    instances: tuple[Instance, Instance], callers: ThreadPoolExecutor
) -> None:
    with meeting_before("INSERT INTO questions"):
        stored = [callers.submit(instance.enqueue, question(1)) for instance in instances]
        results = [future.result(DEADLINE)[0].value for future in stored]

    assert sorted(results) == ["duplicate", "new"]
    assert turns(instances[0]) == ["question 1"]


def test_batches_that_cross_end_well_for_both(
    instances: tuple[Instance, Instance], callers: ThreadPoolExecutor
) -> None:
    """Each stores first what the other stores last: a deadlock, which the server breaks."""
    batch = [question(n, thread=f"{n}.1") for n in range(40)]
    with meeting_before("INSERT INTO questions"):
        stored = [
            callers.submit(instance.enqueue, *questions)
            for instance, questions in zip(instances, (batch, batch[::-1]), strict=True)
        ]
        results = [future.result(DEADLINE) for future in stored]

    assert sum(result.count(Enqueued.NEW) for result in results) == len(batch)
    assert turns(instances[0]) == [question.text for question in batch]


def test_a_question_that_comes_as_its_predecessor_ends_gets_the_turn(
    instances: tuple[Instance, Instance], callers: ThreadPoolExecutor
) -> None:
    """Nobody sees both in one look, and yet one of them has to pass the turn."""
    first, second = instances
    for number in range(0, 20, 2):
        first.enqueue(question(number))
        delivery = first.lease()
        with meeting_before("questions"):
            ended = callers.submit(first.finish, delivery)
            stored = callers.submit(second.enqueue, question(number + 1))
            ended.result(DEADLINE)
            stored.result(DEADLINE)
        assert turns(first) == [f"question {number + 1}"]
        second.finish(second.lease())


# While one is paused within a transaction.


def test_a_locked_question_is_passed_over_at_once(
    url: str, first: Instance, second: Instance
) -> None:
    locked, free = question(1, thread="1.1"), question(2, thread="2.1")
    first.enqueue(locked, free)

    with held(url, locked):
        assert second.lease().question == free
        assert first.inbox.lease(1) == []

    assert first.lease().question == locked


def test_other_conversations_go_on_while_a_question_is_locked(
    url: str, first: Instance, second: Instance
) -> None:
    first.enqueue(*(question(n, thread=f"{n}.1") for n in (1, 2)))
    delivery, other = first.inbox.lease(2)

    with held(url, delivery.question):
        assert second.enqueue(question(3, thread="2.1")) == [Enqueued.NEW]
        assert first.inbox.extend([other.lease]) == set()
        first.finish(other)
        assert second.lease().question == question(3, thread="2.1")
        second.inbox.counts()
        second.inbox.next_ready_in()

    first.finish(delivery)


def test_a_group_waits_only_shortly_for_the_one_that_needs_a_locked_question(
    url: str, first: Instance, callers: ThreadPoolExecutor
) -> None:
    first.enqueue(*(question(n, thread=f"{n}.1") for n in (1, 2)))
    stuck, free = first.inbox.lease(2)

    with held(url, stuck.question):
        acts: list[Callable[[], object]] = [
            partial(first.finish, stuck),
            partial(first.enqueue, question(3, thread="3.1")),
            partial(first.finish, free),
        ]
        ended, enqueued, freed = together(first.database, callers, acts)
        assert enqueued.result(DEADLINE) == [Enqueued.NEW]
        freed.result(DEADLINE)
        assert first.inbox.extend([]) == set()
        assert not ended.done()

    ended.result(DEADLINE)
    assert first.inbox.counts() == Counts(waiting=1, running=0, dead=0)


# How much it looks at.


def plan(connection: Connection, statement: Executable, **values: Any) -> str:
    compiled = statement.compile(dialect=connection.dialect)  # type: ignore[attr-defined]
    explain = f"EXPLAIN {compiled}"
    return "\n".join(
        connection.exec_driver_sql(explain, compiled.construct_params(values)).scalars()
    )


@pytest.mark.parametrize("conversations", [1, 10_000])
def test_no_statement_reads_the_whole_queue_though_nobody_has_analyzed_it(
    first: Instance, conversations: int
) -> None:
    for start in range(0, 10_000, 1000):
        numbers = range(start, start + 1000)
        first.enqueue(*(question(n, thread=f"{n % conversations}.1") for n in numbers))

    def plans(connection: Connection) -> dict[str, str]:
        lease = {"most": 1, "holder": "x", "lease": "y", "seconds": LEASE}
        return {
            "questions_due": plan(connection, statements.LEASE, **lease),
            "questions_leased": plan(connection, statements.TAKE_BACK),
            "questions_due ": plan(connection, statements.NEXT_READY_IN),
            "questions_waiting": plan(connection, statements.COUNT_WAITING),
            "questions_waiting ": plan(connection, statements.PASS_TURN, place="T1:C1:1.1"),
        }

    for index, lines in first.database.read(plans).items():
        assert "Seq Scan on questions" not in lines
        assert f"Scan using {index.strip()}" in lines or f"Scan on {index.strip()}" in lines, lines
