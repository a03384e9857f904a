"""What the processes have logged: JSON lines in one file for each run of a process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TROUBLE = ("ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    place: str  #: file:line
    record: Mapping[str, Any]

    def __str__(self) -> str:
        told = {
            key: value
            for key, value in self.record.items()
            if key not in ("time", "level", "logger", "message", "thread", "question", "exception")
        }
        facts = " ".join(f"{key}={value}" for key, value in told.items())
        clock = str(self.record.get("time", ""))[11:23]
        return f"{self.place}  {clock}  {self.record.get('message')}  {facts}"


def lines_in(directory: Path) -> list[Line]:
    """Return all lines, ordered by time; what is not JSON is a line with a message only."""
    lines = [line for path in sorted(directory.glob("process-*.log")) for line in _lines(path)]
    return sorted(lines, key=lambda line: str(line.record.get("time", "")))


def about(lines: Sequence[Line], question: str) -> list[Line]:
    """Return the lines that name a question."""
    return [line for line in lines if line.record.get("question") == question]


def troubles(lines: Sequence[Line]) -> Counter[str]:
    """Count the lines that a person should look into, by what they say."""
    return Counter(_told(line.record) for line in lines if _is_trouble(line.record))


def _is_trouble(record: Mapping[str, Any]) -> bool:
    return record.get("level") in _TROUBLE or "exception" in record


def _told(record: Mapping[str, Any]) -> str:
    kind = (record.get("exception") or {}).get("type")
    words = [record.get("level"), record.get("message"), record.get("error"), kind]
    return " · ".join(str(word) for word in words if word)


def _lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            yield Line(f"{path.name}:{number}", _record(text))


def _record(text: str) -> Mapping[str, Any]:
    """Return a line as a record. A process that was killed may have left half of one."""
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    return {"level": "ERROR", "message": f"cut off or not a record: {text.strip()[:200]}"}
