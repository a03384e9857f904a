"""Slack's rate limits. Time is an argument, so nothing here waits."""

from __future__ import annotations

import itertools

from chatrelaybot.playground.limits import Limits, Rate, RateGate

EDIT, POST = "chat.update", "chat.postMessage"


def test_edits_come_in_a_burst_and_then_fifty_a_minute() -> None:
    gate = RateGate(Limits())

    admitted = [gate.admit(EDIT, None, now=0.0) is None for _ in range(21)]

    assert admitted == [True] * 20 + [False]


def test_after_a_burst_fifty_edits_a_minute_are_admitted() -> None:
    gate = RateGate(Limits())
    for _ in range(20):
        gate.admit(EDIT, None, now=0.0)

    refused = [gate.admit(EDIT, None, now=n * 1.2 + 0.01) for n in range(1, 51)]

    assert refused == [None] * 50


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    gate = RateGate(Limits.none().having(EDIT, Rate(per_minute=40, burst=1)))
    gate.admit(EDIT, None, now=0.0)

    assert gate.admit(EDIT, None, now=0.1) == 2  # a token comes every 1.5 s


def test_a_window_stays_shut_although_a_token_has_come() -> None:
    gate = RateGate(Limits.none().having(EDIT, Rate(per_minute=40, burst=1)))
    gate.admit(EDIT, None, now=0.0)
    gate.admit(EDIT, None, now=0.1)  # Retry-After: 2

    assert gate.window(EDIT, None, now=1.9) == 1
    assert gate.window(EDIT, None, now=2.1) is None
    assert gate.admit(EDIT, None, now=2.1) is None


def test_methods_have_budgets_of_their_own() -> None:
    gate = RateGate(Limits())
    while gate.admit(EDIT, None, now=0.0) is None:
        pass

    assert gate.window(EDIT, None, now=0.0) is not None
    assert gate.window("chat.delete", None, now=0.0) is None
    assert gate.admit("chat.delete", None, now=0.0) is None


def test_a_channel_takes_one_post_a_second_and_others_are_not_concerned() -> None:
    gate = RateGate(Limits())

    assert gate.admit(POST, "C1", now=0.0) is None
    assert gate.admit(POST, "C1", now=0.1) == 1
    assert gate.window(POST, "C2", now=0.1) is None
    assert gate.admit(POST, "C2", now=0.1) is None


def test_posts_one_second_apart_are_never_refused_for_coming_unevenly() -> None:
    gate = RateGate(Limits())
    delays = itertools.cycle((0.0, 0.45, 0.0, 0.2, 0.4, 0.0))

    arrivals = [n + delay for n, delay in zip(range(300), delays, strict=False)]
    refused = [gate.admit(POST, "C1", now=arrival) for arrival in arrivals]

    assert refused == [None] * 300


def test_a_workspace_takes_so_many_posts_in_whatever_channels() -> None:
    gate = RateGate(Limits())

    admitted = [gate.admit(POST, f"C{n}", now=0.0) is None for n in range(81)]

    assert admitted == [True] * 80 + [False]


def test_a_post_that_is_refused_costs_the_workspace_nothing() -> None:
    limits = Limits().having(POST, Rate(per_minute=60, burst=2))
    gate = RateGate(limits)
    gate.admit(POST, "C1", now=0.0)
    gate.admit(POST, "C1", now=0.0)  # refused for the channel's sake

    assert gate.admit(POST, "C2", now=0.0) is None


def test_no_limits_refuse_nothing() -> None:
    gate = RateGate(Limits.none())

    assert {gate.admit(POST, "C1", now=0.0) for _ in range(1000)} == {None}


def test_limits_may_change_at_run_time() -> None:
    gate = RateGate(Limits.none().having(EDIT, Rate(per_minute=1, burst=1)))
    gate.admit(EDIT, None, now=0.0)
    gate.admit(EDIT, None, now=0.0)

    gate.change(Limits.none())

    assert gate.window(EDIT, None, now=0.0) is None
    assert gate.admit(EDIT, None, now=0.0) is None
