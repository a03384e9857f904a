"""What is shown of the inbox to who does not wait for it."""

from __future__ import annotations

from chatrelaybot.census import Census
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts
from chatrelaybot.inbox import Inbox


def test_what_was_counted_is_shown_until_it_is_old(database: Database) -> None:
    now = 1_000.0
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)
    census = Census(inbox=inbox, clock=lambda: now)
    shown = [census.counts]

    for is_counted, seconds in ((True, 0.0), (False, 60.0), (False, 1.0), (True, 0.0)):
        now += seconds
        if is_counted:
            census.step()
        shown.append(census.counts)

    nothing = Counts(waiting=0, running=0, dead=0)
    assert shown == [None, nothing, nothing, None, nothing]


def test_nothing_is_shown_while_the_database_is_away(database: Database) -> None:
    now = 1_000.0
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)
    census = Census(inbox=inbox, clock=lambda: now)
    census.step()
    database.close()

    now += 10.0
    census.step()

    assert census.counts is None
