"""What a trace tells of what went wrong, and where."""

from __future__ import annotations

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot
from tests.otlp import Collector, one
from tests.scripted_backend import CHUNKED, Exchange, event, head, part
from tests.talking import PLACEHOLDER, ask, wait_until_shown
from tests.test_traces import traced


def test_a_failure_of_the_backend_is_named_on_its_span_and_on_the_try(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
) -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        exchange.send_chunk(part("half"))
        exchange.send_chunk(event("error", '{"error": "words"}'))
        exchange.end_chunks()

    backend.answer("hello", break_off)

    spans = traced(start_bot, collector, workspace)

    for name in ("POST", "process inbox"):
        assert one(spans, name).is_failed
        assert one(spans, name).attributes["error.type"] == "failed"
    assert one(spans, "POST").attributes["chatrelaybot.backend.parts"] == 1


def test_a_refusal_by_the_backend_is_named_with_its_status(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.send(head("Content-Length: 0", status="403 Forbidden"))

    backend.answer("hello", refuse)

    post = one(traced(start_bot, collector, workspace), "POST")

    assert post.is_failed
    assert post.attributes["http.response.status_code"] == 403
    assert post.attributes["error.type"] == "refused"


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ({"retry_after": 1}, 429, "ratelimited"),
        ({"error": "internal_error"}, 200, "internal_error"),
        ({"status": 503}, 503, "503"),
    ],
)
def test_a_failure_of_a_call_of_slack_is_named_on_its_span(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    fault: dict[str, object],
    status: int,
    error: str,
) -> None:
    bot = start_bot(otel_exporter="otlp")
    workspace.faults.add("chat.postMessage", **fault)  # type: ignore[arg-type]
    wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
    bot.stop()

    failed, *others = collector.named("chat.postMessage")
    assert failed.is_failed
    assert failed.attributes["http.response.status_code"] == status
    assert failed.attributes["error.type"] == error
    assert not [span for span in others if span.is_failed]
    assert not one(collector.spans, "process inbox").is_failed


def test_a_lost_connection_to_slack_is_named_by_the_error(
    start_bot: StartBot, collector: Collector, workspace: Workspace
) -> None:
    bot = start_bot(otel_exporter="otlp")
    workspace.faults.add("chat.postMessage", cut="before")
    wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
    bot.stop()

    failed = collector.named("chat.postMessage")[0]
    assert failed.is_failed
    assert "http.response.status_code" not in failed.attributes
    assert failed.attributes["error.type"] == "ConnectionError"


def test_an_edit_in_between_that_fails_is_an_event_with_the_error(
    start_bot: StartBot, collector: Collector, workspace: Workspace, backend: AnsweringBackend
) -> None:
    answer = Gated("one, ", "two")
    backend.answer("count", answer)
    bot = start_bot(otel_exporter="otlp")
    workspace.faults.add("chat.update", status=503)
    place = ask(workspace, "count")
    wait_until_shown(workspace, place, PLACEHOLDER)
    answer.let_go()
    wait_until_shown(workspace, place, "one,")
    answer.let_all_go()
    wait_until_shown(workspace, place, "one, two")
    bot.stop()

    failed, again, *_ = one(collector.spans, "process inbox").events
    assert (failed.name, failed.attributes["error.type"]) == ("chat.update", "503")
    assert (again.name, "error.type" in again.attributes) == ("chat.update", False)
    assert failed.attributes["chatrelaybot.characters"] == len("one,")
    assert not [span.name for span in collector.spans if span.is_failed]
