"""The least that Slack's limits permit, whoever calls. Pure.

Both budgets count together: whoever has a placeholder on show needs an edit for its last words,
everybody else a post, and each placeholder was a post, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chatrelaybot.playground.limits import Limits, Rate

#: Fineness of the search; seconds.
_STEP = 0.05
#: Fineness of the schedule: seconds, and edits.
_SLOT = 0.5
_QUANTUM = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """What there is after a rest."""

    edits: Rate
    posts: Rate
    posts_in_channel: Rate

    @classmethod
    def of(cls, limits: Limits) -> Budget:
        """Take it from the limits of the local workspace."""
        by_method, in_channel = limits.by_method, limits.posts_in_channel
        if in_channel is None:
            raise ValueError("without a limit nothing is least")
        return cls(by_method["chat.update"], by_method["chat.postMessage"], in_channel)


def last_final(budget: Budget, *, answers: int, channels: int, seconds: float) -> float:
    """Return how long after their common end the last of these answers can be whole, in seconds.

    They are asked together, after a rest, and stream for `seconds`; not counting any latency.
    """
    steps = 0
    while not _can_end(budget, answers, channels, seconds, steps * _STEP):
        steps += 1
    return steps * _STEP


def _can_end(budget: Budget, answers: int, channels: int, seconds: float, late: float) -> bool:
    edits = math.floor(_allowed(budget.edits, late))
    here = budget.posts_in_channel
    placeholders = min(answers, channels * math.floor(_allowed(here, seconds)))
    edited = min(edits, placeholders)
    posted = answers - edited
    return (
        posted <= channels * math.floor(_allowed(here, late))
        and answers <= channels * math.floor(_allowed(here, seconds + late))
        and posted <= budget.posts.burst + late * budget.posts.per_minute / 60.0
        and answers <= math.floor(_allowed(budget.posts, seconds + late))
    )


def _allowed(rate: Rate, seconds: float) -> float:
    """Return how many calls can be made within so many seconds after a rest."""
    return rate.burst + seconds * rate.per_minute / 60.0


def age(
    spans: Sequence[tuple[float, float]],
    edits: Rate,
    *,
    edit_seconds: float,
    has_first_texts: bool,
) -> float:
    """Return the least sum, over all answers, of the age of the text shown, in seconds · seconds.

    Args:
        spans: when each answer begins and ends, in seconds after a rest; known beforehand, as
            nobody can know it.
        edits: the budget.
        edit_seconds: least time between two edits of one answer.
        has_first_texts: each answer's first text is shown at once, and costs an edit.

    The age is the time since the text shown was all there was. Edits are reckoned as a flow that
    all running answers share: n of them under a flow of R edits a second have texts of the mean
    age n / 2R. Only the sum of edits is limited, and each gap may be paid at its end. So no real
    schedule can reach it.

    Raises:
        ValueError: The budget does not suffice for the first texts.
    """
    slots = math.ceil(max(end for _, end in spans) / _SLOT)
    running = [
        sum(start <= (slot + 0.5) * _SLOT < end for start, end in spans)
        for slot in range(slots + 1)
    ]
    begun = [
        sum(int(start / _SLOT) == slot for start, _ in spans) if has_first_texts else 0
        for slot in range(slots)
    ]
    full = round(edits.burst / _QUANTUM)
    income = edits.per_minute / 60.0 * _SLOT / _QUANTUM
    best = {full: 0.0}
    for slot in range(slots):
        # Only answers that go on may still owe the edit at the end of their gap.
        floor = -round(min(running[slot], running[slot + 1]) / _QUANTUM)
        gained = math.floor((slot + 1) * income) - math.floor(slot * income)
        gained -= round(begun[slot] / _QUANTUM)
        most = round(running[slot] * _SLOT / edit_seconds / _QUANTUM)
        best = _next_levels(best, gained, running[slot], most=most, floor=floor, full=full)
    if not best:
        raise ValueError("too many first texts for the budget")
    return min(best.values())


def _next_levels(
    best: dict[int, float], gained: int, running: int, *, most: int, floor: int, full: int
) -> dict[int, float]:
    """Go one slot on: from the least sum for each level of the bucket to that of the next."""
    after: dict[int, float] = {}
    costs = [math.inf, *((running * _SLOT) ** 2 / (2 * n * _QUANTUM) for n in range(1, most + 1))]
    for level, total in best.items():
        if not running:
            _keep(after, min(full, level + gained), total, floor)
            continue
        for spent in range(1, min(most, level + gained - floor) + 1):
            _keep(after, min(full, level + gained - spent), total + costs[spent], floor)
    return after


def _keep(after: dict[int, float], level: int, total: float, floor: int) -> None:
    if level >= floor and total < after.get(level, math.inf):
        after[level] = total
