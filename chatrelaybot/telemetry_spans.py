"""Spans: what happened to a question, as timed pieces of one trace. No OpenTelemetry is needed.

Without it a span carries the trace on, to the inbox, the log and the backend, and records nothing.
https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from chatrelaybot.delivery import Delivery
from chatrelaybot.events import Question

Value = str | bool | int | float
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
#: Where questions go and come from, as the conventions for messaging want it named.
_INBOX = "inbox"
_SYSTEM = "slack"


class Role(enum.Enum):
    """OpenTelemetry's kinds of spans."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    CLIENT = "client"


class Span(Protocol):
    """A piece of a trace. Any thread may use it."""

    @property
    def traceparent(self) -> str:
        """Where it stands in its trace; empty: in none."""

    def child(
        self, name: str, attributes: Mapping[str, Value], *, role: Role = Role.CLIENT
    ) -> Span:
        """Begin a part of it."""

    def add_event(self, name: str, attributes: Mapping[str, Value]) -> None:
        """Note that something happened just now."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more about it."""

    def fail(self, kind: str) -> None:
        """Say that it failed; `kind` is a word of which there are few."""

    def end(self) -> None:
        """Note that it is over; a second time is without effect."""

    def headers(self) -> Mapping[str, str]:
        """Return the request headers that carry the trace on."""


class Tracer(Protocol):
    """Begins spans."""

    def start(
        self,
        name: str,
        attributes: Mapping[str, Value],
        *,
        role: Role,
        parent: str | None = None,
        started_at: float | None = None,
        baggage: Mapping[str, str] | None = None,
    ) -> Span:
        """Begin a span below the one that `parent`, a traceparent, names; None: a new trace.

        `started_at` is in seconds since 1970. The `baggage` goes wherever the trace goes.
        """


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A span that only carries the trace on."""

    traceparent: str

    def child(
        self,
        name: str,  # noqa: ARG002 - the protocol's, here and below
        attributes: Mapping[str, Value],  # noqa: ARG002
        *,
        role: Role = Role.CLIENT,  # noqa: ARG002
    ) -> Span:
        return self

    def add_event(self, name: str, attributes: Mapping[str, Value]) -> None:
        """Do nothing."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Do nothing."""

    def fail(self, kind: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def headers(self) -> Mapping[str, str]:
        return {"traceparent": self.traceparent} if self.traceparent else {}


class _NoTracer:
    def start(
        self,
        name: str,  # noqa: ARG002 - the protocol's, here and below
        attributes: Mapping[str, Value],  # noqa: ARG002
        *,
        role: Role,  # noqa: ARG002
        parent: str | None = None,
        started_at: float | None = None,  # noqa: ARG002
        baggage: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Span:
        return Unrecorded(parent or _new_traceparent())


NO_SPAN: Span = Unrecorded("")
NO_TRACER: Tracer = _NoTracer()
_current: ContextVar[Span] = ContextVar("chatrelaybot_span", default=NO_SPAN)


class Spans:
    """The two spans that a question's way consists of: into the inbox, and out of it."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer

    def publish(self, question: Question, *, arrived_at: float | None = None) -> Span:
        """Begin the trace of a question that arrived at this time, in seconds since 1970."""
        attributes = {**_named("publish", "send"), **_identity(question)}
        return self._tracer.start(
            f"publish {_INBOX}", attributes, role=Role.PRODUCER, started_at=arrived_at
        )

    def process(self, delivery: Delivery) -> Span:
        """Begin a try to answer; it stands in the question's trace, whoever began that."""
        question = delivery.question
        attributes: dict[str, Value] = {
            **_named("process", "process"),
            **_identity(question),
            "chatrelaybot.attempt": delivery.attempt,
            "chatrelaybot.crash_count": delivery.crash_count,
            "chatrelaybot.queue.wait": round(delivery.age, 3),
        }
        return self._tracer.start(
            f"process {_INBOX}",
            attributes,
            role=Role.CONSUMER,
            parent=delivery.traceparent,
            baggage={
                "chatrelaybot.question.id": question.id,
                "messaging.message.conversation_id": question.conversation,
            },
        )


#: For whoever records nothing.
NO_SPANS = Spans()


def current() -> Span:
    """Return the span of what this thread is doing."""
    return _current.get()


@contextmanager
def active(span: Span) -> Iterator[None]:
    """Make it the span of what this thread is doing."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


def ids(traceparent: str) -> tuple[str, str] | None:
    """Return the ids of a trace and a span, in hexadecimal digits."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return (found[1], found[2]) if found else None


def _new_traceparent() -> str:
    random = os.urandom(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"


def _named(name: str, kind: str) -> dict[str, Value]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.destination.name": _INBOX,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


def _identity(question: Question) -> dict[str, Value]:
    return {
        "messaging.message.id": question.event_id,
        "messaging.message.conversation_id": question.conversation,
        "chatrelaybot.question.id": question.id,
    }
