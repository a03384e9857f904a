"""Where a text that is too long for one message is cut. Pure.

A cut depends on nothing but as much text as fits into one part, and one character more, so it is
the same however the text arrived.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from chatrelaybot.fences import Fence, scan_fences

# How good it is to end a part with a line; the best one in the second half of the room is taken.
_POOR = 0  # tears a table, or leaves a heading, or an empty code block, behind
_LINE = 1
_CODE_PARAGRAPH = 2
_PARAGRAPH = 3

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_INK = re.compile(r"\S")
_WHITE_SPACE = re.compile(r"\s+")
#: At the start of a line these characters would make a fence, a list, a heading, a table.
_BLOCK_MARKS = frozenset("`~-+*#|>=0123456789")

#: How far a cut within a word moves to spare what belongs together, in characters.
_LONGEST_STEP_BACK = 32
_ENTITY_START = re.compile(r"&(?:l?|g|lt|gt|am?|amp)\Z")
#: An escape, and the joiner of composed emoji.
_GLUE_BEFORE = frozenset("\\\u200d")
#: Fences, the joiner, and the skin tones; what else belongs to the character before is a mark.
_GLUE_AFTER = frozenset("`~\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


@dataclass(frozen=True, slots=True)
class Cut:
    """One part cut off a text."""

    part: str  #: with its fences mended; empty where there was only white space
    resume: int  #: where the next part starts in the text
    fence: Fence | None  #: to be reopened there


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    following: str
    end: int  #: where its line break is
    opened: bool  #: it opens the fence that is open after it
    fence: Fence | None  #: open after it


def cut(text: str, start: int, *, limit: int, fence: Fence | None) -> Cut:
    """Cut off a part of at most `limit` characters; the text from `start` is longer than that.

    `fence` is reopened at `start`. White space at the cut is dropped, an indentation is not.
    """
    opening = fence.opening if fence else ""
    window = text[start : start + limit - len(opening) + 1]
    # A text without fences needs no room to close them.
    reserve = min(scan_fences(window, fence).widest, longest_closing(limit))
    length = _best_length(window, limit - len(opening) - reserve, fence)
    if length == 0:
        return Cut("", _first_ink(text, start), fence)
    body = window[:length].rstrip()
    still_open = fence_at_end(body, fence, limit=limit)
    closing = still_open.closing if still_open else ""
    return Cut(opening + body + closing, _next_start(text, start + len(body)), still_open)


def longest_closing(limit: int) -> int:
    """Return how much of the room of a part the closing of a fence may take."""
    return limit // 8 + 4


def fence_at_end(text: str, fence: Fence | None, *, limit: int) -> Fence | None:
    """Return the fence that is open at the end of a text, if it can be closed and reopened."""
    still_open = scan_fences(text, fence).fence
    return still_open and still_open.mended_within(longest_closing(limit))


def step_back(text: str, end: int) -> int:
    """Return the nearest place, at `end` or before, where no character is torn to pieces."""
    lowest = max(1, end - _LONGEST_STEP_BACK)
    for place in range(end, lowest, -1):
        if not _belongs_together(text, place):
            return place
    entity = _entity_before(text, end)
    return entity.start() if entity else end


def _best_length(window: str, room: int, fence: Fence | None) -> int:
    """Return how much of the window to take; 0: there is nothing but white space."""
    if not window[:room].strip():
        return 0
    return (
        _line_break(window, room, fence)
        or _word_break(window, room, _BLOCK_MARKS)
        or _word_break(window, room, frozenset())
        or step_back(window, room)
    )


def _line_break(window: str, room: int, fence: Fence | None) -> int | None:
    best, best_rank = None, -1
    for line in _lines(window, fence):
        if room // 2 <= line.end <= room and line.text.strip():
            rank = _rank(line)
            if rank >= best_rank:
                best, best_rank = line.end, rank
    return best


def _lines(window: str, fence: Fence | None) -> Iterator[_Line]:
    """Yield the lines that end within the window."""
    lines = window.split("\n")
    # The rest of the last one is not known; where it looks blank, it is rather like the others.
    if len(lines) > 1 and not lines[-1].strip():
        lines[-1] = lines[-2]
    end = -1
    for text, following in pairwise(lines):
        end += 1 + len(text)
        before, fence = fence, scan_fences(text, fence).fence
        yield _Line(text, following, end, before is None and fence is not None, fence)


def _rank(line: _Line) -> int:
    is_paragraph = not line.following.strip()
    if line.fence:
        is_empty = line.opened or scan_fences(line.following, line.fence).fence is None
        return _POOR if is_empty else _CODE_PARAGRAPH if is_paragraph else _LINE
    is_table = line.text.lstrip().startswith("|") and line.following.lstrip().startswith("|")
    if is_table or _HEADING.match(line.text):
        return _POOR
    return _PARAGRAPH if is_paragraph else _LINE


def _word_break(window: str, room: int, avoided: frozenset[str]) -> int | None:
    """Return the end of the last word that no avoided character follows, after white space."""
    best, ink = None, _first_ink(window, 0)
    for space in _WHITE_SPACE.finditer(window, room // 2, room + 1):
        following = window[space.end() : space.end() + 1]
        is_safe = following not in avoided if following else not avoided
        if is_safe and space.start() > ink:
            best = space.start()
    return best


def _belongs_together(text: str, place: int) -> bool:
    before, after = text[place - 1], text[place : place + 1] or " "
    return (
        before in _GLUE_BEFORE
        or after in _GLUE_AFTER
        or unicodedata.category(after).startswith("M")
        or _entity_before(text, place) is not None
    )


def _entity_before(text: str, place: int) -> re.Match[str] | None:
    return _ENTITY_START.search(text, max(0, place - 4), place)


def _first_ink(text: str, start: int) -> int:
    ink = _INK.search(text, start)
    return ink.start() if ink else len(text)


def _next_start(text: str, end: int) -> int:
    """Return where the first line, or else the first word, behind the white space starts."""
    ink = _first_ink(text, end)
    line_start = text.rfind("\n", end, ink) + 1
    return line_start or ink
