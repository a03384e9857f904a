"""Socket Mode of the local workspace, seen frame by frame."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websocket import (
    ABNF,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketTimeoutException,
)

from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.playground_app import App, Link


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that is soon impatient."""
    with Workspace(
        limits=Limits.none(),
        ack_seconds=0.15,
        redelivery=(0.0, 0.1, 0.2),
        resume_seconds=0.05,
    ) as workspace:
        yield workspace


@pytest.fixture(name="app")
def _app(workspace: Workspace) -> Iterator[App]:
    with App(workspace) as app:
        yield app


@pytest.fixture(name="channel")
def _channel(workspace: Workspace) -> str:
    return workspace.add_channel()


def mention(app: App, channel: str) -> str:
    return app.workspace.say(channel, f"{app.workspace.mention} hello")


# Links.


def test_a_link_begins_with_hello(app: App) -> None:
    first, second = app.open_link().read(), app.open_link().read()

    assert (first["type"], first["num_connections"]) == ("hello", 1)
    assert second["num_connections"] == 2
    assert first["connection_info"] == {"app_id": app.workspace.app_id}
    assert first["debug_info"]["approximate_connection_time"] == 18060


def test_an_address_is_good_for_one_link(app: App) -> None:
    url = app.link_url()
    first = Link(url)
    try:
        with pytest.raises(WebSocketBadStatusException) as refused:
            Link(url)
    finally:
        first.close()

    assert refused.value.status_code == 400


def test_an_eleventh_link_is_too_many(app: App) -> None:
    for _ in range(10):
        app.ready_link()

    eleventh = app.open_link()

    assert eleventh.read()["reason"] == "too_many_websockets"
    with pytest.raises(ConnectionError):
        eleventh.read()
    assert len(app.workspace.open_links) == 10


def test_a_link_that_was_closed_makes_room(app: App) -> None:
    link = app.ready_link()

    link.close()

    app.workspace.wait_for(lambda: not app.workspace.open_links)


def test_a_ping_is_answered_with_the_same_payload(app: App) -> None:
    link = app.ready_link()

    link.socket.ping(b"mark")

    frames = [link.read_frame() for _ in range(2)]
    assert (ABNF.OPCODE_PONG, b"mark") in [(frame.opcode, frame.data) for frame in frames]


def test_slack_pings_its_links(app: App) -> None:
    link = app.ready_link()

    assert link.read_frame().opcode == ABNF.OPCODE_PING


def test_a_link_that_answers_no_ping_is_given_up() -> None:
    with Workspace(ping_seconds=0.03) as workspace, App(workspace) as app:
        app.ready_link()  # and is not read any more

        workspace.wait_for(lambda: workspace.links[0].closed_at)

        assert not workspace.open_links


# Deliveries.


def test_an_envelope_carries_an_event_and_is_acked(app: App, channel: str) -> None:
    link = app.ready_link()
    ts = mention(app, channel)

    envelope = link.read()
    link.ack(envelope)

    [delivery] = app.workspace.deliveries_of(channel, ts)
    app.workspace.wait_for(lambda: app.workspace.delivery(delivery.event_id).acks)
    assert (envelope["type"], envelope["retry_attempt"], envelope["retry_reason"]) == (
        "events_api",
        0,
        "",
    )
    assert envelope["payload"]["event_id"] == delivery.event_id
    assert envelope["payload"]["event"]["ts"] == ts
    assert app.workspace.acked_count == 1
    assert (app.workspace.delivery(delivery.event_id).ack_seconds or 9.0) < 5


def test_an_event_without_an_ack_is_sent_again_on_the_schedule(app: App, channel: str) -> None:
    link = app.ready_link()
    ts = mention(app, channel)

    envelopes = [link.read() for _ in range(4)]

    [delivery] = app.workspace.wait_for(
        lambda: [d for d in app.workspace.deliveries_of(channel, ts) if d.is_given_up]
    )
    assert [(e["retry_attempt"], e["retry_reason"]) for e in envelopes] == [
        (0, ""),
        (1, "timeout"),
        (2, "timeout"),
        (3, "timeout"),
    ]
    assert {e["payload"]["event_id"] for e in envelopes} == {delivery.event_id}
    assert len({e["envelope_id"] for e in envelopes}) == 4
    times = [send.at for send in delivery.sends]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert all(wait >= least for wait, least in zip(waits, (0.15, 0.25, 0.35), strict=True))


