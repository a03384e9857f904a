"""Web API methods that only look: auth.test, conversations.*, users.info, chat.getPermalink.

All run with the board's lock held.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from chatrelaybot.playground.access import Access
from chatrelaybot.playground.arguments import Arguments
from chatrelaybot.playground.content import Refusal
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.payloads import message_json
from chatrelaybot.playground.store import Channel, ChannelType, Store
from chatrelaybot.playground.web_api import Method

#: Prefix of the scopes for each kind of channel: `channels:read`, `im:history`, …
_SCOPE_PREFIX: Mapping[ChannelType, str] = {
    "channel": "channels",
    "group": "groups",
    "im": "im",
    "mpim": "mpim",
}
_TS = re.compile(r"\d{1,12}\.\d{1,6}")
#: Later than all others.
_LATEST = "999999999999.999999"


class Reading:
    """What an app may look up."""

    def __init__(self, *, store: Store, access: Access, url: str) -> None:
        """`url` is the workspace's own, as in `https://example.slack.com/`."""
        self._store = store
        self._access = access
        self._url = url

    def methods(self) -> dict[str, Method]:
        return {
            "auth.test": Method(self._auth_test),
            "chat.getPermalink": Method(self._permalink),
            "conversations.history": Method(self._history),
            "conversations.info": Method(self._channel_info),
            "conversations.replies": Method(self._replies),
            "users.info": Method(self._user_info, scope="users:read"),
        }

    def _auth_test(self, _args: Arguments) -> dict[str, Any]:
        us = self._store.identity
        return {
            "url": self._url,
            "team": "Playground",
            "user": us.name,
            "team_id": us.team_id,
            "user_id": us.user_id,
            "bot_id": us.bot_id,
            "is_enterprise_install": False,
        }

    def _permalink(self, args: Arguments) -> dict[str, Any]:
        channel, ts = args.text("channel"), args.text("message_ts")
        if channel not in self._store.channels:
            raise Refusal("channel_not_found")
        message = self._store.find(channel, ts)
        if message is None or message.deleted:
            raise Refusal("message_not_found")
        link = f"{self._url}archives/{channel}/p{ts.replace('.', '')}"
        return {"channel": channel, "permalink": link}

    def _history(self, args: Arguments) -> dict[str, Any]:
        channel = self._readable(args)
        found = [m for m in self._store.timeline(channel.id) if _is_within(m, args)]
        return self._page(found[::-1], args, default_limit=100)

    def _replies(self, args: Arguments) -> dict[str, Any]:
        channel, ts = self._readable(args), args.text("ts")
        root = self._store.find(channel.id, ts)
        replies = self._store.replies(channel.id, ts)
        if root is None or (root.deleted and not replies):
            raise Refusal("thread_not_found")
        found = [root, *(m for m in replies if _is_within(m, args))]
        return self._page(found, args, default_limit=1000)

    def _readable(self, args: Arguments) -> Channel:
        channel = self._store.channels.get(args.text("channel"))
        if channel is None or (channel.type != "channel" and not channel.bot_is_member):
            raise Refusal("channel_not_found")
        self._access.require(f"{_SCOPE_PREFIX[channel.type]}:history")
        if not channel.bot_is_member:
            raise Refusal("not_in_channel")
        return channel

    def _page(
        self, found: list[StoredMessage], args: Arguments, *, default_limit: int
    ) -> dict[str, Any]:
        start, limit = _start(args.text("cursor")), args.number("limit", default_limit)
        if not 0 < limit <= 1000:
            raise Refusal("invalid_limit")
        end = start + limit
        has_all = args.flag("include_all_metadata")
        answer: dict[str, Any] = {
            "messages": [
                message_json(self._store, message, has_all_metadata=has_all)
                for message in found[start:end]
            ],
            "has_more": end < len(found),
        }
        if end < len(found):
            cursor = base64.b64encode(f"next:{end}".encode()).decode()
            answer["response_metadata"] = {"next_cursor": cursor}
        return answer

    def _channel_info(self, args: Arguments) -> dict[str, Any]:
        channel = self._store.channels.get(args.text("channel"))
        if channel is None or (channel.type != "channel" and not channel.bot_is_member):
            raise Refusal("channel_not_found")
        self._access.require(f"{_SCOPE_PREFIX[channel.type]}:read")
        return {
            "channel": {
                "id": channel.id,
                "name": channel.name,
                "is_channel": channel.type == "channel",
                "is_group": channel.type == "group",
                "is_im": channel.type == "im",
                "is_mpim": channel.type == "mpim",
                "is_private": channel.type != "channel",
                "is_archived": channel.is_archived,
                "is_member": channel.bot_is_member,
            }
        }

    def _user_info(self, args: Arguments) -> dict[str, Any]:
        user = self._store.users.get(args.text("user"))
        if user is None:
            raise Refusal("user_not_found")
        return {
            "user": {
                "id": user.id,
                "team_id": self._store.identity.team_id,
                "name": user.name,
                "real_name": user.name,
                "deleted": False,
                "is_bot": user.is_bot,
                "profile": {"real_name": user.name, "display_name": user.name},
            }
        }


def _is_within(message: StoredMessage, args: Arguments) -> bool:
    """Tell whether a message lies in the time that `oldest`, `latest`, `inclusive` ask for."""
    oldest, latest = _key(args.text("oldest") or "0.0"), _key(args.text("latest") or _LATEST)
    ts = _key(message.ts)
    return oldest < ts < latest or (args.flag("inclusive") and ts in (oldest, latest))


def _key(ts: str) -> tuple[int, str]:
    """Return what a ts is ordered by. Slack also takes a plain number of seconds."""
    ts = ts if "." in ts else f"{ts}.0"
    if not _TS.fullmatch(ts):
        raise Refusal("invalid_arguments")
    seconds, _, fraction = ts.partition(".")
    return int(seconds), fraction.ljust(6, "0")


def _start(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.b64decode(cursor, validate=True).decode().removeprefix("next:"))
    except (binascii.Error, ValueError):
        raise Refusal("invalid_cursor") from None
