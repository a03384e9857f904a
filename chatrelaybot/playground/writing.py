"""Web API methods that change something: chat.* and reactions.*.

All run with the board's lock held. Error codes: https://docs.slack.dev/reference/methods/
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Protocol

from chatrelaybot.playground import content
from chatrelaybot.playground.access import Access
from chatrelaybot.playground.arguments import Arguments
from chatrelaybot.playground.content import Content, Refusal
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.payloads import message_json
from chatrelaybot.playground.store import Channel, Store
from chatrelaybot.playground.web_api import Method

_EMOJI = re.compile(r"[\w+'-]+(?:::skin-tone-[2-6])?")
_TS = re.compile(r"\d{10}\.\d{6}")


class Announcer(Protocol):
    """Tells the app's subscribers what happened."""

    def posted(self, message: StoredMessage) -> object: ...

    def changed(self, before: StoredMessage, after: StoredMessage) -> object: ...


class Writing:
    """What an app may write."""

    def __init__(
        self,
        *,
        store: Store,
        access: Access,
        announcer: Announcer,
        emoji: Collection[str] | None,
    ) -> None:
        """`emoji`: the names that there are; None: every well-formed name."""
        self._store = store
        self._access = access
        self._announcer = announcer
        self._emoji = emoji

    def methods(self) -> dict[str, Method]:
        return {
            "chat.postMessage": Method(self._post, scope="chat:write"),
            "chat.update": Method(self._update, scope="chat:write"),
            "chat.delete": Method(self._delete, scope="chat:write"),
            "reactions.add": Method(self._react, scope="reactions:write"),
            "reactions.remove": Method(self._unreact, scope="reactions:write"),
        }

    def _post(self, args: Arguments) -> dict[str, Any]:
        channel = self._channel(args.text("channel"), allows_user=True)
        if channel.is_archived:
            raise Refusal("is_archived")
        if not channel.bot_is_member and "chat:write.public" not in self._access.scopes:
            raise Refusal("not_in_channel")
        what = content.for_post(_content(args))
        thread_ts = self._thread(channel, args.text("thread_ts"))
        is_broadcast = thread_ts is not None and args.flag("reply_broadcast")
        message = self._store.post(
            channel.id,
            user=self._store.identity.user_id,
            text=what.text or "",
            blocks=what.blocks or (),
            thread_ts=thread_ts,
            subtype="thread_broadcast" if is_broadcast else None,
            bot_id=self._store.identity.bot_id,
            metadata=what.metadata or None,
        )
        self._announcer.posted(message)
        return self._written(message) | _warning(what)

    def _update(self, args: Arguments) -> dict[str, Any]:
        channel = self._channel(args.text("channel"))
        if channel.is_archived:
            raise Refusal("is_inactive")
        is_markdown_text = args.get("markdown_text") is not None
        what = content.for_update(_content(args), is_markdown_text=is_markdown_text)
        before = self._own(channel, args.text("ts"), "cant_update_message")
        # Text without blocks removes the blocks, metadata left out stays, an empty one removes
        # it, and only a change of text is marked as "(edited)".
        has_text = what.text is not None
        after = self._store.edit(
            before,
            text=what.text if what.text is not None else before.text,
            blocks=what.blocks if what.blocks is not None else (() if has_text else before.blocks),
            is_marked=has_text and not what.blocks,
            metadata=before.metadata if what.metadata is None else (what.metadata or None),
        )
        self._announcer.changed(before, after)
        return self._written(after) | {"text": after.text}

    def _delete(self, args: Arguments) -> dict[str, Any]:
        channel = self._channel(args.text("channel"))
        before = self._own(channel, args.text("ts"), "cant_delete_message")
        self._announcer.changed(before, self._store.delete(before))
        return {"channel": channel.id, "ts": before.ts}

    def _react(self, args: Arguments) -> dict[str, Any]:
        message, name = self._reacted(args)
        us, users = self._store.identity.user_id, message.reactions.get(name, ())
        if us in users:
            raise Refusal("already_reacted")
        self._store.react(message, name, (*users, us))
        return {}

    def _unreact(self, args: Arguments) -> dict[str, Any]:
        message, name = self._reacted(args)
        us, users = self._store.identity.user_id, message.reactions.get(name, ())
        if us not in users:
            raise Refusal("no_reaction")
        self._store.react(message, name, tuple(user for user in users if user != us))
        return {}

    def _reacted(self, args: Arguments) -> tuple[StoredMessage, str]:
        name = args.text("name").strip(":")
        if not _EMOJI.fullmatch(name) or (self._emoji is not None and name not in self._emoji):
            raise Refusal("invalid_name")
        if not args.text("timestamp"):
            raise Refusal("no_item_specified")
        channel = self._channel(args.text("channel"))
        if channel.is_archived:
            raise Refusal("is_archived")
        return self._visible(channel, args.text("timestamp")), name

    def _channel(self, name: str, *, allows_user: bool = False) -> Channel:
        user = self._store.users.get(name)
        if allows_user and user is not None and not user.is_bot:
            return self._store.direct_channel(user.id)
        channel = self._store.channels.get(name)
        if channel is None or (channel.type != "channel" and not channel.bot_is_member):
            raise Refusal("channel_not_found")
        return channel

    def _thread(self, channel: Channel, thread_ts: str) -> str | None:
        if not thread_ts:
            return None
        if not _TS.fullmatch(thread_ts):
            raise Refusal("invalid_thread_ts")
        # Slack takes replies to a deleted message: a tombstone then stands at the root.
        root = self._store.find(channel.id, thread_ts)
        if root is None:
            raise Refusal("thread_not_found")
        return root.thread_ts or root.ts

    def _own(self, channel: Channel, ts: str, error: str) -> StoredMessage:
        # Whether Slack lets an app that was removed from a channel edit there is not documented;
        # the stricter answer is given.
        if not channel.bot_is_member and "chat:write.public" not in self._access.scopes:
            raise Refusal("channel_not_found")
        message = self._visible(channel, ts)
        if message.bot_id != self._store.identity.bot_id:
            raise Refusal(error)
        return message

    def _visible(self, channel: Channel, ts: str) -> StoredMessage:
        message = self._store.find(channel.id, ts)
        if message is None or message.deleted:
            raise Refusal("message_not_found")
        return message

    def _written(self, message: StoredMessage) -> dict[str, Any]:
        shown = message_json(self._store, message, has_all_metadata=True)
        return {"channel": message.channel, "ts": message.ts, "message": shown}


def _content(args: Arguments) -> Content:
    return content.read(
        text=args.get("text"),
        blocks=args.get("blocks"),
        markdown_text=args.get("markdown_text"),
        attachments=args.get("attachments"),
        metadata=args.get("metadata"),
    )


def _warning(what: Content) -> dict[str, Any]:
    if what.warning is None:
        return {}
    return {"warning": what.warning, "response_metadata": {"warnings": [what.warning]}}
