"""What the dashboard and the alerts ask for is there, and they say what to do."""

from __future__ import annotations

import http.client
import itertools
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.telemetry_metrics import INSTRUMENTS, Instrument, Kind
from chatrelaybot.telemetry_prometheus import metric_name
from tests.conftest import StartBot
from tests.queries import ALERTS_TEST, alerts, asked, dashboard, panel_queries, panels
from tests.talking import ask, wait_until_shown

_PROMTOOL = shutil.which("promtool")
_TOP = Path(__file__).parent.parent
#: What Prometheus adds to each series.
_ADDED = {"job", "instance"}
_SUFFIXES = {
    Kind.COUNTER: ("_total",),
    Kind.TOTAL: ("_total",),
    Kind.GAUGE: ("",),
    Kind.HISTOGRAM: ("_bucket", "_count", "_sum"),
}
_ALERTS = {rule["alert"]: rule for rule in alerts()}
#: Each query with the panel or the alert that it belongs to.
_QUERIES = [*panel_queries(), *((name, rule["expr"]) for name, rule in _ALERTS.items())]
_needs_promtool = pytest.mark.skipif(
    _PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)


def series_of(instrument: Instrument) -> set[str]:
    return {metric_name(instrument) + suffix for suffix in _SUFFIXES[instrument.kind]}


def labels_in_table() -> dict[str, set[str]]:
    """Each series that the instruments make, and the labels that it has."""
    labels: dict[str, set[str]] = {"up": set()}
    for instrument in INSTRUMENTS:
        for name in series_of(instrument):
            labels[name] = {attribute.replace(".", "_") for attribute in instrument.attributes}
            if name.endswith("_bucket"):
                labels[name].add("le")
    return labels


def scraped(bot: Daemon) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", bot.http_port, timeout=5.0)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def labels_in(text: str) -> dict[str, set[str]]:
    """Each series of a scrape, and the labels that it has."""
    labels: dict[str, set[str]] = {}
    for name, matched in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', matched))
    return labels


@pytest.fixture(name="scrape")
def _scrape(start_bot: StartBot, workspace: Workspace) -> dict[str, set[str]]:
    """What a bot shows that has answered a question."""
    bot = start_bot(http_port=0)
    wait_until_shown(workspace, ask(workspace, "tea?"), "You asked: tea?")
    return labels_in(scraped(bot))


# --- queries ---------------------------------------------------------------------------------


def test_a_query_asks_for_series_and_labels_that_are_there(
    scrape: Mapping[str, set[str]],
) -> None:
    there = {**scrape, **labels_in_table()}

    for owner, query in _QUERIES:
        found = asked(query)
        assert found.metrics, owner
        assert found.metrics <= there.keys(), (owner, found.metrics - there.keys())
        for metric, labels in found.matchers:
            assert labels <= there[metric] | _ADDED, (owner, metric)
        known = set().union(*(there[metric] for metric in found.metrics)) | _ADDED
        assert found.grouping <= known, (owner, found.grouping - known)


def test_what_a_bot_shows_is_what_the_instruments_say(scrape: Mapping[str, set[str]]) -> None:
    table = labels_in_table()

    for name in scrape.keys() & table.keys():
        assert scrape[name] <= table[name], name
    strangers = scrape.keys() - table.keys()
    assert {name for name in strangers if not name.startswith(("process_", "target_"))} == set()


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=metric_name)
def test_an_instrument_is_shown_on_the_dashboard(instrument: Instrument) -> None:
    shown = {metric for _, query in panel_queries() for metric in asked(query).metrics}

    assert shown & series_of(instrument)


