"""A service manager of the tests' own: the socket that a real one listens on, and what it hears."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

#: Longest wait of anything here, seconds.
DEADLINE = 20.0


class ServiceManager:
    """Hears what a service tells, from the beginning to the end of the context."""

    def __init__(self, directory: Path) -> None:
        self.address = f"{directory}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen)
        #: Guards the list; notified when it grows.
        self._news = threading.Condition()
        self._heard: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(DEADLINE)
        self._socket.close()

    @property
    def heard(self) -> list[str]:
        """All assignments so far, in order; their names are unlike each other."""
        with self._news:
            return list(self._heard)

    def count(self, word: str) -> int:
        """How often something was heard."""
        return self.heard.count(word)

    def wait_for(self, is_heard: Callable[[list[str]], object], timeout: float = DEADLINE) -> None:
        """Wait until what was heard is as it should be."""
        with self._news:
            assert self._news.wait_for(lambda: is_heard(self._heard), timeout), self._heard

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while message := self._socket.recv(65536):
                with self._news:
                    self._heard += message.decode().split("\n")
                    self._news.notify_all()
