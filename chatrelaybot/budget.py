"""Rate-budget arithmetic for Slack's methods. Pure: `now` is always an argument.

Slack counts per method and workspace, posting per channel as well, and keeps its bursts secret:
https://docs.slack.dev/apis/web-api/rate-limits
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Calls that may be made at once after a pause, as a share of a minute's allowance. Slack only
#: says that bursts are tolerated; a refusal teaches the rest.
_BURST_SHARE = 0.4
#: A refusal takes this share of the rate; it is won back over a minute of unrefused calls.
_RATE_AFTER_REFUSAL = 0.7
_RECOVERY_SECONDS = 60.0
#: However often Slack refuses, we keep asking at this share of the full rate.
_LEAST_RATE_SHARE = 0.1
#: Tier 3, "50+ per minute", for the methods that no setting names.
_TIER_3_PER_MINUTE = 50.0
#: "1 message per second per channel"; the excess is room for calls that overtake each other.
_CHANNEL_PER_MINUTE = 60.0 / 1.05
#: So many channels are remembered without a look at whether they rest.
_FEW_CHANNELS = 64


class Method(enum.Enum):
    """A Web API method with a budget of its own."""

    POST = "chat.postMessage"
    UPDATE = "chat.update"
    DELETE = "chat.delete"
    REACT = "reactions.add"
    UNREACT = "reactions.remove"
    LOOK_UP = "conversations.replies"


@dataclass(frozen=True, slots=True)
class Bucket:
    """The state of a budget, by the clock of whoever keeps it; the rate is calls a second."""

    tokens: float
    rate: float
    refilled_at: float
    blocked_until: float


class RateBudget:
    """A token bucket whose rate falls on a refusal and slowly rises again, never above its start.

    Slack counts a call when it arrives, somewhere between `take` and `returned`. A full bucket of
    Slack's refills from then on only, and so does ours: what is under way keeps its place. So
    calls that overtake each other on their way do not make Slack refuse the last of them.

    Not thread-safe: it has one owner.
    """

    def __init__(self, *, per_minute: float, now: float, burst: float | None = None) -> None:
        """`burst` is the number of calls that may go at once; None: a share of `per_minute`."""
        self._full_burst = max(1.0, per_minute * _BURST_SHARE if burst is None else burst)
        self._share = 1.0
        self._full_rate = per_minute / 60.0
        self._rate = self._full_rate
        self._tokens = self._full_burst
        self._under_way = 0
        self._refilled_at = now
        self._blocked_until = now

    def __repr__(self) -> str:
        return f"RateBudget({self._tokens:.1f}/{self.burst:.0f}, {self.per_minute:.0f}/min)"

    @property
    def burst(self) -> float:
        """How many calls may go at once."""
        return max(1.0, self._full_burst * self._share)

    @property
    def per_minute(self) -> float:
        """The rate that refusals and successes have taught."""
        return self._pace * 60.0

    @property
    def bucket(self) -> Bucket:
        """The state."""
        return Bucket(self._tokens, self._rate, self._refilled_at, self._blocked_until)

    def restore(self, bucket: Bucket) -> None:
        """Take on a state, kept by the same clock."""
        self._tokens, self._rate = bucket.tokens, bucket.rate
        self._refilled_at, self._blocked_until = bucket.refilled_at, bucket.blocked_until

    def adopt(self, bucket: Bucket, now: float) -> None:
        """Learn from a shared budget that was looked at just now what others have taken of it."""
        self._refill(now)
        self._share = 1.0
        self._tokens, self._rate = min(self._tokens, bucket.tokens), bucket.rate
        blocked_until = now + bucket.blocked_until - bucket.refilled_at
        self._blocked_until = max(self._blocked_until, blocked_until)

    def share(self, part: float, now: float) -> None:
        """Keep to a part of the budget; the rest is for others, who cannot be asked."""
        self._refill(now)
        self._share = part
        self._tokens = min(self._tokens, self.burst)

    def give_back(self) -> None:
        """Take back what a call took that was not made."""
        self._tokens += 1.0

    def saved(self, now: float, *, spare: float = 0.0) -> float:
        """Return how many calls are there beside `spare` ones, as far as the bucket holds them."""
        self._refill(now)
        return self._tokens - min(spare, self.burst - 1.0)

    def left(self, now: float) -> float:
        """Return how many calls may be made at once; below 0: owed."""
        self._refill(now)
        return min(0.0, self._tokens) if now < self._blocked_until else self._tokens

    def wait(
        self, now: float, *, calls: float = 1.0, spare: float = 0.0, rest: float = 0.0
    ) -> float:
        """Return the seconds until `calls` more calls may have been made; 0.0 is now.

        `spare` calls are left in the bucket for others, as far as it can hold them. After a `rest`
        of so many seconds, in which nothing is called, it counts from its end.
        """
        self._refill(now)
        tokens = min(self.burst, self._tokens + rest * self._pace) if rest else self._tokens
        needed = calls + min(spare, self.burst - 1.0)
        start = max(0.0, self._blocked_until - now - rest)
        # What refills while we are blocked counts as well.
        return max(start, (needed - tokens) / self._pace)

    def take(self, now: float) -> None:
        """Count one call, which is under way until it has `returned`."""
        self._refill(now)
        self._tokens -= 1.0
        self._under_way += 1

    def returned(self, now: float) -> None:
        """Note that a call is over, whatever came of it."""
        self._refill(now)
        self._under_way -= 1

    def refused(self, now: float, *, retry_after: float) -> None:
        """Obey a Retry-After (seconds) to the letter, and go slower from then on."""
        self._refill(now)
        if now >= self._blocked_until:  # Refusals of calls that were under way together are one.
            self._rate = max(self._rate * _RATE_AFTER_REFUSAL, self._full_rate * _LEAST_RATE_SHARE)
        self._tokens = min(self._tokens, 0.0)
        self._blocked_until = max(self._blocked_until, now + retry_after)

    @property
    def _pace(self) -> float:
        return self._rate * self._share

    def _refill(self, now: float) -> None:
        passed = now - self._refilled_at
        if passed <= 0.0:
            return
        self._refilled_at = now
        self._tokens = min(self.burst - self._under_way, self._tokens + passed * self._pace)
        if self._rate < self._full_rate and now > self._blocked_until:
            unblocked = min(passed, now - self._blocked_until)
            gain = self._full_rate * (1.0 - _RATE_AFTER_REFUSAL) * unblocked / _RECOVERY_SECONDS
            self._rate = min(self._full_rate, self._rate + gain)


class WorkspaceBudget:
    """The budgets of one workspace: one a method, and for posting one a channel."""

    def __init__(self, *, edits_per_minute: float, posts_per_minute: float, now: float) -> None:
        self._rates = {Method.UPDATE: edits_per_minute, Method.POST: posts_per_minute}
        self._methods = {method: self.full(method, now) for method in Method}
        self._channels: dict[str, RateBudget] = {}
        self._most_channels = _FEW_CHANNELS

    def __getitem__(self, method: Method) -> RateBudget:
        return self._methods[method]

    def wait(
        self,
        method: Method,
        channel: str,
        now: float,
        *,
        ahead: int = 0,
        ahead_in_channel: int = 0,
        rest: float = 0.0,
    ) -> float:
        """Return the seconds until a call of `method` may be made in `channel`.

        `ahead` others go before it, of which `ahead_in_channel` in the same channel. After a
        `rest` of so many seconds it counts from its end.
        """
        wait = self._methods[method].wait(now, calls=ahead + 1, rest=rest)
        if method is not Method.POST:
            return wait
        here = self._channels.get(channel)
        if here is None:  # It rests: one post may be made at once.
            return max(wait, ahead_in_channel * 60.0 / _CHANNEL_PER_MINUTE)
        return max(wait, here.wait(now, calls=ahead_in_channel + 1, rest=rest))

    def take(self, method: Method, channel: str, now: float) -> None:
        """Count one call of `method` in `channel`, under way until it has `returned`."""
        self._methods[method].take(now)
        if method is Method.POST:
            here = self._channel(channel, now)
            here.take(now)
            here.returned(now)  # The excess in its rate is room enough.

    def returned(self, method: Method, now: float) -> None:
        """Note that a call of `method` is over."""
        self._methods[method].returned(now)

    def refused(self, method: Method, now: float, *, retry_after: float) -> None:
        """Obey a refusal; Slack's Retry-After holds for the method in the whole workspace."""
        self._methods[method].refused(now, retry_after=retry_after)

    @property
    def buckets(self) -> Mapping[Method, Bucket]:
        """How the methods' budgets stand."""
        return {method: budget.bucket for method, budget in self._methods.items()}

    def full(self, method: Method, now: float) -> RateBudget:
        """Return a budget for a method that nothing was taken of yet."""
        return RateBudget(per_minute=self._rates.get(method, _TIER_3_PER_MINUTE), now=now)

    def full_channel(self, now: float) -> RateBudget:
        """Return one for posting in a channel."""
        return RateBudget(per_minute=_CHANNEL_PER_MINUTE, now=now, burst=1.0)

    def adopt(self, method: Method, channel: str, buckets: Sequence[Bucket], now: float) -> None:
        """Learn from the shared budgets of a method and, for posting, of the channel."""
        self._methods[method].adopt(buckets[0], now)
        for bucket in buckets[1:]:
            self._channel(channel, now).adopt(bucket, now)

    def share(self, part: float, now: float) -> None:
        """Keep to a part of every method's budget, as in `RateBudget.share`."""
        for budget in self._methods.values():
            budget.share(part, now)

    def give_back(self, method: Method, channel: str, now: float) -> None:
        """Take back what a call took that was not made."""
        self._methods[method].give_back()
        if method is Method.POST:
            self._channel(channel, now).give_back()

    def _channel(self, channel: str, now: float) -> RateBudget:
        if channel not in self._channels:
            if len(self._channels) >= self._most_channels:
                self._forget_resting(now)
            self._channels[channel] = self.full_channel(now)
        return self._channels[channel]

    def _forget_resting(self, now: float) -> None:
        # A full bucket is the same as none.
        self._channels = {
            name: budget for name, budget in self._channels.items() if budget.wait(now) > 0.0
        }
        # Looked through again when there are twice as many: a crowd comes from a hundred at once.
        self._most_channels = max(_FEW_CHANNELS, 2 * len(self._channels))
