"""`make bench`: how near we are to what Slack permits, and how far ahead of what people use."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tests.bench import plots
from tests.bench.figures import Findings, Plan
from tests.bench.report import Report

Measure = Callable[[Plan], Findings]

#: The module that measures the rows, in the order of the table.
_MODULES = {
    "latency": (1, 2, 3),
    "crowd": (4,),
    "freshness": (5,),
    "slack_call": (6,),
    "relayed_part": (7,),
    "streams": (8,),
    "intake": (9,),
    "growth": (10,),
    "start": (11,),
    "idle": (12,),
    "inbox": (13,),
    "telemetry": (14,),
}
#: Rounds of a quick run, where nothing else is asked for.
_QUICK_ROUNDS = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = _options(arguments)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else Plan().rounds)
    report = measure(Plan(rounds=rounds, is_quick=options.quick), _chosen(options.only))
    sys.stdout.write(report.text())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(report.json(), encoding="utf-8")
    if options.compare is not None:
        sys.stdout.write("\n" + report.comparison(options.compare.read_text(encoding="utf-8")))
    if options.plots is not None:
        plots.write(report.findings.curves, options.plots)
    return report.exit_code


def measure(plan: Plan, rows: Mapping[str, Collection[int]]) -> Report:
    """Measure the rows of each module; one that crashes is named, and the others go on."""
    report = Report(plan)
    for module, numbers in rows.items():
        named = ", ".join(map(str, sorted(numbers)))
        sys.stderr.write(f"measuring row {named} ({module})\n")
        started = time.monotonic()
        try:
            found = _measured(module)(plan)
        except Exception as error:  # noqa: BLE001 - the other rows go on
            traceback.print_exc()
            report.crashes.append(f"row {named} ({module}): {type(error).__name__}: {error}")
            continue
        sys.stderr.write(f"  done in {time.monotonic() - started:.0f} s\n")
        found.figures = [figure for figure in found.figures if figure.row in numbers]
        report.findings.add(found)
    return report


def _measured(module: str) -> Measure:
    """Import what measures a row; only now, so that none needs what another one lacks."""
    measured: Measure = importlib.import_module(f"tests.bench.{module}").measure
    return measured


def _chosen(only: Collection[int]) -> dict[str, Collection[int]]:
    """Return the modules to be asked, each with the rows that are wanted of it."""
    wanted = {
        module: [number for number in numbers if number in only or not only]
        for module, numbers in _MODULES.items()
    }
    return {module: numbers for module, numbers in wanted.items() if numbers}


def _rows(text: str) -> set[int]:
    rows = {int(number) for number in text.split(",")}
    known = {number for numbers in _MODULES.values() for number in numbers}
    if not rows <= known:
        raise argparse.ArgumentTypeError(f"rows are 1 to {max(known)}")
    return rows


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--only", type=_rows, default=(), metavar="ROWS", help="such as 1,9")
    parser.add_argument("--rounds", type=_count, metavar="N", help="5, or 1 with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="the JSON of an earlier run")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the curves as SVG")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
