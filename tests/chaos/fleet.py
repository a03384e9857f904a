"""The processes: real ones of the real program, each with a log file."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.program import MODULE, environment

#: Seconds until a process that ends by itself is started again, as systemd does.
_REVIVE_SECONDS = 0.5
#: Seconds that a stop may take: the drain, the last calls under way, and a busy machine.
_STOP_SECONDS = 60.0

Note = Callable[[str, str], None]


class Slot:
    """A place where one process at a time is at work. Belongs to one thread."""

    def __init__(self, name: str, launch: Callable[[str], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._launch = launch
        self._process = launch(name)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def start(self) -> None:
        self._process = self._launch(self.name)

    def kill(self) -> None:
        """End it with SIGKILL, frozen or not."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def replace(self, *, is_overlapping: bool) -> bool:
        """Stop it and start its successor; False: it had to be killed."""
        old = self._process
        self._signal(signal.SIGTERM)
        if is_overlapping:
            self.start()
        is_ended = _ended(old)
        if not is_overlapping:
            self.start()
        return is_ended

    def stop(self) -> bool:
        """Stop it for good; False: it had to be killed."""
        self._signal(signal.SIGTERM)
        return _ended(self._process)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


class Fleet:
    """All processes. However it is left, none of them is."""

    def __init__(self, directory: Path, *, count: int, settings: Mapping[str, str]) -> None:
        """`directory` gets the log files, `process-<slot>-<run>.log`."""
        self._directory = directory
        self._environment = environment(**settings)
        #: Guards the list below.
        self._lock = threading.Lock()
        self._launched: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._count = count
        self.slots: tuple[Slot, ...] = ()

    def __enter__(self) -> Self:
        """Start them; the first is named 1."""
        with ExitStack() as parts:
            parts.push(self)
            self.slots = tuple(
                Slot(str(number), self._launch) for number in range(1, self._count + 1)
            )
            parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            launched = [process for _, process in self._launched]
        for process in launched:
            if process.poll() is None:
                process.kill()
        for process in launched:
            process.wait(_STOP_SECONDS)

    def _launch(self, slot: str) -> subprocess.Popen[bytes]:
        with self._lock:
            run = 1 + sum(name == slot for name, _ in self._launched)
            with (self._directory / f"process-{slot}-{run}.log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 our own program
                    [*MODULE, "run"],
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self._launched.append((slot, process))
        return process


def tend(slot: Slot, note: Note, leaving: threading.Event, seconds: float) -> None:
    """Start a process again that ends by itself, for so long or until `leaving`."""
    if slot.is_alive:
        leaving.wait(seconds)
        return
    note("ended by itself", f"process {slot.name}, exit code {slot.exit_code}")
    leaving.wait(_REVIVE_SECONDS)
    if not leaving.is_set():
        slot.start()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
        return False
    return True
