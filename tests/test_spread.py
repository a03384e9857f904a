from __future__ import annotations

import pytest

from chatrelaybot.spread import Spread

#: Slack's 50 edits a minute.
RATE = 50.0 / 60.0


def edits_within(seconds: float, *, answers: float, saved: float, spread: Spread) -> list[float]:
    """Edit as soon as allowed; return when."""
    now = 0.0
    times: list[float] = []
    while True:
        now += spread.wait(now, rate=RATE, saved=saved + now * RATE - len(times), wanted=answers)
        if now > seconds:
            return times
        spread.took(now)
        times.append(now)


def test_what_suffices_for_all_is_not_paced() -> None:
    spread = Spread()
    spread.took(0.0)

    assert spread.wait(0.0, rate=RATE, saved=19.0, wanted=1.0) == 0.0


def test_the_first_edit_does_not_wait() -> None:
    assert Spread().wait(0.0, rate=RATE, saved=0.0, wanted=100.0) == 0.0


def test_what_is_saved_lasts_until_the_answers_will_have_ended() -> None:
    """Five answers of ten seconds: 15 saved edits and the 8 that come in go evenly."""
    times = edits_within(10.0, answers=5.0, saved=15.0, spread=Spread())

    early = sum(at <= 5.0 for at in times)
    assert 15 <= len(times) <= 23
    assert early <= 0.7 * len(times)


def test_it_never_falls_behind_what_comes_in() -> None:
    spread = Spread()
    spread.took(0.0)

    assert spread.wait(0.0, rate=RATE, saved=-5.0, wanted=100.0) == pytest.approx(1.0 / RATE)


def test_longer_answers_teach_it_to_spend_more_slowly() -> None:
    spread = Spread()
    before = edits_within(5.0, answers=5.0, saved=15.0, spread=spread)
    for _ in range(20):
        spread.ended(60.0)

    after = edits_within(5.0, answers=5.0, saved=15.0, spread=spread)
    assert len(after) < 0.7 * len(before)


def test_answers_in_one_piece_do_not_stop_it() -> None:
    spread = Spread()
    for _ in range(100):
        spread.ended(0.0)

    assert spread.seconds_to_come == 1.0
