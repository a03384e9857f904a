"""The owner of every write to a reply.

The relay hands text to drafts; one thread decides which reply is written next under the rate
budget (finals first, then first texts, then the reply that has waited longest), and a pool of
senders makes the calls. The budget and the inner state of every draft belong to the deciding
thread; all that happens elsewhere reaches it through one queue, so there is no lock here.
"""

from __future__ import annotations

import logging
import math
import queue
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from chatrelaybot import telemetry_spans
from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.conclusion import Conclusions
from chatrelaybot.delivery import Delivery
from chatrelaybot.draft import Call, Draft, Outcome
from chatrelaybot.errors import RateLimited
from chatrelaybot.pacing import Pacing
from chatrelaybot.render import Message
from chatrelaybot.sender import Sender
from chatrelaybot.shared_budget import Grant, SharedBudget
from chatrelaybot.telemetry_metrics import EDITS, SILENT, Metrics
from chatrelaybot.telemetry_spans import NO_SPAN, Span

_log = logging.getLogger(__name__)

#: How long the editor sleeps when nothing is due and nobody calls; seconds.
_IDLE_SECONDS = 60.0
#: How often it looks whether a crowd is over; seconds.
_CROWD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """The settings that the editor follows; durations in seconds."""

    placeholder: Message
    edit_seconds: float = 1.0
    overflow_seconds: float = 5.0
    has_reaction: bool = True


@dataclass(frozen=True, slots=True)
class _Done:
    draft: Draft
    call: Call
    result: object  #: what the sender returned, or the error that it raised
    grant: Grant  #: of the shared budget; with a wait, the call was not made


