"""Chains side by side: most of their time is waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.killing.cases import Lines, first_runs, further_runs
from tests.killing.chain import Chain
from tests.killing.kinds import KINDS, Kind
from tests.killing.launcher import Launcher
from tests.killing.verdict import Case, Played


def all_cases(launcher: Launcher, directory: Path) -> Mapping[str, list[Case]]:
    """Answer a question of each kind; return the cases that its lines make, by kind."""

    def count(kind: Kind) -> Lines:
        with Chain(launcher, kind, directory / f"{kind.name}-counted") as chain:
            return chain.count_lines()

    with ThreadPoolExecutor(len(KINDS), thread_name_prefix="chain") as pool:
        counted = list(pool.map(count, KINDS))
    cases: dict[str, list[Case]] = {}
    known: dict[tuple[str, int], int] = {}
    for kind, lines in zip(KINDS, counted, strict=True):
        own = further_runs(kind.name, lines, known) if known else first_runs(kind.name, lines)
        cases[kind.name] = own
        known |= lines
    return cases


def play(
    launcher: Launcher,
    kind: Kind,
    cases: Sequence[Case],
    directory: Path,
    *,
    chain_count: int,
    urls: Sequence[str] = (),
) -> list[Played]:
    """Play all cases of one kind; each chain has one of the `urls`, if there are any.

    A line that is not reached, since threads do not always run alike, gets a second chance.
    """

    def run(number: int, part: Sequence[Case], attempt: str) -> list[Played]:
        url = urls[number] if urls else ""
        with Chain(launcher, kind, directory / f"{kind.name}-{attempt}-{number}", url) as chain:
            return chain.play(part)

    def play_all(cases: Sequence[Case], attempt: str) -> list[Played]:
        parts = [cases[start::chain_count] for start in range(min(chain_count, len(cases)))]
        with ThreadPoolExecutor(chain_count, thread_name_prefix="chain") as pool:
            chains = pool.map(run, range(len(parts)), parts, [attempt] * len(parts))
            return [played for chain in chains for played in chain]

    played = play_all(cases, "first")
    spared = [one.case for one in played if not one.was_killed and not one.fault]
    return [*(one for one in played if one.case not in spared), *play_all(spared, "second")]
