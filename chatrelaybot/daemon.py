"""The running bot, from its start to its end: signals, the wait for them, and what goes wrong."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from chatrelaybot import daemon_telemetry
from chatrelaybot.daemon_health import Health
from chatrelaybot.daemon_notify import Notifier
from chatrelaybot.daemon_parts import Parts
from chatrelaybot.daemon_reload import Reload
from chatrelaybot.daemon_signals import Signals
from chatrelaybot.daemon_watch import is_well, ready
from chatrelaybot.errors import ChatRelayBotError, ConfigurationError, TransientError
from chatrelaybot.settings import Settings
from chatrelaybot.settings_otel import otel_variables

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Wait between tries to reach Slack, or the database, at start: this · 2ⁿ; seconds.
_FIRST_PATIENCE_SECONDS = 0.5
_MOST_PATIENCE_SECONDS = 30.0


class Daemon:
    """The running bot. `start`, `wait` and `stop` belong to one thread, the main thread."""

    def __init__(self, settings: Settings, *, reread: Callable[[], Settings] | None = None) -> None:
        """`reread()` reads the settings again when we are told to; None: they stay as they are."""
        self._telemetry = daemon_telemetry.opened(settings)
        self._parts = Parts(
            settings,
            telemetry=self._telemetry,
            patiently=self._patiently,
            failed=self._fail,
            on_change=self._on_change,
        )
        self._health = Health(
            settings,
            parts=self._parts,
            notifier=Notifier(os.environ),
            failed=self._fail,
            metrics=self._telemetry.scrape,
        )
        self._reload = Reload(
            settings, reread=reread, answer_in=self._parts.answer_in, otel_variables=otel_variables
        )
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    @property
    def is_up(self) -> bool:
        """True while the link to Slack is up."""
        return self._parts.links is not None and self._parts.links.is_up

    @property
    def is_ready(self) -> bool:
        """True while what Slack sends can be stored and answered."""
        return is_well(ready(self._health.facts()))

    @property
    def http_port(self) -> int | None:
        """Where health is served; None: nowhere."""
        return self._health.http_port

    @property
    def running_count(self) -> int:
        """How many questions are being answered."""
        return 0 if self._parts.workers is None else self._parts.workers.running_count

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, stop.

        Raises:
            Exception: What made the daemon stop, where nobody asked it to.
        """
        _allow_open_files()
        signals = Signals(on_stop=self._on_stop, on_reload=self.reload, failed=self._fail)
        with closing(signals):
            try:
                self.start()
                self.wait()
                _log.info("stopping")
            finally:
                self.stop()

    def start(self) -> None:
        """Build and start all parts; the link comes up in the background."""
        self._health.start()  # First, so that who asks meanwhile is told what it waits for.
        try:
            self._patiently("health not served", self._health.serve)
            self._parts.start()
        except _Stopped:
            _log.info("stopped before the start was over")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the daemon is to stop; False: it is not yet."""
        return self._stopping.wait(timeout)

    def stop(self) -> None:
        """Stop all parts in the reverse order of their start.

        Raises:
            Exception: What made the daemon stop, where nobody asked it to.
        """
        self._stopping.set()
        self._health.leave()
        self._parts.close()
        self._health.close()
        daemon_telemetry.close(self._telemetry)
        if self._parts.workers is not None:
            _log.info("stopped")
        if self._failure is not None:
            raise self._failure

    def reload(self) -> None:
        """Read the settings again; one thread at a time."""
        with self._health.reloading():
            self._reload.step()

    def _patiently(self, trouble: str, call: Callable[[], _T]) -> _T:
        """Call for as long as it takes to reach the other side, or until we are to stop."""
        delay = _FIRST_PATIENCE_SECONDS
        while True:
            try:
                with self._health.starting():
                    result = call()
            except TransientError as error:
                _log.warning(trouble, extra={"error": str(error)})
                self._health.waits_for(f"{trouble}: {error}")
                is_over = self.wait(max(delay, error.retry_after or 0.0))
                delay = min(_MOST_PATIENCE_SECONDS, delay * 2.0)
            else:
                self._health.waits_for("")
                if not self._stopping.is_set():
                    return result
                is_over = True
            if is_over:
                raise _Stopped

    def _fail(self, error: Exception) -> None:
        """Stop the daemon because of what a loop has raised; on that loop's thread."""
        if self._failure is not None:
            _log.warning("another loop died", extra={"error": type(error).__name__})
        elif isinstance(error, ConfigurationError):
            self._failure = error
        else:
            _log.critical("a loop died", exc_info=error)
            self._failure = LoopDied()
        self._hurry()
        self._stopping.set()

    def _on_stop(self) -> None:
        """Stop, or where that is under way already hurry; on the thread that takes signals."""
        if self._stopping.is_set():
            self._hurry()
        self._stopping.set()

    def _on_change(self) -> None:
        self._health.wake()

    def _hurry(self) -> None:
        if self._parts.workers is not None:
            self._parts.workers.hurry()


def _allow_open_files() -> None:
    """Open as many files as we may: each answer has some, and what is usual ends at 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class LoopDied(ChatRelayBotError):
    """A thread of the daemon died; the log says why."""


class _Stopped(Exception):
    """The daemon was stopped before it had started."""
