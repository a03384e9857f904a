"""Which lines a process is killed at. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.killing.tracing import FailPoint
from tests.killing.verdict import Case

#: How often each line was run, by file and number.
Lines = Mapping[tuple[str, int], int]

#: What they do depends on the kind of question, so their lines are cases of every kind.
_OWN_FILES = frozenset({"sender.py", "conclusion.py", "draft.py"})


def first_runs(kind: str, lines: Lines) -> list[Case]:
    """Return a case for each line, killed when it is first run."""
    return [Case(kind, FailPoint(file, line)) for file, line in sorted(lines)]


def further_runs(kind: str, lines: Lines, known: Lines) -> list[Case]:
    """Return a case for each line that the known ones do not make needless.

    What is known is killed at a later run, where there is one: the first is a case already.
    """
    return [
        Case(kind, FailPoint(file, line, (count + 2) // 2 if (file, line) in known else 1))
        for (file, line), count in sorted(lines.items())
        if file in _OWN_FILES or (file, line) not in known
    ]


def spread(cases: Sequence[Case], *, share: int, seed: int) -> list[Case]:
    """Return every `share`-th case; as many seeds in a row choose each of them once."""
    return list(cases[seed % share :: share])