def test_an_acked_event_is_not_sent_again(app: App, channel: str) -> None:
    link = app.ready_link()
    mention(app, channel)
    link.ack(link.read())

    ts = mention(app, channel)  # unacked: its second delivery shows that time has passed

    later = [link.read()["payload"]["event"]["ts"] for _ in range(2)]
    assert later == [ts, ts]


def test_an_ack_counts_on_whatever_link_it_comes(app: App, channel: str) -> None:
    first, second = app.ready_link(), app.ready_link()
    ts = mention(app, channel)

    [delivery] = app.workspace.wait_for(
        lambda: [d for d in app.workspace.deliveries_of(channel, ts) if d.sends]
    )
    sender, other = (first, second) if delivery.sends[0].link == 1 else (second, first)
    other.ack(sender.read())

    app.workspace.wait_for(lambda: app.workspace.acked_count)
    [ack] = app.workspace.delivery(delivery.event_id).acks
    assert ack.link != delivery.sends[0].link


def test_each_event_goes_over_one_link(app: App, channel: str) -> None:
    links = [app.ready_link(), app.ready_link()]

    stamps = [mention(app, channel) for _ in range(4)]

    read = [links[n % 2].read()["payload"]["event"]["ts"] for n in range(4)]
    assert sorted(read) == stamps


def test_events_wait_for_a_link_and_come_as_retries(app: App, channel: str) -> None:
    ts = mention(app, channel)

    envelope = app.ready_link().read()

    assert (envelope["retry_attempt"], envelope["retry_reason"]) == (1, "timeout")
    assert envelope["payload"]["event"]["ts"] == ts


def test_what_is_no_ack_is_passed_over(app: App, channel: str) -> None:
    link = app.ready_link()
    for text in ("{", "[]", '{"envelope_id": 1}', '{"envelope_id": "unknown"}'):
        link.socket.send(text)

    mention(app, channel)
    link.ack(link.read())

    app.workspace.wait_for(lambda: app.workspace.acked_count)


def test_the_same_event_id_may_be_sent_twice(app: App, channel: str) -> None:
    link = app.ready_link()
    event = {"type": "app_mention", "channel": channel, "ts": "1700000000.000100", "text": "x"}

    for _ in range(2):
        app.workspace.send_event(event, event_id="EvTWICE")

    assert [link.read()["payload"]["event_id"] for _ in range(2)] == ["EvTWICE"] * 2


def test_a_burst_is_mentions_in_turn_in_all_channels(app: App) -> None:
    link = app.ready_link()
    channels = [app.workspace.add_channel(name) for name in ("one", "two")]

    stamps = app.workspace.burst(5, channels=channels)

    events = [link.read()["payload"]["event"] for _ in range(5)]
    assert [event["ts"] for event in events] == stamps
    assert [event["channel"] for event in events] == [channels[n % 2] for n in range(5)]
    assert {event["type"] for event in events} == {"app_mention"}


# What goes wrong.


def test_a_link_may_be_closed_with_a_close_frame(app: App) -> None:
    link = app.ready_link()

    app.workspace.cut_link("close_frame")

    with pytest.raises(ConnectionError, match="close frame"):
        link.read()
    app.workspace.wait_for(lambda: not app.workspace.open_links)


def test_a_link_may_end_without_a_word(app: App) -> None:
    link = app.ready_link()

    app.workspace.cut_link("fin")

    assert link.read_frame().opcode == ABNF.OPCODE_PING
    with pytest.raises(WebSocketConnectionClosedException):
        link.read_frame()


def test_a_link_may_be_reset(app: App) -> None:
    link = app.ready_link()

    app.workspace.cut_link("reset")

    with pytest.raises(ConnectionResetError):
        link.read()


def test_a_silent_link_takes_everything_and_answers_nothing(app: App, channel: str) -> None:
    link = app.ready_link()
    link.socket.ping(b"before")
    frames = [link.read_frame() for _ in range(2)]
    link.socket.settimeout(0.1)

    app.workspace.cut_link("silence")
    mention(app, channel)
    link.socket.ping(b"after")

    assert b"before" in [frame.data for frame in frames]
    with pytest.raises(WebSocketTimeoutException):
        link.read_frame()
    assert app.workspace.open_links  # Slack does not know yet


