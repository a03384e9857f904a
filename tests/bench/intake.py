"""Row 9: how soon events are acked, one by one and in a burst.

Ours acks once the question is in its inbox, on disk; the others ack and hope. So that only the
intake is measured, everybody answers on one thread, which is soon stuck in a call of Slack's:
what a crowd of answers costs beside it is what rows 1 to 3 show.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import contenders
from tests.bench.figures import BOLT, LIMIT, NAIVE, US, Figure, Findings, Plan, percentile
from tests.bench.world import Asked, Record, World

_CONTENDERS = (US, NAIVE, BOLT, LIMIT)
_PER_SECOND = 50.0
#: After so long without an ack Slack sends an event again; seconds.
_ACK_SECONDS = 3.0
#: What is acked later is lost as far as this row goes.
_PATIENCE = _ACK_SECONDS + 0.5
_COMMITS = 50
#: Longer than anything is measured here.
_STUCK_SECONDS = 120.0


@dataclass(slots=True)
class _Rounds:
    """What one contender has shown; a value a round."""

    p50: list[float] = field(default_factory=list)  #: milliseconds to an ack, one by one
    p99: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)  #: events of the burst not acked in time
    #: Seconds until the last ack, and acks a second, of bursts of which nothing was lost.
    seconds: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)

    def add_paced(self, records: Sequence[Record]) -> None:
        waits = [seconds * 1000.0 for seconds in _waits(records)]
        self.p50.append(percentile(waits, 0.5))
        self.p99.append(percentile(waits, 0.99))

    def add_burst(self, records: Sequence[Record]) -> None:
        in_time = [seconds for seconds in _waits(records) if seconds <= _ACK_SECONDS]
        lost = len(records) - len(in_time)
        self.lost.append(float(lost))
        if not lost:
            self.seconds.append(max(in_time))
            self.rate.append(len(in_time) / max(in_time))


def measure(plan: Plan) -> Findings:
    """Measure the row."""
    burst, seconds = (800, 1.0) if plan.is_quick else (3200, 10.0)
    results: dict[str, _Rounds] = defaultdict(_Rounds)
    findings = Findings()
    share = 0.0
    for number in range(1 if plan.is_quick else plan.rounds):
        for contender in _CONTENDERS:
            sys.stderr.write(f"  round {number + 1}: {contender}\n")
            share = max(share, _run(contender, burst, seconds, results[contender], findings))
    for contender in _CONTENDERS:
        findings.figures += _figures(contender, burst, results[contender])
    findings.notes += [
        "row 9: the frame reader of slack_sdk's built-in client recurses; a long burst is lost",
        f"row 9: a bare commit to a file of SQLite took {_commit_seconds() * 1000:.1f} ms here",
        f"row 9: the load server took at most {share:.0%} of a core",
    ]
    return findings


def _run(contender: str, burst: int, seconds: float, rounds: _Rounds, findings: Findings) -> float:
    """Send one contender its events; return the load server's share of a core."""
    with World(latency=0.0) as world, contenders.start(contender, world, workers=1) as running:
        world.change(latency=_STUCK_SECONDS)
        # slack_sdk looks every 0.1 s whether there is a link to be read.
        world.wait_until_acked(world.ask(), _PATIENCE)
        before = world.usage()
        paced = world.ask(int(seconds * _PER_SECOND), per_second=_PER_SECOND)
        world.wait_until_acked(paced, _PATIENCE)
        rounds.add_paced(world.records(paced))
        asked = world.ask(burst)
        world.wait_until_acked(asked, _PATIENCE)
        rounds.add_burst(world.records(asked))
        share = world.usage().share_since(before)
        if contender == US:
            findings.flaws += _forgotten(world, [paced, asked], running.inbox)
    return share


def _forgotten(world: World, asked: Sequence[Asked], inbox: Path) -> list[str]:
    """Look for questions that were acked, and are not in the inbox."""
    with closing(sqlite3.connect(f"file:{inbox}?mode=ro", uri=True)) as connection:
        there = {ts for (ts,) in connection.execute("SELECT ts FROM questions")}
    acked = [record for one in asked for record in world.records(one) if record.acks]
    lost = [record for record in acked if record.ts not in there]
    return [f"{len(lost)} of {len(acked)} acked questions are not in the inbox"] if lost else []


def _waits(records: Sequence[Record]) -> list[float]:
    return [record.acked - record.written for record in records if record.acked is not None]


def _figures(contender: str, burst: int, rounds: _Rounds) -> list[Figure]:
    lines: list[tuple[str, str, list[float], float | None]] = [
        ("ack p50 at 50/s", "ms", rounds.p50, None),
        ("ack p99 at 50/s", "ms", rounds.p99, 15.0),
        (f"not acked in {_ACK_SECONDS:.0f} s, of a burst of {burst}", "", rounds.lost, 0.0),
        (f"last ack of a burst of {burst}", "s", rounds.seconds, _ACK_SECONDS),
        (f"acks in a burst of {burst}", "/s", rounds.rate, None),
    ]
    return [
        Figure(9, what, contender, unit, tuple(samples), bound if contender == US else None)
        for what, unit, samples, bound in lines
        if samples
    ]


def _commit_seconds() -> float:
    """Return how long a commit takes that writes one row; the median."""
    took = []
    with tempfile.TemporaryDirectory() as directory:
        connection = sqlite3.connect(Path(directory) / "bare.sqlite3", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE word (said TEXT)")
        for _ in range(_COMMITS):
            before = time.perf_counter()
            connection.execute("INSERT INTO word VALUES ('said')")
            took.append(time.perf_counter() - before)
        connection.close()
    return percentile(took, 0.5)
