"""Stopping, dying and starting again, with the real program in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot import wording
from chatrelaybot.database import Database
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(name="start")
def _start(workspace: Workspace, backend: AnsweringBackend, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts `chatrelaybot run`; its keywords are settings."""
    running: list[subprocess.Popen[str]] = []

    def start(**settings: Any) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "SLACK_BOT_TOKEN": workspace.bot_token,
            "SLACK_APP_TOKEN": workspace.app_token,
            "SLACK_API_URL": workspace.api_url,
            "BACKEND_URL": backend.url,
            "EDIT_SECONDS": "0.05",
            "HTTP_PORT": "off",
            "LOG_FORMAT": "json",
            "PYTHONFAULTHANDLER": "1",
            **{name: str(value) for name, value in settings.items()},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "chatrelaybot", "run"],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)  # Where it hangs, faulthandler says where.
            threading.Event().wait(0.2)
            process.kill()
        _, log = process.communicate(timeout=10)
        print(log)  # noqa: T201 - shown where a test fails


def wait_for_a_link(workspace: Workspace, number: int = 1) -> None:
    workspace.wait_for(lambda: len(workspace.links) >= number and workspace.open_links)


def wait_until_signalled(process: subprocess.Popen[str]) -> None:
    """Wait until no signal is pending any more."""
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 10.0
    while "ShdPnd:\t0000000000000000" not in status.read_text():
        assert time.monotonic() < deadline


def shown(workspace: Workspace, channel: str, ts: str) -> list[str]:
    return [reply.shown for reply in workspace.replies(channel, ts)]


def test_a_stop_lets_a_running_answer_end(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start()
    wait_for_a_link(workspace)
    gated = Gated("the whole ", "answer")
    backend.answer("slow", gated)
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} slow")
    backend.wait_for_requests(1)

    process.send_signal(signal.SIGTERM)
    workspace.wait_for(lambda: not workspace.open_links)
    gated.let_all_go()

    assert process.wait(10) == 0
    assert shown(workspace, channel, ts) == ["the whole answer"]


def test_what_a_stop_leaves_is_answered_by_the_next_start_in_the_same_reply(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start(DRAIN_SECONDS=0.2)
    wait_for_a_link(workspace)
    backend.answer("slow", Gated("never"))
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} slow")
    backend.wait_for_requests(1)
    workspace.wait_for(lambda: shown(workspace, channel, ts))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert shown(workspace, channel, ts) == [f"_{wording.GOES_ON}_"]

    quick = Gated("answered after all")
    quick.let_all_go()
    backend.answer("slow", quick)
    start()

    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["answered after all"])
    assert len({request.header("Idempotency-Key")[0] for request in backend.requests}) == 1


