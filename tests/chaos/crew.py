"""Threads that work side by side; what one of them raises ends all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

#: Seconds between two looks at the threads.
_LOOK_SECONDS = 0.2
#: Seconds that a thread has to end once it is told to.
_LEAVE_SECONDS = 90.0


class Crew:
    """Leave it, and every thread is told to leave, and has ended."""

    def __init__(self) -> None:
        #: Set when all are to end.
        self.leaving = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.leaving.set()
        for thread in self._threads:
            thread.join(_LEAVE_SECONDS)
        if kind is None:
            self._raise_failure()

    def start(self, name: str, work: Callable[..., object], *arguments: Any) -> threading.Thread:
        """Let a thread do the work."""
        thread = threading.Thread(
            target=self._guarded, args=(work, *arguments), name=f"chaos-{name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return thread

    def wait_until(self, is_over: Callable[[], bool]) -> None:
        """Wait, and raise what any thread raises."""
        while not is_over():
            self._raise_failure()
            self.leaving.wait(_LOOK_SECONDS)
        self._raise_failure()

    def _guarded(self, work: Callable[..., object], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            self._failures.append(error)

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures[0]
