"""The running bot, from its start to its end: signals, the wait for them, and what goes wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from chatrelaybot.daemon_parts import Parts
from chatrelaybot.daemon_signals import Signals
from chatrelaybot.errors import ChatRelayBotError, ConfigurationError, TransientError
from chatrelaybot.settings import Settings

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Wait between tries to reach Slack, or the database, at start: this · 2ⁿ; seconds.
_FIRST_PATIENCE_SECONDS = 0.5
_MOST_PATIENCE_SECONDS = 30.0


class Daemon:
    """The running bot. `start`, `wait` and `stop` belong to one thread, the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._parts = Parts(settings, patiently=self._patiently, failed=self._fail)
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    @property
    def is_up(self) -> bool:
        """True while the link to Slack is up."""
        return self._parts.links is not None and self._parts.links.is_up

    @property
    def is_ready(self) -> bool:
        """True while what Slack sends can be stored: the link is up, and the database is there."""
        return self.is_up and self._parts.is_storing

    @property
    def running_count(self) -> int:
        """How many questions are being answered."""
        return 0 if self._parts.workers is None else self._parts.workers.running_count

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, stop.

        Raises:
            Exception: What made the daemon stop, where nobody asked it to.
        """
        with closing(Signals(on_stop=self._on_stop, failed=self._fail)):
            try:
                self.start()
                self.wait()
                _log.info("stopping")
            finally:
                self.stop()

    def start(self) -> None:
        """Build and start all parts; the link comes up in the background."""
        try:
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
        self._parts.close()
        if self._parts.workers is not None:
            _log.info("stopped")
        if self._failure is not None:
            raise self._failure

    def _patiently(self, trouble: str, call: Callable[[], _T]) -> _T:
        """Call for as long as it takes to reach the other side, or until we are to stop."""
        delay = _FIRST_PATIENCE_SECONDS
        while True:
            try:
                result = call()
            except TransientError as error:
                _log.warning(trouble, extra={"error": str(error)})
                is_over = self.wait(max(delay, error.retry_after or 0.0))
                delay = min(_MOST_PATIENCE_SECONDS, delay * 2.0)
            else:
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

    def _hurry(self) -> None:
        if self._parts.workers is not None:
            self._parts.workers.hurry()


class LoopDied(ChatRelayBotError):
    """A thread of the daemon died; the log says why."""


class _Stopped(Exception):
    """The daemon was stopped before it had started."""