def test_a_link_may_be_silent_from_the_very_start(app: App) -> None:
    app.workspace.plan_links(says_hello=False, cut="silence")
    link = app.open_link()
    link.socket.settimeout(0.1)

    link.socket.ping(b"x")

    with pytest.raises(WebSocketTimeoutException):
        link.read_frame()


def test_a_silent_link_is_given_up_after_unanswered_pings() -> None:
    with Workspace(ping_seconds=0.03) as workspace, App(workspace) as app:
        app.ready_link()

        workspace.cut_link("silence")

        workspace.wait_for(lambda: not workspace.open_links)


def test_a_link_may_withhold_its_pongs_while_events_come(app: App, channel: str) -> None:
    link = app.ready_link()
    app.workspace.cut_link("no_pong")
    link.socket.ping(b"x")

    mention(app, channel)

    opcodes = [link.read_frame().opcode for _ in range(2)]
    assert opcodes == [ABNF.OPCODE_PING, ABNF.OPCODE_TEXT]


def test_a_link_without_hello_gets_no_events(app: App, channel: str) -> None:
    app.workspace.plan_links(says_hello=False)
    mute = app.open_link()
    mute.socket.settimeout(0.1)

    mention(app, channel)

    with pytest.raises(WebSocketTimeoutException):
        mute.read()
    assert app.ready_link().read()["type"] == "events_api"


@pytest.mark.parametrize("status", [409, 500])
def test_a_handshake_may_be_refused(app: App, status: int) -> None:
    app.workspace.refuse_links(status=status)

    with pytest.raises(WebSocketBadStatusException) as refused:
        app.open_link()

    assert refused.value.status_code == status
    assert app.workspace.refused_link_count == 1
    assert app.open_link().read()["type"] == "hello"


def test_a_handshake_may_be_slow(app: App) -> None:
    app.workspace.plan_links(delay=0.1)
    began = time.monotonic()

    app.open_link()

    assert time.monotonic() - began >= 0.1


def test_a_storm_disconnects_every_new_link(app: App) -> None:
    app.workspace.plan_links(3, disconnect="refresh_requested")

    first_words = [app.open_link().read() for _ in range(4)]

    assert [word.get("reason") for word in first_words] == ["refresh_requested"] * 3 + [None]


def test_slack_warns_and_then_closes_the_link(app: App) -> None:
    link = app.ready_link()

    app.workspace.warn_disconnect("warning")
    app.workspace.warn_disconnect("refresh_requested", close_after=0.05)

    assert [link.read()["reason"] for _ in range(2)] == ["warning", "refresh_requested"]
    with pytest.raises(ConnectionError):
        link.read()


def test_one_link_of_several_may_be_cut(app: App) -> None:
    app.ready_link()
    app.ready_link()

    app.workspace.cut_link("fin", number=1)

    app.workspace.wait_for(lambda: len(app.workspace.open_links) == 1)
    assert app.workspace.open_links[0].number == 2


def test_an_envelope_may_come_in_fragments(app: App, channel: str) -> None:
    link = app.ready_link()
    app.workspace.shape_envelopes(fragments=3)
    ts = mention(app, channel)

    frames = [frame for _ in range(4) if (frame := link.read_frame()).opcode != ABNF.OPCODE_PING]

    assert [(f.fin, f.opcode) for f in frames] == [
        (0, ABNF.OPCODE_TEXT),
        (0, ABNF.OPCODE_CONT),
        (1, ABNF.OPCODE_CONT),
    ]
    assert ts in str([f.data for f in frames])


def test_a_frame_may_stop_in_its_middle_and_what_follows_waits(app: App, channel: str) -> None:
    link = app.ready_link()
    app.workspace.shape_envelopes(2, stall_seconds=0.05)
    began = time.monotonic()

    stamps = [mention(app, channel) for _ in range(2)]

    events: list[dict[str, Any]] = [link.read()["payload"]["event"] for _ in range(2)]
    assert [event["ts"] for event in events] == stamps
    assert time.monotonic() - began >= 0.1


def test_an_envelope_may_be_larger_than_a_mebibyte(app: App, channel: str) -> None:
    link = app.ready_link()

    app.workspace.say(channel, f"{app.workspace.mention} {'x' * 2**20}")

    assert len(link.read()["payload"]["event"]["text"]) > 2**20
