"""Links that come, go, break off, fall silent and are refused."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chatrelaybot.errors import ConfigurationError, PermanentError, RateLimited, TransientError
from chatrelaybot.link import Links
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.links import Cut
from chatrelaybot.playground.workspace import Workspace
from tests.listening import DEADLINE, HASTY, Acker, Line

OPEN = "apps.connections.open"


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that sends again soon."""
    with Workspace(
        limits=Limits.none(),
        ack_seconds=0.5,
        redelivery=(0.0, 0.1, 0.2),
        resume_seconds=0.01,
        ping_seconds=60.0,
    ) as workspace:
        yield workspace


@pytest.fixture(name="line")
def _line(workspace: Workspace) -> Iterator[Line]:
    """Links that are up, and whose envelopes are acked."""
    with Line(workspace) as line:
        line.run(Acker(line).step)
        workspace.wait_for_link()
        yield line


@pytest.fixture(name="ask")
def _ask(workspace: Workspace) -> Callable[[], None]:
    """Return a function that sends a question, and waits until it is acked."""
    dm = workspace.open_dm()

    def ask() -> None:
        ts = workspace.say(dm, "hello")
        workspace.wait_for(lambda: workspace.deliveries_of(dm, ts)[0].acks)

    return ask


def open_calls(workspace: Workspace) -> list[Any]:
    return [call for call in workspace.calls if call.method == OPEN]


def wait_for_links(workspace: Workspace, count: int) -> None:
    """Wait for the hello of the link of this number."""
    workspace.wait_for(lambda: len([link for link in workspace.links if link.hello_at]) >= count)


def wait_for(predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not predicate():
        assert time.monotonic() < deadline, [thread.name for thread in threading.enumerate()]
        threading.Event().wait(0.005)


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if "-link-" in thread.name]


# --- up --------------------------------------------------------------------------------------


def test_a_link_comes_up_and_acks_go_back_over_it(
    workspace: Workspace, line: Line, ask: Callable[[], None]
) -> None:
    ask()

    workspace.wait_for(lambda: line.links.is_up)
    assert line.links.last_life is not None
    assert line.links.reconnect_count == 0
    assert [link.is_open for link in workspace.links] == [True]


def test_a_link_comes_up_although_nobody_receives(workspace: Workspace) -> None:
    """A slow commit must not make a link look as if Slack had not said hello."""
    with Line(workspace) as line:
        workspace.say(workspace.open_dm(), "hello")

        workspace.wait_for(lambda: line.links.is_up)


def test_links_are_not_up_before_the_hello(workspace: Workspace) -> None:
    workspace.plan_links(says_hello=False)
    with Line(workspace) as line:
        workspace.wait_for(lambda: workspace.links)

        assert not line.links.is_up
        assert line.links.last_life is None


@pytest.mark.parametrize("length", [70_000, 2_000_000])
def test_a_long_message_arrives_whole(workspace: Workspace, length: int) -> None:
    with Line(workspace) as line:
        acker = Acker(line)
        line.run(acker.step)

        workspace.say(workspace.open_dm(), "x" * length)

        workspace.wait_for(lambda: acker.events)
        assert acker.events[0]["text"] == "x" * length


def test_a_message_in_several_frames_arrives_whole(workspace: Workspace) -> None:
    workspace.shape_envelopes(fragments=7)
    with Line(workspace) as line:
        acker = Acker(line)
        line.run(acker.step)

        workspace.say(workspace.open_dm(), "Grüße, in pieces")

        workspace.wait_for(lambda: acker.events)
        assert acker.events[0]["text"] == "Grüße, in pieces"


