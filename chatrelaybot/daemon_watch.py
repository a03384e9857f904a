"""Whether the bot lives, and whether it is of use: from facts alone, and who sees that loops move.

To live and to be ready are different things. What does not live is stuck, and only a new start
mends it. What is not ready may have the best of reasons: Slack or the database is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatrelaybot.daemon_loop import Loop
from chatrelaybot.database import HANGING_SECONDS

#: Slack is pinged every 5 s, so a link that was not heard of for longer than this is most likely
#: gone; seconds. Whoever asks shall know it within 10 s.
_LINK_SECONDS = 9.0
#: How long a step of a loop may go on when it does not rest, by the slowest of its calls; seconds.
#: Those that are marked wait for the database, too, and for that they may take any time: while it
#: is well a statement takes no more than 30 s.
_PATIENCE = {
    "listener": (60.0, True),
    "leaser": (60.0, True),
    "heartbeat": (60.0, True),
    "editor": (30.0, False),  # It makes no calls, but orders them.
    "link": (150.0, False),  # A call of the Web API, a dial through a proxy, and good-byes.
    "catch-up": (150.0, True),  # A call of the Web API.
    "fleet": (600.0, True),  # Such a call for each stray.
    "upkeep": (3600.0, True),  # It clears a file of any size of what was deleted.
}
_USUAL_PATIENCE = (60.0, False)
#: How long the keeper of the links may leave undone what is due: it may be dialling; seconds.
_KEEPER_SECONDS = 150.0
#: The longest call of a start: another instance may be bringing large tables up to date; seconds.
_START_SECONDS = 900.0
#: A server ends each statement after 30 s. One that has not for so long never will, while another
#: one may stand in its place by now; seconds.
_LOST_COMMIT_SECONDS = 300.0
#: Pings that are so many times further apart than they should be tell that we were frozen.
_FROZEN = 2.0

#: What was looked at, and for each what is wrong with it; None: nothing.
Checks = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Stuck:
    """A loop that does not move any more."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the bot at one moment; durations in seconds."""

    is_started: bool = False
    start_call_seconds: float = 0.0  #: how long the current call of the start has taken
    waits_for: str = ""  #: what the start cannot reach, and why
    is_stopping: bool = False
    stuck: Sequence[Stuck] = ()
    link_silence: float | None = None  #: since Slack was heard of; None: there is no link
    link_trouble: str = ""  #: why there is no link
    keeper_late: float = 0.0  #: how long what is due with the links has not been done
    is_database_reachable: bool = False
    commit_seconds: float = 0.0  #: how long the current commit has taken
    is_database_shared: bool = False  #: it is on a server; a file may be cleared for long
    running_count: int = 0
    waiting_count: int | None = None  #: None: not known

    @property
    def is_storing(self) -> bool:
        """Whether questions can be stored."""
        return self.is_database_reachable and self.commit_seconds <= HANGING_SECONDS


def live(facts: Facts) -> Checks:
    """Say whether a new start would not help."""
    return {
        "start": _start_trouble(facts),
        "loops": ", ".join(f"{one.name} stuck for {one.seconds:.0f} s" for one in facts.stuck)
        or None,
        "keeper": f"link not replaced for {facts.keeper_late:.0f} s"
        if facts.keeper_late > _KEEPER_SECONDS and not facts.is_stopping
        else None,
        "database": _lost_commit(facts),
    }


def ready(facts: Facts) -> Checks:
    """Say whether what Slack sends now would be stored and answered."""
    return {
        "started": None if facts.is_started else facts.waits_for or "starting",
        "stopping": "stopping" if facts.is_stopping else None,
        "link": _link_trouble(facts),
        "database": _database_trouble(facts),
    }


def is_well(checks: Checks) -> bool:
    """Tell whether nothing is wrong."""
    return not any(checks.values())


def status(facts: Facts) -> str:
    """Put it into one line."""
    if facts.is_stopping:
        return f"stopping, {_count(facts.running_count, 'answer')} running"
    if not is_well(live(facts)):
        return next(filter(None, live(facts).values())) or ""
    if not facts.is_started:
        return f"waiting: {facts.waits_for}" if facts.waits_for else "starting"
    waiting = "" if facts.waiting_count is None else f", {facts.waiting_count} waiting"
    answers = f"{_count(facts.running_count, 'answer')} running{waiting}"
    troubles = [*filter(None, (_link_trouble(facts), _database_trouble(facts)))]
    return ", ".join([*(troubles or ["link up"]), answers])


class Watch:
    """Pings every loop, so that those that do not move are seen. `ping` belongs to one thread."""

    def __init__(self, loops: Sequence[Loop], *, every: float) -> None:
        """`every`: seconds between two pings. `loops` may grow."""
        self._loops = loops
        self._every = every
        self._last = 0.0

    def ping(self, now: float, *, is_storing: bool) -> None:
        """Ask every loop to move; what waits for the database has all the time that it needs."""
        was_frozen = now - self._last > _FROZEN * self._every
        self._last = now
        for loop in tuple(self._loops):
            _, needs_database = _PATIENCE.get(loop.title, _USUAL_PATIENCE)
            if was_frozen or (needs_database and not is_storing):
                loop.forgive()
            else:
                loop.ping(now)

    def stuck(self, now: float) -> list[Stuck]:
        """Return the loops that were asked to move, and have not; from any thread."""
        late = [Stuck(loop.title, loop.late_seconds(now)) for loop in tuple(self._loops)]
        return [one for one in late if one.seconds > _PATIENCE.get(one.name, _USUAL_PATIENCE)[0]]

    def whereabouts(self, name: str) -> str:
        """Say where a loop is in the code."""
        return next((loop.whereabouts() for loop in self._loops if loop.title == name), "")


def _start_trouble(facts: Facts) -> str | None:
    seconds = facts.start_call_seconds
    return f"stuck for {seconds:.0f} s" if seconds > _START_SECONDS else None


def _lost_commit(facts: Facts) -> str | None:
    if not facts.is_database_shared or facts.commit_seconds <= _LOST_COMMIT_SECONDS:
        return None
    return f"commit stuck for {facts.commit_seconds:.0f} s"


def _link_trouble(facts: Facts) -> str | None:
    if facts.link_silence is None:
        reason = f": {facts.link_trouble}" if facts.link_trouble else " yet"
        return f"no link to Slack{reason}"
    if facts.link_silence > _LINK_SECONDS:
        return f"Slack not heard of for {facts.link_silence:.0f} s"
    return None


def _database_trouble(facts: Facts) -> str | None:
    if not facts.is_database_reachable:
        return "database not reachable"
    if facts.commit_seconds > HANGING_SECONDS:
        return f"database has not answered for {facts.commit_seconds:.0f} s"
    return None


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
