"""Which calls the rate budget allows, in view of all replies that are being written.

Two budgets can show last words: edits, for replies that are on show, and posts, for any. So a new
reply is put on show only if its last words will not come later by an edit than in a post of the
whole; until then it is deferred. And last words for whose edit the budget keeps their reader
waiting are posted in place of what is on show. What is saved of the edits beside those that the
replies on show will need goes to answers that still run.
"""

from __future__ import annotations

from collections import Counter

from chatrelaybot.budget import Method, WorkspaceBudget
from chatrelaybot.draft import Call, Draft, Urgency
from chatrelaybot.shared_budget import Grant
from chatrelaybot.spread import Spread

#: A final is posted in place of an edit if that brings it forward by this much; seconds.
_WORTH_SECONDS = 0.5


class Pacing:
    """Decides what may be called when; belongs to the editor's thread."""

    def __init__(
        self, *, budget: WorkspaceBudget, edit_seconds: float, overflow_seconds: float
    ) -> None:
        self._budget = budget
        self._edit_seconds = edit_seconds
        self._overflow_seconds = overflow_seconds
        self._spread = Spread()
        self._drafts: dict[int, Draft] = {}
        #: Replies that can only be posted, and how many of them there are in each channel.
        self._queued: set[int] = set()
        self._queued_in: Counter[str] = Counter()
        #: Replies on show, or about to be: each has its last edit still to come.
        self._owing: set[int] = set()
        self._finals_ahead = 0  #: last edits that wait before the one that is looked at

    @property
    def drafts(self) -> dict[int, Draft]:
        """All that are being written."""
        return self._drafts

    def admit(self, draft: Draft) -> None:
        """Take in a reply. What has nothing on show is deferred, most often for this step only."""
        draft.is_deferred = not draft.parts
        self._drafts[id(draft)] = draft
        self.reckon(draft)

    def forget(self, draft: Draft) -> None:
        """Let go of a reply that is settled."""
        del self._drafts[id(draft)]
        self._owing.discard(id(draft))
        self._queue(draft, is_queued=False)
        line = draft.timeline
        if line.closed is not None and line.first_news is not None:
            self._spread.ended(line.closed - line.first_news)

    def reckon(self, draft: Draft) -> None:
        """Note whether a reply still needs its last edit, or the post that shows it."""
        (self._owing.add if draft.owes_edit else self._owing.discard)(id(draft))
        self._queue(draft, is_queued=draft.awaits_post)

    def begin_step(self) -> None:
        """Forget what waits before whom."""
        self._finals_ahead = 0

    def take(self, draft: Draft, call: Call, now: float) -> float:
        """Count a call that begins; return how many calls it has to leave for others."""
        if call.method is None:
            return 0.0
        self._budget.take(call.method, draft.delivery.question.channel, now)
        if call.method is not Method.UPDATE or draft.is_closed or draft.is_leaving:
            return 0.0
        draft.next_edit_at = now + self._edit_seconds
        self._spread.took(now)
        return len(self._owing)

    def returned(self, draft: Draft, call: Call, grant: Grant, now: float) -> None:
        """Note that a call is over, or was not made, and how the shared budget stands."""
        if call.method is None:
            return
        channel = draft.delivery.question.channel
        self._budget.returned(call.method, now)
        if grant.wait > 0.0:
            self._budget.give_back(call.method, channel, now)
        if grant.buckets:
            self._budget.adopt(call.method, channel, grant.buckets, now)
        elif grant.part < 1.0:
            self._budget.share(grant.part, now)

    def show_if_room(self, draft: Draft, now: float) -> None:
        """End the deferring of a reply whose last words an edit will show no later than a post."""
        if self._has_room(draft, now):
            draft.is_deferred = False
            self.reckon(draft)

    def wait(self, draft: Draft, method: Method, now: float) -> float:
        """Return the seconds until the budget allows this call; 0.0 is now."""
        if method is Method.UPDATE and not draft.is_closed:
            return self._edit_wait(draft, now)
        return self.last_wait(draft, method, now)

    def last_wait(self, draft: Draft, method: Method, now: float) -> float:
        """Return the seconds until a call that no other reply's matters more than."""
        return self._budget.wait(method, draft.delivery.question.channel, now)

    def final_wait(self, draft: Draft, call: Call, now: float) -> tuple[float, Method]:
        """Return when last words that cannot be edited now come, in seconds, and by which call."""
        self._finals_ahead += 1
        edit_wait = self._budget[Method.UPDATE].wait(now, calls=self._finals_ahead)
        is_last_message = call.part == len(draft.parts) - 1
        if not is_last_message:
            return edit_wait, Method.UPDATE
        waited = now - (draft.timeline.closed or now)
        if waited + edit_wait > self._overflow_seconds:
            post_wait = self.wait(draft, Method.POST, now)
        else:
            # There is time for those that can only be posted to go first.
            post_wait = self._post_wait(draft, now)
            if edit_wait <= post_wait + _WORTH_SECONDS:
                return edit_wait, Method.UPDATE
        if post_wait > 0.0:
            return min(edit_wait, post_wait), Method.UPDATE
        self._finals_ahead -= 1
        return 0.0, Method.POST

    def _has_room(self, draft: Draft, now: float) -> bool:
        # Until it ends the budgets recover; edits beside those owed are not made meanwhile.
        age = now - draft.timeline.opened
        rest = max(0.0, self._spread.seconds_to_come - age)
        wait = self._budget[Method.UPDATE].wait(now, calls=len(self._owing) + 1, rest=rest)
        if wait <= 0.0:
            return True
        if wait > min(self._overflow_seconds, self._post_wait(draft, now, rest=rest)):
            return False
        # The longest queue decides when the last of a crowd is done.
        channel = draft.delivery.question.channel
        return self._queued_in[channel] == max(self._queued_in.values(), default=0)

    def _post_wait(self, draft: Draft, now: float, *, rest: float = 0.0) -> float:
        """Return the seconds until a post of this reply, after those that can only be posted."""
        channel = draft.delivery.question.channel
        itself = int(id(draft) in self._queued)
        return self._budget.wait(
            Method.POST,
            channel,
            now,
            ahead=len(self._queued) - itself,
            ahead_in_channel=self._queued_in[channel] - itself,
            rest=rest,
        )

    def _queue(self, draft: Draft, *, is_queued: bool) -> None:
        if is_queued == (id(draft) in self._queued):
            return
        channel = draft.delivery.question.channel
        if is_queued:
            self._queued.add(id(draft))
            self._queued_in[channel] += 1
            return
        self._queued.discard(id(draft))
        self._queued_in[channel] -= 1
        if not self._queued_in[channel]:
            del self._queued_in[channel]

    def _edit_wait(self, draft: Draft, now: float) -> float:
        """Return the seconds until an edit of an answer that still runs."""
        edits, owed = self._budget[Method.UPDATE], len(self._owing)
        wait = edits.wait(now, spare=owed)
        if wait > 0.0 or draft.urgency[0] is Urgency.FIRST_TEXT:
            return wait
        return self._spread.wait(
            now,
            rate=edits.per_minute / 60.0,
            saved=edits.saved(now, spare=owed),
            wanted=owed / self._edit_seconds,
        )
