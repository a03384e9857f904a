"""Counts what is in the inbox now and then, for whoever wants to show it without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatrelaybot.delivery import Counts
from chatrelaybot.errors import TransientError
from chatrelaybot.inbox import Inbox

#: Between two counts; seconds.
_COUNT_SECONDS = 10.0
#: What was counted so long ago is not shown any more; seconds.
_OLD_SECONDS = 60.0


class Census:
    """One thread calls `step` over and over; any thread may look at `counts`."""

    def __init__(self, *, inbox: Inbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._inbox = inbox
        self._clock = clock
        self._due = clock()
        #: With the time; replaced as a whole.
        self._counted: tuple[Counts, float] | None = None

    @property
    def counts(self) -> Counts | None:
        """What was counted lately; None: not known, the database is away or slow."""
        counted = self._counted
        if counted is None or self._clock() - counted[1] > _OLD_SECONDS:
            return None
        return counted[0]

    def step(self) -> None:
        """Count, where the last time is long enough ago."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + _COUNT_SECONDS
        try:
            self._counted = (self._inbox.counts(), self._clock())
        except TransientError:
            # Whoever writes has said so already.
            self._counted = None
