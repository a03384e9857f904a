"""The owner of every write to a reply.

The relay hands text to drafts; one thread decides which reply is written next under the rate
budget (finals first, then first texts, then the reply that has waited longest), and a pool of
senders makes the calls. The budget and the inner state of every draft belong to the deciding
thread; all that happens elsewhere reaches it through one queue, so there is no lock here.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.conclusion import Conclusions
from chatrelaybot.draft import Call, Draft, Outcome
from chatrelaybot.inbox import Delivery
from chatrelaybot.render import Message
from chatrelaybot.sender import Sender

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
    ) -> None:
        self._sender = sender
        self._senders = senders
        self._budget = budget
        self._habits = habits
        self._clock = clock
        self._news: queue.SimpleQueue[Draft | _Done | None] = queue.SimpleQueue()
        self._conclusions = Conclusions(budget=budget)
        self._drafts: dict[int, Draft] = {}
        self._due_in = _IDLE_SECONDS
        # Reckoned at each step:
        self._room = 0.0  #: how many more replies can be on show and get their last edit in time
        self._owed_edits = 0  #: replies on show, each of which has its last edit still to come
        self._finals_ahead = 0  #: last edits that wait before the one that is looked at

    def open(self, delivery: Delivery) -> Draft:
        """Begin a reply; its placeholder is on its way without a further word."""
        draft = Draft(
            delivery=delivery,
            placeholder=self._habits.placeholder,
            now=self._clock(),
            announce=self._news.put,
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
        drafts = sorted(self._drafts.values(), key=lambda draft: draft.urgency)
        self._due_in = _IDLE_SECONDS
        edits = self._budget[Method.UPDATE].calls_within(self._habits.overflow_seconds, now)
        self._room = edits - sum(not draft.is_deferred for draft in drafts)
        self._owed_edits = sum(draft.owes_edit for draft in drafts)
        self._finals_ahead = 0
        for draft in drafts:
            self._due_in = min(self._due_in, self._advance(draft, now))

    def let_go(self) -> None:
        """Let go of every draft; in place of `step` once that has failed."""
        for draft in list(self._drafts.values()):
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
            outcome = self._conclusions.draw(news.draft, news.call, news.result, now)
            if outcome is not None:
                self._settle(news.draft, outcome)
        elif news is not None and not news.settled.done():
            if id(news) not in self._drafts:
                self._admit(news)
            news.notice(now)

    def _admit(self, draft: Draft) -> None:
        draft.wants_reaction = self._habits.has_reaction and not draft.has_reaction
        draft.is_deferred = not draft.parts  # Until there is room for it: most often at once.
        self._drafts[id(draft)] = draft

    # What is due. Each of these returns the seconds until there is something to do.

    def _advance(self, draft: Draft, now: float) -> float:
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
        call = draft.next_call()
        is_complete = draft.rendering.is_closed
        if is_complete and call is not None and call.method is Method.UNREACT:
            # The last chance for it, but no reason to ask the question again.
            if not draft.failure_count and not self._budget_wait(draft, call.method, now):
                return self._start(draft, call, now)
            call = None
        self._settle(draft, Outcome.DELIVERED if is_complete and not call else Outcome.LEFT)
        return _IDLE_SECONDS

    def _write(self, draft: Draft, now: float) -> float:
        call = draft.next_call()
        if call is not None:
            return self._start_when_allowed(draft, call, now)
        if draft.rendering.is_closed:
            self._settle(draft, Outcome.DELIVERED)
        return _IDLE_SECONDS

    def _wait(self, draft: Draft, now: float) -> float:
        """Return the seconds until it is worth rendering this draft."""
        wait = max(0.0, draft.not_before - now)
        if draft.is_closed:
            return wait
        if draft.is_deferred:
            has_text = draft.has_news or draft.rendering.has_text
            if has_text and self._room >= 1.0:
                draft.is_deferred = False
                self._room -= 1.0
            return wait
        method = draft.likely_method()
        if draft.parts and not draft.has_news and method in (Method.UPDATE, Method.POST):
            return _IDLE_SECONDS
        if method is not Method.UPDATE:
            return wait
        return max(wait, draft.next_edit_at - now, self._budget_wait(draft, Method.UPDATE, now))

    def _budget_wait(self, draft: Draft, method: Method, now: float) -> float:
        # Edits of running answers leave room for the last edit of every reply on show.
        spare = 0 if draft.is_closed or method is not Method.UPDATE else self._owed_edits
        return self._budget.wait(method, draft.delivery.question.channel, now, spare=spare)

    def _start_when_allowed(self, draft: Draft, call: Call, now: float) -> float:
        if call.method is None:
            return self._start(draft, call, now)
        wait = self._budget_wait(draft, call.method, now)
        if wait > 0.0 and call.method is Method.UPDATE and draft.is_closed:
            return self._overflow(draft, call, now)
        return wait if wait > 0.0 else self._start(draft, call, now)

    def _overflow(self, draft: Draft, call: Call, now: float) -> float:
        """Post a final for whose edit the budget would keep its reader waiting for too long."""
        self._finals_ahead += 1
        edit_wait = self._budget[Method.UPDATE].wait(now, calls=self._finals_ahead)
        waited = now - (draft.timeline.closed or now)
        is_last = call.part == len(draft.parts) - 1
        if not is_last or waited + edit_wait <= self._habits.overflow_seconds:
            return edit_wait
        post_wait = self._budget_wait(draft, Method.POST, now)
        if post_wait > 0.0:
            return min(edit_wait, post_wait)
        self._finals_ahead -= 1
        replacing = Call(Method.POST, call.part, call.message, call.ts)
        return self._start(draft, replacing, now)

    def _start(self, draft: Draft, call: Call, now: float) -> float:
        if call.method is not None:
            self._budget.take(call.method, draft.delivery.question.channel, now)
        if call.method is Method.UPDATE:
            draft.next_edit_at = now + self._habits.edit_seconds
        draft.started(call)
        self._senders.submit(self._send, draft, call)
        return _IDLE_SECONDS

    def _send(self, draft: Draft, call: Call) -> None:
        """Make the call; runs on a sender's thread."""
        try:
            result: object = self._sender.make(draft.delivery, call, is_plain=draft.is_plain)
        except Exception as error:  # noqa: BLE001 - the top of a thread; the editor decides
            result = error
        self._news.put(_Done(draft, call, result))

    def _settle(self, draft: Draft, outcome: Outcome) -> None:
        del self._drafts[id(draft)]
        draft.timeline.settled = self._clock()
        draft.settled.set_result(outcome)
