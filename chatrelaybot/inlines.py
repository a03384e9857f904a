"""What is still open within the last paragraph of a growing Markdown text. Pure.

Emphasis is matched by CommonMark's rules, https://spec.commonmark.org/0.31.2/#emphasis-and-strong-emphasis,
and strikethrough like it. Links and images are found as such, so that an address with underscores
is no emphasis. One pass from left to right, in time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass

# Of a bare address only underscores are part: other marks rather close what opened before it.
_TOKEN = re.compile(
    r"https?://[^\s()\[\]*`~\\]*[^\s()\[\]*`~\\_]|\\.?|`+|\*+|_+|~+|!?\[|\]", re.DOTALL
)
_TICKS = re.compile(r"`+")

_ADDRESS = r"\(\s*[^\s()]*(?:\([^\s()]*\)[^\s()]*)*"
_WHOLE_TARGET = re.compile(_ADDRESS + r"""(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)""")
_HALF_TARGET = re.compile(_ADDRESS + r"""(?:\([^\s()]*|\s+(?:"[^"]*"?|'[^']*'?)\s*)?\Z""")

#: How much is held back while it may become a link, in characters: of a text behind a `[`, and of
#: one whose address has begun.
_LONGEST_LABEL = 120
_LONGEST_LINK = 2_000


@dataclass(frozen=True, slots=True)
class OpenEnd:
    """How to make the end of a paragraph whole."""

    keep: int  #: show so many characters; what is behind them can not be shown yet
    closing: str  #: what closes the marks that are open, if nothing is held back


@dataclass(slots=True)
class _Run:
    """A run of equal emphasis marks that opens, or has opened, emphasis."""

    mark: str
    length: int
    unmatched: int
    is_both: bool  #: it can close as well


def open_end(text: str) -> OpenEnd:
    """Find what is open at the end of a paragraph that does not end in white space."""
    scan = _Scan(text)
    scan.run()
    return OpenEnd(scan.keep, scan.ticks + scan.emphasis.closing())


class _Emphasis:
    """The emphasis that is open, innermost last."""

    def __init__(self) -> None:
        self._open: list[_Run] = []
        self._depths: defaultdict[str, list[int]] = defaultdict(list)  # by mark, into _open

    def closing(self) -> str:
        return "".join(run.mark * run.unmatched for run in reversed(self._open))

    def open(self, run: _Run) -> None:
        self._depths[run.mark].append(len(self._open))
        self._open.append(run)

    def close(self, run: _Run) -> None:
        """Match the marks of `run` with those that are open; what is left stays in `unmatched`."""
        depths = self._depths[run.mark]
        while run.unmatched and depths:
            opener = self._open[depths[-1]]
            if _is_refused(opener, run):
                return
            # What was opened in between and not closed was no emphasis.
            while len(self._open) - 1 > depths[-1]:
                self._forget()
            used = 2 if min(opener.unmatched, run.unmatched) >= 2 else 1
            opener.unmatched -= used
            run.unmatched -= used
            if not opener.unmatched:
                self._forget()

    def _forget(self) -> None:
        self._depths[self._open.pop().mark].pop()


def _is_refused(opener: _Run, closer: _Run) -> bool:
    """Apply CommonMark's rule of three."""
    if not (opener.is_both or closer.is_both):
        return False
    total = opener.length + closer.length
    return total % 3 == 0 and not (opener.length % 3 == 0 and closer.length % 3 == 0)


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._brackets: list[int] = []  # where those start that are open
        self._ticks: defaultdict[int, list[int]] = defaultdict(list)  # by length, where they start
        for run in _TICKS.finditer(text):
            self._ticks[len(run[0])].append(run.start())
        self.emphasis = _Emphasis()
        self.keep = len(text)
        self.ticks = ""  # what closes the code that is open

    def run(self) -> None:
        token = _TOKEN.search(self._text)
        while token:
            token = _TOKEN.search(self._text, self._take(token))
        self._hold_label()

    def _take(self, token: re.Match[str]) -> int:
        """Return where to go on."""
        kind = token[0][0]
        if kind == "h":
            return token.end()
        if kind == "\\":
            return self._escape(token)
        if kind == "`":
            return self._code(token)
        if token[0][-1] == "[":
            self._brackets.append(token.start())
            return token.end()
        if kind == "]":
            return self._bracket(token)
        return self._marks(token)

    def _escape(self, token: re.Match[str]) -> int:
        if len(token[0]) == 1:
            return self._hold(token.start())
        return token.end()

    def _code(self, token: re.Match[str]) -> int:
        length = len(token[0])
        starts = self._ticks[length]
        following = bisect_left(starts, token.end())
        if following < len(starts):
            return starts[following] + length
        # Ticks at the end are the first ones of those that close.
        content_end = len(self._text.rstrip("`"))
        content_start = token.end()
        line_start = self._text.rfind("\n", 0, token.start()) + 1
        indent = self._text[line_start : token.start()]
        self.ticks = token[0]
        if length >= 3 and len(indent) > 3 and indent.isspace():
            # A fence in a list, too deep to be followed as one.
            content_start = self._text.find("\n", content_start) + 1 or content_end
            self.ticks = f"\n{indent}{token[0]}"
        if not self._text[content_start:content_end].strip():
            return self._hold(token.start())
        return self._hold(content_end)

    def _bracket(self, token: re.Match[str]) -> int:
        if not self._brackets:
            return token.end()
        start = self._brackets.pop()
        is_label = token.end() == len(self._text) and not self._follows_word(start)
        is_half = is_label or _HALF_TARGET.match(self._text, token.end())
        if is_half and len(self._text) - start <= _LONGEST_LINK:
            return self._hold(start)
        target = _WHOLE_TARGET.match(self._text, token.end())
        return target.end() if target else token.end()

    def _marks(self, token: re.Match[str]) -> int:
        is_last = token.end() == len(self._text)
        if token[0][0] == "~" and len(token[0]) != 2 and not is_last:
            return token.end()
        before = self._text[token.start() - 1] if token.start() else " "
        after = " " if is_last else self._text[token.end()]
        can_open, can_close = _flanking(token[0][0], before, after)
        run = _Run(token[0][0], len(token[0]), len(token[0]), can_open and can_close)
        if can_close:
            self.emphasis.close(run)
        if is_last and run.unmatched:
            return self._hold(token.end() - run.unmatched)
        if can_open and run.unmatched:
            self.emphasis.open(run)
        return token.end()

    def _hold(self, position: int) -> int:
        """Hold back all from a position on. There is nothing left to look at then."""
        self.keep = min(self.keep, position)
        return len(self._text)

    def _hold_label(self) -> None:
        """Hold back from the first bracket on that may still become a link."""
        for start in self._brackets:
            if len(self._text) - start <= _LONGEST_LABEL and not self._follows_word(start):
                self._hold(start)
                return

    def _follows_word(self, start: int) -> bool:
        return start > 0 and self._text[start - 1].isalnum()


def _flanking(mark: str, before: str, after: str) -> tuple[bool, bool]:
    """Say whether marks between these two characters can open emphasis, and close it."""
    left = not after.isspace() and (
        not _is_punctuation(after) or before.isspace() or _is_punctuation(before)
    )
    right = not before.isspace() and (
        not _is_punctuation(before) or after.isspace() or _is_punctuation(after)
    )
    if mark != "_":
        return left, right
    return (
        left and (not right or _is_punctuation(before)),
        right and (not left or _is_punctuation(after)),
    )


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
