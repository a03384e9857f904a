from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from sqlalchemy import text

from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Delivery, Enqueued, Lease, PostedPart, elapsed
from chatrelaybot.errors import LeaseLost, TransientError
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from tests.elapsing import elapse

NEW, DUPLICATE, REFUSED = Enqueued.NEW, Enqueued.DUPLICATE, Enqueued.REFUSED

RETENTION = 3600.0  #: seconds


class Bell:
    """Counts how often the inbox said that something may be ready."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1

    def rang(self) -> bool:
        count, self.count = self.count, 0
        return count > 0


@pytest.fixture(name="bell")
def _bell() -> Bell:
    return Bell()


@pytest.fixture(name="inbox")
def _inbox(database: Database, bell: Bell) -> Inbox:
    return Inbox(
        database=database,
        owner="test",
        queue_limit=5,
        retention_hours=RETENTION / 3600.0,
        on_ready=bell,
    )


def take_back(inbox: Inbox, database: Database) -> None:
    """Take every lease back, as after the death of whoever had it."""
    elapse(database, 16.0)
    inbox.extend([])


def question(number: int, *, thread: str = "1.1", event: str | None = None) -> Question:
    return Question(
        event_id=event or f"Ev{number}",
        team_id="T1",
        channel="C1",
        user_id="U1",
        text=f"question {number}",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=thread,
    )


def put(inbox: Inbox, *questions: Question) -> list[Enqueued]:
    return inbox.enqueue([(question, "00-trace") for question in questions])


def lease_one(inbox: Inbox) -> Delivery:
    (delivery,) = inbox.lease(1)
    return delivery


def leased(inbox: Inbox, limit: int = 10) -> list[Question]:
    return [delivery.question for delivery in inbox.lease(limit)]


def stored_text(database: Database, question: Question) -> object:
    query = text("SELECT text FROM questions WHERE id = :id")
    return database.read(lambda connection: connection.scalar(query, {"id": question.id}))


# What comes in, and what comes out.


def test_a_question_comes_out_as_it_went_in(inbox: Inbox) -> None:
    asked = Question("Ev1", "T1", "D1", "U1", "où & <why>?\n🙂", "1.2", None, is_direct=True)

    assert inbox.enqueue([(asked, "00-trace")]) == [NEW]

    delivery = lease_one(inbox)
    assert delivery == Delivery(
        question=asked,
        attempt=1,
        crash_count=0,
        lease=delivery.lease,
        traceparent="00-trace",
        age=delivery.age,
        parts=(),
        is_refused=False,
    )
    assert 0.0 <= delivery.age < 60.0


def test_a_delivery_knows_how_long_its_question_has_been_here(
    database: Database, inbox: Inbox
) -> None:
    put(inbox, question(1))
    elapse(database, 100.0)

    assert lease_one(inbox).age == pytest.approx(100.0, abs=10.0)


def test_every_lease_has_an_id_of_its_own(inbox: Inbox) -> None:
    put(inbox, *(question(n, thread=f"{n}") for n in range(3)))

    assert len({delivery.lease.id for delivery in inbox.lease(3)}) == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_a_lease_of_nothing_takes_nothing(inbox: Inbox, limit: int) -> None:
    put(inbox, question(1))

    assert inbox.lease(limit) == []
    assert inbox.counts() == Counts(waiting=1, running=0, dead=0)


def test_an_empty_batch_is_nothing(inbox: Inbox, bell: Bell) -> None:
    assert put(inbox) == []
    assert not bell.rang()


def test_text_that_a_database_cannot_hold_is_replaced(inbox: Inbox) -> None:
    """JSON may hold half of a surrogate pair, which would fail at every redelivery."""
    odd = Question("Ev1", "T1", "C1", "U1", "a\ud83d b\0 c\ud83d\ude42", "1.2", None)

    assert put(inbox, odd) == [NEW]
    assert lease_one(inbox).question.text == "a\ufffd b\ufffd c🙂"


# The same question twice.


def test_the_same_event_is_one_question(inbox: Inbox, bell: Bell) -> None:
    assert put(inbox, question(1)) == [NEW]
    assert bell.rang()

    assert put(inbox, question(1)) == [DUPLICATE]
    assert put(inbox, question(2, event="Ev1")) == [DUPLICATE]
    assert not bell.rang()
    assert inbox.counts().waiting == 1


def test_two_events_of_one_message_are_one_question(inbox: Inbox) -> None:
    assert put(inbox, question(1, event="Ev1"), question(2), question(1, event="Ev3")) == [
        NEW,
        NEW,
        DUPLICATE,
    ]
    assert put(inbox, question(1, event="Ev4")) == [DUPLICATE]
    assert leased(inbox) == [question(1, event="Ev1")]


def test_one_message_may_come_with_a_known_event_before_it_comes_with_its_own(
    inbox: Inbox,
) -> None:
    """Nonsense that Slack should not send; the queue must not stumble over it."""
    put(inbox, question(1, thread="a"), question(5, thread="b"))

    results = put(inbox, question(3, thread="b", event="Ev1"), question(3, thread="a"))

    assert results == [DUPLICATE, NEW]
    assert leased(inbox) == [question(1, thread="a"), question(5, thread="b")]


def test_the_same_ts_in_another_channel_or_team_is_another_question(inbox: Inbox) -> None:
    first = question(1)
    channel = Question("Ev2", "T1", "C2", "U1", "a", first.ts, None)
    team = Question("Ev3", "T2", "C1", "U1", "a", first.ts, None)

    assert put(inbox, first, channel, team) == [NEW, NEW, NEW]


def test_a_question_is_known_until_its_retention_is_over(inbox: Inbox, database: Database) -> None:
    put(inbox, question(1))
    inbox.finish(lease_one(inbox), outcome="delivered")

    elapse(database, RETENTION - 60.0)
    assert inbox.purge() == 0
    assert put(inbox, question(1)) == [DUPLICATE]
    assert leased(inbox) == []

    elapse(database, 61.0)
    assert inbox.purge() == 1
    assert put(inbox, question(1)) == [NEW]


def test_a_purge_takes_all_that_is_old_with_its_parts_and_nothing_else(database: Database) -> None:
    inbox = Inbox(database=database, owner="test", retention_hours=1.0)
    put(inbox, *(question(n, thread=f"{n}") for n in range(450)))
    deliveries = inbox.lease(450)
    for delivery in deliveries[400:]:
        inbox.record_post(delivery, 0, "9.1")
    for delivery in deliveries[:420]:
        inbox.finish(delivery, outcome="delivered")
    inbox.bury(deliveries[420], reason="hopeless")

    elapse(database, 3601.0)

    assert inbox.purge() == 421
    assert inbox.counts() == Counts(waiting=0, running=29, dead=0)
    parts = database.read(lambda c: c.scalar(text("SELECT count(*) FROM reply_parts")))
    assert parts == 29


# Order.


def test_a_conversation_is_answered_one_by_one_in_the_order_of_ts(inbox: Inbox) -> None:
    put(inbox, question(3))
    put(inbox, question(2), question(1))

    for number in (1, 2, 3):
        delivery = lease_one(inbox)
        assert delivery.question == question(number)
        assert inbox.lease(10) == []
        inbox.finish(delivery, outcome="delivered")
    assert inbox.lease(10) == []


def test_conversations_are_answered_beside_each_other_oldest_first(inbox: Inbox) -> None:
    put(inbox, question(4, thread="b"), question(3, thread="c"))
    put(inbox, question(2, thread="b"), question(1, thread="a"))

    assert leased(inbox, 2) == [question(1, thread="a"), question(2, thread="b")]
    assert leased(inbox) == [question(3, thread="c")]


def test_an_older_question_that_comes_late_goes_before_those_that_wait(inbox: Inbox) -> None:
    put(inbox, question(5))
    running = lease_one(inbox)
    put(inbox, question(7))
    put(inbox, question(6), question(4))

    assert leased(inbox) == []
    inbox.finish(running, outcome="delivered")
    assert leased(inbox) == [question(4)]


def test_a_question_that_waits_for_its_next_try_holds_up_its_conversation_only(
    inbox: Inbox, database: Database
) -> None:
    put(inbox, question(1), question(2), question(3, thread="b"))
    first, other = inbox.lease(10)

    inbox.retry(first, after=400.0)

    inbox.finish(other, outcome="delivered")
    assert leased(inbox) == []
    elapse(database, 340.0)
    assert leased(inbox) == []
    elapse(database, 61.0)
    again = lease_one(inbox)
    assert (again.question, again.attempt) == (question(1), 2)
    inbox.finish(again, outcome="delivered")
    assert leased(inbox) == [question(2)]


# Retries, releases, ends.


@pytest.mark.parametrize("verb", ["release", "retry"])
def test_what_surely_left_nothing_in_slack_is_not_looked_for(inbox: Inbox, verb: str) -> None:
    inbox.enqueue([(question(1), "")])
    more: dict[str, float] = {"after": 0.0} if verb == "retry" else {}

    (delivery,) = inbox.lease(1)
    inbox.intend_post(delivery, 0)
    getattr(inbox, verb)(delivery, is_traceless=True, **more)
    (delivery,) = inbox.lease(1)
    assert delivery.parts == ()

    inbox.intend_post(delivery, 0)
    getattr(inbox, verb)(delivery, **more)
    (delivery,) = inbox.lease(1)
    assert delivery.parts == (PostedPart(0, None),)

    inbox.record_post(delivery, 0, "10.1")
    getattr(inbox, verb)(delivery, is_traceless=True, **more)
    (delivery,) = inbox.lease(1)
    assert delivery.parts == (PostedPart(0, "10.1"),)


def test_a_released_question_was_not_tried(inbox: Inbox, bell: Bell) -> None:
    put(inbox, question(1))
    delivery = lease_one(inbox)
    bell.rang()

    inbox.release(delivery)

    assert bell.rang()
    assert lease_one(inbox).attempt == 1


def test_the_time_of_the_next_try_is_told(inbox: Inbox, database: Database, bell: Bell) -> None:
    assert inbox.next_ready_in() is None
    put(inbox, question(1), question(2))
    assert inbox.next_ready_in() == 0.0
    delivery = lease_one(inbox)
    assert inbox.next_ready_in() is None
    bell.rang()

    inbox.retry(delivery, after=4.0)

    assert bell.rang()
    assert inbox.next_ready_in() == pytest.approx(4.0, abs=1.0)
    elapse(database, 5.0)
    assert inbox.next_ready_in() == 0.0


def test_a_clock_that_is_put_back_does_not_hide_a_new_question(
    inbox: Inbox, database: Database
) -> None:
    put(inbox, question(1))
    elapse(database, -3600.0)

    assert leased(inbox) == [question(1)]


def test_a_finished_question_loses_its_text_and_frees_its_conversation(
    inbox: Inbox, database: Database, bell: Bell
) -> None:
    put(inbox, question(1), question(2))
    delivery = lease_one(inbox)
    assert stored_text(database, question(1)) == "question 1"
    bell.rang()

    inbox.finish(delivery, outcome="delivered")

    assert bell.rang()
    assert stored_text(database, question(1)) == ""
    assert leased(inbox) == [question(2)]


def test_a_buried_question_keeps_its_text_and_frees_its_conversation(
    inbox: Inbox, database: Database
) -> None:
    put(inbox, question(1), question(2))

    inbox.bury(lease_one(inbox), reason="hopeless")

    assert stored_text(database, question(1)) == "question 1"
    assert inbox.counts() == Counts(waiting=1, running=0, dead=1)
    assert leased(inbox) == [question(2)]


def test_questions_are_counted_by_their_state(inbox: Inbox) -> None:
    put(inbox, question(1), question(2, thread="b"), question(3, thread="c"), question(4))
    first, second, _ = inbox.lease(3)
    inbox.bury(second, reason="hopeless")
    inbox.retry(first, after=5.0)

    assert inbox.counts() == Counts(waiting=2, running=1, dead=1)


# Leases.


def test_whoever_lost_a_lease_changes_nothing(inbox: Inbox, database: Database) -> None:
    put(inbox, question(1))
    lost = lease_one(inbox)
    inbox.record_post(lost, 0, "9.1")
    take_back(inbox, database)
    current = lease_one(inbox)
    verbs: list[Callable[[], None]] = [
        lambda: inbox.finish(lost, outcome="delivered"),
        lambda: inbox.bury(lost, reason="hopeless"),
        lambda: inbox.retry(lost, after=1.0),
        lambda: inbox.release(lost),
        lambda: inbox.intend_post(lost, 0),
        lambda: inbox.record_post(lost, 0, "9.9"),
        lambda: inbox.forget_post(lost, 0, "9.1"),
    ]

    for verb in verbs:
        with pytest.raises(LeaseLost):
            verb()

    inbox.release(current)
    again = lease_one(inbox)
    assert again.parts == (PostedPart(0, "9.1"),)
    assert again.attempt == 1


def test_nothing_can_be_done_with_a_settled_question(inbox: Inbox) -> None:
    put(inbox, question(1))
    delivery = lease_one(inbox)
    inbox.finish(delivery, outcome="delivered")

    with pytest.raises(LeaseLost):
        inbox.retry(delivery, after=0.0)
    assert leased(inbox) == []


def test_an_extended_lease_lasts_and_another_is_taken_back_as_a_crash(
    inbox: Inbox, database: Database, bell: Bell
) -> None:
    put(inbox, question(1), question(2, thread="b"))
    kept, dropped = inbox.lease(2)
    elapse(database, 10.0)
    assert inbox.extend([kept.lease, dropped.lease, Lease("unknown", 0.0)]) == {"unknown"}
    elapse(database, 10.0)
    assert inbox.extend([kept.lease]) == set()
    assert leased(inbox) == []
    bell.rang()
    elapse(database, 10.0)

    assert inbox.extend([kept.lease]) == set()

    assert bell.rang()
    again = lease_one(inbox)
    assert again.question == dropped.question
    assert (again.attempt, again.crash_count) == (1, 1)
    with pytest.raises(LeaseLost):
        inbox.finish(dropped, outcome="delivered")
    assert inbox.extend([kept.lease, dropped.lease]) == {dropped.lease.id}


def test_leases_are_taken_back_also_when_none_is_extended(inbox: Inbox, database: Database) -> None:
    put(inbox, question(1))
    lease_one(inbox)
    elapse(database, 16.0)

    assert inbox.extend([]) == set()

    assert leased(inbox) == [question(1)]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_start_takes_up_what_an_earlier_process_was_answering(
    inbox: Inbox, database: Database, bell: Bell
) -> None:
    put(inbox, question(2), question(3), question(4, thread="b"))
    delivery, waiting = inbox.lease(2)
    inbox.retry(waiting, after=100.0)
    inbox.retry(delivery, after=1.0)
    elapse(database, 2.0)
    inbox.record_post(lease_one(inbox), 0, "9.1")
    put(inbox, question(1))
    bell.rang()

    assert inbox.recover() == 1

    assert bell.rang()
    assert inbox.recover() == 0
    assert not bell.rang()
    inbox.finish(lease_one(inbox), outcome="delivered")
    again = lease_one(inbox)
    assert again.question == question(2)
    assert (again.attempt, again.crash_count) == (2, 1)
    assert again.parts == (PostedPart(0, "9.1"),)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_where_others_may_live_a_start_takes_up_nothing_before_its_lease_ends(
    inbox: Inbox, database: Database
) -> None:
    put(inbox, question(1))
    lease_one(inbox)

    assert inbox.recover() == 0
    assert leased(inbox) == []
    take_back(inbox, database)
    assert leased(inbox) == [question(1)]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_lease_is_good_for_less_time_than_the_database_gives(inbox: Inbox) -> None:
    put(inbox, question(1))
    before = elapsed()
    lease = lease_one(inbox).lease

    assert before + 15.0 <= lease.good_until <= elapsed() + 15.0
    lease.good_until = before
    goods = [lease.is_good]
    inbox.extend([lease])
    assert [*goods, lease.is_good] == [False, True]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_lease_on_a_file_of_ours_is_good_as_long_as_we_live(inbox: Inbox) -> None:
    put(inbox, question(1))

    assert lease_one(inbox).lease.good_until == math.inf


def test_after_the_database_was_away_everybody_may_extend_before_anything_is_taken_back(
    inbox: Inbox, database: Database
) -> None:
    put(inbox, question(1))
    lease = lease_one(inbox).lease
    database.close()
    with pytest.raises(TransientError):
        inbox.extend([])
    database.open()
    elapse(database, 16.0)

    assert inbox.extend([]) == set()
    assert leased(inbox) == []
    assert inbox.extend([lease]) == set()

    elapse(database, 16.0)
    inbox.extend([])
    assert leased(inbox) == [question(1)]


def test_a_question_that_kills_is_soon_alone_in_flight_when_it_does(database: Database) -> None:
    """Each of the others takes three seconds; a crash comes as soon as the killer is leased."""
    chance = random.Random(4)
    inbox = Inbox(database=database, owner="test", retention_hours=1.0, chance=chance.random)
    killer, *others = (question(n, thread=f"{n}") for n in range(20))
    put(inbox, killer, *others)
    worst = crashes = 0
    running: dict[Delivery, int] = {}
    for second in range(600):
        running |= dict.fromkeys(inbox.lease(20), second)
        if any(delivery.question == killer for delivery in running):
            running.clear()
            take_back(inbox, database)
            crashes += 1
        for delivery in [each for each, since in running.items() if second - since >= 3]:
            worst = max(worst, delivery.crash_count)
            inbox.finish(delivery, outcome="delivered")
            del running[delivery]
        inbox.extend([delivery.lease for delivery in running])
        elapse(database, 1.0)
        if crashes == 15:
            break

    assert crashes == 15
    assert worst < 10
    assert inbox.counts() == Counts(waiting=1, running=0, dead=0)


# The messages of a reply.


def test_a_lease_alone_leaves_nothing_to_be_looked_for(inbox: Inbox, database: Database) -> None:
    """Else a crash in a crowd would make Slack be searched for every reply that never began."""
    put(inbox, question(1))
    assert lease_one(inbox).parts == ()

    take_back(inbox, database)

    assert lease_one(inbox).parts == ()


def test_parts_are_remembered_in_their_order(inbox: Inbox) -> None:
    put(inbox, question(1))
    delivery = lease_one(inbox)
    inbox.intend_post(delivery, 2)
    inbox.intend_post(delivery, 1)
    inbox.record_post(delivery, 1, "9.2")
    inbox.record_post(delivery, 0, "9.1")

    inbox.retry(delivery, after=0.0)

    again = lease_one(inbox)
    assert again.parts == (PostedPart(0, "9.1"), PostedPart(1, "9.2"), PostedPart(2, None))


def parts_after(inbox: Inbox, *calls: tuple[str, str | None, str | None]) -> tuple[PostedPart, ...]:
    """Make calls about part 0, as (verb, ts, stale_ts); return what the next lease shows."""
    put(inbox, question(1))
    delivery = lease_one(inbox)
    for verb, ts, stale_ts in calls:
        if verb == "intend":
            inbox.intend_post(delivery, 0, stale_ts=stale_ts)
        elif verb == "record" and ts:
            inbox.record_post(delivery, 0, ts, stale_ts=stale_ts)
        elif ts:
            inbox.forget_post(delivery, 0, ts)
    inbox.release(delivery)
    return lease_one(inbox).parts


def test_after_an_intent_nobody_knows_which_message_stands(inbox: Inbox) -> None:
    calls = ("record", "9.1", None), ("intend", None, None)

    assert parts_after(inbox, *calls) == (PostedPart(0, None, "9.1"),)


def test_a_message_in_place_of_another_leaves_that_one_stale(inbox: Inbox) -> None:
    calls = ("record", "9.1", None), ("intend", None, "9.1"), ("record", "9.2", "9.1")

    assert parts_after(inbox, *calls) == (PostedPart(0, "9.2", "9.1"),)


def test_an_older_message_is_remembered_until_it_is_forgotten(inbox: Inbox) -> None:
    calls = ("record", "9.1", None), ("intend", None, "9.1"), ("record", "9.2", None)

    assert parts_after(inbox, *calls) == (PostedPart(0, "9.2", "9.1"),)


def test_a_message_that_stands_again_is_not_stale(inbox: Inbox) -> None:
    calls = ("record", "9.1", None), ("intend", None, "9.1"), ("record", "9.1", None)

    assert parts_after(inbox, *calls) == (PostedPart(0, "9.1"),)


def test_a_stale_message_that_is_deleted_is_forgotten(inbox: Inbox) -> None:
    calls = ("record", "9.2", "9.1"), ("forget", "9.1", None)

    assert parts_after(inbox, *calls) == (PostedPart(0, "9.2"),)


def test_a_part_whose_only_message_is_deleted_is_forgotten(inbox: Inbox) -> None:
    calls = ("record", "9.1", None), ("forget", "9.1", None)

    assert parts_after(inbox, *calls) == ()


def test_another_message_than_the_deleted_one_stays(inbox: Inbox) -> None:
    calls = ("record", "9.2", None), ("forget", "9.1", None)

    assert parts_after(inbox, *calls) == (PostedPart(0, "9.2"),)


# Too many.


def test_questions_past_the_limit_are_refused_and_told_so_first(inbox: Inbox) -> None:
    assert put(inbox, *(question(n) for n in range(1, 5))) == [NEW] * 4
    assert put(inbox, question(5), question(1), question(6), question(7)) == [
        NEW,
        DUPLICATE,
        REFUSED,
        REFUSED,
    ]

    deliveries = inbox.lease(10)

    order = [(delivery.question, delivery.is_refused) for delivery in deliveries]
    assert order == [(question(6), True), (question(7), True), (question(1), False)]


def test_a_refused_question_holds_up_nobody(inbox: Inbox, database: Database) -> None:
    put(inbox, *(question(n) for n in range(1, 7)))
    refused, first = inbox.lease(10)
    inbox.retry(refused, after=1.0)
    inbox.finish(first, outcome="delivered")
    assert leased(inbox) == [question(2)]

    elapse(database, 1.0)
    again = lease_one(inbox)
    assert (again.question, again.is_refused, again.attempt) == (question(6), True, 2)
    inbox.finish(again, outcome="delivered")
    assert leased(inbox) == []


def test_there_is_room_again_when_fewer_wait(inbox: Inbox) -> None:
    put(inbox, *(question(n, thread=f"{n}") for n in range(5)))
    assert put(inbox, question(5)) == [REFUSED]
    inbox.lease(2)

    assert put(inbox, question(6), question(7), question(8)) == [NEW, REFUSED, REFUSED]
