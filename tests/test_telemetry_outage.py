"""A collector that is away, or as good as away, holds up nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.conftest import StartProgram
from tests.otlp import Collector, closed_port
from tests.program import Ended, ended
from tests.talking import ask

_QUESTIONS = 20
#: An export is given up after 3 s; so long must not even one of the questions have waited.
_QUICK_SECONDS = 3.0
#: What a stop may take on a busy machine without any telemetry, and with it; seconds.
_STOP_SECONDS = 2.0
_FLUSH_SECONDS = 3.0


@pytest.fixture(name="endpoint", params=["refuses", "hangs", "is unwell"])
def _endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "refuses":
            port = stack.enter_context(closed_port())
            yield f"http://127.0.0.1:{port}"
            return
        collector = stack.enter_context(Collector())
        if request.param == "hangs":
            collector.hang()
        else:
            collector.answer(503)
        yield collector.url


def answered(workspace: Workspace) -> float:
    """Ask many things at once; return the seconds until all are answered."""
    began_at = time.monotonic()
    places = [ask(workspace, f"question {number}") for number in range(_QUESTIONS)]
    for number, place in enumerate(places):
        shown = [f"You asked: question {number}"]
        workspace.wait_for(lambda: [r.shown for r in workspace.replies(*place)] == shown)  # noqa: B023
    return time.monotonic() - began_at


def test_answers_are_as_quick_and_the_stop_takes_no_more_than_one_flush(
    start_program: StartProgram,
    workspace: Workspace,
    backend: AnsweringBackend,  # noqa: ARG001 - echoes
    endpoint: str,
) -> None:
    process = start_program(
        OTEL_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="20",
        OTEL_BLRP_SCHEDULE_DELAY="20",
        OTEL_METRIC_EXPORT_INTERVAL="100",
        EDITS_PER_MINUTE="6000",
        POSTS_PER_MINUTE="6000",
    )

    assert answered(workspace) < _QUICK_SECONDS

    began_at = time.monotonic()
    process.terminate()
    result = ended(process)
    assert time.monotonic() - began_at < _STOP_SECONDS + _FLUSH_SECONDS
    assert result.code == 0
    assert len(about_the_export(result)) <= 1
    assert "Traceback" not in result.err


def about_the_export(result: Ended) -> list[str]:
    return [line for line in result.err.splitlines() if " opentelemetry" in line]
