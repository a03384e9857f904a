"""Questions on their way into the inbox, each at the beginning of its trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatrelaybot.delivery import Enqueued
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.telemetry_spans import Span, Spans


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a question, and the span that tells of it, which has not ended."""

    result: Enqueued
    span: Span

    @property
    def is_new(self) -> bool:
        """Whether it was not known; else its trace began with its first delivery."""
        return self.result is not Enqueued.DUPLICATE


def publish(
    inbox: Inbox, spans: Spans, questions: Sequence[tuple[Question, float | None]]
) -> list[Published]:
    """Store questions, each with the time of its arrival, in seconds since 1970, if known.

    Raises:
        TransientError: The database cannot be reached; none is stored.
    """
    begun = [spans.publish(question, arrived_at=at) for question, at in questions]
    results = inbox.enqueue(
        [(question, span.traceparent) for (question, _), span in zip(questions, begun, strict=True)]
    )
    return [Published(result, span) for result, span in zip(results, begun, strict=True)]
