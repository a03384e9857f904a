"""Puts right what an instance wrote into Slack after its lease had ended, or could not tidy up.

An instance looks at its lease before each call, and may be paused between the look and the call:
for the blink of an eye, or for minutes. So whoever finds that a call of its ended after its lease
did notes the message, and once the question is settled the message is put right: deleted where
it is too many, and shown anew, by the instance that still knows its last text, where it is part
of the reply. A reaction to the question is taken away; one whose turn did not come before a stop
is noted, too.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from chatrelaybot.budget import Method
from chatrelaybot.draft import Draft
from chatrelaybot.errors import PermanentError, RateLimited, TransientError
from chatrelaybot.fleet import Fleet, Stray
from chatrelaybot.render import Message
from chatrelaybot.shared_budget import Grant, SharedBudget
from chatrelaybot.slack import Slack

_log = logging.getLogger(__name__)

#: How long the last text of a reply that was taken over is kept in memory; seconds.
_KEEP_SECONDS = 900.0
#: Of so many replies at most.
_MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Keepsake:
    """The last text of a reply."""

    messages: dict[str, Message]  #: by `ts`
    is_plain: bool
    until: float


class _NotYet(TransientError):
    """Other calls have used up the budget."""


class Strays:
    """`note` and `keep` may be called from any thread; one thread calls `step` over and over."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        shared: SharedBudget | None,
        slack: Slack,
        reaction: str,
        clock: Callable[[], float],
    ) -> None:
        """`reaction` is the one that questions may have from us."""
        self._fleet = fleet
        self._shared = shared
        self._reaction = reaction
        self._slack = slack
        self._clock = clock
        self._noted: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._settled: SimpleQueue[tuple[str, _Keepsake]] = SimpleQueue()
        # For `step` alone.
        self._kept: OrderedDict[str, _Keepsake] = OrderedDict()
        self._not_before = clock()  # Slack wants to be left alone until then.

    def note(self, question_id: str, ts: str) -> None:
        """Note a message that we wrote into after our lease may have ended."""
        self._noted.put((question_id, ts))

    def keep(self, draft: Draft) -> None:
        """Keep the last text of a settled reply, which an earlier holder may still write into."""
        messages = {part.ts: part.shown for part in draft.parts if part.ts and part.shown}
        keepsake = _Keepsake(messages, draft.is_plain, self._clock() + _KEEP_SECONDS)
        self._settled.put((draft.delivery.question.id, keepsake))

    def step(self) -> None:
        """Tell the others of our strays, and put right those that we can."""
        self.tell()
        self._take_in()
        if self._clock() < self._not_before:
            return
        try:
            for stray in self._fleet.strays():
                if self._is_right(stray):
                    self._fleet.forget_stray(stray)
        except _NotYet as error:
            self._not_before = self._clock() + (error.retry_after or 0.0)
        except TransientError as error:
            self._not_before = self._clock() + (error.retry_after or 0.0)
            _log.warning("strays not put right yet", extra={"error": str(error)})

    def tell(self) -> None:
        """Write down what was noted here, for whoever will put it right."""
        with suppress(Empty):
            while True:
                noted = self._noted.get_nowait()
                try:
                    self._fleet.note_stray(*noted)
                except TransientError as error:
                    self._noted.put(noted)
                    _log.warning("stray not noted yet", extra={"error": str(error)})
                    return
                _log.info("stray noted", extra={"question": noted[0]})

    def _take_in(self) -> None:
        with suppress(Empty):
            while True:
                question_id, keepsake = self._settled.get_nowait()
                self._kept[question_id] = keepsake
        now = self._clock()
        while self._kept:
            first = next(iter(self._kept.values()))
            if len(self._kept) <= _MOST_KEPT and now < first.until:
                break
            self._kept.popitem(last=False)

    def _is_right(self, stray: Stray) -> bool:
        """Put a stray right if it is ours to do; say whether there is no more to be done."""
        if stray.channel is None:
            return True
        if not stray.is_settled:
            return False  # Whoever is answering the question writes over it, or is done soon.
        channel, ts = stray.channel, stray.ts
        if stray.is_question:
            unreact = partial(self._slack.unreact, channel, ts, self._reaction)
            return self._call(Method.UNREACT, unreact, stray)
        if not stray.is_part:
            return self._call(Method.DELETE, partial(self._slack.delete, channel, ts), stray)
        keepsake = self._kept.get(stray.question_id)
        message = keepsake.messages.get(ts) if keepsake else None
        if keepsake and message and stray.owner == self._fleet.owner:
            show = partial(self._slack.update, channel, ts, message, as_plain=keepsake.is_plain)
            return self._call(Method.UPDATE, show, stray)
        if stray.age > _KEEP_SECONDS:
            _log.error("a reply may show an old text", extra={"question": stray.question_id})
            return True
        return False

    def _call(self, method: Method, call: Callable[[], None], stray: Stray) -> bool:
        """Make a call if the other instances leave room; return True: there is no more to be done.

        What Slack will never do is for the operator, and no reason to try again.
        """
        channel = stray.channel or ""
        grant = self._shared.take(method, channel, spare=0.0) if self._shared else Grant()
        if grant.wait > 0.0:
            raise _NotYet(retry_after=grant.wait)
        try:
            call()
        except RateLimited as error:
            if self._shared is not None:
                self._shared.refused(method, retry_after=error.retry_after or 0.0)
            raise
        except PermanentError as error:
            fields = {"question": stray.question_id, "error": str(error)}
            _log.error("stray not put right", extra=fields)
        return True
