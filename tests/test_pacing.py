"""What the budget allows, with real drafts and times that are arguments."""

from __future__ import annotations

import math

import pytest

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.delivery import Delivery, Lease
from chatrelaybot.draft import Call, Draft, SentPart
from chatrelaybot.events import Question
from chatrelaybot.pacing import Pacing
from chatrelaybot.render import message


class Crowd:
    """Replies under Slack's budget: 50 edits a minute, 20 at once; 200 posts, 80 at once."""

    def __init__(self) -> None:
        self.budget = WorkspaceBudget(edits_per_minute=50.0, posts_per_minute=200.0, now=0.0)
        self.pacing = Pacing(budget=self.budget, edit_seconds=1.0, overflow_seconds=5.0)
        self._count = 0

    def admit(self, channel: str | None = None, *, now: float = 0.0) -> Draft:
        """Take in a reply, in a channel of its own unless one is named, and show it if it may."""
        self._count += 1
        question = Question(
            event_id=f"Ev{self._count}",
            team_id="T1",
            channel=channel or f"C{self._count}",
            user_id="U1",
            text="why?",
            ts=f"1700000000.{self._count:06}",
            thread_ts=None,
        )
        delivery = Delivery(
            question=question,
            attempt=1,
            crash_count=0,
            lease=Lease("lease", math.inf),
            traceparent="",
            age=0.0,
        )
        draft = Draft(delivery=delivery, placeholder=message("…"), now=now, announce=lambda _: None)
        self.pacing.admit(draft)
        self.pacing.show_if_room(draft, now)
        self.pacing.reckon(draft)
        return draft

    def show(self, count: int) -> list[Draft]:
        """Put replies on show whose placeholder is posted."""
        drafts = [self.admit() for _ in range(count)]
        for draft in drafts:
            draft.parts.append(SentPart(ts="1700000001.000000", shown=message("…")))
        assert not any(draft.is_deferred for draft in drafts)
        return drafts

    def close(self, draft: Draft, text: str = "the end", *, now: float) -> Call:
        """Give a reply its last words, and return the call that shows them."""
        draft.append(text)
        draft.close()
        draft.notice(now)
        self.pacing.reckon(draft)
        call = draft.next_call()
        assert call is not None
        return call

    def spend(self, method: Method, count: int, *, now: float) -> None:
        for _ in range(count):
            self.budget.take(method, "C0", now)
            self.budget.returned(method, now)


@pytest.fixture(name="crowd")
def _crowd() -> Crowd:
    return Crowd()


class TestWhoIsPutOnShow:
    def test_as_many_as_edits_at_once_suffice_for(self, crowd: Crowd) -> None:
        drafts = [crowd.admit() for _ in range(21)]

        assert [draft.is_deferred for draft in drafts] == [False] * 20 + [True]

    def test_who_would_wait_longer_for_a_post_than_for_an_edit(self, crowd: Crowd) -> None:
        """In one channel the posts of a crowd come a second apart, its edits do not."""
        for _ in range(20):
            crowd.admit("C1")

        drafts = [crowd.admit("C1") for _ in range(3)]

        # 1.2 s for one more edit, against 0, 1.05 and 2.1 s for the post.
        assert [draft.is_deferred for draft in drafts] == [True, True, False]

    def test_who_comes_while_only_the_owed_edits_are_left(self, crowd: Crowd) -> None:
        """They will have come in again when it ends."""
        crowd.show(10)
        crowd.spend(Method.UPDATE, 10, now=0.0)

        assert not crowd.admit().is_deferred

    def test_nobody_while_slack_takes_no_edits_for_long(self, crowd: Crowd) -> None:
        crowd.budget.refused(Method.UPDATE, 0.0, retry_after=30.0)

        assert crowd.admit().is_deferred

    def test_everybody_while_slack_takes_no_edits_for_a_moment(self, crowd: Crowd) -> None:
        crowd.budget.refused(Method.UPDATE, 0.0, retry_after=2.0)

        assert not crowd.admit().is_deferred

    def test_a_reply_that_is_gone_makes_room(self, crowd: Crowd) -> None:
        shown, *_ = crowd.show(20)
        late = crowd.admit()
        assert late.is_deferred

        crowd.pacing.forget(shown)
        crowd.pacing.show_if_room(late, 0.0)

        assert not late.is_deferred


