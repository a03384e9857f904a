"""Channels, users and messages of the workspace. Callers hold the board's lock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chatrelaybot.playground.board import Board
from chatrelaybot.playground.messages import Block, StoredMessage, Version

#: As Slack names them in events; "group" is a private channel.
ChannelType = Literal["channel", "group", "im", "mpim"]
_PREFIXES: Mapping[ChannelType, str] = {"channel": "C", "group": "C", "im": "D", "mpim": "G"}


@dataclass(frozen=True, slots=True)
class Identity:
    """The app, as the workspace knows it."""

    name: str
    user_id: str
    bot_id: str
    team_id: str
    app_id: str

    @property
    def mention(self) -> str:
        """What Slack puts where a person mentions the bot."""
        return f"<@{self.user_id}>"


@dataclass(frozen=True, slots=True)
class Channel:
    """A place where people write. A value: it is replaced when something about it changes."""

    id: str
    name: str
    type: ChannelType
    bot_is_member: bool = True
    is_archived: bool = False
    user: str | None = None  #: the other one in a direct message


@dataclass(frozen=True, slots=True)
class User:
    """A person, or another app's bot."""

    id: str
    name: str
    is_bot: bool = False


@dataclass(slots=True)
class _Contents:
    """The messages of one channel, in the order of their ts."""

    messages: dict[str, StoredMessage] = field(default_factory=dict)
    replies: dict[str, list[str]] = field(default_factory=dict)  #: root's ts: the replies' ts


class Store:
    """What is in the workspace."""

    def __init__(self, *, board: Board, identity: Identity) -> None:
        self._board = board
        self.identity = identity
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, User] = {
            identity.user_id: User(identity.user_id, identity.name, is_bot=True)
        }
        self._contents: dict[str, _Contents] = {}
        self._numbers = itertools.count(1)
        self._last_micros = 0

    def next_ts(self) -> str:
        """Return a ts that is later than all others; it shows the wall clock's time."""
        self._last_micros = max(self._last_micros + 1, time.time_ns() // 1000)
        return f"{self._last_micros // 1_000_000}.{self._last_micros % 1_000_000:06d}"

    def add_user(self, name: str, *, is_bot: bool = False) -> User:
        user = User(f"U{next(self._numbers):09d}P", name, is_bot)
        self.users[user.id] = user
        return user

    def add_channel(
        self,
        name: str,
        channel_type: ChannelType,
        *,
        bot_is_member: bool = True,
        user: str | None = None,
    ) -> Channel:
        channel_id = f"{_PREFIXES[channel_type]}{next(self._numbers):09d}P"
        channel = Channel(channel_id, name, channel_type, bot_is_member, user=user)
        self.channels[channel_id] = channel
        self._contents[channel_id] = _Contents()
        return channel

    def direct_channel(self, user: str) -> Channel:
        """Return the direct-message channel with a user, which is opened if need be."""
        for channel in self.channels.values():
            if channel.type == "im" and channel.user == user:
                return channel
        return self.add_channel(self.users[user].name, "im", user=user)

    def put_channel(self, channel: Channel) -> None:
        """Replace a channel by what it has become."""
        self.channels[channel.id] = channel
        self._board.touch()

    def find(self, channel: str, ts: str) -> StoredMessage | None:
        """Return a message, deleted ones too."""
        contents = self._contents.get(channel)
        return contents.messages.get(ts) if contents else None

    def post(
        self,
        channel: str,
        *,
        user: str,
        text: str,
        blocks: Sequence[Block] = (),
        thread_ts: str | None = None,
        subtype: str | None = None,
        bot_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredMessage:
        message = StoredMessage(
            channel=channel,
            ts=self.next_ts(),
            user=user,
            versions=(Version(time.monotonic(), text, tuple(blocks)),),
            thread_ts=thread_ts,
            subtype=subtype,
            bot_id=bot_id,
            metadata=metadata,
            extra=extra or {},
        )
        if thread_ts is not None:
            self._contents[channel].replies.setdefault(thread_ts, []).append(message.ts)
        return self._keep("posted", message)

    def edit(
        self,
        message: StoredMessage,
        *,
        text: str,
        blocks: Sequence[Block],
        is_marked: bool,
        metadata: Mapping[str, Any] | None,
    ) -> StoredMessage:
        """Add a version; `is_marked`: readers see "(edited)"."""
        version = Version(time.monotonic(), text, tuple(blocks))
        return self._keep(
            "edited",
            replace(
                message,
                versions=(*message.versions, version),
                edited=self.next_ts() if is_marked else message.edited,
                metadata=metadata,
            ),
        )

    def delete(self, message: StoredMessage) -> StoredMessage:
        return self._keep("deleted", replace(message, deleted_at=time.monotonic()))

    def react(self, message: StoredMessage, name: str, users: tuple[str, ...]) -> StoredMessage:
        """Make `users` those who reacted with `name`."""
        is_more = len(users) > len(message.reactions.get(name, ()))
        reactions = {**message.reactions, name: users}
        if not users:
            del reactions[name]
        return self._keep(
            "reacted" if is_more else "unreacted", replace(message, reactions=reactions)
        )

    def timeline(self, channel: str) -> list[StoredMessage]:
        """Return what the channel itself shows, oldest first; tombstones are left out."""
        return [
            message
            for message in self._contents[channel].messages.values()
            if not message.deleted
            and (message.thread_ts is None or message.subtype == "thread_broadcast")
        ]

    def replies(self, channel: str, thread_ts: str) -> list[StoredMessage]:
        """Return the visible replies of a thread without its root, oldest first."""
        contents = self._contents[channel]
        found = (contents.messages[ts] for ts in contents.replies.get(thread_ts, ()))
        return [message for message in found if not message.deleted]

    def everything(self, channel: str) -> list[StoredMessage]:
        """Return all messages of a channel, also replies and deleted ones, oldest first."""
        return list(self._contents[channel].messages.values())

    def _keep(self, kind: str, message: StoredMessage) -> StoredMessage:
        self._contents[message.channel].messages[message.ts] = message
        self._board.tell(kind, message)
        return message
