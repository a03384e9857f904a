"""A draft by itself: what its calls show, and which of them another will replace."""

from __future__ import annotations

import math

from chatrelaybot.budget import Method
from chatrelaybot.delivery import Delivery, Lease
from chatrelaybot.draft import Call, Draft, SentPart
from chatrelaybot.events import Question
from chatrelaybot.render import message

PLACEHOLDER = message("…")


def draft_on_show() -> Draft:
    """Return a draft whose placeholder is posted."""
    question = Question("Ev1", "T1", "C1", "U1", "why?", "1700000000.000100", None)
    delivery = Delivery(question, 1, 0, Lease("lease", math.inf), "", 0.0)
    draft = Draft(delivery=delivery, placeholder=PLACEHOLDER, now=0.0, announce=lambda _: None)
    draft.parts.append(SentPart(ts="1700000001.000000", shown=PLACEHOLDER))
    return draft


def begin(draft: Draft, *texts: str, is_last: bool = False) -> Call:
    """Let texts come, and begin the call that shows them."""
    for text in texts:
        draft.append(text)
    if is_last:
        draft.close()
    call = draft.next_call()
    assert call is not None
    draft.started(call)
    return call


def end(draft: Draft, call: Call) -> None:
    draft.concluded()
    draft.parts[call.part].shown = call.message


def test_an_edit_passes_until_the_text_is_complete() -> None:
    draft = draft_on_show()
    first = begin(draft, "so ")
    end(draft, first)
    last = begin(draft, "it is", is_last=True)

    assert (first.method, first.is_passing) == (Method.UPDATE, True)
    assert (last.method, last.is_passing) == (Method.UPDATE, False)


def test_the_last_edit_of_a_part_that_is_full_does_not_pass() -> None:
    draft = draft_on_show()
    call = begin(draft, "word " * 4_000)

    assert (call.part, call.is_passing) == (0, False)


def test_an_edit_knows_how_many_pieces_of_text_came_with_it() -> None:
    draft = draft_on_show()
    first = begin(draft, "a", "b", "c")
    draft.append("d")  # While the call is under way.
    end(draft, first)
    assert draft.was_shown() == 3

    second = begin(draft, "e")
    end(draft, second)
    assert draft.was_shown() == 2


def test_pieces_of_an_edit_that_was_refused_come_with_the_next() -> None:
    draft = draft_on_show()
    begin(draft, "a")
    draft.concluded()

    end(draft, begin(draft, "b"))

    assert draft.was_shown() == 2
