"""What several instances share: strays, who is there, rate budgets, and when a link was up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: PostgreSQL alone: a queue changes its rows so often that its planner and its vacuum, which
#: wait for a share of the table to change, would be late.
#: https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-STORAGE-PARAMETERS
_BUSY_TABLES = ("questions", "reply_parts", "budgets", "instances")
_STORAGE = (
    "fillfactor = 70",
    "autovacuum_vacuum_scale_factor = 0",
    "autovacuum_vacuum_threshold = 1000",
    "autovacuum_analyze_scale_factor = 0",
    "autovacuum_analyze_threshold = 1000",
)

_bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "strays",
        sa.Column("question_id", _bytewise, primary_key=True),
        sa.Column("ts", sa.String, primary_key=True),
        sa.Column("noted_at", sa.Float, nullable=False),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_table(
        "budgets",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tokens", sa.Float, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("refilled_at", sa.Float, nullable=False),
        sa.Column("blocked_until", sa.Float, nullable=False),
    )
    op.create_table(
        "link_times",
        sa.Column("team_id", sa.String, primary_key=True),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    if op.get_context().dialect.name == "postgresql":
        for table in _BUSY_TABLES:
            op.execute(f"ALTER TABLE {table} SET ({', '.join(_STORAGE)})")
        # Or the server's statistics would keep samples of questions that are answered.
        op.execute("ALTER TABLE questions ALTER COLUMN text SET STATISTICS 0")
