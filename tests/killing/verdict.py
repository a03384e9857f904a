"""Whether a question whose process was killed has one complete reply, and what there is if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.snapshot import describe
from chatrelaybot.playground.workspace import Workspace
from tests.killing.inboxes import InboxView
from tests.killing.tracing import FailPoint

#: Lines of a daemon's log that are told.
_LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what is to become of it."""

    key: str  #: as the daemon calls it
    channel: str  #: its own
    ts: str
    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Case:
    """A line, and the question at which the process is killed there."""

    kind: str
    point: FailPoint

    def __str__(self) -> str:
        return f"{self.kind} at {self.point}: {self.point.source}"


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a case."""

    case: Case
    was_killed: bool
    fault: str = ""  #: what is wrong with the reply, with the evidence


def fault_of(asked: Asked, workspace: Workspace, inbox: InboxView) -> str:
    """Return what is wrong with the reply to a question; nothing if it is as it should be."""
    row = inbox.question(asked.key) or {}
    replies = workspace.bot_messages(asked.channel)
    numbers = [_part(reply) for reply in replies]
    shown = "".join(reply.shown for reply in replies)
    reactions = workspace.message(asked.channel, asked.ts).reactions
    faults = {
        f"the row is {row.get('state')}, {row.get('outcome')}": (
            (row.get("state"), row.get("outcome")) != ("done", "delivered")
        ),
        f"the parts are {numbers}": not numbers or numbers != [*range(len(numbers))],
        f"it says {shown[:200]!r}, {len(shown)} characters": shown != asked.answer,
        f"reactions are left: {dict(reactions)}": bool(reactions),
    }
    return "; ".join(words for words, is_so in faults.items() if is_so)


def evidence(asked: Asked, workspace: Workspace, inbox: InboxView, logs: Sequence[str]) -> str:
    """Tell all that is known of a question."""
    calls = [call for call in workspace.calls if call.args.get("channel") == asked.channel]
    messages = {asked.channel: workspace.everything(asked.channel)}
    deliveries = workspace.deliveries_of(asked.channel, asked.ts)
    return "\n".join(
        [
            f"row: {inbox.question(asked.key)}",
            *(f"part: {part}" for part in inbox.parts(asked.key)),
            describe(messages, calls, deliveries, workspace.open_links),
            *(line[:400] for log in logs for line in log.splitlines()[-_LOG_LINES:]),
        ]
    )


def _part(message: StoredMessage) -> object:
    payload = (message.metadata or {}).get("event_payload") or {}
    return payload.get("part")