def test_a_message_that_is_no_envelope_is_passed_over(
    line: Line, ask: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    ask()
    (link,) = line.links._links

    for text in ("garbage of a secret kind", '{"type": "novelty"}', "[]"):
        link.enqueue_message(text)
    ask()

    assert [r.getMessage() for r in caplog.records].count("message not understood") == 3
    assert "secret" not in caplog.text


# --- lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close_frame", "fin", "reset"])
def test_a_link_that_is_cut_is_replaced_at_once(
    workspace: Workspace, line: Line, ask: Callable[[], None], how: Cut
) -> None:
    ask()

    began = time.monotonic()
    workspace.cut_link(how)
    wait_for_links(workspace, 2)

    assert time.monotonic() - began < 1.0
    ask()
    workspace.wait_for(lambda: line.links.is_up)
    assert line.links.reconnect_count == 1


def test_a_link_that_falls_silent_is_replaced(workspace: Workspace) -> None:
    with Line(workspace, patience=replace(HASTY, silence=0.3)) as line:
        workspace.wait_for(lambda: line.links.is_up)

        began = time.monotonic()
        workspace.cut_link("silence")
        wait_for_links(workspace, 2)

        assert 0.2 < time.monotonic() - began < 1.0


def test_a_link_that_never_answers_a_ping_is_replaced(workspace: Workspace) -> None:
    workspace.plan_links(cut="no_pong")
    with Line(workspace, patience=replace(HASTY, silence=0.3)):
        wait_for_links(workspace, 2)

    assert len(workspace.links) == 2


def test_what_slack_sends_counts_as_life(workspace: Workspace) -> None:
    """So a link whose pings go unanswered is kept for as long as events come over it."""
    dm = workspace.open_dm()
    workspace.plan_links(cut="no_pong")
    with Line(workspace, patience=replace(HASTY, silence=0.3)) as line:
        line.run(Acker(line).step)
        workspace.wait_for_link()

        began = time.monotonic()
        while time.monotonic() - began < 0.6:
            workspace.say(dm, "still here")
            threading.Event().wait(0.05)

        assert len(workspace.links) == 1


def test_links_are_not_up_while_the_only_one_is_silent(workspace: Workspace) -> None:
    patience = replace(HASTY, silence=0.2)
    with Line(workspace, patience=patience) as line:
        workspace.wait_for(lambda: line.links.is_up)

        fault = workspace.faults.add(OPEN, hold="before", times=None)
        workspace.cut_link("silence")

        workspace.wait_for(lambda: not line.links.is_up)
        workspace.faults.remove(fault)
        workspace.wait_for(lambda: line.links.is_up)


def test_a_frame_that_stops_in_the_middle_goes_on(
    workspace: Workspace, line: Line, ask: Callable[[], None]
) -> None:
    workspace.shape_envelopes(stall_seconds=0.2)

    ask()

    assert line.links.is_up
    assert len(workspace.links) == 1


def test_a_frame_that_never_ends_costs_the_link(workspace: Workspace) -> None:
    workspace.shape_envelopes(stall_seconds=60.0)
    with Line(workspace, patience=replace(HASTY, silence=0.3)) as line:
        line.run(Acker(line).step)
        workspace.wait_for_link()
        dm = workspace.open_dm()

        began = time.monotonic()
        ts = workspace.say(dm, "hello")
        wait_for_links(workspace, 2)

        assert time.monotonic() - began < 1.0
        workspace.wait_for(lambda: workspace.deliveries_of(dm, ts)[0].acks)


def test_an_outage_is_survived(workspace: Workspace, line: Line, ask: Callable[[], None]) -> None:
    ask()

    workspace.go_down()
    workspace.wait_for(lambda: not line.links.is_up)
    workspace.come_up()

    workspace.wait_for(lambda: line.links.is_up)
    ask()


def test_fifty_links_leave_no_thread(workspace: Workspace) -> None:
    kinds: list[Cut] = ["close_frame", "fin", "reset"]
    before = threading.active_count()
    with Line(workspace) as line:
        for number in range(1, 51):
            wait_for_links(workspace, number)
            workspace.wait_for(lambda: line.links.is_up)
            if number % 2:
                workspace.cut_link(kinds[number % 3])
            else:
                workspace.warn_disconnect("refresh_requested", number=number)
        wait_for_links(workspace, 51)
        # One thread for `step`, one that reads, one that pings.
        wait_for(lambda: threading.active_count() == before + 3)

    assert threading.active_count() == before
    assert workspace.refused_link_count == 0, "a ticket was used twice"


# --- replaced --------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
def test_a_new_link_is_up_before_the_old_one_goes(
    workspace: Workspace, line: Line, reason: Any
) -> None:
    workspace.wait_for(lambda: line.links.is_up)

    workspace.warn_disconnect(reason)
    workspace.wait_for(lambda: workspace.links[0].closed_at)

    first, second = workspace.links
    assert first.closed_at is not None
    assert second.hello_at is not None
    assert first.closed_at - second.hello_at > HASTY.grace * 0.5
    assert line.links.is_up


def test_warning_and_refresh_make_one_new_link(
    workspace: Workspace, line: Line, ask: Callable[[], None]
) -> None:
    workspace.wait_for(lambda: line.links.is_up)

    workspace.warn_disconnect("warning", number=1)
    workspace.warn_disconnect("refresh_requested", number=1, close_after=0.02)
    workspace.wait_for(lambda: workspace.links[0].closed_at)
    ask()

    assert len(open_calls(workspace)) == 2
    assert len(workspace.links) == 2


def test_a_refresh_after_the_new_link_is_up_makes_no_third(workspace: Workspace) -> None:
    with Line(workspace, patience=replace(HASTY, grace=0.5)) as line:
        line.run(Acker(line).step)
        workspace.wait_for(lambda: line.links.is_up)
        workspace.warn_disconnect("warning", number=1)
        wait_for_links(workspace, 2)
        workspace.wait_for(lambda: line.links.reconnect_count == 1)

        workspace.warn_disconnect("refresh_requested", number=1)
        workspace.wait_for(lambda: workspace.links[0].closed_at)

        assert len(workspace.links) == 2


def test_the_old_link_is_served_until_it_goes(workspace: Workspace) -> None:
    """Slack sends over any link; what came over the old one is acked there."""
    channel = workspace.add_channel()
    with Line(workspace, patience=replace(HASTY, grace=0.5)) as line:
        line.run(Acker(line).step)
        workspace.wait_for(lambda: line.links.is_up)
        workspace.warn_disconnect("warning")
        wait_for_links(workspace, 2)

        workspace.burst(20, channels=[channel])
        workspace.wait_for(lambda: workspace.acked_count == 20)

    for delivery in workspace.deliveries:
        assert len(delivery.sends) == 1
        assert delivery.acks[0].link == delivery.sends[0].link
    assert {delivery.sends[0].link for delivery in workspace.deliveries} == {1, 2}


def test_acks_go_out_while_slack_does_not_give_a_new_link(
    workspace: Workspace, line: Line, ask: Callable[[], None]
) -> None:
    ask()
    fault = workspace.faults.add(OPEN, hold="before")
    workspace.warn_disconnect("warning")
    workspace.wait_for(lambda: fault.count)

    began = time.monotonic()
    ask()

    assert time.monotonic() - began < 0.5
    assert line.links.is_up
    fault.release()
    wait_for_links(workspace, 2)


def test_a_link_whose_successor_is_refused_serves_on(
    workspace: Workspace, line: Line, ask: Callable[[], None]
) -> None:
    ask()
    workspace.faults.add(OPEN, error="internal_error", times=2)
    workspace.refuse_links(2, status=503)

    workspace.warn_disconnect("refresh_requested", number=1)
    workspace.wait_for(lambda: workspace.refused_link_count == 2)

    assert line.links.is_up
    ask()
    wait_for_links(workspace, 2)


# --- refused ---------------------------------------------------------------------------------


def test_a_link_without_a_hello_is_given_up(workspace: Workspace) -> None:
    workspace.plan_links(says_hello=False)
    with Line(workspace, patience=replace(HASTY, hello=0.2)) as line:
        workspace.wait_for(lambda: line.links.is_up)

        first, second = workspace.links
        assert 0.15 < second.opened_at - first.opened_at < 1.0


def test_a_handshake_that_takes_too_long_is_given_up(workspace: Workspace) -> None:
    workspace.plan_links(delay=60.0)
    with Line(workspace, patience=replace(HASTY, hello=0.2)) as line:
        workspace.wait_for(lambda: line.links.is_up)


@pytest.mark.parametrize("status", [400, 409, 429, 503])
def test_a_refused_handshake_is_tried_again(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    workspace.refuse_links(2, status=status)
    with Line(workspace) as line:
        workspace.wait_for(lambda: line.links.is_up)

    assert len(open_calls(workspace)) == 3
    reasons = [record.__dict__.get("reason") for record in caplog.records]
    assert reasons.count(f"handshake refused {status}") == 2


@pytest.mark.parametrize("reason", ["too_many_websockets", "link_disabled"])
def test_a_link_that_is_not_wanted_is_followed_with_back_off(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, reason: Any
) -> None:
    workspace.plan_links(2, says_hello=False, disconnect=reason)
    patience = replace(HASTY, first_retry=0.1, last_retry=0.2)
    with Line(workspace, patience=patience, chance=lambda: 0.0) as line:
        workspace.wait_for(lambda: line.links.is_up)

    first, second, third = workspace.links
    assert second.opened_at - first.opened_at > 0.1
    assert third.opened_at - second.opened_at > 0.2
    (record, _) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["mend"]


def test_a_link_that_is_not_wanted_after_its_hello_is_followed_with_back_off(
    workspace: Workspace,
) -> None:
    patience = replace(HASTY, first_retry=0.1)
    with Line(workspace, patience=patience, chance=lambda: 0.0) as line:
        workspace.wait_for(lambda: line.links.is_up)

        began = time.monotonic()
        workspace.warn_disconnect("too_many_websockets", number=1)
        wait_for_links(workspace, 2)

        assert time.monotonic() - began > 0.1


def test_links_that_end_soon_are_followed_with_back_off(workspace: Workspace) -> None:
    """The first one is followed at once: it may have been chance."""
    workspace.plan_links(3, cut="fin")
    patience = replace(HASTY, settled=60.0, first_retry=0.2, last_retry=0.4)
    with Line(workspace, patience=patience, chance=lambda: 0.0):
        wait_for_links(workspace, 4)

    opened = [link.opened_at for link in workspace.links]
    first, second, third = (b - a for a, b in itertools.pairwise(opened))
    assert first < 0.2
    assert second > 0.2
    assert third > 0.4


@pytest.mark.parametrize(
    "error", ["invalid_auth", "account_inactive", "token_revoked", "token_expired"]
)
def test_a_refused_token_ends_the_loop(workspace: Workspace, error: str) -> None:
    workspace.revoke_token(which="app", error=error)
    line = Line(workspace)

    with pytest.raises(ConfigurationError, match=error) as caught:
        line.links.step()

    assert caught.value.setting == "SLACK_APP_TOKEN"
    line.slack.close()


def test_the_token_of_the_bot_is_refused(workspace: Workspace) -> None:
    line = Line(workspace)
    links = Links(open_url=lambda: line.slack.open_link_url(workspace.bot_token))

    with pytest.raises(ConfigurationError, match="not_allowed_token_type") as caught:
        links.step()

    assert caught.value.setting == "SLACK_APP_TOKEN"
    line.slack.close()


# --- back-off, by a clock of our own -----------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Refusals:
    """Refuses to give an address, and notes when it was asked for one."""

    def __init__(self, clock: Clock, error: Exception) -> None:
        self.asked_at: list[float] = []
        self._clock = clock
        self._error = error

    def __call__(self) -> str:
        self.asked_at.append(self._clock.now)
        raise self._error


def gaps(error: Exception, *, chance: float, count: int) -> list[float]:
    """Return how long the links wait between one refused try and the next, in seconds."""
    clock = Clock()
    refusals = Refusals(clock, error)
    links = Links(open_url=refusals, clock=clock, chance=lambda: chance)
    while len(refusals.asked_at) <= count:
        links.wake()  # So that no step waits for a clock that stands still.
        links.step()
        clock.now += 0.0625
    return [b - a for a, b in itertools.pairwise(refusals.asked_at)]


def test_the_wait_between_two_tries_doubles_up_to_a_limit() -> None:
    error = TransientError("no network")

    assert gaps(error, chance=0.0, count=8) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_up_to_half_of_the_wait_is_left_to_chance() -> None:
    error = PermanentError("some code that nobody knows")

    assert gaps(error, chance=1.0, count=3) == [0.25, 0.5, 1.0]


def test_slack_is_not_asked_again_before_it_wants_to_be() -> None:
    error = RateLimited("patience", retry_after=45.0)

    assert gaps(error, chance=0.0, count=2) == [45.0, 45.0]


# --- the end ---------------------------------------------------------------------------------


def test_closing_says_good_bye_and_leaves_no_thread(workspace: Workspace) -> None:
    with Line(workspace) as line:
        line.run(Acker(line).step)
        workspace.wait_for(lambda: line.links.is_up)

        began = time.monotonic()
        line.links.close()

        assert time.monotonic() - began < 0.9, "the good-bye was not answered"
        assert not line.links.is_up
        assert no_thread_is_left()
        workspace.wait_for(lambda: not workspace.open_links)
    assert len(workspace.links) == 1


def test_closing_waits_for_acks_of_what_has_arrived(workspace: Workspace) -> None:
    channel = workspace.add_channel()
    with Line(workspace, patience=replace(HASTY, flush=DEADLINE)) as line:
        acker = Acker(line)
        line.run(acker.step)
        workspace.wait_for(lambda: line.links.is_up)
        acker.gate.clear()
        workspace.burst(1, channels=[channel])
        assert acker.is_held.wait(DEADLINE)
        workspace.burst(9, channels=[channel])
        wait_for(lambda: line.links._received.qsize() == 9)

        closing = threading.Thread(target=line.links.close)
        closing.start()
        workspace.wait_for(lambda: not line.links.is_up)
        acker.gate.set()
        closing.join(DEADLINE)

        assert not closing.is_alive()
    assert workspace.acked_count == 10
    assert {len(delivery.sends) for delivery in workspace.deliveries} == {1}


def test_closing_does_not_wait_for_long_where_nobody_receives(workspace: Workspace) -> None:
    with Line(workspace, patience=replace(HASTY, flush=0.1)) as line:
        workspace.wait_for(lambda: line.links.is_up)
        workspace.say(workspace.open_dm(), "hello")

        began = time.monotonic()
        line.links.close()

        assert time.monotonic() - began < 1.0


def test_closing_does_not_wait_for_long_for_a_silent_link(workspace: Workspace) -> None:
    with Line(workspace, patience=replace(HASTY, silence=60.0)) as line:
        line.run(Acker(line).step)
        workspace.wait_for(lambda: line.links.is_up)
        workspace.cut_link("silence")

        began = time.monotonic()
        line.links.close()

        assert time.monotonic() - began < 2.0
        assert no_thread_is_left()


def test_closing_while_slack_is_asked_for_a_link_leaves_none(workspace: Workspace) -> None:
    fault = workspace.faults.add(OPEN, hold="before")
    with Line(workspace, patience=replace(HASTY, flush=0.01)) as line:
        workspace.wait_for(lambda: fault.count)
        line.links.close()
        fault.release()

    assert no_thread_is_left()
    workspace.wait_for(lambda: not workspace.open_links)
    assert not line.links.is_up


def test_a_link_is_closed_by_two_threads_at_once(workspace: Workspace) -> None:
    with Line(workspace) as line:
        line.run(Acker(line).step)
        workspace.wait_for(lambda: line.links.is_up)

        threads = [threading.Thread(target=line.links.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)

        assert not any(thread.is_alive() for thread in threads)
    assert no_thread_is_left()


# --- logs ------------------------------------------------------------------------------------


def test_no_ticket_and_no_text_is_logged(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "urllib3"):
        caplog.set_level(logging.WARNING, logger=name)
    workspace.plan_links(1, status=503)
    with Line(workspace) as line:
        line.run(Acker(line).step)
        dm = workspace.open_dm()
        for _ in range(2):
            workspace.wait_for(lambda: line.links.is_up)
            workspace.say(dm, "a secret question")
            workspace.cut_link("fin")
            workspace.wait_for(lambda: not line.links.is_up)

    facts = " ".join(str(record.__dict__) for record in caplog.records)
    assert "link lost" in facts
    assert "ticket=" not in facts
    assert "secret" not in facts
