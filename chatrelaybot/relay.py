"""One question from its lease to its last edit."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial

from chatrelaybot import wording
from chatrelaybot.backend import AnswerCancelled, Backend
from chatrelaybot.delivery import Delivery, Stop
from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.editor import Editor
from chatrelaybot.errors import (
    ChatRelayBotError,
    FailureKind,
    LeaseLost,
    PermanentError,
    TransientError,
)
from chatrelaybot.inbox import Inbox
from chatrelaybot.relay_journal import Entry, Journal
from chatrelaybot.telemetry_metrics import SILENT, Metrics
from chatrelaybot.telemetry_spans import NO_SPANS, Spans

_log = logging.getLogger(__name__)

#: A question that failed before its first text is asked this many times more.
_MOST_RETRIES = 3
#: A question that was in flight so often when this program died may be the reason for it.
_MOST_CRASHES = 15
#: The inbox is asked again after this · 2ⁿ while it cannot be reached; seconds.
_SETTLE_SECONDS = 0.5
_MOST_SETTLE_SECONDS = 15.0


class Relay:
    """Answers questions; each call of `answer` on a thread of its own."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        backend: Backend,
        editor: Editor,
        answer_max_chars: int,
        spans: Spans = NO_SPANS,
        metrics: Metrics = SILENT,
        keep: Callable[[Draft], None] | None = None,
    ) -> None:
        """`keep` is given replies that an earlier holder of the question may still write into."""
        self._inbox = inbox
        self._backend = backend
        self._editor = editor
        self._answer_max_chars = answer_max_chars
        self._keep = keep or (lambda _: None)
        self._journal = Journal(spans=spans, metrics=metrics)

    def answer(self, delivery: Delivery, stop: Future[Stop]) -> None:
        """Answer one question and settle it. `stop`, once done, gives the question back."""
        with self._journal.processing(delivery) as entry:
            self._answer(delivery, stop, entry)

    def _answer(self, delivery: Delivery, stop: Future[Stop], entry: Entry) -> None:
        draft = self._editor.open(delivery, entry.span)
        stop.add_done_callback(lambda stop: draft.leave(note=_farewell(stop.result())))
        failure: FailureKind | None = None
        again: TransientError | None = None
        try:
            failure, note = self._fill(draft, delivery)
            draft.close(note=note)
        except AnswerCancelled:
            draft.leave()
        except TransientError as error:
            again = error
            draft.leave()
        outcome = draft.settled.result()
        if outcome is Outcome.DELIVERED and (delivery.crash_count or delivery.lease.was_overdue):
            self._keep(draft)
        with entry.settling():
            conclude = partial(self._conclude, draft, failure, again)
            is_settled = self._settle(conclude, delivery, stop)
        entry.ended(draft, outcome, failure, again, is_settled=is_settled)

    def _fill(self, draft: Draft, delivery: Delivery) -> tuple[FailureKind | None, str | None]:
        """Stream the answer into the draft; return what it lacks, and the note that ends it.

        Raises:
            TransientError: Nothing has come yet, and asking again may help.
            AnswerCancelled: The draft is settled already, or being left.
        """
        if not delivery.question.text:
            return None, wording.HINT
        stream = _Stream(draft, self._answer_max_chars)
        failure = _hopeless(delivery) or self._read(stream, delivery)
        if failure is None:
            return None, None
        tell = wording.incomplete if stream.has_text else wording.no_answer
        return failure, tell(failure, reference=delivery.question.id[:8])

    def _read(self, stream: _Stream, delivery: Delivery) -> FailureKind | None:
        try:
            failure = self._stream(stream, delivery)
        except (TransientError, PermanentError) as error:
            self._journal.backend_failed(error.kind)
            _log_failed(delivery, error)
            may_retry = isinstance(error, TransientError) and delivery.attempt <= _MOST_RETRIES
            if may_retry and not stream.has_text:
                raise
            return error.kind
        except AnswerCancelled:
            raise
        except Exception:  # noqa: BLE001 - the reader gets a sentence, the log the traceback
            _log.exception("relaying broke", extra={"question": delivery.question.id})
            return FailureKind.INTERNAL
        if failure is not None:
            self._journal.backend_failed(failure)
        return failure

    def _stream(self, stream: _Stream, delivery: Delivery) -> FailureKind | None:
        with self._backend.ask(delivery.question, span=stream.draft.span) as answer:
            stream.draft.settled.add_done_callback(lambda _: answer.cancel())
            for delta in answer:
                if not stream.take(delta.text):
                    return FailureKind.TOO_LONG
            if not stream.has_text:
                return FailureKind.EMPTY
            return FailureKind.TOO_LONG if answer.is_truncated else None

    def _settle(self, verb: Callable[[], None], delivery: Delivery, stop: Future[Stop]) -> bool:
        """Tell the inbox how it ended, until it can be reached; say whether it knows."""
        fields = {"question": delivery.question.id}
        delay = _SETTLE_SECONDS
        while True:
            try:
                verb()
            except LeaseLost:
                _log.warning("lease lost", extra=fields)
                return False
            except TransientError as error:
                _log.warning("not settled yet", extra={**fields, "error": str(error)})
            else:
                return True
            if stop.done():
                return False  # Its lease runs out, or the next start takes it up.
            wait([stop], timeout=delay)
            delay = min(_MOST_SETTLE_SECONDS, delay * 2.0)

    def _conclude(
        self, draft: Draft, failure: FailureKind | None, again: TransientError | None
    ) -> None:
        delivery, outcome = draft.delivery, draft.settled.result()
        if outcome is Outcome.LEFT and again is not None:
            delay = 2.0 ** (delivery.attempt - 1) * random.uniform(0.75, 1.25)
            after = max(delay, again.retry_after or 0.0)
            self._inbox.retry(delivery, after=after, is_traceless=draft.is_traceless)
        elif outcome is Outcome.LEFT:
            self._inbox.release(delivery, is_traceless=draft.is_traceless)
        elif failure is not None:
            self._inbox.bury(delivery, reason=failure.value)
        else:
            self._inbox.finish(delivery, outcome=outcome)


class _Stream:
    """What has come of one answer."""

    def __init__(self, draft: Draft, max_chars: int) -> None:
        self.draft = draft
        self.has_text = False
        self._room = max_chars

    def take(self, text: str) -> bool:
        """Hand text to the draft; False where the answer may not grow any longer."""
        fits = len(text) <= self._room
        text = text[: self._room]
        self._room -= len(text)
        self.draft.append(text)
        self.has_text = self.has_text or not text.isspace()
        return fits


def _farewell(stop: Stop) -> str | None:
    """Return what a reply that is given back says; where another process has it, that speaks."""
    return wording.GOES_ON if stop is Stop.LEAVING else None


def _hopeless(delivery: Delivery) -> FailureKind | None:
    """Return why the backend is not even asked."""
    if delivery.is_refused:
        return FailureKind.BUSY
    if delivery.crash_count >= _MOST_CRASHES:
        _log.error("question given up", extra={"question": delivery.question.id})
        return FailureKind.INTERNAL
    return None


def _log_failed(delivery: Delivery, error: ChatRelayBotError) -> None:
    kind = getattr(error, "kind", FailureKind.INTERNAL)
    _log.warning(
        "backend failed",
        extra={
            "question": delivery.question.id,
            "attempt": delivery.attempt,
            "kind": kind.value,
            "error": str(error),
        },
    )
