"""What is left of the rate budgets, kept over a restart: Slack goes on counting meanwhile.

For the database that one process owns; several instances ask for each call, see `shared_budget`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Float, bindparam, select

from chatrelaybot.budget import Bucket, Method, WorkspaceBudget
from chatrelaybot.database import Database
from chatrelaybot.schema import budgets
from chatrelaybot.statements import NOW

_b = budgets.c
_RECALL = select(_b.id, _b.tokens, _b.rate, NOW - _b.refilled_at, _b.blocked_until - NOW)


class RememberedBudget:
    """The budgets of one workspace. Both methods raise TransientError as the inbox's do."""

    def __init__(self, *, database: Database, team_id: str) -> None:
        self._database = database
        self._keys = {method: f"{team_id} {method.value}" for method in Method}
        row = database.insert(budgets).values(
            id=bindparam("key"),
            tokens=bindparam("left"),
            rate=bindparam("per_second"),
            refilled_at=NOW,
            blocked_until=NOW + bindparam("blocked_for", type_=Float),
        )
        columns = ("tokens", "rate", "refilled_at", "blocked_until")
        self._remember = row.on_conflict_do_update(
            index_elements=[_b.id], set_={name: row.excluded[name] for name in columns}
        )
        self._remembered: Mapping[Method, Bucket] = {}

    def recall(self, budget: WorkspaceBudget, now: float) -> None:
        """Let a budget begin where an earlier process has left it."""
        rows = self._database.read(lambda connection: connection.execute(_RECALL).all())
        known = {row[0]: row for row in rows}
        for method, key in self._keys.items():
            if key in known:
                _, tokens, rate, age, blocked_for = known[key]
                bucket = Bucket(tokens, rate, now - max(0.0, age), now + blocked_for)
                budget[method].restore(bucket)

    def remember(self, buckets: Mapping[Method, Bucket], now: float) -> None:
        """Note how the budgets stand, where that is not as it was."""
        rows = [
            {
                "key": self._keys[method],
                "left": bucket.tokens,
                "per_second": bucket.rate,
                "blocked_for": max(0.0, bucket.blocked_until - now),
            }
            for method, bucket in buckets.items()
            if self._is_news(method, bucket)
        ]
        if rows:
            self._database.write(lambda connection: connection.execute(self._remember, rows))
        self._remembered = buckets

    def _is_news(self, method: Method, bucket: Bucket) -> bool:
        before = self._remembered.get(method)
        return before is None or (before.tokens, before.rate) != (bucket.tokens, bucket.rate)
