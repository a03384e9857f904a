"""One question is one trace: what a collector is told of it."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated, streaming
from tests.conftest import StartBot
from tests.otlp import Collector, Span, one
from tests.scripted_backend import CHUNKED, Exchange, ScriptedBackend, head
from tests.talking import PLACEHOLDER, ask, wait_until_shown


def traced(start_bot: StartBot, collector: Collector, workspace: Workspace) -> list[Span]:
    """Return what is told of one question, to which the backend's answer is told already."""
    bot = start_bot(otel_exporter="otlp")
    place = ask(workspace, "hello")
    workspace.wait_for(lambda: workspace.replies(*place))
    collector.wait_for(lambda: collector.named("process inbox"))
    bot.stop()
    return collector.spans


def is_within(inner: Span, outer: Span) -> bool:
    return outer.started <= inner.started <= inner.ended <= outer.ended


class TestOneQuestion:
    def test_is_one_trace_from_its_envelope_to_its_last_edit(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        backend: AnsweringBackend,
    ) -> None:
        answer = Gated("one, ", "two, ", "three")
        backend.answer("count", answer)
        # Long enough for the last part and the end to be one edit.
        bot = start_bot(otel_exporter="otlp", edit_seconds=0.4)
        place = ask(workspace, "count")
        for shown in (PLACEHOLDER, "one,"):
            wait_until_shown(workspace, place, shown)
            answer.let_go()
        wait_until_shown(workspace, place, "one, two,")
        answer.let_all_go()
        wait_until_shown(workspace, place, "one, two, three")
        bot.stop()

        spans = collector.spans
        assert Counter(span.name for span in spans) == {
            "publish inbox": 1,
            "process inbox": 1,
            "POST": 1,
            "chat.postMessage": 1,
            "chat.update": 1,
            "settle inbox": 1,
        }
        publish, process = one(spans, "publish inbox"), one(spans, "process inbox")
        assert {span.trace_id for span in spans} == {publish.trace_id}
        assert (publish.parent_id, publish.kind) == ("", "PRODUCER")
        assert publish.event_names == ["ack"]
        assert (process.parent_id, process.kind) == (publish.span_id, "CONSUMER")
        for name in ("POST", "chat.postMessage", "chat.update", "settle inbox"):
            span = one(spans, name)
            assert (span.parent_id, span.kind) == (process.span_id, "CLIENT")
            assert is_within(span, process)
        # The edits in between, of which a long answer has hundreds.
        assert process.event_names == ["chat.update", "chat.update"]
        assert not [span.name for span in spans if span.is_failed]

    def test_tells_who_asked_for_what_and_how_it_ended(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        backend: AnsweringBackend,
    ) -> None:
        backend.answer("hello", streaming("good ", "day"))

        spans = traced(start_bot, collector, workspace)

        publish, process = one(spans, "publish inbox"), one(spans, "process inbox")
        (delivery,) = workspace.deliveries
        channel, ts = delivery.event["channel"], delivery.event["ts"]
        identity = {
            "messaging.system": "slack",
            "messaging.destination.name": "inbox",
            "messaging.message.id": delivery.event_id,
            "chatrelaybot.question.id": backend.requests[0].header("Idempotency-Key")[0],
        }
        assert publish.attributes.items() >= identity.items()
        assert process.attributes.items() >= identity.items()
        assert channel in process.attributes["messaging.message.conversation_id"]
        assert ts in process.attributes["messaging.message.conversation_id"]
        assert publish.attributes["messaging.operation.type"] == "send"
        assert process.attributes["messaging.operation.type"] == "process"
        assert process.attributes["chatrelaybot.attempt"] == 1
        assert process.attributes["chatrelaybot.crash_count"] == 0
        assert 0.0 <= process.attributes["chatrelaybot.queue.wait"] < 5.0
        assert process.attributes["chatrelaybot.outcome"] == "delivered"
        assert process.attributes["chatrelaybot.reply.characters"] == len("good day")
        assert process.attributes["chatrelaybot.reply.parts"] == 1

    def test_shows_how_long_the_backend_streamed_and_when_it_began_to(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        backend: AnsweringBackend,
    ) -> None:
        """A span that ended with the head of the answer would show nothing of that."""
        answer = Gated("one, ", "two")
        backend.answer("count", answer)
        bot = start_bot(otel_exporter="otlp")
        place = ask(workspace, "count")
        backend.wait_for_requests(1)
        answer.let_go()
        wait_until_shown(workspace, place, "one,")
        shown_at = time.time()
        answer.let_all_go()
        wait_until_shown(workspace, place, "one, two")
        bot.stop()

        post = one(collector.spans, "POST")
        assert post.attributes["http.request.method"] == "POST"
        assert post.attributes["http.response.status_code"] == 200
        assert post.attributes["server.address"] == "localhost"
        assert post.attributes["server.port"] == backend.port
        assert post.attributes["chatrelaybot.backend.parts"] == 2
        (first,) = post.events
        assert first.name == "first part"
        seconds = post.attributes["chatrelaybot.backend.time_to_first_part"]
        assert first.at - post.started == pytest.approx(seconds, abs=0.05)
        assert first.at < shown_at < post.ended

    def test_that_comes_twice_has_no_second_trace(
        self, start_bot: StartBot, collector: Collector, workspace: Workspace
    ) -> None:
        bot = start_bot(otel_exporter="otlp")
        place = ask(workspace, "hello")
        wait_until_shown(workspace, place, "You asked: hello")
        (delivery,) = workspace.deliveries
        workspace.send_event(delivery.event, event_id=delivery.event_id)
        workspace.wait_for(lambda: workspace.acked_count == 2)
        bot.stop()

        assert len(collector.named("publish inbox")) == 1
        assert len({span.trace_id for span in collector.spans}) == 1

    def test_of_a_chat_completion_names_the_model(
        self, start_bot: StartBot, collector: Collector, workspace: Workspace
    ) -> None:
        with ScriptedBackend(complete) as model:
            bot = start_bot(
                otel_exporter="otlp",
                backend_url=model.url,
                backend_dialect="openai",
                backend_model="tiny-1",
            )
            wait_until_shown(workspace, ask(workspace, "hello"), "good day")
            bot.stop()

        chat = one(collector.spans, "chat tiny-1")
        assert chat.kind == "CLIENT"
        assert (
            chat.attributes.items()
            >= {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "tiny-1",
                "gen_ai.request.stream": True,
                "chatrelaybot.backend.parts": 2,
            }.items()
        )
        assert 0.0 < chat.attributes["gen_ai.response.time_to_first_chunk"] <= chat.seconds