@pytest.mark.parametrize(
    ("query", "metrics", "labels"),
    [
        ("up == 0", {"up"}, set()),
        ('sum by (a, b) (rate(x_total{c=~"d e", f!="g"}[5m])) * 60', {"x_total"}, {"a", "b"}),
        ("histogram_quantile(0.9, sum(rate(y_bucket[1m])) by (le))", {"y_bucket"}, {"le"}),
        ("x / on (a) group_left () y or vector(0)", {"x", "y"}, {"a"}),
        ("x unless y offset 10m", {"x", "y"}, set()),
    ],
)
def test_a_query_is_taken_apart(query: str, metrics: set[str], labels: set[str]) -> None:
    assert asked(query).metrics == metrics
    assert asked(query).grouping == labels


def test_the_labels_that_a_query_matches_are_found() -> None:
    found = asked('rate(x_total{a=~"b|c", d!="e, f=g"}[5m]) and y{h="i"}')

    assert dict(found.matchers) == {"x_total": {"a", "d"}, "y": {"h"}}


# --- what Prometheus says --------------------------------------------------------------------


def promtool(*arguments: str, directory: Path) -> None:
    assert _PROMTOOL is not None
    ended = subprocess.run(  # noqa: S603 a program of the machine, on files of ours
        [_PROMTOOL, *arguments], cwd=directory, capture_output=True, text=True, timeout=60.0
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@_needs_promtool
def test_prometheus_understands_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query}
        for number, (_, query) in enumerate(panel_queries())
    ]
    groups = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")

    promtool("check", "rules", "rules.yml", directory=tmp_path)


@_needs_promtool
def test_prometheus_understands_the_alerts() -> None:
    promtool("check", "rules", "alerts.yml", directory=ALERTS_TEST.parent)


@_needs_promtool
def test_alerts_fire_when_they_should_and_at_no_other_time() -> None:
    promtool("test", "rules", ALERTS_TEST.name, directory=ALERTS_TEST.parent)


# --- alerts ----------------------------------------------------------------------------------


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load(ALERTS_TEST.read_text(encoding="utf-8"))["tests"]
    fired = {
        sample["labels"]
        for case in cases
        for step in case["promql_expr_test"]
        for sample in step["exp_samples"]
    }

    assert {name for name in _ALERTS if not any(f'"{name}"' in each for each in fired)} == set()


@pytest.mark.parametrize("name", _ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = _ALERTS[name]
    words = rule["annotations"]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert words["summary"]
    assert len(words["description"].split()) > 10
    headings = re.findall(r"^#+ (.+)$", (_TOP / "README.md").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r'README:\s+"([^"]+)"', words["description"])
    assert named
    assert set(named) <= set(headings)


@pytest.mark.parametrize("name", _ALERTS)
def test_the_labels_that_an_alert_speaks_of_are_there(name: str) -> None:
    rule = _ALERTS[name]
    said = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    found = asked(rule["expr"])

    assert said <= found.grouping | (_ADDED if not found.grouping - {"job"} else set())


# --- the dashboard's form --------------------------------------------------------------------


def test_panels_do_not_overlap_and_stay_within_the_width() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]

    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert [(a, b) for a, b in itertools.combinations(places, 2) if _overlap(a, b)] == []


def _overlap(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    return all(
        a[start] < b[start] + b[size] and b[start] < a[start] + a[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_every_row_is_filled_from_top_to_bottom() -> None:
    """What an operator reads first is on top, without holes."""
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    area = sum(place["w"] * place["h"] for place in places)

    assert area == 24 * max(place["y"] + place["h"] for place in places)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_a_title_a_unit_and_words_about_it(panel: Mapping[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert "$instance" in target["expr"]


def test_titles_and_ids_are_each_used_once() -> None:
    board = dashboard()["panels"]

    assert len({panel["title"] for panel in board}) == len(board)
    assert len({panel["id"] for panel in board}) == len(board)


def test_an_operator_chooses_the_data_source_the_job_and_the_instance() -> None:
    variables = {one["name"]: one for one in dashboard()["templating"]["list"]}

    assert [*variables] == ["datasource", "job", "instance"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    for name in ("job", "instance"):
        found = re.match(r"label_values\((\w+)", variables[name]["definition"])
        assert found is not None
        assert found[1] in labels_in_table()
