"""What becomes of envelopes: stored before they are acked, each question once."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from chatrelaybot.database import Database
from chatrelaybot.delivery import Enqueued
from chatrelaybot.errors import TransientError
from chatrelaybot.events import Identity, Question, Reading
from chatrelaybot.inbox import Inbox
from chatrelaybot.link import Links
from chatrelaybot.link_session import Link, Received
from chatrelaybot.listener import Listener
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.links import Cut
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.telemetry_spans import Spans
from tests.listening import DEADLINE, Line

US = Identity(user_id="U0BOT", bot_id="B0BOT", team_id="T1", name="relay")


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that sends again soon, and often."""
    with Workspace(
        limits=Limits.none(),
        ack_seconds=0.5,
        redelivery=(0.0, 0.1, 0.2, 0.5, 1.0),
        resume_seconds=0.01,
        ping_seconds=0.2,
    ) as workspace:
        yield workspace


@pytest.fixture(name="inbox")
def _inbox(tmp_path: Path) -> Iterator[Inbox]:
    database = Database(url=f"sqlite:///{tmp_path / 'inbox.db'}")
    database.open()
    yield Inbox(database=database, owner="test", retention_hours=1.0)
    database.close()


class Doors:
    """Stands before an inbox: lets nothing in while it is shut, and loses what it is told to."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.is_open = threading.Event()
        self.is_open.set()
        #: Set when somebody stands before it.
        self.is_wanted = threading.Event()
        self.failures = 0  #: how many of the next commits fail

    def enqueue(self, questions: Sequence[tuple[Question, str]]) -> list[Enqueued]:
        self.is_wanted.set()
        assert self.is_open.wait(DEADLINE)
        if self.failures:
            self.failures -= 1
            raise TransientError("the database is locked")
        return self._inbox.enqueue(questions)


@pytest.fixture(name="doors")
def _doors(inbox: Inbox) -> Doors:
    return Doors(inbox)


@contextmanager
def listening(workspace: Workspace, inbox: object) -> Iterator[Listener]:
    """Run a listener, and wait until its link is up."""
    with Line(workspace) as line:
        listener = Listener(
            links=line.links,
            inbox=cast(Inbox, inbox),
            reading=Reading(identity=identity_in(workspace)),
            spans=Spans(),
        )
        line.run(listener.step)
        workspace.wait_for_link()
        yield listener


def identity_in(workspace: Workspace) -> Identity:
    return Identity(
        user_id=workspace.bot_user_id,
        bot_id=workspace.bot_id,
        team_id=workspace.team_id,
        name="relay",
    )


def texts(inbox: Inbox) -> list[str]:
    """Take all questions that may be answered now, and return what they say."""
    return sorted(delivery.question.text for delivery in inbox.lease(10_000))


# --- over a link -----------------------------------------------------------------------------


def test_a_question_is_stored_before_it_is_acked(
    workspace: Workspace, inbox: Inbox, doors: Doors
) -> None:
    dm = workspace.open_dm()
    with listening(workspace, doors):
        doors.is_open.clear()
        ts = workspace.say(dm, "How are you?")
        assert doors.is_wanted.wait(DEADLINE)

        assert inbox.counts().waiting == 0
        assert not workspace.deliveries_of(dm, ts)[0].acks

        doors.is_open.set()
        workspace.wait_for(lambda: workspace.deliveries_of(dm, ts)[0].acks)
        assert texts(inbox) == ["How are you?"]


def test_a_question_that_was_not_stored_is_not_acked_and_comes_again(
    workspace: Workspace, inbox: Inbox, doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    doors.failures = 2
    dm = workspace.open_dm()
    with listening(workspace, doors) as listener:
        ts = workspace.say(dm, "a secret question")
        workspace.wait_for(lambda: workspace.deliveries_of(dm, ts)[0].acks)

        (delivery,) = workspace.deliveries_of(dm, ts)
        assert len(delivery.sends) == 3
        assert len(delivery.acks) == 1
        assert texts(inbox) == ["a secret question"]
        assert listener.counts.failed == 2
    assert [r.getMessage() for r in caplog.records].count("questions not stored") == 1
    assert "secret" not in caplog.text


def test_what_is_no_question_is_acked_although_the_database_is_slow(
    workspace: Workspace, doors: Doors
) -> None:
    channel = workspace.add_channel()
    with listening(workspace, doors) as listener:
        doors.is_open.clear()
        event_id = workspace.send_event(
            {"type": "message", "channel": channel, "user": "U1", "ts": "1.1", "text": "chat"}
        )
        workspace.wait_for(lambda: workspace.delivery(event_id).acks)
        doors.is_open.set()

        assert listener.counts.ignored == 1


def test_the_two_events_of_one_mention_are_one_question(workspace: Workspace, inbox: Inbox) -> None:
    channel = workspace.add_channel()
    mpim = workspace.add_mpim()
    with listening(workspace, inbox) as listener:
        workspace.say(mpim, f"{workspace.mention} once", twin=True)
        workspace.say(channel, f"{workspace.mention} twice", twin=True)
        workspace.wait_for(lambda: workspace.acked_count == 4)
        # They are counted after the acks.
        workspace.wait_for(lambda: listener.counts.duplicates + listener.counts.ignored == 2)

        assert listener.counts.received == 4
    assert texts(inbox) == ["once", "twice"]


def test_a_question_past_the_limit_is_acked_too(workspace: Workspace, tmp_path: Path) -> None:
    database = Database(url=f"sqlite:///{tmp_path / 'small.db'}")
    database.open()
    inbox = Inbox(database=database, owner="test", retention_hours=1.0, queue_limit=3)
    channel = workspace.add_channel()
    with listening(workspace, inbox) as listener:
        workspace.burst(5, channels=[channel])
        workspace.wait_for(lambda: workspace.acked_count == 5)

        workspace.wait_for(lambda: listener.counts.refused == 2)
    database.close()


@pytest.mark.parametrize("how", ["close_frame", "fin", "reset", "silence", "no_pong"])
def test_every_question_is_stored_once_although_links_are_lost(
    workspace: Workspace, inbox: Inbox, how: Cut
) -> None:
    channels = [workspace.add_channel(f"c{number}") for number in range(100)]
    with listening(workspace, inbox):
        for part in range(4):
            workspace.burst(25, channels=channels[25 * part : 25 * part + 25])
            workspace.cut_link(how)
        workspace.wait_for(lambda: workspace.acked_count == 100)

    assert len(texts(inbox)) == 100


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
def test_every_question_is_stored_once_although_links_are_replaced(
    workspace: Workspace, inbox: Inbox, reason: Any
) -> None:
    channels = [workspace.add_channel(f"c{number}") for number in range(100)]
    with listening(workspace, inbox):
        for part in range(4):
            workspace.burst(25, channels=channels[25 * part : 25 * part + 25])
            workspace.warn_disconnect(reason, close_after=0.01 * part)
        workspace.wait_for(lambda: workspace.acked_count == 100)

    assert len(texts(inbox)) == 100


def test_a_frame_that_never_ends_loses_no_question(workspace: Workspace, inbox: Inbox) -> None:
    channels = [workspace.add_channel(f"c{number}") for number in range(10)]
    workspace.shape_envelopes(stall_seconds=60.0)
    with listening(workspace, inbox):
        workspace.burst(10, channels=channels)
        workspace.wait_for(lambda: workspace.acked_count == 10)

    assert len(texts(inbox)) == 10


def test_questions_of_an_outage_are_answered_after_it(workspace: Workspace, inbox: Inbox) -> None:
    dm = workspace.open_dm()
    with listening(workspace, inbox):
        workspace.go_down()
        workspace.wait_for(lambda: not workspace.open_links)
        workspace.say(dm, "anybody there?")
        workspace.come_up()
        workspace.wait_for(lambda: workspace.acked_count)

    assert workspace.deliveries[0].sends[0].attempt == 1
    assert texts(inbox) == ["anybody there?"]


def test_a_burst_is_stored_and_acked_in_time(inbox: Inbox) -> None:
    """Slack waits three seconds for an ack. An eighth of it is usual on two cores."""
    with Workspace(limits=Limits.none()) as workspace:
        channels = [workspace.add_channel(f"c{number}") for number in range(64)]
        with listening(workspace, inbox):
            workspace.burst(3_200, channels=channels)
            workspace.wait_for(lambda: workspace.acked_count == 3_200)

        deliveries = workspace.deliveries
        assert {len(delivery.sends) for delivery in deliveries} == {1}
        assert max(delivery.ack_seconds or DEADLINE for delivery in deliveries) < 3.0
        assert inbox.counts().waiting == 3_200
        assert len(workspace.links) == 1


# --- envelope by envelope ----------------------------------------------------------------------


@dataclass
class Script:
    """Stands for links: what is received, and which envelopes are acked."""

    clock: float = 0.0
    waiting: list[Any] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)

    def receive(self, limit: int, *, timeout: float) -> list[Received]:
        assert timeout > 0
        batch, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [Received(cast(Link, self), _bytes(envelope)) for envelope in batch]

    def ack(self, envelope_id: str) -> None:
        self.acked.append(envelope_id)

    def listener(self, inbox: object) -> Listener:
        return Listener(
            links=cast(Links, self),
            inbox=cast(Inbox, inbox),
            reading=Reading(identity=US),
            spans=Spans(),
            clock=lambda: self.clock,
        )


def _bytes(envelope: Any) -> bytes:
    return envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()


def asking(number: int, text: str = "hello") -> dict[str, Any]:
    """Return the envelope of a question."""
    event = {"type": "message", "channel": f"D{number}", "channel_type": "im", "user": "U1"}
    event |= {"ts": f"{number}.0", "text": text}
    payload = {"team_id": "T1", "event_id": f"Ev{number}", "event": event}
    return {"envelope_id": f"e{number}", "type": "events_api", "payload": payload}


@pytest.fixture(name="script")
def _script() -> Script:
    return Script()


@pytest.mark.parametrize("kind", ["interactive", "slash_commands", "novelty"])
def test_other_envelopes_are_acked_and_ignored(script: Script, inbox: Inbox, kind: str) -> None:
    listener = script.listener(inbox)
    script.waiting = [{"envelope_id": "e1", "type": kind, "payload": {"text": "hello"}}]

    listener.step()

    assert script.acked == ["e1"]
    assert listener.counts.ignored == 1
    assert inbox.counts().waiting == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"envelope_id": "e1", "payload": {"text": "a sec',
        b'{"envelope_id": "e1", "payload": "a secr\xff\xfet"}',
        b'["envelope_id", "a secret"]',
        b'{"envelope_id": 17, "payload": "a secret"}',
        b'{"envelope_id": "e1", "a secret": ' + b"[" * 100_000,
        b"",
    ],
)
def test_a_garbled_envelope_is_passed_over(
    script: Script, inbox: Inbox, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    script.waiting = [asking(1), garbage, asking(2)]

    script.listener(inbox).step()

    assert script.acked == ["e1", "e2"]
    assert inbox.counts().waiting == 2
    assert "envelope not understood" in caplog.text
    assert "sec" not in caplog.text


@pytest.mark.parametrize(
    ("written", "text"),
    [("half \\ud83d, cut off", "half �, cut off"), ("whole \\ud83d\\ude00", "whole 😀")],
)
def test_half_a_character_does_no_harm(
    script: Script, inbox: Inbox, written: str, text: str
) -> None:
    script.waiting = [_bytes(asking(1, "TEXT")).replace(b"TEXT", written.encode())]

    script.listener(inbox).step()

    assert script.acked == ["e1"]
    assert texts(inbox) == [text]


def test_all_that_waits_shares_a_commit(script: Script, inbox: Inbox) -> None:
    sizes = []

    class Counting(Doors):
        def enqueue(self, questions: Sequence[tuple[Question, str]]) -> list[Enqueued]:
            sizes.append(len(questions))
            return super().enqueue(questions)

    listener = script.listener(Counting(inbox))
    script.waiting = [asking(number) for number in range(700)]

    listener.step()
    listener.step()

    assert sizes == [500, 200]
    assert len(script.acked) == 700


def test_no_question_of_a_failed_commit_is_acked(
    script: Script, inbox: Inbox, doors: Doors
) -> None:
    doors.failures = 1
    listener = script.listener(doors)
    script.waiting = [asking(1), {"envelope_id": "e2", "type": "interactive"}, asking(3)]

    listener.step()

    assert script.acked == ["e2"]
    assert inbox.counts().waiting == 0


def test_a_database_that_stays_away_is_told_of_now_and_then(
    script: Script, doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    doors.failures = 100
    listener = script.listener(doors)

    for second in range(25):
        script.clock = float(second)
        script.waiting = [asking(second)]
        listener.step()

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.__dict__["count"] for record in warnings] == [1, 11, 21]


def test_each_question_begins_a_trace_of_its_own(script: Script, inbox: Inbox) -> None:
    script.waiting = [asking(1), asking(2)]

    script.listener(inbox).step()

    traces = {delivery.traceparent for delivery in inbox.lease(10)}
    assert len(traces) == 2


def test_the_same_question_twice_in_a_batch_is_one(script: Script, inbox: Inbox) -> None:
    listener = script.listener(inbox)
    again = asking(1) | {"envelope_id": "e2", "retry_attempt": 1}
    script.waiting = [asking(1), again]

    listener.step()

    assert script.acked == ["e1", "e2"]
    assert listener.counts.duplicates == 1
    assert inbox.counts().waiting == 1


def test_nothing_received_is_nothing_done(script: Script, inbox: Inbox) -> None:
    listener = script.listener(inbox)

    listener.step()

    assert listener.counts.received == 0
    assert script.acked == []
