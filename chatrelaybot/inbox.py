"""The durable queue of questions. A question is here before Slack is told that we have it.

Questions of one conversation are answered one after the other, in the order of their `ts`; those
of different conversations beside each other, oldest first. One that waits for its next try holds
up its own conversation and no other.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, Row

from chatrelaybot import statements, turns
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Delivery, Enqueued, Lease, PostedPart, elapsed
from chatrelaybot.errors import LeaseLost
from chatrelaybot.events import Question

#: Old questions deleted in one transaction, so that nobody waits long behind it.
_PURGED_TOGETHER = 200
#: After more crashes than these a question waits before it is tried again: up to 2ⁿ seconds after
#: the n-th further one, up to so many. One of those that were in flight together may be the
#: reason, and shall not be beside the others every time.
_UNSUSPICIOUS_CRASHES = 2
_MOST_APART_SECONDS = 30.0


class Inbox:
    """The queue. Every method may be called from any thread, and returns after the commit.

    All of them raise TransientError when the database cannot be reached; those that take a
    delivery raise LeaseLost when its lease is not ours any more, and then change nothing.
    """

    def __init__(
        self,
        *,
        database: Database,
        owner: str,
        retention_hours: float,
        lease_seconds: float = 15.0,
        queue_limit: int = 10_000,
        on_ready: Callable[[], None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`on_ready` is called, by whoever calls us, when there may be something to lease.

        `chance()` is between 0 and 1.
        """
        self._database = database
        self._inserts = statements.Inserts(database.insert)
        self._owner = owner
        self._retention_seconds = retention_hours * 3600.0
        self._lease_seconds = lease_seconds
        self._queue_limit = queue_limit
        self._on_ready = on_ready or (lambda: None)
        self._chance = chance
        self._has_missed_beat = False  #: the heartbeat's alone

    def enqueue(self, questions: Sequence[tuple[Question, str]]) -> list[Enqueued]:
        """Store questions, each with its traceparent, in one commit."""
        if not questions:
            return []
        rows = [self._row(question, traceparent) for question, traceparent in questions]
        results = self._database.write(lambda connection: self._store(connection, rows))
        if any(result is not Enqueued.DUPLICATE for result in results):
            self._on_ready()
        return results

    def lease(self, limit: int) -> list[Delivery]:
        """Take up to `limit` questions whose turn it is."""
        if limit <= 0:
            return []
        good_until = self._good_until()
        return self._database.write(lambda connection: self._take(connection, limit, good_until))

    def extend(self, leases: Collection[Lease]) -> set[str]:
        """Extend the leases of all questions that we are answering; return those that are lost.

        Leases that ended before are taken back, ours as well: a question whose answering broke
        comes back through here. To be called also when nothing is being answered. The first time
        after the database was away nothing is taken back: everybody shall come to extend first.
        """
        good_until = self._good_until()
        takes_back, self._has_missed_beat = not self._has_missed_beat, True
        kept, taken_back = self._database.write(
            lambda connection: (
                self._extend(connection, [lease.id for lease in leases]),
                takes_back and self._take_back(connection, statements.TAKE_BACK),
            )
        )
        self._has_missed_beat = False
        for lease in leases:
            if lease.id in kept:
                lease.good_until = good_until
        if taken_back:
            self._on_ready()
        return {lease.id for lease in leases} - kept

    def finish(self, delivery: Delivery, *, outcome: str) -> None:
        """Settle a question for good, and delete its text."""
        self._settle(statements.FINISH, delivery, end=str(outcome))

    def bury(self, delivery: Delivery, *, reason: str) -> None:
        """Give a question up; it keeps its text for an operator, until it is purged."""
        self._settle(statements.BURY, delivery, end=str(reason))

    def retry(self, delivery: Delivery, *, after: float, is_traceless: bool = False) -> None:
        """Let it be leased again in `after` seconds; `is_traceless`: Slack has no message of it."""
        self._settle(statements.RETRY, delivery, is_traceless=is_traceless, after=after)

    def release(self, delivery: Delivery, *, is_traceless: bool = False) -> None:
        """Give a question back, as if it had not been tried; `is_traceless` as in `retry`."""
        self._settle(statements.RELEASE, delivery, is_traceless=is_traceless)

    def intend_post(self, delivery: Delivery, part: int, *, stale_ts: str | None = None) -> None:
        """Note that a message is about to be posted, in place of `stale_ts` where that is given.

        A `ts` that the part had becomes stale: until `record_post` nobody knows which one stands.
        """
        values = {"number": part, "posted": None, "stale": stale_ts}
        self._fenced(self._inserts.intend, delivery, values)

    def record_post(
        self, delivery: Delivery, part: int, ts: str, *, stale_ts: str | None = None
    ) -> None:
        """Note which message shows the part. An older one is remembered until it is forgotten."""
        values = {"number": part, "posted": ts, "stale": stale_ts}
        self._fenced(self._inserts.record, delivery, values)

    def forget_post(self, delivery: Delivery, part: int, ts: str) -> None:
        """Note that a message is deleted, the stale one of the part or its only one."""
        values = {"key": delivery.question.id, "number": part, "gone": ts}

        def forget(connection: Connection) -> None:
            connection.execute(statements.FORGET_STALE, values)
            connection.execute(statements.FORGET_PART, values)

        self._fenced(statements.HOLD, delivery, {}, forget)

    def recover(self) -> int:
        """Take back what an earlier process was answering; return how many questions that was.

        Only for a start. Where others may be using the database nothing is taken back before its
        lease ends: nobody can know who is dead.
        """
        if self._database.is_shared:
            return 0
        count = self._database.write(
            lambda connection: self._take_back(connection, statements.TAKE_ALL_BACK)
        )
        if count:
            self._on_ready()
        return count

    def purge(self) -> int:
        """Delete what ended longer ago than the retention; return how many questions that was."""
        values = {"seconds": self._retention_seconds, "most": _PURGED_TOGETHER}
        total = 0
        while count := self._database.write(
            lambda connection: connection.execute(statements.PURGE, values).rowcount
        ):
            total += count
        return total

    def counts(self) -> Counts:
        """Count the questions."""
        row = self._database.read(lambda connection: connection.execute(statements.COUNTS).one())
        return Counts(*row)

    def next_ready_in(self) -> float | None:
        """Return the seconds until one can be leased; None: not before one comes or ends."""
        seconds = self._database.read(
            lambda connection: connection.scalar(statements.NEXT_READY_IN)
        )
        return None if seconds is None else max(0.0, seconds)

    def _good_until(self) -> float:
        """Return until when leases that are taken or extended now are good."""
        if not self._database.is_shared:
            return math.inf  # Nobody else can have it as long as we live.
        return elapsed() + self._lease_seconds

    def _row(self, question: Question, traceparent: str) -> dict[str, object]:
        return {
            "id": question.id,
            "event_id": question.event_id,
            "team_id": question.team_id,
            "channel": question.channel,
            "ts": question.ts,
            "conversation": question.conversation,
            "user_id": question.user_id,
            "text": _storable(question.text),
            "thread_ts": question.thread_ts,
            "is_direct": question.is_direct,
            "traceparent": traceparent,
        }

    def _store(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Enqueued]:
        stored = {tuple(pair) for pair in connection.execute(self._inserts.enqueue, rows)}
        new: dict[str, Mapping[str, Any]] = {}
        results = []
        for row in rows:
            # The same twice in a batch: the first of them is the one that was stored.
            is_new = (row["id"], row["event_id"]) in stored and row["id"] not in new
            results.append(Enqueued.NEW if is_new else Enqueued.DUPLICATE)
            if is_new:
                new[row["id"]] = row
        refused = turns.join(connection, new, self._queue_limit)
        return [
            Enqueued.REFUSED if result is Enqueued.NEW and row["id"] in refused else result
            for row, result in zip(rows, results, strict=True)
        ]

    def _take(self, connection: Connection, limit: int, good_until: float) -> list[Delivery]:
        values = {
            "most": limit,
            "holder": self._owner,
            "lease": uuid.uuid4().hex,
            "seconds": self._lease_seconds,
        }
        rows = connection.execute(statements.LEASE, values).all()
        if not rows:
            return []
        parts = _parts(connection, [row.id for row in rows])
        ordered = sorted(rows, key=lambda row: (not row.is_refused, row.ts, row.id))
        return [_delivery(row, tuple(parts[row.id]), good_until) for row in ordered]

    def _extend(self, connection: Connection, lease_ids: Collection[str]) -> set[str]:
        if not lease_ids:
            return set()
        values = {"keys": list(lease_ids), "seconds": self._lease_seconds}
        return set(connection.scalars(statements.EXTEND, values))

    def _take_back(self, connection: Connection, statement: Executable) -> int:
        """Make questions ready again whose leases are over."""
        rows = connection.execute(statement).all()
        suspects = [
            {"key": row.id, "after": self._chance() * min(_MOST_APART_SECONDS, 2.0**further)}
            for row in rows
            if (further := row.crash_count - _UNSUSPICIOUS_CRASHES) > 0
        ]
        if suspects:
            connection.execute(statements.SET_APART, suspects)
        for conversation in {row.conversation for row in rows}:
            turns.pass_on(connection, conversation)
        return len(rows)

    def _settle(
        self,
        statement: Executable,
        delivery: Delivery,
        *,
        is_traceless: bool = False,
        **values: object,
    ) -> None:
        """End the lease, and pass the turn on."""
        question = delivery.question

        def pass_on(connection: Connection) -> None:
            if is_traceless:
                connection.execute(statements.FORGET_INTENTS, {"key": question.id})
            turns.pass_on(connection, question.conversation)

        self._fenced(statement, delivery, values, pass_on)
        self._on_ready()

    def _fenced(
        self,
        statement: Executable,
        delivery: Delivery,
        values: Mapping[str, object],
        then: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Execute a statement that returns a row where the lease is ours, and what follows it."""
        parameters = {**values, "key": delivery.question.id, "lease": delivery.lease.id}

        def work(connection: Connection) -> bool:
            if connection.execute(statement, parameters).first() is None:
                return False
            then(connection)
            return True

        if not self._database.write(work):
            raise LeaseLost


def _parts(connection: Connection, keys: Sequence[str]) -> Mapping[str, list[PostedPart]]:
    parts: dict[str, list[PostedPart]] = {key: [] for key in keys}
    for row in connection.execute(statements.PARTS, {"keys": keys}):
        parts[row.question_id].append(PostedPart(row.part, row.ts, row.stale_ts, row.age))
    return parts


def _delivery(row: Row[Any], parts: tuple[PostedPart, ...], good_until: float) -> Delivery:
    return Delivery(
        question=Question(
            event_id=row.event_id,
            team_id=row.team_id,
            channel=row.channel,
            user_id=row.user_id,
            text=row.text,
            ts=row.ts,
            thread_ts=row.thread_ts,
            is_direct=row.is_direct,
        ),
        attempt=row.attempt,
        crash_count=row.crash_count,
        lease=Lease(row.lease_id, good_until),
        traceparent=row.traceparent,
        age=max(0.0, row.age),
        parts=parts,
        is_refused=row.is_refused,
    )


def _storable(text: str) -> str:
    """Replace what JSON can hold and a database cannot: half surrogate pairs, and NUL."""
    return (
        text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
