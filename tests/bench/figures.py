"""What the bench finds out: figures with their spread, and flaws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Who is measured. The limit is a bare loop that does only what cannot be avoided.
US, NAIVE, BOLT, LIMIT = "us", "naive", "bolt", "limit"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    is_quick: bool = False  #: fewer and smaller cases; for texts, not for time


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one contender; the smaller the better, unless `is_floor`."""

    row: int  #: number of the row in the table
    what: str
    contender: str
    unit: str  #: "L" (the latency of a Slack call), "s", "ms", "%", "MiB", "×", "/s", …
    samples: tuple[float, ...]  #: one a round
    bound: float | None = None  #: what must be reached; None: nothing must
    is_floor: bool = False  #: the bound is the least, not the most

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def is_reached(self) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        if self.bound is None:
            return None
        return self.median >= self.bound if self.is_floor else self.median <= self.bound


@dataclass(slots=True)
class Findings:
    """What one part of the bench has found."""

    figures: list[Figure] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)  #: lost or wrong texts of ours, a sentence each
    notes: list[str] = field(default_factory=list)  #: what a reader of the table should know
    #: Curves to be plotted, by name: points (x, y), by contender.
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        self.figures += other.figures
        self.flaws += other.flaws
        self.notes += other.notes
        for name, curves in other.curves.items():
            self.curves.setdefault(name, {}).update(curves)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed; nearest rank."""
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
