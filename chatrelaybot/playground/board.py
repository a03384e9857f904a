"""The one lock of the workspace, and waiting for what it guards to change.

Test threads and the loop's thread both read and write the workspace's state (messages, calls,
deliveries, faults, budgets). All of it is guarded by the one lock of one `Board`, held for single
steps. Sockets are the loop's alone and are reached through `call_soon_threadsafe`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chatrelaybot.playground.messages import StoredMessage

T = TypeVar("T")

#: Seconds. What is waited for may also depend on what the board knows nothing of.
_LOOK_AGAIN_SECONDS = 0.05


class NeverHappened(AssertionError, TimeoutError):
    """What was waited for did not happen in time."""


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody who watches the workspace is told."""

    kind: str  #: posted, edited, deleted, reacted, unreacted
    message: StoredMessage  #: as it is after the change


class Board:
    """Hold the lock with `with board:`; whoever changes state calls `touch` or `tell`."""

    def __init__(self, *, call_soon: Callable[..., object]) -> None:
        """`call_soon(callback, *args)` runs the callback in the loop, in order, later."""
        # Guards the state of the whole workspace, `_change_count` and `_listeners`.
        self._changed = threading.Condition(threading.RLock())
        self._change_count = 0
        self._listeners: list[Callable[[Change], None]] = []
        self._call_soon = call_soon

    def __enter__(self) -> None:
        self._changed.acquire()

    def __exit__(self, *_: object) -> None:
        self._changed.release()

    def touch(self) -> None:
        """Wake everybody who waits; the caller holds the lock."""
        self._change_count += 1
        self._changed.notify_all()

    def tell(self, kind: str, message: StoredMessage) -> None:
        """Wake everybody, and tell the listeners; the caller holds the lock."""
        self.touch()
        for listener in self._listeners:
            self._call_soon(listener, Change(kind, message))

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` in the loop's thread at each change; return how to stop that.

        A queue's `put_nowait` is a good listener: it cannot hold the loop up.
        """
        with self:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self:
                self._listeners.remove(listener)

        return unsubscribe

    def wait_for(
        self, predicate: Callable[[], T], *, timeout: float, describe: Callable[[], str]
    ) -> T:
        """Return the first true value of the predicate, which is called without the lock."""
        deadline = time.monotonic() + timeout
        while True:
            with self:
                seen = self._change_count
            if result := predicate():
                return result
            left = deadline - time.monotonic()
            if left <= 0:
                raise NeverHappened(f"not within {timeout} s\n{describe()}")
            with self:
                if self._change_count == seen:
                    self._changed.wait(min(left, _LOOK_AGAIN_SECONDS))
