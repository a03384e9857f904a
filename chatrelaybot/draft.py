"""One reply while it is written: the text so far, what Slack shows of it, and what it needs next.

A draft has two sides. The relay's thread calls `append`, `close` and `leave` and may wait on
`settled`. Everything else belongs to the editor's thread alone; what crosses over is `_arrived`, a
queue, and three flags that are each written by one side. `_is_announced` keeps text that arrives
while the editor already knows of unseen text from waking it again.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from chatrelaybot.budget import Method
from chatrelaybot.delivery import Delivery
from chatrelaybot.render import Message, Rendering
from chatrelaybot.telemetry_spans import NO_SPAN, Span

#: How long after its sender's death a post may still come to light; seconds.
_POST_SECONDS = 3.0
#: The reaction to the question is kept in the inbox as if it were this part of the reply.
REACTION = -1


class Outcome(enum.StrEnum):
    """How the writing of a reply ended."""

    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"
    LEFT = "left"  #: given back, for a later try or for another process


class Urgency(enum.IntEnum):
    """Which replies are written first; the lowest first."""

    FINAL = 0
    FIRST_TEXT = 1
    MORE_TEXT = 2


@dataclass(slots=True)
class SentPart:
    """One message of the reply, as far as we know what Slack has."""

    ts: str | None = None  #: None: posted or not, nobody knows
    shown: Message | None = None  #: None: not known
    stale_ts: str | None = None  #: an earlier message that this one stands for, to be deleted
    is_recorded: bool = True  #: False while the inbox does not know the ts
    unsure_until: float = 0.0  #: a post that is not found may still come until then


@dataclass(frozen=True, slots=True)
class Call:
    """The next thing to do for a reply."""

    method: Method | None  #: None: nothing of Slack's, the inbox has to learn a ts
    part: int = 0
    message: Message | None = None
    ts: str | None = None  #: of the message to edit or delete, or that a post replaces
    is_passing: bool = False  #: an edit that a later one will replace


@dataclass(slots=True)
class Timeline:
    """When things happened, in seconds of the editor's clock; None: not yet."""

    opened: float
    placeholder: float | None = None
    first_news: float | None = None  #: the first text came from the backend
    first_text: float | None = None
    closed: float | None = None
    settled: float | None = None