class TestEditsOfAnswersThatRun:
    def test_they_leave_one_for_each_reply_on_show(self, crowd: Crowd) -> None:
        first, *_ = crowd.show(5)
        crowd.spend(Method.UPDATE, 14, now=0.0)
        assert crowd.pacing.wait(first, Method.UPDATE, 0.0) == 0.0

        crowd.spend(Method.UPDATE, 1, now=0.0)

        assert crowd.pacing.wait(first, Method.UPDATE, 0.0) == pytest.approx(1.2)

    def test_first_texts_go_at_once_further_ones_are_spread(self, crowd: Crowd) -> None:
        first, second, *_ = crowd.show(5)
        first.timeline.first_text = 0.0
        crowd.pacing.take(first, Call(Method.UPDATE), 0.0)

        assert crowd.pacing.wait(second, Method.UPDATE, 0.0) == 0.0
        assert 0.1 < crowd.pacing.wait(first, Method.UPDATE, 0.0) < 1.0


class TestLastWords:
    def test_they_wait_for_an_edit_that_is_near(self, crowd: Crowd) -> None:
        (draft,) = crowd.show(1)
        crowd.spend(Method.UPDATE, 20, now=0.0)
        call = crowd.close(draft, now=1.0)

        wait, method = crowd.pacing.final_wait(draft, call, 1.0)

        assert method is Method.UPDATE
        assert wait == pytest.approx(0.2)

    def test_they_are_posted_where_that_brings_them_forward(self, crowd: Crowd) -> None:
        (draft,) = crowd.show(1)
        crowd.spend(Method.UPDATE, 20, now=0.0)
        call = crowd.close(draft, now=0.0)

        assert crowd.pacing.final_wait(draft, call, 0.0) == (0.0, Method.POST)

    def test_those_that_can_only_be_posted_go_first(self, crowd: Crowd) -> None:
        shown = crowd.show(20)
        for _ in range(4):
            crowd.admit()
        crowd.spend(Method.UPDATE, 20, now=0.0)
        crowd.spend(Method.POST, 80, now=0.0)
        call = crowd.close(shown[0], now=0.0)

        wait, method = crowd.pacing.final_wait(shown[0], call, 0.0)

        assert method is Method.UPDATE
        assert wait == pytest.approx(1.2)

    def test_nobody_goes_first_once_they_would_wait_too_long(self, crowd: Crowd) -> None:
        shown = crowd.show(20)
        for _ in range(40):
            crowd.admit()
        crowd.budget.refused(Method.UPDATE, 0.0, retry_after=30.0)
        call = crowd.close(shown[0], now=0.0)

        assert crowd.pacing.final_wait(shown[0], call, 0.0) == (0.0, Method.POST)

    def test_each_waits_for_the_edits_of_those_before(self, crowd: Crowd) -> None:
        drafts = crowd.show(3)
        crowd.spend(Method.UPDATE, 20, now=0.0)
        crowd.spend(Method.POST, 80, now=0.0)
        crowd.budget.refused(Method.POST, 0.0, retry_after=60.0)
        calls = [crowd.close(draft, now=0.0) for draft in drafts]

        crowd.pacing.begin_step()
        waits = [
            crowd.pacing.final_wait(draft, call, 0.0)[0]
            for draft, call in zip(drafts, calls, strict=True)
        ]

        assert waits == [pytest.approx(1.2), pytest.approx(2.4), pytest.approx(3.6)]

    def test_only_the_last_message_of_a_reply_can_be_posted_anew(self, crowd: Crowd) -> None:
        (draft,) = crowd.show(1)
        draft.parts.append(SentPart(ts="1700000002.000000"))
        crowd.spend(Method.UPDATE, 20, now=0.0)
        call = crowd.close(draft, "word " * 4000, now=0.0)
        assert call.part == 0

        _, method = crowd.pacing.final_wait(draft, call, 0.0)

        assert method is Method.UPDATE
