"""Signals, taken on a thread of their own.

Python runs a handler in the main thread and nowhere else, between two of its steps. A signal that
comes just before that thread begins to wait for a lock is noticed when the wait is over: that may
be never. What C writes down at once, a thread can wait for:
https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from chatrelaybot.daemon_loop import Loop

_STOPS = (signal.SIGTERM, signal.SIGINT)
_RELOAD = signal.SIGHUP
_STDIN = 0
_NO_SIGNAL = b"\0"


class Signals:
    """Calls `on_stop` for each signal that asks for a stop, and `on_reload` for SIGHUP.

    For the main thread of a program; both are called on another one.
    """

    def __init__(
        self,
        *,
        on_stop: Callable[[], None],
        on_reload: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._on_stop = on_stop
        self._on_reload = on_reload
        self._has_terminal = os.isatty(_STDIN)
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._loop = Loop("signals", self._step, failed=failed, wake=self._wake)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*_STOPS, _RELOAD):
            signal.signal(number, lambda *_: None)
        self._loop.start()

    def close(self) -> None:
        """Take no more signals; those that come from now on are without effect."""
        signal.set_wakeup_fd(-1)
        self._loop.stop()
        self._reader.close()
        self._writer.close()

    def _step(self) -> None:
        for number in self._reader.recv(16):
            # A terminal that is closed hangs up, too, and nobody could stop us any more.
            is_orphaned = self._has_terminal and not os.isatty(_STDIN)
            if number in _STOPS or (number == _RELOAD and is_orphaned):
                self._on_stop()
            elif number == _RELOAD:
                self._on_reload()

    def _wake(self) -> None:
        self._writer.send(_NO_SIGNAL)
