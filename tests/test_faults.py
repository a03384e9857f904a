"""Whatever goes wrong between us and Slack, every question ends in exactly one reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.links import Cut
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.conftest import StartBot

#: Of half a minute at most: silence is noticed after 15 seconds, and what was sent into it
#: is sent again.
_DEADLINE = 30.0
_COUNT = 20


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that sends again soon what was not acked."""
    with Workspace(
        limits=Limits.none(), ack_seconds=0.5, redelivery=(0.5,) * 60, resume_seconds=0.1
    ) as workspace:
        yield workspace


def ask_many(workspace: Workspace, name: str) -> dict[tuple[str, str], str]:
    """Ask in as many channels; return what shall be answered where."""
    channels = [workspace.add_channel(f"{name}-{number}") for number in range(_COUNT)]
    asked = workspace.burst(
        _COUNT, channels=channels, text=lambda n: f"{workspace.mention} {name} {n}"
    )
    return {
        place: f"You asked: {name} {number}"
        for number, place in enumerate(zip(channels, asked, strict=True))
    }


def wait_until_answered(workspace: Workspace, expected: dict[tuple[str, str], str]) -> None:
    workspace.wait_for(
        lambda: all(
            [reply.shown for reply in workspace.replies(*place)] == [text]
            for place, text in expected.items()
        ),
        timeout=_DEADLINE,
    )


@pytest.mark.parametrize("how", get_args(Cut))
def test_a_lost_link_loses_no_question(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, how: Cut
) -> None:
    start_bot()
    expected = ask_many(workspace, "before")
    workspace.cut_link(how)
    expected |= ask_many(workspace, "after")

    wait_until_answered(workspace, expected)
    assert sorted(backend.queries) == sorted({text[11:] for text in expected.values()})


def test_a_refresh_of_the_link_loses_no_question(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
) -> None:
    start_bot()
    expected = ask_many(workspace, "before")
    workspace.warn_disconnect("warning")
    expected |= ask_many(workspace, "between")
    workspace.warn_disconnect("refresh_requested", close_after=0.1)
    expected |= ask_many(workspace, "after")

    wait_until_answered(workspace, expected)
    assert len(backend.queries) == 3 * _COUNT


def test_an_outage_of_slack_loses_no_question(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
) -> None:
    start_bot()
    wait_until_answered(workspace, ask_many(workspace, "before"))
    workspace.go_down()
    workspace.wait_for(lambda: not workspace.open_links)
    expected = ask_many(workspace, "during")
    workspace.come_up()

    wait_until_answered(workspace, expected)
    assert len(backend.queries) == 2 * _COUNT


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502},
        {"status": 503},
        {"error": "internal_error"},
        {"error": "fatal_error", "has_effect": True},
        {"cut": "before"},
        {"cut": "after"},
        {"retry_after": 1},
        {"delay": 0.5},
        {"answer_delay": 0.5},
    ],
    ids=str,
)
def test_faulty_calls_lose_and_double_no_reply(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, fault: dict[str, Any]
) -> None:
    start_bot()
    for method in ("chat.postMessage", "chat.update"):
        workspace.faults.add(method, times=5, **fault)
    workspace.faults.add("conversations.replies", **fault)
    expected = ask_many(workspace, "question")

    wait_until_answered(workspace, expected)
    assert len(backend.queries) == _COUNT
    everything = [workspace.everything(channel) for channel, _ in expected]
    assert all(len(messages) == 2 for messages in everything)
