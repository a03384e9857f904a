"""What the result of a Slack call means for its reply and for the budget."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.draft import Call, Draft, Outcome, SentPart
from chatrelaybot.errors import (
    BlocksRefused,
    ConfigurationError,
    LeaseLost,
    LeaseOverdue,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
    Undeliverable,
)
from chatrelaybot.sender import Posted
from chatrelaybot.telemetry_metrics import EDITS, RETRY_AFTER, SILENT, Metrics

if TYPE_CHECKING:
    from chatrelaybot.slack import FoundPart

_log = logging.getLogger(__name__)

#: A failed call is made again after this · 2ⁿ, with jitter; seconds.
_RETRY_SECONDS = 0.5
_MOST_RETRY_SECONDS = 15.0
#: Wait obeyed where Slack refused without saying for how long; seconds.
_RETRY_AFTER_SECONDS = 5.0
#: A post may still be on its way when we lose sight of it; seconds until it is looked up.
_LOOK_UP_SECONDS = 1.0
#: Failures of a kind that nobody expects are not repeated for ever.
_MOST_SURPRISES = 5
#: How often it is looked whether an overdue lease is extended; seconds.
_OVERDUE_SECONDS = 0.5

_DECORATION = frozenset({Method.REACT, Method.UNREACT})


class Conclusions:
    """Draws conclusions on the editor's thread."""

    def __init__(self, *, budget: WorkspaceBudget, metrics: Metrics = SILENT) -> None:
        self._budget = budget
        self._metrics = metrics

    def draw(self, draft: Draft, call: Call, result: object, now: float) -> Outcome | None:
        """Take in how a call ended; return how the reply ends with it, None: it goes on.

        Raises:
            ConfigurationError: Slack does not accept our token any more.
        """
        draft.concluded()
        if isinstance(result, Exception):
            return self._failed(draft, call, result, now)
        draft.failure_count = 0
        match call.method:
            case None:
                draft.parts[call.part].is_recorded = True
            case Method.POST:
                assert isinstance(result, Posted)  # noqa: S101 - what the sender returns
                _posted(draft, call, result, now)
                draft.was_shown()
            case Method.UPDATE:
                draft.edit_count += 1
                self._count_edit("sent")
                self._count_edit("coalesced", max(0, draft.was_shown() - 1))
                _shows(draft, call, now)
            case Method.DELETE:
                _deleted(draft, call)
            case Method.LOOK_UP:
                assert isinstance(result, list)  # noqa: S101 - what the sender returns
                _looked_up(draft, result, now)
            case Method.REACT | Method.UNREACT:
                draft.wants_reaction = False
                draft.has_reaction = call.method is Method.REACT
        return None

    def _failed(self, draft: Draft, call: Call, error: Exception, now: float) -> Outcome | None:
        if isinstance(error, ConfigurationError):
            raise error
        if isinstance(error, LeaseLost):
            return Outcome.LEFT
        # Whatever the call was to show or to tidy is still to be done.
        draft.has_news = True
        if call.method is Method.UPDATE and not isinstance(error, LeaseOverdue):
            self._count_edit("rate_limited" if isinstance(error, RateLimited) else "failed")
        if isinstance(error, LeaseOverdue):
            draft.not_before = now + _OVERDUE_SECONDS
        elif isinstance(error, RateLimited):
            self._refused(draft, call, error, now)
        elif call.method in _DECORATION and not _may_repeat(draft, call, error):
            _undecorated(draft, call, error)
        elif isinstance(error, TransientError):
            _try_again(draft, call, error, now)
        else:
            return _given_up(draft, call, error, now)
        return None

    def _count_edit(self, result: str, count: int = 1) -> None:
        self._metrics.count(EDITS, count, {"result": result})

    def _refused(self, draft: Draft, call: Call, error: RateLimited, now: float) -> None:
        assert call.method is not None  # noqa: S101 - only Slack refuses
        wait = _RETRY_AFTER_SECONDS if error.retry_after is None else error.retry_after
        self._budget.refused(call.method, now, retry_after=wait)
        self._metrics.count(RETRY_AFTER, wait, {"method": call.method.value})
        draft.has_reaction = draft.has_reaction or call.method is Method.REACT
        _log.warning(
            "refused by rate limit",
            extra={**_fields(draft, call), "retry_after_seconds": wait},
        )


def _posted(draft: Draft, call: Call, posted: Posted, now: float) -> None:
    part = SentPart(ts=posted.ts, stale_ts=call.ts, is_recorded=posted.is_recorded)
    draft.parts[call.part :] = [part]
    _shows(draft, call, now)


def _shows(draft: Draft, call: Call, now: float) -> None:
    draft.parts[call.part].shown = call.message
    if draft.is_placeholder(call.message):
        draft.timeline.placeholder = now
    elif draft.timeline.first_text is None:
        draft.timeline.first_text = now


