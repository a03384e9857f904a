"""What is counted of a try to answer, and when."""

from __future__ import annotations

import math
import time

import pytest

from chatrelaybot.delivery import Delivery, Lease, PostedPart
from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.events import Question
from chatrelaybot.relay_journal import Journal
from chatrelaybot.render import message
from chatrelaybot.telemetry_metrics import Metrics
from chatrelaybot.telemetry_prometheus import Prometheus
from chatrelaybot.telemetry_spans import NO_SPANS
from tests.scraping import Scrape

QUEUE = "chatrelaybot_queue_wait_seconds_count"
FINAL = "chatrelaybot_reply_time_to_final_text_seconds"
REPLIES = "chatrelaybot_replies_total"


@pytest.fixture(name="scrapes")
def _scrapes() -> Prometheus:
    return Prometheus(resource={})


@pytest.fixture(name="journal")
def _journal(scrapes: Prometheus) -> Journal:
    return Journal(spans=NO_SPANS, metrics=Metrics([scrapes]))


def seen(scrapes: Prometheus) -> Scrape:
    return Scrape(scrapes.scrape()[0].decode())


def delivery(*, parts: tuple[PostedPart, ...] = ()) -> Delivery:
    question = Question("Ev1", "T1", "C1", "U1", "why?", "1700000000.000100", None)
    return Delivery(question, 1, 0, Lease("lease", math.inf), "", 100.0, parts)


def answered(journal: Journal, *, is_settled: bool) -> None:
    """Let a reply have ended a second after its lease."""
    leased = delivery()
    with journal.processing(leased) as entry:
        now = time.monotonic()
        draft = Draft(delivery=leased, placeholder=message("…"), now=now, announce=lambda _: None)
        draft.timeline.first_text = draft.timeline.settled = now + 1.0
        entry.ended(draft, Outcome.DELIVERED, None, None, is_settled=is_settled)


def test_a_reply_takes_as_long_as_its_reader_has_waited(
    journal: Journal, scrapes: Prometheus
) -> None:
    answered(journal, is_settled=True)

    told = seen(scrapes)
    assert told.value(REPLIES, outcome="delivered") == 1
    assert told.value(f"{FINAL}_sum") == pytest.approx(101.0, abs=0.5)


def test_a_reply_that_the_inbox_does_not_know_of_is_not_counted(
    journal: Journal, scrapes: Prometheus
) -> None:
    """It is answered, and counted, once more."""
    answered(journal, is_settled=False)

    told = seen(scrapes)
    assert (told.value(REPLIES), told.value(f"{FINAL}_count")) == (0, 0)


def test_a_question_that_was_given_back_has_waited_in_the_queue_but_once(
    journal: Journal, scrapes: Prometheus
) -> None:
    with journal.processing(delivery()):
        pass
    with journal.processing(delivery(parts=(PostedPart(0, "1700000001.000000"),))):
        pass

    assert seen(scrapes).value(QUEUE) == 1
