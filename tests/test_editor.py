"""The editor's pacing, over the real Web API door, inbox and workspace."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from chatrelaybot.draft import Outcome
from tests.desk import PLACEHOLDER, Desk, calls, settled


def test_a_reply_goes_from_placeholder_over_text_to_the_final_text(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)

    draft.append("Hello ")
    desk.wait_until_shown(draft, "Hello")
    draft.append("**world**")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["Hello **world**"]
    assert [part.ts for part in draft.parts] == [desk.reply(draft)[0].ts]


def test_text_that_is_there_before_the_placeholder_takes_its_place(desk: Desk) -> None:
    editor = desk.start()
    desk.workspace.faults.add("chat.postMessage", delay=0.2)
    first = editor.open(desk.lease())
    first.append("At once")
    first.close()

    assert settled(first) is Outcome.DELIVERED
    assert desk.shown(first) == ["At once"]


def test_text_shows_although_nothing_follows_it(desk: Desk) -> None:
    draft = desk.start(edit_seconds=0.3).open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)

    draft.append("one ")
    desk.wait_until_shown(draft, "one")
    draft.append("two")

    desk.wait_until_shown(draft, "one two")
    draft.leave()
    assert settled(draft) is Outcome.LEFT


def test_unchanged_text_is_not_sent_again(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    draft.append("same")
    desk.wait_until_shown(draft, "same")

    draft.append("")
    draft.append("  ")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert [version.shown for version in desk.reply(draft)[0].versions].count("same") == 1


def test_edits_of_one_reply_keep_their_distance(desk: Desk) -> None:
    draft = desk.start(edit_seconds=0.2).open(desk.lease())
    for number in range(40):
        draft.append(f"{number} ")
        time.sleep(0.02)
    edits = [call.at for call in calls(desk.workspace, "chat.update")]
    draft.close()
    assert settled(draft) is Outcome.DELIVERED

    assert len(edits) >= 3
    gaps = [later - earlier for earlier, later in itertools.pairwise(edits)]
    # As they arrive: on a busy machine one may travel for some milliseconds more than the next.
    assert min(gaps) > 0.15, gaps


def test_a_final_does_not_wait_for_the_distance(desk: Desk) -> None:
    draft = desk.start(edit_seconds=30.0).open(desk.lease())
    draft.append("some ")
    desk.wait_until_shown(draft, "some")

    draft.append("more")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["some more"]


def test_one_reply_never_has_two_calls_under_way(desk: Desk) -> None:
    desk.workspace.faults.add("chat.update", answer_delay=0.03, times=None)
    draft = desk.start(edit_seconds=0.001).open(desk.lease())
    for number in range(100):
        draft.append(f"{number} ")
        time.sleep(0.003)
    draft.close()
    assert settled(draft) is Outcome.DELIVERED

    made = [call for call in desk.workspace.calls if call.method.startswith("chat.")]
    assert len(made) > 4
    for earlier, later in itertools.pairwise(made):
        assert earlier.done_at is not None
        assert earlier.done_at <= later.at


def test_a_note_stands_after_the_text(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    draft.append("```\ncode")
    draft.close(note="cut off")

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["```\ncode\n```\n\n_cut off_"]


def test_a_long_answer_goes_on_in_further_messages(desk: Desk) -> None:
    words = " ".join(str(number) for number in range(6000))
    draft = desk.start().open(desk.lease())
    for start in range(0, len(words), 500):
        draft.append(words[start : start + 500])
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert len(desk.shown(draft)) == 3
    assert " ".join(desk.shown(draft)) == words


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "times": 3},
        {"error": "internal_error"},
        {"error": "fatal_error", "has_effect": True},
        {"error": "service_unavailable"},
        {"cut": "before"},
        {"cut": "after"},
        {"retry_after": 1},
        {"delay": 0.3},
        {"answer_delay": 0.3},
    ],
    ids=str,
)
def test_no_fault_of_slack_doubles_or_loses_a_reply(
    desk: Desk, method: str, fault: dict[str, Any]
) -> None:
    desk.workspace.faults.add(method, **fault)
    draft = desk.start().open(desk.lease())
    draft.append("whole ")
    draft.append("answer")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["whole answer"]


def test_a_failed_intermediate_edit_is_not_repeated_but_its_text_comes_with_the_next(
    desk: Desk,
) -> None:
    draft = desk.start(edit_seconds=0.2).open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    desk.workspace.faults.add("chat.update", status=500)
    draft.append("one ")
    desk.workspace.wait_for(lambda: len(calls(desk.workspace, "chat.update")) == 1)
    draft.append("two")

    desk.wait_until_shown(draft, "one two")
    assert len(calls(desk.workspace, "chat.update")) == 2
    draft.leave()
    settled(draft)


def test_no_call_falls_into_a_retry_after(desk: Desk) -> None:
    desk.workspace.faults.add("chat.update", retry_after=1)
    editor = desk.start()
    drafts = [editor.open(desk.lease()) for _ in range(5)]
    for draft in drafts:
        desk.wait_until_shown(draft, PLACEHOLDER)
    for draft in drafts:
        draft.append("done")
        draft.close()
    assert {settled(draft) for draft in drafts} == {Outcome.DELIVERED}

    assert [call for call in calls(desk.workspace, "chat.update") if call.retry_after]
    assert not desk.workspace.heedless_calls()


@pytest.mark.parametrize("happens", ["deleted", "archived", "kicked"])
def test_a_reply_that_is_gone_is_given_up_after_one_look(desk: Desk, happens: str) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    ts = desk.reply(draft)[0].ts
    {
        "deleted": lambda: desk.workspace.delete(desk.channel, ts),
        "archived": lambda: desk.workspace.archive(desk.channel),
        "kicked": lambda: desk.workspace.kick_bot(desk.channel),
    }[happens]()

    draft.append("too late")
    draft.close()

    assert settled(draft) is Outcome.UNDELIVERABLE
    assert len(calls(desk.workspace, "chat.update")) == 1


def test_a_revoked_token_ends_the_editor(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    desk.workspace.revoke_token()

    draft.append("text")
    draft.close()

    assert settled(draft) is Outcome.LEFT
    assert "SLACK_BOT_TOKEN" in str(desk.failures)


def test_blocks_that_slack_refuses_are_sent_plain(desk: Desk) -> None:
    desk.workspace.faults.add("chat.update", error="invalid_blocks")
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)

    draft.append("# Head\n\ntext")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert desk.shown(draft) == ["# Head\n\ntext"]
    assert desk.reply(draft)[0].blocks[0]["type"] == "section"


def test_in_a_crowd_new_questions_get_a_reaction_and_their_answer_whole(desk: Desk) -> None:
    # 10 a minute, 4 at once: the fifth reply would wait 6 seconds for its last edit.
    editor = desk.start(edits_per_minute=10, overflow_seconds=5.0)
    shown = [editor.open(desk.lease(channel=desk.workspace.add_channel(f"c{n}"))) for n in range(4)]
    for draft in shown:
        desk.wait_until_shown(draft, PLACEHOLDER)
    late = editor.open(desk.lease(channel=desk.workspace.add_channel("late")))
    question = late.delivery.question
    desk.workspace.wait_for(
        lambda: "hourglass" in desk.workspace.message(question.channel, question.ts).reactions
    )
    late.append("the answer")
    assert desk.shown(late) == []
    late.close()

    assert settled(late) is Outcome.DELIVERED
    assert desk.shown(late) == ["the answer"]
    assert len(desk.reply(late)[0].versions) == 1
    assert not desk.workspace.message(question.channel, question.ts).reactions
    for draft in shown:
        draft.leave()
        settled(draft)


def test_a_final_that_would_wait_too_long_is_posted_and_its_placeholder_deleted(
    desk: Desk,
) -> None:
    editor = desk.start(edits_per_minute=10, overflow_seconds=5.0)
    drafts = [
        editor.open(desk.lease(channel=desk.workspace.add_channel(f"c{n}"))) for n in range(3)
    ]
    for draft in drafts:
        desk.wait_until_shown(draft, PLACEHOLDER)
    # Somebody else uses up the workspace's edits.
    desk.workspace.faults.add("chat.update", retry_after=30, times=1)
    first, *rest = drafts
    first.append("first")
    first.close()
    desk.wait_until_shown(first, "first")
    for draft in rest:
        draft.append("final")
        draft.close()

    assert {settled(draft) for draft in drafts} == {Outcome.DELIVERED}
    assert desk.shown(first) == ["first"]
    assert [desk.shown(draft) for draft in rest] == [["final"]] * 2
    assert all(len(desk.reply(draft)[0].versions) == 1 for draft in drafts)
    assert len(calls(desk.workspace, "chat.update")) == 1


def test_running_answers_leave_edits_for_the_finals(desk: Desk) -> None:
    editor = desk.start(edits_per_minute=17.5)  # six at once
    channels = [desk.workspace.add_channel(f"c{number}") for number in range(5)]
    drafts = [editor.open(desk.lease(channel=channel)) for channel in channels]
    for draft in drafts:
        desk.wait_until_shown(draft, PLACEHOLDER)
    for number in range(30):
        for draft in drafts:
            draft.append(f"{number} ")
        time.sleep(0.01)
    asked = time.monotonic()
    for draft in drafts:
        draft.close()

    assert {settled(draft) for draft in drafts} == {Outcome.DELIVERED}
    assert time.monotonic() - asked < 3.0
    assert len(calls(desk.workspace, "chat.postMessage")) == 5


def test_leaving_waits_for_the_call_that_is_under_way(desk: Desk) -> None:
    fault = desk.workspace.faults.add("chat.postMessage", hold="after")
    draft = desk.start().open(desk.lease())
    desk.workspace.wait_for(lambda: fault.count)

    draft.leave()
    assert not draft.settled.done()
    fault.release()

    assert settled(draft) is Outcome.LEFT
    assert desk.shown(draft) == [PLACEHOLDER]


def test_a_later_try_goes_on_with_the_reply_that_is_there(desk: Desk) -> None:
    editor = desk.start()
    delivery = desk.lease()
    draft = editor.open(delivery)
    desk.wait_until_shown(draft, PLACEHOLDER)
    draft.leave()
    settled(draft)
    desk.inbox.release(delivery)
    (again,) = desk.inbox.lease(1)

    second = editor.open(again)
    second.append("answer")
    second.close()

    assert settled(second) is Outcome.DELIVERED
    assert desk.shown(second) == ["answer"]


def test_parts_that_a_shorter_answer_does_not_need_are_deleted(desk: Desk) -> None:
    editor = desk.start()
    delivery = desk.lease()
    draft = editor.open(delivery)
    draft.append("word " * 4000)
    desk.workspace.wait_for(lambda: len(desk.shown(draft)) == 2)
    draft.leave()
    settled(draft)
    desk.inbox.release(delivery)
    (again,) = desk.inbox.lease(1)

    second = editor.open(again)
    second.append("short")
    second.close()

    assert settled(second) is Outcome.DELIVERED
    assert desk.shown(second) == ["short"]


def test_a_lost_lease_settles_nothing(desk: Desk) -> None:
    delivery = desk.lease()
    desk.inbox.release(delivery)
    draft = desk.start().open(delivery)
    draft.append("word " * 4000)
    draft.close()

    assert settled(draft) is Outcome.LEFT
