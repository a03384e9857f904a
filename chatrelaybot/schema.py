"""The tables of the inbox, for SQLite and PostgreSQL alike.

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
    insert,
    inspect,
    literal_column,
    select,
    text,
)

from chatrelaybot.errors import ConfigurationError

#: Raised by every change of a table.
SCHEMA_VERSION = 1


class State(enum.StrEnum):
    """Where a question stands."""

    READY = "ready"  #: waits, for its turn or for the time of its next try
    LEASED = "leased"  #: is being answered
    DONE = "done"  #: ended in a reply, or cannot be answered any more; its text is deleted
    DEAD = "dead"  #: given up; kept with its text until it is purged


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

#: Times are seconds since 1970; `ts` and `thread_ts` are Slack's, opaque texts.
questions = Table(
    "questions",
    metadata,
    Column("id", String, primary_key=True),
    Column("event_id", String, nullable=False, unique=True),
    Column("team_id", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("ts", String, nullable=False),
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
    Column("owner", String),
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
    Column("question_id", ForeignKey(questions.c.id, ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("intent_at", Float, nullable=False),
    Column("ts", String),
    Column("stale_ts", String),
)


def in_state(state: State, table: FromClause = questions) -> ColumnElement[bool]:
    """Return the condition as the partial indexes have it."""
    condition: ColumnElement[bool] = table.c.state == literal_column(f"'{state.value}'")
    return condition


#: Each partial index with its condition, which SQLAlchemy wants for each dialect by itself.
_partial_indexes: list[tuple[Index, ColumnElement[bool]]] = []


def _partial_index(
    name: str,
    *columns: ColumnElement[object],
    where: ColumnElement[bool],
    is_unique: bool = False,
) -> None:
    _partial_indexes.append((Index(name, *columns, unique=is_unique), where))


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


def prepare(connection: Connection) -> None:
    """Create the tables where they are missing.

    Raises:
        ConfigurationError: A later version of this program has made them.
    """
    if not inspect(connection).has_table(schema_version.name):
        _create(connection)
    version = connection.scalar(select(schema_version.c.version))
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            "DATABASE_URL",
            f"the database has version {version}, this program knows {SCHEMA_VERSION}",
            "install the ChatRelayBot that made it, or name another file",
        )


def _create(connection: Connection) -> None:
    for index, where in _partial_indexes:
        # Here and not above: to name a dialect is to import it, and no process needs them all.
        index.dialect_options[connection.dialect.name]["where"] = where
    metadata.create_all(connection)
    connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
