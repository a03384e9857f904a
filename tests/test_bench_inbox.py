"""The bench's bare loop does to the database what the inbox does."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select

from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Enqueued
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.schema import questions, reply_parts
from tests.bench import inbox as row
from tests.bench.figures import LIMIT, US, Plan
from tests.bench.inbox_tape import TRACEPARENT, Player, Tape, counted_commits, record
from tests.postgres import PostgresServer

#: Of the rows, what no two cycles have in common.
_OWN = {"id", "event_id", "ts", "conversation", "thread_ts", "question_id", "lease_id"}


@pytest.fixture(name="inbox")
def _inbox(database: Database) -> Inbox:
    return Inbox(database=database, owner="test", retention_hours=1.0)


def _asked(*numbers: int) -> list[Question]:
    return [
        Question(f"Ev{number}", "T1", "C1", "U1", "a question", f"{number}.1", f"{number}.0")
        for number in numbers
    ]


def _rows(database: Database, table: Any) -> list[dict[str, Any]]:
    """Return what a table holds, without times and what is each row's own."""
    shown = [
        column for column in table.columns if column.name not in _OWN and "_at" not in column.name
    ]
    return [
        dict(found._mapping)
        for found in database.read(lambda connection: connection.execute(select(*shown)).all())
    ]


def _recorded(inbox: Inbox, count: int = 1) -> Tape:
    return record(inbox, _asked(*range(1, 1 + count)))


def test_a_played_cycle_leaves_what_a_cycle_of_the_inbox_leaves(
    database: Database, inbox: Inbox, url: str
) -> None:
    tape = _recorded(inbox)
    with Player(url) as player:
        player.cycle(tape, _asked(2, 3))
    first, *others = _rows(database, questions)
    assert first["state"] == "done"
    assert others == [first, first]
    assert _rows(database, reply_parts) == []


def test_a_played_cycle_settles_the_oldest_and_passes_its_turn(inbox: Inbox, url: str) -> None:
    tape = _recorded(inbox)
    long = [Question(f"Long{n}", "T1", "C1", "U1", "text", f"0.{n}", "0.0") for n in range(3)]
    inbox.enqueue([(question, TRACEPARENT) for question in long])
    with Player(url) as player:
        player.cycle(tape, _asked(2))
    assert inbox.counts() == Counts(waiting=3, running=0, dead=0)
    assert [delivery.question.id for delivery in inbox.lease(3)] == [long[1].id, _asked(2)[0].id]


def test_a_played_batch_is_stored(inbox: Inbox, url: str) -> None:
    tape = _recorded(inbox, 3)
    with Player(url) as player:
        player.enqueue(tape, _asked(4, 5, 6))
    assert inbox.counts().waiting == 5
    assert [delivery.question for delivery in inbox.lease(9)] == _asked(2, 3, 4, 5, 6)


def test_a_cycle_is_three_commits(inbox: Inbox) -> None:
    with counted_commits() as commits:
        _recorded(inbox)
    assert commits == [3]


def test_the_row_tells_both_contenders_and_what_a_long_queue_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row, "find_spec", lambda _: None)
    findings = row.measure(Plan(rounds=1, is_quick=True))
    assert findings.flaws == []
    assert "PostgreSQL is left out" in findings.notes[0]
    assert {figure.contender for figure in findings.figures} == {US, LIMIT}
    bounded = [figure for figure in findings.figures if figure.bound is not None]
    assert len(bounded) == 4
    assert all(figure.bound == 0.5 and figure.is_floor for figure in bounded)


def test_what_waits_is_not_counted_for_each_question(inbox: Inbox) -> None:
    """To count thousands takes longer than all else."""
    first, then = (record(inbox, _asked(number)).enqueue for number in (1, 2))
    assert len(first) == len(then) + 1
    assert not any("count(" in said.sql for said in then)


def test_one_instance_alone_keeps_the_limit(database: Database) -> None:
    inbox = Inbox(database=database, owner="test", retention_hours=1.0, queue_limit=25)
    results = [inbox.enqueue([(asked, TRACEPARENT)])[0] for asked in _asked(*range(30))]
    assert results == [Enqueued.NEW] * 25 + [Enqueued.REFUSED] * 5


def test_instances_together_exceed_the_limit_by_a_tenth_each_at_most(
    postgres: PostgresServer,
) -> None:
    url, numbers = postgres.create_database(), itertools.count()

    def fill(inbox: Inbox, count: int) -> int:
        asked = _asked(*itertools.islice(numbers, count))
        return [inbox.enqueue([(one, TRACEPARENT)]) for one in asked].count([Enqueued.NEW])

    with closing(Database(url=url)) as one, closing(Database(url=url)) as other:
        for database in (one, other):
            database.open()
        first, second = (
            Inbox(database=database, owner="test", retention_hours=1.0, queue_limit=100)
            for database in (one, other)
        )
        assert [fill(first, 1), fill(second, 150)] == [1, 99]
        assert [fill(first, 150), fill(second, 50)] == [9, 0]
