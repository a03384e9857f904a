from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.database import Database
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.remembered_budget import RememberedBudget
from tests.answering import AnsweringBackend, delta
from tests.conftest import StartBot
from tests.elapsing import elapse
from tests.scripted_backend import END, Exchange, head


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Iterator[Database]:
    database = Database(url=f"sqlite:///{tmp_path}/budget.db")
    database.open()
    yield database
    database.close()


def fresh(now: float) -> WorkspaceBudget:
    return WorkspaceBudget(edits_per_minute=60, posts_per_minute=200, now=now)


def left(budget: WorkspaceBudget, method: Method, now: float) -> int:
    """Return how many calls may be made at once."""
    count = 0
    while budget.wait(method, f"C{count}", now) <= 0.0:
        budget.take(method, f"C{count}", now)
        budget.returned(method, now)
        count += 1
    return count


def after_a_restart(database: Database, budget: WorkspaceBudget, *, at: float) -> WorkspaceBudget:
    """Remember a budget, and recall it in another process, whose clock is another one."""
    RememberedBudget(database=database, team_id="T1").remember(budget.buckets, at)
    again = fresh(now=7.0)
    RememberedBudget(database=database, team_id="T1").recall(again, 7.0)
    return again


def test_a_restart_begins_with_what_was_left(database: Database) -> None:
    budget = fresh(now=1000.0)
    for _ in range(20):
        budget.take(Method.UPDATE, "C1", 1000.0)

    again = after_a_restart(database, budget, at=1000.0)

    assert left(again, Method.UPDATE, 7.0) in (4, 5)  # of a burst of 24
    assert left(again, Method.POST, 7.0) == 80


def test_what_time_has_brought_since_is_there(database: Database) -> None:
    budget = fresh(now=1000.0)
    for _ in range(24):
        budget.take(Method.UPDATE, "C1", 1000.0)
    memory = RememberedBudget(database=database, team_id="T1")
    memory.remember(budget.buckets, 1000.0)
    elapse(database, 10.0)

    again = fresh(now=7.0)
    memory.recall(again, 7.0)

    assert left(again, Method.UPDATE, 7.0) in (10, 11)


def test_a_retry_after_goes_on(database: Database) -> None:
    budget = fresh(now=1000.0)
    budget.refused(Method.UPDATE, 1000.0, retry_after=30.0)

    again = after_a_restart(database, budget, at=1010.0)

    assert 19.0 < again.wait(Method.UPDATE, "C1", 7.0) <= 20.0
    assert again[Method.UPDATE].per_minute < 60.0


def test_the_budget_of_another_workspace_is_its_own(database: Database) -> None:
    budget = fresh(now=0.0)
    budget.refused(Method.UPDATE, 0.0, retry_after=30.0)
    RememberedBudget(database=database, team_id="T2").remember(budget.buckets, 0.0)

    again = fresh(now=7.0)
    RememberedBudget(database=database, team_id="T1").recall(again, 7.0)

    assert again.wait(Method.UPDATE, "C1", 7.0) == 0.0


def in_two_parts(exchange: Exchange) -> None:
    """Answer so slowly that there is a placeholder, and an edit at least."""
    exchange.send(head())
    for part in ("first, ", "second"):
        threading.Event().wait(0.3)
        exchange.send(delta(part))
    exchange.send(END)
    exchange.hang_up()


@pytest.mark.parametrize("workspace", [Limits()], indirect=True)
def test_a_deploy_in_the_middle_of_a_crowd_is_not_refused(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend
) -> None:
    backend.fall_back(in_two_parts)
    limits: dict[str, float] = {"edits_per_minute": 50, "posts_per_minute": 200}
    bot = start_bot(**limits)
    for number in range(16):
        workspace.say(workspace.add_channel(f"before{number}"), f"{workspace.mention} hello")
    backend.wait_for_requests(16)
    workspace.wait_for(lambda: bot.running_count == 0, timeout=30.0)
    bot.stop()
    bot = start_bot(**limits)
    for number in range(16):
        workspace.say(workspace.add_channel(f"after{number}"), f"{workspace.mention} hello")
    backend.wait_for_requests(32)
    workspace.wait_for(lambda: bot.running_count == 0, timeout=60.0)

    assert [call for call in workspace.calls if call.status == 429] == []


@pytest.fixture(name="workspace")
def _workspace(request: pytest.FixtureRequest) -> Iterator[Workspace]:
    with Workspace(limits=request.param) as workspace:
        yield workspace
