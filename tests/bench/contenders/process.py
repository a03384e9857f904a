"""A contender's process: started, measured from outside, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import BOLT, LIMIT, NAIVE, US
from tests.bench.world.remote import ROOT, World
from tests.program import environment

#: What is run, as `python -m …`; ours is installed, the others are found from the root.
_PROGRAMS = {
    US: ("chatrelaybot", "run"),
    NAIVE: ("tests.bench.contenders.naive",),
    BOLT: ("tests.bench.contenders.bolt",),
    LIMIT: ("tests.bench.contenders.acker",),
}
#: Nothing is held back by budgets of ours, unless a case says so.
_OURS = {
    "EDITS_PER_MINUTE": "6000",
    "POSTS_PER_MINUTE": "6000",
    "OTEL_EXPORTER": "none",
    "HTTP_PORT": "off",
    # A stop is not what is measured.
    "DRAIN_SECONDS": "0.1",
}
#: How long a process may take to end when it is asked to; seconds.
_END_SECONDS = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process has used. Memory in bytes."""

    cpu_seconds: float
    rss: int
    pss: int  #: with its share of what it has in common with others
    threads: int
    switches: int  #: context switches of the threads that there are now


class Contender:
    """A running contender."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, started: float) -> None:
        self._process = process
        self._directory = directory
        self.started = started  #: time.monotonic()
        self.link_up = 0.0  #: its link was up; time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def inbox(self) -> Path:
        """Ours alone: its database file."""
        return self._directory / _INBOX

    def usage(self) -> ProcessUsage:
        """Look at what it has used until now."""
        return usage_of(self.pid)

    def log(self) -> str:
        """Return what it has written until now."""
        return (self._directory / _LOG).read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """Ask it to end, then end it."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_LOG, _INBOX = "log", "inbox.sqlite3"


@contextmanager
def start(name: str, world: World, *, workers: int, **settings: str) -> Iterator[Contender]:
    """Start a contender in a world, and wait until its link is up. It is ended with the block.

    Args:
        workers: answers at once.
        settings: further variables of its environment.

    Raises:
        TimeoutError: Its link does not come up.
    """
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        variables = {**world.environment, "WORKERS": str(workers)}
        if name == US:
            variables |= {**_OURS, "DATABASE_URL": f"sqlite:///{directory / _INBOX}"}
        with (directory / _LOG).open("wb") as log:
            started = time.monotonic()
            process = subprocess.Popen(  # noqa: S603 our own programs
                [sys.executable, "-m", *_PROGRAMS[name]],
                # No `.env` is found there.
                cwd=directory,
                env=environment(PYTHONPATH=str(ROOT), **{**variables, **settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        contender = Contender(process, directory, started)
        try:
            contender.link_up = world.wait_for_link(since=started)
            yield contender
        finally:
            contender.end()


def usage_of(pid: int) -> ProcessUsage:
    """Look at what a process has used until now: https://man7.org/linux/man-pages/man5/proc.5.html"""
    proc = Path("/proc") / str(pid)
    # The name in the second field may hold anything, and ends with the last parenthesis.
    fields = (proc / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    rollup = _fields(proc / "smaps_rollup")
    return ProcessUsage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        rss=rollup["Rss"] * 1024,
        pss=rollup["Pss"] * 1024,
        threads=int(fields[17]),
        switches=sum(_switches(task) for task in (proc / "task").iterdir()),
    )


def _switches(task: Path) -> int:
    try:
        status = _fields(task / "status")
    except OSError:  # It has ended.
        return 0
    return status["voluntary_ctxt_switches"] + status["nonvoluntary_ctxt_switches"]


def _fields(file: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines are `name: number …`."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found
