"""The queries of the dashboard and of the alerts, and what they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent.parent / "docs"
DASHBOARD = DOCS / "grafana-dashboard.json"
ALERTS = DOCS / "alerts.yml"
ALERTS_TEST = DOCS / "alerts_test.yml"

#: What Grafana puts in the place of its variables before it asks.
_VARIABLES = {"$__rate_interval": "5m", "$instance": ".+", "$job": ".+"}
_STRING = re.compile(r'"[^"]*"' + r"|'[^']*'")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?!\s*\(|[\w:])")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_OPERATORS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for."""

    matchers: tuple[tuple[str, frozenset[str]], ...]  #: each metric with the labels matched
    grouping: frozenset[str]  #: labels by which is grouped or joined

    @property
    def metrics(self) -> set[str]:
        return {metric for metric, _ in self.matchers}


def asked(query: str) -> Asked:
    """Take a query apart. It holds no braces within strings, nor comments."""
    bare = re.sub(r"\[[^\]]*\]", "", _STRING.sub('""', query))
    grouping = {
        label
        for _, labels in _GROUPING.findall(bare)
        for label in re.split(r"[,\s]+", labels.strip())
        if label
    }
    selectors = _SELECTOR.findall(re.sub(r"\boffset\s+\w+", "", _GROUPING.sub("", bare)))
    return Asked(
        tuple(
            (metric, frozenset(_MATCHER.findall(matchers)))
            for metric, matchers in selectors
            if metric not in _OPERATORS
        ),
        frozenset(grouping),
    )


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[tuple[str, str]]:
    """Yield each query of the dashboard as Prometheus gets it, with its panel's title."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], replaced(target["expr"])
    for note in dashboard()["annotations"]["list"]:
        yield note["name"], replaced(note["expr"])


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def replaced(query: str) -> str:
    for variable, value in _VARIABLES.items():
        query = query.replace(variable, value)
    return query
