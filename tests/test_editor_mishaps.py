"""What the editor makes of calls that fail, and of moments that fall together badly."""

from __future__ import annotations

from typing import Any

import pytest

from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.editor import Editor
from chatrelaybot.playground.access import BOT_SCOPES
from tests.desk import PLACEHOLDER, Desk, calls, settled

#: Lets one reply be on show; what comes beside it is deferred.
CROWDED: dict[str, Any] = {"edits_per_minute": 1, "overflow_seconds": 0.0}
UNCLEAR: list[dict[str, Any]] = [{"cut": "before"}, {"cut": "after"}]


def shown_and_deferred(desk: Desk, editor: Editor) -> tuple[Draft, Draft]:
    """Open a reply that is shown, and one that the crowd keeps back."""
    shown = editor.open(desk.lease())
    desk.wait_until_shown(shown, PLACEHOLDER)
    return shown, editor.open(desk.lease(channel=desk.workspace.add_channel("late")))


def leave(*drafts: Draft) -> None:
    for draft in drafts:
        draft.leave()
        assert settled(draft) is Outcome.LEFT


def test_text_that_came_before_a_post_was_looked_up_shows_after_it(desk: Desk) -> None:
    desk.workspace.faults.add("chat.postMessage", cut="after")
    draft = desk.start().open(desk.lease())
    desk.workspace.wait_for(lambda: calls(desk.workspace, "chat.postMessage"))
    draft.append("early")

    desk.wait_until_shown(draft, "early")
    assert calls(desk.workspace, "conversations.replies")
    leave(draft)


def test_text_whose_blocks_are_refused_shows_though_nothing_follows_it(desk: Desk) -> None:
    desk.workspace.faults.add("chat.update", error="invalid_blocks")
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    draft.append("text")

    desk.wait_until_shown(draft, "text")
    leave(draft)


def test_where_nothing_can_be_looked_up_a_lost_post_is_made_again(desk: Desk) -> None:
    desk.workspace.set_scopes(BOT_SCOPES - {"channels:history"})
    desk.workspace.faults.add("chat.postMessage", cut="before")
    draft = desk.start().open(desk.lease())
    draft.append("answer")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["answer"]


