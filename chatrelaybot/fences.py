"""The code fences of a Markdown text, read line by line. Pure.

The rules are CommonMark's: https://spec.commonmark.org/0.31.2/#fenced-code-blocks. Containers are
not followed, with one exception: a fence may open on the line of a list marker. A fence in a block
quote, or indented by four columns or more in a list, counts as text here, its end as well as its
beginning, so that missing one does not turn the rest of the answer inside out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# What stands before the marker is at most three columns wide: spaces, or a short list marker.
_FENCE_LINE = re.compile(
    r"^((?=[^`~\n]{0,3}[`~]) *(?:[-+*] +|\d[.)] )?)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code fence, and how to close it and to open it again."""

    indent: int  #: columns before the marker
    marker: str
    info: str  #: what follows the marker: the language, and more where a writer put it

    @property
    def closing(self) -> str:
        """What to put after the last line inside."""
        return f"\n{' ' * self.indent}{self.marker}"

    @property
    def opening(self) -> str:
        """What to put before the first line inside."""
        return f"{' ' * self.indent}{self.marker}{self.info}\n"

    def mended_within(self, room: int) -> Fence | None:
        """Return the fence with as much of its info string as has room; None: it has none itself.

        `room` is in characters, for the closing, and again for the info string.
        """
        if len(self.closing) > room:
            return None
        language = self.info.split()[0] if self.info else ""
        fitting = (info for info in (self.info, language) if len(info) <= room)
        return replace(self, info=next(fitting, ""))

    def is_closed_by(self, prefix: str, marker: str, rest: str) -> bool:
        is_bare = not prefix.strip(" ") and not rest.strip(" \t\r")
        return is_bare and marker.startswith(self.marker)


@dataclass(frozen=True, slots=True)
class FenceScan:
    """What a text looks like to its fences."""

    fence: Fence | None  #: open at the end of the text
    start: int = 0  #: where the last line that opens or closes a fence starts
    end: int = 0  #: where that line ends, its line break included
    widest: int = 0  #: at most so many characters close a fence, wherever the text is cut


def scan_fences(text: str, fence: Fence | None = None) -> FenceScan:
    """Follow the fences of a text at whose beginning `fence` is open."""
    start = end = 0
    widest = len(fence.closing) if fence else 0
    for line in _FENCE_LINE.finditer(text):
        prefix, marker, rest = line.groups()
        widest = max(widest, 1 + len(prefix) + len(marker))
        if fence is None:
            if marker[0] == "`" and "`" in rest:
                continue  # code within a line, not a fence
            fence = Fence(len(prefix), marker, rest.strip())
        elif fence.is_closed_by(prefix, marker, rest):
            fence = None
        else:
            continue
        start, end = line.start(), min(line.end() + 1, len(text))
    return FenceScan(fence, start, end, widest)
