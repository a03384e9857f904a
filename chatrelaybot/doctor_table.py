"""What `chatrelaybot doctor` prints: a table for people, or one JSON document for machines."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from chatrelaybot.doctor_findings import Finding, Verdict, exit_code

#: Columns that a line has at most, and at least where a terminal is narrower; and the width of
#: the checks' names.
WIDTH = 100
_LEAST_WIDTH = 40
_NAMES = 11
_INDENT = " " * (2 + _NAMES + 2)
_SIGNS = {Verdict.OK: "✓", Verdict.WARNING: "!", Verdict.FAILED: "✗", Verdict.SKIPPED: "–"}
#: https://en.wikipedia.org/wiki/ANSI_escape_code#Colors
_COLOURS = {Verdict.OK: 32, Verdict.WARNING: 33, Verdict.FAILED: 31, Verdict.SKIPPED: 90}
_WORDS = {
    Verdict.OK: "ok",
    Verdict.WARNING: "to look at",
    Verdict.FAILED: "failed",
    Verdict.SKIPPED: "skipped",
}


#: What stands for signs that an encoding lacks.
_PLAIN = str.maketrans(
    {"✓": "+", "✗": "x", "–": "-", "→": ">", "·": "|", "…": "...", "“": '"', "”": '"'}
)


def plain(text: str, encoding: str) -> str:
    """Return the text in signs that the encoding has; all of ours are there, or none is used."""
    try:
        "".join(map(chr, _PLAIN)).encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, errors="replace").decode(encoding)


def lines(finding: Finding, *, has_colour: bool, width: int = WIDTH) -> Iterator[str]:
    """Yield the lines of one finding: sign, check and fact, and below it what can be done."""
    sign = _SIGNS[finding.verdict]
    if has_colour:
        sign = f"\x1b[{_COLOURS[finding.verdict]}m{sign}\x1b[0m"
    first, *more = _wrapped(finding.fact, width) or [""]
    yield f"{sign} {finding.check:<{_NAMES}}  {first}".rstrip()
    for line in more:
        yield f"{_INDENT}{line}"
    for number, line in enumerate(_wrapped(finding.mend, width - 2)):
        yield f"{_INDENT}{'  ' if number else '→ '}{line}"


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line: how many checks ended how."""
    counts = Counter(finding.verdict for finding in findings)
    return " · ".join(f"{counts[each]} {word}" for each, word in _WORDS.items() if counts[each])


def document(findings: Sequence[Finding]) -> str:
    """Return all findings as one JSON document."""
    code = exit_code(findings)
    return json.dumps(
        {
            "ok": code == 0,
            "exit_code": code,
            "findings": [
                {
                    "check": finding.check,
                    "verdict": finding.verdict,
                    "fact": finding.fact,
                    "mend": finding.mend or None,
                }
                for finding in findings
            ],
        },
        indent=2,
    )


def _wrapped(text: str, width: int) -> list[str]:
    room = max(width, _LEAST_WIDTH) - len(_INDENT)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
