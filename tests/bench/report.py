"""The bench's table, its JSON, and the comparison with an earlier run."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chatrelaybot
from tests.bench.figures import BOLT, LIMIT, NAIVE, US, Figure, Findings, Plan

#: The rows of the table.
ROW_NAMES = {
    1: "first text",
    2: "placeholder",
    3: "last text",
    4: "under a budget",
    5: "freshness under a budget",
    6: "a Slack call",
    7: "a relayed part",
    8: "many answers at once",
    9: "intake",
    10: "growth",
    11: "start",
    12: "idle",
    13: "inbox",
    14: "telemetry",
}
_CONTENDERS = (US, NAIVE, BOLT, LIMIT)
_WIDTH = 120
#: Columns after the first one: the contenders, what must be reached, whether it is.
_HEADS = (*_CONTENDERS, "must reach", "")


@dataclass(slots=True)
class Report:
    """All that a run has found. `crashes` are rows that ended in an error, a sentence each."""

    plan: Plan
    findings: Findings = field(default_factory=Findings)
    crashes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 where a text of ours is lost or wrong, or a row crashed; never because of time."""
        return 1 if self.findings.flaws or self.crashes else 0

    def text(self) -> str:
        """Return the table, then notes, then what is wrong."""
        findings = self.findings
        lines = [*_table(findings.figures), ""]
        lines += _listed("notes", findings.notes)
        lines += _listed("CRASHED", self.crashes)
        lines += _listed("LOST OR WRONG TEXT", findings.flaws)
        return "\n".join(lines).rstrip() + "\n"

    def json(self) -> str:
        """Return everything that was found, and on what; no name of a host, no path."""
        findings = self.findings
        content = {
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "version": chatrelaybot.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "rounds": self.plan.rounds,
            "is_quick": self.plan.is_quick,
            "figures": [_fields(figure) for figure in findings.figures],
            "flaws": findings.flaws,
            "crashes": self.crashes,
            "notes": findings.notes,
            "curves": findings.curves,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def comparison(self, earlier: str) -> str:
        """Return how our figures have changed since an earlier run, given as its JSON."""
        before = {_key(one): one for one in map(_figure, json.loads(earlier)["figures"])}
        ours = [figure for figure in self.findings.figures if figure.contender == US]
        lines = [_change(before[_key(figure)], figure) for figure in ours if _key(figure) in before]
        lines = lines or ["no figure of ours is in both runs"]
        return "\n".join(["against the earlier run (median, beyond both spreads: *)", *lines, ""])


def number(value: float) -> str:
    """Write a number with two or three digits that count."""
    size = abs(value)
    if size >= 100.0 or value == 0.0:
        return f"{value:.0f}"
    decimals = 1 if size >= 10.0 else 2 if size >= 0.01 else 3
    return f"{value:.{decimals}f}"


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    lines = _grouped(figures)
    cells = {key: _cells(line) for key, line in lines.items()}
    widths = [
        max([len(head), *(len(row[index]) for row in cells.values())])
        for index, head in enumerate(_HEADS)
    ]
    room = max(20, _WIDTH - sum(widths) - 2 * len(widths))
    yield _line("", _HEADS, widths, room)
    row = None
    for key in sorted(lines, key=lambda key: key[0]):  # Stable: as the row has them.
        if key[0] != row:
            row = key[0]
            yield f"{row}. {ROW_NAMES.get(row, '')}"
        yield from _wrapped(_label(key), cells[key], widths, room)


def _grouped(
    figures: Iterable[Figure],
) -> dict[tuple[int, str, str], dict[str, Figure]]:
    lines: dict[tuple[int, str, str], dict[str, Figure]] = {}
    for figure in figures:
        lines.setdefault((figure.row, figure.what, figure.unit), {})[figure.contender] = figure
    return lines


def _label(key: tuple[int, str, str]) -> str:
    _, what, unit = key
    return f"{what}, {unit}" if unit else what


def _cells(line: Mapping[str, Figure]) -> list[str]:
    bounded = next((one for one in line.values() if one.bound is not None), None)
    verdict = line[US].is_reached if US in line else None
    return [
        *(_spread(line.get(contender)) for contender in _CONTENDERS),
        "" if bounded is None else _bound(bounded),
        {True: "yes", False: "no", None: ""}[verdict],
    ]


def _spread(figure: Figure | None) -> str:
    """Write `median (least–most)`; a figure without spread is its median."""
    if figure is None:
        return ""
    median = number(figure.median)
    least, most = number(min(figure.samples)), number(max(figure.samples))
    return median if least == most else f"{median} ({least}–{most})"


def _bound(figure: Figure) -> str:
    return f"{'≥' if figure.is_floor else '≤'} {number(figure.bound or 0.0)}"


def _wrapped(label: str, cells: Sequence[str], widths: Sequence[int], room: int) -> Iterator[str]:
    first, *more = textwrap.wrap(label, room, initial_indent="   ", subsequent_indent="     ")
    yield _line(first, cells, widths, room)
    yield from more


def _line(label: str, cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    columns = (f"  {cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{label:<{room}}{''.join(columns)}".rstrip()


def _listed(title: str, sentences: Sequence[str]) -> Iterator[str]:
    if not sentences:
        return
    yield f"{title}:"
    for sentence in sentences:
        yield from textwrap.wrap(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    yield ""


def _fields(figure: Figure) -> dict[str, Any]:
    return {
        "row": figure.row,
        "what": figure.what,
        "contender": figure.contender,
        "unit": figure.unit,
        "median": figure.median,
        "samples": figure.samples,
        "bound": figure.bound,
        "is_floor": figure.is_floor,
        "is_reached": figure.is_reached,
    }


def _figure(fields: Mapping[str, Any]) -> Figure:
    return Figure(
        row=fields["row"],
        what=fields["what"],
        contender=fields["contender"],
        unit=fields["unit"],
        samples=tuple(fields["samples"]),
        bound=fields["bound"],
        is_floor=fields["is_floor"],
    )


def _key(figure: Figure) -> tuple[int, str, str, str]:
    return figure.row, figure.what, figure.contender, figure.unit


def _change(before: Figure, now: Figure) -> str:
    """Write one figure's change; a change counts where no sample of one run is in the other."""
    is_apart = max(before.samples) < min(now.samples) or max(now.samples) < min(before.samples)
    change = f"{(now.median / before.median - 1.0) * 100.0:+.1f} %" if before.median else "–"
    label = f"{now.row}. {_label((now.row, now.what, now.unit))}"
    label = textwrap.shorten(label, 70, placeholder="…")
    return (
        f"  {label:<70}  {number(before.median):>8} → {number(now.median):<8}"
        f"  {change:>9}  {'*' if is_apart else ''}"
    ).rstrip()


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")  # Linux has it.
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor()
