"""The launcher's other end: starts daemons that die where they are told, and waits for them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from tests.program import environment

#: Nothing that the launcher does takes longer; seconds.
_DEADLINE = 30.0
_ROOT = Path(__file__).parents[2]


class Child:
    """One daemon."""

    def __init__(self, run: int, log: Path) -> None:
        self.run = run
        self.log = log
        self.pid: Future[int] = Future()
        self.status: Future[int] = Future()  #: its exit code; negative: the signal that killed it

    @property
    def was_killed(self) -> bool:
        return self.status.done() and self.status.result() == -signal.SIGKILL

    def signal(self, number: signal.Signals) -> None:
        if not self.status.done():
            os.kill(self.pid.result(_DEADLINE), number)


class Launcher:
    """The launcher's process. May be used from any thread; however it is left, no child lives."""

    def __init__(self, directory: Path) -> None:
        """`directory` gets the logs."""
        self._directory = directory
        self._runs = itertools.count(1)
        #: Guards the writing of commands, and the children by their runs.
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}

    def __enter__(self) -> Self:
        settings = {
            name: value for name, value in environment().items() if not name.startswith("COV")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"],
            cwd=self._directory,
            env={**settings, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="launcher-reader", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(BrokenPipeError):
                self._stdin.close()
            self._process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            # Its children are of the same group, which nobody else is of.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_DEADLINE)
        self._reader.join(_DEADLINE)

    def start(self, settings: Mapping[str, str]) -> Child:
        """Start a daemon."""
        with self._lock:
            run = next(self._runs)
            child = self._children[run] = Child(run, self._directory / f"run-{run}.log")
            self._tell({"run": run, "log": str(child.log), "environment": dict(settings)})
        return child

    def kill(self, child: Child) -> None:
        """Kill a daemon, and wait for its end."""
        with self._lock:
            self._tell({"kill": child.run})
        child.status.result(_DEADLINE)

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, command: Mapping[str, object]) -> None:
        self._stdin.write(json.dumps(command) + "\n")
        self._stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as reports:
            for line in reports:
                self._note(json.loads(line))

    def _note(self, report: Mapping[str, int]) -> None:
        with self._lock:
            child = self._children[report["run"]]
        if "pid" in report:
            child.pid.set_result(report["pid"])
        else:
            child.status.set_result(report["status"])
