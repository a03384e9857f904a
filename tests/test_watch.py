"""Verdicts from facts, and loops that move or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from chatrelaybot.daemon_loop import Loop
from chatrelaybot.daemon_watch import Facts, Stuck, Watch, is_well, live, ready, status

DEADLINE = 10.0
WELL = Facts(
    is_started=True,
    link_silence=4.9,
    is_database_reachable=True,
    running_count=3,
    waiting_count=0,
)

StartLoop = Callable[..., Loop]


def reasons(checks: object) -> list[str]:
    assert isinstance(checks, dict)
    return [f"{name}: {problem}" for name, problem in checks.items() if problem]


# --- verdicts --------------------------------------------------------------------------------


def test_a_bot_that_is_well_lives_and_is_ready() -> None:
    assert is_well(live(WELL))
    assert is_well(ready(WELL))
    assert status(WELL) == "link up, 3 answers running, 0 waiting"


@pytest.mark.parametrize(
    ("facts", "reason", "line"),
    [
        (Facts(), "started: starting", "starting"),
        (
            Facts(waits_for="slack not reachable: no address"),
            "started: slack not reachable: no address",
            "waiting: slack not reachable: no address",
        ),
        (
            replace(WELL, is_stopping=True, running_count=1),
            "stopping: stopping",
            "stopping, 1 answer running",
        ),
        (
            replace(WELL, link_silence=None),
            "link: no link to Slack yet",
            "no link to Slack yet, 3 answers running, 0 waiting",
        ),
        (
            replace(WELL, link_silence=None, link_trouble="link_disabled"),
            "link: no link to Slack: link_disabled",
            "no link to Slack: link_disabled, 3 answers running, 0 waiting",
        ),
        (
            replace(WELL, link_silence=9.4),
            "link: Slack not heard of for 9 s",
            "Slack not heard of for 9 s, 3 answers running, 0 waiting",
        ),
        (
            replace(WELL, is_database_reachable=False, waiting_count=None),
            "database: database not reachable",
            "database not reachable, 3 answers running",
        ),
        (
            replace(WELL, commit_seconds=4.0),
            "database: database has not answered for 4 s",
            "database has not answered for 4 s, 3 answers running, 0 waiting",
        ),
    ],
)
def test_what_is_away_makes_it_unready_and_never_dead(facts: Facts, reason: str, line: str) -> None:
    assert reason in reasons(ready(facts))
    assert is_well(live(facts))
    assert status(facts) == line


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(WELL, stuck=[Stuck("leaser", 71.3)]), "loops: leaser stuck for 71 s"),
        (replace(WELL, keeper_late=151.0), "keeper: link not replaced for 151 s"),
        (Facts(start_call_seconds=901.0), "start: stuck for 901 s"),
        (
            replace(WELL, commit_seconds=301.0, is_database_shared=True),
            "database: commit stuck for 301 s",
        ),
    ],
)
def test_what_is_stuck_does_not_live(facts: Facts, reason: str) -> None:
    assert reasons(live(facts)) == [reason]
    assert status(facts) == reason.partition(": ")[2]


def test_a_file_may_be_cleared_of_deleted_texts_for_as_long_as_that_takes() -> None:
    assert is_well(live(replace(WELL, commit_seconds=3000.0)))


def test_a_link_that_nobody_replaces_any_more_is_no_fault_while_stopping() -> None:
    assert is_well(live(replace(WELL, keeper_late=151.0, is_stopping=True)))


# --- loops -----------------------------------------------------------------------------------


@pytest.fixture(name="gate")
def _gate() -> threading.Event:
    """What a step waits for, as for a lock that nobody gives back."""
    return threading.Event()


@pytest.fixture(name="start_loop")
def _start_loop(gate: threading.Event) -> Iterator[StartLoop]:
    with ExitStack() as stack:
        stack.callback(gate.set)

        def start(name: str, step: Callable[[], object], **more: object) -> Loop:
            loop = Loop(name, step, failed=pytest.fail, **more)  # type: ignore[arg-type]
            loop.start()
            stack.callback(loop.stop)
            stack.callback(gate.set)
            return loop

        yield start


def hang(gate: threading.Event, is_in: threading.Event) -> None:
    is_in.set()
    gate.wait()


def test_a_step_that_rests_is_woken_and_not_late(start_loop: StartLoop) -> None:
    steps = threading.Semaphore(0)
    woken = threading.Event()

    def rest() -> None:
        steps.release()
        assert woken.wait(60.0)
        woken.clear()

    loop = start_loop("leaser", rest, wake=woken.set)
    assert steps.acquire(timeout=DEADLINE)
    watch = Watch([loop], every=10.0)

    watch.ping(1000.0, is_storing=True)
    watch.ping(1010.0, is_storing=True)
    watch.ping(1020.0, is_storing=True)

    assert steps.acquire(timeout=DEADLINE)
    assert watch.stuck(2000.0) == []


def test_a_loop_that_moves_by_itself_is_not_woken(start_loop: StartLoop) -> None:
    steps, go_on, wakes = (threading.Semaphore(0) for _ in range(3))

    def work() -> None:
        steps.release()
        assert go_on.acquire(timeout=DEADLINE)

    def wake() -> None:
        wakes.release()
        go_on.release()

    loop = start_loop("leaser", work, wake=wake)
    watch = Watch([loop], every=10.0)
    for now in range(1000, 1050, 10):
        assert steps.acquire(timeout=DEADLINE)
        watch.ping(float(now), is_storing=True)
        go_on.release()

    assert not wakes.acquire(blocking=False)


def test_a_step_that_hangs_is_late_from_the_second_ping_on(
    start_loop: StartLoop, gate: threading.Event
) -> None:
    is_in = threading.Event()
    watch = Watch([start_loop("leaser", lambda: hang(gate, is_in))], every=10.0)
    assert is_in.wait(DEADLINE)

    for now in (1000.0, 1010.0, 1020.0):
        watch.ping(now, is_storing=True)

    assert watch.stuck(1070.0) == []
    assert watch.stuck(1071.0) == [Stuck("leaser", 61.0)]
    where = watch.whereabouts("leaser")
    assert where.startswith("threading.py:")
    assert "test_watch.py" in where
    assert " hang < " in where


def test_a_loop_may_rest_between_two_steps(start_loop: StartLoop) -> None:
    stepped = threading.Event()
    watch = Watch([start_loop("heartbeat", stepped.set, every=60.0)], every=10.0)
    assert stepped.wait(DEADLINE)

    for now in (1000.0, 1010.0, 1020.0):
        watch.ping(now, is_storing=True)

    assert watch.stuck(5000.0) == []


def test_who_waits_for_the_database_may_wait_while_it_is_away_and_gets_its_time_anew(
    start_loop: StartLoop, gate: threading.Event
) -> None:
    is_in = threading.Event()
    watch = Watch([start_loop("leaser", lambda: hang(gate, is_in))], every=10.0)
    assert is_in.wait(DEADLINE)

    for now in range(1000, 2000, 10):
        watch.ping(float(now), is_storing=False)
        assert watch.stuck(float(now)) == []
    for now in range(2000, 2060, 10):
        watch.ping(float(now), is_storing=True)

    assert watch.stuck(2060.0) == []
    assert watch.stuck(2061.0) == [Stuck("leaser", 61.0)]


def test_a_database_that_is_away_is_no_excuse_for_a_loop_without_it(
    start_loop: StartLoop, gate: threading.Event
) -> None:
    is_in = threading.Event()
    watch = Watch([start_loop("editor", lambda: hang(gate, is_in))], every=10.0)
    assert is_in.wait(DEADLINE)

    for now in (1000.0, 1010.0, 1020.0, 1030.0):
        watch.ping(now, is_storing=False)

    assert watch.stuck(1041.0) == [Stuck("editor", 31.0)]


def test_a_process_that_was_frozen_is_not_blamed_for_it(
    start_loop: StartLoop, gate: threading.Event
) -> None:
    is_in = threading.Event()
    watch = Watch([start_loop("editor", lambda: hang(gate, is_in))], every=10.0)
    assert is_in.wait(DEADLINE)
    watch.ping(1000.0, is_storing=True)
    watch.ping(1010.0, is_storing=True)

    watch.ping(1500.0, is_storing=True)

    assert watch.stuck(1501.0) == []


def test_a_loop_that_is_told_to_stop_is_not_stuck(
    start_loop: StartLoop, gate: threading.Event
) -> None:
    is_in = threading.Event()
    loop = start_loop("editor", lambda: hang(gate, is_in))
    watch = Watch([loop], every=10.0)
    assert is_in.wait(DEADLINE)
    for now in (1000.0, 1010.0, 1020.0):
        watch.ping(now, is_storing=True)
    assert watch.stuck(1100.0)

    gate.set()
    loop.stop()

    assert watch.stuck(1100.0) == []
