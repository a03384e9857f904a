"""The composition root: builds the parts, starts them in order, stops them in reverse."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from chatrelaybot import catch_up, dialects
from chatrelaybot.backend import Backend
from chatrelaybot.budget import WorkspaceBudget
from chatrelaybot.catch_up import CatchUp
from chatrelaybot.census import Census
from chatrelaybot.company import Company
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.daemon_telemetry import Gauges
from chatrelaybot.database import Database
from chatrelaybot.editor import Editor, Habits
from chatrelaybot.errors import TransientError
from chatrelaybot.events import Identity, Reading
from chatrelaybot.fleet import Fleet
from chatrelaybot.inbox import Inbox
from chatrelaybot.link import Links
from chatrelaybot.listener import Listener
from chatrelaybot.relay import Relay
from chatrelaybot.remembered_budget import RememberedBudget
from chatrelaybot.render import message
from chatrelaybot.seen_links import SeenLinks
from chatrelaybot.sender import Sender
from chatrelaybot.settings import Settings
from chatrelaybot.shared_budget import SharedBudget
from chatrelaybot.slack import Slack
from chatrelaybot.telemetry import Telemetry
from chatrelaybot.upkeep import Upkeep
from chatrelaybot.workers import Workers

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Leases last this long and are extended three times within it; seconds.
_LEASE_SECONDS = 15.0
#: How often to look for questions that nobody woke us for, with other instances and without.
_POLL_SECONDS = 0.5
_QUIET_POLL_SECONDS = 5.0
#: How often other instances are told that we are here, and the next start of what is left of the
#: rate budgets; seconds.
_FLEET_SECONDS = 5.0
#: How often old keys are deleted; seconds. Vacuuming waits for a step of this loop.
_UPKEEP_SECONDS = 600.0

_NO_DATABASE = "database not reachable"


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all other parts stand on."""

    name: str  #: of this instance
    database: Database
    inbox: Inbox
    slack: Slack
    identity: Identity


class Patience(Protocol):
    """Calls for as long as it takes to reach the other side."""

    def __call__(self, trouble: str, call: Callable[[], _T]) -> _T:
        """Return what the call returns in the end; log `trouble` where it is put off."""


