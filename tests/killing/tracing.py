"""Following the daemon line by line, in its own process: to count its lines, or to die at one."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

import chatrelaybot
from chatrelaybot.inbox import Inbox
from chatrelaybot.link import Links

#: The modules that a question passes through.
MODULES = (
    "listener",
    "inbox",
    "turns",
    "workers",
    "relay",
    "editor",
    "draft",
    "sender",
    "conclusion",
    "delivery",
    "database",
)
PACKAGE = Path(chatrelaybot.__file__).parent

#: Dies at the n-th run of a line: `sender.py:87:2`.
KILL_AT = "KILL_AT"
#: Writes how often each line was run into this file, on SIGUSR1.
COUNT_INTO = "KILL_COUNT_INTO"
#: Does so only from the moment when this text comes from Slack; unset: from the start, when what
#: an earlier process has left is taken up.
ARMED_BY = "KILL_ARMED_BY"


@dataclass(frozen=True, slots=True, order=True)
class FailPoint:
    """Just before a line is run, for the n-th time."""

    file: str  #: its name alone
    line: int
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.hit}"

    @classmethod
    def parse(cls, text: str) -> Self:
        file, line, hit = text.split(":")
        return cls(file, int(line), int(hit))

    @property
    def source(self) -> str:
        """The text of the line."""
        return (PACKAGE / self.file).read_text().splitlines()[self.line - 1].strip()


class Tracer:
    """Is told of each line of the modules that it watches, once it is armed."""

    def __init__(self, *, files: frozenset[str], armed_by: str | None) -> None:
        self._files = files
        self._armed_by = armed_by.encode() if armed_by else None
        self._is_armed = False

    def install(self) -> None:
        """Watch this thread, and those that start from now on."""
        threading.settrace(self._called)
        sys.settrace(self._called)

    def reached(self, file: str, line: int) -> None:
        """Do what is to be done before this line."""
        raise NotImplementedError

    def is_wanted(self, code: CodeType) -> bool:
        """Say whether lines of a function in one of the files matter."""
        raise NotImplementedError

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not self._is_armed:
            if code is Links.receive.__code__ and self._armed_by is not None:
                frame.f_trace_lines = False
                return self._received
            if code is Inbox.recover.__code__ and self._armed_by is None:
                self._is_armed = True
        # What runs already when it is armed counts as well.
        wanted = code.co_filename in self._files and self.is_wanted(code)
        return self._ran if wanted else None

    def _ran(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and self._is_armed:
            self.reached(frame.f_code.co_filename, frame.f_lineno)
        return self._ran

    def _received(self, _frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return" and self._armed_by is not None and argument:
            self._is_armed |= any(self._armed_by in received.text for received in argument)
        return self._received


class Killer(Tracer):
    """Kills the process just before a line is run."""

    def __init__(self, point: FailPoint, *, armed_by: str | None) -> None:
        super().__init__(files=frozenset({str(PACKAGE / point.file)}), armed_by=armed_by)
        self._point = point
        self._hits = itertools.count(1)

    def is_wanted(self, code: CodeType) -> bool:
        return any(line == self._point.line for *_, line in code.co_lines())

    def reached(self, _file: str, line: int) -> None:
        if line == self._point.line and next(self._hits) == self._point.hit:
            os.kill(os.getpid(), signal.SIGKILL)


class LineCounter(Tracer):
    """Counts how often each line is run."""

    def __init__(self, into: Path, *, armed_by: str | None) -> None:
        files = frozenset(str(PACKAGE / f"{module}.py") for module in MODULES)
        super().__init__(files=files, armed_by=armed_by)
        self._into = into
        self._counts: Counter[tuple[str, int]] = Counter()

    def install(self) -> None:
        signal.signal(signal.SIGUSR1, self._write)
        super().install()

    def is_wanted(self, _code: CodeType) -> bool:
        return True

    def reached(self, file: str, line: int) -> None:
        self._counts[file, line] += 1

    def _write(self, _number: int, _frame: FrameType | None) -> None:
        rows = [[Path(file).name, line, count] for (file, line), count in [*self._counts.items()]]
        half_written = self._into.with_suffix(".new")
        half_written.write_text(json.dumps(rows))
        half_written.rename(self._into)


def install(environment: Mapping[str, str]) -> None:
    """Install what the environment asks for, if anything."""
    armed_by = environment.get(ARMED_BY)
    if KILL_AT in environment:
        Killer(FailPoint.parse(environment[KILL_AT]), armed_by=armed_by).install()
    elif COUNT_INTO in environment:
        LineCounter(Path(environment[COUNT_INTO]), armed_by=armed_by).install()
