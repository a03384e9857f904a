"""What is wrong with the answers that readers see in the end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.bench.world.records import Record


def flaws(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each kind of flaw; none where all is as it should be."""
    return [
        sentence
        for words, is_so in _KINDS.items()
        if (sentence := _sentence(words, [record for record in records if is_so(record)], records))
    ]


def _is_unanswered(record: Record) -> bool:
    return not record.shown


def _is_cut(record: Record) -> bool:
    return bool(record.shown) and not _is_doubled(record) and not record.is_exact


def _is_doubled(record: Record) -> bool:
    return len(record.shown) > 1 and not record.has_several


_KINDS: dict[str, Callable[[Record], bool]] = {
    "have no reply": _is_unanswered,
    "show another text than the backend's": _is_cut,
    "have several replies": _is_doubled,
    "still have the reaction of waiting": lambda record: record.has_reaction,
    "were not answered by the backend to the end": lambda record: record.ended is None,
}


def _sentence(words: str, found: Sequence[Record], records: Sequence[Record]) -> str:
    if not found:
        return ""
    first = found[0]
    shown = [len(reply.text) for reply in first.shown]
    example = f"question {first.number}: {shown} of {first.chars} characters"
    return f"{len(found)} of {len(records)} answers {words} ({example})"
