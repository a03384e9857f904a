"""docs/observability.md says of spans, metrics and log lines what a bot really sends."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.telemetry_metrics import INSTRUMENTS, Instrument, Kind
from chatrelaybot.telemetry_prometheus import metric_name
from tests.answering import AnsweringBackend, streaming
from tests.conftest import StartBot
from tests.otlp import Collector
from tests.talking import ask, wait_until_shown

_DOCS = Path(__file__).parent.parent / "docs"
_PAGE = (_DOCS / "observability.md").read_text(encoding="utf-8")
_SUFFIX = {Kind.COUNTER: "_total", Kind.TOTAL: "_total", Kind.GAUGE: "", Kind.HISTOGRAM: "_bucket"}
#: The SDK's own; the page does not speak of it.
_SDK = "telemetry.sdk."


def row(instrument: Instrument) -> str:
    attributes = ", ".join(f"`{name}`" for name in instrument.attributes) or "–"
    series = metric_name(instrument) + _SUFFIX[instrument.kind]
    return f"| `{instrument.name}` | `{series}` | {instrument.description} | {attributes} |\n"


def told(words: str) -> bool:
    return f"`{words}`" in _PAGE


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=metric_name)
def test_the_page_has_a_row_for_each_instrument(instrument: Instrument) -> None:
    assert row(instrument) in _PAGE


def test_the_page_has_rows_for_no_other_instruments() -> None:
    (table,) = re.findall(r"\| instrument \|.*?\n\n", _PAGE, re.DOTALL)

    assert len(table.strip().splitlines()) == len(INSTRUMENTS) + 2


def test_the_page_tells_of_every_span_attribute_and_event_of_a_question(
    start_bot: StartBot, collector: Collector, workspace: Workspace, backend: AnsweringBackend
) -> None:
    backend.answer("tea?", streaming("It is ", "ready."))
    bot = start_bot(otel_exporter="otlp")
    wait_until_shown(workspace, ask(workspace, "tea?"), "It is ready.")
    bot.stop()

    spans = collector.spans
    assert {"publish inbox", "POST", "settle inbox"} <= {span.name for span in spans}
    for span in spans:
        words = {span.name, *span.attributes, *span.resource, *span.event_names}
        assert {word for word in words if not word.startswith(_SDK) and not told(word)} == set()


def test_the_page_tells_of_the_fields_of_the_log(
    start_bot: StartBot, log: io.StringIO, workspace: Workspace, backend: AnsweringBackend
) -> None:
    backend.answer("tea?", streaming("It is ready."))
    bot = start_bot()
    wait_until_shown(workspace, ask(workspace, "tea?"), "It is ready.")
    bot.stop()

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (finished,) = [line for line in lines if line["message"] == "reply finished"]
    fields = ("time", "level", "logger", "thread", "message", "trace_id", "span_id", "question")
    assert all(finished[field] and told(field) for field in fields)


def test_the_picture_of_a_trace_stands_alone_and_shows_spans_that_the_page_tells_of() -> None:
    picture = (_DOCS / "trace.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(picture)  # noqa: S314 a file of ours
    shown = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}

    assert {"publish inbox", "process inbox", "POST", "chat.update", "kill -9"} <= shown
    assert picture.count("http") == 1  # the name space; no fonts and no pictures from elsewhere
