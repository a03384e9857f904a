"""What the bench says of what it has found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as bench
from tests.bench import plots
from tests.bench.figures import LIMIT, NAIVE, US, Figure, Findings, Plan
from tests.bench.report import Report

_ROW = 6
_PLAN = Plan(rounds=3)


def _figure(
    *samples: float, contender: str = US, bound: float | None = None, is_floor: bool = False
) -> Figure:
    return Figure(_ROW, "CPU of a call", contender, "ms", samples, bound=bound, is_floor=is_floor)


def _report(*figures: Figure, flaws: tuple[str, ...] = ()) -> Report:
    return Report(_PLAN, Findings(figures=[*figures], flaws=[*flaws]))


def _line(report: Report) -> list[str]:
    return next(line for line in report.text().splitlines() if "CPU of a call" in line).split("  ")


def test_a_line_shows_medians_with_their_spread_the_bound_and_a_verdict() -> None:
    ours = _figure(1.0, 3.0, 1.5, bound=2.0)
    report = _report(ours, _figure(24.0, contender=NAIVE), _figure(0.2, contender=LIMIT))
    cells = [cell.strip() for cell in _line(report) if cell.strip()]
    assert cells == ["CPU of a call, ms", "1.50 (1.00–3.00)", "24.0", "0.20", "≤ 2.00", "yes"]


def test_a_floor_is_the_least_that_must_be_reached() -> None:
    assert _line(_report(_figure(9.0, bound=10.0, is_floor=True)))[-1].strip() == "no"
    assert "≥ 10.0" in _report(_figure(11.0, bound=10.0, is_floor=True)).text()


def test_the_table_fits_its_width() -> None:
    what = "something that takes many words to be told from all the other things"
    long = [
        Figure(1, what, contender, "L", (100.1, 222.2, 333.3), bound=100.0)
        for contender in ("us", "naive", "bolt", "limit")
    ]
    assert max(map(len, _report(*long).text().splitlines())) <= 120


def test_time_does_not_fail_the_bench_and_a_flaw_does() -> None:
    late = _report(_figure(9.0, bound=1.0))
    wrong = _report(_figure(1.0), flaws=("an answer is lost",))
    assert (late.exit_code, wrong.exit_code) == (0, 1)
    assert "LOST OR WRONG TEXT:\n  - an answer is lost" in wrong.text()


def test_a_change_beyond_both_spreads_is_marked() -> None:
    earlier = _report(_figure(1.0, 1.1, 1.2)).json()
    assert "+100.0 %  *" in _report(_figure(2.0, 2.2, 2.4)).comparison(earlier)
    assert "*" not in _report(_figure(1.1, 1.2, 2.4)).comparison(earlier).splitlines()[1]


def test_the_json_has_every_sample_and_no_name_of_the_machine() -> None:
    content = json.loads(_report(_figure(1.0, 2.0)).json())
    assert content["figures"][0]["samples"] == [1.0, 2.0]
    assert not {"host", "node", "hostname", "path"} & content.keys()


Row = Callable[[str, Callable[[Plan], Findings]], None]


@pytest.fixture(name="row")
def _row(monkeypatch: pytest.MonkeyPatch) -> Row:
    """Return a function that makes a module which measures a row."""

    def make(name: str, measure: Callable[[Plan], Findings]) -> None:
        module = ModuleType(f"tests.bench.{name}")
        vars(module)["measure"] = measure
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return make


def _crash(_plan: Plan) -> Findings:
    raise TimeoutError("no link")


def test_a_row_that_crashes_is_named_and_the_others_go_on(row: Row) -> None:
    row("bad", _crash)
    row("good", lambda _: Findings(figures=[_figure(1.0)]))
    report = bench.measure(_PLAN, {"bad": (5,), "good": (_ROW,)})
    assert report.crashes == ["row 5 (bad): TimeoutError: no link"]
    assert report.exit_code == 1
    assert report.findings.figures == [_figure(1.0)]


def test_only_the_rows_that_are_wanted_are_shown(row: Row) -> None:
    row("two", lambda _: Findings(figures=[_figure(1.0), Figure(7, "a part", US, "µs", (1.0,))]))
    report = bench.measure(_PLAN, {"two": (7,)})
    assert [figure.row for figure in report.findings.figures] == [7]


def test_the_plots_are_well_formed_and_name_everybody(tmp_path: Path) -> None:
    edits = {
        f"{who} {kind}": [(1.0, 0), (2.5, 1)] for who in (US, NAIVE) for kind in ("edit", "final")
    }
    plots.write(
        {
            "edits": {**edits, "naive refused": [(2.0, 1)]},
            "first_text": {US: [(1, 1.0), (100, 1.1)]},
        },
        tmp_path,
    )
    for name in ("edits.svg", "first-text.svg"):
        drawn = "".join(ElementTree.parse(tmp_path / name).getroot().itertext())  # noqa: S314 ours
        assert "ChatRelayBot" in drawn
