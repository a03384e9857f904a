"""Everything at once: a crowd, Slack's limits, faults, lost links, readers that delete, a restart.

What happens is drawn by chance from a seed: STORM_SEEDS="2 3 4" plays other storms than the suite.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.exchange import belongs_to, question_id
from chatrelaybot.playground.limits import Limits, Rate
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.web_api import heedless
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.render import PART_LIMIT
from tests.answering import AnsweringBackend, delta, query
from tests.conftest import settings_for
from tests.scripted_backend import CHUNKED, END, Exchange, event, head

_SEEDS = [int(seed) for seed in os.environ.get("STORM_SEEDS", "1").split()]
_QUESTIONS = 200
_CONVERSATIONS = 60
#: How often each thing happens besides.
_EVENTS = {"fault": 40, "cut": 3, "refresh": 1, "redeliver": 12, "delete": 12, "restart": 1}
#: Mean seconds between two things that happen.
_PAUSE = 0.015
#: Until everything is answered; seconds.
_DEADLINE = 60.0
#: As much as the daemon's own budget lets through, so that a refusal is a fault of ours.
_LIMITS = Limits().having("chat.update", Rate(120, 48)).having("chat.postMessage", Rate(3000, 1200))
#: Not reactions.remove: a stop leaves the reaction to an answered question whose removal failed.
_METHODS = (
    "chat.postMessage",
    "chat.update",
    "chat.delete",
    "conversations.replies",
    "conversations.history",
    "reactions.add",
)
_FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status": 503, "times": 3},
    {"error": "internal_error"},
    {"error": "service_unavailable"},
    {"error": "fatal_error", "has_effect": True},
    {"cut": "before", "times": 2},
    {"cut": "after", "times": 2},
    {"delay": 0.3, "times": 3},
    {"answer_delay": 0.3, "times": 3},
    {"retry_after": 1},
)
_HOSTILE = "<!channel> <@U123> <https://evil.example|bank> & &lt;!here&gt;"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a backend says, and how."""

    pieces: list[str]
    pauses: list[float]  #: before each piece
    is_broken_off: bool = False
    is_flaky: bool = False  #: the first try fails

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def answer_to(question: str) -> Answer:
    """Draw an answer; the same one for the same question."""
    chance = random.Random(question)
    kind = chance.choices(
        ["short", "stream", "stall", "long", "broken", "flaky"], [3, 4, 2, 1, 1, 1]
    )
    words = {"short": 10, "long": 3000}.get(kind[0], 60)
    text = f"{question}: {_HOSTILE} " + " ".join(f"word{number}" for number in range(words)) + "."
    cuts = sorted(chance.sample(range(1, len(text)), chance.randint(1, 12)))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    pauses = [chance.uniform(0.0, 0.15) for _ in pieces]
    if kind == ["stall"]:
        pauses[chance.randrange(len(pauses))] = 1.5
    return Answer(pieces, pauses, is_broken_off=kind == ["broken"], is_flaky=kind == ["flaky"])


class Backend(AnsweringBackend):
    """Streams, stalls, breaks off, and fails at first."""

    def __init__(self) -> None:
        super().__init__()
        self._tries: Counter[str] = Counter()
        self._closing = threading.Event()
        self.fall_back(self._play_out)

    def __exit__(self, *ended: Any) -> None:
        self._closing.set()
        super().__exit__(*ended)

    def _play_out(self, exchange: Exchange) -> None:
        question = query(exchange.request)
        answer = answer_to(question)
        self._tries[question] += 1
        if answer.is_flaky and self._tries[question] == 1:
            exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))
            return
        exchange.send(head(CHUNKED))
        for piece, pause in zip(answer.pieces, answer.pauses, strict=True):
            self._closing.wait(pause)
            exchange.send_chunk(delta(piece))
        if answer.is_broken_off:
            exchange.send_chunk(event("error", '{"error": "secret words"}'))
        else:
            exchange.send_chunk(END)
        exchange.end_chunks()


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    channel: str
    ts: str
    conversation: int