def test_a_reply_that_is_complete_when_it_is_left_counts_as_delivered(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    fault = desk.workspace.faults.add("chat.update", hold="after")
    draft.append("all of it")
    draft.close()
    desk.wait_until_shown(draft, "all of it")
    draft.leave()
    fault.release()

    assert settled(draft) is Outcome.DELIVERED


class TestReactions:
    @pytest.mark.parametrize(
        "fault", [*UNCLEAR, {"status": 500}, {"error": "service_unavailable"}, {"retry_after": 1}]
    )
    def test_none_is_left_though_taking_it_away_failed(
        self, desk: Desk, fault: dict[str, Any]
    ) -> None:
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: desk.reactions(deferred) == ["hourglass"])
        desk.workspace.faults.add("reactions.remove", **fault)
        deferred.append("answer")
        deferred.close()

        assert settled(deferred) is Outcome.DELIVERED
        assert desk.shown(deferred) == ["answer"]
        assert desk.reactions(deferred) == []
        leave(shown)

    @pytest.mark.parametrize("fault", [*UNCLEAR, {"error": "fatal_error", "has_effect": True}])
    def test_none_is_left_though_nobody_knew_whether_it_was_set(
        self, desk: Desk, fault: dict[str, Any]
    ) -> None:
        desk.workspace.faults.add("reactions.add", **fault)
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: calls(desk.workspace, "reactions.add"))
        deferred.append("answer")
        deferred.close()

        assert settled(deferred) is Outcome.DELIVERED
        assert desk.reactions(deferred) == []
        leave(shown)

    def test_one_that_cannot_be_taken_away_before_a_stop_is_left_to_the_next_start(
        self, desk: Desk
    ) -> None:
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: desk.reactions(deferred) == ["hourglass"])
        away = desk.workspace.faults.add("reactions.remove", status=503, times=None)
        deferred.append("answer")
        deferred.close()
        desk.workspace.wait_for(lambda: away.count)
        deferred.leave()
        assert settled(deferred) is Outcome.DELIVERED
        assert desk.reactions(deferred) == ["hourglass"]
        desk.inbox.finish(deferred.delivery, outcome="delivered")
        desk.strays.tell()
        desk.workspace.faults.clear()

        desk.strays.step()

        assert desk.reactions(deferred) == []
        assert desk.fleet.strays() == []
        leave(shown)

    def test_none_is_left_where_a_call_that_was_lost_is_refused_when_it_is_sent_again(
        self, desk: Desk
    ) -> None:
        desk.workspace.faults.add("reactions.add", cut="after")
        desk.workspace.faults.add("reactions.add", retry_after=60)
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: len(calls(desk.workspace, "reactions.add")) == 2)
        assert desk.reactions(deferred) == ["hourglass"]
        deferred.append("answer")
        deferred.close()

        assert settled(deferred) is Outcome.DELIVERED
        assert desk.reactions(deferred) == []
        leave(shown)

    @pytest.mark.parametrize("method", ["reactions.add", "reactions.remove"])
    def test_one_that_is_not_allowed_holds_nothing_up(self, desk: Desk, method: str) -> None:
        desk.workspace.faults.add(method, error="missing_scope", times=None)
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: calls(desk.workspace, "reactions.add"))
        deferred.append("answer")
        deferred.close()

        assert settled(deferred) is Outcome.DELIVERED
        assert len(calls(desk.workspace, "reactions.add")) == 1
        leave(shown)

    def test_it_goes_when_the_crowd_is_over_and_the_reply_is_put_on_show(self, desk: Desk) -> None:
        shown, deferred = shown_and_deferred(desk, desk.start(**CROWDED))
        desk.workspace.wait_for(lambda: desk.reactions(deferred) == ["hourglass"])
        leave(shown)
        deferred.append("some text")

        desk.wait_until_shown(deferred, "some text")
        desk.workspace.wait_for(lambda: not desk.reactions(deferred))
        leave(deferred)

    def test_a_refused_one_does_not_keep_a_reply_back_when_the_crowd_is_over(
        self, desk: Desk
    ) -> None:
        # 25 a minute, 10 at once: a token comes every 2.4 seconds.
        desk.workspace.faults.add("reactions.add", retry_after=60)
        editor = desk.start(edits_per_minute=25)
        channels = [desk.workspace.add_channel(f"c{number}") for number in range(10)]
        first, *others = [editor.open(desk.lease(channel=channel)) for channel in channels]
        for draft in (first, *others):
            desk.wait_until_shown(draft, PLACEHOLDER)
        deferred = editor.open(desk.lease(channel=desk.workspace.add_channel("late")))
        desk.workspace.wait_for(lambda: calls(desk.workspace, "reactions.add"))
        deferred.append("answer")
        first.append("done")
        first.close()
        assert settled(first) is Outcome.DELIVERED

        desk.wait_until_shown(deferred, "answer")
        leave(deferred, *others)

    def test_without_the_setting_a_later_try_takes_none_away(self, desk: Desk) -> None:
        editor = desk.start(has_reaction=False, **CROWDED)
        shown, deferred = shown_and_deferred(desk, editor)
        leave(deferred)
        later = editor.open(desk.lease_again(deferred.delivery))
        later.append("answer")
        later.close()

        assert settled(later) is Outcome.DELIVERED
        assert not calls(desk.workspace, "reactions.remove")
        leave(shown)

    def test_one_of_an_earlier_try_is_taken_away(self, desk: Desk) -> None:
        editor = desk.start(**CROWDED)
        shown, deferred = shown_and_deferred(desk, editor)
        desk.workspace.wait_for(lambda: desk.reactions(deferred) == ["hourglass"])
        leave(deferred)
        later = editor.open(desk.lease_again(deferred.delivery))
        later.append("answer")
        later.close()

        assert settled(later) is Outcome.DELIVERED
        assert desk.reactions(later) == []
        leave(shown)


class TestOverflow:
    @pytest.mark.parametrize(
        "fault",
        [
            *UNCLEAR,
            {"status": 503},
            {"error": "service_unavailable"},
            {"retry_after": 1},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("method", ["chat.postMessage", "chat.delete"])
    def test_whatever_fails_one_reply_stays(
        self, desk: Desk, method: str, fault: dict[str, Any]
    ) -> None:
        draft = self._draft_without_edits(desk)
        desk.workspace.faults.add(method, **fault)
        draft.append("answer")
        draft.close()

        assert settled(draft) is Outcome.DELIVERED
        assert desk.shown(draft) == ["the answer"]
        assert len(calls(desk.workspace, "chat.update")) == 1
        assert [part.stale_ts for part in desk.lease_again(draft.delivery).parts] == [None]

    def test_a_placeholder_that_must_not_be_deleted_does_not_undo_the_delivery(
        self, desk: Desk
    ) -> None:
        draft = self._draft_without_edits(desk)
        desk.workspace.faults.add("chat.delete", error="compliance_exports_prevent_deletion")
        draft.append("answer")
        draft.close()

        assert settled(draft) is Outcome.DELIVERED
        assert desk.shown(draft) == ["the", "the answer"]

    def test_an_answer_of_several_parts_is_posted_in_order(self, desk: Desk) -> None:
        draft = self._draft_without_edits(desk)
        words = " ".join(str(number) for number in range(4000))
        draft.append(words)
        draft.close()

        assert settled(draft) is Outcome.DELIVERED
        assert " ".join(desk.shown(draft)) == f"the {words}"

    def _draft_without_edits(self, desk: Desk) -> Draft:
        """Return a reply on show whose next edit the budget allows in a minute only."""
        draft = desk.start(edits_per_minute=1, overflow_seconds=0.0).open(desk.lease())
        desk.wait_until_shown(draft, PLACEHOLDER)
        draft.append("the ")
        desk.wait_until_shown(draft, "the")
        return draft
