"""A thread that does the same thing over and over until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Loop(threading.Thread):
    """A thread that calls `step` until it is told to stop; what it raises takes the daemon down.

    With `every` (seconds) it waits between two steps. `afterwards` is called over and over once a
    step has failed, where others wait for this thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], object],
        *,
        failed: Callable[[Exception], None],
        wake: Callable[[], None] = lambda: None,
        every: float = 0.0,
        afterwards: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name=f"chatrelaybot-{name}", daemon=True)
        self._step = step
        self._failed = failed
        self._wake = wake
        self._every = every
        self._afterwards = afterwards
        self._stopping = threading.Event()

    def run(self) -> None:
        """Loop; the body of the thread."""
        try:
            while not self._stopping.is_set():
                self._step()
                if self._every:
                    self._stopping.wait(self._every)
        except Exception as error:  # noqa: BLE001 - the top of a thread
            self._failed(error)
            while self._afterwards is not None and not self._stopping.is_set():
                self._afterwards()

    def stop(self) -> None:
        """End the loop after its current step."""
        self._stopping.set()
        self._wake()
        self.join()
