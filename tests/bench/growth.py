"""Row 10: how the cost grows with the number of answers, their length, and the size of the inbox.

The fit is the exponent e of cost ~ size^e, by least squares over the logarithms: 1 is linear.
"""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, insert

from chatrelaybot import schema, schema_upgrade
from tests.bench import contenders
from tests.bench.figures import US, Figure, Findings, Plan
from tests.bench.world import Script, World

_LATENCY = 0.08
_WORKERS = 512
_PATIENCE = 90.0
#: Answers at once, characters of an answer, rows in the inbox.
_COUNTS, _LENGTHS, _ROWS = (1, 10, 100, 500), (1_000, 10_000, 100_000), (0, 1_000, 100_000)
_QUICK_COUNTS = (10, 50)
#: Answers at once where it is not their number that grows.
_FEW = 10
_SECONDS = 3.0
_PART_CHARS = 20
#: Linear at worst, with what the ends of a short scale add by chance.
_LINEAR = 1.1
#: What a full inbox may add.
_SAME = 1.2


@dataclass(frozen=True, slots=True)
class _Cost:
    cpu_seconds: float
    memory: float  #: MiB, at the end of the streaming


def measure(plan: Plan) -> Findings:
    """Measure row 10."""
    findings = Findings()
    counts = _QUICK_COUNTS if plan.is_quick else _COUNTS
    lengths = () if plan.is_quick else _LENGTHS
    rows = () if plan.is_quick else _ROWS
    costs: dict[tuple[str, int], list[_Cost]] = defaultdict(list)
    for number in range(plan.rounds):
        sys.stderr.write(f"  round {number + 1}\n")
        for count in counts:
            costs["answers", count].append(_run(findings, count=count))
        for length in lengths:
            costs["characters", length].append(_run(findings, count=_FEW, chars=length))
        for row_count in rows:
            costs["rows", row_count].append(_run(findings, count=_FEW, rows=row_count))
    findings.figures += _growth("answers", counts, costs)
    if lengths:
        findings.figures += _growth("characters", lengths, costs)
    if rows:
        findings.figures += _inbox(rows, costs)
    return findings


def _run(findings: Findings, *, count: int, chars: int = 2_000, rows: int = 0) -> _Cost:
    parts = chars // _PART_CHARS
    script = Script(parts=parts, parts_per_second=parts / _SECONDS, part_chars=_PART_CHARS)
    with TemporaryDirectory() as directory, World(latency=_LATENCY) as world:
        file = Path(directory) / "inbox.sqlite3"
        if rows:
            _fill(file, rows)
        url = f"sqlite:///{file}"
        with contenders.start(US, world, workers=_WORKERS, DATABASE_URL=url) as process:
            # What the first answer of all brings along does not grow.
            world.wait_until_answered(world.ask(script=Script(parts=1)), _PATIENCE)
            before = process.usage()
            asked = world.ask(count, script=script)
            # Until just before the end, while all that it takes is still there.
            time.sleep(_SECONDS)
            memory = (process.usage().rss - before.rss) / 2**20
            world.wait_until_answered(asked, _PATIENCE)
            cpu_seconds = process.usage().cpu_seconds - before.cpu_seconds
        findings.flaws += [
            f"{count} answers of {chars} characters, {rows} rows: {flaw}"
            for flaw in world.flaws(asked)
        ]
    return _Cost(cpu_seconds, max(0.01, memory))


def _fill(file: Path, count: int) -> None:
    """Make an inbox with so many answered questions, as the retention time leaves them."""
    engine = create_engine(f"sqlite:///{file}")
    finished_at = time.time()
    with engine.begin() as connection:
        schema_upgrade.prepare(connection)
        connection.execute(
            insert(schema.questions),
            [
                {
                    "id": f"{number:032x}",
                    "event_id": f"EvOLD{number}",
                    "team_id": "T",
                    "channel": f"C{number % 1000}",
                    "ts": f"1600000000.{number:06}",
                    "conversation": f"T:C{number % 1000}:{number}",
                    "user_id": "U",
                    "text": "",
                    "is_direct": False,
                    "traceparent": "",
                    "received_at": finished_at,
                    "state": schema.State.DONE.value,
                    "finished_at": finished_at,
                }
                for number in range(count)
            ],
        )
    engine.dispose()


def _growth(
    what: str, sizes: Sequence[int], costs: dict[tuple[str, int], list[_Cost]]
) -> list[Figure]:
    figures = []
    for size in sizes:
        each = size if what == "answers" else _FEW
        cpu = tuple(1000.0 * cost.cpu_seconds / each for cost in costs[what, size])
        memory = tuple(1024.0 * cost.memory / each for cost in costs[what, size])
        figures += [
            Figure(10, f"{size:,} {what}: CPU an answer", US, "ms", cpu),
            Figure(10, f"{size:,} {what}: memory an answer", US, "KiB", memory),
        ]
    kinds: dict[str, Callable[[_Cost], float]] = {
        "CPU": lambda cost: cost.cpu_seconds,
        "memory": lambda cost: cost.memory,
    }
    for name, of in kinds.items():
        rounds = zip(*(costs[what, size] for size in sizes), strict=True)
        exponents = tuple(_exponent(sizes, [of(cost) for cost in costs]) for costs in rounds)
        words = f"exponent of {name} over {what}"
        figures.append(Figure(10, words, US, "", exponents, _LINEAR))
    return figures


def _inbox(rows: Sequence[int], costs: dict[tuple[str, int], list[_Cost]]) -> list[Figure]:
    figures = []
    for count in rows:
        cpu = tuple(1000.0 * cost.cpu_seconds / _FEW for cost in costs["rows", count])
        figures.append(Figure(10, f"{count:,} rows in the inbox: CPU an answer", US, "ms", cpu))
    empty, full = costs["rows", rows[0]], costs["rows", rows[-1]]
    ratio = tuple(f.cpu_seconds / e.cpu_seconds for e, f in zip(empty, full, strict=True))
    words = f"CPU with {rows[-1]:,} rows, of that with none"
    return [*figures, Figure(10, words, US, "×", ratio, _SAME)]


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return slope / sum((x - mean_x) ** 2 for x in xs)
