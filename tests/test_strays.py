"""An instance that was paused past its lease: what it may still do, and what is put right."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot.delivery import Delivery
from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.render import message
from tests.conftest import StartBot
from tests.desk import PLACEHOLDER, Desk, calls, settled
from tests.elapsing import elapse
from tests.postgres import PostgresServer


@pytest.fixture(name="desks")
def _desks(
    workspace: Workspace, tmp_path: Path, postgres: PostgresServer
) -> Iterator[tuple[Desk, Desk]]:
    """The paused instance, and the one that takes over."""
    url = postgres.create_database()
    desks = tuple(Desk(workspace, tmp_path, url=url, name=name) for name in ("paused", "next"))
    first, second = desks
    yield first, second
    for desk in desks:
        desk.close()


def pause(desk: Desk, delivery: Delivery) -> None:
    """Let the lease end, by the database's clock and by the instance's own."""
    delivery.lease.good_until = 0.0
    elapse(desk.database, 16.0)


def take_over(desk: Desk, *, most: int = 1) -> list[Delivery]:
    desk.inbox.extend([])
    return desk.inbox.lease(most)


def write(desk: Desk, draft: Draft, text: str) -> Outcome:
    """Write a whole answer and settle its question."""
    draft.append(text)
    draft.close()
    outcome = settled(draft)
    desk.strays.keep(draft)
    desk.inbox.finish(draft.delivery, outcome=outcome)
    return outcome


def visible(workspace: Workspace, delivery: Delivery) -> list[str]:
    question = delivery.question
    return [reply.shown for reply in workspace.replies(question.channel, question.ts)]


def held(workspace: Workspace, method: str, **more: Any) -> Any:
    return workspace.faults.add(method, hold="before", **more)


def test_an_overdue_lease_allows_no_call_until_it_is_extended(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, _ = desks
    delivery = paused.lease()
    delivery.lease.good_until = 0.0
    draft = paused.start().open(delivery)
    draft.append("an answer")
    draft.close()
    with pytest.raises(TimeoutError):
        draft.settled.result(0.7)
    assert calls(workspace, "chat.postMessage") == []

    paused.inbox.extend([delivery.lease])

    assert settled(draft) is Outcome.DELIVERED
    assert visible(workspace, delivery) == ["an answer"]


def test_an_edit_that_came_after_the_lease_is_written_over(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, successor = desks
    delivery = paused.lease()
    draft = paused.start().open(delivery)
    paused.wait_until_shown(draft, PLACEHOLDER)
    late = held(workspace, "chat.update")
    draft.append("an old beginning")
    workspace.wait_for(lambda: late.count)

    pause(paused, delivery)
    (again,) = take_over(successor)
    assert write(successor, successor.start().open(again), "the whole answer") == "delivered"
    late.release()
    workspace.wait_for(lambda: visible(workspace, delivery) == ["an old beginning"])
    draft.leave()
    settled(draft)
    for desk in desks:
        desk.strays.step()

    assert visible(workspace, delivery) == ["the whole answer"]
    assert successor.fleet.strays() == []


def test_a_lease_that_was_overdue_and_not_lost_is_no_lasting_trouble(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, _ = desks
    delivery = paused.lease()
    draft = paused.start().open(delivery)
    paused.wait_until_shown(draft, PLACEHOLDER)
    late = held(workspace, "chat.update")
    draft.append("a beginning")
    workspace.wait_for(lambda: late.count)
    delivery.lease.good_until = 0.0
    late.release()
    workspace.wait_for(lambda: visible(workspace, delivery) == ["a beginning"])
    workspace.wait_for(lambda: delivery.lease.was_overdue)
    paused.inbox.extend([delivery.lease])

    assert write(paused, draft, " and an end") == "delivered"
    paused.strays.step()

    assert visible(workspace, delivery) == ["a beginning and an end"]
    assert paused.fleet.strays() == []


def test_a_post_that_came_after_the_lease_is_deleted(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, successor = desks
    delivery = paused.lease()
    late = held(workspace, "chat.postMessage")
    draft = paused.start().open(delivery)
    workspace.wait_for(lambda: late.count)

    pause(paused, delivery)
    (again,) = take_over(successor)
    assert write(successor, successor.start().open(again), "the whole answer") == "delivered"
    late.release()
    assert settled(draft) is Outcome.LEFT
    assert visible(workspace, delivery) == ["the whole answer", PLACEHOLDER]
    for desk in desks:
        desk.strays.step()

    assert visible(workspace, delivery) == ["the whole answer"]
    assert paused.fleet.strays() == []


def test_a_stray_waits_until_its_question_is_settled(
    desks: tuple[Desk, Desk],
) -> None:
    paused, successor = desks
    delivery = paused.lease()
    draft = paused.start().open(delivery)
    paused.wait_until_shown(draft, PLACEHOLDER)
    paused.strays.note(delivery.question.id, paused.reply(draft)[0].ts)
    paused.strays.step()
    assert [stray.is_settled for stray in successor.fleet.strays()] == [False]

    write(paused, draft, "the whole answer")
    successor.strays.step()
    assert len(successor.fleet.strays()) == 1
    paused.strays.step()
    assert successor.fleet.strays() == []


def test_a_stray_that_nobody_can_put_right_is_told_to_the_operator_in_the_end(
    desks: tuple[Desk, Desk], caplog: pytest.LogCaptureFixture
) -> None:
    paused, successor = desks
    delivery = paused.lease()
    draft = paused.start().open(delivery)
    write(paused, draft, "the whole answer")
    successor.strays.note(delivery.question.id, paused.reply(draft)[0].ts)
    successor.strays.step()
    assert len(successor.fleet.strays()) == 1

    elapse(successor.database, 901.0)
    successor.strays.step()

    assert successor.fleet.strays() == []
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in errors] == ["a reply may show an old text"]


def test_strays_wait_for_a_database_that_is_away(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, _ = desks
    delivery = paused.lease()
    draft = paused.start().open(delivery)
    write(paused, draft, "the whole answer")
    paused.strays.note(delivery.question.id, paused.reply(draft)[0].ts)
    paused.database.close()
    paused.strays.step()
    paused.database.open()

    paused.strays.step()

    assert paused.fleet.strays() == []
    assert visible(workspace, delivery) == ["the whole answer"]


def test_a_refusal_is_obeyed(workspace: Workspace, desks: tuple[Desk, Desk]) -> None:
    paused, _ = desks
    draft = paused.start().open(paused.lease())
    write(paused, draft, "the whole answer")
    paused.strays.note(draft.delivery.question.id, paused.reply(draft)[0].ts)
    workspace.faults.add("chat.update", retry_after=30)
    before = len(calls(workspace, "chat.update"))
    for _ in range(3):
        paused.strays.step()

    assert len(calls(workspace, "chat.update")) == before + 1
    assert len(paused.fleet.strays()) == 1


def test_a_post_that_comes_to_light_after_another_was_posted_is_deleted(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    """Its sender is dead, so nobody else will tell of it."""
    paused, successor = desks
    delivery = paused.lease()
    late = held(workspace, "chat.postMessage")
    paused.start().open(delivery)
    workspace.wait_for(lambda: late.count)

    pause(paused, delivery)
    (again,) = take_over(successor)
    draft = successor.start().open(again)
    workspace.wait_for(lambda: visible(workspace, delivery) == [PLACEHOLDER])
    late.release()
    workspace.wait_for(lambda: visible(workspace, delivery) == [PLACEHOLDER] * 2)
    draft.append("the whole answer")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert visible(workspace, delivery) == ["the whole answer"]


def test_a_reaction_that_came_after_the_lease_is_taken_away(
    workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, successor = desks
    editor = paused.start(edits_per_minute=1, overflow_seconds=0.0)
    shown = editor.open(paused.lease())
    paused.wait_until_shown(shown, PLACEHOLDER)
    late = held(workspace, "reactions.add")
    delivery = paused.lease(channel=workspace.add_channel("late"))
    deferred = editor.open(delivery)
    workspace.wait_for(lambda: late.count)

    pause(paused, delivery)
    delivered = {each.question: each for each in take_over(successor, most=2)}
    draft = successor.start().open(delivered[delivery.question])
    assert write(successor, draft, "the whole answer") == "delivered"
    assert successor.reactions(draft) == []
    late.release()
    workspace.wait_for(lambda: successor.reactions(draft) == ["hourglass"])
    for left in (shown, deferred):
        left.leave()
        settled(left)
    for desk in desks:
        desk.strays.step()

    assert successor.reactions(draft) == []
    assert visible(workspace, delivery) == ["the whole answer"]


def test_a_post_that_nobody_saw_is_waited_for_before_another_is_made(desk: Desk) -> None:
    delivery = desk.lease()
    late = held(desk.workspace, "chat.postMessage")
    desk.start().open(delivery)
    desk.workspace.wait_for(lambda: late.count)

    desk.inbox.recover()
    (again,) = desk.inbox.lease(1)
    draft = desk.start().open(again)
    desk.workspace.wait_for(lambda: calls(desk.workspace, "conversations.replies"))
    late.release()
    draft.append("the whole answer")
    draft.close()

    assert settled(draft) is Outcome.DELIVERED
    assert visible(desk.workspace, delivery) == ["the whole answer"]
    assert len(calls(desk.workspace, "chat.postMessage")) == 1


def test_a_bot_remembers_what_it_wrote_in_the_place_of_another(
    start_bot: StartBot, workspace: Workspace, desks: tuple[Desk, Desk]
) -> None:
    paused, _ = desks
    delivery = paused.lease()
    pause(paused, delivery)
    start_bot(database_url=paused.url)
    workspace.wait_for(lambda: visible(workspace, delivery) == ["You asked: a question"])
    (reply,) = workspace.replies(delivery.question.channel, delivery.question.ts)

    paused.slack.update(reply.channel, reply.ts, message("an old beginning"))
    paused.strays.note(delivery.question.id, reply.ts)
    paused.strays.tell()

    workspace.wait_for(lambda: visible(workspace, delivery) == ["You asked: a question"])
    workspace.wait_for(lambda: paused.fleet.strays() == [])
