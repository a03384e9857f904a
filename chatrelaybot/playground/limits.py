"""Slack's rate limits: budgets of one workspace per method, and Retry-After. `now` is an argument.

https://docs.slack.dev/apis/web-api/rate-limits/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: so many calls a minute, so many at once after a rest."""

    per_minute: float
    burst: float


#: Slack's tiers 3 and 4. How much more it takes at once is secret; 20 is a cautious guess.
_TIER_3 = Rate(50, 20)
_TIER_4 = Rate(100, 20)
_RATES: Mapping[str, Rate] = MappingProxyType(
    {
        "apps.connections.open": _TIER_3,
        "auth.test": Rate(300, 100),
        "chat.delete": _TIER_3,
        "chat.getPermalink": Rate(300, 100),
        # "several hundred messages per minute" for the workspace.
        "chat.postMessage": Rate(200, 80),
        "chat.update": _TIER_3,
        "conversations.history": _TIER_3,
        "conversations.info": _TIER_3,
        "conversations.replies": _TIER_3,
        "reactions.add": _TIER_3,
        "reactions.remove": _TIER_3,
        "users.info": _TIER_4,
    }
)
#: One message a second per channel. The half token keeps a client that paces itself at exactly
#: one second from being refused because one of its calls came up to half a second late.
_POSTS_IN_CHANNEL = Rate(60, 1.5)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the workspace lets an app do. A method without a rate is not limited."""

    by_method: Mapping[str, Rate] = field(default_factory=lambda: dict(_RATES))
    posts_in_channel: Rate | None = _POSTS_IN_CHANNEL  #: chat.postMessage, for each channel

    @classmethod
    def none(cls) -> Limits:
        """Return limits that refuse nothing."""
        return cls(by_method={}, posts_in_channel=None)

    def having(self, method: str, rate: Rate) -> Limits:
        """Return these limits with another rate for one method."""
        return replace(self, by_method={**self.by_method, method: rate})


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    tokens: float
    filled_at: float

    def fill(self, now: float) -> None:
        elapsed, self.filled_at = now - self.filled_at, now
        self.tokens = min(self.rate.burst, self.tokens + elapsed * self.rate.per_minute / 60)

    def seconds_until_token(self) -> float:
        return max(0.0, (1 - self.tokens) * 60 / self.rate.per_minute)


class RateGate:
    """Decides about each call. Guarded by the board's lock, which callers hold."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[str, _Bucket] = {}
        self._windows: dict[str, float] = {}  # key: end of its Retry-After

    def change(self, limits: Limits) -> None:
        """Put other limits in force, as if the app had rested before."""
        self._limits = limits
        self._buckets.clear()
        self._windows.clear()

    def window(self, method: str, channel: str | None, now: float) -> int | None:
        """Return the whole seconds that an earlier Retry-After goes on, None where none does."""
        ends = [self._windows.get(key, now) for key in _keys(method, channel)]
        left = max(ends) - now
        return math.ceil(left) if left > 0 else None

    def refuse(self, method: str, seconds: int, now: float) -> None:
        """Open a Retry-After window for a method."""
        self._windows[method] = now + seconds

    def admit(self, method: str, channel: str | None, now: float) -> int | None:
        """Take a token for a call; return Retry-After in whole seconds where there is none."""
        buckets: list[_Bucket] = []
        for key, rate in self._rates(method, channel):
            bucket = self._buckets.setdefault(key, _Bucket(rate, rate.burst, now))
            bucket.fill(now)
            if bucket.tokens < 1:
                retry_after = max(1, math.ceil(bucket.seconds_until_token()))
                self._windows[key] = now + retry_after
                return retry_after
            buckets.append(bucket)
        for bucket in buckets:
            bucket.tokens -= 1
        return None

    def _rates(self, method: str, channel: str | None) -> list[tuple[str, Rate]]:
        """Return the budgets that a call draws on, and their rates."""
        rates = (self._limits.by_method.get(method), self._limits.posts_in_channel)
        keys = _keys(method, channel)
        return [(key, rate) for key, rate in zip(keys, rates, strict=False) if rate is not None]


def _keys(method: str, channel: str | None) -> list[str]:
    """Name the budgets that a call draws on."""
    if method == "chat.postMessage" and channel is not None:
        return [method, f"{method} {channel}"]
    return [method]
