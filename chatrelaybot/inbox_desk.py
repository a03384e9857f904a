"""The operator's view of the inbox: what waits, runs and was buried; never the text of a question.

It works beside the daemon, which finds by itself what was made ready here.
"""

from __future__ import annotations

import enum
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    bindparam,
    delete,
    func,
    make_url,
    select,
    update,
)

from chatrelaybot import statements, turns
from chatrelaybot.database import Database
from chatrelaybot.errors import ChatRelayBotError, ConfigurationError
from chatrelaybot.fleet import GONE_SECONDS
from chatrelaybot.schema import State, instances, questions
from chatrelaybot.schema_upgrade import NoInbox

#: Fewer characters of an id are more likely a slip than a choice.
SHORTEST_PREFIX = 4
#: Ids shown where the beginning of one fits several.
_MOST_CANDIDATES = 10
#: Buried questions deleted in one transaction, so that the daemon never waits long behind it.
_PURGED_TOGETHER = 200

_q = questions.c


class Standing(enum.StrEnum):
    """Where a question stands, in the operator's words, in the order of a question's life."""

    WAITING = "waiting"
    RUNNING = "running"
    ANSWERED = "answered"
    BURIED = "buried"


_STANDINGS = {
    State.READY: Standing.WAITING,
    State.LEASED: Standing.RUNNING,
    State.DONE: Standing.ANSWERED,
    State.DEAD: Standing.BURIED,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One question, without its text. Times are seconds since 1970."""

    id: str
    standing: Standing
    received_at: float
    age: float  #: seconds
    attempt: int
    crash_count: int
    team_id: str
    channel: str
    thread_ts: str | None
    ts: str
    user_id: str
    has_turn: bool  #: nothing of its conversation goes before it
    is_refused: bool  #: to be told that too many wait
    ready_in: float  #: seconds until its next try; 0: now
    outcome: str | None  #: how it ended, or why it was buried
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The oldest entries, and how many there are of each standing in all."""

    entries: Sequence[Entry]
    counts: dict[Standing, int]

    @property
    def left_out(self) -> int:
        """How many more there are."""
        return sum(self.counts.values()) - len(self.entries)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How many seconds ago the last question came; None: the inbox knows of none."""

    mention: float | None = None  #: in a channel
    direct: float | None = None


class NotRetried(ChatRelayBotError):
    """The question cannot be tried again."""


_shown: Sequence[ColumnElement[Any]] = (
    *(column for column in _q if column.name != "text"),
    (statements.NOW - _q.received_at).label("age"),
    (_q.ready_at - statements.NOW).label("ready_in"),
)
_ENTRIES = (
    select(*_shown)
    .where(_q.state.in_(bindparam("states", expanding=True)))
    .order_by(_q.received_at, _q.ts, _q.id)
    .limit(bindparam("most"))
)
_COUNTS = (
    select(_q.state, func.count())
    .where(_q.state.in_(bindparam("states", expanding=True)))
    .group_by(_q.state)
)
_ARRIVALS = select(_q.is_direct, (statements.NOW - func.max(_q.received_at)).label("age")).group_by(
    _q.is_direct
)
_INSTANCES = select(func.count()).where(instances.c.seen_at > statements.NOW - GONE_SECONDS)
_CANDIDATES = (
    select(_q.id)
    .where(_q.id.startswith(bindparam("prefix"), autoescape=False))
    .order_by(_q.id)
    .limit(_MOST_CANDIDATES + 1)
)
_STATE = select(_q.state).where(_q.id == bindparam("key")).with_for_update()
#: It is answered this time, also where it was buried because too many waited.
_REVIVE = (
    update(questions)
    .where(_q.id == bindparam("key"))
    .values(
        state=State.READY.value,
        is_refused=False,
        ready_at=0.0,
        attempt=0,
        crash_count=0,
        owner=None,
        outcome=None,
        finished_at=None,
    )
    .returning(_q.conversation)
)
_MAKE_DUE = update(questions).where(_q.id == bindparam("key")).values(ready_at=0.0)

_is_buried = (
    _q.state == State.DEAD.value,
    _q.finished_at <= statements.NOW - bindparam("seconds", type_=Float),
)
_COUNT_BURIED = select(func.count()).where(*_is_buried)
#: The condition twice: one that is tried again meanwhile is not to be deleted.
_PURGE = delete(questions).where(
    _q.id.in_(select(_q.id).where(*_is_buried).limit(_PURGED_TOGETHER)), *_is_buried
)


@contextmanager
def opened(url: str) -> Iterator[InboxDesk]:
    """Open the inbox beside whoever works with it; make none where there is none.

    Raises:
        ConfigurationError: It cannot be used, or is of another version.
        TransientError: It cannot be reached, or there is none.
    """
    database = Database(url=url)
    if (file := file_of(url)) is not None:
        _check(file)
    database.open(as_owner=False)
    with closing(database):
        yield InboxDesk(database=database)


def file_of(url: str) -> Path | None:
    """Return the SQLite file; None: it is another database."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def has_owner(file: Path) -> bool | None:
    """Tell whether a daemon has an SQLite file; None: this user may not look.

    To be asked only where no daemon is just starting with the file: for this moment it is ours.
    """
    try:
        with file.with_name(f"{file.name}.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


class InboxDesk:
    """Looks into the inbox and puts things right; all methods raise TransientError."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def list(self, *, limit: int, has_answered: bool = False) -> Listing:
        """Return up to `limit` questions, the oldest first; those answered where asked for."""
        states = [state for state in State if has_answered or state is not State.DONE]
        values = {"states": [state.value for state in states]}

        def look(connection: Connection) -> Listing:
            counts = {_STANDINGS[state]: 0 for state in states}
            for state, count in connection.execute(_COUNTS, values):
                counts[_STANDINGS[State(state)]] = count
            rows = connection.execute(_ENTRIES, {**values, "most": limit})
            return Listing([_entry(row) for row in rows], counts)

        return self._database.read(look)

    def arrivals(self) -> Arrivals:
        """Return when the last question of each kind came, as far as the inbox remembers."""
        rows = self._database.read(lambda connection: connection.execute(_ARRIVALS).all())
        ages = {row.is_direct: max(0.0, row.age) for row in rows}
        return Arrivals(mention=ages.get(False), direct=ages.get(True))

    def instance_count(self) -> int:
        """Return how many instances are alive."""
        return self._database.read(lambda connection: connection.scalar(_INSTANCES) or 0)

    def retry(self, prefix: str) -> str:
        """Let a question be tried again at once; return the whole id of the one that begins so.

        Raises:
            NotRetried: There is no such question, more than one, or nothing to be tried again.
        """
        prefix = prefix.lower()
        if len(prefix) < SHORTEST_PREFIX:
            raise NotRetried(f"give at least {SHORTEST_PREFIX} characters of the id")
        if not prefix.isalnum():
            raise NotRetried("an id has only letters and digits")

        def work(connection: Connection) -> str:
            key = _only(prefix, connection.scalars(_CANDIDATES, {"prefix": prefix}).all())
            _try_again(connection, key)
            return key

        return self._database.write(work)

    def count_buried(self, *, older_than: float = 0.0) -> int:
        """Count what `purge` would delete."""
        values = {"seconds": older_than}
        return self._database.read(lambda connection: connection.scalar(_COUNT_BURIED, values) or 0)

    def purge(self, *, older_than: float = 0.0) -> int:
        """Delete the questions that were buried `older_than` seconds ago; return how many."""
        values = {"seconds": older_than}
        total = 0
        while count := self._database.write(
            lambda connection: connection.execute(_PURGE, values).rowcount
        ):
            total += count
        return total

    def clear_away(self) -> None:
        """Clear away what deleted texts have left in the files."""
        self._database.vacuum()


def _check(file: Path) -> None:
    """See that there is a file, before SQLite makes one."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise NoInbox(f"there is no inbox yet: {file.absolute()} does not exist") from None
    except OSError as error:
        raise ConfigurationError(
            "DATABASE_URL",
            f"{file.absolute()} cannot be looked at ({error.strerror})",
            "let the user of this program search its directory, or name another file",
        ) from error


def _only(prefix: str, keys: Sequence[str]) -> str:
    if not keys:
        raise NotRetried(f"no question has an id that begins with {prefix}")
    if len(keys) > 1:
        shown = ", ".join(keys[:_MOST_CANDIDATES])
        more = " and more" if len(keys) > _MOST_CANDIDATES else ""
        raise NotRetried(f"several ids begin with {prefix}: {shown}{more}")
    return keys[0]


def _try_again(connection: Connection, key: str) -> None:
    state = connection.scalar(_STATE, {"key": key})
    if state == State.READY:
        connection.execute(_MAKE_DUE, {"key": key})
    elif state == State.DEAD:
        _join_again(connection, connection.scalars(_REVIVE, {"key": key}).one())
    elif state == State.LEASED:
        raise NotRetried(f"{key} is being answered at this moment")
    else:
        raise NotRetried(f"{key} was answered, and its text is deleted")


def _join_again(connection: Connection, conversation: str) -> None:
    """Give a question its old place: what came after it and does not run yet goes after it."""
    holder = connection.execute(statements.TURNS, {"keys": [conversation]}).first()
    if holder is not None and holder.state == State.READY:
        connection.execute(statements.TAKE_TURN, {"keys": [holder.id]})
    turns.pass_on(connection, conversation)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        standing=_STANDINGS[State(row.state)],
        received_at=row.received_at,
        age=max(0.0, row.age),
        attempt=row.attempt,
        crash_count=row.crash_count,
        team_id=row.team_id,
        channel=row.channel,
        thread_ts=row.thread_ts,
        ts=row.ts,
        user_id=row.user_id,
        has_turn=row.has_turn,
        is_refused=row.is_refused,
        ready_in=max(0.0, row.ready_in),
        outcome=row.outcome,
        finished_at=row.finished_at,
    )
