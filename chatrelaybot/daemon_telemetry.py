"""The daemon's telemetry: what it is told to do, what it looks at, and its end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from chatrelaybot.budget import Bucket, Method, WorkspaceBudget
from chatrelaybot.census import Census
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts
from chatrelaybot.link import Links
from chatrelaybot.settings import Settings
from chatrelaybot.settings_otel import otel_variables
from chatrelaybot.telemetry import Telemetry
from chatrelaybot.telemetry_metrics import (
    BUDGET_LEFT,
    BURIED,
    DATABASE_UP,
    DATABASE_WAITING,
    LINK_DOWN_TIME,
    LINK_UP,
    OLDEST_WAIT,
    RUNNING,
    WAITING,
    WORKERS,
    Attributes,
    Instrument,
)
from chatrelaybot.workers import Workers

#: What a stop waits at most for a collector that is slow or away; seconds.
_FLUSH_SECONDS = 3.0


def opened(settings: Settings) -> Telemetry:
    """Begin as the settings say, for a process with a name that no other one has, nor ever had.

    Raises:
        ConfigurationError: What is asked for cannot be had.
    """
    return Telemetry(
        exporter=settings.otel_exporter,
        variables=otel_variables(),
        instance=f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}",
        has_scrapes=settings.http_port is not None,
    )


def close(telemetry: Telemetry) -> None:
    """Send what is left, for as long as that may take."""
    telemetry.mute()
    # Daemons: one that a dead collector keeps busy must not hold up the end of the process.
    threads = [
        threading.Thread(target=send, name="chatrelaybot-flush", daemon=True)
        for send in telemetry.closers
    ]
    deadline = time.monotonic() + _FLUSH_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


class Gauges:
    """What is looked at whenever somebody wants to know. None of it waits for anybody."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._metrics = telemetry.metrics
        self._is_over = False

    def end(self) -> None:
        """Show nothing any more: what is taken apart is not what an alarm is for."""
        self._is_over = True

    def watch_database(self, database: Database, census: Census) -> None:
        """Show the database and what is in it."""
        self._show(DATABASE_UP, lambda: database.is_storing)
        self._show(DATABASE_WAITING, lambda: database.waiting_count)
        self._show(WAITING, lambda: _of(census, lambda counts: counts.waiting))
        self._show(BURIED, lambda: _of(census, lambda counts: counts.dead))
        self._show(OLDEST_WAIT, lambda: _of(census, lambda counts: counts.oldest_seconds or 0.0))

    def watch_budgets(
        self, budget: WorkspaceBudget, buckets: Callable[[], Mapping[Method, Bucket]]
    ) -> None:
        """Show how many calls Slack lets us make; of the `budget` only what it is when full."""

        def read() -> Iterator[tuple[float, Attributes]]:
            now = time.monotonic()
            for method, bucket in buckets().items():
                whole = budget.full(method, now)
                whole.restore(bucket)
                yield whole.left(now), {"method": method.value}

        self._metrics.observe(BUDGET_LEFT, read)

    def watch_workers(self, workers: Workers, *, size: int) -> None:
        """Show how many answers run, of how many that could."""
        self._show(RUNNING, lambda: workers.running_count)
        self._show(WORKERS, lambda: size)

    def watch_links(self, links: Links) -> None:
        """Show whether Slack can reach us."""
        self._show(LINK_UP, lambda: links.is_up)
        self._show(LINK_DOWN_TIME, lambda: links.downtime_seconds)

    def _show(self, instrument: Instrument, value: Callable[[], float | None]) -> None:
        def read() -> Iterable[tuple[float, Attributes]]:
            now = None if self._is_over else value()
            return () if now is None else ((float(now), {}),)

        self._metrics.observe(instrument, read)


def _of(census: Census, value: Callable[[Counts], float]) -> float | None:
    counts = census.counts
    return None if counts is None else value(counts)
