"""The rate budgets that the instances on one database share, one row a method or channel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import BindParameter, Connection, Float, bindparam, delete, select, update

from chatrelaybot.budget import Bucket, Method, RateBudget, WorkspaceBudget
from chatrelaybot.database import Database
from chatrelaybot.errors import TransientError
from chatrelaybot.schema import budgets
from chatrelaybot.statements import NOW

_log = logging.getLogger(__name__)

#: Left in the bucket: calls of several instances overtake each other on their way, and Slack may
#: count one of them before what it draws on has come.
_OVERTAKING = 0.25
#: What nobody has drawn on for so long is full again, and need not be remembered; seconds.
_RESTED_SECONDS = 600.0

_keys: BindParameter[str] = bindparam("keys", expanding=True)
#: Always in the same order, so that no two instances wait for each other.
_LOCK = (
    select(budgets, NOW.label("now"))
    .where(budgets.c.id.in_(_keys))
    .order_by(budgets.c.id)
    .with_for_update()
)
_STORE = (
    update(budgets)
    .where(budgets.c.id == bindparam("key"))
    .values(
        tokens=bindparam("new_tokens"),
        rate=bindparam("new_rate"),
        refilled_at=bindparam("new_refilled_at"),
        blocked_until=bindparam("new_blocked_until"),
    )
)
_FORGET_RESTED = delete(budgets).where(
    budgets.c.refilled_at < NOW - bindparam("seconds", type_=Float)
)


@dataclass(frozen=True, slots=True)
class Grant:
    """How the shared budget stands after it was asked for a call."""

    wait: float = 0.0  #: seconds until the call may be asked for again; 0.0: it may be made
    #: That of the method, then that of the channel if it has one; none where nobody can be asked.
    buckets: tuple[Bucket, ...] = ()
    part: float = 1.0  #: what of the whole is this instance's while nobody can be asked


class SharedBudget:
    """The budgets of one workspace. Safe for any number of threads.

    While the database cannot be reached every instance keeps to its part: as much as the others.
    """

    def __init__(self, *, database: Database, team_id: str, budget: WorkspaceBudget) -> None:
        """`budget` has the full rates and bursts; it is only looked at."""
        self._database = database
        self._team_id = team_id
        self._budget = budget
        self._insert = database.insert(budgets).on_conflict_do_nothing()
        #: Written by whoever counts the instances.
        self.instance_count = 1

    def take(self, method: Method, channel: str, *, spare: float) -> Grant:
        """Count a call, if `spare` calls are left for others then; else tell how long to wait."""
        keys = [f"{self._team_id} {method.value}"]
        if method is Method.POST:
            keys.append(f"{keys[0]} {channel}")
        try:
            # A server that swallows everything is not waited for: an answer goes on without it.
            if self._database.is_reachable:
                return self._database.write(
                    lambda connection: self._take(connection, method, keys, spare)
                )
        except TransientError as error:
            _log.warning("budget not shared", extra={"error": str(error)})
        return Grant(part=1.0 / self.instance_count)

    def refused(self, method: Method, *, retry_after: float) -> None:
        """Let all instances obey a Retry-After (seconds)."""
        keys = [f"{self._team_id} {method.value}"]

        def refuse(connection: Connection) -> None:
            now, (budget,) = self._lock(connection, method, keys)
            budget.refused(now, retry_after=retry_after)
            _store(connection, keys, [budget])

        try:
            self._database.write(refuse)
        except TransientError as error:
            _log.warning("refusal not shared", extra={"error": str(error)})

    def forget_rested(self) -> None:
        """Forget budgets that are full again: those of channels where nothing was posted lately.

        Raises:
            TransientError: The database cannot be reached.
        """
        values = {"seconds": _RESTED_SECONDS}
        self._database.write(lambda connection: connection.execute(_FORGET_RESTED, values))

    def _take(
        self, connection: Connection, method: Method, keys: Sequence[str], spare: float
    ) -> Grant:
        now, locked = self._lock(connection, method, keys)
        whole, *of_channel = locked
        waits = [whole.wait(now, spare=spare + _OVERTAKING)]
        waits += [budget.wait(now) for budget in of_channel]
        wait = max(0.0, *waits)
        if wait <= 0.0:
            for budget in locked:
                budget.take(now)
            _store(connection, keys, locked)
        return Grant(wait, tuple(budget.bucket for budget in locked))

    def _lock(
        self, connection: Connection, method: Method, keys: Sequence[str]
    ) -> tuple[float, list[RateBudget]]:
        """Return the time and the budgets, which are nobody else's until the transaction ends."""
        values = {"keys": list(keys)}
        rows = {row.id: row for row in connection.execute(_LOCK, values)}
        if len(rows) < len(keys):
            self._create(connection, method, [key for key in keys if key not in rows])
            rows = {row.id: row for row in connection.execute(_LOCK, values)}
        locked = []
        for number, key in enumerate(keys):
            row = rows[key]
            budget = self._full(method, number, row.now)
            budget.restore(Bucket(row.tokens, row.rate, row.refilled_at, row.blocked_until))
            locked.append(budget)
        return rows[keys[0]].now, locked

    def _create(self, connection: Connection, method: Method, keys: Sequence[str]) -> None:
        now = connection.execute(select(NOW)).scalar_one()
        number = {f"{self._team_id} {method.value}": 0}
        rows = [
            {"id": key, **asdict(self._full(method, number.get(key, 1), now).bucket)}
            for key in keys
        ]
        connection.execute(self._insert, rows)

    def _full(self, method: Method, number: int, now: float) -> RateBudget:
        """Return the budget of a method, its first, or of a channel, its second, when full."""
        if number:
            return self._budget.full_channel(now)
        return self._budget.full(method, now)


def _store(connection: Connection, keys: Sequence[str], budgets: Sequence[RateBudget]) -> None:
    rows = [
        {"key": key, **{f"new_{name}": value for name, value in asdict(budget.bucket).items()}}
        for key, budget in zip(keys, budgets, strict=True)
    ]
    connection.execute(_STORE, rows)
