"""Rows 1, 2, 3: how soon the placeholder, the first and the last text are visible.

Everything is told in units of L, the time that a call of Slack's takes, with its way there and
back: nobody can be quicker than one. (Over a distance its effect is visible half a round trip
before.) An edit that is under way when the last text comes makes that two, so the ends of the
answers are spread over a second, in which everybody edits once.
Every question has a channel of its own, since nobody may post more than once a second in one.
A crowd comes first whose threads and connections the others find; its placeholders are shown, too.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench import contenders
from tests.bench.figures import BOLT, NAIVE, US, Figure, Findings, Plan, percentile
from tests.bench.world import Asked, Record, Script, Usage, World

_CONTENDERS = (US, NAIVE, BOLT)
#: Room for the largest crowd, and for what is left of the one before.
_WORKERS = 128
#: From then on the placeholder is surely visible, and its call answered; seconds over 3 L.
_FIRST_AFTER = 0.5
#: Between two askings: what the calls of the one before have left is put away; seconds.
_REST = 0.3
#: No part comes a second after the first one, to the instant at which the second edit is due.
_PARTS_PER_SECOND = 19.5
#: Longest wait for the answers of one asking, seconds.
_PATIENCE = 40.0
#: What may lie between two programs of which neither is behind the other: a share of L that is
#: 4 ms, which a scheduler may take at any time.
_EQUAL = 1.05


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    latency: float
    round_trip: float = 0.0  #: above 0: with TLS
    counts: tuple[int, ...] = (1, 20, 100)  #: answers at once, that stand in the table
    more_counts: tuple[int, ...] = ()  #: for the curve only

    @property
    def unit(self) -> float:
        """L, in seconds."""
        return self.latency + self.round_trip

    def script(self, *, is_quick: bool) -> Script:
        seconds = 0.5 if is_quick else 1.0
        parts = int(_PARTS_PER_SECOND * seconds)
        return Script(
            first_after=_FIRST_AFTER * seconds + 3 * self.unit,
            parts=parts,
            more_parts=parts,
            parts_per_second=_PARTS_PER_SECOND,
        )


#: As Slack is reached, so this one is plotted.
_FAR = _Case("L = 80 ms + 20 ms away, TLS", 0.08, round_trip=0.02, more_counts=(5, 50))
_CASES = (
    _Case("L = 80 ms", 0.08),
    _Case("L = 250 ms", 0.25),
    _FAR,
)
_QUICK_CASES = (_Case("L = 80 ms", 0.08, counts=(1, 20)),)


@dataclass(slots=True)
class _Rounds:
    """What one contender has shown in one case with so many answers at once; a value a round."""

    first: list[float] = field(default_factory=list)
    first_p99: list[float] = field(default_factory=list)
    placeholder: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    last_p99: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)  #: placeholder, of the crowd that comes first

    def add(self, records: Sequence[Record], unit: float) -> None:
        """Add a round; what never became visible is not in it, but among the flaws."""
        first = _waits([(record.first_part, record.first_text) for record in records], unit)
        last = _waits([(record.last_part, record.final) for record in records], unit)
        shown = _waits([(record.written, record.placeholder) for record in records], unit)
        self.first.append(percentile(first, 0.5))
        self.first_p99.append(percentile(first, 0.99))
        self.placeholder.append(percentile(shown, 0.5))
        self.last.append(percentile(last, 0.5))
        self.last_p99.append(percentile(last, 0.99))

    def add_first(self, records: Sequence[Record], unit: float) -> None:
        """Add the crowd that found nothing prepared, in a round."""
        shown = _waits([(record.written, record.placeholder) for record in records], unit)
        self.cold.append(percentile(shown, 0.5))


#: By case, answers at once, and contender.
_Results = dict[tuple[str, int, str], _Rounds]


@dataclass(slots=True)
class _Load:
    """What the load server itself took, at most."""

    share: float = 0.0  #: of a core
    lateness: float = 0.0  #: of a part, seconds

    def note(self, before: Usage, after: Usage) -> None:
        """Take what it took between two looks."""
        self.share = max(self.share, after.share_since(before))
        self.lateness = max(self.lateness, after.lateness)


def measure(plan: Plan) -> Findings:
    """Measure the three rows in one go."""
    cases = _QUICK_CASES if plan.is_quick else _CASES
    results: _Results = defaultdict(_Rounds)
    findings, load = Findings(), _Load()
    for number in range(1 if plan.is_quick else plan.rounds):
        for case in cases:
            for contender in _CONTENDERS:
                sys.stderr.write(f"  round {number + 1}: {case.name}, {contender}\n")
                _run(case, contender, results, findings, load, is_quick=plan.is_quick)
    for case in cases:
        for count in case.counts:
            findings.figures += _figures(case, count, results)
    if not plan.is_quick:
        findings.curves["first_text"] = _curves(_FAR, results)
    findings.notes.append(
        f"rows 1 to 3: the load server took at most {load.share:.0%} of a core, "
        f"and wrote no part more than {load.lateness * 1000:.0f} ms late"
    )
    return findings


def _run(
    case: _Case,
    contender: str,
    results: _Results,
    findings: Findings,
    load: _Load,
    *,
    is_quick: bool,
) -> None:
    """Ask one contender in one case, first with few, then with many questions at once."""
    script = case.script(is_quick=is_quick)
    counts = sorted((*case.counts, *case.more_counts))
    with World(latency=case.latency, round_trip=case.round_trip) as world:
        with contenders.start(contender, world, workers=_WORKERS):
            # slack_sdk looks every 0.1 s whether there is a link to be read.
            threading.Event().wait(_REST)
            first = _ask(world, counts[-1], Script(parts=1))
            asked = {}
            for count in counts:
                before = world.usage()
                asked[count] = _ask(world, count, script)
                load.note(before, world.usage())
        results[case.name, counts[-1], contender].add_first(world.records(first), case.unit)
        for count, questions in asked.items():
            results[case.name, count, contender].add(world.records(questions), case.unit)
        flaws = findings.flaws if contender == US else findings.notes
        for questions in (first, *asked.values()):
            where = f"{contender}, {len(questions.numbers)} at once, {case.name}"
            flaws += [f"{where}: {flaw}" for flaw in world.flaws(questions)]


def _ask(world: World, count: int, script: Script) -> Asked:
    """Ask, wait for the answers, and let everybody come to rest."""
    asked = world.ask(count, script=script)
    world.wait_until_answered(asked, _PATIENCE)
    threading.Event().wait(_REST)
    return asked


def _waits(times: Sequence[tuple[float | None, float | None]], unit: float) -> list[float]:
    """Return how long each took, in units, of those that came to an end."""
    return [(end - begin) / unit for begin, end in times if begin is not None and end is not None]


def _figures(case: _Case, count: int, results: _Results) -> list[Figure]:
    where = f"{count} at once, {case.name}"
    figures = []
    for contender in _CONTENDERS:
        rounds = results[case.name, count, contender]
        lines: list[tuple[int, str, list[float], float | None]] = [
            (1, f"p50, {where}", rounds.first, 1.15),
            (2, f"p50, {where}", rounds.placeholder, 1.1),
            (3, f"p50, {where}", rounds.last, 1.6),
        ]
        if count > 1:
            most = 1.5 if count == max(case.counts) else None
            lines += [
                (1, f"p99, {where}", rounds.first_p99, most),
                (3, f"p99, {where}", rounds.last_p99, 2.2),
            ]
        if rounds.cold:
            lines.append((2, f"p50, {where}, the first crowd", rounds.cold, None))
        figures += [
            Figure(row, what, contender, "L", tuple(samples), bound if contender == US else None)
            for row, what, samples, bound in lines
        ]
    return [*figures, _comparison(case, count, results)]


def _comparison(case: _Case, count: int, results: _Results) -> Figure:
    ours, naive, bolt = (results[case.name, count, name].first for name in _CONTENDERS)
    ratios = tuple(one / min(others) for one, *others in zip(ours, naive, bolt, strict=True))
    what = f"p50, ours / the better of naive and Bolt, {count} at once, {case.name}"
    return Figure(1, what, US, "×", ratios, _EQUAL)


def _curves(case: _Case, results: _Results) -> dict[str, list[tuple[float, float]]]:
    """Return the first text's p50, in L, over the number of answers at once."""
    counts = sorted((*case.counts, *case.more_counts))
    return {
        contender: [
            (float(count), median(results[case.name, count, contender].first)) for count in counts
        ]
        for contender in _CONTENDERS
    }
