"""Row 5: how old the text is that readers see, on average, under Slack's limit of edits.

A text is as old as the first part of the answer that it does not show yet; one that shows
everything has the age nothing. The mean is over the whole time in which answers stream. What the
limit permits at best is reckoned by `least`, with the whole future known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatrelaybot.playground.limits import Limits
from tests.bench import contenders, least, together
from tests.bench.figures import NAIVE, US, Figure, Findings, Plan
from tests.bench.world import Call, Record, Script, World

#: L, in seconds.
_LATENCY = 0.08
_WORKERS = 64
_EDIT_SECONDS = 1.0
_SETTINGS = {
    "EDITS_PER_MINUTE": "50",
    "POSTS_PER_MINUTE": "200",
    "EDIT_SECONDS": str(_EDIT_SECONDS),
}
_PATIENCE = 40.0
#: What must be reached.
_NEAR = 1.2


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    count: int
    script: Script
    per_second: float | None = None  #: how fast they are asked; None: at once
    has_first_texts: bool = True  #: the best schedule shows first texts at once, as we do

    def __str__(self) -> str:
        return self.name


#: Twenty ends are all that a rested budget can edit at once, so there they are edited late.
_CROWD = _Case("20 of 5 s together", 20, Script(ends_at=5.0, parts=50), has_first_texts=False)
_CASES = (
    _Case(
        "20 of 8 to 22 s, one every 4 s",
        20,
        Script(parts=80, more_parts=140, part_chars=10),
        per_second=0.25,
    ),
    _Case("5 of 20 s together", 5, Script(parts=200, part_chars=10)),
    _CROWD,
)
#: Drawn in the documents.
_PLOTTED = _Case("20 of 10 to 20 s", 20, Script(parts=100, more_parts=100, part_chars=10))


@dataclass(frozen=True, slots=True)
class _Result:
    records: Sequence[Record]
    flaws: Sequence[str]
    mean_age: float  #: seconds
    ratio: float  #: to the least mean age


def measure(plan: Plan) -> Findings:
    """Measure row 5."""
    findings = Findings()
    if plan.is_quick:
        cases = [(_CROWD, US)]
    else:
        cases = [(case, contender) for case in _CASES for contender in (US, NAIVE)]
    for (case, contender), rounds in together.run(_run, cases, rounds=plan.rounds).items():
        findings.figures += _figures(case, contender, rounds)
        if contender == US:
            findings.flaws += [f"{case}: {flaw}" for result in rounds for flaw in result.flaws]
    if not plan.is_quick:
        plotted = together.run(_run, [(_PLOTTED, US), (_PLOTTED, NAIVE)], rounds=1)
        curves = findings.curves["edits"] = {}
        for (_, contender), (result,) in plotted.items():
            _draw(curves, contender, result.records)
    return findings


def _run(case: _Case, contender: str) -> _Result:
    with World(latency=_LATENCY, limits=Limits()) as world:
        with contenders.start(contender, world, workers=_WORKERS, **_SETTINGS):
            asked = world.ask(case.count, script=case.script, per_second=case.per_second)
            patience = _PATIENCE if contender == US else _EDIT_SECONDS
            streaming = (case.script.parts + case.script.more_parts) / case.script.parts_per_second
            world.wait_until_answered(asked, streaming + patience)
        records = world.records(asked)
        total = sum(map(area, records))
        return _Result(
            records=records,
            flaws=world.flaws(asked),
            mean_age=total / sum(map(_seconds, records)),
            ratio=total / _least(case, records),
        )


def area(record: Record) -> float:
    """Return the age of the text shown, summed over the time of the stream; seconds · seconds."""
    end = record.part_at(record.parts - 1)
    shown, since, total = 0, record.part_at(0), 0.0
    versions = sorted(
        (version.at, version.chars)
        for reply in record.replies
        for version in reply.versions
        if version.has_text
    )
    for at, chars in (*((min(at, end), chars) for at, chars in versions), (end, 0)):
        total += _grown(record, shown, since, at)
        since = max(since, at)
        shown = max(shown, round(chars / record.part_chars))
    return total


def _grown(record: Record, shown: int, since: float, until: float) -> float:
    """Return the sum of ages between two moments at which so many parts were shown."""
    oldest = record.part_at(min(shown, record.parts - 1))
    young, old = max(0.0, since - oldest), max(0.0, until - oldest)
    return (old * old - young * young) / 2.0


def _seconds(record: Record) -> float:
    return record.part_at(record.parts - 1) - record.part_at(0)


def _least(case: _Case, records: Sequence[Record]) -> float:
    start = min(record.part_at(0) for record in records)
    spans = [
        (record.part_at(0) - start, record.part_at(record.parts - 1) - start) for record in records
    ]
    best = least.age(
        spans,
        least.Budget.of(Limits()).edits,
        edit_seconds=_EDIT_SECONDS,
        has_first_texts=case.has_first_texts,
    )
    # Whatever is shown is as old as the call that shows it.
    return best + _LATENCY * sum(map(_seconds, records))


def _figures(case: _Case, contender: str, rounds: Sequence[_Result]) -> list[Figure]:
    bound = _NEAR if contender == US else None
    mean = tuple(result.mean_age for result in rounds)
    ratio = tuple(result.ratio for result in rounds)
    return [
        Figure(5, f"{case}: mean age of the text", contender, "s", mean),
        Figure(5, f"{case}: mean age, of the least", contender, "×", ratio, bound),
    ]


def _draw(
    curves: dict[str, list[tuple[float, float]]], contender: str, records: Sequence[Record]
) -> None:
    """Add when each answer was edited: seconds, and the number of the answer."""
    start = min(record.written for record in records)
    for line, record in enumerate(records):
        for call in record.calls:
            if call.method not in ("chat.update", "chat.postMessage"):
                continue
            kind = _kind(record, call)
            point = (call.received - start, float(line))
            curves.setdefault(f"{contender} {kind}", []).append(point)


def _kind(record: Record, call: Call) -> str:
    if call.error:
        return "refused"
    is_whole = record.final is not None and call.chars == record.chars
    return "final" if is_whole else "edit"
