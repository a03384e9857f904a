"""Many questions at once under Slack's limits, through the real daemon."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, delta, query
from tests.conftest import settings_for
from tests.scripted_backend import END, Exchange, head

#: Seconds that each answer streams for.
_STREAM_SECONDS = 3.0
_PARTS = 15


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace with Slack's limits: 50 edits a minute, 20 at once; a post a second a channel."""
    with Workspace(limits=Limits()) as workspace:
        yield workspace


@pytest.fixture(name="backend")
def _backend() -> Iterator[AnsweringBackend]:
    with AnsweringBackend() as backend:
        yield backend


def answer_to(question: str) -> str:
    return "".join(f"{question}, part {number}. " for number in range(_PARTS))


def slowly(exchange: Exchange) -> None:
    """Stream for a while; all answers end at about the same time."""
    question = query(exchange.request)
    pause = threading.Event()
    exchange.send(head())
    for number in range(_PARTS):
        exchange.send(delta(f"{question}, part {number}. "))
        pause.wait(_STREAM_SECONDS / _PARTS)
    exchange.send(END)
    exchange.hang_up()


@pytest.mark.parametrize(
    ("count", "channels", "deadline"), [(20, 20, 12.0), (20, 10, 15.0), (100, 100, 60.0)]
)
def test_every_final_is_exact_and_each_question_has_one_visible_reply(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    count: int,
    channels: int,
    deadline: float,
) -> None:
    backend.fall_back(slowly)
    daemon = Daemon(
        settings_for(workspace, backend.url, tmp_path, edits_per_minute=50, posts_per_minute=200)
    )
    daemon.start()
    try:
        workspace.wait_for_link()
        places = [workspace.add_channel(f"c{number}") for number in range(channels)]
        asked = workspace.burst(
            count, channels=places, text=lambda n: f"{workspace.mention} question {n}"
        )
        expected = {
            (places[number % channels], ts): answer_to(f"question {number}")
            for number, ts in enumerate(asked)
        }

        def is_answered() -> bool:
            return all(
                [reply.shown for reply in workspace.replies(*place)] == [text]
                for place, text in expected.items()
            )

        workspace.wait_for(is_answered, timeout=deadline)
        wait_until_idle(daemon)
    finally:
        daemon.stop()

    assert is_answered()
    assert len(backend.queries) == count
    assert not workspace.heedless_calls()
    refused = collections.Counter(call.method for call in workspace.calls if call.retry_after)
    assert not refused, refused
    hourglasses = [place for place in expected if workspace.message(*place).reactions]
    assert not hourglasses


def wait_until_idle(daemon: Daemon) -> None:
    deadline = time.monotonic() + 10.0
    pause = threading.Event()
    while daemon.running_count:
        assert time.monotonic() < deadline, f"{daemon.running_count} still running"
        pause.wait(0.02)
