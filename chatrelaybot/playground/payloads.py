"""Slack's words for what happens: messages, events and envelopes as JSON objects. Pure.

https://docs.slack.dev/apis/events-api/#event_type_structure
https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from chatrelaybot.playground.messages import PICKED, StoredMessage, unescape
from chatrelaybot.playground.store import Channel, Identity, Store


def message_json(store: Store, message: StoredMessage, *, has_all_metadata: bool) -> dict[str, Any]:
    """Return a message as conversations.* and chat.* show it."""
    if message.deleted:
        return _tombstone(message)
    us = store.identity
    answer: dict[str, Any] = {"type": "message", "user": message.user, "text": message.text}
    answer |= {"ts": message.ts, "team": us.team_id, **message.extra}
    if message.subtype:
        answer["subtype"] = message.subtype
    if message.bot_id:
        answer["bot_id"] = message.bot_id
        if message.bot_id == us.bot_id:
            answer["app_id"] = us.app_id
    answer |= _optional_parts(message, has_all_metadata=has_all_metadata)
    return answer | _thread_parts(store, message)


def _optional_parts(message: StoredMessage, *, has_all_metadata: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if message.blocks:
        parts["blocks"] = list(message.blocks)
    if message.metadata:
        # Without include_all_metadata only the type is told:
        # https://docs.slack.dev/messaging/message-metadata
        event_type = {"event_type": message.metadata["event_type"]}
        parts["metadata"] = dict(message.metadata) if has_all_metadata else event_type
    if message.edited:
        parts["edited"] = {"user": message.user, "ts": message.edited}
    if message.reactions:
        parts["reactions"] = [
            {"name": name, "users": list(users), "count": len(users)}
            for name, users in message.reactions.items()
        ]
    return parts


def _thread_parts(store: Store, message: StoredMessage) -> dict[str, Any]:
    if message.thread_ts is not None:
        root = store.find(message.channel, message.thread_ts)
        parent = {"parent_user_id": root.user} if root else {}
        return {"thread_ts": message.thread_ts, **parent}
    replies = store.replies(message.channel, message.ts)
    if not replies:
        return {}
    return {
        "thread_ts": message.ts,
        "reply_count": len(replies),
        "latest_reply": replies[-1].ts,
    }


def _tombstone(message: StoredMessage) -> dict[str, Any]:
    """What is left of a deleted message as long as its thread has replies."""
    return {
        "type": "message",
        "subtype": "tombstone",
        "user": "USLACKBOT",
        "text": "This message was deleted.",
        "hidden": True,
        "ts": message.ts,
        "thread_ts": message.ts,
    }


def rich_text(text: str) -> list[dict[str, Any]]:
    """Return the block that Slack makes of what a person typed, without emphasis and links."""
    pieces = enumerate(PICKED.split(text))
    elements = [_element(piece, is_picked=bool(index % 2)) for index, piece in pieces if piece]
    section = {"type": "rich_text_section", "elements": elements}
    return [{"type": "rich_text", "block_id": uuid.uuid4().hex[:5], "elements": [section]}]


def _element(piece: str, *, is_picked: bool) -> dict[str, Any]:
    if not is_picked:
        return {"type": "text", "text": unescape(piece)}
    name = piece[2:-1].partition("|")[0]
    if piece[1] == "#":
        return {"type": "channel", "channel_id": name}
    return {"type": "user", "user_id": name}


def mention_event(store: Store, message: StoredMessage) -> dict[str, Any]:
    """Return an app_mention; it tells no channel_type."""
    event = message_json(store, message, has_all_metadata=True)
    event |= {"type": "app_mention", "channel": message.channel, "event_ts": message.ts}
    event.pop("reply_count", None)
    event.pop("latest_reply", None)
    return event


def message_event(store: Store, message: StoredMessage, channel: Channel) -> dict[str, Any]:
    """Return the event of a new message."""
    event = mention_event(store, message)
    return event | {"type": "message", "channel_type": channel.type}


def changed_event(
    store: Store, before: StoredMessage, after: StoredMessage, channel: Channel
) -> dict[str, Any]:
    """Return the hidden event of an edit or a deletion."""
    ts = store.next_ts()
    event: dict[str, Any] = {
        "type": "message",
        "subtype": "message_deleted" if after.deleted else "message_changed",
        "hidden": True,
        "channel": channel.id,
        "channel_type": channel.type,
        "ts": ts,
        "event_ts": ts,
        "previous_message": message_json(store, before, has_all_metadata=True),
    }
    if after.deleted:
        return event | {"deleted_ts": before.ts}
    return event | {"message": message_json(store, after, has_all_metadata=True)}


def event_callback(us: Identity, event: dict[str, Any], event_id: str) -> dict[str, Any]:
    """Return the payload that carries an event."""
    return {
        "token": "playground-verification-token",
        "team_id": us.team_id,
        "context_team_id": us.team_id,
        "context_enterprise_id": None,
        "api_app_id": us.app_id,
        "event": event,
        "type": "event_callback",
        "event_id": event_id,
        "event_time": int(time.time()),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": us.team_id,
                "user_id": us.user_id,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
        "event_context": f"4-{uuid.uuid4().hex}",
    }
