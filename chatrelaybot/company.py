"""This instance among the others on its database, or alone on its file."""

from __future__ import annotations

import logging
import time

from chatrelaybot.errors import TransientError
from chatrelaybot.fleet import Fleet
from chatrelaybot.shared_budget import SharedBudget
from chatrelaybot.slack import Slack
from chatrelaybot.strays import Strays

_log = logging.getLogger(__name__)


class Company:
    """Tells the others that we are here, counts them, and clears up what went astray."""

    def __init__(
        self, *, fleet: Fleet, shared: SharedBudget | None, slack: Slack, reaction: str
    ) -> None:
        """`reaction` is the one that questions may have from us; without `shared` we are alone."""
        self._fleet = fleet
        self.shared = shared
        self.strays = Strays(
            fleet=fleet, shared=shared, slack=slack, reaction=reaction, clock=time.monotonic
        )

    def step(self) -> None:
        """Do so once."""
        if self.shared is None or self._count(self.shared):
            self.strays.step()

    def leave(self) -> None:
        """Say that we are gone, and what we leave behind."""
        self.strays.tell()
        try:
            if self.shared is not None:
                self._fleet.leave()
        except TransientError as error:
            _log.warning("others not told of the stop", extra={"error": str(error)})

    def _count(self, shared: SharedBudget) -> bool:
        """Count the instances; False: the database is away."""
        try:
            count = self._fleet.beat()
        except TransientError as error:
            _log.warning("other instances not seen", extra={"error": str(error)})
            return False
        if count != shared.instance_count:
            _log.info("instances on this database", extra={"count": count})
        shared.instance_count = count
        return True
