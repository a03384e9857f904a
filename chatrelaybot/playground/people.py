"""What people do in the workspace, and the events that Slack sends about it.

Every method may be called from any thread.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chatrelaybot.playground.board import Board
from chatrelaybot.playground.courier import Courier
from chatrelaybot.playground.messages import PICKED, StoredMessage, escape
from chatrelaybot.playground.payloads import (
    changed_event,
    mention_event,
    message_event,
    rich_text,
)
from chatrelaybot.playground.store import Channel, ChannelType, Store

#: Seconds between the app_mention and the message event of one mention, as seen in the field:
#: https://github.com/slack-samples/slack-edge/issues/21
_TWIN_SECONDS = 0.25
#: The event an app subscribes to for messages of each kind of channel.
_SUBSCRIPTION: Mapping[ChannelType, str] = {
    "channel": "message.channels",
    "group": "message.groups",
    "im": "message.im",
    "mpim": "message.mpim",
}


class Announcements:
    """Turns what happens into the events that the app subscribed to. The board's lock is held."""

    def __init__(self, *, store: Store, courier: Courier, subscriptions: Collection[str]) -> None:
        self._store = store
        self._courier = courier
        self._subscriptions = frozenset(subscriptions)

    def posted(self, message: StoredMessage, *, twin: bool = False) -> None:
        """Tell of a new message; `twin`: as two events, also where one would do."""
        events = self.events_of(message, twin=twin)
        for index, event in enumerate(events):
            self._courier.publish(event, after=index * _TWIN_SECONDS)

    def changed(self, before: StoredMessage, after: StoredMessage) -> None:
        """Tell of an edit or a deletion."""
        channel = self._store.channels[after.channel]
        if channel.bot_is_member and self._is_subscribed(channel):
            self._courier.publish(changed_event(self._store, before, after, channel))

    def events_of(self, message: StoredMessage, *, twin: bool = False) -> list[dict[str, Any]]:
        """Return the events of a new message."""
        channel = self._store.channels[message.channel]
        if not channel.bot_is_member:
            return []
        events = []
        if self._is_app_mention(message, channel, twin=twin):
            events.append(mention_event(self._store, message))
        if twin or self._is_subscribed(channel):
            events.append(message_event(self._store, message, channel))
        return events

    def _is_app_mention(self, message: StoredMessage, channel: Channel, *, twin: bool) -> bool:
        # In direct messages there is no app_mention, even if the bot is mentioned:
        # https://docs.slack.dev/reference/events/app_mention
        us = self._store.identity
        return (
            f"<@{us.user_id}" in message.text
            and message.user != us.user_id
            and "app_mention" in self._subscriptions
            and (channel.type in ("channel", "group") or (twin and channel.type == "mpim"))
        )

    def _is_subscribed(self, channel: Channel) -> bool:
        return _SUBSCRIPTION[channel.type] in self._subscriptions


