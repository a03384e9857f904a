"""One storm: carries a plan out, waits until the questions are settled, and tells what it saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

from chatrelaybot.playground.workspace import Workspace
from tests.chaos.backend import Backend
from tests.chaos.crew import Crew
from tests.chaos.evidence import Evidence, gather
from tests.chaos.fleet import Fleet, Slot, tend
from tests.chaos.happenings import Happenings
from tests.chaos.inboxes import Inbox, inbox_for
from tests.chaos.journal import Journal
from tests.chaos.places import settle_in, workspace_for
from tests.chaos.plan import Plan

#: Seconds without any progress after which what is not settled never will be.
_STUCK_SECONDS = 120.0
#: Seconds until all links are up at the beginning.
_START_SECONDS = 60.0
#: Seconds between two looks.
_LOOK_SECONDS = 0.25


class _Timed(Protocol):
    @property
    def at(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def run(
    plan: Plan,
    *,
    directory: Path,
    quiet_seconds: float,
    is_blind: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """Carry a plan out.

    Args:
        plan: what happens.
        directory: gets the log files, and the file of SQLite.
        quiet_seconds: how long to wait, after all are settled, for what comes late.
        is_blind: the bot cannot find its own messages again.
        tell: is told what happens, line by line.
    """
    with ExitStack() as parts:
        inbox = parts.enter_context(inbox_for(plan.engine, directory))
        workspace = parts.enter_context(workspace_for(is_blind=is_blind))
        backend = parts.enter_context(Backend())
        settings = _settings(workspace, backend, inbox)
        fleet = parts.enter_context(Fleet(directory, count=plan.process_count, settings=settings))
        places = settle_in(workspace, plan.conversation_count)
        workspace.wait_for(lambda: len(workspace.open_links) >= plan.process_count, _START_SECONDS)
        journal = Journal(tell)
        with Crew() as crew:
            happenings = Happenings(
                plan,
                workspace=workspace,
                inbox=inbox,
                places=places,
                journal=journal,
                leaving=crew.leaving,
            )
            _rage(plan, happenings, journal, fleet, crew)
            workspace.faults.clear()
            journal.note("calm", "all was asked, and nothing goes wrong any more")
            _wait_until_settled(workspace, inbox, crew)
            journal.note("settled")
            crew.leaving.wait(quiet_seconds)
        for slot in fleet.slots:
            if not slot.stop():
                journal.note("did not stop", f"process {slot.name}")
        fates, strays = gather(workspace, happenings.asked.values(), inbox.rows())
        return Evidence(
            fates=fates,
            calls=workspace.calls,
            entries=journal.entries,
            started_at=journal.started_at,
            seconds=time.monotonic() - journal.started_at,
            backend_calls=len(backend.requests),
            strays=strays,
        )


def _settings(workspace: Workspace, backend: Backend, inbox: Inbox) -> dict[str, str]:
    return {
        "SLACK_BOT_TOKEN": workspace.bot_token,
        "SLACK_APP_TOKEN": workspace.app_token,
        "SLACK_API_URL": workspace.api_url,
        "BACKEND_URL": backend.url,
        "DATABASE_URL": inbox.url,
        # So short that answers are really given back.
        "DRAIN_SECONDS": "2",
        "HTTP_PORT": "off",
        "LOG_FORMAT": "json",
    }


def _rage(plan: Plan, happenings: Happenings, journal: Journal, fleet: Fleet, crew: Crew) -> None:
    """Let everything happen; return when it has, and the threads that tend the processes stay."""
    unstruck = [threading.Event() for _ in fleet.slots]

    def go_through(things: Sequence[T], happen: Callable[[T], None]) -> None:
        for thing in things:
            if crew.leaving.wait(max(0.0, journal.started_at + thing.at - time.monotonic())):
                return
            happen(thing)

    def lead(number: int, slot: Slot) -> None:
        for strike in (strike for strike in plan.strikes if strike.process == number):
            while (left := journal.started_at + strike.at - time.monotonic()) > 0:
                tend(slot, journal.note, crew.leaving, min(left, _LOOK_SECONDS))
                if crew.leaving.is_set():
                    return
            happenings.strike(strike, slot)
        unstruck[number].set()
        while not crew.leaving.is_set():
            tend(slot, journal.note, crew.leaving, _LOOK_SECONDS)

    others = [
        crew.start("asking", go_through, plan.askings, happenings.ask),
        crew.start("redelivering", go_through, plan.redeliveries, happenings.redeliver),
        crew.start("slack", go_through, plan.troubles, happenings.trouble),
        crew.start("links", go_through, plan.cuts, happenings.cut),
        crew.start("database", go_through, plan.outages, happenings.outage),
    ]
    for number, slot in enumerate(fleet.slots):
        crew.start(f"process-{slot.name}", lead, number, slot)
    crew.wait_until(
        lambda: (
            all(event.is_set() for event in unstruck)
            and not any(thread.is_alive() for thread in others)
        )
    )


def _wait_until_settled(workspace: Workspace, inbox: Inbox, crew: Crew) -> None:
    """Wait until no event is on its way, and no question unsettled; or until nothing moves."""
    seen: tuple[int, ...] = ()
    moved_at = time.monotonic()

    def is_over() -> bool:
        nonlocal seen, moved_at
        deliveries = workspace.deliveries
        pending = sum(not delivery.acks and not delivery.is_given_up for delivery in deliveries)
        open_rows = sum(not row.is_settled for row in inbox.rows().values())
        if not pending and not open_rows:
            return True
        now, state = time.monotonic(), (pending, open_rows)
        if state != seen:
            seen, moved_at = state, now
        return now - moved_at > _STUCK_SECONDS

    crew.wait_until(is_over)
