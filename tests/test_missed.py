"""Questions that came while no bot was there, through the real daemon."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chatrelaybot.database import Database
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.conftest import StartBot
from tests.elapsing import elapse


def let_time_pass(directory: Path, seconds: float) -> None:
    database = Database(url=f"sqlite:///{directory}/inbox.sqlite3")
    with closing(database):
        database.open()
        elapse(database, seconds)


def has_noted_its_link(directory: Path) -> bool:
    with closing(sqlite3.connect(directory / "inbox.sqlite3")) as database:
        return bool(database.execute("SELECT count(*) FROM link_times").fetchone()[0])


def shown(workspace: Workspace, channel: str, ts: str) -> list[str]:
    return [reply.shown for reply in workspace.replies(channel, ts)]


@pytest.mark.parametrize(("minutes", "is_found"), [(30.0, True), (0.0, False)])
def test_a_start_answers_what_was_asked_since_the_last_link(
    start_bot: StartBot,
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    minutes: float,
    is_found: bool,
) -> None:
    channel = workspace.add_channel()
    bot = start_bot()
    known = workspace.say(channel, f"{workspace.mention} hello")
    workspace.wait_for(lambda: shown(workspace, channel, known) == ["You asked: hello"])
    workspace.wait_for(lambda: bot.running_count == 0)
    workspace.wait_for(lambda: has_noted_its_link(tmp_path))
    bot.stop()
    workspace.kick_bot(channel)  # No event is sent, as if Slack had given up sending it again.
    missed = workspace.say(channel, f"{workspace.mention} are you there?")
    workspace.say(channel, f"{workspace.mention} and here?", thread_ts=known)
    workspace.invite_bot(channel)
    let_time_pass(tmp_path, 45.0)

    start_bot(catch_up_minutes=minutes)
    later = workspace.say(channel, f"{workspace.mention} later")
    workspace.wait_for(lambda: shown(workspace, channel, later) == ["You asked: later"])

    if is_found:
        workspace.wait_for(
            lambda: shown(workspace, channel, missed) == ["You asked: are you there?"]
        )
        workspace.wait_for(lambda: "You asked: and here?" in shown(workspace, channel, known))
    asked = {"are you there?", "and here?"} & set(backend.queries)
    assert len(asked) == (2 if is_found else 0)
    assert len(set(backend.queries)) == len(backend.queries)
