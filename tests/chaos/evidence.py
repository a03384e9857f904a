"""What a storm has left, gathered from the records of the workspace and from the inbox."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chatrelaybot.playground.courier import Delivery
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.web_api import Call
from chatrelaybot.playground.workspace import Workspace
from tests.chaos.inboxes import Row
from tests.chaos.journal import Entry
from tests.chaos.verdict import Asked, Fate


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a storm."""

    fates: Sequence[Fate]
    calls: Sequence[Call]
    entries: Sequence[Entry]
    started_at: float  #: time.monotonic()
    seconds: float
    backend_calls: int
    strays: Sequence[StoredMessage]  #: visible messages of the bot that belong to no question


def gather(
    workspace: Workspace, asked: Iterable[Asked], rows: Mapping[str, Row]
) -> tuple[list[Fate], list[StoredMessage]]:
    """Return what became of each question, and the bot's visible messages that are of none."""
    questions = sorted(asked, key=lambda question: question.at)
    deliveries = _by_message(workspace.deliveries)
    replies: dict[str, list[StoredMessage]] = {question.id: [] for question in questions}
    strays = []
    for channel in sorted({question.channel for question in questions}):
        for message in workspace.everything(channel):
            if message.bot_id != workspace.bot_id:
                continue
            key = ((message.metadata or {}).get("event_payload") or {}).get("question")
            if key in replies:
                replies[key].append(message)
            elif not message.deleted:
                strays.append(message)
    fates = [
        Fate(
            asked=question,
            messages=tuple(replies[question.id]),
            row=rows.get(question.id),
            has_reaction=bool(workspace.message(question.channel, question.ts).reactions),
            **_moments(deliveries[question.channel, question.ts]),
        )
        for question in questions
    ]
    return fates, strays


def _moments(deliveries: Sequence[Delivery]) -> dict[str, float | None]:
    """Return when the event of a question was first sent and acked; its twin says nothing new."""
    sends = [send.at for delivery in deliveries[:1] for send in delivery.sends]
    acks = [ack.at for delivery in deliveries[:1] for ack in delivery.acks]
    return {"sent_at": min(sends, default=None), "acked_at": min(acks, default=None)}


def _by_message(deliveries: Iterable[Delivery]) -> Mapping[tuple[str, str], list[Delivery]]:
    found: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        found[str(delivery.event.get("channel")), str(delivery.event.get("ts"))].append(delivery)
    return found
