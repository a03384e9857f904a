"""A question stays one trace, whoever goes on with it: a later try, the next start, another one."""

from __future__ import annotations

import itertools

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated, streaming
from tests.conftest import StartBot, StartProgram
from tests.otlp import Collector, Span, one
from tests.postgres import PostgresServer
from tests.scripted_backend import Exchange, Request, head
from tests.talking import PLACEHOLDER, ask, wait_until_shown


def instance(span: Span) -> object:
    return span.resource["service.instance.id"]


def parent_of(request: Request) -> str:
    """Return the trace's and the span's id that a backend was told."""
    (traceparent,) = request.header("traceparent")
    return traceparent[3:52]


def test_a_second_try_is_told_below_the_same_envelope(
    start_bot: StartBot, collector: Collector, workspace: Workspace, backend: AnsweringBackend
) -> None:
    tries = itertools.count(1)

    def fail_at_first(exchange: Exchange) -> None:
        if next(tries) == 1:
            exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))
        else:
            streaming("at last")(exchange)

    backend.answer("hello", fail_at_first)
    bot = start_bot(otel_exporter="otlp")
    wait_until_shown(workspace, ask(workspace, "hello"), "at last")
    bot.stop()

    publish = one(collector.spans, "publish inbox")
    first, second = sorted(collector.named("process inbox"), key=lambda span: span.started)
    assert {span.trace_id for span in collector.spans} == {publish.trace_id}
    assert [first.parent_id, second.parent_id] == [publish.span_id, publish.span_id]
    assert [first.attributes["chatrelaybot.attempt"], first.is_failed] == [1, True]
    assert first.attributes["error.type"] == "overloaded"
    assert [second.attributes["chatrelaybot.attempt"], second.is_failed] == [2, False]
    assert second.attributes["chatrelaybot.outcome"] == "delivered"
    posts = sorted(collector.named("POST"), key=lambda span: span.started)
    assert [post.parent_id for post in posts] == [first.span_id, second.span_id]
    assert [post.attributes["http.response.status_code"] for post in posts] == [503, 200]
    assert [*map(parent_of, backend.requests)] == [
        f"{post.trace_id}-{post.span_id}" for post in posts
    ]


def test_a_process_goes_on_with_the_trace_of_one_that_was_killed(
    start_program: StartProgram,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
) -> None:
    backend.answer("hello", Gated("never"))
    settings = {
        "OTEL_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    process = start_program(**settings)
    place = ask(workspace, "hello")
    wait_until_shown(workspace, place, PLACEHOLDER)
    backend.wait_for_requests(1)
    collector.wait_for(lambda: collector.named("publish inbox"))
    collector.wait_for(lambda: collector.named("chat.postMessage"))
    process.kill()
    process.wait()

    backend.answer("hello", streaming("after all"))
    successor = start_program(**settings)
    wait_until_shown(workspace, place, "after all")
    successor.terminate()
    assert successor.wait(20) == 0

    publish, process_span = (
        one(collector.spans, f"{verb} inbox") for verb in ("publish", "process")
    )
    assert {span.trace_id for span in collector.spans} == {publish.trace_id}
    assert process_span.parent_id == publish.span_id
    assert process_span.attributes["chatrelaybot.crash_count"] == 1
    assert instance(process_span) != instance(publish)
    assert one(collector.spans, "POST").parent_id == process_span.span_id
    first, second = backend.requests
    assert parent_of(first)[:32] == parent_of(second)[:32] == publish.trace_id
    assert parent_of(first) != parent_of(second)


def test_another_instance_goes_on_with_the_trace_of_one_that_stops(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
    postgres: PostgresServer,
) -> None:
    url = postgres.create_database()
    backend.answer("hello", Gated("never"))
    first = start_bot(otel_exporter="otlp", database_url=url, drain_seconds=0.1)
    place = ask(workspace, "hello")
    wait_until_shown(workspace, place, PLACEHOLDER)
    backend.wait_for_requests(1)
    backend.answer("hello", streaming("after all"))
    second = start_bot(otel_exporter="otlp", database_url=url)
    first.stop()
    wait_until_shown(workspace, place, "after all")
    second.stop()

    publish = one(collector.spans, "publish inbox")
    given_back, answered = sorted(collector.named("process inbox"), key=lambda span: span.started)
    assert {span.trace_id for span in collector.spans} == {publish.trace_id}
    assert [given_back.parent_id, answered.parent_id] == [publish.span_id, publish.span_id]
    assert instance(publish) == instance(given_back) != instance(answered)
    assert given_back.attributes["chatrelaybot.outcome"] == "left"
    assert answered.attributes["chatrelaybot.outcome"] == "delivered"
    cancelled, _ = sorted(collector.named("POST"), key=lambda span: span.started)
    assert cancelled.attributes["error.type"] == "cancelled"