def _deleted(draft: Draft, call: Call) -> None:
    if any(call.ts == ts for _, ts in draft.surplus):
        draft.surplus = [(part, ts) for part, ts in draft.surplus if ts != call.ts]
    elif draft.parts[call.part].ts == call.ts:
        del draft.parts[call.part]
    else:
        draft.parts[call.part].stale_ts = None


def _looked_up(draft: Draft, found: Sequence[FoundPart], now: float) -> None:
    """Settle what became of posts that nobody saw the outcome of."""
    draft.is_unverified = False
    for index, part in enumerate(draft.parts):
        if part.ts is not None:
            continue
        posted = [post.ts for post in found if post.part == index and post.ts != part.stale_ts]
        if posted:
            part.ts, part.is_recorded = posted[-1], False
        elif now < part.unsure_until:
            draft.not_before = part.unsure_until
        else:
            part.ts, part.stale_ts = part.stale_ts, None
            # Not where we sent it: whoever did may only be paused, and Slack may have been slow.
            draft.is_unverified = bool(part.unsure_until)
    while draft.parts and draft.parts[-1].ts is None and now >= draft.parts[-1].unsure_until:
        draft.parts.pop()
    known = {ts for part in draft.parts for ts in (part.ts, part.stale_ts)}
    draft.surplus = [(post.part, post.ts) for post in found if post.ts not in known]


def _may_repeat(draft: Draft, call: Call, error: Exception) -> bool:
    """Say whether to try a reaction again: only its removal, which readers else wait for."""
    is_first = draft.failure_count < _MOST_SURPRISES
    return call.method is Method.UNREACT and isinstance(error, TransientError) and is_first


def _undecorated(draft: Draft, call: Call, error: Exception) -> None:
    """A reaction that cannot be set or taken away is no reason to hold up the reply."""
    draft.wants_reaction = False
    # One that may be there all the same is taken away in the end.
    draft.has_reaction = call.method is Method.REACT and isinstance(error, OutcomeUnknown)
    _log.warning("reaction failed", extra={**_fields(draft, call), "error": str(error)})


def _try_again(draft: Draft, call: Call, error: TransientError, now: float) -> None:
    if isinstance(error, OutcomeUnknown):
        _out_of_sight(draft, call)
    delay = min(_MOST_RETRY_SECONDS, _RETRY_SECONDS * 2.0**draft.failure_count)
    delay *= random.uniform(0.75, 1.25)
    if call.method is Method.POST and isinstance(error, OutcomeUnknown):
        delay = max(delay, _LOOK_UP_SECONDS)
    draft.failure_count += 1
    draft.not_before = now + max(delay, error.retry_after or 0.0)
    # An intermediate edit is not repeated as it was: the next one takes what is there by then.
    draft.next_edit_at = max(draft.next_edit_at, draft.not_before)
    _log.warning(
        "slack call failed",
        extra={**_fields(draft, call), "error": str(error), "retry_seconds": round(delay, 1)},
    )


def _out_of_sight(draft: Draft, call: Call) -> None:
    if call.method is Method.UPDATE:
        draft.parts[call.part].shown = None
    if call.method is Method.POST:
        draft.parts[call.part :] = [SentPart(stale_ts=call.ts)]


def _given_up(draft: Draft, call: Call, error: Exception, now: float) -> Outcome | None:
    """Conclude from an error that the same call would meet again."""
    fields = {**_fields(draft, call), "error": str(error)}
    if isinstance(error, BlocksRefused) and not draft.is_plain:
        _log.warning("blocks refused, sending plain text", extra=fields)
        draft.is_plain = True
        return None
    if not isinstance(error, PermanentError):
        return _surprised(draft, call, error, now)
    if call.method is Method.LOOK_UP and not isinstance(error, Undeliverable):
        # A second reply is a lesser evil than none.
        _log.error("reply cannot be looked up, posting it again", extra=fields)
        _looked_up(draft, (), math.inf)
        return None
    _log.error("reply undeliverable", extra=fields)
    return Outcome.UNDELIVERABLE


def _surprised(draft: Draft, call: Call, error: Exception, now: float) -> Outcome | None:
    _log.error("slack call broke", extra=_fields(draft, call), exc_info=error)
    draft.failure_count += 1
    if draft.failure_count >= _MOST_SURPRISES:
        return Outcome.UNDELIVERABLE
    _out_of_sight(draft, call)
    draft.not_before = now + _MOST_RETRY_SECONDS / _MOST_SURPRISES
    return None


def _fields(draft: Draft, call: Call) -> dict[str, object]:
    method = "inbox" if call.method is None else call.method.value
    return {"question": draft.delivery.question.id, "method": method, "part": call.part}
