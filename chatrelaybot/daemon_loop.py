"""A thread that does the same thing over and over until it is told to stop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

#: How many calls of a stuck step are shown, from the innermost outwards.
_MOST_FRAMES = 12


class Loop(threading.Thread):
    """A thread that calls `step` until it is told to stop; what it raises takes the daemon down.

    With `every` (seconds) it waits between two steps. `afterwards` is called over and over once a
    step has failed, where others wait for this thread.

    Somebody else may `ping` it from time to time, and see from `late_seconds` whether it still
    moves: a step that rests is ended by the second ping, so one that goes on is at work, or hangs.
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
        self.title = name
        self._step = step
        self._failed = failed
        self._wake = wake
        self._every = every
        self._afterwards = afterwards
        self._stopping = threading.Event()
        # The thread's own; a look at them may be taken from any.
        self._step_count = 0
        self._is_stepping = False
        #: The step that the last ping met, and when it was first asked to end; None: it was not.
        #: Belongs to who pings.
        self._met: tuple[int, float | None] = (0, None)

    def run(self) -> None:
        """Loop; the body of the thread."""
        try:
            while not self._stopping.is_set():
                self._step_count += 1
                self._is_stepping = True
                self._step()
                self._is_stepping = False
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

    def ping(self, now: float) -> None:
        """Ask the current step to end its rest, if the last ping has met it already."""
        step_count, asked_at = self._met
        if step_count != self._step_count:
            self.forgive()  # It has moved by itself.
            return
        if asked_at is None:
            self._met = (step_count, now)
        self._wake()

    def forgive(self) -> None:
        """Let the patience with the current step begin anew."""
        self._met = (self._step_count, None)

    def late_seconds(self, now: float) -> float:
        """How long the current step has gone on since it was asked to end."""
        step_count, asked_at = self._met
        if asked_at is None or step_count != self._step_count or not self._is_stepping:
            return 0.0
        return 0.0 if self._stopping.is_set() else now - asked_at

    def whereabouts(self) -> str:
        """Say where the thread is in the code, the innermost call first; no values of anything."""
        # There is no other way to see a thread that does not answer.
        frame = sys._current_frames().get(self.ident or 0)
        return " < ".join(_places(frame))


def _places(frame: FrameType | None) -> list[str]:
    places: list[str] = []
    while frame is not None and len(places) < _MOST_FRAMES:
        code = frame.f_code
        places.append(f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return places
