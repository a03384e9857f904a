"""What the metrics of a running bot show, as who asks over HTTP sees it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.database import Database
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated, delta, streaming
from tests.conftest import StartBot
from tests.elapsing import elapse
from tests.scraping import scrape, wait_for
from tests.scripted_backend import CHUNKED, DEADLINE, Exchange, ScriptedBackend, event, head
from tests.talking import PLACEHOLDER, ask, ask_slow, wait_until_shown
from tests.test_traces import complete

QUESTIONS = "chatrelaybot_questions_total"
EDITS = "chatrelaybot_edits_total"
REPLIES = "chatrelaybot_replies_total"
#: The last thing that is told of a try.
TRIES = "messaging_process_duration_seconds_count"
CALLS = "http_client_request_duration_seconds_count"


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that sends again soon what was not acked."""
    with Workspace(limits=Limits.none(), ack_seconds=0.5, redelivery=(0.3,) * 60) as workspace:
        yield workspace


@pytest.fixture(name="bot")
def _bot(start_bot: StartBot) -> Daemon:
    return start_bot(http_port=0)


class TestQuestions:
    def test_are_new_or_duplicates(self, bot: Daemon, workspace: Workspace) -> None:
        for number in range(3):
            ask(workspace, f"question {number}")
        workspace.wait_for(lambda: workspace.acked_count == 3)
        first = workspace.deliveries[0]
        workspace.send_event(first.event, event_id=first.event_id)

        seen = wait_for(bot, lambda seen: seen.value(QUESTIONS) == 4)

        assert seen.by("result", QUESTIONS) == {"new": 3, "duplicate": 1}

    def test_are_refused_where_too_many_wait(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        bot = start_bot(http_port=0, queue_limit=1, workers=1)
        held = Gated("done")
        backend.answer("held", held)
        ask(workspace, "held")
        wait_for(bot, lambda seen: seen.value("chatrelaybot_questions_running") == 1)
        ask(workspace, "waits")
        wait_for(bot, lambda seen: seen.value(QUESTIONS) == 2)
        ask(workspace, "too many")

        seen = wait_for(bot, lambda seen: seen.value(QUESTIONS) == 3)
        assert seen.by("result", QUESTIONS) == {"new": 2, "refused": 1}
        held.let_all_go()
        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 3)
        assert seen.value(REPLIES, outcome="delivered", failure="busy") == 1
        assert seen.value(REPLIES, outcome="delivered", failure="none") == 2

    def test_that_cannot_be_stored_have_failed_and_the_database_is_down(
        self, bot: Daemon, workspace: Workspace, tmp_path: Path
    ) -> None:
        wait_for(bot, lambda seen: seen.value("chatrelaybot_database_up") == 1)
        with closing(sqlite3.connect(tmp_path / "inbox.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            ask(workspace, "late")

            wait_for(bot, lambda seen: seen.value("chatrelaybot_database_waiting") > 0)
            seen = wait_for(bot, lambda seen: seen.value(QUESTIONS, result="failed") >= 1)
            assert seen.value(QUESTIONS, result="new") == 0
            wait_for(bot, lambda seen: seen.value("chatrelaybot_database_up") == 0)
            other.execute("ROLLBACK")

        wait_for(bot, lambda seen: seen.value(QUESTIONS, result="new") == 1)
        wait_for(bot, lambda seen: seen.value("chatrelaybot_database_up") == 1)

    def test_that_are_none_are_counted_by_the_reason(
        self, start_bot: StartBot, workspace: Workspace
    ) -> None:
        channel, other = workspace.add_channel(), workspace.add_channel("other")
        bot = start_bot(http_port=0, slack_channel=channel)
        said = {"type": "message", "channel_type": "channel", "ts": "1700000000.000100"}
        whole: dict[str, Any] = {**said, "channel": channel, "user": "U1", "text": "hello"}
        for more in (
            {},
            {"bot_id": "B1"},
            {"subtype": "channel_join"},
            {"hidden": True},
            {"user": None},
            {"type": "app_mention", "channel": other},
        ):
            workspace.send_event({**whole, **more})

        ignored = "chatrelaybot_envelopes_ignored_total"
        seen = wait_for(bot, lambda seen: seen.value(ignored) == 6)
        assert seen.by("reason", ignored) == {
            "not_addressed": 1,
            "from_a_bot": 1,
            "not_spoken": 2,
            "incomplete": 1,
            "other_channel": 1,
        }
        assert seen.value(QUESTIONS) == 0

    def test_that_wait_or_were_buried_are_counted_with_the_age_of_the_oldest(
        self, start_bot: StartBot, tmp_path: Path
    ) -> None:
        with closing(Database(url=f"sqlite:///{tmp_path}/inbox.sqlite3")) as database:
            database.open()
            inbox = Inbox(database=database, owner="earlier", retention_hours=1.0)
            inbox.enqueue([(question(number), "") for number in range(4)])
            refused, *later = inbox.lease(4)
            inbox.bury(refused, reason="refused")
            for each in later:
                inbox.retry(each, after=3600.0)
            elapse(database, 100.0)
        bot = start_bot(http_port=0)

        seen = wait_for(bot, lambda seen: seen.value("chatrelaybot_questions_waiting"))

        assert seen.value("chatrelaybot_questions_waiting") == 3
        assert seen.value("chatrelaybot_questions_buried") == 1
        assert 100.0 <= seen.value("chatrelaybot_queue_oldest_seconds") < 160.0

    def test_that_are_answered_are_running_meanwhile(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        bot = start_bot(http_port=0, workers=7)
        held = Gated("done")
        backend.answer("held", held)
        ask(workspace, "held")
        seen = wait_for(bot, lambda seen: seen.value("chatrelaybot_questions_running") == 1)
        assert seen.value("chatrelaybot_workers_limit") == 7

        held.let_all_go()

        wait_for(bot, lambda seen: seen.value("chatrelaybot_questions_running") == 0)


def question(number: int) -> Question:
    return Question(
        event_id=f"Ev{number}",
        team_id="T1",
        channel=f"C{number}",
        user_id="U1",
        text="hello",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=None,
    )


class TestEdits:
    def test_are_sent_or_come_with_a_later_one(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        bot = start_bot(http_port=0, edit_seconds=5.0)
        ask_slow(workspace, backend, *"abcdefgh")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        edits = [call for call in workspace.calls if call.method == "chat.update"]
        assert 1 <= len(edits) <= 2
        assert seen.value(EDITS, result="sent") == len(edits)
        assert seen.value(EDITS, result="coalesced") == 8 - len(edits)

    def test_that_would_change_nothing_are_not_made(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        answer = Gated("one", "\n\n", "two")
        backend.answer("count", answer)
        place = ask(workspace, "count")
        wait_until_shown(workspace, place, PLACEHOLDER)
        answer.let_go()
        wait_until_shown(workspace, place, "one")
        answer.let_go()

        seen = wait_for(bot, lambda seen: seen.value(EDITS, result="unchanged") == 1)
        assert seen.value(EDITS, result="sent") == 1
        answer.let_all_go()
        wait_for(bot, lambda seen: seen.value(TRIES) == 1)

    def test_that_slack_refuses_tell_how_long_it_told_us_to_wait(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        workspace.faults.add("chat.update", retry_after=1)
        ask_slow(workspace, backend, "hello")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        assert seen.value(EDITS, result="rate_limited") == 1
        waits = "chatrelaybot_slack_retry_after_seconds_total"
        assert seen.by("method", waits) == {"chat.update": 1.0}
        refused = {"url_template": "chat.update", "http_response_status_code": "429"}
        assert seen.value(CALLS, **refused, error_type="ratelimited") == 1

    def test_that_fail_are_counted_too(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        workspace.faults.add("chat.update", status=503)
        ask_slow(workspace, backend, "hello")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        assert seen.by("result", EDITS).items() >= {"failed": 1, "sent": 1}.items()

    def test_and_posts_are_taken_out_of_their_budgets(
        self, start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        bot = start_bot(http_port=0, posts_per_minute=10, edits_per_minute=20)
        left = "chatrelaybot_slack_budget_left"
        seen = scrape(bot)
        assert seen.value(left, method="chat.postMessage") == pytest.approx(4.0)
        assert seen.value(left, method="chat.update") == pytest.approx(8.0)

        ask_slow(workspace, backend, "hello")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)
        assert 2.9 < seen.value(left, method="chat.postMessage") < 3.9
        assert 6.9 < seen.value(left, method="chat.update") < 7.9


class TestTimes:
    def test_of_a_reply_are_in_the_order_of_what_happens(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        answer = Gated("one", " two")
        backend.answer("count", answer)
        place = ask(workspace, "count")
        wait_until_shown(workspace, place, PLACEHOLDER)
        answer.let_go()
        wait_until_shown(workspace, place, "one")
        answer.let_all_go()

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        names = [
            "chatrelaybot_queue_wait",
            *(
                f"chatrelaybot_reply_time_to_{what}"
                for what in ("placeholder", "first_text", "final_text")
            ),
        ]
        assert [seen.value(f"{name}_seconds_count") for name in names] == [1, 1, 1, 1]
        times = [seen.value(f"{name}_seconds_sum") for name in names]
        assert 0.0 <= times[0] <= times[1] <= times[2] <= times[3] < 20.0
        assert seen.value("chatrelaybot_backend_time_to_first_part_seconds_count") == 1
        process = {"messaging_system": "slack", "messaging_operation_name": "process"}
        assert seen.value(TRIES, **process) == 1

    def test_a_placeholder_counts_though_the_answer_came_with_a_later_try(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        is_shown = threading.Event()

        def be_busy_once(exchange: Exchange) -> None:
            backend.answer("patience", streaming("here"))
            assert is_shown.wait(DEADLINE)
            exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))

        backend.answer("patience", be_busy_once)
        place = ask(workspace, "patience")
        wait_until_shown(workspace, place, PLACEHOLDER)
        is_shown.set()
        wait_until_shown(workspace, place, "here")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 2)

        for what in ("placeholder", "first_text", "final_text"):
            assert seen.value(f"chatrelaybot_reply_time_to_{what}_seconds_count") == 1

    def test_of_calls_are_told_by_what_was_called_and_how_it_ended(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        ask_slow(workspace, backend, "hello")

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        ok = {"http_request_method": "POST", "http_response_status_code": "200"}
        for method in ("auth.test", "apps.connections.open", "chat.postMessage", "chat.update"):
            assert seen.value(CALLS, url_template=method, **ok) == 1
        port = str(backend.port)
        assert seen.value(CALLS, server_address="localhost", server_port=port, **ok) == 1

    def test_of_chat_completions_are_told_by_the_model(
        self, start_bot: StartBot, workspace: Workspace
    ) -> None:
        with ScriptedBackend(complete) as model:
            bot = start_bot(
                http_port=0,
                backend_url=model.url,
                backend_dialect="openai",
                backend_model="tiny-1",
            )
            ask(workspace, "hello")
            seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)
            bot.stop()

        chat = {
            "gen_ai_operation_name": "chat",
            "gen_ai_provider_name": "openai",
            "gen_ai_request_model": "tiny-1",
        }
        name = "gen_ai_client_operation"
        assert seen.value(f"{name}_duration_seconds_count", **chat) == 1
        assert seen.value(f"{name}_time_to_first_chunk_seconds_count", **chat) == 1
        assert seen.value(f"{name}_time_to_first_chunk_seconds_sum", **chat) <= seen.value(
            f"{name}_duration_seconds_sum", **chat
        )

    def test_of_commits_are_those_of_the_inbox(self, bot: Daemon, workspace: Workspace) -> None:
        before = scrape(bot)
        ask(workspace, "hello")
        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 1)

        commits = "db_client_operation_duration_seconds"
        named = {"db_system_name": "sqlite", "db_operation_name": "COMMIT"}
        # At least: stored, leased, post intended and recorded, settled.
        assert seen.value(f"{commits}_count", **named) >= before.value(f"{commits}_count") + 4
        assert 0.0 < seen.value(f"{commits}_sum", **named) < 20.0


class TestTheBackend:
    def test_fails_in_one_of_a_few_ways(
        self, bot: Daemon, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        def refuse(exchange: Exchange) -> None:
            exchange.send(head("Content-Length: 0", status="403 Forbidden"))

        def break_off(exchange: Exchange) -> None:
            exchange.send(head(CHUNKED))
            exchange.send_chunk(delta("half"))
            exchange.send_chunk(event("error", '{"error": "words"}'))
            exchange.end_chunks()

        def is_busy_once(exchange: Exchange) -> None:
            backend.answer("busy", streaming("at last"))
            exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))

        for words, script in (("no", refuse), ("half", break_off), ("busy", is_busy_once)):
            backend.answer(words, script)
            ask(workspace, words)

        seen = wait_for(bot, lambda seen: seen.value(TRIES) == 4)

        failures = "chatrelaybot_backend_failures_total"
        assert seen.by("kind", failures) == {"refused": 1, "failed": 1, "overloaded": 1}
        assert seen.by("failure", REPLIES) == {"refused": 1, "failed": 1, "none": 1}
        assert seen.value(TRIES, error_type="overloaded") == 1


class TestTheLink:
    def test_is_up_again_after_each_loss_whose_reason_is_told(
        self, bot: Daemon, workspace: Workspace
    ) -> None:
        up, lost = "chatrelaybot_link_up", "chatrelaybot_link_reconnects_total"
        downtime = "chatrelaybot_link_downtime_seconds_total"
        before = wait_for(bot, lambda seen: seen.value(up) == 1)
        assert before.value(lost) == 0
        opening = workspace.faults.add("apps.connections.open", hold="before", times=None)

        workspace.cut_link("reset")

        seen = wait_for(bot, lambda seen: seen.value(up) == 0)
        (reason,) = seen.by("reason", lost)
        assert reason
        wait_for(bot, lambda later: later.value(downtime) > seen.value(downtime))
        workspace.faults.remove(opening)
        after = wait_for(bot, lambda seen: seen.value(up) == 1)
        assert after.by("reason", lost) == {reason: 1}
        assert after.value(downtime) > before.value(downtime)
        assert scrape(bot).value(downtime) == after.value(downtime)
