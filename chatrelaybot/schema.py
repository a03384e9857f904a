"""The tables, for SQLite and PostgreSQL alike; `migrations/` brings older ones up to them.

Of every conversation one question at a time has the turn: the one being answered, else the oldest
that waits. A unique index holds that, so that no fault elsewhere can answer two at once, and an
index on the questions whose turn it is finds the next one as fast among thousands as among ten.

The states in conditions are written into the SQL (`literal_column`): with a bound parameter the
database could not tell that a partial index covers the query.
https://www.sqlite.org/partialindex.html#queries_using_partial_indexes
"""

from __future__ import annotations

import enum

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)

#: PostgreSQL sorts texts as people do unless told otherwise; a `ts` sorts by its characters.
_Bytewise = String().with_variant(String(collation="C"), "postgresql")


class State(enum.StrEnum):
    """Where a question stands."""

    READY = "ready"  #: waits, for its turn or for the time of its next try
    LEASED = "leased"  #: is being answered
    DONE = "done"  #: ended in a reply, or cannot be answered any more; its text is deleted
    DEAD = "dead"  #: given up; kept with its text until it is purged


metadata = MetaData()

#: Times are seconds since 1970; `ts` and `thread_ts` are Slack's, opaque texts.
questions = Table(
    "questions",
    metadata,
    Column("id", _Bytewise, primary_key=True),
    Column("event_id", String, nullable=False, unique=True),
    Column("team_id", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("ts", _Bytewise, nullable=False),
    Column("conversation", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("thread_ts", String),
    Column("is_direct", Boolean, nullable=False),
    Column("traceparent", String, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("state", String, nullable=False, server_default=State.READY.value),
    #: True: nothing of its conversation goes before it. Stays true while it is leased.
    Column("has_turn", Boolean, nullable=False, server_default=text("false")),
    #: True: too many waited when it came; it is told so at once, out of its order.
    Column("is_refused", Boolean, nullable=False, server_default=text("false")),
    #: Not to be leased before this time; 0: at once, whatever happens to the clock.
    Column("ready_at", Float, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("crash_count", Integer, nullable=False, server_default="0"),
    Column("owner", String),  #: who has it, or had it last
    Column("lease_id", String),
    Column("lease_until", Float),
    Column("outcome", String),
    Column("finished_at", Float),
    UniqueConstraint("team_id", "channel", "ts"),
)

#: The messages of a reply. No `ts`: a post was intended, and its outcome is not known.
reply_parts = Table(
    "reply_parts",
    metadata,
    Column(
        "question_id", _Bytewise, ForeignKey(questions.c.id, ondelete="CASCADE"), primary_key=True
    ),
    Column("part", Integer, primary_key=True),
    Column("intent_at", Float, nullable=False),
    Column("ts", String),
    Column("stale_ts", String),
)


#: What a process wrote into Slack after its lease had ended: a message that is to go, or an edit
#: that may have fallen upon a newer one.
strays = Table(
    "strays",
    metadata,
    Column("question_id", _Bytewise, primary_key=True),
    Column("ts", String, primary_key=True),
    Column("noted_at", Float, nullable=False),
)

#: The processes that use this database.
instances = Table(
    "instances",
    metadata,
    Column("id", String, primary_key=True),
    Column("seen_at", Float, nullable=False),
)

#: Rate budgets that all instances share: the state of a token bucket for each workspace and
#: method, and for posting for each channel. Rates are calls a second.
budgets = Table(
    "budgets",
    metadata,
    Column("id", String, primary_key=True),
    Column("tokens", Float, nullable=False),
    Column("rate", Float, nullable=False),
    Column("refilled_at", Float, nullable=False),
    Column("blocked_until", Float, nullable=False),
)

#: When any instance last had a link to a workspace.
link_times = Table(
    "link_times",
    metadata,
    Column("team_id", String, primary_key=True),
    Column("seen_at", Float, nullable=False),
)


def in_state(state: State, table: FromClause = questions) -> ColumnElement[bool]:
    """Return the condition as the partial indexes have it."""
    condition: ColumnElement[bool] = table.c.state == literal_column(f"'{state.value}'")
    return condition


def _partial_index(
    name: str,
    *columns: ColumnElement[object],
    where: ColumnElement[bool],
    is_unique: bool = False,
) -> None:
    # Not as `sqlite_where`: to name a dialect is to import it, and no process needs them all.
    Index(name, *columns, unique=is_unique, info={"where": where})


_partial_index(
    "questions_turn",
    questions.c.conversation,
    where=and_(questions.c.has_turn, ~questions.c.is_refused),
    is_unique=True,
)
# `state` and `has_turn` end the next three only so that no row need be looked up: SQLite does not
# conclude from the condition of an index what they are.
_is_ready = questions.c.state == State.READY.value
_partial_index(
    "questions_due",
    questions.c.is_refused.desc(),
    questions.c.ts,
    questions.c.id,
    questions.c.ready_at,
    questions.c.state,
    questions.c.has_turn,
    where=and_(_is_ready, questions.c.has_turn),
)
_partial_index(
    "questions_waiting",
    questions.c.is_refused,
    questions.c.conversation,
    questions.c.ts,
    questions.c.id,
    questions.c.state,
    where=_is_ready,
)
_partial_index(
    "questions_leased",
    questions.c.lease_id,
    questions.c.lease_until,
    questions.c.state,
    where=questions.c.state == State.LEASED.value,
)
_partial_index(
    "questions_finished",
    questions.c.state,
    questions.c.finished_at,
    where=questions.c.finished_at.is_not(None),
)

#: PostgreSQL alone: a queue changes its rows so often that its planner and its vacuum, which
#: wait for a share of a table to change, would be late.
#: https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-STORAGE-PARAMETERS
_STORAGE = (
    "fillfactor = 70",
    "autovacuum_vacuum_scale_factor = 0",
    "autovacuum_vacuum_threshold = 1000",
    "autovacuum_analyze_scale_factor = 0",
    "autovacuum_analyze_threshold = 1000",
)
_POSTGRES_SETTINGS = (
    *(
        f"ALTER TABLE {table.name} SET ({', '.join(_STORAGE)})"
        for table in (questions, reply_parts, budgets, instances)
    ),
    # Or the server's statistics would keep samples of questions that are answered.
    "ALTER TABLE questions ALTER COLUMN text SET STATISTICS 0",
)


def create(connection: Connection) -> None:
    """Make the tables in a database that has none of them."""
    dialect = connection.dialect.name
    for table in metadata.sorted_tables:
        for index in table.indexes:
            index.dialect_options[dialect]["where"] = index.info["where"]
    metadata.create_all(connection)
    for statement in _POSTGRES_SETTINGS if dialect == "postgresql" else ():
        connection.execute(text(statement))
