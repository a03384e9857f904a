"""From the growing Markdown text of an answer to the Slack messages that show it. Pure.

A text passes through four steps: it is made harmless (`escaping`), cut into parts (`splitting`),
which are sealed as soon as enough text is there to decide the cut, and of the last, growing part,
what is half-open is healed (`healing`). The whole answer, once it is closed, is shown as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chatrelaybot.escaping import Escaper, escape_all
from chatrelaybot.escaping import escape as escape
from chatrelaybot.escaping import unescape as unescape
from chatrelaybot.fences import Fence
from chatrelaybot.healing import heal
from chatrelaybot.splitting import cut, fence_at_end, step_back

#: Characters of one `markdown` block, escaped. Slack refuses more than 12,000 and does not say
#: what it counts: https://docs.slack.dev/reference/block-kit/blocks/markdown-block/
PART_LIMIT = 11_500
#: With less room, mending fences would take it all.
_SMALLEST_LIMIT = 40

_SUMMARY_LENGTH = 150
#: Of a part, the summary looks at so many characters.
_SUMMARIZED_LENGTH = 1_000
_NOTHING = "…"
#: So many pieces of text are kept at most as they came. To look at each costs far more than at all.
_NEW_LIMIT = 256

_LINE_MARKS = re.compile(
    r"^\s*(?:(?:`{3,}|~{3,}).*$|[|:\s-]+$|(?:>\s*|(?:#{1,6}|[-+*|]|\d{1,9}[.)])(?:\s+|$))+)",
    re.MULTILINE,
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_TEXT_MARKS = re.compile(r"[*`]|~~|(?<!\w)_+|_+(?!\w)|\\(?=[^\w\s])")


@dataclass(frozen=True, slots=True)
class Message:
    """What one Slack message shall show."""

    markdown: str  #: for its one `markdown` block
    text: str  #: for notifications: plain, one line, at most 200 characters


def message(markdown: str) -> Message:
    """Return the message for a sentence of our own."""
    rendering = Rendering()
    rendering.append(markdown)
    rendering.close()
    return rendering.part(0) if rendering.part_count() else _message(_NOTHING)


class Rendering:
    """The text of one answer while it grows. Not thread-safe: it has one owner.

    Parts before the last are sealed and never change; the last one grows until it is closed.
    """

    def __init__(self, *, limit: int = PART_LIMIT) -> None:
        """`limit` is the most characters of a part, escaped, with mended fences."""
        if limit < _SMALLEST_LIMIT:
            raise ValueError(f"a part needs room for {_SMALLEST_LIMIT} characters")
        self.is_closed = False
        self.length = 0  #: characters of answer text appended so far
        self._limit = limit
        self._new: list[str] = []  # not looked at yet
        self._escaper = Escaper()
        self._has_ink = False
        self._parts: list[Message] = []  # sealed, and after the close all
        # The growing part: its escaped text, how long it is, and how long without the white space
        # at its end; the fence that is reopened before it; and what was last shown of it.
        self._pieces: list[str] = []
        self._size = 0
        self._ink_end = 0
        self._fence: Fence | None = None
        self._shown: Message | None = None
        self._is_shown_stale = False
        #: What the growing part began with when it was last summarized, and the summary.
        self._summarized = self._summary = ""

    @property
    def has_text(self) -> bool:
        """Whether something other than white space has arrived."""
        if not self._has_ink:
            self._take_new()
        return self._has_ink or self._escaper.has_ink

    def append(self, text: str) -> None:
        """Add text; its cost is in proportion to the text."""
        if self.is_closed:
            raise RuntimeError("the text is closed")
        self.length += len(text)
        self._new.append(text)
        if len(self._new) >= _NEW_LIMIT:
            self._take_new()

    def close(self, *, note: str | None = None) -> None:
        """End the text; `note`, a sentence of our own, follows it as a paragraph in italics."""
        if self.is_closed:
            raise RuntimeError("the text is closed")
        self._take_new()
        self._take(self._escaper.flush())
        self.is_closed = True
        last = self._end_with(_italic(note, self._limit)) if note else self._end()
        self._parts += map(_message, last)

    def sealed_count(self) -> int:
        """Return how many parts can no longer change."""
        self._take_new()
        return len(self._parts)

    def part_count(self) -> int:
        """Return how many parts there are to be shown."""
        self._take_new()
        return len(self._parts) + (self._growing() is not None)

    def part(self, index: int) -> Message:
        """Return one part; of the last one, while it grows, what can be shown of it."""
        self._take_new()
        growing = self._growing() if index == len(self._parts) else self._parts[index]
        if growing is None:
            raise IndexError("there is nothing to be shown of this part yet")
        return growing

    @property
    def _opening(self) -> str:
        return self._fence.opening if self._fence else ""

    def _take_new(self) -> None:
        if self._new:
            text = "".join(self._new)
            self._new.clear()
            self._take(self._escaper.feed(text))

    def _take(self, escaped: str) -> None:
        if not escaped:
            return
        ink_end = len(escaped.rstrip())
        if ink_end:
            self._has_ink = True
            self._ink_end = self._size + ink_end
        self._size += len(escaped)
        self._pieces.append(escaped)
        self._is_shown_stale = True
        if len(self._opening) + self._ink_end > self._limit:
            self._seal(self._limit)

    def _seal(self, longest: int) -> None:
        """Seal parts until the rest is not longer than `longest`."""
        text, start = "".join(self._pieces), 0
        while len(self._opening) + self._ink_end - start > longest:
            piece = cut(text, start, limit=self._limit, fence=self._fence)
            if piece.part:
                self._parts.append(_message(piece.part))
                self._shown = None
            start, self._fence = piece.resume, piece.fence
        self._pieces = [text[start:]]
        self._size -= start
        self._ink_end -= start

    def _growing(self) -> Message | None:
        """Return what to show of the growing part; once something is shown, something stays."""
        if self._is_shown_stale and not self.is_closed:
            text = "".join(self._pieces)
            self._pieces = [text]
            healed = heal(self._opening + text[: self._ink_end], limit=self._limit)
            self._shown = self._message(healed) if healed else self._shown
            self._is_shown_stale = False
        return None if self.is_closed else self._shown

    def _message(self, markdown: str) -> Message:
        """Return the message; most edits leave the part's beginning as it was."""
        beginning = markdown[:_SUMMARIZED_LENGTH]
        if beginning != self._summarized:
            self._summarized, self._summary = beginning, _summary(beginning)
        return Message(markdown, self._summary)

    def _end(self) -> list[str]:
        text = "".join(self._pieces)
        return [(self._opening + text)[: self._limit]] if self._ink_end else []

    def _end_with(self, note: str) -> list[str]:
        closing = self._closing()
        if len(self._opening) + self._ink_end + len(closing) > self._limit:
            self._seal(self._limit - len(closing))
            closing = self._closing()
        if not self._ink_end:
            return [note]
        body = self._opening + "".join(self._pieces)[: self._ink_end] + closing
        together = f"{body}\n\n{note}"
        return [together] if len(together) <= self._limit else [body, note]

    def _closing(self) -> str:
        """Return what closes the fence that is open at the end of the text."""
        text = "".join(self._pieces)[: self._ink_end]
        fence = fence_at_end(text, self._fence, limit=self._limit)
        return fence.closing if fence else ""


def _italic(note: str, limit: int) -> str:
    escaped = escape(" ".join(note.split()))
    if len(escaped) > limit - 2:
        escaped = escaped[: step_back(escaped, limit - 3)].rstrip() + "…"
    return f"_{escaped}_"


def _message(markdown: str) -> Message:
    return Message(markdown, _summary(markdown))


def _summary(markdown: str) -> str:
    """Return the beginning of a part as plain words, its marks roughly removed."""
    plain = _LINE_MARKS.sub("", unescape(markdown[:_SUMMARIZED_LENGTH]))
    plain = _TEXT_MARKS.sub("", _LINK.sub(r"\1", plain))
    escaped = escape_all(" ".join(plain.split()))
    if len(escaped) <= _SUMMARY_LENGTH:
        return escaped or _NOTHING
    word_end = escaped.rfind(" ", _SUMMARY_LENGTH // 2, _SUMMARY_LENGTH + 1)
    end = word_end if word_end > 0 else step_back(escaped, _SUMMARY_LENGTH)
    return f"{escaped[:end]}…"
