"""The inbox: questions, and the messages of their replies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")
# Not as text: SQLite knows an index by the very words of its condition, which are `has_turn = 1`
# in the queries that SQLAlchemy writes for it.
_has_turn = sa.column("has_turn", sa.Boolean)
_is_refused = sa.column("is_refused", sa.Boolean)


def upgrade() -> None:
    """Create both tables and the indexes."""
    op.create_table(
        "questions",
        sa.Column("id", _bytewise, primary_key=True),
        sa.Column("event_id", sa.String, nullable=False, unique=True),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("ts", _bytewise, nullable=False),
        sa.Column("conversation", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("thread_ts", sa.String),
        sa.Column("is_direct", sa.Boolean, nullable=False),
        sa.Column("traceparent", sa.String, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False, server_default="ready"),
        sa.Column("has_turn", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("is_refused", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("ready_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("crash_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("owner", sa.String),
        sa.Column("lease_id", sa.String),
        sa.Column("lease_until", sa.Float),
        sa.Column("outcome", sa.String),
        sa.Column("finished_at", sa.Float),
        sa.UniqueConstraint("team_id", "channel", "ts"),
    )
    op.create_table(
        "reply_parts",
        sa.Column(
            "question_id",
            _bytewise,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("intent_at", sa.Float, nullable=False),
        sa.Column("ts", sa.String),
        sa.Column("stale_ts", sa.String),
    )
    _index("questions_turn", ["conversation"], sa.and_(_has_turn, ~_is_refused), is_unique=True)
    _index(
        "questions_due",
        [sa.text("is_refused DESC"), "ts", "id", "ready_at", "state", "has_turn"],
        sa.and_(_state("ready"), _has_turn),
    )
    _index(
        "questions_waiting", ["is_refused", "conversation", "ts", "id", "state"], _state("ready")
    )
    _index("questions_leased", ["lease_id", "lease_until", "state"], _state("leased"))
    _index("questions_finished", ["state", "finished_at"], sa.text("finished_at IS NOT NULL"))


def _state(state: str) -> sa.ColumnElement[bool]:
    condition: sa.ColumnElement[bool] = sa.column("state") == sa.literal_column(f"'{state}'")
    return condition


def _index(
    name: str,
    columns: list[str | sa.TextClause],
    where: sa.ColumnElement[bool] | sa.TextClause,
    *,
    is_unique: bool = False,
) -> None:
    op.create_index(
        name, "questions", columns, unique=is_unique, sqlite_where=where, postgresql_where=where
    )
