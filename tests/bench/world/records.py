"""What is known of each question in the end. All times are time.monotonic(), in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.bench.world.script import Timing, is_part_of, text_of

#: Where answers certainly fit into one message of Slack's; a reply may be cut above it.
_MESSAGE_CHARS = 11_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions that were asked together."""

    numbers: range
    at: float  #: when the first one's event was written


@dataclass(slots=True)
class Call:
    """One call of the Web API."""

    method: str
    received: float
    number: int | None = None  #: of the question that it is about
    channel: str = ""
    ts: str = ""  #: of the message that it writes
    chars: int = 0  #: of its text
    error: str = ""  #: Slack's code
    visible: float | None = None  #: None: not done
    answered: float | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """What a message showed from one moment on."""

    at: float
    chars: int
    has_text: bool  #: False: nothing of the answer
    is_whole: bool  #: the answer as a whole


@dataclass(slots=True)
class Reply:
    """A message of the bot. Only its present text is kept."""

    channel: str
    ts: str
    thread_ts: str
    text: str
    metadata: Any = None
    versions: list[Version] = field(default_factory=list)
    deleted_at: float | None = None


@dataclass(slots=True)
class Record:
    """One question, and what became of it."""

    number: int
    channel: str
    ts: str
    parts: int
    chars: int  #: of the whole answer
    part_chars: int
    sends: list[float] = field(default_factory=list)  #: its event was written
    acks: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)  #: the backend was asked
    timing: Timing | None = None  #: of the last of these
    first_part: float | None = None
    last_part: float | None = None
    ended: float | None = None
    replies: list[Reply] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    has_reaction: bool = False

    @property
    def text(self) -> str:
        """The whole answer."""
        return text_of(self.number, self.parts, self.part_chars)

    @property
    def written(self) -> float:
        """When its event was written for the first time."""
        return self.sends[0]

    @property
    def acked(self) -> float | None:
        """When its event was acked for the first time."""
        return self.acks[0] if self.acks else None

    @property
    def shown(self) -> list[Reply]:
        """The replies that can be seen."""
        return [reply for reply in self.replies if reply.deleted_at is None]

    @property
    def placeholder(self) -> float | None:
        """When the first reply became visible, whatever it showed."""
        return min((reply.versions[0].at for reply in self.replies), default=None)

    @property
    def first_text(self) -> float | None:
        """When something of the answer became visible."""
        times = (v.at for reply in self.replies for v in reply.versions if v.has_text)
        return min(times, default=None)

    @property
    def final(self) -> float | None:
        """Since when all of the answer can be seen; None: it cannot."""
        if not self.is_exact:
            return None
        return max(_since(reply) for reply in self.shown)

    @property
    def is_exact(self) -> bool:
        """Whether what is shown is the answer, all of it, and nothing else."""
        shown = self.shown
        if len(shown) == 1 and shown[0].versions[-1].is_whole:
            return True
        # Where an answer is cut into messages, white space goes.
        there = "".join("".join(reply.text.split()) for reply in shown)
        return len(shown) > 1 and self.has_several and there == "".join(self.text.split())

    @property
    def has_several(self) -> bool:
        """Whether the answer needs more than one message."""
        return self.chars > _MESSAGE_CHARS

    @property
    def is_answered(self) -> bool:
        """Whether the answer is shown, once, and nothing else is left to be done."""
        return self.is_exact and not self.has_reaction

    def part_at(self, part: int) -> float:
        """Return when a part was due."""
        if self.timing is None:
            raise ValueError("the backend was not asked")
        return self.timing.due(part)


def _since(reply: Reply) -> float:
    """Return when a reply began to show what it shows."""
    last = reply.versions[-1]
    return next(v.at for v in reply.versions if v.chars == last.chars)


def version_of(record: Record, text: str, at: float) -> Version:
    """Return what a text is to the question that it answers."""
    is_whole = len(text) == record.chars and text == record.text
    # Messages after the first one begin anywhere in the text.
    has_text = is_part_of(text, record.number) or any(
        version.has_text for reply in record.replies for version in reply.versions
    )
    return Version(at, len(text), has_text, is_whole)
