"""How long there was no link, and why links had to be replaced."""

from __future__ import annotations

from collections.abc import Callable

from chatrelaybot.telemetry_metrics import RECONNECTS, Metrics, Words


class LinkRecord:
    """One thread notes; any thread may look."""

    def __init__(self, *, clock: Callable[[], float], metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._reasons = Words()  # Some of them are the words of others.
        #: The seconds without a link before the current one, and since when there is none (None:
        #: there is one). Replaced together, so that a look never sees only one of them changed.
        self._down: tuple[float, float | None] = (0.0, clock())

    @property
    def downtime_seconds(self) -> float:
        """How long there was no link, all in all."""
        before, since = self._down
        return before if since is None else before + self._clock() - since

    def came_up(self) -> None:
        """Note that a link is up."""
        self._down = (self.downtime_seconds, None)

    def went_down(self) -> None:
        """Note that there is none."""
        if self._down[1] is None:
            self._down = (self._down[0], self._clock())

    def replaced(self, reason: str) -> None:
        """Note that a link is to be replaced, or that one could not be had."""
        self._metrics.count(RECONNECTS, attributes={"reason": self._reasons.of(reason)})