def is_recorded(traceparent: str) -> bool:
    """Return its flag for that: https://www.w3.org/TR/trace-context-2/#sampled-flag."""
    found = re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})", traceparent)
    assert found is not None
    return bool(int(found[1], 16) & 1)


def complete(exchange: Exchange) -> None:
    """Answer as a chat completion does."""
    exchange.send(head(CHUNKED))
    for text in ("good ", "day"):
        data = f'{{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}'
        exchange.send_chunk(f"data: {data}\n\n".encode())
    exchange.send_chunk(b"data: [DONE]\n\n")
    exchange.end_chunks()


class TestTheBackend:
    def test_may_go_on_with_the_trace(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        backend: AnsweringBackend,
    ) -> None:
        post = one(traced(start_bot, collector, workspace), "POST")

        (request,) = backend.requests
        (traceparent,) = request.header("traceparent")
        assert traceparent.startswith(f"00-{post.trace_id}-{post.span_id}-")
        assert is_recorded(traceparent)
        (delivery,) = workspace.deliveries
        (baggage,) = request.header("baggage")
        assert "chatrelaybot.question.id=" in baggage
        assert "messaging.message.conversation_id=" in baggage
        assert delivery.event["channel"] in baggage

    @pytest.mark.parametrize(
        ("sampler", "argument"), [("always_off", ""), ("parentbased_traceidratio", "0")]
    )
    def test_is_told_that_a_trace_is_not_recorded(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        backend: AnsweringBackend,
        monkeypatch: pytest.MonkeyPatch,
        sampler: str,
        argument: str,
    ) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
        bot = start_bot(otel_exporter="otlp")
        wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
        bot.stop()

        assert collector.spans == []
        (traceparent,) = backend.requests[0].header("traceparent")
        assert not is_recorded(traceparent)

    def test_is_told_of_a_trace_where_nothing_is_exported(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        start_bot()
        wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")

        (traceparent,) = backend.requests[0].header("traceparent")
        assert is_recorded(traceparent)


class TestTheResource:
    def test_is_this_process_unless_the_operator_says_otherwise(
        self, start_bot: StartBot, collector: Collector, workspace: Workspace
    ) -> None:
        resource = one(traced(start_bot, collector, workspace), "process inbox").resource

        assert resource["service.name"] == "chatrelaybot"
        assert resource["service.version"]
        assert len(resource["service.instance.id"].split(":")) == 3

    def test_is_what_the_operator_says(
        self,
        start_bot: StartBot,
        collector: Collector,
        workspace: Workspace,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "helpdesk")
        monkeypatch.setenv(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.instance.id=blue,deployment.environment.name=test,service.name=other",
        )

        resource = one(traced(start_bot, collector, workspace), "process inbox").resource

        assert resource["service.name"] == "helpdesk"
        assert resource["service.instance.id"] == "blue"
        assert resource["deployment.environment.name"] == "test"
