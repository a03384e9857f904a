"""The kinds of questions: what the backend answers, under which settings, and what came before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.answering import delta, query
from tests.killing.tracing import PACKAGE, FailPoint
from tests.scripted_backend import CHUNKED, END, Exchange, head

#: The backend waits before each piece until the one before it is on show. What was asked before,
#: or is deferred, may have nothing new on show for long, so then it does not wait longer. Seconds.
_MOST_PAUSE_SECONDS = 6.0
_SHORT_PAUSE_SECONDS = 0.3
_POLL_SECONDS = 0.02
#: A question that uses up the only edit of a minute.
DECOY = "a question before it"


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a first process dies, before the one that the case is about."""

    file: str
    source: str  #: of the line
    hit: int = 1

    @property
    def point(self) -> FailPoint:
        """The line as it is numbered now."""
        lines = (PACKAGE / self.file).read_text().splitlines()
        (number,) = (n for n, line in enumerate(lines, 1) if line.strip() == self.source)
        return FailPoint(self.file, number, self.hit)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question."""

    name: str
    pieces: Callable[[str], list[str]]  #: what the backend says to a question, piece by piece
    settings: Mapping[str, str] = field(default_factory=dict)
    needs_fresh: bool = False  #: it wants a daemon that has answered nothing yet
    has_decoy: bool = False
    opening: Opening | None = None

    def text(self, question: str) -> str:
        """The whole answer."""
        return "".join(self.pieces(question))

    def answer(
        self, exchange: Exchange, *, writes: Callable[[str], int], is_first: bool = True
    ) -> None:
        """Answer as the backend; `writes` says how often a reply to a question was written.

        `is_first`: it was not asked this question before.
        """
        question = query(exchange.request)
        pieces = [f"first {question}"] if question.startswith(DECOY) else self.pieces(question)
        before = writes(question)
        is_shown = is_first and not self.has_decoy
        seconds = _MOST_PAUSE_SECONDS if is_shown else _SHORT_PAUSE_SECONDS
        exchange.send(head(CHUNKED))
        # The placeholder may be there already, or not: it is the first thing written.
        for number, piece in enumerate(pieces, max(1, before)):
            _wait(lambda: writes(question) >= number, seconds)  # noqa: B023 - waits here
            exchange.send_chunk(delta(piece))
        exchange.send_chunk(END)
        exchange.end_chunks()


def _wait(is_so: Callable[[], bool], seconds: float) -> None:
    pause, ends = threading.Event(), time.monotonic() + seconds
    while not is_so() and time.monotonic() < ends:
        pause.wait(_POLL_SECONDS)


def _short(question: str) -> list[str]:
    return [f"The answer to {question} ", "has two pieces."]


def _long(question: str) -> list[str]:
    # One word, which is cut where the room ends, so that no white space is dropped at a cut.
    word = "".join(f"w{number:05d}" for number in range(2_200))
    return [f"{question}: {word[:6_000]}", word[6_000:12_000], word[12_000:]]


_TIGHT = {"EDITS_PER_MINUTE": "1", "OVERFLOW_SECONDS": "0.1"}
_RECORDING = "self._inbox.record_post(delivery, part, ts, stale_ts=stale_ts)"

SHORT = Kind("short", _short)
LONG = Kind("long", _long)
#: The only edit of a minute goes to the first piece, so the final is posted in place of it.
OVERFLOWING = Kind("overflowing", _short, _TIGHT, needs_fresh=True)
#: Somebody else has had the edit, so it is not put on show before its end.
DEFERRED = Kind("deferred", _short, _TIGHT, has_decoy=True)
#: A first process died with its placeholder …
FOUND = Kind("found", _short, opening=Opening("sender.py", _RECORDING))
LOST = Kind("lost", _short, opening=Opening("sender.py", "ts = self._slack.post("))
#: … with its second message …
HALF = Kind("half", _long, opening=Opening("sender.py", _RECORDING, hit=2))
#: … or with the post of its final posted and the older one still there.
REPLACED = Kind(
    "replaced",
    _short,
    _TIGHT,
    needs_fresh=True,
    opening=Opening("sender.py", _RECORDING, hit=2),
)

KINDS = (SHORT, LONG, OVERFLOWING, DEFERRED, FOUND, LOST, HALF, REPLACED)
