"""When a link was last up, and where questions came from, on either engine."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Connection

from chatrelaybot.database import Database
from chatrelaybot.errors import TransientError
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.schema import questions
from chatrelaybot.seen_links import Place, SeenLinks
from tests.elapsing import elapse


@pytest.fixture(name="seen_links")
def _seen_links(database: Database) -> SeenLinks:
    return SeenLinks(database=database, team_id="T1")


def asked(
    number: int,
    channel: str,
    thread_ts: str | None = None,
    *,
    is_direct: bool = False,
    team: str = "T1",
) -> Question:
    """Return a question; the number says how late it is."""
    return Question(
        event_id=f"Ev{number}",
        team_id=team,
        channel=channel,
        user_id="U1",
        text="a question",
        ts=f"17000{number:05d}.000100",
        thread_ts=thread_ts,
        is_direct=is_direct,
    )


def enqueue(database: Database, *asked: Question) -> Inbox:
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)
    inbox.enqueue([(question, "") for question in asked])
    return inbox


def test_a_fresh_database_knows_of_no_link(seen_links: SeenLinks) -> None:
    assert seen_links.seen_ago() is None


def test_the_time_since_the_last_note_is_known(database: Database, seen_links: SeenLinks) -> None:
    seen_links.note()
    elapse(database, 100.0)
    assert seen_links.seen_ago() == pytest.approx(100.0, abs=5.0)

    seen_links.note()
    assert seen_links.seen_ago() == pytest.approx(0.0, abs=5.0)


def test_a_clock_that_was_put_back_is_no_time_ahead(
    database: Database, seen_links: SeenLinks
) -> None:
    seen_links.note()
    elapse(database, -100.0)

    assert seen_links.seen_ago() == 0.0


def test_workspaces_are_told_apart(database: Database, seen_links: SeenLinks) -> None:
    enqueue(database, asked(1, "C1", team="T2"))
    SeenLinks(database=database, team_id="T2").note()

    assert seen_links.seen_ago() is None
    assert seen_links.places(10) == []


def test_a_place_is_told_once_the_one_used_last_first(
    database: Database, seen_links: SeenLinks
) -> None:
    enqueue(
        database,
        asked(1, "C1", "1.1"),
        asked(2, "D1", is_direct=True),
        asked(3, "C1", "3.1"),
        asked(4, "C1", "1.1"),
        asked(5, "C2"),
    )

    assert seen_links.places(10) == [
        Place("C2", None, is_direct=False),
        Place("C1", "1.1", is_direct=False),
        Place("C1", "3.1", is_direct=False),
        Place("D1", None, is_direct=True),
    ]
    assert len(seen_links.places(2)) == 2


def test_places_of_answered_questions_are_told_too(
    database: Database, seen_links: SeenLinks
) -> None:
    inbox = enqueue(database, asked(1, "C1", "1.1"))
    (delivery,) = inbox.lease(1)
    inbox.finish(delivery, outcome="complete")

    assert seen_links.places(10) == [Place("C1", "1.1", is_direct=False)]


def test_a_group_that_was_once_seen_as_direct_is_direct(
    database: Database, seen_links: SeenLinks
) -> None:
    """An app_mention does not tell what it came from."""
    enqueue(database, asked(1, "G1", is_direct=True), asked(2, "G1"))

    assert seen_links.places(10) == [Place("G1", None, is_direct=True)]


def test_a_hundred_thousand_questions_are_no_burden(
    database: Database, seen_links: SeenLinks
) -> None:
    def fill(connection: Connection) -> None:
        rows = [
            {
                "id": str(number),
                "event_id": f"Ev{number}",
                "team_id": "T1",
                "channel": f"C{number % 50}",
                "ts": f"17000{number:05d}.000100",
                "conversation": str(number),
                "user_id": "U1",
                "text": "",
                "thread_ts": f"17000{number % 10_000:05d}.000100",
                "is_direct": False,
                "traceparent": "",
                "received_at": 0.0,
                "state": "done",
                "finished_at": 0.0,
            }
            for number in range(100_000)
        ]
        connection.execute(questions.insert(), rows)

    database.write(fill)
    began = time.perf_counter()
    found = seen_links.places(1_000)

    assert len(found) == 1_000
    assert found[0] == Place("C49", "1700009999.000100", is_direct=False)
    assert time.perf_counter() - began < 3.0  # A third of a second on one of two cores.


def test_a_database_that_is_away_is_told(database: Database, seen_links: SeenLinks) -> None:
    for call in (seen_links.seen_ago, seen_links.note, lambda: seen_links.places(1)):
        database.close()
        with pytest.raises(TransientError):
            call()


def test_it_is_known_whether_the_database_can_be_written(
    database: Database, seen_links: SeenLinks
) -> None:
    known = [seen_links.is_writable]
    database.close()

    assert [*known, seen_links.is_writable] == [True, False]