class Storm:
    """What happens, and what was asked."""

    def __init__(self, workspace: Workspace, *, seed: int, restart: Callable[[], float]) -> None:
        self._workspace = workspace
        self._chance = random.Random(seed)
        self._restart_now = restart
        self._places = [self._place(number) for number in range(_CONVERSATIONS)]
        self._pause = threading.Event()
        self.asked: list[Asked] = []
        self.deleted: set[str] = set()
        self.restarts: list[float] = []

    def rage(self) -> None:
        kinds = [kind for kind, count in _EVENTS.items() for _ in range(count)]
        kinds += ["ask"] * _QUESTIONS
        self._chance.shuffle(kinds)
        for kind in kinds:
            getattr(self, f"_{kind}")()
            self._pause.wait(self._chance.uniform(0.0, 2 * _PAUSE))

    def messages(self, asked: Asked) -> list[StoredMessage]:
        """Return what the bot wrote to answer a question, deleted messages too."""
        key = question_id(team_id=self._workspace.team_id, channel=asked.channel, ts=asked.ts)
        everything = self._workspace.everything(asked.channel)
        return [message for message in everything if belongs_to(message, key)]

    def replies(self, asked: Asked) -> list[StoredMessage]:
        return [message for message in self.messages(asked) if not message.deleted]

    def _place(self, number: int) -> tuple[str, str | None]:
        """Return a direct conversation, or a thread in a channel."""
        workspace = self._workspace
        if number % 2:
            return workspace.open_dm(workspace.add_user(f"user{number}")), None
        channel = workspace.add_channel(f"channel{number}")
        return channel, workspace.say(channel, "a talk among people")

    def _ask(self) -> None:
        conversation = self._chance.randrange(_CONVERSATIONS)
        channel, thread_ts = self._places[conversation]
        text = f"question {len(self.asked)}"
        words = text if thread_ts is None else f"{self._workspace.mention} {text}"
        is_twin = thread_ts is not None and self._chance.random() < 0.2
        ts = self._workspace.say(channel, words, thread_ts=thread_ts, twin=is_twin)
        self.asked.append(Asked(text, channel, ts, conversation))

    def _fault(self) -> None:
        self._workspace.faults.add(self._chance.choice(_METHODS), **self._chance.choice(_FAULTS))

    def _cut(self) -> None:
        self._workspace.cut_link(self._chance.choice(["close_frame", "fin", "reset"]))

    def _refresh(self) -> None:
        self._workspace.warn_disconnect("refresh_requested", close_after=0.1)

    def _restart(self) -> None:
        self.restarts.append(self._restart_now())

    def _redeliver(self) -> None:
        delivery = self._chance.choice(self._workspace.deliveries or [None])
        if delivery is not None:
            self._workspace.send_event(delivery.event, event_id=delivery.event_id)

    def _delete(self) -> None:
        """Let a reader delete a reply, one that is and will be a single message."""
        short = [asked for asked in self.asked if len(answer_to(asked.text).text) < PART_LIMIT / 2]
        seen = [asked for asked in short if self.replies(asked)]
        if seen:
            asked = self._chance.choice(seen)
            self.deleted.add(asked.text)
            self._workspace.delete(asked.channel, self.replies(asked)[0].ts)


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    with Workspace(
        limits=_LIMITS, ack_seconds=0.5, redelivery=(0.3,) * 60, resume_seconds=0.1
    ) as workspace:
        yield workspace


