"""What the inbox says to its database, on tape; and the tape played through the bare driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import Engine, event

from chatrelaybot.database_place import place_of
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.schema import questions

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_ID, _CONVERSATION = map(questions.columns.keys().index, ("id", "conversation"))


@dataclass(frozen=True, slots=True)
class _Said:
    """A statement, with the parameters that it had."""

    sql: str
    parameters: Any
    is_many: bool

    def execute(self, cursor: Any, words: Mapping[Any, str]) -> Sequence[Any]:
        """Say it again, with other words in its parameters; return the rows."""
        if self.is_many and isinstance(self.parameters, list):
            cursor.executemany(self.sql, [_exchanged(one, words) for one in self.parameters])
        else:
            cursor.execute(self.sql, _exchanged(self.parameters, words))
        rows: Sequence[Any] = cursor.fetchall() if cursor.description else ()
        return rows


@dataclass(frozen=True, slots=True)
class Tape:
    """What each of the three says in its transaction: of `asked`, and under the lease `lease`."""

    asked: Sequence[Question]
    lease_key: str
    enqueue: Sequence[_Said]
    lease: Sequence[_Said]
    finish: Sequence[_Said]

    def words(self, asked: Sequence[Question]) -> dict[Any, str]:
        """Return what stands in place of what, where others are enqueued."""
        words: dict[Any, str] = {}
        for old, new in zip(self.asked, asked, strict=True):
            words[old.id], words[old.event_id] = new.id, new.event_id
            words[old.ts], words[old.conversation] = new.ts, new.conversation
            words[old.thread_ts] = new.thread_ts or ""
        return words


def record(inbox: Inbox, asked: Sequence[Question]) -> Tape:
    """Enqueue questions together, lease and finish the first of all; nothing else may go on."""
    with _recorded() as enqueue:
        inbox.enqueue([(question, TRACEPARENT) for question in asked])
    with _recorded() as lease:
        (delivery,) = inbox.lease(1)
    if delivery.question.id != asked[0].id:
        raise ValueError("an older question was waiting")
    with _recorded() as finish:
        inbox.finish(delivery, outcome="replied")
    return Tape(asked, delivery.lease.id.partition("-")[0], enqueue, lease, finish)


class Player:
    """A connection like the one that the inbox writes through, and nothing between it and us."""

    def __init__(self, url: str) -> None:
        self._engine = place_of(url).writer()
        self._pooled = self._engine.raw_connection()
        self._connection: Any = self._pooled.driver_connection
        is_file = self._engine.dialect.name == "sqlite"
        self._begin = "BEGIN IMMEDIATE" if is_file else None  # psycopg says it by itself.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pooled.close()
        self._engine.dispose()

    def enqueue(self, tape: Tape, asked: Sequence[Question]) -> None:
        """Enqueue as many as on the tape, in a transaction."""
        words = tape.words(asked)
        with self._transaction() as cursor:
            for said in tape.enqueue:
                said.execute(cursor, words)

    def cycle(self, tape: Tape, asked: Sequence[Question]) -> None:
        """Enqueue each by itself, lease as many, and finish those; in three transactions."""
        with self._transaction() as cursor:
            for question in asked:
                words = tape.words([question])
                for said in tape.enqueue:
                    said.execute(cursor, words)
        with self._transaction() as cursor:
            leased = [self._lease(tape, cursor) for _ in asked]
        with self._transaction() as cursor:
            for words in leased:
                for said in tape.finish:
                    said.execute(cursor, words)

    def _lease(self, tape: Tape, cursor: Any) -> dict[Any, str]:
        (old,), key = tape.asked, uuid4().hex
        first, *others = tape.lease
        ((*row,),) = first.execute(cursor, {tape.lease_key: key})
        words = {
            old.id: row[_ID],
            old.conversation: row[_CONVERSATION],
            f"{tape.lease_key}-{old.id}": f"{key}-{row[_ID]}",
        }
        for said in others:
            said.execute(cursor, words)
        return words

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        cursor = self._connection.cursor()
        if self._begin:
            cursor.execute(self._begin)
        yield cursor
        self._connection.commit()
        cursor.close()


@contextmanager
def counted_commits() -> Iterator[list[int]]:
    """Count the commits that go through SQLAlchemy; the number is the list's only item."""
    count = [0]

    def committed(_connection: object) -> None:
        count[0] += 1

    event.listen(Engine, "commit", committed)
    try:
        yield count
    finally:
        event.remove(Engine, "commit", committed)


@contextmanager
def _recorded() -> Iterator[list[_Said]]:
    """Record what goes through SQLAlchemy, without the beginning and the end of a transaction."""
    said: list[_Said] = []

    def executed(*told: Any) -> None:
        _, _, sql, parameters, _, is_many = told
        if not sql.startswith("BEGIN"):
            said.append(_Said(sql, parameters, is_many))

    event.listen(Engine, "before_cursor_execute", executed)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", executed)


def _exchanged(parameters: Any, words: Mapping[Any, str]) -> Any:
    if isinstance(parameters, dict):
        return {name: words.get(value, value) for name, value in parameters.items()}
    return tuple([words.get(value, value) for value in parameters])
