"""The program as people start it: a process of its own, in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Longest life of a process in the tests; seconds.
DEADLINE = 60.0
MODULE = (sys.executable, "-m", "chatrelaybot")
#: What the program installs under its own name.
SCRIPT = (str(Path(sys.executable).with_name("chatrelaybot")),)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a process."""

    code: int
    out: str
    err: str


def environment(**settings: str) -> dict[str, str]:
    """Return the settings and what a process cannot do without."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # With the latter, coverage measures processes, too.
        if name in ("PATH", "SYSTEMROOT") or name.startswith("COVERAGE_")
    }
    return {**kept, "LC_ALL": "C.UTF-8", **settings}


def start(
    arguments: Sequence[str],
    directory: Path,
    *,
    program: Sequence[str] = MODULE,
    stdin: str = "",
    **settings: str,
) -> subprocess.Popen[str]:
    """Start the program in a directory. Whoever starts it waits for it, with `ended`."""
    process = subprocess.Popen(  # noqa: S603 our own program
        [*program, *arguments],
        cwd=directory,
        env=environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    return process


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a process, which is ended if it takes too long."""
    try:
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def run(
    arguments: Sequence[str],
    directory: Path,
    *,
    program: Sequence[str] = MODULE,
    **settings: str,
) -> Ended:
    """Run the program to its end."""
    return ended(start(arguments, directory, program=program, **settings))
