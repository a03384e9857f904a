"""What people do in the local workspace, and the events that the app gets."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatrelaybot.events import Identity, Question, Reading, parse
from chatrelaybot.playground.board import Change, NeverHappened
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import SUBSCRIPTIONS, Workspace
from tests.playground_app import App, Link


@pytest.fixture(name="app")
def _app(workspace: Workspace) -> Iterator[App]:
    with App(workspace) as app:
        yield app


@pytest.fixture(name="link")
def _link(app: App) -> Link:
    return app.ready_link()


def next_event(link: Link) -> dict[str, Any]:
    envelope = link.read()
    link.ack(envelope)
    event: dict[str, Any] = envelope["payload"]["event"]
    return event


def test_a_mention_in_a_channel_is_an_app_mention(workspace: Workspace, link: Link) -> None:
    channel = workspace.add_channel()

    ts = workspace.say(channel, f"{workspace.mention} hello")

    event = next_event(link)
    assert (event["type"], event["channel"], event["ts"], event["event_ts"]) == (
        "app_mention",
        channel,
        ts,
        ts,
    )
    assert event["client_msg_id"]
    assert "channel_type" not in event


def test_a_message_without_a_mention_is_nobodys_business(workspace: Workspace, link: Link) -> None:
    channel = workspace.add_channel()
    workspace.say(channel, "hello all")

    ts = workspace.say(channel, workspace.mention)

    assert next_event(link)["ts"] == ts


def test_a_direct_message_is_a_message_even_with_a_mention(
    workspace: Workspace, link: Link
) -> None:
    workspace.say(workspace.open_dm(), f"{workspace.mention} hello")

    event = next_event(link)
    assert (event["type"], event["channel_type"]) == ("message", "im")


def test_a_group_message_names_its_kind(workspace: Workspace, link: Link) -> None:
    workspace.say(workspace.add_mpim(), "hello")

    assert next_event(link)["channel_type"] == "mpim"


def test_a_twin_follows_as_a_message_of_its_own_event(workspace: Workspace, link: Link) -> None:
    ts = workspace.say(workspace.add_channel(), f"{workspace.mention} hello", twin=True)

    envelopes = [link.read() for _ in range(2)]

    assert [e["payload"]["event"]["type"] for e in envelopes] == ["app_mention", "message"]
    assert {e["payload"]["event"]["ts"] for e in envelopes} == {ts}
    assert len({e["payload"]["event_id"] for e in envelopes}) == 2


def test_what_people_type_is_escaped_and_mentions_are_not(workspace: Workspace) -> None:
    channel = workspace.add_channel()

    ts = workspace.say(channel, f"{workspace.mention} a < b & <!channel> <#{channel}|general>")

    message = workspace.message(channel, ts)
    assert message.text == (
        f"{workspace.mention} a &lt; b &amp; &lt;!channel&gt; <#{channel}|general>"
    )
    assert message.shown == f"{workspace.mention} a < b & <!channel> <#{channel}|general>"


def test_raw_text_is_sent_as_it_is(workspace: Workspace) -> None:
    channel = workspace.add_channel()

    ts = workspace.say(channel, "<!here> & <https://example.com|link>", raw=True)

    message = workspace.message(channel, ts)
    assert message.text == "<!here> & <https://example.com|link>"
    assert message.live_tokens == ["<!here>", "<https://example.com|link>"]


def test_the_blocks_of_a_mention_name_the_user(workspace: Workspace, link: Link) -> None:
    workspace.say(workspace.add_channel(), f"{workspace.mention} a<b")

    [section] = next_event(link)["blocks"][0]["elements"]
    assert section["elements"] == [
        {"type": "user", "user_id": workspace.bot_user_id},
        {"type": "text", "text": " a<b"},
    ]


def test_a_message_in_a_thread_names_the_thread(workspace: Workspace, link: Link) -> None:
    channel, bob = workspace.add_channel(), workspace.add_user("bob")
    root = workspace.say(channel, "root", user=bob)

    workspace.say(channel, workspace.mention, thread_ts=root, subtype="thread_broadcast")

    event = next_event(link)
    assert (event["thread_ts"], event["parent_user_id"], event["subtype"]) == (
        root,
        bob,
        "thread_broadcast",
    )


def test_further_fields_come_along(workspace: Workspace, link: Link) -> None:
    dm = workspace.open_dm()

    workspace.say(dm, "look", subtype="file_share", extra={"files": [{"id": "F1"}]})

    assert next_event(link)["files"] == [{"id": "F1"}]


def test_another_bot_says_that_it_is_one(workspace: Workspace, link: Link) -> None:
    robot = workspace.add_user("robot", is_bot=True)

    workspace.say(workspace.add_channel(), workspace.mention, user=robot)

    assert next_event(link)["bot_id"].startswith("B")


def test_every_ts_is_later_than_the_one_before(workspace: Workspace) -> None:
    channel = workspace.add_channel()

    stamps = [workspace.say(channel, "x") for _ in range(200)]

    assert sorted(set(stamps)) == stamps


def test_an_edit_is_a_hidden_event_with_both_versions(workspace: Workspace, link: Link) -> None:
    dm = workspace.open_dm()
    ts = workspace.say(dm, "one")
    next_event(link)

    workspace.edit(dm, ts, "two")

    event = next_event(link)
    assert (event["subtype"], event["hidden"]) == ("message_changed", True)
    assert (event["previous_message"]["text"], event["message"]["text"]) == ("one", "two")


def test_a_deletion_is_a_hidden_event(workspace: Workspace, link: Link) -> None:
    dm = workspace.open_dm()
    ts = workspace.say(dm, "one")
    next_event(link)

    workspace.delete(dm, ts)

    event = next_event(link)
    assert (event["subtype"], event["deleted_ts"]) == ("message_deleted", ts)
    assert workspace.history(dm) == []


def test_the_bot_hears_its_own_posts_and_edits_in_direct_messages(app: App, link: Link) -> None:
    dm, channel = app.workspace.open_dm(), app.workspace.add_channel()

    app.post(channel, text="unheard")
    ts = app.post(dm, text="one")
    app.call("chat.update", channel=dm, ts=ts, text="two")

    posted, changed = next_event(link), next_event(link)
    assert (posted["ts"], posted["bot_id"]) == (ts, app.workspace.bot_id)
    assert changed["subtype"] == "message_changed"


def test_with_message_channels_everything_in_a_channel_is_told() -> None:
    subscriptions = {*SUBSCRIPTIONS, "message.channels"}
    with Workspace(subscriptions=subscriptions) as workspace, App(workspace) as app:
        link = app.ready_link()
        channel = workspace.add_channel()

        workspace.say(channel, "hello")
        app.post(channel, text="mine")

        assert [next_event(link)["text"] for _ in range(2)] == ["hello", "mine"]


def test_where_the_bot_is_no_member_it_hears_nothing(workspace: Workspace, link: Link) -> None:
    foreign, own = workspace.add_channel(bot_is_member=False), workspace.add_channel()

    workspace.say(foreign, workspace.mention)
    workspace.say(own, workspace.mention)

    assert next_event(link)["channel"] == own


def test_our_parser_reads_a_question_in_what_people_say(workspace: Workspace, link: Link) -> None:
    us = workspace.identity
    identity = Identity(
        user_id=us.user_id, bot_id=us.bot_id, team_id=workspace.team_id, name=us.name
    )
    ts = workspace.say(workspace.add_channel(), f"{workspace.mention} is 1 < 2 & 3?")

    question = parse(link.read(), Reading(identity=identity))

    assert isinstance(question, Question)
    assert (question.text, question.ts) == ("is 1 < 2 & 3?", ts)


# Looking.


def test_waiting_ends_with_the_change_that_was_waited_for(app: App) -> None:
    channel = app.workspace.add_channel()
    asked = 0

    def is_there() -> bool:
        nonlocal asked
        asked += 1
        return bool(app.workspace.history(channel))

    app.post(channel, text="x")

    assert app.workspace.wait_for(is_there)
    assert asked == 1


def test_waiting_in_vain_tells_what_there_is_instead(app: App) -> None:
    channel = app.workspace.add_channel()
    app.ready_link()
    app.workspace.say(channel, f"{app.workspace.mention} hello")
    app.post(channel, text="an answer")

    with pytest.raises(NeverHappened) as raised:
        app.workspace.wait_for(lambda: None, timeout=0.01)

    told = str(raised.value)
    assert "an answer" in told
    assert "chat.postMessage" in told
    assert "app_mention" in told
    assert isinstance(raised.value, TimeoutError)


def test_who_subscribes_is_told_of_every_change_in_order(app: App) -> None:
    channel = app.workspace.add_channel()
    changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
    unsubscribe: Callable[[], None] = app.workspace.subscribe(changes.put_nowait)

    ts = app.post(channel, text="one")
    app.call("chat.update", channel=channel, ts=ts, text="two")
    app.call("reactions.add", channel=channel, timestamp=ts, name="eyes")
    app.call("reactions.remove", channel=channel, timestamp=ts, name="eyes")
    app.call("chat.delete", channel=channel, ts=ts)
    told = [changes.get(timeout=5) for _ in range(5)]
    unsubscribe()
    app.post(channel, text="untold")

    assert [change.kind for change in told] == [
        "posted",
        "edited",
        "reacted",
        "unreacted",
        "deleted",
    ]
    assert [change.message.text for change in told[:2]] == ["one", "two"]
    assert changes.empty()


def test_the_bots_messages_are_told_apart_from_peoples(app: App) -> None:
    channel = app.workspace.add_channel()
    root = app.workspace.say(channel, "question")
    reply = app.post(channel, text="answer", thread_ts=root)

    assert [m.ts for m in app.workspace.bot_messages(channel)] == [reply]
    assert [m.ts for m in app.workspace.everything(channel)] == [root, reply]


def test_what_was_seen_once_does_not_change_later(app: App) -> None:
    channel = app.workspace.add_channel()
    ts = app.post(channel, text="one")
    seen = app.workspace.message(channel, ts)

    app.call("chat.update", channel=channel, ts=ts, text="two")

    assert (seen.text, app.workspace.message(channel, ts).text) == ("one", "two")


def test_a_message_that_never_was_is_a_mistake_of_the_asker(workspace: Workspace) -> None:
    channel = workspace.add_channel()

    with pytest.raises(KeyError):
        workspace.message(channel, "1700000000.000100")
    with pytest.raises(KeyError):
        workspace.edit(channel, "1700000000.000100", "x")


def test_nobody_speaks_in_a_workspace_that_is_not_running() -> None:
    workspace = Workspace(limits=Limits.none())
    channel = workspace.add_channel()

    with pytest.raises(RuntimeError, match="not running"):
        workspace.say(channel, workspace.mention)


def test_a_workspace_takes_the_port_it_is_given(workspace: Workspace) -> None:
    with pytest.raises(OSError, match="in use"), Workspace(port=workspace.port):
        pass


def test_tokens_and_text_are_not_in_the_description_of_the_workspace(workspace: Workspace) -> None:
    described = json.dumps([repr(workspace), workspace.snapshot()])

    assert workspace.bot_token not in described
    assert workspace.app_token not in described
