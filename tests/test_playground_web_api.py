"""The Web API of the local workspace, as an app meets it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from chatrelaybot.playground.limits import Limits, Rate
from chatrelaybot.playground.workspace import Workspace
from tests.playground_app import App

METADATA = {"event_type": "reply", "event_payload": {"question": "q", "part": 0}}
MARKDOWN = [{"type": "markdown", "text": "**a** &lt;b&gt; &amp;amp;"}]


@pytest.fixture(name="app")
def _app(workspace: Workspace) -> Iterator[App]:
    with App(workspace) as app:
        yield app


@pytest.fixture(name="channel")
def _channel(workspace: Workspace) -> str:
    return workspace.add_channel()


def refusal(answer: dict[str, Any]) -> str:
    assert answer["ok"] is False
    return str(answer["error"])


# Who may call.


def test_auth_test_tells_who_the_bot_is(app: App) -> None:
    answer = app.call("auth.test")

    us = app.workspace.identity
    assert answer["ok"]
    assert (answer["user_id"], answer["bot_id"], answer["team_id"], answer["user"]) == (
        us.user_id,
        us.bot_id,
        us.team_id,
        us.name,
    )


def test_a_call_without_a_token_is_not_authed(workspace: Workspace) -> None:
    answer = requests.post(f"{workspace.api_url}auth.test", timeout=5).json()

    assert refusal(answer) == "not_authed"


def test_a_token_may_come_as_an_argument(workspace: Workspace) -> None:
    answer = requests.post(
        f"{workspace.api_url}auth.test", data={"token": workspace.bot_token}, timeout=5
    ).json()

    assert answer["ok"]
    assert workspace.calls[0].args == {}


def test_an_unknown_token_is_invalid(app: App) -> None:
    assert refusal(app.call("auth.test", token="xoxb-1-other")) == "invalid_auth"


@pytest.mark.parametrize(
    ("method", "which"), [("auth.test", "app_token"), ("apps.connections.open", "bot_token")]
)
def test_the_other_kind_of_token_is_not_allowed(app: App, method: str, which: str) -> None:
    answer = app.call(method, token=getattr(app.workspace, which))

    assert refusal(answer) == "not_allowed_token_type"


def test_a_revoked_token_is_good_for_nothing(app: App) -> None:
    app.workspace.revoke_token()

    assert refusal(app.call("auth.test")) == "token_revoked"
    assert app.link_url()


def test_a_missing_scope_is_named_beside_those_provided(app: App, channel: str) -> None:
    app.workspace.set_scopes({"chat:write"})

    answer = app.call("reactions.add", channel=channel, timestamp="1.0", name="eyes")

    assert refusal(answer) == "missing_scope"
    assert (answer["needed"], answer["provided"]) == ("reactions:write", "chat:write")


def test_answers_name_the_scopes_of_the_token(app: App) -> None:
    app.workspace.set_scopes({"chat:write", "im:history"})

    assert app.send("auth.test").headers["X-OAuth-Scopes"] == "chat:write,im:history"


def test_an_unknown_method_is_refused(app: App) -> None:
    assert refusal(app.call("chat.shout")) == "unknown_method"


# How arguments come.


def test_a_form_carries_blocks_as_json(app: App, channel: str) -> None:
    answer = app.session.post(
        f"{app.workspace.api_url}chat.postMessage",
        data={"token": app.workspace.bot_token, "channel": channel, "blocks": json.dumps(MARKDOWN)},
        timeout=5,
    ).json()

    assert app.workspace.message(channel, answer["ts"]).shown == "**a** <b> &amp;"


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        ("{", "application/json", "invalid_json"),
        ("[]", "application/json", "json_not_object"),
        ("x", "text/plain", "invalid_post_type"),
        ("blocks=%7B", "application/x-www-form-urlencoded", "invalid_blocks_format"),
    ],
)
def test_an_unreadable_body_is_refused(app: App, body: str, content_type: str, error: str) -> None:
    answer = app.session.post(
        f"{app.workspace.api_url}chat.postMessage",
        data=body,
        headers={"Content-Type": content_type},
        timeout=5,
    ).json()

    assert refusal(answer) == error
    assert app.workspace.calls[-1].error == error


# Posting.


def test_a_posted_message_shows_its_blocks_before_its_text(app: App, channel: str) -> None:
    ts = app.post(channel, text="short", blocks=MARKDOWN)

    [message] = app.workspace.history(channel)
    assert (message.ts, message.text, message.shown) == (ts, "short", "**a** <b> &amp;")


def test_a_section_shows_its_text(app: App, channel: str) -> None:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "a &gt; b"}}

    ts = app.post(channel, blocks=[section, {"type": "divider"}])

    assert app.workspace.message(channel, ts).shown == "a > b"


def test_a_reply_is_in_its_thread_and_not_in_the_channel(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")

    reply = app.post(channel, text="answer", thread_ts=root)

    assert [m.ts for m in app.workspace.replies(channel, root)] == [reply]
    assert [m.ts for m in app.workspace.history(channel)] == [root]


def test_a_broadcast_reply_is_in_both(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")

    reply = app.post(channel, text="answer", thread_ts=root, reply_broadcast=True)

    assert [m.ts for m in app.workspace.history(channel)] == [root, reply]


def test_a_reply_to_a_reply_is_in_the_same_thread(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")
    first = app.post(channel, text="one", thread_ts=root)

    app.post(channel, text="two", thread_ts=first)

    assert [m.text for m in app.workspace.replies(channel, root)] == ["one", "two"]


def test_a_reply_to_a_deleted_question_is_taken(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")
    app.workspace.delete(channel, root)

    app.post(channel, text="answer", thread_ts=root)

    answer = app.call("conversations.replies", channel=channel, ts=root)
    assert [m.get("subtype") for m in answer["messages"]] == ["tombstone", None]


@pytest.mark.parametrize(
    ("thread_ts", "error"),
    [("yesterday", "invalid_thread_ts"), ("1700000000.000100", "thread_not_found")],
)
def test_a_thread_must_exist(app: App, channel: str, thread_ts: str, error: str) -> None:
    answer = app.call("chat.postMessage", channel=channel, text="x", thread_ts=thread_ts)

    assert refusal(answer) == error


def test_a_post_to_a_person_goes_to_their_direct_messages(app: App) -> None:
    person = app.workspace.add_user("bob")

    app.post(person, text="hello")

    assert [m.text for m in app.workspace.history(app.workspace.open_dm(person))] == ["hello"]


def test_a_text_that_was_cut_comes_with_a_warning(app: App, channel: str) -> None:
    answer = app.call("chat.postMessage", channel=channel, text="x" * 40_001)

    assert answer["warning"] == "message_truncated"
    assert answer["response_metadata"]["warnings"] == ["message_truncated"]
    assert len(app.workspace.message(channel, answer["ts"]).text) == 40_000


def test_places_that_cannot_be_written_to_say_why(app: App) -> None:
    slack = app.workspace
    archived, foreign = slack.add_channel(), slack.add_channel(bot_is_member=False)
    secret = slack.add_channel(bot_is_member=False, is_private=True)
    slack.archive(archived)

    errors = [
        refusal(app.call("chat.postMessage", channel=channel, text="x"))
        for channel in (archived, foreign, secret, "C404")
    ]

    assert errors == ["is_archived", "not_in_channel", "channel_not_found", "channel_not_found"]


def test_chat_write_public_opens_public_channels(app: App) -> None:
    app.workspace.set_scopes({"chat:write", "chat:write.public"})

    assert app.post(app.workspace.add_channel(bot_is_member=False), text="x")


# Editing and deleting.


def test_an_edit_with_text_removes_blocks_and_is_marked(app: App, channel: str) -> None:
    ts = app.post(channel, text="one", blocks=MARKDOWN)

    app.call("chat.update", channel=channel, ts=ts, text="two")

    message = app.workspace.message(channel, ts)
    assert (message.shown, message.blocks, bool(message.edited)) == ("two", (), True)


def test_an_edit_with_blocks_is_not_marked(app: App, channel: str) -> None:
    ts = app.post(channel, text="one")

    app.call("chat.update", channel=channel, ts=ts, text="two", blocks=MARKDOWN)

    message = app.workspace.message(channel, ts)
    assert (message.text, message.shown, message.edited) == ("two", "**a** <b> &amp;", None)


def test_an_edit_keeps_metadata_unless_it_empties_it(app: App, channel: str) -> None:
    ts = app.post(channel, text="one", metadata=METADATA)

    app.call("chat.update", channel=channel, ts=ts, text="two")
    kept = app.workspace.message(channel, ts).metadata
    app.call("chat.update", channel=channel, ts=ts, text="three", metadata={})

    assert kept == METADATA
    assert app.workspace.message(channel, ts).metadata is None


def test_every_version_is_kept_with_its_time(app: App, channel: str) -> None:
    ts = app.post(channel, text="one")
    for text in ("two", "three"):
        app.call("chat.update", channel=channel, ts=ts, text=text)

    versions = app.workspace.message(channel, ts).versions
    assert [version.text for version in versions] == ["one", "two", "three"]
    assert sorted({version.at for version in versions}) == [version.at for version in versions]


def test_what_a_person_wrote_cannot_be_edited_or_deleted(app: App, channel: str) -> None:
    ts = app.workspace.say(channel, "mine")

    errors = [
        refusal(app.call("chat.update", channel=channel, ts=ts, text="x")),
        refusal(app.call("chat.delete", channel=channel, ts=ts)),
    ]

    assert errors == ["cant_update_message", "cant_delete_message"]


def test_a_deleted_message_is_not_found_any_more(app: App, channel: str) -> None:
    ts = app.post(channel, text="x")
    assert app.call("chat.delete", channel=channel, ts=ts)["ok"]

    errors = [
        refusal(app.call("chat.update", channel=channel, ts=ts, text="x")),
        refusal(app.call("chat.delete", channel=channel, ts=ts)),
        refusal(app.call("reactions.add", channel=channel, timestamp=ts, name="eyes")),
    ]

    assert errors == ["message_not_found"] * 3
    assert app.workspace.history(channel) == []
    assert app.workspace.message(channel, ts).deleted


def test_an_edit_in_an_archived_channel_finds_it_inactive(app: App, channel: str) -> None:
    ts = app.post(channel, text="x")
    app.workspace.archive(channel)

    assert refusal(app.call("chat.update", channel=channel, ts=ts, text="y")) == "is_inactive"


def test_a_bot_that_was_kicked_can_write_nothing_more(app: App, channel: str) -> None:
    ts = app.post(channel, text="x")
    app.workspace.kick_bot(channel)

    errors = [
        refusal(app.call("chat.update", channel=channel, ts=ts, text="y")),
        refusal(app.call("chat.postMessage", channel=channel, text="y")),
    ]
    app.workspace.invite_bot(channel)

    assert errors == ["channel_not_found", "not_in_channel"]
    assert app.call("chat.update", channel=channel, ts=ts, text="y")["ok"]


# Reactions.


def test_a_reaction_comes_and_goes(app: App, channel: str) -> None:
    ts = app.workspace.say(channel, "question")
    args = {"channel": channel, "timestamp": ts, "name": "hourglass_flowing_sand"}

    app.call("reactions.add", **args)
    reactions = app.workspace.message(channel, ts).reactions
    again = refusal(app.call("reactions.add", **args))
    app.call("reactions.remove", **args)

    assert reactions == {"hourglass_flowing_sand": (app.workspace.bot_user_id,)}
    assert again == "already_reacted"
    assert app.workspace.message(channel, ts).reactions == {}
    assert refusal(app.call("reactions.remove", **args)) == "no_reaction"


def test_a_reaction_needs_a_name_that_exists() -> None:
    with Workspace(emoji={"eyes"}) as workspace, App(workspace) as app:
        channel = workspace.add_channel()
        ts = workspace.say(channel, "question")

        answers = [
            app.call("reactions.add", channel=channel, timestamp=ts, name=name)
            for name in (":eyes:", "ears", "two words")
        ]

    assert [answer.get("error") for answer in answers] == [None, "invalid_name", "invalid_name"]


def test_a_reaction_needs_a_message_in_a_living_channel(app: App, channel: str) -> None:
    ts = app.workspace.say(channel, "question")

    errors = [refusal(app.call("reactions.add", channel=channel, name="eyes"))]
    app.workspace.archive(channel)
    errors.append(refusal(app.call("reactions.add", channel=channel, timestamp=ts, name="eyes")))

    assert errors == ["no_item_specified", "is_archived"]


# Reading.


def test_metadata_is_told_in_full_only_when_asked_for(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")
    app.post(channel, text="x", thread_ts=root, metadata=METADATA)

    brief = app.call("conversations.replies", channel=channel, ts=root)
    full = app.call("conversations.replies", channel=channel, ts=root, include_all_metadata=True)

    assert brief["messages"][1]["metadata"] == {"event_type": "reply"}
    assert full["messages"][1]["metadata"] == METADATA


def test_a_thread_is_told_page_by_page_oldest_first(app: App, channel: str) -> None:
    root = app.workspace.say(channel, "question")
    for number in range(4):
        app.post(channel, text=str(number), thread_ts=root)

    pages: list[list[str]] = []
    cursor = ""
    while not pages or cursor:
        answer = app.call("conversations.replies", channel=channel, ts=root, limit=2, cursor=cursor)
        pages.append([message["text"] for message in answer["messages"]])
        assert answer["has_more"] is ("response_metadata" in answer)
        cursor = answer.get("response_metadata", {}).get("next_cursor", "")

    assert pages == [["question", "0"], ["1", "2"], ["3"]]


def test_history_is_told_newest_first_between_oldest_and_latest(app: App, channel: str) -> None:
    stamps = [app.post(channel, text=str(number)) for number in range(4)]

    def texts(**args: Any) -> list[str]:
        answer = app.call("conversations.history", channel=channel, **args)
        return [message["text"] for message in answer["messages"]]

    assert texts() == ["3", "2", "1", "0"]
    assert texts(oldest=stamps[0], latest=stamps[3]) == ["2", "1"]
    assert texts(oldest=stamps[0], latest=stamps[2], inclusive=True) == ["2", "1", "0"]


def test_reading_needs_the_scope_of_the_kind_of_channel(app: App) -> None:
    slack = app.workspace
    slack.set_scopes({"channels:history"})
    places = [slack.add_channel(), slack.add_channel(is_private=True), slack.open_dm()]
    places.append(slack.add_mpim())

    needed = [app.call("conversations.history", channel=place).get("needed") for place in places]

    assert needed == [None, "groups:history", "im:history", "mpim:history"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"ts": "1700000000.000100"}, "thread_not_found"),
        ({"channel": "C404"}, "channel_not_found"),
        ({"limit": 0}, "invalid_limit"),
        ({"limit": "many"}, "invalid_arguments"),
        ({"cursor": "?"}, "invalid_cursor"),
        ({"oldest": "yesterday"}, "invalid_arguments"),
    ],
)
def test_replies_cannot_be_asked_for_wrongly(
    app: App, channel: str, args: dict[str, Any], error: str
) -> None:
    root = app.workspace.say(channel, "question")
    app.post(channel, text="x", thread_ts=root)

    answer = app.call("conversations.replies", **{"channel": channel, "ts": root, **args})

    assert refusal(answer) == error


def test_what_the_bot_is_no_member_of_cannot_be_read(app: App) -> None:
    slack = app.workspace
    places = [slack.add_channel(bot_is_member=False, is_private=secret) for secret in (False, True)]

    errors = [refusal(app.call("conversations.history", channel=place)) for place in places]

    assert errors == ["not_in_channel", "channel_not_found"]


def test_channels_and_users_can_be_looked_up(app: App, channel: str) -> None:
    slack = app.workspace
    person = slack.add_user("bob")
    slack.set_scopes({"channels:read", "users:read"})

    info = app.call("conversations.info", channel=channel)["channel"]
    user = app.call("users.info", user=person)["user"]

    assert (info["name"], info["is_member"], info["is_private"]) == ("general", True, False)
    assert (user["name"], user["is_bot"]) == ("bob", False)
    assert refusal(app.call("users.info", user="U404")) == "user_not_found"
    assert refusal(app.call("conversations.info", channel="C404")) == "channel_not_found"


def test_a_message_has_a_permalink(app: App, channel: str) -> None:
    ts = app.post(channel, text="x")

    answer = app.call("chat.getPermalink", channel=channel, message_ts=ts)

    assert answer["permalink"].endswith(f"/archives/{channel}/p{ts.replace('.', '')}")
    missing = app.call("chat.getPermalink", channel=channel, message_ts="1700000000.000100")
    assert refusal(missing) == "message_not_found"
    nowhere = app.call("chat.getPermalink", channel="C404", message_ts=ts)
    assert refusal(nowhere) == "channel_not_found"


def test_an_idle_connection_is_closed() -> None:
    with (
        Workspace(idle_seconds=0.05) as workspace,
        closing(socket.create_connection(("127.0.0.1", workspace.port), timeout=5)) as client,
    ):
        client.sendall(b"GET /api/auth.test HTTP/1.1\r\nHost: x\r\n\r\n")

        received = b"".join(iter(lambda: client.recv(4096), b""))

    assert b"not_authed" in received


def test_a_caller_that_breaks_off_in_the_middle_is_noted_and_no_accident(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /api/chat.update HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
    with closing(socket.create_connection(("127.0.0.1", workspace.port), timeout=5)) as client:
        client.sendall(head)

    workspace.wait_for(lambda: [call.error for call in workspace.calls] == ["request_timeout"])
    assert caplog.records == []


# Rate limits.


def test_a_call_too_many_gets_429_and_whole_seconds(app: App, channel: str) -> None:
    app.workspace.set_limits(Limits.none().having("chat.update", Rate(per_minute=60, burst=1)))
    ts = app.post(channel, text="x")
    app.call("chat.update", channel=channel, ts=ts, text="1")

    response = app.send("chat.update", channel=channel, ts=ts, text="2")

    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    assert response.json() == {"ok": False, "error": "ratelimited"}
    assert app.workspace.message(channel, ts).text == "1"


def test_a_call_inside_a_retry_after_is_refused_and_noted(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.update", retry_after=30)
    ts = app.post(channel, text="x")

    for text in ("1", "2"):
        app.call("chat.update", channel=channel, ts=ts, text=text)

    told, heedless = [call for call in app.workspace.calls if call.method == "chat.update"]
    assert (told.retry_after, told.is_in_window) == (30, False)
    assert (heedless.status, heedless.is_in_window) == (429, True)
    assert app.workspace.heedless_calls(grace=0) == [heedless]
    assert app.workspace.heedless_calls(grace=60) == []


# With the real client.


def test_slack_sdk_posts_edits_reacts_and_reads(workspace: Workspace, channel: str) -> None:
    client = WebClient(token=workspace.bot_token, base_url=workspace.api_url)
    root = workspace.say(channel, "question")

    posted = client.chat_postMessage(
        channel=channel, thread_ts=root, text="x", blocks=MARKDOWN, metadata=METADATA
    )
    client.chat_update(channel=channel, ts=str(posted["ts"]), text="y", blocks=MARKDOWN)
    client.reactions_add(channel=channel, timestamp=root, name="eyes")
    read = client.conversations_replies(channel=channel, ts=root, include_all_metadata=True)

    messages: list[dict[str, Any]] = read.get("messages", [])
    assert [message["text"] for message in messages] == ["question", "y"]
    assert messages[0]["reactions"][0]["name"] == "eyes"
    assert messages[1]["metadata"] == METADATA


def test_slack_sdk_understands_a_refusal(workspace: Workspace, channel: str) -> None:
    client = WebClient(token=workspace.bot_token, base_url=workspace.api_url)
    workspace.faults.add("chat.delete", retry_after=7)

    with pytest.raises(SlackApiError) as refused:
        client.chat_delete(channel=channel, ts="1700000000.000100")

    assert refused.value.response["error"] == "ratelimited"
    assert refused.value.response.headers["Retry-After"] == "7"