class Parts:
    """All parts of the bot. `start` and `close` belong to one thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        patiently: Patience,
        failed: Callable[[Exception], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`failed` is told, on the thread of a loop, what has ended that loop.

        `on_change` is told when a link comes up or goes.
        """
        self._settings = settings
        self._telemetry = telemetry
        self._gauges = Gauges(telemetry)
        self._patiently = patiently
        self._failed = failed
        self._on_change = on_change
        self._stack = ExitStack()
        self._channels = settings.slack_channel
        self._readers: list[Listener | CatchUp] = []
        # For whoever looks, from any thread.
        self.database: Database | None = None
        self.workers: Workers | None = None
        self.links: Links | None = None
        self.loops: list[Loop] = []
        self.is_started = False
        self.census: Census | None = None

    def close(self) -> None:
        """Stop all parts in the reverse order of their start.

        The link goes first, so that Slack sends new envelopes elsewhere or keeps them; what has
        arrived is put into the inbox; then running answers get their time, and only then do the
        parts go that they need.
        """
        self._gauges.end()
        self._stack.close()

    def start(self) -> None:
        """Build and start all parts; the link comes up in the background."""
        ground = self._ground()
        budget = WorkspaceBudget(
            edits_per_minute=self._settings.edits_per_minute,
            posts_per_minute=self._settings.posts_per_minute,
            now=time.monotonic(),
        )
        census = self.census = Census(inbox=ground.inbox)
        self._gauges.watch_database(ground.database, census)
        memory = self._recall(ground, budget)
        company = self._company(ground, budget)
        editor = self._start_editor(ground, budget, company)
        self._keep_company(company, memory, editor, census)
        self._start_upkeep(ground, company)
        self._start_workers(ground.inbox, editor, company)
        self._start_listener(ground)
        self.is_started = True
        self._on_change()
        identity = ground.identity
        _log.info("started", extra={"bot": identity.user_id, "team": identity.team_id})

    def answer_in(self, channels: frozenset[str]) -> None:
        """Answer in these channels only, from now on; none: in all. From any thread."""
        self._channels = channels
        for reader in self._readers:
            reader.answer_in(channels)

    def _ground(self) -> _Ground:
        settings = self._settings
        metrics = self._telemetry.metrics
        database = Database(url=settings.database_url, metrics=metrics)
        self._patiently(_NO_DATABASE, database.open)
        self._stack.callback(database.close)
        self.database = database
        name = self._telemetry.instance
        inbox = Inbox(
            database=database,
            owner=name,
            lease_seconds=_LEASE_SECONDS,
            queue_limit=settings.queue_limit,
            retention_hours=settings.retention_hours,
            on_ready=self._wake_workers,
        )
        recovered = self._patiently(_NO_DATABASE, inbox.recover)
        if recovered:
            _log.warning("took up questions of an earlier run", extra={"questions": recovered})
        slack = Slack(
            bot_token=settings.slack_bot_token.get_secret_value(),
            api_url=settings.slack_api_url,
            pool_size=settings.workers,
            metrics=metrics,
        )
        self._stack.callback(slack.close)
        identity = self._patiently("slack not reachable", slack.identify)
        identity = replace(identity, user_id=settings.slack_bot_user_id or identity.user_id)
        return _Ground(name, database, inbox, slack, identity)

    def _recall(self, ground: _Ground, budget: WorkspaceBudget) -> RememberedBudget | None:
        """Begin with what is left of the budgets; None: other instances tell us."""
        if ground.database.is_shared:
            return None
        memory = RememberedBudget(database=ground.database, team_id=ground.identity.team_id)
        self._patiently(_NO_DATABASE, lambda: memory.recall(budget, time.monotonic()))
        return memory

    def _company(self, ground: _Ground, budget: WorkspaceBudget) -> Company:
        database, team_id = ground.database, ground.identity.team_id
        shared = SharedBudget(database=database, team_id=team_id, budget=budget)
        company = Company(
            fleet=Fleet(database=database, owner=ground.name),
            shared=shared if database.is_shared else None,
            slack=ground.slack,
            reaction=self._settings.slack_busy_reaction or "",
        )
        self._stack.callback(company.leave)
        return company

    def _start_editor(self, ground: _Ground, budget: WorkspaceBudget, company: Company) -> Editor:
        settings = self._settings
        senders = ThreadPoolExecutor(settings.workers, thread_name_prefix="chatrelaybot-sender")
        self._stack.callback(senders.shutdown)
        editor = Editor(
            sender=Sender(
                slack=ground.slack,
                inbox=ground.inbox,
                reaction=settings.slack_busy_reaction or "",
                note_stray=company.strays.note,
            ),
            senders=senders,
            budget=budget,
            shared=company.shared,
            habits=Habits(
                placeholder=message(settings.placeholder),
                edit_seconds=settings.edit_seconds,
                overflow_seconds=settings.overflow_seconds,
                has_reaction=settings.slack_busy_reaction is not None,
            ),
            clock=time.monotonic,
            metrics=self._telemetry.metrics,
        )
        self._gauges.watch_budgets(budget, lambda: editor.buckets)
        self._loop("editor", editor.step, wake=editor.wake, afterwards=editor.let_go)
        return editor

    def _keep_company(
        self, company: Company, memory: RememberedBudget | None, editor: Editor, census: Census
    ) -> None:
        def remember() -> None:
            try:
                if memory is not None:
                    memory.remember(editor.buckets, time.monotonic())
            except TransientError as error:
                _log.warning("budgets not remembered", extra={"error": str(error)})

        def step() -> None:
            company.step()
            remember()
            census.step()

        self._stack.callback(remember)  # After the last call, and when the loop is stopped.
        self._loop("fleet", step, every=_FLEET_SECONDS)

    def _start_upkeep(self, ground: _Ground, company: Company) -> None:
        upkeep = Upkeep(
            inbox=ground.inbox,
            database=ground.database,
            shared=company.shared,
            retention_hours=self._settings.retention_hours,
        )
        every = min(_UPKEEP_SECONDS, self._settings.retention_hours * 3600.0 / 4.0)
        self._loop("upkeep", upkeep.step, every=every)

    def _start_workers(self, inbox: Inbox, editor: Editor, company: Company) -> None:
        settings = self._settings
        backend = self._backend()
        self._stack.callback(backend.close)
        relay = Relay(
            inbox=inbox,
            backend=backend,
            editor=editor,
            answer_max_chars=settings.answer_max_chars,
            spans=self._telemetry.spans,
            metrics=self._telemetry.metrics,
            keep=company.strays.keep if company.shared else None,
        )
        workers = Workers(
            inbox=inbox,
            answer=relay.answer,
            size=settings.workers,
            # Others may enqueue, or give back, what nobody tells us of.
            poll_seconds=_POLL_SECONDS if company.shared else _QUIET_POLL_SECONDS,
        )
        self.workers = workers
        self._gauges.watch_workers(workers, size=settings.workers)
        self._loop("heartbeat", workers.beat, every=_LEASE_SECONDS / 3.0)
        self._stack.callback(workers.drain, settings.drain_seconds)
        self._loop("leaser", workers.step, wake=workers.wake)

    def _start_listener(self, ground: _Ground) -> None:
        settings = self._settings
        slack, inbox = ground.slack, ground.inbox
        app_token = settings.slack_app_token.get_secret_value()
        spans, metrics = self._telemetry.spans, self._telemetry.metrics
        links = Links(
            open_url=lambda: slack.open_link_url(app_token),
            on_change=self._on_change,
            metrics=metrics,
        )
        self.links = links
        self._gauges.watch_links(links)
        reading = Reading(
            identity=ground.identity, reply_in=settings.reply_in, channels=self._channels
        )
        listener = Listener(links=links, inbox=inbox, reading=reading, spans=spans, metrics=metrics)
        missed = CatchUp(
            slack=slack,
            inbox=inbox,
            seen_links=SeenLinks(database=ground.database, team_id=ground.identity.team_id),
            reading=reading,
            links=links,
            minutes=settings.catch_up_minutes,
            retention_hours=settings.retention_hours,
            spans=spans,
            metrics=metrics,
        )
        self._readers += listener, missed
        self.answer_in(self._channels)  # They may have changed since we looked at them.
        self._loop("listener", listener.step, wake=links.wake)
        self._loop("link", links.step, wake=links.wake)
        self._loop("catch-up", missed.step, every=catch_up.STEP_SECONDS)
        self._stack.callback(links.close)

    def _backend(self) -> Backend:
        settings = self._settings
        dialect = dialects.dialect(
            settings.backend_dialect,
            model=settings.backend_model,
            system_prompt=settings.backend_system_prompt,
            separator=settings.backend_part_separator,
        )
        token = settings.backend_token
        return Backend(
            url=settings.backend_url,
            dialect=dialect,
            token=token.get_secret_value() if token else None,
            headers=settings.backend_headers,
            connect_seconds=settings.backend_connect_seconds,
            idle_seconds=settings.backend_idle_seconds,
            silence_seconds=settings.backend_silence_seconds,
            pool_size=settings.workers,
            metrics=self._telemetry.metrics,
        )

    def _wake_workers(self) -> None:
        if self.workers is not None:
            self.workers.wake()

    def _loop(
        self,
        name: str,
        step: Callable[[], object],
        *,
        wake: Callable[[], None] = lambda: None,
        every: float = 0.0,
        afterwards: Callable[[], object] | None = None,
    ) -> None:
        loop = Loop(name, step, failed=self._failed, wake=wake, every=every, afterwards=afterwards)
        loop.start()
        self.loops.append(loop)
        self._stack.callback(loop.stop)
