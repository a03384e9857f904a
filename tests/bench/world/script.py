"""How the backend answers a question, and with what text. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_WORDS = " and then it goes on in plain words of some length, one after another,"
_FILL = _WORDS * 60
#: A paragraph ends after so many parts: long answers are cut between paragraphs.
_PARAGRAPH = 40


@dataclass(frozen=True, slots=True)
class Script:
    """How the backend answers each question of one asking. Seconds."""

    first_after: float = 0.0  #: from the request to the first part
    starts_at: float | None = None  #: no first part earlier than this long after the asking
    ends_at: float | None = None  #: the last part comes this long after the asking
    parts: int = 20
    parts_per_second: float = 10.0  #: where `ends_at` does not say how fast
    part_chars: int = 20  #: at least; a part also needs room for its number
    stagger: float = 0.0  #: the first parts of the questions are spread evenly over this long
    more_parts: int = 0  #: the last question gets so many more, those before it evenly fewer
    end_after: float = 0.0  #: from the last part to `stream_end`
    is_chunked: bool = True  #: False: the body ends with the connection

    def parts_of(self, position: float) -> int:
        """Return the number of parts; `position` is the question's, 0 to below 1."""
        return self.parts + int(position * (self.more_parts + 1))

    def timing(self, *, asking: float, request: float, position: float, parts: int) -> Timing:
        """Return when parts are due, given when the questions were asked and the backend was."""
        first = request + self.first_after
        if self.starts_at is not None:
            first = max(first, asking + self.starts_at)
        first += self.stagger * position
        if self.ends_at is None:
            return Timing(first, 1.0 / self.parts_per_second)
        left = max(0.0, asking + self.ends_at - first)
        return Timing(first, left / (parts - 1)) if parts > 1 else Timing(first + left, 0.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """When the parts of one answer are due."""

    first: float  #: time.monotonic()
    interval: float  #: seconds between two parts

    def due(self, part: int) -> float:
        return self.first + part * self.interval


def part_text(number: int, part: int, chars: int) -> str:
    """Return a part of the answer to question `number`; parts count from 0."""
    # As models do it, words bring the space before them along.
    gap = "" if part == 0 else " " if part % _PARAGRAPH else "\n\n"
    text = f"{gap}q{number}p{part}"
    return text + _fill(chars - len(text)) if len(text) < chars else text


def text_of(number: int, parts: int, chars: int) -> str:
    """Return the answer to question `number`."""
    return "".join(part_text(number, part, chars) for part in range(parts))


def is_part_of(text: str, number: int) -> bool:
    """Say whether a text begins as the answer to question `number` does."""
    return text.startswith(f"q{number}p")


def _fill(chars: int) -> str:
    fill = (_FILL * (1 + chars // len(_FILL)))[:chars]
    return fill[:-1] + "." if fill.endswith(" ") else fill
