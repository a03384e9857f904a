"""Making a growing Markdown text fit to be looked at. Pure.

A text that breaks off anywhere has half-open marks, and they show as themselves, or turn what
follows into something else. What is open gets closed; what can not be shown yet, as half a link or
the head of a table, is held back, which is never more than a few words. So a healed text is always
a beginning of the text, plus what closes it. What is inside code is left alone.
"""

from __future__ import annotations

import re
from itertools import pairwise

from chatrelaybot.fences import Fence, FenceScan, scan_fences
from chatrelaybot.inlines import open_end
from chatrelaybot.splitting import longest_closing, step_back

#: Holding one thing back can lay another open; a text where that goes on for longer is nonsense.
_PASSES = 5

_MARKS = " \t\r>-+*=_~`#:|"
_NUMBER = re.compile(r"\d{1,9}[.)]")
_LIST_ITEM = re.compile(r"\s*(?:[-+*]|\d{1,9}[.)])\s")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_DELIMITER_CELL = re.compile(r"\s*:?-+:?\s*")
_CELL_END = re.compile(r"(?<!\\)\|")


def heal(text: str, *, limit: int) -> str:
    """Return what to show of a text that still grows, at most `limit` characters; maybe nothing."""
    healed = _heal(text, limit)
    if len(healed) <= limit:
        return healed
    shorter = len(text) - (len(healed) - limit)
    healed = _heal(text[: step_back(text, shorter)], limit)
    if len(healed) <= limit:
        return healed
    # Nothing that closes is longer than this.
    return _heal(text[: step_back(text, limit - longest_closing(limit))], limit)


def _heal(text: str, limit: int) -> str:
    fences = scan_fences(text)
    if fences.fence:
        return _heal_code(text, fences, fences.fence, limit)
    text = _hold_table_head(text.rstrip(), fences.end)
    for _ in range(_PASSES):
        text = _hold_bare_marks(text, fences.end)
        start = _paragraph_start(text, fences.end)
        paragraph = open_end(text[start:])
        kept = text[: start + paragraph.keep].rstrip()
        if kept == text:
            break
        text = kept
    closing = paragraph.closing if len(paragraph.closing) <= longest_closing(limit) else ""
    return text + closing if text.strip() else ""


def _heal_code(text: str, fences: FenceScan, fence: Fence, limit: int) -> str:
    code = text[fences.end :].rstrip()
    last_line = code[code.rfind("\n") + 1 :].strip(" ")
    if last_line and fence.marker.startswith(last_line):
        code = code[: code.rfind("\n") + 1].rstrip()  # the first marks of the closing line
    if not code:
        return _heal(text[: fences.start], limit)
    closing = fence.closing
    return text[: fences.end] + code + (closing if len(closing) <= longest_closing(limit) else "")


def _line_start(text: str, floor: int, end: int) -> int:
    return max(text.rfind("\n", floor, end) + 1, floor)


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _hold_table_head(text: str, floor: int) -> str:
    """Hold back the first row of a table until the row of dashes below it is complete."""
    starts, rows = [len(text) + 1], []
    while starts[-1] > floor:
        start = _line_start(text, floor, starts[-1] - 1)
        row = text[start : starts[-1] - 1]
        if not _is_row(row):
            break
        starts.append(start)
        rows.append(row)
    if not rows or any(_is_delimiter(below, head) for below, head in pairwise(rows)):
        return text
    held = 2 if len(rows) > 1 and not rows[0].strip("|:- \t\r") else 1
    return text[: starts[held]].rstrip()


def _is_delimiter(row: str, head: str) -> bool:
    if row.strip("|:- \t\r"):
        return False
    cells = _cells(row)
    return len(cells) == len(_cells(head)) and all(map(_DELIMITER_CELL.fullmatch, cells))


def _cells(row: str) -> list[str]:
    return _CELL_END.split(row.strip().removeprefix("|").removesuffix("|"))


def _hold_bare_marks(text: str, floor: int) -> str:
    """Hold back last lines of marks that have nothing to mark yet, such as `- ` and `## `."""
    end = len(text)
    while end > floor:
        start = _line_start(text, floor, end)
        line = text[start:end]
        rest = line.strip(_MARKS)
        if _is_row(line) or (rest and not _NUMBER.fullmatch(rest)):
            break
        end = start
        while end > floor and text[end - 1].isspace():
            end -= 1
    return text[:end].rstrip()


def _paragraph_start(text: str, floor: int) -> int:
    """Return where the text starts in which marks can belong to each other at the end."""
    end = len(text)
    while end > floor:
        start = _line_start(text, floor, end)
        line = text[start:end]
        is_last = end == len(text)
        if _LIST_ITEM.match(line):
            return start
        if _is_row(line) and is_last:
            return start + max(mark.end() for mark in _CELL_END.finditer(line))
        if not line.strip() or _is_row(line) or _HEADING.match(line):
            return start if is_last else end
        end = start - 1
    return floor
