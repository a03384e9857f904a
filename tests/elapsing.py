"""Time that passes for an inbox, on either engine: its rows grow older."""

from __future__ import annotations

from sqlalchemy import Connection, text

from chatrelaybot.database import Database

_AGEING = (
    "UPDATE questions SET received_at = received_at - :seconds",
    "UPDATE questions SET ready_at = ready_at - :seconds WHERE ready_at <> 0",
    "UPDATE questions SET lease_until = lease_until - :seconds",
    "UPDATE questions SET finished_at = finished_at - :seconds",
    "UPDATE reply_parts SET intent_at = intent_at - :seconds",
    "UPDATE strays SET noted_at = noted_at - :seconds",
    "UPDATE instances SET seen_at = seen_at - :seconds",
    "UPDATE link_times SET seen_at = seen_at - :seconds",
    "UPDATE budgets SET refilled_at = refilled_at - :seconds",
    "UPDATE budgets SET blocked_until = blocked_until - :seconds",
)


def elapse(database: Database, seconds: float) -> None:
    """Let time pass, or with a negative number put the clock back."""

    def age(connection: Connection) -> None:
        for statement in _AGEING:
            connection.execute(text(statement), {"seconds": seconds})

    database.write(age)
