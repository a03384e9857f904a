"""Whose turn it is in a conversation; within the transaction that changes the queue."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from chatrelaybot import statements
from chatrelaybot.schema import State

#: To count thousands takes longer than all else that a new question needs. So this part of the
#: room that was counted is used up before it is counted again: 1 in so many. If other instances
#: fill the queue at the same moment the limit may be exceeded by as much for each of them.
_TRUSTED_PART = 10


def join(connection: Connection, new: Mapping[str, Mapping[str, Any]], limit: int) -> set[str]:
    """Find the place of new questions, stored already; return those that are too many.

    `new` are rows by id. Up to `limit` questions may wait; who comes last is refused.
    """
    refused = list(new)[len(new) - _excess(connection, new, limit) :]
    if refused:
        connection.execute(statements.REFUSE, {"keys": refused})
    accepted = [new[key] for key in new.keys() - refused]
    if accepted:
        _take_turns(connection, accepted)
    return set(refused)


def _excess(connection: Connection, new: Collection[str], limit: int) -> int:
    """Return how many of the new questions, which are stored already, are too many."""
    key = f"trusted room of {limit}"
    trusted: int = connection.info.get(key, 0) - len(new)
    excess = 0
    if trusted < 0:
        room = limit - (connection.scalar(statements.COUNT_WAITING) or 0)
        trusted, excess = max(0, room) // _TRUSTED_PART, min(len(new), max(0, -room))
    connection.info[key] = trusted  # Lives as long as the connection to the database.
    return excess


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