def test_a_stop_says_behind_a_half_answer_that_it_goes_on(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start(DRAIN_SECONDS=0.2)
    wait_for_a_link(workspace)
    half = Gated("```\nfirst half", " second half\n```")
    half.let_go()
    backend.answer("slow", half)
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} slow")
    workspace.wait_for(lambda: "first half" in "".join(shown(workspace, channel, ts)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert shown(workspace, channel, ts) == [f"```\nfirst half\n```\n\n_{wording.GOES_ON}_"]

    start()
    backend.wait_for_requests(2)
    half.let_all_go()

    workspace.wait_for(
        lambda: shown(workspace, channel, ts) == ["```\nfirst half second half\n```"]
    )


def test_a_stop_does_not_wait_for_a_budget_to_say_good_bye(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start(DRAIN_SECONDS=0.2, EDITS_PER_MINUTE=1)
    wait_for_a_link(workspace)
    backend.answer("slow", Gated("never"))
    channel = workspace.add_channel()
    asked = [workspace.say(channel, f"{workspace.mention} slow") for _ in range(2)]
    backend.wait_for_requests(2)
    workspace.wait_for(lambda: any(shown(workspace, channel, ts) for ts in asked))
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    edits = [call for call in workspace.calls if call.method == "chat.update"]
    assert len(edits) <= 1


def test_a_second_signal_hurries(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start(DRAIN_SECONDS=60)
    wait_for_a_link(workspace)
    backend.answer("slow", Gated("never"))
    workspace.say(workspace.add_channel(), f"{workspace.mention} slow")
    backend.wait_for_requests(1)
    process.send_signal(signal.SIGTERM)
    workspace.wait_for(lambda: not workspace.open_links)
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0


def test_after_a_kill_the_next_start_ends_every_question_in_one_reply(
    start: Start, workspace: Workspace, backend: AnsweringBackend
) -> None:
    process = start()
    wait_for_a_link(workspace)
    channels = [workspace.add_channel(f"c{number}") for number in range(8)]
    held = Gated("never")
    for number in range(8):
        backend.answer(f"question {number}", held)
    asked = workspace.burst(
        8, channels=channels, text=lambda n: f"{workspace.mention} question {n}"
    )
    workspace.wait_for(lambda: workspace.acked_count == 8)
    process.kill()
    process.wait(10)

    for number in range(8):
        quick = Gated(f"answer {number}")
        quick.let_all_go()
        backend.answer(f"question {number}", quick)
    start()

    for number, (channel, ts) in enumerate(zip(channels, asked, strict=True)):
        workspace.wait_for(
            lambda: shown(workspace, channel, ts) == [f"answer {number}"]  # noqa: B023 - waits here
        )


@pytest.mark.parametrize(
    ("crashes", "asked"), [(14, ["poison"]), (15, [])], ids=["14 crashes", "15 crashes"]
)
def test_a_question_that_was_in_flight_at_fifteen_crashes_is_given_up(
    start_bot: StartBot,
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    crashes: int,
    asked: list[str],
) -> None:
    channel = workspace.add_channel()
    ts = workspace.say(channel, "a talk among people")
    question = Question("Ev1", workspace.team_id, channel, "U1", "poison", ts, ts)
    with closing(Database(url=f"sqlite:///{tmp_path}/inbox.sqlite3")) as database:
        database.open()
        inbox = Inbox(database=database, owner="dying", retention_hours=1.0, chance=lambda: 0.0)
        inbox.enqueue([(question, "")])
        for _ in range(crashes):
            assert len(inbox.lease(1)) == 1
            inbox.recover()
    start_bot()

    workspace.wait_for(lambda: shown(workspace, channel, ts))
    words = "You asked: poison" if asked else "Something went wrong inside this bot."
    workspace.wait_for(lambda: words in shown(workspace, channel, ts)[0])
    assert backend.queries == asked


def test_a_second_process_on_the_same_inbox_is_refused(start: Start, workspace: Workspace) -> None:
    start()
    wait_for_a_link(workspace)

    second = start()

    assert second.wait(10) == 78
    _, errors = second.communicate()
    assert "DATABASE_URL" in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_token_revoked_while_running_ends_the_program_with_78(
    start: Start, workspace: Workspace
) -> None:
    process = start()
    wait_for_a_link(workspace)
    workspace.revoke_token()
    workspace.say(workspace.add_channel(), f"{workspace.mention} hello?")

    assert process.wait(10) == 78
    _, errors = process.communicate()
    assert "SLACK_BOT_TOKEN" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


def test_slack_may_be_away_at_the_start(start: Start, workspace: Workspace) -> None:
    workspace.faults.add("auth.test", status=503, times=2)
    process = start()
    wait_for_a_link(workspace)
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0


def test_a_stop_before_slack_could_be_reached_is_quick(start: Start, workspace: Workspace) -> None:
    fault = workspace.faults.add("auth.test", status=503, times=None)
    process = start()
    workspace.wait_for(lambda: fault.count >= 2)
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0


def test_a_stop_during_the_start_ends_it(start: Start, workspace: Workspace) -> None:
    fault = workspace.faults.add("auth.test", hold="after")
    process = start()
    workspace.wait_for(lambda: fault.count)
    process.send_signal(signal.SIGTERM)
    wait_until_signalled(process)
    fault.release()

    assert process.wait(10) == 0
    assert "apps.connections.open" not in {call.method for call in workspace.calls}


def test_a_thread_that_dies_ends_the_program_and_tells_once_why(
    start: Start, workspace: Workspace, tmp_path: Path
) -> None:
    process = start(DATABASE_URL=f"sqlite:///{tmp_path}/inbox.sqlite3", DRAIN_SECONDS=60)
    wait_for_a_link(workspace)
    with closing(sqlite3.connect(tmp_path / "inbox.sqlite3")) as other:
        other.execute("DROP TABLE reply_parts")
    workspace.say(workspace.add_channel(), f"{workspace.mention} hello?")

    assert process.wait(10) == 1
    _, errors = process.communicate()
    causes = [json.loads(line).get("exception") for line in errors.splitlines()]
    told = [cause["type"] for cause in causes if cause]
    assert told.count("sqlalchemy.exc.OperationalError") == 1
    assert "_lease" in errors


def test_no_thread_is_left_after_a_stop(start_bot: StartBot, workspace: Workspace) -> None:
    before = {thread.name for thread in threading.enumerate()}
    daemon = start_bot()
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} hello")
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["You asked: hello"])
    names = {thread.name for thread in threading.enumerate()} - before
    daemon.stop()

    assert all(name.startswith("chatrelaybot-") for name in names), names
    deadline = time.monotonic() + 5.0
    while left := {thread.name for thread in threading.enumerate()} & names:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
