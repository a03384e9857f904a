"""What there is to see in the workspace, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chatrelaybot.playground.board import Board
from chatrelaybot.playground.courier import Courier, Delivery
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.snapshot import describe
from chatrelaybot.playground.socket_mode import LinkState, SocketMode
from chatrelaybot.playground.store import Store
from chatrelaybot.playground.web_api import Call, WebApi, heedless

T = TypeVar("T")


class View:
    """The part of a workspace that only looks. What it returns are values, not changed later."""

    _board: Board
    _store: Store
    _courier: Courier
    _links: SocketMode
    _web_api: WebApi

    def message(self, channel: str, ts: str) -> StoredMessage:
        """Return a message, also a deleted one; KeyError where there never was one."""
        with self._board:
            message = self._store.find(channel, ts)
        if message is None:
            raise KeyError(f"no message {ts} in {channel}")
        return message

    def replies(self, channel: str, thread_ts: str) -> list[StoredMessage]:
        """Return the visible replies in a thread, without its root, oldest first."""
        with self._board:
            return self._store.replies(channel, thread_ts)

    def history(self, channel: str) -> list[StoredMessage]:
        """Return what the channel shows, oldest first; replies stay in their threads."""
        with self._board:
            return self._store.timeline(channel)

    def everything(self, channel: str) -> list[StoredMessage]:
        """Return all messages of a channel, replies and deleted ones too, oldest first."""
        with self._board:
            return self._store.everything(channel)

    def bot_messages(self, channel: str) -> list[StoredMessage]:
        """Return the bot's visible messages in a channel and its threads, oldest first."""
        found = self.everything(channel)
        return [m for m in found if m.bot_id == self._store.identity.bot_id and not m.deleted]

    @property
    def calls(self) -> list[Call]:
        """The Web API calls so far, in the order of their arrival."""
        with self._board:
            return list(self._web_api.calls)

    def heedless_calls(self, *, grace: float = 0.1) -> list[Call]:
        """Return the calls that were made although a Retry-After had said to wait.

        `grace` is how many seconds it may take to get to everybody at the caller's.
        """
        return heedless(self.calls, grace=grace)

    @property
    def deliveries(self) -> list[Delivery]:
        """What became of each event, in the order of their publication."""
        return self._courier.deliveries()

    def delivery(self, event_id: str) -> Delivery:
        """Return what became of one event."""
        return self._courier.delivery(event_id)

    def deliveries_of(self, channel: str, ts: str) -> list[Delivery]:
        """Return what became of the events that told of a message."""
        return [
            delivery
            for delivery in self.deliveries
            if (delivery.event.get("channel"), delivery.event.get("ts")) == (channel, ts)
        ]

    @property
    def acked_count(self) -> int:
        """How many events were acked."""
        return self._courier.acked_count()

    @property
    def links(self) -> list[LinkState]:
        """All links so far, in the order of their handshakes."""
        with self._board:
            return list(self._links.states)

    @property
    def open_links(self) -> list[LinkState]:
        """The links that events go over."""
        return [link for link in self.links if link.is_open]

    @property
    def refused_link_count(self) -> int:
        """How many handshakes were refused."""
        with self._board:
            return self._links.refused_count

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """Return the predicate's first true value; it is asked again at every change.

        Raises NeverHappened, which tells what there is instead.
        """
        return self._board.wait_for(predicate, timeout=timeout, describe=self.snapshot)

    def wait_for_link(self, *, after: int = 0, timeout: float = 10.0) -> LinkState:
        """Return the first open link with a number above `after`."""
        return self.wait_for(
            lambda: [link for link in self.open_links if link.number > after], timeout
        )[0]

    def snapshot(self) -> str:
        """Describe what there is, for a person."""
        with self._board:
            channels = {
                channel: self._store.everything(channel) for channel in self._store.channels
            }
        return describe(channels, self.calls, self.deliveries, self.links)
