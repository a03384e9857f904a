"""Writes that wait for the database's writer at the same moment, and so share a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from chatrelaybot.database import Database

#: Longer than any wait here should take; seconds.
_DEADLINE = 30.0

_T = TypeVar("_T")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def together(
    database: Database, callers: ThreadPoolExecutor, acts: Sequence[Callable[[], _T]]
) -> list[Future[_T]]:
    """Have the writer take what the acts write at the same moment, in their order."""
    is_held, go_on = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        is_held.set()
        assert go_on.wait(_DEADLINE)

    holding = callers.submit(database.write, hold)
    assert is_held.wait(_DEADLINE)
    futures = []
    for count, act in enumerate(acts, start=1):
        futures.append(callers.submit(act))
        wait_until(partial(_has_waiting, database, count))
    go_on.set()
    holding.result(_DEADLINE)
    return futures


def writes(
    database: Database, works: Sequence[Callable[[Connection], _T]]
) -> list[Callable[[], _T]]:
    """Return acts that write the works."""
    return [partial(database.write, work) for work in works]


def _has_waiting(database: Database, count: int) -> bool:
    return f"{count} waiting" in repr(database)
