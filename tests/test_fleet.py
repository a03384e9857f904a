"""Several instances on one PostgreSQL: who is there, the shared budget, and what went astray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.database import Database
from chatrelaybot.fleet import Fleet, Stray
from chatrelaybot.inbox import Inbox
from chatrelaybot.shared_budget import SharedBudget
from tests.elapsing import elapse
from tests.postgres import PostgresServer
from tests.test_inbox import lease_one, put, question

EDITS, POSTS = 50.0, 200.0  #: a minute


@dataclass
class Instance:
    database: Database
    fleet: Fleet
    budget: WorkspaceBudget
    shared: SharedBudget
    inbox: Inbox


def instance(url: str, name: str) -> Instance:
    database = Database(url=url)
    database.open()
    budget = WorkspaceBudget(edits_per_minute=EDITS, posts_per_minute=POSTS, now=0.0)
    return Instance(
        database=database,
        fleet=Fleet(database=database, owner=name),
        budget=budget,
        shared=SharedBudget(database=database, team_id="T1", budget=budget),
        inbox=Inbox(database=database, owner=name, retention_hours=1.0),
    )


@pytest.fixture(name="pair")
def _pair(postgres: PostgresServer) -> Iterator[tuple[Instance, Instance]]:
    url = postgres.create_database()
    pair = instance(url, "one"), instance(url, "two")
    yield pair
    for each in pair:
        each.database.close()


@pytest.fixture(name="on_file")
def _on_file(tmp_path: Path) -> Iterator[Instance]:
    """The same statements on the other engine."""
    one = instance(f"sqlite:///{tmp_path}/fleet.db", "one")
    yield one
    one.database.close()


# Who is there.


def test_instances_are_counted_until_they_leave_or_fall_silent(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair

    counts = [one.fleet.beat(), two.fleet.beat(), one.fleet.beat()]
    two.fleet.leave()
    counts.append(one.fleet.beat())
    two.fleet.beat()
    elapse(one.database, 16.0)
    counts.append(one.fleet.beat())

    assert counts == [1, 2, 2, 1, 1]


def test_the_silent_are_forgotten(on_file: Instance) -> None:
    Fleet(database=on_file.database, owner="gone").beat()
    elapse(on_file.database, 61.0)

    assert on_file.fleet.beat() == 1
    names = text("SELECT id FROM instances")
    assert on_file.database.read(lambda c: c.scalars(names).all()) == ["one"]


# The shared budget.


def taken(instances: tuple[Instance, ...], method: Method, channel: str, *, most: int) -> int:
    """Return how many calls all of them may make now, one after the other."""
    for count in range(most):
        if instances[count % len(instances)].shared.take(method, channel, spare=0.0).wait > 0.0:
            return count
    return most


def test_two_instances_have_one_budget_together(pair: tuple[Instance, Instance]) -> None:
    count = taken(pair, Method.UPDATE, "C1", most=40)

    # A burst of 20, less what is left for calls that overtake each other.
    assert 18 <= count <= 20
    wait = pair[0].shared.take(Method.UPDATE, "C1", spare=0.0).wait
    assert 0.0 < wait <= 1.5 * 60.0 / EDITS


def test_posting_has_a_budget_a_channel_as_well(pair: tuple[Instance, Instance]) -> None:
    assert taken(pair, Method.POST, "C1", most=5) == 1
    assert taken(pair, Method.POST, "C2", most=5) == 1
    elapse(pair[0].database, 1.1)
    assert taken(pair, Method.POST, "C1", most=5) == 1


def test_an_edit_that_can_wait_leaves_some_for_others(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    for _ in range(8):
        assert one.shared.take(Method.UPDATE, "C1", spare=0.0).wait == 0.0

    assert two.shared.take(Method.UPDATE, "C1", spare=15.0).wait > 0.0
    assert two.shared.take(Method.UPDATE, "C1", spare=0.0).wait == 0.0


def test_a_retry_after_is_seen_by_all(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    one.shared.refused(Method.UPDATE, retry_after=30.0)

    grant = two.shared.take(Method.UPDATE, "C1", spare=0.0)
    assert 29.0 < grant.wait <= 30.0
    elapse(one.database, 30.5)
    grant = two.shared.take(Method.UPDATE, "C1", spare=0.0)
    assert grant.wait == 0.0
    (bucket,) = grant.buckets
    assert bucket.rate < EDITS / 60.0


def test_what_others_took_is_learned_from_the_answer(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    for _ in range(15):
        one.shared.take(Method.UPDATE, "C1", spare=0.0)
    grant = two.shared.take(Method.UPDATE, "C1", spare=0.0)

    now = 100.0
    assert two.budget.wait(Method.UPDATE, "C1", now, ahead=10) == 0.0
    two.budget.adopt(Method.UPDATE, "C1", grant.buckets, now)
    assert two.budget.wait(Method.UPDATE, "C1", now) == 0.0
    assert two.budget.wait(Method.UPDATE, "C1", now, ahead=10) > 1.0


def test_without_the_database_each_keeps_to_its_part(pair: tuple[Instance, Instance]) -> None:
    one, _ = pair
    one.shared.instance_count = 2
    one.database.close()

    grant = one.shared.take(Method.UPDATE, "C1", spare=0.0)

    assert (grant.wait, grant.buckets, grant.part) == (0.0, (), 0.5)
    one.shared.refused(Method.UPDATE, retry_after=5.0)


def test_a_part_of_a_budget_has_a_part_of_its_burst_and_of_its_rate() -> None:
    budget = WorkspaceBudget(edits_per_minute=EDITS, posts_per_minute=POSTS, now=0.0)
    budget.share(0.25, 0.0)

    count = 0
    while budget.wait(Method.UPDATE, "C1", 0.0) == 0.0:
        budget.take(Method.UPDATE, "C1", 0.0)
        budget.returned(Method.UPDATE, 0.0)
        count += 1
    assert count == 5
    assert budget.wait(Method.UPDATE, "C1", 0.0) == pytest.approx(4 * 60.0 / EDITS)


def test_budgets_that_rest_are_forgotten(pair: tuple[Instance, Instance]) -> None:
    one, _ = pair
    one.shared.take(Method.POST, "C1", spare=0.0)
    elapse(one.database, 601.0)
    one.shared.take(Method.POST, "C2", spare=0.0)

    one.shared.forget_rested()

    names = one.database.read(lambda c: c.scalars(text("SELECT id FROM budgets ORDER BY id")).all())
    assert names == ["T1 chat.postMessage", "T1 chat.postMessage C2"]


def test_a_shared_budget_is_the_same_on_either_engine(on_file: Instance) -> None:
    assert 18 <= taken((on_file,), Method.UPDATE, "C1", most=40) <= 20


# What went astray.


def test_a_stray_is_noted_once_and_seen_by_all(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    put(one.inbox, question(1))
    delivery = lease_one(one.inbox)
    one.inbox.record_post(delivery, 0, "9.1")
    one.fleet.note_stray(question(1).id, "9.1")
    one.fleet.note_stray(question(1).id, "9.1")
    two.fleet.note_stray(question(1).id, "9.2")

    strays = {stray.ts: stray for stray in two.fleet.strays()}
    assert strays.keys() == {"9.1", "9.2"}
    assert strays["9.1"] == Stray(
        question_id=question(1).id,
        ts="9.1",
        age=strays["9.1"].age,
        channel="C1",
        owner="one",
        is_settled=False,
        is_question=False,
        is_part=True,
    )
    assert not strays["9.2"].is_part

    one.inbox.finish(delivery, outcome="delivered")
    strays = {stray.ts: stray for stray in two.fleet.strays()}
    assert [(strays["9.1"].is_settled, strays["9.1"].owner)] == [(True, "one")]
    two.fleet.forget_stray(strays["9.1"])
    assert [stray.ts for stray in one.fleet.strays()] == ["9.2"]


def test_a_stray_of_a_question_that_is_purged_has_no_place(on_file: Instance) -> None:
    on_file.fleet.note_stray("unknown", "9.1")

    (stray,) = on_file.fleet.strays()

    assert (stray.channel, stray.is_settled, stray.is_part) == (None, False, False)
    assert 0.0 <= stray.age < 60.0
