"""What a reply says that is given back because this process ends."""

from __future__ import annotations

from chatrelaybot.draft import Outcome
from tests.desk import PLACEHOLDER, Desk, calls, settled

NOTE = "It goes on."


def test_a_placeholder_gives_way_to_the_note(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    draft.leave(note=NOTE)

    assert settled(draft) is Outcome.LEFT
    assert desk.shown(draft) == ["_It goes on._"]


def test_without_a_note_nothing_is_written(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    draft.leave()

    assert settled(draft) is Outcome.LEFT
    assert desk.shown(draft) == [PLACEHOLDER]


def test_text_that_comes_after_the_note_is_left_alone(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    draft.append("the beginning")
    desk.wait_until_shown(draft, "the beginning")
    held = desk.workspace.faults.add("chat.update", hold="after")
    draft.leave(note=NOTE)
    desk.workspace.wait_for(lambda: held.count)
    draft.append(" and more")
    draft.close()
    held.release()

    assert settled(draft) is Outcome.LEFT
    assert desk.shown(draft) == ["the beginning\n\n_It goes on._"]
    assert desk.failures == []


def test_a_note_that_fails_is_not_tried_again(desk: Desk) -> None:
    draft = desk.start().open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    desk.workspace.faults.add("chat.update", status=503, times=None)
    draft.leave(note=NOTE)

    assert settled(draft) is Outcome.LEFT
    assert len(calls(desk.workspace, "chat.update")) == 1


def test_the_next_try_writes_its_answer_in_the_place_of_the_note(desk: Desk) -> None:
    editor = desk.start()
    draft = editor.open(desk.lease())
    desk.wait_until_shown(draft, PLACEHOLDER)
    draft.leave(note=NOTE)
    settled(draft)

    again = editor.open(desk.lease_again(draft.delivery))
    again.append("the whole answer")
    again.close()

    assert settled(again) is Outcome.DELIVERED
    assert desk.shown(again) == ["the whole answer"]
