"""The database goes away and comes back, under a running bot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot
from tests.postgres import PostgresServer


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    with Workspace(
        limits=Limits.none(), ack_seconds=0.3, redelivery=(0.3,) * 100, resume_seconds=0.1
    ) as workspace:
        yield workspace


@pytest.fixture(name="server")
def _server() -> Iterator[PostgresServer]:
    """A server of its own, which nobody else misses."""
    with PostgresServer() as server:
        yield server


def shown(workspace: Workspace, channel: str, ts: str) -> list[str]:
    return [reply.shown for reply in workspace.replies(channel, ts)]


def test_answers_go_on_and_nothing_is_acked_that_is_not_stored(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, server: PostgresServer
) -> None:
    bot = start_bot(database_url=server.create_database())
    workspace.wait_for(lambda: bot.is_ready)
    channel = workspace.add_channel()
    answer = Gated("first, ", "second, ", "last")
    backend.answer("slow", answer)
    running = workspace.say(channel, f"{workspace.mention} slow")
    answer.let_go()
    workspace.wait_for(lambda: shown(workspace, channel, running) == ["first,"])

    server.stop()
    answer.let_go()
    workspace.wait_for(lambda: shown(workspace, channel, running) == ["first, second,"])
    asked = workspace.say(channel, f"{workspace.mention} are you there?")
    workspace.wait_for(lambda: not bot.is_ready)
    answer.let_all_go()
    workspace.wait_for(lambda: shown(workspace, channel, running) == ["first, second, last"])
    (delivery,) = workspace.deliveries_of(channel, asked)
    assert delivery.acks == ()
    assert bot.running_count == 1

    server.start()

    workspace.wait_for(lambda: shown(workspace, channel, asked) == ["You asked: are you there?"])
    workspace.wait_for(lambda: bot.running_count == 0)
    assert bot.is_ready
    assert shown(workspace, channel, running) == ["first, second, last"]


def test_a_server_may_be_away_at_the_start(
    start_bot: StartBot, workspace: Workspace, server: PostgresServer
) -> None:
    url = server.create_database()
    server.stop()
    server.start_later(1.0)

    start_bot(database_url=url)

    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} hello")
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["You asked: hello"])


def test_two_bots_share_the_questions_of_one_workspace(
    start_bot: StartBot, workspace: Workspace, server: PostgresServer
) -> None:
    """Each answers what either was handed; a stop of one leaves the rest to the other."""
    url = server.create_database()
    first, _ = start_bot(database_url=url), start_bot(database_url=url)
    workspace.wait_for(lambda: len(workspace.open_links) == 2)
    channels = [workspace.add_channel(f"c{number}") for number in range(4)]
    asked = [(c, workspace.say(c, f"{workspace.mention} {n}")) for c in channels for n in range(5)]
    first.stop()
    asked += [(c, workspace.say(c, f"{workspace.mention} later")) for c in channels]

    for channel, ts in asked:
        workspace.wait_for(lambda: shown(workspace, channel, ts))  # noqa: B023 - waits here
    for number, (channel, ts) in enumerate(asked):
        words = "later" if number >= 20 else number % 5
        workspace.wait_for(
            lambda: shown(workspace, channel, ts) == [f"You asked: {words}"]  # noqa: B023 - so
        )
