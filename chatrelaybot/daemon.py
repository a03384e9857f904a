"""The composition root: builds the parts, starts them in order, stops them in reverse."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeVar

from chatrelaybot import dialects, telemetry
from chatrelaybot.backend import Backend
from chatrelaybot.budget import WorkspaceBudget
from chatrelaybot.company import Company
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.database import Database
from chatrelaybot.editor import Editor, Habits
from chatrelaybot.errors import ChatRelayBotError, ConfigurationError, TransientError
from chatrelaybot.events import Identity, Reading
from chatrelaybot.fleet import Fleet
from chatrelaybot.inbox import Inbox
from chatrelaybot.link import Links
from chatrelaybot.listener import Listener
from chatrelaybot.relay import Relay
from chatrelaybot.render import message
from chatrelaybot.sender import Sender
from chatrelaybot.settings import Settings
from chatrelaybot.shared_budget import SharedBudget
from chatrelaybot.slack import Slack
from chatrelaybot.workers import Workers

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Leases last this long and are extended three times within it; seconds.
_LEASE_SECONDS = 15.0
#: How often to look for questions that nobody woke us for, with other instances and without.
_POLL_SECONDS = 0.5
_QUIET_POLL_SECONDS = 5.0
#: How often old keys are deleted; seconds.
_PURGE_SECONDS = 600.0
#: Wait between tries to reach Slack, or the database, at start: this · 2ⁿ; seconds.
_FIRST_PATIENCE_SECONDS = 0.5
_MOST_PATIENCE_SECONDS = 30.0


class Daemon:
    """The running bot. `start`, `wait` and `stop` belong to one thread, the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts = ExitStack()
        self._workers: Workers | None = None
        self._links: Links | None = None
        self._is_stopping = False
        #: Ends a wait. Not an event: a signal handler must take no lock that the very thread it
        #: interrupts may hold, and `put` takes none.
        self._stops: SimpleQueue[None] = SimpleQueue()
        self._failure: Exception | None = None

    @property
    def is_up(self) -> bool:
        """True while the link to Slack is up."""
        return self._links is not None and self._links.is_up

    @property
    def running_count(self) -> int:
        """How many questions are being answered."""
        return 0 if self._workers is None else self._workers.running_count

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, stop.

        Raises:
            Exception: What made the daemon stop, where nobody asked it to.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self.start()
            self.wait()
            _log.info("stopping")
        finally:
            self.stop()

    def start(self) -> None:
        """Build and start all parts; the link comes up in the background."""
        try:
            self._start_parts()
        except _Stopped:
            _log.info("stopped before the start was over")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the daemon is to stop; False: it is not yet."""
        if not self._is_stopping:
            with suppress(Empty):
                self._stops.get(timeout=timeout)
        return self._is_stopping

    def stop(self) -> None:
        """Stop all parts in the reverse order of their start.

        Raises:
            Exception: What made the daemon stop, where nobody asked it to.
        """
        self._is_stopping = True
        # The link goes first, so that Slack sends new envelopes elsewhere or keeps them; what has
        # arrived is put into the inbox; then running answers get their time, and only then do the
        # parts go that they need.
        self._parts.close()
        if self._workers is not None:
            _log.info("stopped")
        if self._failure is not None:
            raise self._failure

    def _start_parts(self) -> None:
        settings = self._settings
        database = Database(url=settings.database_url)
        self._patiently("database not reachable", database.open)
        self._parts.callback(database.close)
        owner = _instance()
        inbox = Inbox(
            database=database,
            owner=owner,
            lease_seconds=_LEASE_SECONDS,
            queue_limit=settings.queue_limit,
            retention_hours=settings.retention_hours,
            on_ready=self._wake_workers,
        )
        self._recover(inbox)
        slack = Slack(
            bot_token=settings.slack_bot_token.get_secret_value(),
            api_url=settings.slack_api_url,
            pool_size=settings.workers,
        )
        self._parts.callback(slack.close)
        identity = self._identify(slack)
        budget = WorkspaceBudget(
            edits_per_minute=settings.edits_per_minute,
            posts_per_minute=settings.posts_per_minute,
            now=time.monotonic(),
        )
        fleet = self._join_fleet(database, owner, slack, budget, identity)
        self._start_workers(inbox, self._start_editor(slack, inbox, budget, fleet), fleet)
        self._start_listener(slack, inbox, identity)
        _log.info("started", extra={"bot": identity.user_id, "team": identity.team_id})

    def _join_fleet(
        self,
        database: Database,
        owner: str,
        slack: Slack,
        budget: WorkspaceBudget,
        identity: Identity,
    ) -> Company | None:
        """Begin to share with the other instances on the database; None: there are no others."""
        if not database.is_shared:
            return None
        company = Company(
            fleet=Fleet(database=database, owner=owner),
            shared=SharedBudget(database=database, team_id=identity.team_id, budget=budget),
            slack=slack,
        )
        self._parts.callback(company.leave)
        self._loop("fleet", company.step, every=_LEASE_SECONDS / 3.0)
        return company

    def _start_editor(
        self, slack: Slack, inbox: Inbox, budget: WorkspaceBudget, fleet: Company | None
    ) -> Editor:
        settings = self._settings
        senders = ThreadPoolExecutor(settings.workers, thread_name_prefix="chatrelaybot-sender")
        self._parts.callback(senders.shutdown)
        editor = Editor(
            sender=Sender(
                slack=slack,
                inbox=inbox,
                reaction=settings.slack_busy_reaction or "",
                note_stray=fleet.strays.note if fleet else None,
            ),
            senders=senders,
            budget=budget,
            shared=fleet.shared if fleet else None,
            habits=Habits(
                placeholder=message(settings.placeholder),
                edit_seconds=settings.edit_seconds,
                overflow_seconds=settings.overflow_seconds,
                has_reaction=settings.slack_busy_reaction is not None,
            ),
            clock=time.monotonic,
        )
        self._loop("editor", editor.step, wake=editor.wake, afterwards=editor.let_go)
        return editor

    def _start_workers(self, inbox: Inbox, editor: Editor, fleet: Company | None) -> None:
        settings = self._settings
        backend = self._backend()
        self._parts.callback(backend.close)
        relay = Relay(
            inbox=inbox,
            backend=backend,
            editor=editor,
            answer_max_chars=settings.answer_max_chars,
            keep=fleet.strays.keep if fleet else None,
        )
        workers = Workers(
            inbox=inbox,
            answer=relay.answer,
            size=settings.workers,
            # Others may enqueue, or give back, what nobody tells us of.
            poll_seconds=_POLL_SECONDS if fleet else _QUIET_POLL_SECONDS,
        )
        self._workers = workers
        self._loop("heartbeat", workers.beat, every=_LEASE_SECONDS / 3.0)
        self._loop("purge", partial(_purge, inbox), every=_PURGE_SECONDS)
        self._parts.callback(workers.drain, settings.drain_seconds)
        self._loop("leaser", workers.step, wake=workers.wake)

    def _start_listener(self, slack: Slack, inbox: Inbox, identity: Identity) -> None:
        settings = self._settings
        app_token = settings.slack_app_token.get_secret_value()
        links = Links(open_url=lambda: slack.open_link_url(app_token))
        self._links = links
        listener = Listener(
            links=links,
            inbox=inbox,
            reading=Reading(
                identity=identity, reply_in=settings.reply_in, channels=settings.slack_channel
            ),
            new_traceparent=telemetry.new_traceparent,
        )
        self._loop("listener", listener.step, wake=links.wake)
        self._loop("link", links.step, wake=links.wake)
        self._parts.callback(links.close)

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
        )

    def _recover(self, inbox: Inbox) -> None:
        recovered = inbox.recover()
        if recovered:
            _log.warning("took up questions of an earlier run", extra={"questions": recovered})

    def _identify(self, slack: Slack) -> Identity:
        identity = self._patiently("slack not reachable", slack.identify)
        return replace(identity, user_id=self._settings.slack_bot_user_id or identity.user_id)

    def _patiently(self, trouble: str, call: Callable[[], _T]) -> _T:
        """Call for as long as it takes to reach the other side, or until we are to stop."""
        delay = _FIRST_PATIENCE_SECONDS
        while True:
            try:
                result = call()
            except TransientError as error:
                _log.warning(trouble, extra={"error": str(error)})
                is_over = self.wait(max(delay, error.retry_after or 0.0))
                delay = min(_MOST_PATIENCE_SECONDS, delay * 2.0)
            else:
                if not self._is_stopping:
                    return result
                is_over = True
            if is_over:
                raise _Stopped

    def _loop(
        self,
        name: str,
        step: Callable[[], object],
        *,
        wake: Callable[[], None] = lambda: None,
        every: float = 0.0,
        afterwards: Callable[[], object] | None = None,
    ) -> None:
        loop = Loop(name, step, failed=self._fail, wake=wake, every=every, afterwards=afterwards)
        loop.start()
        self._parts.callback(loop.stop)

    def _wake_workers(self) -> None:
        if self._workers is not None:
            self._workers.wake()

    def _fail(self, error: Exception) -> None:
        """Stop the daemon because of what a loop has raised; on that loop's thread."""
        if not isinstance(error, ConfigurationError):
            _log.critical("a loop died", exc_info=error)
            error = LoopDied()
        if self._failure is None:
            self._failure = error
        self._hurry()
        self._end_wait()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            self._hurry()
        self._end_wait()

    def _end_wait(self) -> None:
        self._is_stopping = True
        self._stops.put(None)

    def _hurry(self) -> None:
        if self._workers is not None:
            self._workers.hurry()


class LoopDied(ChatRelayBotError):
    """A thread of the daemon died; the log says why."""


class _Stopped(Exception):
    """The daemon was stopped before it had started."""


def _instance() -> str:
    """Return a name for this process that no other one has, nor ever had."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


def _purge(inbox: Inbox) -> None:
    try:
        inbox.purge()
    except TransientError as error:
        _log.warning("old keys not deleted", extra={"error": str(error)})
