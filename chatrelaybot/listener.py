"""Takes envelopes from the links, puts questions into the inbox, and only then acks them.

What is not acked within three seconds Slack sends again, three more times in some six minutes:
https://docs.slack.dev/apis/events-api/#retries. So nothing else happens on this thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatrelaybot.delivery import Enqueued
from chatrelaybot.errors import TransientError
from chatrelaybot.events import Question, Reading, parse, why_ignored
from chatrelaybot.inbox import Inbox
from chatrelaybot.inbox_publishing import Published, publish
from chatrelaybot.link import Links
from chatrelaybot.link_session import Received
from chatrelaybot.telemetry_metrics import IGNORED, QUESTIONS, SILENT, Metrics
from chatrelaybot.telemetry_spans import Spans

_log = logging.getLogger(__name__)

#: Most envelopes of one commit.
_BATCH = 500
#: Longest time that a step waits for an envelope, in seconds.
_STEP_SECONDS = 60.0
#: At most one warning about the database in this time, in seconds.
_WARNING_SECONDS = 10.0


@dataclass(slots=True)
class Counts:
    """What came so far."""

    received: int = 0  #: envelopes
    ignored: int = 0  #: envelopes that hold no question
    duplicates: int = 0  #: questions that were in the inbox already
    refused: int = 0  #: questions past the inbox's limit
    failed: int = 0  #: questions not stored, and not acked


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    received: Received
    envelope_id: str


class Listener:
    """One thread calls `step` over and over."""

    def __init__(
        self,
        *,
        links: Links,
        inbox: Inbox,
        reading: Reading,
        spans: Spans,
        metrics: Metrics = SILENT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        self._inbox = inbox
        self._reading = reading
        self._spans = spans
        self._metrics = metrics
        self._clock = clock
        self._next_warning = clock()
        self.counts = Counts()

    def answer_in(self, channels: frozenset[str]) -> None:
        """Take questions from these channels only, from now on; none: from all."""
        self._reading = replace(self._reading, channels=channels)

    def step(self) -> None:
        """Wait for envelopes, and deal with all that are here."""
        batch = self._links.receive(_BATCH, timeout=_STEP_SECONDS)
        asked = [one for received in batch if (one := self._sort(received)) is not None]
        if asked:
            self._store(asked)

    def _sort(self, received: Received) -> _Asked | None:
        """Return a question; ack what is none."""
        self.counts.received += 1
        envelope = _envelope(received.text)
        if envelope is None:
            _log.warning("envelope not understood", extra={"length": len(received.text)})
            return None
        envelope_id = envelope["envelope_id"]
        question = parse(envelope, self._reading)
        if isinstance(question, Question):
            return _Asked(question, received, envelope_id)
        self.counts.ignored += 1
        received.link.ack(envelope_id)
        self._metrics.count(IGNORED, attributes={"reason": why_ignored(envelope, self._reading)})
        return None

    def _store(self, asked: Sequence[_Asked]) -> None:
        questions = [(one.question, one.received.arrived_at) for one in asked]
        try:
            published = publish(self._inbox, self._spans, questions)
        except TransientError as error:
            # Not acked, so Slack sends them again.
            self.counts.failed += len(asked)
            self._metrics.count(QUESTIONS, len(asked), {"result": "failed"})
            self._warn(error)
            return
        for one in asked:
            one.received.link.ack(one.envelope_id)
        for each in published:
            self._note(each)

    def _note(self, published: Published) -> None:
        self.counts.duplicates += published.result is Enqueued.DUPLICATE
        self.counts.refused += published.result is Enqueued.REFUSED
        self._metrics.count(QUESTIONS, attributes={"result": published.result.value})
        if published.is_new:
            published.span.add_event("ack", {})
            published.span.end()

    def _warn(self, error: TransientError) -> None:
        now = self._clock()
        if now < self._next_warning:
            return
        self._next_warning = now + _WARNING_SECONDS
        _log.warning(
            "questions not stored", extra={"count": self.counts.failed, "error": str(error)}
        )


def _envelope(text: bytes) -> dict[str, Any] | None:
    try:
        envelope = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("envelope_id"), str):
        return None
    return envelope