class Draft:
    """A reply being written."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        placeholder: Message,
        now: float,
        announce: Callable[[Draft], None],
        span: Span = NO_SPAN,
    ) -> None:
        """`span` is the one that tells of this try."""
        self.delivery = delivery
        self.span = span
        self.settled: Future[Outcome] = Future()
        self.timeline = Timeline(opened=now)
        self.edit_count = 0
        self._announce = announce
        self._arrived: deque[str] = deque()
        self._is_announced = False
        self._closing: tuple[str | None] | None = None
        self._is_leaving = False
        self._farewell: str | None = None
        # From here on the editor's thread only.
        self.rendering = Rendering()
        self.parts = [
            SentPart(
                ts=part.ts,
                stale_ts=part.stale_ts,
                unsure_until=now + max(0.0, _POST_SECONDS - part.age),
            )
            for part in delivery.parts
            if part.part != REACTION
        ]
        #: Messages of this reply that are too many, as their part and `ts`.
        self.surplus: list[tuple[int, str]] = []
        #: A post of an earlier process was not found, and may have come after all.
        self.is_unverified = False
        self.has_said_farewell = False
        self.in_flight: Call | None = None
        self.due_at = now  #: when to look what it needs
        self.is_held = False  #: the budget holds it up
        self.not_before = now  #: no call earlier, after a failed one
        self.next_edit_at = now  #: no intermediate edit earlier
        self.failure_count = 0
        self.has_news = False  #: something may be there to send
        self.is_deferred = False
        self.wants_reaction = False
        #: Or may have one: what was refused or lost may have been sent twice.
        self.has_reaction = any(part.part == REACTION for part in delivery.parts)
        self.is_plain = False
        self._placeholder = placeholder
        self._exact_count = 0  #: leading parts that show all they ever will
        #: Pieces of text that came from the backend: taken in, in the call that was begun last,
        #: and on show.
        self._taken_count = self._begun_count = self._shown_count = 0
        self._last_call: Call | None = None

    def __repr__(self) -> str:
        return (
            f"Draft({self.delivery.question.id[:8]}, {self.rendering.length} characters, "
            f"{len(self.parts)} parts, in flight: {self.in_flight and self.in_flight.method})"
        )

    # The relay's side.

    def append(self, text: str) -> None:
        """Add text to the reply. Never waits."""
        self._arrived.append(text)
        if not self._is_announced:
            self._is_announced = True
            self._announce(self)

    def close(self, *, note: str | None = None) -> None:
        """Say that the text is complete; `note` is put after it."""
        self._closing = (note,)
        self._announce(self)

    def leave(self, *, note: str | None = None) -> None:
        """Stop writing; `settled` says when no call is under way any more.

        What is on show gets the `note`, where an edit is to be had at once.
        """
        self._farewell = note or self._farewell
        self._is_leaving = True
        self._announce(self)

    @property
    def is_traceless(self) -> bool:
        """Whether surely no message of it is in Slack; good once it is settled."""
        return not self.parts and self.in_flight is None

    # The editor's side.

    @property
    def is_leaving(self) -> bool:
        return self._is_leaving

    @property
    def is_closed(self) -> bool:
        return self.timeline.closed is not None

    @property
    def owes_edit(self) -> bool:
        """Whether its last words need an edit yet to be made: it is on show, or about to be."""
        if self.is_deferred or not self.is_closed:
            return not self.is_deferred
        is_whole = self.rendering.is_closed and self._exact_count >= self.rendering.part_count()
        return bool(self.parts) and self.in_flight is None and not is_whole

    @property
    def awaits_post(self) -> bool:
        """Whether it is deferred, and the post that will show it has not begun."""
        is_posting = self.in_flight is not None and self.in_flight.method is Method.POST
        return self.is_deferred and not self.parts and not is_posting

    @property
    def urgency(self) -> tuple[Urgency, float]:
        """What to sort by: the kind of call, then since when it has been waited for."""
        if self.timeline.closed is not None:
            return Urgency.FINAL, self.timeline.closed
        if self.timeline.first_text is None:
            return Urgency.FIRST_TEXT, self.timeline.opened
        return Urgency.MORE_TEXT, self.next_edit_at

    def notice(self, now: float) -> None:
        """Take notice of an announcement."""
        self.has_news = True
        self.due_at = now
        if self.timeline.first_news is None and self._arrived:
            self.timeline.first_news = now
        if self._closing is not None and self.timeline.closed is None:
            self.timeline.closed = now

    def likely_method(self) -> Method | None:
        """Return the method that the next call will most likely need, without rendering."""
        mending = self._mending()
        if mending is not None:
            return mending.method
        if not self.parts:
            return Method.POST
        is_exact = self._exact_count >= len(self.parts)
        return Method.POST if is_exact else Method.UPDATE

    def next_call(self) -> Call | None:
        """Render what has arrived and return what to do next; None: all is as it should be."""
        mending = self._mending()
        if mending is not None:
            return mending
        if self._last_call is None or not self.rendering.is_closed:
            self._take_in()
            self._last_call = self._showing() or self._tidying()
            self.has_news = self._last_call is not None
        return self._last_call

    def farewell(self) -> Call | None:
        """Return the edit that says good-bye; None: none is wanted, or nothing is on show."""
        note, self._farewell = self._farewell, None
        ts = self.parts[-1].ts if self.parts else None
        if note is None or ts is None or self.rendering.is_closed:
            return None
        self.has_said_farewell = True
        self.rendering.close(note=note)
        index = min(len(self.parts), self.rendering.part_count()) - 1
        return Call(Method.UPDATE, index, self.rendering.part(index), self.parts[index].ts)

    def started(self, call: Call) -> None:
        """Remember the call that is under way."""
        self.in_flight = call
        self._begun_count = self._taken_count
        if call is self._last_call:  # Else it only mends, and what was to be shown still is.
            self.has_news = self.has_reaction or call.part + 1 < self.rendering.part_count()

    def was_shown(self) -> int:
        """Note that the last call showed what it was to; return how many pieces that added."""
        added = self._begun_count - self._shown_count
        self._shown_count = self._begun_count
        return added

    def concluded(self) -> None:
        """Forget what was to be done: a call has ended."""
        self.in_flight = None
        self._last_call = None

    def put_off(self, *, until: float) -> None:
        """Forget a call that was not made, and make none before that time."""
        self.concluded()
        self.has_news = True
        self.not_before = self.next_edit_at = until

    def is_placeholder(self, message: Message | None) -> bool:
        """Say whether a message is what stands there before any text."""
        return message is self._placeholder

    def _mending(self) -> Call | None:
        for index, part in enumerate(self.parts):
            if part.ts is None:
                return Call(Method.LOOK_UP, index)
            if not part.is_recorded:
                return Call(None, index, ts=part.ts)
            if part.stale_ts is not None:
                return Call(Method.DELETE, index, ts=part.stale_ts)
        for index, ts in self.surplus:
            return Call(Method.DELETE, index, ts=ts)
        return None

    def _take_in(self) -> None:
        # Cleared first: text that arrives from here on announces itself again.
        self._is_announced = False
        closing = self._closing
        while self._arrived:
            self.rendering.append(self._arrived.popleft())
            self._taken_count += 1
        if closing is not None and not self.rendering.is_closed:
            self.rendering.close(note=closing[0])

    def _showing(self) -> Call | None:
        if self.is_deferred and not self.rendering.is_closed:
            return None
        part_count = self.rendering.part_count()
        sealed_count = self.rendering.sealed_count()
        for index in range(self._exact_count, min(part_count, len(self.parts))):
            message, part = self.rendering.part(index), self.parts[index]
            if part.shown != message:
                is_passing = not self.rendering.is_closed and index >= sealed_count
                return Call(Method.UPDATE, index, message, part.ts, is_passing)
            if index < sealed_count:
                self._exact_count = index + 1
        if part_count > len(self.parts):
            index = len(self.parts)
            return Call(Method.POST, index, self.rendering.part(index))
        if self.parts or self.rendering.is_closed:
            return None
        return Call(Method.POST, 0, self._placeholder)

    def _tidying(self) -> Call | None:
        if self.rendering.is_closed and self.is_unverified:
            return Call(Method.LOOK_UP)
        if self.is_deferred and not self.rendering.is_closed:
            return Call(Method.REACT) if self.wants_reaction else None
        if self.rendering.is_closed and len(self.parts) > max(1, self.rendering.part_count()):
            # An earlier try had come further than this answer goes.
            return Call(Method.DELETE, len(self.parts) - 1, ts=self.parts[-1].ts)
        return Call(Method.UNREACT) if self.has_reaction else None
