"""A question from the person who asks it to the reply that they read, through the real daemon."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated, delta, streaming
from tests.conftest import StartBot
from tests.scripted_backend import END, Exchange, Script, event, head

PLACEHOLDER = "_Thinking…_"


def ask(
    workspace: Workspace, text: str, channel: str | None = None, **more: Any
) -> tuple[str, str]:
    """Mention the bot; return the channel and the ts."""
    channel = channel or workspace.add_channel()
    return channel, workspace.say(channel, f"{workspace.mention} {text}", **more)


def wait_for_reply(workspace: Workspace, place: tuple[str, str], text: str) -> StoredMessage:
    """Wait until the thread holds one reply that shows `text`."""
    workspace.wait_for(lambda: [m.shown for m in workspace.replies(*place)] == [text])
    return workspace.replies(*place)[0]


@pytest.mark.usefixtures("bot")
class TestTheBackendsContract:
    def test_the_request_is_what_backends_rely_on(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        place = ask(workspace, "what is up?")
        wait_for_reply(workspace, place, "You asked: what is up?")

        (request,) = backend.requests
        body = json.loads(request.body)
        assert request.line == "POST /v1/chat/stream HTTP/1.1"
        assert request.header("Accept") == ["text/event-stream"]
        assert request.header("Content-Type") == ["application/json"]
        assert list(body)[:3] == ["user_id", "query", "channel_id"]
        assert body["query"] == "what is up?"
        assert (body["channel_id"], body["ts"], body["thread_ts"]) == (*place, place[1])
        assert body["user_id"] == workspace.message(*place).user
        assert len(request.header("traceparent")) == len(request.header("Idempotency-Key")) == 1

    def test_events_may_carry_their_kind_in_the_data(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        def script(exchange: Exchange) -> None:
            exchange.send(head())
            for data in (
                {"event": "message_part", "text_chunk": "from "},
                {"event": "unknown", "text_chunk": "not this"},
                {"event": "message_part", "text_chunk": "the data"},
                {"event": "stream_end", "status": "done"},
            ):
                exchange.send(f"data: {json.dumps(data)}\n\n".encode())
            exchange.hang_up()

        backend.answer("data", script)

        wait_for_reply(workspace, ask(workspace, "data"), "from the data")

    def test_an_answer_may_be_json(self, workspace: Workspace, backend: AnsweringBackend) -> None:
        def script(exchange: Exchange) -> None:
            body = b'{"full_response": "all at once"}'
            exchange.send(head(f"Content-Length: {len(body)}", content_type="application/json"))
            exchange.send(body)

        backend.answer("json", script)

        wait_for_reply(workspace, ask(workspace, "json"), "all at once")


class TestOneMessageFills:
    def test_it_goes_from_placeholder_over_each_text_to_the_answer(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        gated = Gated("One ", "two ", "three.")
        backend.answer("count", gated)
        place = ask(workspace, "count")

        for text in (PLACEHOLDER, "One", "One two", "One two three."):
            wait_for_reply(workspace, place, text)
            gated.let_go()
        workspace.wait_for(lambda: len(workspace.replies(*place)[0].versions) == 4)
        assert bot.is_up

    def test_text_shows_although_the_backend_falls_silent(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        start_bot(edit_seconds=0.3)
        gated = Gated("first token", " and ", "the rest")
        backend.answer("pause", gated)
        gated.let_go(2)
        place = ask(workspace, "pause")

        wait_for_reply(workspace, place, "first token and")
        gated.let_all_go()
        wait_for_reply(workspace, place, "first token and the rest")

    def test_thirty_thousand_characters_arrive_whole_in_three_messages(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        paragraphs = [f"Paragraph {number}: " + "word " * 58 for number in range(100)]
        text = "\n\n".join(paragraph.strip() for paragraph in paragraphs)
        backend.answer("long", streaming(*(text[i : i + 777] for i in range(0, len(text), 777))))
        place = ask(workspace, "long")

        workspace.wait_for(lambda: "\n\n".join(m.shown for m in workspace.replies(*place)) == text)
        assert len(text) > 30_000
        assert len(workspace.replies(*place)) == 3
        assert bot.is_up

    def test_nothing_in_an_answer_comes_alive(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        text = "<!channel> <@U123> <#C123> <https://evil.example|bank> & &lt;!here&gt; a > b"
        backend.answer("inject", streaming(*text))
        place = ask(workspace, "inject")

        reply = wait_for_reply(workspace, place, text)
        assert reply.live_tokens == []
        assert reply.edited is None
        assert bot.is_up


@pytest.mark.usefixtures("bot")
class TestWhereItAnswers:
    def test_a_mention_in_a_thread_is_answered_there(self, workspace: Workspace) -> None:
        channel = workspace.add_channel()
        root = workspace.say(channel, "a talk among people")
        workspace.say(channel, f"{workspace.mention} and you?", thread_ts=root)

        workspace.wait_for(
            lambda: (
                [m.shown for m in workspace.replies(channel, root)][1:] == ["You asked: and you?"]
            )
        )

    def test_a_direct_message_is_answered_beside_it(self, workspace: Workspace) -> None:
        channel = workspace.open_dm()
        workspace.say(channel, "just us")

        workspace.wait_for(
            lambda: [m.shown for m in workspace.history(channel)][1:] == ["You asked: just us"]
        )
        assert workspace.history(channel)[1].thread_ts is None

    def test_a_direct_message_in_a_thread_is_answered_in_the_thread(
        self, workspace: Workspace
    ) -> None:
        channel = workspace.open_dm()
        root = workspace.say(channel, "first")
        workspace.say(channel, "second", thread_ts=root)

        workspace.wait_for(
            lambda: "You asked: second" in [m.shown for m in workspace.replies(channel, root)]
        )

    def test_a_group_message_is_answered_when_it_mentions_the_bot(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        channel = workspace.add_mpim()
        workspace.say(channel, "among people")
        workspace.say(channel, f"{workspace.mention} to you")

        workspace.wait_for(
            lambda: "You asked: to you" in [m.shown for m in workspace.history(channel)]
        )
        assert backend.queries == ["to you"]

    def test_a_mention_without_a_question_gets_a_hint_and_no_backend(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        channel = workspace.add_channel()
        ts = workspace.say(channel, workspace.mention)

        reply = workspace.wait_for(
            lambda: [m for m in workspace.replies(channel, ts) if "question" in m.shown]
        )
        assert "did not find a question" in reply[0].shown
        assert backend.queries == []


def test_mentions_may_be_answered_in_the_channel(start_bot: StartBot, workspace: Workspace) -> None:
    start_bot(reply_in="channel")
    channel, _ = ask(workspace, "openly")

    workspace.wait_for(
        lambda: [m.shown for m in workspace.history(channel)][1:] == ["You asked: openly"]
    )


def test_only_the_channels_of_the_setting_are_answered(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
) -> None:
    ours, other = workspace.add_channel("ours"), workspace.add_channel("other")
    start_bot(slack_channel=ours)
    _, ignored = ask(workspace, "elsewhere", other)
    place = ask(workspace, "here", ours)

    wait_for_reply(workspace, place, "You asked: here")
    workspace.wait_for(lambda: workspace.acked_count == 2)
    assert workspace.replies(other, ignored) == []
    assert backend.queries == ["here"]


@pytest.mark.usefixtures("bot")
class TestOneQuestionOneReply:
    def test_the_two_events_of_a_mention_are_one_question(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        place = ask(workspace, "twins", twin=True)
        workspace.wait_for(lambda: len(workspace.deliveries_of(*place)) == 2)
        workspace.wait_for(lambda: workspace.acked_count == 2)

        wait_for_reply(workspace, place, "You asked: twins")
        assert backend.queries == ["twins"]

    def test_a_redelivered_event_is_the_same_question(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        place = ask(workspace, "again")
        wait_for_reply(workspace, place, "You asked: again")
        (delivery,) = workspace.deliveries_of(*place)
        for _ in range(3):
            workspace.send_event(delivery.event, event_id=delivery.event_id)
        last = ask(workspace, "last")
        wait_for_reply(workspace, last, "You asked: last")

        assert backend.queries == ["again", "last"]
        assert len(workspace.replies(*place)) == 1

    @pytest.mark.parametrize("subtype", ["bot_message", "channel_join", "message_replied"])
    def test_what_is_no_question_is_acked_and_ignored(
        self, workspace: Workspace, backend: AnsweringBackend, subtype: str
    ) -> None:
        channel = workspace.open_dm()
        workspace.say(channel, "not for you", subtype=subtype)
        ts = workspace.say(channel, "a question")
        workspace.wait_for(
            lambda: "You asked: a question" in [m.shown for m in workspace.history(channel)]
        )
        workspace.edit(channel, ts, "changed")
        workspace.delete(channel, ts)
        place = ask(workspace, "end")
        wait_for_reply(workspace, place, "You asked: end")

        assert backend.queries == ["a question", "end"]
        workspace.wait_for(lambda: workspace.acked_count == len(workspace.deliveries))

    def test_other_bots_are_not_answered(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        robot = workspace.add_user("robot", is_bot=True)
        channel, _ = ask(workspace, "from a robot", user=robot)
        place = ask(workspace, "from a person", channel)

        wait_for_reply(workspace, place, "You asked: from a person")
        assert backend.queries == ["from a person"]


@pytest.mark.usefixtures("bot")
class TestOrder:
    def test_one_conversation_is_answered_in_order(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        channel = workspace.open_dm()
        first = Gated("slowly")
        backend.answer("first", first)
        for text in ("first", "second", "third"):
            workspace.say(channel, text)
        backend.wait_for_requests(1)
        workspace.wait_for(lambda: workspace.acked_count >= 3)
        assert backend.queries == ["first"]
        first.let_all_go()

        answers = ["slowly", "You asked: second", "You asked: third"]
        workspace.wait_for(lambda: [m.shown for m in workspace.bot_messages(channel)] == answers)
        assert backend.queries == ["first", "second", "third"]

    def test_other_conversations_do_not_wait(
        self, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        held = Gated("at last")
        backend.answer("held", held)
        channel, ts = ask(workspace, "held")
        backend.wait_for_requests(1)
        others = [ask(workspace, f"other {number}") for number in range(10)]

        for number, place in enumerate(others):
            wait_for_reply(workspace, place, f"You asked: other {number}")
        held.let_all_go()
        wait_for_reply(workspace, (channel, ts), "at last")


def test_past_the_limit_of_the_queue_a_question_is_refused_politely(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
) -> None:
    start_bot(workers=2, queue_limit=1)
    held = [Gated("done") for _ in range(2)]
    for number, gated in enumerate(held):
        backend.answer(f"held {number}", gated)
        ask(workspace, f"held {number}")
        backend.wait_for_requests(number + 1)
    waiting = ask(workspace, "waiting")
    workspace.wait_for(lambda: workspace.acked_count >= 3)
    refused = ask(workspace, "too many")
    workspace.wait_for(lambda: workspace.acked_count == 4)
    for gated in held:
        gated.let_all_go()

    reply = workspace.wait_for(
        lambda: [m for m in workspace.replies(*refused) if "Too many" in m.shown]
    )
    assert "ask again in a few minutes" in reply[0].shown
    wait_for_reply(workspace, waiting, "You asked: waiting")
    assert "too many" not in backend.queries


def status(line: str, *fields: str, body: bytes = b"secret words of the backend") -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(
            head(f"Content-Length: {len(body)}", *fields, status=line, content_type="text/plain")
        )
        exchange.send(body)

    return script


def hang(exchange: Exchange) -> None:
    exchange.wait_until_client_hangs_up()


def hang_after_text(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.send(delta("some text"))
    exchange.wait_until_client_hangs_up()


def cut_after_text(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.send(delta("```python\nprint(1)"))
    exchange.hang_up()


def fail(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.send(event("error", '{"error": "secret words of the backend"}'))
    exchange.hang_up()


def fail_after_text(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.send(delta("some text"))
    exchange.send(event("error", '{"error": "secret words of the backend"}'))
    exchange.hang_up()


def say_nothing(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.send(END)
    exchange.hang_up()


def send_an_endless_line(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.flood(b"x" * 65536)


def send_an_endless_answer(exchange: Exchange) -> None:
    exchange.send(head())
    exchange.flood(delta("lorem ipsum " * 100))


def send_garbage(exchange: Exchange) -> None:
    exchange.send(head(content_type="text/html"))
    exchange.send(b"<html>")
    exchange.hang_up()


FAILURES: dict[str, tuple[Script, str]] = {
    "refused": (status("403 Forbidden"), "did not accept this question"),
    "redirected": (status("302 Found", "Location: http://127.0.0.1:1/"), "did not accept"),
    "overloaded": (status("429 Too Many Requests", "Retry-After: 3600"), "is overloaded"),
    "busy": (status("503 Service Unavailable", "Retry-After: 60"), "is overloaded"),
    "hanging": (hang, "stayed silent for too long"),
    "failing": (fail, "ran into an error"),
    "silent": (say_nothing, "had nothing to say"),
    "endless line": (send_an_endless_line, "too long for me"),
    "garbage": (send_garbage, "cannot read"),
}
BROKEN_OFF: dict[str, tuple[Script, str, str]] = {
    "hanging": (hang_after_text, "some text", "fell silent"),
    "cut": (cut_after_text, "```python\nprint(1)\n```", "connection to the service"),
    "failing": (fail_after_text, "some text", "ran into an error"),
    "endless": (send_an_endless_answer, "lorem ipsum", "grew too long"),
}


class TestABackendThatFails:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_the_reader_is_told_once_and_honestly(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, failure: str
    ) -> None:
        script, words = FAILURES[failure]
        bot = start_bot(workers=1, backend_idle_seconds=0.5)
        backend.answer("break", script)
        place = ask(workspace, "break")

        (reply,) = workspace.wait_for(
            lambda: [m for m in workspace.replies(*place) if "reference" in m.shown]
        )
        assert words in reply.shown
        assert "secret" not in reply.shown
        wait_for_reply(workspace, ask(workspace, "next"), "You asked: next")
        assert backend.queries == ["break", "next"]
        workspace.wait_for(lambda: bot.running_count == 0)

    @pytest.mark.parametrize("failure", BROKEN_OFF)
    def test_what_arrived_stays_and_is_called_incomplete(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, failure: str
    ) -> None:
        script, start, words = BROKEN_OFF[failure]
        start_bot(workers=1, backend_idle_seconds=0.5)
        backend.answer("break", script)
        place = ask(workspace, "break")

        workspace.wait_for(
            lambda: (
                workspace.replies(*place)
                and "This answer is incomplete" in workspace.replies(*place)[-1].shown
            )
        )
        replies = workspace.replies(*place)
        assert replies[0].shown.startswith(start)
        assert words in replies[-1].shown
        assert "secret" not in replies[-1].shown
        assert backend.queries == ["break"]
        wait_for_reply(workspace, ask(workspace, "next"), "You asked: next")

    def test_a_failure_before_the_first_text_is_tried_again(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        scripts = iter([status("502 Bad Gateway"), streaming("the second time")])
        backend.answer("flaky", lambda exchange: next(scripts)(exchange))
        place = ask(workspace, "flaky")

        wait_for_reply(workspace, place, "the second time")
        keys = {request.header("Idempotency-Key")[0] for request in backend.requests}
        assert len(backend.requests) == 2
        assert len(keys) == 1
        assert bot.is_up

    def test_a_short_retry_after_is_obeyed(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        times: list[float] = []
        scripts = iter([status("503 Service Unavailable", "Retry-After: 2"), streaming("rested")])

        def script(exchange: Exchange) -> None:
            times.append(time.monotonic())
            next(scripts)(exchange)

        backend.answer("busy", script)

        wait_for_reply(workspace, ask(workspace, "busy"), "rested")
        assert times[1] - times[0] > 1.9
        assert bot.is_up

    def test_an_unreachable_backend_is_named_after_three_more_tries(
        self, start_bot: StartBot, workspace: Workspace, caplog: pytest.LogCaptureFixture
    ) -> None:
        start_bot(backend_url="http://127.0.0.1:1/")
        place = ask(workspace, "anybody?")

        reply = workspace.wait_for(
            lambda: [m for m in workspace.replies(*place) if "reference" in m.shown], timeout=20
        )
        assert "could not reach the service" in reply[0].shown
        tries = [record for record in caplog.records if record.message == "backend failed"]
        assert len(tries) == 4
        assert "127.0.0.1" not in reply[0].shown

    def test_a_reply_that_its_reader_deleted_stops_the_backend(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        hung_up = threading.Event()

        def script(exchange: Exchange) -> None:
            exchange.send(head())
            exchange.drip(delta("more "), every=0.05)
            hung_up.set()

        backend.answer("endless", script)
        place = ask(workspace, "endless")
        workspace.wait_for(lambda: workspace.replies(*place))
        workspace.delete(place[0], workspace.replies(*place)[0].ts)

        assert hung_up.wait(10)
        workspace.wait_for(lambda: bot.running_count == 0)
        assert workspace.replies(*place) == []


def test_logs_hold_no_word_of_question_or_answer(
    bot: Daemon, workspace: Workspace, backend: AnsweringBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="chatrelaybot")
    backend.answer("topsecret question", streaming("topsecret answer"))
    place = ask(workspace, "topsecret question")
    wait_for_reply(workspace, place, "topsecret answer")
    workspace.wait_for(lambda: bot.running_count == 0)

    (finished,) = [record for record in caplog.records if record.message == "reply finished"]
    fields = vars(finished)
    assert fields["outcome"] == "delivered"
    assert fields["first_text_seconds"] <= fields["total_seconds"]
    assert "topsecret" not in repr([vars(record) for record in caplog.records])
