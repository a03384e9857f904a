"""The doctor's look at the database, beside whoever uses it, and at what has arrived in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatrelaybot import inbox_desk, install
from chatrelaybot.doctor_findings import Finding, ago, failed, ok, skipped, warning, wrong
from chatrelaybot.doctor_slack import APPS
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.inbox_desk import Arrivals, Listing, Standing
from chatrelaybot.schema_upgrade import HEAD, NoInbox, OlderTables

DATABASE = "database"
EVENTS = "events"

_SUBSCRIPTIONS = f"{APPS} → the app → Event Subscriptions → Subscribe to bot events: "


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands in the inbox."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    instance_count: int = 0  #: of those that are alive


def is_shared(url: str) -> bool:
    """Tell whether several instances may use the database."""
    return not url.startswith("sqlite")


def look(url: str) -> tuple[Finding, Looked | None]:
    """Open the inbox and count, changing nothing."""
    try:
        with inbox_desk.opened(url) as desk:
            looked = Looked(desk.arrivals(), desk.instance_count())
            return _counted(desk.list(limit=1)), looked
    except OlderTables as error:
        return warning(DATABASE, error.problem, error.mend), None
    except ConfigurationError as error:
        return wrong(DATABASE, error), None
    except NoInbox:
        return _none_yet(url), Looked()
    except TransientError as error:
        mend = "start the database, or correct DATABASE_URL"
        return failed(DATABASE, str(error), mend), None


def events(
    arrivals: Arrivals | None, *, granted: frozenset[str] | None, needs: install.Needs
) -> Finding:
    """Conclude from scopes and arrivals which events come: Slack does not tell a bot."""
    needed = install.events(needs)
    subscriptions = _SUBSCRIPTIONS + ", ".join(event.name for event in needed)
    lost = [event for event in needed if granted is not None and event.scope not in granted]
    if lost:
        words = (f"without {event.scope} Slack sends no {event.name}" for event in lost)
        return failed(EVENTS, "; ".join(words), subscriptions)
    if arrivals is None or (arrivals.mention is None and arrivals.direct is None):
        fact = "Slack does not tell which are subscribed, and no question has arrived yet"
        return skipped(EVENTS, fact, f"to be sure, look at {subscriptions}")
    silent = _silent(arrivals, needed)
    hint = f"if there were any, add {', '.join(silent)}: {_SUBSCRIPTIONS}" if silent else ""
    return ok(EVENTS, _heard(arrivals, needs), hint.removesuffix(": "))


def _counted(listing: Listing) -> Finding:
    counts = listing.counts
    fact = ", ".join(f"{count} {standing}" for standing, count in counts.items())
    hint = "chatrelaybot inbox list shows what was buried" if counts[Standing.BURIED] else ""
    return ok(DATABASE, f"version {HEAD}; questions: {fact}", hint)


def _none_yet(url: str) -> Finding:
    if is_shared(url):
        return ok(DATABASE, "reachable, and empty: the first start makes the tables")
    directory = Path(url.partition(":///")[2].partition("?")[0]).absolute().parent
    if directory.is_dir() and os.access(directory, os.W_OK | os.X_OK):
        return ok(DATABASE, f"no file yet: the first start makes it in {directory}")
    problem = "cannot be written by this user" if directory.is_dir() else "does not exist"
    error = ConfigurationError(
        "DATABASE_URL",
        f"the directory {directory} {problem}",
        "name a file in a directory that exists and that the user of this program may write",
    )
    return wrong(DATABASE, error)


def _heard(arrivals: Arrivals, needs: install.Needs) -> str:
    heard = []
    if needs.has_channels:
        heard.append(_last("mention in a channel", arrivals.mention))
    if needs.has_direct:
        heard.append(_last("direct message", arrivals.direct))
    return "; ".join(heard)


def _last(what: str, seconds: float | None) -> str:
    return f"no {what} in memory" if seconds is None else f"last {what} {ago(seconds)}"


def _silent(arrivals: Arrivals, needed: Sequence[install.Event]) -> list[str]:
    """Return the events of which nothing is remembered."""
    ages = {"app_mention": arrivals.mention, "message.im": arrivals.direct}
    return [event.name for event in needed if event.name in ages and ages[event.name] is None]