class People:
    """The people of the workspace; the first of them speaks where nobody is named."""

    def __init__(
        self, *, board: Board, store: Store, courier: Courier, announcements: Announcements
    ) -> None:
        self._board = board
        self._store = store
        self._courier = courier
        self._announcements = announcements

    def add_user(self, name: str, *, is_bot: bool = False) -> str:
        """Add a person, or another app's bot; return the user id."""
        with self._board:
            return self._store.add_user(name, is_bot=is_bot).id

    def add_channel(
        self, name: str = "general", *, bot_is_member: bool = True, is_private: bool = False
    ) -> str:
        """Add a channel; return its id."""
        with self._board:
            kind: ChannelType = "group" if is_private else "channel"
            return self._store.add_channel(name, kind, bot_is_member=bot_is_member).id

    def open_dm(self, user: str | None = None) -> str:
        """Return the id of the direct-message channel of a person and the bot."""
        with self._board:
            return self._store.direct_channel(user or self._somebody()).id

    def add_mpim(self, name: str = "mpdm-playground") -> str:
        """Add a group direct message with the bot in it; return its id."""
        with self._board:
            return self._store.add_channel(name, "mpim").id

    def say(
        self,
        channel: str,
        text: str,
        *,
        user: str | None = None,
        thread_ts: str | None = None,
        subtype: str | None = None,
        twin: bool = False,
        raw: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """Write a message; return its ts.

        Args:
            channel: where.
            text: as typed; mentions are written as Slack does (`<@U…>`), the rest is escaped.
            user: who; None for the first person.
            thread_ts: the root of the thread to write in.
            subtype: such as file_share or thread_broadcast.
            twin: send an app_mention and, 250 ms later, a message event.
            raw: `text` is what Slack would send; escape nothing.
            extra: further fields of the message, such as files.
        """
        with self._board:
            message = self._write(
                channel,
                text if raw else _typed(text),
                user=user,
                thread_ts=thread_ts,
                subtype=subtype,
                extra=extra,
            )
            self._announcements.posted(message, twin=twin)
        return message.ts

    def burst(
        self,
        count: int,
        *,
        channels: Sequence[str],
        text: Callable[[int], str] | None = None,
        user: str | None = None,
    ) -> list[str]:
        """Mention the bot many times at once, in turn in these channels; return the ts."""
        words = text or (lambda number: f"{self._store.identity.mention} question {number}")
        with self._board:
            messages = [
                self._write(channel, _typed(words(number)), user=user)
                for number, channel in zip(range(count), itertools.cycle(channels), strict=False)
            ]
            events: Iterable[dict[str, Any]] = [
                event for message in messages for event in self._announcements.events_of(message)
            ]
            self._courier.publish_all(events)
        return [message.ts for message in messages]

    def send_event(self, event: Mapping[str, Any], *, event_id: str | None = None) -> str:
        """Send an event as it is; return its event_id."""
        return self._courier.publish(event, event_id=event_id)

    def edit(self, channel: str, ts: str, text: str) -> None:
        """Change what a person wrote."""
        with self._board:
            before = self._found(channel, ts)
            text = _typed(text)
            after = self._store.edit(
                before, text=text, blocks=rich_text(text), is_marked=True, metadata=before.metadata
            )
            self._announcements.changed(before, after)

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message, also one of the bot's."""
        with self._board:
            before = self._found(channel, ts)
            self._announcements.changed(before, self._store.delete(before))

    def archive(self, channel: str) -> None:
        """Archive a channel."""
        with self._board:
            self._store.put_channel(replace(self._store.channels[channel], is_archived=True))

    def kick_bot(self, channel: str) -> None:
        """Remove the bot from a channel."""
        with self._board:
            self._store.put_channel(replace(self._store.channels[channel], bot_is_member=False))

    def invite_bot(self, channel: str) -> None:
        """Bring the bot (back) into a channel."""
        with self._board:
            self._store.put_channel(replace(self._store.channels[channel], bot_is_member=True))

    def _write(
        self,
        channel: str,
        text: str,
        *,
        user: str | None,
        thread_ts: str | None = None,
        subtype: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredMessage:
        writer = self._store.users[user or self._somebody()]
        return self._store.post(
            channel,
            user=writer.id,
            text=text,
            blocks=rich_text(text),
            thread_ts=thread_ts,
            subtype=subtype,
            bot_id=f"B{writer.id[1:]}" if writer.is_bot else None,
            extra={"client_msg_id": str(uuid.uuid4()), **(extra or {})},
        )

    def _somebody(self) -> str:
        for user in self._store.users.values():
            if not user.is_bot:
                return user.id
        return self._store.add_user("alice").id

    def _found(self, channel: str, ts: str) -> StoredMessage:
        message = self._store.find(channel, ts)
        if message is None:
            raise KeyError(f"no message {ts} in {channel}")
        return message


def _typed(text: str) -> str:
    """Return what Slack sends for what a person typed."""
    pieces = PICKED.split(text)
    return "".join(piece if index % 2 else escape(piece) for index, piece in enumerate(pieces))
