"""Deletes what has been kept for long enough, and clears away what deleted texts leave behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from chatrelaybot.database import Database
from chatrelaybot.errors import TransientError
from chatrelaybot.inbox import Inbox
from chatrelaybot.shared_budget import SharedBudget

_log = logging.getLogger(__name__)

#: How often the files are cleared of deleted texts, at the least; seconds.
_VACUUM_SECONDS = 3600.0


class Upkeep:
    """One thread calls `step` over and over."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        database: Database,
        shared: SharedBudget | None,
        retention_hours: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._database = database
        self._shared = shared
        # Well within the time after which nothing of a question may be left.
        self._vacuum_seconds = min(_VACUUM_SECONDS, retention_hours * 3600.0 / 2.0)
        self._clock = clock
        self._vacuum_at = clock()

    def step(self) -> None:
        """Do what is due."""
        try:
            self._inbox.purge()
            if self._shared is not None:
                self._shared.forget_rested()
            if self._clock() >= self._vacuum_at:
                self._database.vacuum()
                self._vacuum_at = self._clock() + self._vacuum_seconds
        except TransientError as error:
            _log.warning("old questions not cleared away", extra={"error": str(error)})
