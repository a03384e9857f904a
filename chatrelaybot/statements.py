"""What the inbox says to the database.

Every change of a leased question is fenced: it names the lease that its caller holds, and changes
nothing once another holds it. The names of parameters differ from the columns', which SQLAlchemy
would otherwise take for values to be set.

All times are the database's, so that instances whose clocks differ agree on when a lease ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    Update,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.functions import FunctionElement

from chatrelaybot.schema import State, in_state, questions, reply_parts


class _DatabaseTime(FunctionElement[float]):
    """The database's clock, in seconds since 1970."""

    type = Float()
    inherit_cache = True


@compiles(_DatabaseTime)
def _of_file(_element: _DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:
    return "database_time()"  # The file's connections have it.


@compiles(_DatabaseTime, "postgresql")
def _of_server(_element: _DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:
    # Not now(): that is when the transaction began, which may have waited for a lock.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


#: In a subquery, so that it is read once: what may differ from row to row uses no index.
NOW = select(_DatabaseTime()).scalar_subquery()

_q = questions.c
_p = reply_parts.c
_others = questions.alias("others")

#: A question that is leased to the caller.
_held = (_q.id == bindparam("key"), _q.lease_id == bindparam("lease"), in_state(State.LEASED))
_keys: BindParameter[str] = bindparam("keys", expanding=True)

# Enqueueing.

COUNT_WAITING = select(func.count()).where(in_state(State.READY), ~_q.is_refused)

REFUSE = update(questions).where(_q.id.in_(_keys)).values(is_refused=True, has_turn=True)

#: The questions whose turn it is. Locked, for PostgreSQL: who ends a turn and who joins the queue
#: behind it take the same row, or a question could be left without anybody passing it the turn.
TURNS = (
    select(_q.conversation, _q.id, _q.ts, _q.state)
    .where(_q.conversation.in_(_keys), _q.has_turn, ~_q.is_refused)
    .with_for_update()
)

GIVE_TURN = update(questions).where(_q.id.in_(_keys)).values(has_turn=True)
TAKE_TURN = update(questions).where(_q.id.in_(_keys)).values(has_turn=False)


def _oldest(table: FromClause) -> Select[str]:
    """Return the question whose turn it would be in a conversation."""
    return (
        select(table.c.id)
        .where(
            table.c.conversation == bindparam("place"),
            in_state(State.READY, table),
            ~table.c.is_refused,
        )
        .order_by(table.c.ts, table.c.id)
        .limit(1)
    )


_holder = select(_others.c.id).where(
    _others.c.conversation == bindparam("place"), _others.c.has_turn, ~_others.c.is_refused
)
#: Nobody else may have it, so the one who had it gives it up first.
PASS_TURN = (
    update(questions)
    .where(_q.id == _oldest(_others).scalar_subquery(), ~_holder.exists())
    .values(has_turn=True)
)

# Leasing.

#: With PostgreSQL the lock keeps two processes from taking the same question, and a CTE from
#: looking twice: https://www.postgresql.org/docs/current/explicit-locking.html
_due = (
    select(_q.id)
    .where(in_state(State.READY), _q.has_turn, _q.ready_at <= NOW)
    .order_by(_q.is_refused.desc(), _q.ts, _q.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
    .cte("due")
)
LEASE = (
    update(questions)
    .where(_q.id.in_(select(_due.c.id)))
    .values(
        state=State.LEASED.value,
        owner=bindparam("holder"),
        lease_id=bindparam("lease", type_=String) + literal("-") + _q.id,
        lease_until=NOW + bindparam("seconds", type_=Float),
        attempt=_q.attempt + 1,
    )
    .returning(questions, (NOW - _q.received_at).label("age"))
)
PARTS = (
    select(reply_parts, (NOW - _p.intent_at).label("age"))
    .where(_p.question_id.in_(_keys))
    .order_by(_p.part)
)

EXTEND = (
    update(questions)
    .where(_q.lease_id.in_(_keys), in_state(State.LEASED))
    .values(lease_until=NOW + bindparam("seconds", type_=Float))
    .returning(_q.lease_id)
)


def _given_back(*conditions: ColumnElement[bool], **values: object) -> Update:
    """Make ready again, with the turn given up; that of a refused question is beside the queue."""
    return (
        update(questions)
        .where(*conditions)
        .values(
            state=State.READY.value,
            has_turn=_q.is_refused,
            lease_id=None,
            lease_until=None,
            owner=None,
            **values,
        )
    )


RETRY = _given_back(*_held, ready_at=NOW + bindparam("after", type_=Float)).returning(_q.id)
RELEASE = _given_back(*_held, ready_at=0.0, attempt=_q.attempt - 1).returning(_q.id)
#: A crash is not a failed try, so it is counted for itself.
_lost = {"ready_at": 0.0, "attempt": _q.attempt - 1, "crash_count": _q.crash_count + 1}
#: What another transaction has locked is left for the next time: our own leases shall not wait.
_overdue = (
    select(_q.id)
    .where(in_state(State.LEASED), _q.lease_until < NOW)
    .with_for_update(skip_locked=True)
    .cte("overdue")
)
_returned = (_q.id, _q.conversation, _q.crash_count)
TAKE_BACK = _given_back(_q.id.in_(select(_overdue.c.id)), **_lost).returning(*_returned)
#: Whatever their leases say: whoever held them is dead.
TAKE_ALL_BACK = _given_back(in_state(State.LEASED), **_lost).returning(*_returned)
#: Not at once with those that were in flight at the same crashes.
SET_APART = (
    update(questions)
    .where(_q.id == bindparam("key"))
    .values(ready_at=NOW + bindparam("after", type_=Float))
)


def _ended(state: State, **values: object) -> ReturningUpdate[tuple[str]]:
    return (
        update(questions)
        .where(*_held)
        .values(
            state=state.value,
            has_turn=False,
            lease_id=None,
            lease_until=None,
            outcome=bindparam("end"),
            finished_at=NOW,
            **values,
        )
        .returning(_q.id)
    )


FINISH = _ended(State.DONE, text="")
BURY = _ended(State.DEAD)

# The parts of a reply.

HOLD = select(_q.id).where(*_held).with_for_update()

_this_part = (_p.question_id == bindparam("key"), _p.part == bindparam("number"))
FORGET_STALE = (
    update(reply_parts).where(*_this_part, _p.stale_ts == bindparam("gone")).values(stale_ts=None)
)
FORGET_INTENTS = delete(reply_parts).where(
    _p.question_id == bindparam("key"), _p.ts.is_(None), _p.stale_ts.is_(None)
)
FORGET_PART = delete(reply_parts).where(*_this_part, _p.ts == bindparam("gone"))

# Looking, and cleaning up.


def _count(state: State) -> ColumnElement[int]:
    return select(func.count()).where(in_state(state)).scalar_subquery()


_dead = select(func.count()).where(_q.state == State.DEAD.value, _q.finished_at.is_not(None))
_longest_wait = select(NOW - func.min(_q.received_at)).where(in_state(State.READY))
COUNTS = select(
    _count(State.READY),
    _count(State.LEASED),
    _dead.scalar_subquery(),
    _longest_wait.scalar_subquery(),
)

NEXT_READY_IN = select(func.min(_q.ready_at) - NOW).where(in_state(State.READY), _q.has_turn)

_is_old = (
    _q.state.in_([State.DONE.value, State.DEAD.value]),
    _q.finished_at.is_not(None),
    _q.finished_at < NOW - bindparam("seconds", type_=Float),
)
_old = select(_q.id).where(*_is_old).limit(bindparam("most"))
#: Said twice: with PostgreSQL a question may be made ready again between the look and the deed.
PURGE = delete(questions).where(_q.id.in_(_old), *_is_old)


class Inserts:
    """The statements that begin with an INSERT … ON CONFLICT, for one kind of database."""

    def __init__(self, insert: Callable[..., Any]) -> None:
        """`insert` is the one of its dialect."""
        #: A conflict is a question that we have already, under whichever of its keys.
        self.enqueue = (
            insert(questions)
            .values(received_at=NOW)
            .on_conflict_do_nothing()
            .returning(_q.id, _q.event_id)
        )
        part = insert(reply_parts).from_select(
            [_p.question_id, _p.part, _p.intent_at, _p.ts, _p.stale_ts],
            select(
                _q.id,
                bindparam("number", type_=Integer),
                NOW,
                bindparam("posted", type_=String),
                bindparam("stale", type_=String),
            ).where(*_held),
        )
        key = {"index_elements": [_p.question_id, _p.part]}
        #: A further post in place of a known one: from now on it is not known which one stands.
        self.intend = part.on_conflict_do_update(
            **key,
            set_={
                "intent_at": part.excluded.intent_at,
                "stale_ts": func.coalesce(part.excluded.stale_ts, _p.ts, _p.stale_ts),
                "ts": None,
            },
        ).returning(_p.part)
        #: An older message stays known until it is forgotten, unless it is the one that stands.
        self.record = part.on_conflict_do_update(
            **key,
            set_={
                "ts": part.excluded.ts,
                "stale_ts": func.nullif(
                    func.coalesce(part.excluded.stale_ts, _p.stale_ts), part.excluded.ts
                ),
            },
        ).returning(_p.part)
