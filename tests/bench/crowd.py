"""Row 4: how soon the last of many answers is whole that end together, under Slack's limits.

The limits are those of the local workspace: 50 edits a minute and 20 at once, 200 posts a minute
and 80 at once, a post a second in each channel. What they permit at best is reckoned by `least`;
each round begins after a rest, as that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatrelaybot.playground.limits import Limits
from tests.bench import contenders, least, together
from tests.bench.figures import NAIVE, US, Figure, Findings, Plan
from tests.bench.world import Record, Script, World

#: L, and how long the answers stream; seconds.
_LATENCY = 0.08
_STREAM = 5.0
_SCRIPT = Script(ends_at=_STREAM, parts=26)
_WORKERS = 128
#: Ours, with the limits of a workspace.
_SETTINGS = {"EDITS_PER_MINUTE": "50", "POSTS_PER_MINUTE": "200"}
#: How long after the least time it may still be waited for; seconds.
_PATIENCE = 60.0
#: How long the naive script is given: what it has lost is lost; seconds after the end.
_NAIVE_PATIENCE = 5.0
#: What must be reached: seconds for a crowd that edits alone suffice for, else a ratio.
_SOON = 1.0
_NEAR = 1.2


@dataclass(frozen=True, slots=True)
class _Case:
    answers: int
    channels: int

    def __str__(self) -> str:
        where = {1: "one channel", self.answers: "a channel each"}
        return f"{self.answers} in {where.get(self.channels, f'{self.channels} channels')}"

    @property
    def least(self) -> float:
        """The least seconds from the last part to the last final."""
        budget = least.Budget.of(Limits())
        late = least.last_final(
            budget, answers=self.answers, channels=self.channels, seconds=_STREAM
        )
        return late + _LATENCY


_CASES = (_Case(100, 1), _Case(20, 10), _Case(20, 1), _Case(100, 10), _Case(100, 100))
#: What becomes of the naive script shows in two of them.
_NAIVE_CASES = (_Case(20, 10), _Case(100, 10))
_QUICK_CASES = (_Case(20, 10),)


@dataclass(frozen=True, slots=True)
class _Result:
    last_final: float  #: seconds after the last part
    refused: int  #: calls
    lost: int  #: answers that are not shown as a whole
    flaws: Sequence[str]


def measure(plan: Plan) -> Findings:
    """Measure row 4."""
    cases = [(case, US) for case in (_QUICK_CASES if plan.is_quick else _CASES)]
    if not plan.is_quick:
        cases += [(case, NAIVE) for case in _NAIVE_CASES]
    results = together.run(_run, cases, rounds=plan.rounds)
    findings = Findings()
    for (case, contender), rounds in results.items():
        findings.figures += _figures(case, contender, rounds)
        if contender == US:
            findings.flaws += [f"{case}: {flaw}" for result in rounds for flaw in result.flaws]
    findings.notes.append(
        "row 4: the least possible time counts each reply's first post, too: with one post a "
        "second in one channel there can be six placeholders after five seconds, not twenty"
    )
    return findings


def _run(case: _Case, contender: str) -> _Result:
    patience = case.least + _PATIENCE if contender == US else _NAIVE_PATIENCE
    with World(latency=_LATENCY, limits=Limits()) as world:
        with contenders.start(contender, world, workers=_WORKERS, **_SETTINGS):
            asked = world.ask(case.answers, script=_SCRIPT, channels=case.channels)
            world.wait_until_answered(asked, _STREAM + patience)
        records = world.records(asked)
        return _Result(
            last_final=max(map(_wait, records)),
            refused=sum(bool(call.error) for call in world.calls()),
            lost=sum(record.final is None for record in records),
            flaws=world.flaws(asked),
        )


def _wait(record: Record) -> float:
    """Return how long after its last part an answer was whole; 0 where it never was."""
    if record.last_part is None or record.final is None:
        return 0.0
    return record.final - record.last_part


def _figures(case: _Case, contender: str, rounds: Sequence[_Result]) -> list[Figure]:
    def figure(
        what: str, unit: str, samples: Sequence[float], bound: float | None = None
    ) -> Figure:
        own_bound = bound if contender == US else None
        return Figure(4, f"{case}: {what}", contender, unit, tuple(samples), own_bound)

    figures = [
        figure("answers without their whole text", "", [r.lost for r in rounds], 0.0),
        figure("refused calls", "", [r.refused for r in rounds], 0.0),
    ]
    if contender != US:
        return figures
    seconds = [result.last_final for result in rounds]
    is_soon = case.least <= _LATENCY
    figures.append(figure("last final", "s", seconds, _SOON if is_soon else None))
    if not is_soon:
        shares = [each / case.least for each in seconds]
        figures.append(figure(f"last final, least is {case.least:.1f} s", "×", shares, _NEAR))
    return figures
