"""Making the calls that the editor has decided on, and keeping the inbox informed of each post."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from chatrelaybot.budget import Method
from chatrelaybot.delivery import Delivery
from chatrelaybot.draft import REACTION, Call
from chatrelaybot.errors import LeaseLost, LeaseOverdue, PermanentError, TransientError
from chatrelaybot.inbox import Inbox
from chatrelaybot.slack import FoundPart, Slack

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Posted:
    """A message that Slack has taken."""

    ts: str
    is_recorded: bool


class Sender:
    """Makes one call at a time on the thread that asks; holds no state of its own.

    Nothing is written into Slack once our lease may have ended. What was on its way at that
    moment is noted as a stray: by then another process may have written there.
    """

    def __init__(
        self,
        *,
        slack: Slack,
        inbox: Inbox,
        reaction: str,
        note_stray: Callable[[str, str], None] | None = None,
    ) -> None:
        """`note_stray(question_id, ts)` is told of a message that may be wrong, or too many."""
        self._slack = slack
        self._inbox = inbox
        self._reaction = reaction
        self._note_stray = note_stray or (lambda _question_id, _ts: None)

    def make(
        self, delivery: Delivery, call: Call, *, is_plain: bool
    ) -> Posted | list[FoundPart] | None:
        """Make the call. Raises what the slack module and the inbox raise."""
        question = delivery.question
        match call.method:
            case None:
                self._record(delivery, call)
            case Method.POST:
                return self._post(delivery, call, is_plain=is_plain)
            case Method.UPDATE:
                self._edit(delivery, call, is_plain=is_plain)
            case Method.DELETE:
                self._delete(delivery, call)
            case Method.REACT:
                self._react(delivery)
            case Method.UNREACT:
                self._slack.unreact(question.channel, question.ts, self._reaction)
                self._inbox.forget_post(delivery, REACTION, question.ts)
            case Method.LOOK_UP:
                return self._slack.find_parts(
                    question.channel,
                    question.thread_ts,
                    question_id=question.id,
                    oldest=question.ts,
                )
        return None

    def leave_reaction(self, delivery: Delivery) -> None:
        """Leave it to later to take our reaction away."""
        self._note_stray(delivery.question.id, delivery.question.ts)

    def _react(self, delivery: Delivery) -> None:
        question = delivery.question
        self._inbox.record_post(delivery, REACTION, question.ts)
        _check(delivery)
        try:
            self._slack.react(question.channel, question.ts, self._reaction)
        finally:
            self._note_if_late(delivery, question.ts)

    def _note_if_late(self, delivery: Delivery, ts: str) -> None:
        if not delivery.lease.is_good:
            delivery.lease.was_overdue = True
            self._note_stray(delivery.question.id, ts)

    def _edit(self, delivery: Delivery, call: Call, *, is_plain: bool) -> None:
        assert call.ts  # noqa: S101 - the draft never asks otherwise
        assert call.message  # noqa: S101 - nor so
        _check(delivery)
        try:
            self._slack.update(
                delivery.question.channel,
                call.ts,
                call.message,
                as_plain=is_plain,
                is_passing=call.is_passing,
            )
        finally:
            self._note_if_late(delivery, call.ts)

    def _post(self, delivery: Delivery, call: Call, *, is_plain: bool) -> Posted:
        assert call.message  # noqa: S101 - the draft never asks otherwise
        question = delivery.question
        # Not with the lease, which would save a commit: after a crash every reply that has an
        # intent must be looked up, and of a crowd most had not come to their post.
        self._inbox.intend_post(delivery, call.part, stale_ts=call.ts)
        _check(delivery)
        ts = self._slack.post(
            question.channel,
            question.thread_ts,
            call.message,
            question_id=question.id,
            part=call.part,
            as_plain=is_plain,
        )
        try:
            self._record_post(delivery, call.part, ts, stale_ts=call.ts)
        except TransientError:
            return Posted(ts, is_recorded=False)
        return Posted(ts, is_recorded=True)

    def _record(self, delivery: Delivery, call: Call) -> None:
        assert call.ts  # noqa: S101 - the draft never asks otherwise
        self._record_post(delivery, call.part, call.ts)

    def _record_post(
        self, delivery: Delivery, part: int, ts: str, *, stale_ts: str | None = None
    ) -> None:
        try:
            self._inbox.record_post(delivery, part, ts, stale_ts=stale_ts)
        except LeaseLost:
            self._note_stray(delivery.question.id, ts)
            raise

    def _delete(self, delivery: Delivery, call: Call) -> None:
        assert call.ts  # noqa: S101 - the draft never asks otherwise
        _check(delivery)
        try:
            self._slack.delete(delivery.question.channel, call.ts)
        except PermanentError as error:
            # Nobody sees it any more, or it has to stay: either way there is no more to be done.
            _log.warning(
                "message not deleted",
                extra={"question": delivery.question.id, "error": str(error)},
            )
        self._inbox.forget_post(delivery, call.part, call.ts)


def _check(delivery: Delivery) -> None:
    """Raise LeaseOverdue where another process may have the question."""
    if not delivery.lease.is_good:
        raise LeaseOverdue
