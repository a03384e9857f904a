"""What is told of a question's answer: its span, its times, and the line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chatrelaybot import telemetry_spans
from chatrelaybot.delivery import Delivery
from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.errors import FailureKind, TransientError
from chatrelaybot.telemetry_metrics import (
    BACKEND_FAILURES,
    PROCESS_DURATION,
    QUEUE_WAIT,
    REPLIES,
    TO_FINAL_TEXT,
    TO_FIRST_TEXT,
    TO_PLACEHOLDER,
    Instrument,
    Metrics,
)
from chatrelaybot.telemetry_spans import Span, Spans, Value

# Its records are the relay's, whose story they tell.
_log = logging.getLogger("chatrelaybot.relay")

_PROCESS = {"messaging.system": "slack", "messaging.operation.name": "process"}


class Journal:
    """Safe for any number of threads."""

    def __init__(self, *, spans: Spans, metrics: Metrics) -> None:
        self._spans = spans
        self._metrics = metrics

    @contextmanager
    def processing(self, delivery: Delivery) -> Iterator[Entry]:
        """Tell of one try to answer a question."""
        is_first = delivery.attempt == 1 and not delivery.crash_count and not delivery.parts
        if is_first:  # Else it was leased before, and given back.
            self._metrics.record(QUEUE_WAIT, delivery.age)
        span = self._spans.process(delivery)
        began_at = time.monotonic()
        entry = Entry(span, self._metrics, asked_at=began_at - delivery.age)
        try:
            with telemetry_spans.active(span):
                yield entry
        except Exception as error:
            entry.error_type = type(error).__name__
            span.fail(entry.error_type)
            raise
        finally:
            attributes = {**_PROCESS, "error.type": entry.error_type}
            self._metrics.record(PROCESS_DURATION, time.monotonic() - began_at, attributes)
            span.end()

    def backend_failed(self, kind: FailureKind) -> None:
        """Count a failed try."""
        self._metrics.count(BACKEND_FAILURES, attributes={"kind": kind.value})


class Entry:
    """One try to answer; belongs to the thread that answers."""

    def __init__(self, span: Span, metrics: Metrics, *, asked_at: float) -> None:
        """`asked_at` is by time.monotonic(), as the timeline of a draft is."""
        self.span = span
        self.error_type = ""
        self._metrics = metrics
        self._asked_at = asked_at

    def ended(
        self,
        draft: Draft,
        outcome: Outcome,
        failure: FailureKind | None,
        again: TransientError | None,
        *,
        is_settled: bool,
    ) -> None:
        """Tell how the reply ended; with `again` it is to be tried once more.

        What is not settled will be answered once more, by whoever has it next.
        """
        kind = again.kind if again is not None else failure
        self.span.set(_facts(draft, outcome))
        if kind is not None:
            self.error_type = kind.value
            self.span.fail(kind.value)
        line = draft.timeline
        self._record(TO_PLACEHOLDER, line.placeholder)
        if outcome is Outcome.LEFT or not is_settled:
            return
        _log_finished(draft, outcome, failure)
        told = {"outcome": outcome.value, "failure": failure.value if failure else "none"}
        self._metrics.count(REPLIES, attributes=told)
        if outcome is Outcome.DELIVERED:
            self._record(TO_FIRST_TEXT, line.first_text)
            self._record(TO_FINAL_TEXT, line.settled)

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Tell how long the inbox takes to learn of it."""
        span = self.span.child("settle inbox", {"messaging.operation.name": "settle"})
        try:
            yield
        finally:
            span.end()

    def _record(self, instrument: Instrument, at: float | None) -> None:
        if at is not None:
            self._metrics.record(instrument, at - self._asked_at)


def _log_finished(draft: Draft, outcome: Outcome, failure: FailureKind | None) -> None:
    """Write the one line that each reply gets."""
    line, delivery = draft.timeline, draft.delivery
    seconds = {
        "placeholder_seconds": line.placeholder,
        "first_text_seconds": line.first_text,
        "closed_seconds": line.closed,
        "total_seconds": line.settled,
    }
    _log.info(
        "reply finished",
        extra={
            "question": delivery.question.id,
            "channel": delivery.question.channel,
            "outcome": outcome.value,
            "failure": failure and failure.value,
            "attempt": delivery.attempt,
            **{name: round(at - line.opened, 3) for name, at in seconds.items() if at is not None},
            "edits": draft.edit_count,
            "parts": len(draft.parts),
            "characters": draft.rendering.length,
        },
    )


def _facts(draft: Draft, outcome: Outcome) -> dict[str, Value]:
    return {
        "chatrelaybot.outcome": outcome.value,
        "chatrelaybot.reply.edits": draft.edit_count,
        "chatrelaybot.reply.parts": len(draft.parts),
        "chatrelaybot.reply.characters": draft.rendering.length,
    }
