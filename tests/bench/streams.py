"""Row 8: many answers that stream at once, 50 parts a second each.

How late a part is inside the process shows from outside, too: an edit that reaches Slack lacks
the parts that the backend has written and that have not got so far. The oldest of them is as late
as it is then.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tests.bench import contenders
from tests.bench.contenders import ProcessUsage
from tests.bench.figures import BOLT, NAIVE, US, Figure, Findings, Plan, percentile
from tests.bench.world import Record, Script, World

_LATENCY = 0.08
_PARTS_PER_SECOND = 50
_PART_CHARS = 10
#: From the asking until all answers surely stream, and then what is looked at; seconds.
_SETTLING = 3.0
_SECONDS, _QUICK_SECONDS = 8.0, 3.0
#: How long the answers are waited for after their last part: ours, others'; seconds.
_PATIENCE, _THEIR_PATIENCE = 60.0, 5.0
#: Answers at once that everybody gets.
_FEW = 100
#: What must be reached: % of a core, and KiB an answer.
_CORE = 100.0
_MEMORY = 100.0
#: What is kept up: parts a second, of those asked for.
_KEPT_UP = 0.98


@dataclass(slots=True)
class _Rounds:
    """A value a round."""

    cpu: list[float] = field(default_factory=list)  #: % of a core
    parts: list[float] = field(default_factory=list)  #: a second
    delay: list[float] = field(default_factory=list)  #: p99, ms
    memory: list[float] = field(default_factory=list)  #: KiB an answer


def measure(plan: Plan) -> Findings:
    """Measure row 8."""
    findings = Findings()
    results: dict[tuple[int, str], _Rounds] = defaultdict(_Rounds)
    counts = (_FEW,) if plan.is_quick else (_FEW, 500)
    load = 0.0
    for number in range(plan.rounds):
        for count in counts:
            for contender in _contenders(count, is_quick=plan.is_quick):
                sys.stderr.write(f"  round {number + 1}: {count} answers, {contender}\n")
                seconds = _QUICK_SECONDS if plan.is_quick else _SECONDS
                rounds = results[count, contender]
                load = max(load, _run(contender, count, seconds, rounds, findings))
    for count in counts:
        for contender in _contenders(count, is_quick=plan.is_quick):
            findings.figures += _figures(count, contender, results[count, contender])
    findings.notes.append(f"row 8: the load server took at most {load:.0%} of a core")
    return findings


def _contenders(count: int, *, is_quick: bool) -> Sequence[str]:
    if is_quick:
        return (US,)
    # On Bolt the same program runs; what comes of it at 500 is seen without it.
    return (US, NAIVE, BOLT) if count <= _FEW else (US, NAIVE)


def _run(contender: str, count: int, seconds: float, rounds: _Rounds, findings: Findings) -> float:
    """Measure one contender once; return what share of a core the load server took."""
    streaming = _SETTLING + seconds + 1.0
    script = Script(
        starts_at=1.0,
        parts=round(_PARTS_PER_SECOND * streaming),
        parts_per_second=_PARTS_PER_SECOND,
        part_chars=_PART_CHARS,
        # Not all in the same moment.
        stagger=1.0,
    )
    with World(latency=_LATENCY) as world:
        with contenders.start(contender, world, workers=count) as process:
            # What the first answer of all brings along is not an answer's share.
            world.wait_until_answered(world.ask(script=Script(parts=1)), _PATIENCE)
            idle = process.usage()
            asked = world.ask(count, script=script)
            _wait_until(asked.at + _SETTLING)
            before, world_before = process.usage(), world.usage()
            _wait_until(asked.at + _SETTLING + seconds)
            after, world_after = process.usage(), world.usage()
            patience = _PATIENCE if contender == US else _THEIR_PATIENCE
            world.wait_until_answered(asked, streaming + patience)
        records = world.records(asked)
        if contender == US:
            findings.flaws += [f"{count} answers: {flaw}" for flaw in world.flaws(asked)]
    span = (asked.at + _SETTLING, asked.at + _SETTLING + seconds)
    _add(rounds, records, span, (idle, before, after))
    return world_after.share_since(world_before)


def _wait_until(moment: float) -> None:
    """Let time pass."""
    time.sleep(max(0.0, moment - time.monotonic()))


def _add(
    rounds: _Rounds,
    records: Sequence[Record],
    span: tuple[float, float],
    usages: tuple[ProcessUsage, ProcessUsage, ProcessUsage],
) -> None:
    idle, before, after = usages
    start, end = span
    rounds.cpu.append(100.0 * (after.cpu_seconds - before.cpu_seconds) / (end - start))
    rounds.memory.append((after.rss - idle.rss) / 1024.0 / len(records))
    delays: list[float] = []
    speeds: list[float] = []  # of those that were edited more than once, parts a second
    for record in records:
        versions = [
            (version.at, version.chars)
            for reply in record.replies
            for version in reply.versions
            if version.has_text and start <= version.at <= end
        ]
        delays += [_lateness(record, at - _LATENCY, chars) for at, chars in versions]
        if len(versions) > 1:
            (first, less), *_, (last, more) = versions
            speeds.append((more - less) / _PART_CHARS / (last - first))
    # Who has shown nothing in all that time is late by at least as much.
    rounds.delay.append(1000.0 * percentile(delays or [end - start], 0.99))
    rounds.parts.append(len(records) * fmean(speeds) if speeds else 0.0)


def _lateness(record: Record, received: float, chars: int) -> float:
    """Return how long ago the first part was written that an edit lacks; 0: it lacks none."""
    lacking = round(chars / record.part_chars)
    if lacking >= record.parts:
        return 0.0
    return max(0.0, received - record.part_at(lacking))


def _figures(count: int, contender: str, rounds: _Rounds) -> list[Figure]:
    bounds = contender == US
    asked_for = count * _PARTS_PER_SECOND

    def figure(
        what: str, unit: str, samples: list[float], bound: float | None, *, is_floor: bool = False
    ) -> Figure:
        return Figure(
            8,
            f"{count} answers: {what}",
            contender,
            unit,
            tuple(samples),
            bound if bounds else None,
            is_floor,
        )

    return [
        figure("parts shown", "/s", rounds.parts, _KEPT_UP * asked_for, is_floor=True),
        figure("CPU, of a core", "%", rounds.cpu, _CORE),
        figure("delay of a part in the process, p99", "ms", rounds.delay, None),
        figure("memory an answer", "KiB", rounds.memory, _MEMORY),
    ]
