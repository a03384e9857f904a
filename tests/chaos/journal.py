"""What really happened in a storm, and when."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `at` is time.monotonic()."""

    at: float
    kind: str
    words: str


class Journal:
    """Kept by all threads of a storm."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is told of each entry at once, in one line."""
        self.started_at = time.monotonic()
        self._tell = tell
        #: Guards the list below.
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def note(self, kind: str, words: str = "") -> None:
        """Note what happens now."""
        entry = Entry(time.monotonic(), kind, words)
        with self._lock:
            self._entries.append(entry)
        self._tell(f"{entry.at - self.started_at:7.2f}  {kind}  {words}")

    @property
    def entries(self) -> list[Entry]:
        with self._lock:
            return self._entries[:]

    def count(self, kind: str) -> int:
        return Counter(entry.kind for entry in self.entries)[kind]
