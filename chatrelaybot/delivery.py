"""What the inbox hands out: a question, our hold on it, and what is known of its reply."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

from chatrelaybot.events import Question


class Enqueued(enum.Enum):
    """What became of a question that was put into the inbox."""

    NEW = "new"
    DUPLICATE = "duplicate"  #: it is here already, or was answered not long ago
    REFUSED = "refused"  #: too many wait; it will be leased, to say so to its reader


@dataclass(frozen=True, slots=True)
class PostedPart:
    """What is known of one message of a reply.

    Without a `ts` its post was intended, and nobody knows what became of it. `stale_ts` is an
    earlier message in whose place it stands, and which is still to be deleted.
    """

    part: int
    ts: str | None
    stale_ts: str | None = None
    age: float = field(default=0.0, compare=False)  #: seconds since its post was intended


@dataclass(slots=True, eq=False)
class Lease:
    """Our hold on a question. The heartbeat moves `good_until`; any thread may look at it.

    It is counted from before the database was asked, on a clock that goes on while this process
    or its machine is paused: by then nobody else can have the question, whatever held us up.
    """

    id: str
    good_until: float
    was_overdue: bool = False  #: something was written into Slack when it was over

    @property
    def is_good(self) -> bool:
        """Whether surely nobody else has the question."""
        return elapsed() < self.good_until


@dataclass(frozen=True, slots=True)
class Delivery:
    """A question leased to us. `parts` is what was known of its reply before this lease."""

    question: Question
    attempt: int  #: 1 for the first
    crash_count: int  #: how often it was in flight when its process died
    lease: Lease
    traceparent: str
    age: float  #: seconds from its receipt to this lease, by the database's clock
    parts: tuple[PostedPart, ...] = ()
    is_refused: bool = False  #: to be told that too many wait, not to be answered


class Stop(enum.Enum):
    """Why a question is not to be answered any further by us."""

    LEAVING = "leaving"  #: this process ends
    LOST = "lost"  #: another process has it


@dataclass(frozen=True, slots=True)
class Counts:
    """How many questions there are in a state; `waiting` includes those between two tries."""

    waiting: int
    running: int
    dead: int
    #: How long the oldest that waits has been here; None: none waits.
    oldest_seconds: float | None = field(default=None, compare=False)


def elapsed() -> float:
    """Return seconds that pass also while the machine sleeps, as time.monotonic()'s do not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
