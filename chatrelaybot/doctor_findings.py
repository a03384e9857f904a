"""What the doctor's checks find, as frozen values."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from chatrelaybot.errors import ConfigurationError


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  #: it works, but somebody should look at it
    FAILED = "failed"
    SKIPPED = "skipped"  #: it needs something that is not there


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found. No secret, and no text of a question or an answer."""

    check: str
    verdict: Verdict
    fact: str
    mend: str = ""  #: what a person can do; empty where there is nothing to be done
    is_configuration: bool = False  #: the program would not start with it


def ok(check: str, fact: str, mend: str = "") -> Finding:
    """Find that all is well; `mend` is then a hint."""
    return Finding(check, Verdict.OK, fact, mend)


def warning(check: str, fact: str, mend: str) -> Finding:
    """Find what works, but not as it should."""
    return Finding(check, Verdict.WARNING, fact, mend)


def failed(check: str, fact: str, mend: str) -> Finding:
    """Find what does not work."""
    return Finding(check, Verdict.FAILED, fact, mend)


def wrong(check: str, error: ConfigurationError) -> Finding:
    """Find a setting that the program would not start with."""
    fact = f"{error.setting}: {error.problem}"
    return Finding(check, Verdict.FAILED, fact, error.mend, is_configuration=True)


def skipped(check: str, fact: str, mend: str = "") -> Finding:
    """Say why a check was not made."""
    return Finding(check, Verdict.SKIPPED, fact, mend)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 78 where `run` would end with it, 1 where anything else failed, else 0."""
    failures = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    if any(finding.is_configuration for finding in failures):
        return 78
    return 1 if failures else 0


def ago(seconds: float) -> str:
    """Show how long ago something was, in the largest unit of which there is one."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit} ago"
    return f"{int(seconds)} s ago"
