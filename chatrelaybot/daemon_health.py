"""How the bot is, told to who asks over HTTP, to the service manager, and to the log."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chatrelaybot import daemon_notify as notify
from chatrelaybot import daemon_watch as watch
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.daemon_notify import Notifier
from chatrelaybot.daemon_parts import Parts
from chatrelaybot.daemon_watch import Facts, Watch
from chatrelaybot.settings import Settings

_log = logging.getLogger(__name__)

#: How often every loop is pinged and the watchdog is fed, at the least; seconds.
_PING_SECONDS = 10.0
#: The watchdog is fed so many times before it would bite.
_FEEDS = 3.0
#: For how long the manager is asked to wait for a start or a stop that is under way; it is asked
#: again at each ping. Seconds.
_MORE_SECONDS = 60.0
#: What a stop may take besides DRAIN_SECONDS: a dial, calls that are under way, good-byes; seconds.
_STOP_SECONDS = 60.0


class Health:
    """Looks at the parts, and tells. `start`, `leave` and `close` are for the main thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        parts: Parts,
        notifier: Notifier,
        failed: Callable[[Exception], None],
        metrics: Callable[[], tuple[bytes, str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`metrics()` is what `/metrics` shows: a text and its content type; None: nothing."""
        self._settings = settings
        self._parts = parts
        self._notifier = notifier
        self._failed = failed
        self._metrics = metrics
        self._clock = clock
        self._every = min(_PING_SECONDS, (notifier.watchdog_seconds or math.inf) / _FEEDS)
        self._watch = Watch(parts.loops, every=self._every)
        self._news = threading.Event()
        self._loop = Loop("watch", self._step, failed=failed, wake=self.wake)
        self._close_web: Callable[[], None] = lambda: None
        self.http_port: int | None = None
        # The main thread's; the others only look.
        self._is_stopping = False
        self._call_began_at: float | None = None
        self._waits_for = ""
        # The watching thread's.
        self._ping_at = clock()
        self._told_status = ""
        self._is_announced = False
        self._reported: frozenset[str] = frozenset()

    def start(self) -> None:
        """Tell from now on."""
        self._loop.start()

    def serve(self) -> None:
        """Tell who asks over HTTP, too, unless that is off.

        Raises:
            ConfigurationError: The HTTP server cannot have its port.
            TransientError: Its address is not there yet.
        """
        if self._settings.http_port is not None:
            self._start_web(self._settings.http_port)

    def leave(self) -> None:
        """Tell that a stop has begun, which may take some time."""
        self._is_stopping = True
        seconds = self._settings.drain_seconds + _STOP_SECONDS
        status = notify.status(watch.status(self.facts()))
        self._notifier.tell(notify.stopping(), status, notify.extend(seconds))

    def close(self) -> None:
        """Tell nothing any more."""
        if self._loop.is_alive():
            self._loop.stop()
        self._close_web()

    def wake(self) -> None:
        """Look at once whether there is anything to tell; from any thread."""
        self._news.set()

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While a call of the start is made; `waits_for` says what it cannot reach."""
        self._call_began_at = self._clock()
        try:
            yield
        finally:
            self._call_began_at = None

    def waits_for(self, what: str) -> None:
        """Tell what the start cannot reach, and why; empty: nothing."""
        self._waits_for = what
        self.wake()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While the settings are read again."""
        # Before the start is over, READY=1 would say that it is.
        if not self._is_announced or self._is_stopping:
            yield
            return
        self._notifier.tell(notify.reloading())
        try:
            yield
        finally:
            # One that does not get through is said again, as at the start.
            self._is_announced = self._notifier.tell(notify.ready())
            self.wake()

    def facts(self) -> Facts:
        """Look at everything once; from any thread, and without waiting for anything."""
        parts, now, began_at = self._parts, self._clock(), self._call_began_at
        links, database, workers = parts.links, parts.database, parts.workers
        last_life = links.last_life if links else None
        counts = parts.census.counts if parts.census else None
        return Facts(
            is_started=parts.is_started,
            start_call_seconds=0.0 if began_at is None else now - began_at,
            waits_for=self._waits_for,
            is_stopping=self._is_stopping,
            stuck=self._watch.stuck(now),
            link_silence=None if last_life is None else max(0.0, now - last_life),
            link_trouble=links.trouble if links else "",
            keeper_late=links.late_seconds if links else 0.0,
            is_database_reachable=database is not None and database.is_reachable,
            commit_seconds=database.busy_seconds if database else 0.0,
            is_database_shared=database is not None and database.is_shared,
            running_count=workers.running_count if workers else 0,
            waiting_count=counts.waiting if counts else None,
        )

    def _start_web(self, port: int) -> None:
        # Where it is off, its library is not imported.
        from chatrelaybot.web import Web

        web = Web(
            host=self._settings.http_host,
            port=port,
            live=lambda: watch.live(self.facts()),
            ready=lambda: watch.ready(self.facts()),
            metrics=self._metrics,
            failed=self._failed,
        )
        web.start()
        self.http_port = web.port
        self._close_web = web.close

    def _step(self) -> None:
        self._news.wait(max(0.0, self._ping_at - self._clock()))
        self._news.clear()
        now, facts = self._clock(), self.facts()
        is_due = now >= self._ping_at
        self._tell(facts, is_due=is_due)
        if is_due:
            self._ping_at = now + self._every
            self._report(facts)
            self._watch.ping(now, is_storing=facts.is_storing)

    def _tell(self, facts: Facts, *, is_due: bool) -> None:
        """Tell the service manager what is new, and when it is due that we live."""
        words = []
        is_ready = self._is_announced or watch.is_well(watch.ready(facts))
        if is_ready and not self._is_announced:
            words.append(notify.ready())
        if is_due and watch.is_well(watch.live(facts)):
            if is_ready:
                words.append(notify.alive())
            if not is_ready or facts.is_stopping:
                # Whatever a start, or a stop, is waiting for: as long as everything moves.
                words.append(notify.extend(_MORE_SECONDS))
        status = watch.status(facts)
        if status != self._told_status:
            words.append(notify.status(status))
        if self._notifier.tell(*words):
            self._is_announced, self._told_status = is_ready, status

    def _report(self, facts: Facts) -> None:
        """Log once for each thing that is stuck, and where it is."""
        stuck = {one.name: one for one in facts.stuck}
        for name in stuck.keys() - self._reported:
            extra = {"loop": name, "stuck_seconds": stuck[name].seconds}
            _log.error("a loop is stuck", extra={**extra, "at": self._watch.whereabouts(name)})
        checks = {name: problem for name, problem in watch.live(facts).items() if problem}
        checks.pop("loops", None)
        for name in checks.keys() - self._reported:
            _log.error("stuck", extra={"check": name, "problem": checks[name]})
        for name in self._reported - stuck.keys() - checks.keys():
            _log.warning("moves again", extra={"loop": name})
        self._reported = frozenset(stuck) | frozenset(checks)
