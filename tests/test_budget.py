from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatrelaybot.budget import Method, RateBudget, WorkspaceBudget


def budget(*, per_minute: float = 60.0, burst: float = 5.0) -> RateBudget:
    return RateBudget(per_minute=per_minute, burst=burst, now=0.0)


def call(a_budget: RateBudget, now: float) -> None:
    """Make a call that takes no time."""
    a_budget.take(now)
    a_budget.returned(now)


def take_all(a_budget: RateBudget, now: float) -> int:
    count = 0
    while a_budget.wait(now) == 0.0:
        call(a_budget, now)
        count += 1
    return count


def test_a_burst_goes_at_once_and_then_one_call_a_second() -> None:
    a_budget = budget()

    assert take_all(a_budget, 0.0) == 5
    assert a_budget.wait(0.0) == pytest.approx(1.0)
    assert take_all(a_budget, 1.0) == 1


def test_rest_refills_the_burst_and_no_more() -> None:
    a_budget = budget()
    take_all(a_budget, 0.0)

    assert take_all(a_budget, 1000.0) == 5


def test_spare_calls_are_left_for_others() -> None:
    a_budget = budget()

    assert a_budget.wait(0.0, spare=4.0) == 0.0
    assert a_budget.saved(0.0, spare=4.0) == pytest.approx(1.0)
    call(a_budget, 0.0)
    assert a_budget.wait(0.0, spare=4.0) == pytest.approx(1.0)
    assert a_budget.wait(0.0) == 0.0


def test_more_spare_calls_than_the_bucket_holds_do_not_starve_it() -> None:
    a_budget = budget()

    assert a_budget.wait(0.0, spare=1000.0) == 0.0


def test_the_forecast_counts_what_is_there_and_what_will_come() -> None:
    assert budget().wait(0.0, calls=5.0) == 0.0
    assert budget().wait(0.0, calls=25.0) == pytest.approx(20.0)


def test_retry_after_is_obeyed_to_the_letter() -> None:
    a_budget = budget()

    a_budget.refused(10.0, retry_after=30.0)

    assert a_budget.wait(10.0) == pytest.approx(30.0)
    assert a_budget.wait(39.9) == pytest.approx(0.1)
    assert a_budget.wait(40.0) == 0.0


def test_a_later_shorter_retry_after_does_not_end_a_longer_one() -> None:
    a_budget = budget()

    a_budget.refused(0.0, retry_after=30.0)
    a_budget.refused(1.0, retry_after=1.0)

    assert a_budget.wait(2.0) == pytest.approx(28.0)


def test_a_refusal_lowers_the_rate_once_for_calls_that_were_under_way_together() -> None:
    a_budget = budget()

    a_budget.refused(0.0, retry_after=5.0)
    a_budget.refused(0.1, retry_after=5.0)

    assert a_budget.per_minute == pytest.approx(42.0)


def test_the_rate_never_falls_to_nothing() -> None:
    a_budget = budget()

    for now in range(0, 1000, 10):
        a_budget.refused(float(now), retry_after=9.0)

    assert a_budget.per_minute >= 6.0


def test_success_raises_the_rate_slowly_and_never_above_its_start() -> None:
    a_budget = budget()
    a_budget.refused(0.0, retry_after=1.0)
    low = a_budget.per_minute

    a_budget.wait(20.0)
    between = a_budget.per_minute
    a_budget.wait(500.0)

    assert low < between < 60.0
    assert a_budget.per_minute == pytest.approx(60.0)


@given(
    st.floats(1.0, 1000.0),
    st.floats(1.0, 100.0),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200),
)
def test_no_window_holds_more_calls_than_burst_and_rate_allow(
    per_minute: float, burst: float, pauses: list[float]
) -> None:
    a_budget = budget(per_minute=per_minute, burst=burst)
    now, calls = 0.0, []
    for pause in pauses:
        now += pause
        if a_budget.wait(now) == 0.0:
            call(a_budget, now)
            calls.append(now)

    for first, start in enumerate(calls):
        for last in range(first, len(calls)):
            allowed = burst + (calls[last] - start) * per_minute / 60.0
            assert last - first + 1 <= allowed + 1e-6


@given(
    st.floats(1.0, 100.0),
    st.floats(1.0, 30.0),
    st.lists(
        st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 3.0), st.floats(0.0, 1.0)),
        min_size=1,
        max_size=100,
    ),
)
def test_however_long_calls_are_under_way_a_bucket_at_the_other_end_is_never_empty(
    per_minute: float, burst: float, pauses: list[tuple[float, float, float]]
) -> None:
    """A call counts there when it arrives; here it is over when its answer has come back."""
    ours = budget(per_minute=per_minute, burst=burst)
    now = 0.0
    under_way: list[float] = []  # when a call will be over
    arrivals: list[float] = []
    for pause, seconds, share in pauses:
        now += pause
        for over_at in sorted(at for at in under_way if at <= now):
            ours.returned(over_at)
        under_way = [at for at in under_way if at > now]
        if ours.wait(now) == 0.0:
            ours.take(now)
            arrivals.append(now + seconds * share)
            under_way.append(now + seconds)

    tokens, filled_at = burst, 0.0
    for at in sorted(arrivals):
        tokens = min(burst, tokens + (at - filled_at) * per_minute / 60.0) - 1.0
        filled_at = at
        assert tokens >= -1e-6


def workspace_budget() -> WorkspaceBudget:
    return WorkspaceBudget(edits_per_minute=50.0, posts_per_minute=200.0, now=0.0)


def test_posting_waits_for_its_channel_but_not_for_another() -> None:
    a_budget = workspace_budget()

    a_budget.take(Method.POST, "C1", 0.0)

    assert a_budget.wait(Method.POST, "C1", 0.0) > 1.0
    assert a_budget.wait(Method.POST, "C2", 0.0) == 0.0
    assert a_budget.wait(Method.POST, "C1", 1.1) == 0.0


def test_posts_that_go_before_count_for_the_workspace_and_for_the_channel() -> None:
    a_budget = workspace_budget()

    assert a_budget.wait(Method.POST, "C1", 0.0, ahead=79) == 0.0
    assert a_budget.wait(Method.POST, "C1", 0.0, ahead=81) == pytest.approx(0.6)
    assert a_budget.wait(Method.POST, "C1", 0.0, ahead=3, ahead_in_channel=2) > 2.0
    a_budget.take(Method.POST, "C1", 0.0)
    assert a_budget.wait(Method.POST, "C1", 0.0, ahead=3, ahead_in_channel=2) > 3.0


def test_edits_do_not_wait_for_posts() -> None:
    a_budget = workspace_budget()
    a_budget.take(Method.POST, "C1", 0.0)
    a_budget.refused(Method.POST, 0.0, retry_after=30.0)

    assert a_budget.wait(Method.UPDATE, "C1", 0.0) == 0.0
    assert a_budget.wait(Method.POST, "C2", 0.0) == pytest.approx(30.0)


def test_channels_that_rest_are_forgotten() -> None:
    a_budget = workspace_budget()

    for number in range(1000):
        a_budget.take(Method.POST, f"C{number}", number * 2.0)

    assert len(a_budget._channels) <= 64