class Editor:
    """Writes replies. `open`, `wake` and the drafts' methods may be called from any thread."""

    def __init__(
        self,
        *,
        sender: Sender,
        senders: Executor,
        budget: WorkspaceBudget,
        habits: Habits,
        clock: Callable[[], float],
        shared: SharedBudget | None = None,
        metrics: Metrics = SILENT,
    ) -> None:
        """`shared` is asked for each call; None: the budget is this instance's alone."""
        self._sender = sender
        self._senders = senders
        self._shared = shared
        self._habits = habits
        self._clock = clock
        self._news: queue.SimpleQueue[Draft | _Done | None] = queue.SimpleQueue()
        self._conclusions = Conclusions(budget=budget, metrics=metrics)
        self._metrics = metrics
        self._pacing = Pacing(
            budget=budget,
            edit_seconds=habits.edit_seconds,
            overflow_seconds=habits.overflow_seconds,
        )
        self._due_in = _IDLE_SECONDS
        self._budget = budget
        self._has_called = False
        #: How the budgets stood after the last call. Replaced as a whole, so any thread may look.
        self.buckets = budget.buckets

    def open(self, delivery: Delivery, span: Span = NO_SPAN) -> Draft:
        """Begin a reply; its placeholder is on its way without a further word.

        What is done for it is told below the `span`.
        """
        draft = Draft(
            delivery=delivery,
            placeholder=self._habits.placeholder,
            now=self._clock(),
            announce=self._news.put,
            span=span,
        )
        self._news.put(draft)
        return draft

    def wake(self) -> None:
        """End a wait in `step`."""
        self._news.put(None)

    def step(self) -> None:
        """Wait until something is due, then start the calls that the budget allows.

        Raises:
            ConfigurationError: Slack does not accept our token any more.
        """
        self._listen()
        now = self._clock()
        self._pacing.begin_step()
        for draft in sorted(self._due(now), key=lambda draft: draft.urgency):
            draft.due_at = now + self._advance(draft, now)
            if not draft.settled.done():
                self._pacing.reckon(draft)
        due_at = min((draft.due_at for draft in self._pacing.drafts.values()), default=math.inf)
        self._due_in = min(_IDLE_SECONDS, max(0.0, due_at - now))
        if self._has_called:
            self._has_called, self.buckets = False, self._budget.buckets

    def let_go(self) -> None:
        """Let go of every draft; in place of `step` once that has failed."""
        for draft in list(self._pacing.drafts.values()):
            self._settle(draft, Outcome.LEFT)
        news = self._news.get()
        if isinstance(news, Draft) and not news.settled.done():
            news.settled.set_result(Outcome.LEFT)

    # What is new.

    def _listen(self) -> None:
        try:
            news = self._news.get(timeout=self._due_in)
            while True:
                self._take(news)
                news = self._news.get_nowait()
        except queue.Empty:
            return

    def _take(self, news: Draft | _Done | None) -> None:
        now = self._clock()
        if isinstance(news, _Done):
            self._has_called = True
            news.draft.due_at = now
            self._pacing.returned(news.draft, news.call, news.grant, now)
            if news.grant.wait > 0.0:
                news.draft.put_off(until=now + news.grant.wait)
                return
            with telemetry_spans.active(news.draft.span):
                outcome = self._conclusions.draw(news.draft, news.call, news.result, now)
            if outcome is not None:
                self._settle(news.draft, outcome)
        elif news is not None and not news.settled.done():
            if id(news) not in self._pacing.drafts:
                self._admit(news)
            news.notice(now)

    def _admit(self, draft: Draft) -> None:
        draft.wants_reaction = self._habits.has_reaction and not draft.has_reaction
        self._pacing.admit(draft)

    def _due(self, now: float) -> list[Draft]:
        """Return the replies to look at; those that share a budget at each step, in their order."""
        return [
            draft
            for draft in self._pacing.drafts.values()
            if draft.due_at <= now or draft.is_held or draft.is_deferred
        ]

    # What is due. Each of these returns the seconds until there is something to do.

    def _advance(self, draft: Draft, now: float) -> float:
        draft.is_held = False
        if draft.in_flight is not None:
            return _IDLE_SECONDS
        if draft.is_leaving:
            return self._leave(draft, now)
        wait = self._wait(draft, now)
        if wait <= 0.0:
            wait = self._write(draft, now)
        return min(wait, _CROWD_SECONDS) if draft.is_deferred else wait

    def _leave(self, draft: Draft, now: float) -> float:
        """Settle a reply that is given back, unless it happens to be complete."""
        if draft.has_said_farewell:
            self._settle(draft, Outcome.LEFT)
            return _IDLE_SECONDS
        call = draft.next_call()
        if not draft.rendering.is_closed:
            return self._bid_farewell(draft, now)
        if call is not None and call.method is Method.UNREACT:
            # The last chance for it, but no reason to ask the question again.
            if not draft.failure_count and not self._pacing.wait(draft, call.method, now):
                return self._start(draft, call, now)
            self._sender.leave_reaction(draft.delivery)
            call = None
        self._settle(draft, Outcome.LEFT if call else Outcome.DELIVERED)
        return _IDLE_SECONDS

    def _bid_farewell(self, draft: Draft, now: float) -> float:
        """Say on a reply that it goes on later, where that costs no waiting; settle it."""
        if self._pacing.last_wait(draft, Method.UPDATE, now) <= 0.0:
            farewell = draft.farewell()
            if farewell is not None:
                return self._start(draft, farewell, now)
        self._settle(draft, Outcome.LEFT)
        return _IDLE_SECONDS

    def _write(self, draft: Draft, now: float) -> float:
        call = draft.next_call()
        if call is not None:
            return self._start_when_allowed(draft, call, now)
        if draft.rendering.is_closed:
            self._settle(draft, Outcome.DELIVERED)
        elif draft.parts:
            self._metrics.count(EDITS, attributes={"result": "unchanged"})
        return _IDLE_SECONDS

    def _wait(self, draft: Draft, now: float) -> float:
        """Return the seconds until it is worth rendering this draft."""
        wait = max(0.0, draft.not_before - now)
        if draft.is_closed:
            return wait
        if draft.is_deferred:
            if draft.has_news or draft.rendering.has_text:
                self._pacing.show_if_room(draft, now)
            return wait
        method = draft.likely_method()
        if draft.parts and not draft.has_news and method in (Method.UPDATE, Method.POST):
            return _IDLE_SECONDS
        if method is not Method.UPDATE:
            return wait
        wait = max(wait, draft.next_edit_at - now)
        return wait if wait > 0.0 else self._budget_wait(draft, method, now)

    def _budget_wait(self, draft: Draft, method: Method, now: float) -> float:
        wait = self._pacing.wait(draft, method, now)
        draft.is_held = wait > 0.0
        return wait

    def _start_when_allowed(self, draft: Draft, call: Call, now: float) -> float:
        wait = 0.0 if call.method is None else self._budget_wait(draft, call.method, now)
        if wait > 0.0 and call.method is Method.UPDATE and draft.is_closed:
            wait, method = self._pacing.final_wait(draft, call, now)
            if method is Method.POST:
                call = Call(Method.POST, call.part, call.message, call.ts)
        return wait if wait > 0.0 else self._start(draft, call, now)

    def _start(self, draft: Draft, call: Call, now: float) -> float:
        self._has_called = True
        spare = self._pacing.take(draft, call, now)
        draft.started(call)
        self._senders.submit(self._send, draft, call, spare)
        return _IDLE_SECONDS

    def _send(self, draft: Draft, call: Call, spare: float) -> None:
        """Make the call, if the other instances leave room for it; runs on a sender's thread."""
        result: object = None
        grant = Grant()
        try:
            grant = self._ask_others(draft, call, spare)
            if not grant.wait:
                with telemetry_spans.active(draft.span):
                    result = self._sender.make(draft.delivery, call, is_plain=draft.is_plain)
        except RateLimited as error:
            result = error
            self._tell_others(call, error)
        except Exception as error:  # noqa: BLE001 - the top of a thread; the editor decides
            result = error
        self._news.put(_Done(draft, call, result, grant))

    def _ask_others(self, draft: Draft, call: Call, spare: float) -> Grant:
        if self._shared is None or call.method is None:
            return Grant()
        return self._shared.take(call.method, draft.delivery.question.channel, spare=spare)

    def _tell_others(self, call: Call, error: RateLimited) -> None:
        if self._shared is not None and call.method is not None:
            self._shared.refused(call.method, retry_after=error.retry_after or 0.0)

    def _settle(self, draft: Draft, outcome: Outcome) -> None:
        self._pacing.forget(draft)
        self.wake()  # Those that the budget holds up may have to wait less.
        draft.timeline.settled = self._clock()
        draft.settled.set_result(outcome)
