"""Processes killed just before any line of the path of a question: one complete reply comes of it.

KILL_LINES=all kills at every line, which takes some minutes; else it is every tenth of them,
others for each KILL_SEED in a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.chaos.places import BlindWorkspace
from tests.killing.cases import first_runs, further_runs, spread
from tests.killing.chain import Chain
from tests.killing.crowd import all_cases, play
from tests.killing.kinds import FOUND, KINDS, SHORT, Kind
from tests.killing.launcher import Launcher
from tests.killing.tracing import FailPoint
from tests.killing.verdict import Case, Played
from tests.postgres import PostgresServer

_SEED = int(os.environ.get("KILL_SEED", "1"))
_SHARE = 1 if os.environ.get("KILL_LINES") == "all" else 10
_CHAINS = 24
#: With a lease to wait for, which the tests let pass at once.
_SHARED_CHAINS = 4
_SHARED_CASES = 12
_SHARED_FILES = ("conclusion.py", "inbox.py", "relay.py", "sender.py")
#: So many cases must have been what they are meant to be: threads do not always run alike.
_KILLED_SHARE = 0.8


@pytest.fixture(name="launcher", scope="module")
def _launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with Launcher(tmp_path_factory.mktemp("runs")) as launcher:
        yield launcher


@pytest.fixture(name="cases", scope="module")
def _cases(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Sequence[Case]]:
    return all_cases(launcher, tmp_path_factory.mktemp("counted"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_process_killed_at_a_line_leaves_one_complete_reply(
    launcher: Launcher, cases: Mapping[str, Sequence[Case]], kind: Kind, tmp_path: Path
) -> None:
    chosen = spread(cases[kind.name], share=_SHARE, seed=_SEED)

    played = play(launcher, kind, chosen, tmp_path, chain_count=_CHAINS)

    check(played, f"{len(chosen)} of {len(cases[kind.name])} lines, seed {_SEED}")


def test_so_it_is_with_a_lease_that_others_must_wait_for(
    launcher: Launcher, postgres: PostgresServer, tmp_path: Path
) -> None:
    with Chain(launcher, SHORT, tmp_path / "counted", postgres.create_database()) as chain:
        lines = chain.count_lines()
    own = [case for case in first_runs(SHORT.name, lines) if case.point.file in _SHARED_FILES]
    chosen = spread(own, share=len(own) // _SHARED_CASES, seed=_SEED)
    urls = [postgres.create_database() for _ in range(_SHARED_CHAINS)]

    played = play(launcher, SHORT, chosen, tmp_path, chain_count=_SHARED_CHAINS, urls=urls)

    check(played, f"{len(chosen)} of {len(own)} lines, seed {_SEED}")


def test_a_reply_that_is_there_twice_is_seen(launcher: Launcher, tmp_path: Path) -> None:
    """Where the bot does not find what it has posted, it posts it again."""
    assert FOUND.opening is not None
    case = Case(SHORT.name, FOUND.opening.point)

    with Chain(launcher, SHORT, tmp_path, make_workspace=BlindWorkspace) as chain:
        (played,) = chain.play([case])

    assert played.was_killed
    assert "the parts are [0, 0]" in played.fault
    assert str(case) in played.fault


def test_a_line_that_is_not_run_is_told(launcher: Launcher, tmp_path: Path) -> None:
    never = Case(SHORT.name, FailPoint("sender.py", 1))

    played = play(launcher, SHORT, [never], tmp_path, chain_count=1)

    assert played == [Played(never, was_killed=False)]
    with pytest.raises(AssertionError, match="not killed"):
        check(played, "one line")


def test_all_seeds_together_choose_every_line_once() -> None:
    lines = {("draft.py", number): 1 for number in range(100)}
    cases = first_runs("short", lines)

    chosen = [case for seed in range(7, 10) for case in spread(cases, share=3, seed=seed)]

    assert sorted(case.point for case in chosen) == [case.point for case in cases]


def test_a_known_line_is_a_case_again_where_its_work_depends_on_the_kind() -> None:
    known = {("draft.py", 1): 1, ("inbox.py", 1): 1}
    lines = {("draft.py", 1): 4, ("inbox.py", 1): 4, ("inbox.py", 2): 4}

    points = [case.point for case in further_runs("long", lines, known)]

    assert points == [FailPoint("draft.py", 1, hit=3), FailPoint("inbox.py", 2)]


def check(played: Sequence[Played], what: str) -> None:
    """Print which cases were none; fail where a reply is wrong, or too many were none."""
    spared = [str(one.case) for one in played if not one.was_killed]
    print(f"{what}; {len(spared)} not reached:", *spared, sep="\n  ")  # noqa: T201 - the report
    faults = [one.fault for one in played if one.fault]
    assert not faults, "\n\n".join([f"{len(faults)} wrong", *faults])
    assert len(spared) <= len(played) * (1.0 - _KILLED_SHARE), "\n".join(["not killed:", *spared])
