"""Whose turn it is in a conversation; within the transaction that changes the queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from chatrelaybot import statements
from chatrelaybot.schema import State


def join(connection: Connection, new: Mapping[str, Mapping[str, Any]], limit: int) -> set[str]:
    """Find the place of new questions, stored already; return those that are too many.

    `new` are rows by id. Up to `limit` questions may wait; who comes last is refused.
    """
    waiting = connection.scalar(statements.COUNT_WAITING) or 0
    refused = list(new)[-(waiting - limit) :] if waiting > limit else []
    if refused:
        connection.execute(statements.REFUSE, {"keys": refused})
    accepted = [new[key] for key in new.keys() - refused]
    if accepted:
        _take_turns(connection, accepted)
    return set(refused)


def _take_turns(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Give the turn to those that have nothing before them."""
    firsts: dict[str, tuple[str, str]] = {}
    for row in rows:
        place, rank = row["conversation"], (row["ts"], row["id"])
        firsts[place] = min(rank, firsts.get(place, rank))
    turns = connection.execute(statements.TURNS, {"keys": list(firsts)})
    holders = {turn.conversation: turn for turn in turns}
    given, taken = [], []
    for place, rank in firsts.items():
        holder = holders.get(place)
        if holder is None:
            given.append(rank[1])
        elif holder.state == State.READY and rank < (holder.ts, holder.id):
            # Slack does not promise its order; an older question goes first while it can.
            given.append(rank[1])
            taken.append(holder.id)
    if taken:
        connection.execute(statements.TAKE_TURN, {"keys": taken})
    if given:
        connection.execute(statements.GIVE_TURN, {"keys": given})


def pass_on(connection: Connection, conversation: str) -> None:
    """Give the turn to the oldest question of a conversation, where none has it."""
    connection.execute(statements.PASS_TURN, {"place": conversation})
