"""What the inbox says to the database.

Every change of a leased question is fenced: it names the lease that its caller holds, and changes
nothing once another holds it. The names of parameters differ from the columns', which SQLAlchemy
would otherwise take for values to be set.
"""

from __future__ import annotations

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

# PostgreSQL's insert has the same methods; it is the one thing here that is not the same for both.
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.dml import ReturningUpdate

from chatrelaybot.schema import State, in_state, questions, reply_parts

_q = questions.c
_p = reply_parts.c
_others = questions.alias("others")

#: A question that is leased to the caller.
_held = (_q.id == bindparam("key"), _q.lease_id == bindparam("lease"), in_state(State.LEASED))
_keys: BindParameter[str] = bindparam("keys", expanding=True)
_now: ColumnElement[float] = bindparam("now")

# Enqueueing. A conflict is a question that we have already, under whichever of its keys.

ENQUEUE = insert(questions).on_conflict_do_nothing().returning(_q.id, _q.event_id)

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
    .where(in_state(State.READY), _q.has_turn, _q.ready_at <= _now)
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
        lease_until=bindparam("until"),
        attempt=_q.attempt + 1,
    )
    .returning(questions)
)
PARTS = select(reply_parts).where(_p.question_id.in_(_keys)).order_by(_p.part)
INTEND_FIRST = insert(reply_parts).on_conflict_do_nothing()

EXTEND = (
    update(questions)
    .where(_q.lease_id.in_(_keys), in_state(State.LEASED))
    .values(lease_until=bindparam("until"))
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


RETRY = _given_back(*_held, ready_at=bindparam("due")).returning(_q.id)
RELEASE = _given_back(*_held, ready_at=0.0, attempt=_q.attempt - 1).returning(_q.id)
#: A crash is not a failed try, so it is counted for itself.
TAKE_BACK = _given_back(
    in_state(State.LEASED),
    _q.lease_until < _now,
    ready_at=0.0,
    attempt=_q.attempt - 1,
    crash_count=_q.crash_count + 1,
).returning(_q.conversation)


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
            finished_at=_now,
            **values,
        )
        .returning(_q.id)
    )


FINISH = _ended(State.DONE, text="")
BURY = _ended(State.DEAD)

# The parts of a reply.

HOLD = select(_q.id).where(*_held).with_for_update()

_part = insert(reply_parts).from_select(
    [_p.question_id, _p.part, _p.intent_at, _p.ts, _p.stale_ts],
    select(
        _q.id,
        bindparam("number", type_=Integer),
        bindparam("now", type_=Float),
        bindparam("posted", type_=String),
        bindparam("stale", type_=String),
    ).where(*_held),
)
#: A further post in place of a known one: from now on it is not known which of the two stands.
INTEND = _part.on_conflict_do_update(
    index_elements=[_p.question_id, _p.part],
    set_={
        "intent_at": _part.excluded.intent_at,
        "stale_ts": func.coalesce(_part.excluded.stale_ts, _p.ts, _p.stale_ts),
        "ts": None,
    },
).returning(_p.part)
#: An older message stays known until it is forgotten, unless it is the one that stands again.
RECORD = _part.on_conflict_do_update(
    index_elements=[_p.question_id, _p.part],
    set_={
        "ts": _part.excluded.ts,
        "stale_ts": func.nullif(
            func.coalesce(_part.excluded.stale_ts, _p.stale_ts), _part.excluded.ts
        ),
    },
).returning(_p.part)
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
COUNTS = select(_count(State.READY), _count(State.LEASED), _dead.scalar_subquery())

NEXT_READY_AT = select(func.min(_q.ready_at)).where(in_state(State.READY), _q.has_turn)

_old = (
    select(_q.id)
    .where(
        _q.state.in_([State.DONE.value, State.DEAD.value]),
        _q.finished_at.is_not(None),
        _q.finished_at < bindparam("before"),
    )
    .limit(bindparam("most"))
)
PURGE = delete(questions).where(_q.id.in_(_old))