@pytest.fixture(name="backend")
def _backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.mark.parametrize("seed", _SEEDS)
def test_every_question_ends_in_one_complete_reply(
    workspace: Workspace,
    backend: Backend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    seed: int,
) -> None:
    before = set(threading.enumerate())
    daemons: list[Daemon] = []

    def restart() -> float:
        for daemon in daemons[-1:]:
            daemon.stop()
        stopped = time.monotonic()
        daemons.append(
            Daemon(
                settings_for(
                    workspace,
                    backend.url,
                    tmp_path,
                    workers=60,
                    edits_per_minute=120,
                    posts_per_minute=3000,
                    edit_seconds=0.1,
                    overflow_seconds=2.0,
                    drain_seconds=0.3,
                )
            )
        )
        daemons[-1].start()
        return stopped

    restart()
    storm = Storm(workspace, seed=seed, restart=restart)
    try:
        workspace.wait_for_link()
        storm.rage()
        workspace.faults.clear()
        wait_until_answered(workspace, tmp_path / "inbox.sqlite3")
    finally:
        daemons[-1].stop()

    check_replies(storm)
    check_order(workspace, storm)
    check_conduct(workspace, storm)
    errors = {record.message for record in caplog.records if record.levelno >= logging.ERROR}
    assert errors <= {"reply undeliverable"}, errors
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if "scripted-backend" not in name}, left


def wait_until_answered(workspace: Workspace, inbox: Path) -> None:
    """Wait until every question has come to the inbox, and is settled there."""
    pause, deadline = threading.Event(), time.monotonic() + _DEADLINE
    while True:
        with closing(sqlite3.connect(inbox)) as database:
            rows = database.execute("SELECT state, count(*) FROM questions GROUP BY state")
            counts = dict(rows.fetchall())
        is_here = all(delivery.acks for delivery in workspace.deliveries)
        if is_here and not counts.keys() & {"ready", "leased"}:
            assert sum(counts.values()) == _QUESTIONS
            return
        assert time.monotonic() < deadline, f"{counts}\n{workspace.snapshot()[-6000:]}"
        pause.wait(0.1)


def check_replies(storm: Storm) -> None:
    for asked in storm.asked:
        replies, answer = storm.replies(asked), answer_to(asked.text)
        if asked.text in storm.deleted and not replies:
            continue
        words = " ".join(reply.shown for reply in replies).split()
        assert words[: len(answer.text.split())] == answer.text.split(), (asked, answer, words)
        note = " ".join(words[len(answer.text.split()) :])
        assert note.startswith("_This answer is incomplete") is answer.is_broken_off, (asked, note)
        assert bool(note) is answer.is_broken_off, (asked, note)
        assert [
            reply.metadata and reply.metadata["event_payload"]["part"] for reply in replies
        ] == [*range(len(replies))], asked


def check_order(workspace: Workspace, storm: Storm) -> None:
    """A question that was here before another was sent is answered before it is begun."""
    ordered = 0
    for earlier, later in itertools.combinations(storm.asked, 2):
        if earlier.conversation != later.conversation:
            continue
        [first, *_], [second, *_] = (
            workspace.deliveries_of(asked.channel, asked.ts) for asked in (earlier, later)
        )
        if first.acks[0].at > second.sends[0].at:
            continue
        ends = [version.at for reply in storm.replies(earlier) for version in reply.versions]
        begins = [version.at for reply in storm.messages(later) for version in reply.versions]
        assert max(ends, default=0.0) <= min(begins, default=float("inf")), (earlier, later)
        ordered += 1
    assert ordered > _QUESTIONS


def check_conduct(workspace: Workspace, storm: Storm) -> None:
    """Nothing came alive, no limit was overstepped, and nothing was left behind."""
    channels = {call.args["channel"] for call in workspace.calls if "channel" in call.args}
    everything = [message for channel in channels for message in workspace.everything(channel)]
    ours = [message for message in everything if message.bot_id == workspace.bot_id]
    assert not [token for message in ours for token in message.live_tokens]
    assert not [message.ts for message in ours if message.edited]
    # Whoever deletes the reply may be left with the reaction to their question.
    reactions = {message.ts for message in everything if message.reactions}
    gone = {asked.ts for asked in storm.asked if asked.text in storm.deleted}
    assert reactions <= gone
    # A new process cannot know what Slack told the old one.
    for start, end in itertools.pairwise([0.0, *storm.restarts, math.inf]):
        assert not heedless([call for call in workspace.calls if start <= call.at < end], grace=0.1)
