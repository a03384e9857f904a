"""A question put to the bot in the workspace, and what has become of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chatrelaybot.events import Question
from chatrelaybot.playground.messages import StoredMessage, Version


@dataclass(frozen=True, slots=True)
class Ending:
    """How the daemon says that a reply ended."""

    question_id: str
    is_delivered: bool
    failure: str | None  #: what kept the answer from being whole; None: it is
    attempt: int  #: how often the backend was asked

    @property
    def is_answer(self) -> bool:
        """Whether the reader has the whole answer."""
        return self.is_delivered and self.failure is None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that somebody in the workspace asked."""

    id: str  #: as the daemon calls it
    channel: str
    ts: str
    root_ts: str  #: of the thread that it began, or is in
    place: str  #: where the reply is expected, for people


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its reply at one moment."""

    place: str
    question: StoredMessage
    messages: Sequence[StoredMessage]  #: all that the bot wrote for it, deleted ones too
    placeholder: str  #: what a reply says before it has any text
    refusal_count: int = 0  #: calls that Slack refused for their rate
    ending: Ending | None = None  #: None: it goes on

    @property
    def replies(self) -> list[StoredMessage]:
        """The messages that readers see, oldest first."""
        return [message for message in self.messages if not message.deleted]

    @property
    def is_answered(self) -> bool:
        return self.ending is not None and self.ending.is_answer

    @property
    def edit_count(self) -> int:
        return sum(len(message.versions) - 1 for message in self.messages)

    @property
    def placeholder_seconds(self) -> float | None:
        """Seconds from the question to the placeholder; None: there was none."""
        return self._first(v for v in self._versions if v.shown == self.placeholder)

    @property
    def first_text_seconds(self) -> float | None:
        """Seconds from the question to the first text."""
        return self._first(v for v in self._versions if v.shown != self.placeholder)

    @property
    def last_text_seconds(self) -> float | None:
        """Seconds from the question to the newest text that readers see."""
        shown = [message.versions[-1].at for message in self.replies]
        return self.since(max(shown)) if shown else None

    def since(self, at: float) -> float:
        """Return the seconds from the question to a moment of time.monotonic()."""
        return at - self.question.versions[0].at

    @property
    def _versions(self) -> Iterator[Version]:
        return (version for message in self.messages for version in message.versions)

    def _first(self, versions: Iterator[Version]) -> float | None:
        at = min((version.at for version in versions), default=None)
        return None if at is None else self.since(at)


def question_id(*, team_id: str, channel: str, ts: str) -> str:
    """Return what the daemon calls a question."""
    question = Question(
        event_id="",
        team_id=team_id,
        channel=channel,
        user_id="",
        text="",
        ts=ts,
        thread_ts=None,
    )
    return question.id


def belongs_to(message: StoredMessage, question: str) -> bool:
    """Say whether a message is a part of the reply to the question with this id."""
    payload = (message.metadata or {}).get("event_payload") or {}
    return bool(payload.get("question") == question)


def summary(exchange: Exchange) -> list[str]:
    """Tell in a few short lines what happened, for people."""
    lines = [" · ".join(_moments(exchange))] if exchange.messages else []
    lines.append(
        f"{count(exchange.edit_count, 'edit')} of {count(len(exchange.replies), 'message')} · "
        f"{count(exchange.refusal_count, 'call')} refused by Slack's rate limits"
    )
    if exchange.ending is None:
        lines.append("no complete answer: the bot has not finished it")
    elif not exchange.is_answered:
        reason = exchange.ending.failure or "the reply could not be delivered"
        tries = count(exchange.ending.attempt, "try", "tries")
        lines.append(f"no complete answer after {tries}: {reason}")
    return lines


def count(number: int, one: str, more: str | None = None) -> str:
    """Return the number and the word in its singular or plural."""
    return f"{number or 'no'} {one if number == 1 else more or f'{one}s'}"


def _moments(exchange: Exchange) -> Iterator[str]:
    first, last = exchange.first_text_seconds, exchange.last_text_seconds
    if exchange.placeholder_seconds is not None:
        yield f"placeholder after {exchange.placeholder_seconds:.2f} s"
    if first is None or last is None:
        return
    if exchange.is_answered or first < last:
        yield f"first text after {first:.2f} s"
    yield f"{'final text' if exchange.is_answered else 'last change'} after {last:.2f} s"
