"""Slack's end of Socket Mode: tickets, hello, pings, acks, disconnect warnings. Lives in the loop.

https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiohttp import WSMsgType, web

from chatrelaybot.playground.arguments import Arguments
from chatrelaybot.playground.board import Board
from chatrelaybot.playground.courier import Courier
from chatrelaybot.playground.links import Cut, Link, Shape
from chatrelaybot.playground.store import Identity

Reason = Literal["warning", "refresh_requested", "link_disabled", "too_many_websockets"]

#: https://docs.slack.dev/apis/events-api/using-socket-mode/#connections
_LINK_LIMIT = 10
#: A link is given up when so many pings in a row went unanswered.
_MISSED_PINGS = 3
_DEBUG_INFO = {
    "host": "applink-playground",
    "build_number": 1,
    "approximate_connection_time": 18060,
}


@dataclass(frozen=True, slots=True)
class Opening:
    """How a link begins. The default is a good beginning."""

    delay: float = 0.0  #: seconds before the handshake is answered
    status: int | None = None  #: the handshake is refused with this HTTP status
    says_hello: bool = True
    disconnect: Reason | None = None  #: a disconnect message comes first of all
    cut: Cut | None = None  #: this happens to it after its hello


@dataclass(frozen=True, slots=True)
class LinkState:
    """What became of one link until now. Times are time.monotonic()."""

    number: int
    opened_at: float
    hello_at: float | None = None
    closed_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether events may go over it, as far as Slack knows."""
        return self.hello_at is not None and self.closed_at is None


class SocketMode:
    """The links of the app."""

    def __init__(
        self,
        *,
        board: Board,
        identity: Identity,
        courier: Courier,
        link_url: Callable[[], str],
        ping_seconds: float,
    ) -> None:
        """`link_url()` is what tickets are appended to; a ping goes out every `ping_seconds`."""
        self._board = board
        self._identity = identity
        self._courier = courier
        self._link_url = link_url
        self._ping_seconds = ping_seconds
        # Guarded by the board's lock:
        self._tickets: set[str] = set()
        self._openings: deque[Opening] = deque()
        self._shapes: deque[Shape] = deque()
        self.states: list[LinkState] = []  #: changed by the loop's thread only
        self.refused_count = 0  #: handshakes that were refused
        # The loop's alone: open links, the one that has waited longest for an envelope first.
        self._links: deque[Link] = deque()
        self._all_links: set[Link] = set()
        courier.use_links(self._choose)

    def plan(self, opening: Opening, times: int) -> None:
        """Say how the next links begin. From any thread."""
        with self._board:
            self._openings.extend([opening] * times)

    def shape(self, shape: Shape, times: int) -> None:
        """Say how the next envelopes are written. From any thread."""
        with self._board:
            self._shapes.extend([shape] * times)

    def open_ticket(self, _args: Arguments) -> dict[str, Any]:
        """apps.connections.open: return an address that is good for one link."""
        ticket = uuid.uuid4().hex
        self._tickets.add(ticket)
        return {"url": f"{self._link_url()}?ticket={ticket}&app_id={self._identity.app_id}"}

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one link until its end."""
        with self._board:
            opening = self._openings.popleft() if self._openings else Opening()
        await asyncio.sleep(opening.delay)
        if status := self._refusal(opening, request.query.get("ticket", "")):
            return web.Response(status=status, text="refused")
        reader = web.WebSocketResponse(autoping=False, autoclose=False, compress=False)
        await reader.prepare(request)
        if not isinstance(request.transport, asyncio.Transport):
            return reader  # it went away during the handshake
        link = self._new_link(request.transport)
        pinging = asyncio.create_task(self._keep_alive(link))
        try:
            self._begin(link, opening)
            await self._read(link, reader)
            if link.is_silent:
                await link.released.wait()
        finally:
            pinging.cancel()
            self._forget(link)
            self._all_links.discard(link)
        return reader

    def cut(self, how: Cut, number: int | None) -> None:
        """Do this to one link, or to every open one."""
        for link in self._open(number):
            link.cut(how)
            if link.is_closing:
                self._forget(link)

    def disconnect(self, reason: Reason, close_after: float | None, number: int | None) -> None:
        """Say on the links that they will end; end them `close_after` seconds later."""
        for link in self._open(number):
            link.send(self._disconnect_message(reason))
            if close_after is not None:
                asyncio.get_running_loop().call_later(close_after, self._close, link)

    async def close(self) -> None:
        """Let go of all links."""
        for link in list(self._all_links):
            link.abort()

    def _refusal(self, opening: Opening, ticket: str) -> int | None:
        with self._board:
            status = opening.status if ticket in self._tickets else 400
            self._tickets.discard(ticket)
            if status is not None:
                self.refused_count += 1
                self._board.touch()
            return status

    def _new_link(self, transport: asyncio.Transport) -> Link:
        with self._board:
            link = Link(number=len(self.states) + 1, transport=transport, shape=self._next_shape)
            self.states.append(LinkState(link.number, link.opened_at))
            self._board.touch()
        self._all_links.add(link)
        return link

    def _next_shape(self) -> Shape | None:
        with self._board:
            return self._shapes.popleft() if self._shapes else None

    def _begin(self, link: Link, opening: Opening) -> None:
        if len(self._links) >= _LINK_LIMIT:
            link.send(self._disconnect_message("too_many_websockets"))
            link.cut("close_frame")
            return
        if opening.disconnect:
            link.send(self._disconnect_message(opening.disconnect))
        if opening.says_hello:
            self._links.append(link)
            self._note(replace(self.states[link.number - 1], hello_at=time.monotonic()))
            link.send(self._hello())
            self._courier.link_is_up()
        if opening.cut:
            link.cut(opening.cut)
            if link.is_closing:
                self._forget(link)

    async def _read(self, link: Link, reader: web.WebSocketResponse) -> None:
        async for message in reader:
            if link.is_silent:
                continue
            if message.type is WSMsgType.TEXT:
                self._courier.take_ack(_envelope_id(message.data), link.number)
            elif message.type is WSMsgType.PING:
                link.pong(bytes(message.data))
            elif message.type is WSMsgType.PONG:
                link.pong_at = time.monotonic()

    async def _keep_alive(self, link: Link) -> None:
        while not link.is_closing:
            link.ping()
            await asyncio.sleep(self._ping_seconds)
            last = link.pong_at or link.opened_at
            if time.monotonic() - last > _MISSED_PINGS * self._ping_seconds:
                self._forget(link)
                if not link.is_silent:
                    link.abort()
                return

    def _choose(self) -> Link | None:
        """Return the next link in turn. Slack promises no pattern."""
        if not self._links:
            return None
        self._links.rotate(-1)
        return self._links[-1]

    def _open(self, number: int | None) -> list[Link]:
        return [link for link in self._all_links if number in (None, link.number)]

    def _close(self, link: Link) -> None:
        if not link.is_closing:
            link.cut("close_frame")
            self._forget(link)

    def _forget(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)
        state = self.states[link.number - 1]
        if state.closed_at is None:
            self._note(replace(state, closed_at=time.monotonic()))

    def _note(self, state: LinkState) -> None:
        with self._board:
            self.states[state.number - 1] = state
            self._board.touch()

    def _hello(self) -> str:
        return json.dumps(
            {
                "type": "hello",
                "num_connections": len(self._links),
                "debug_info": _DEBUG_INFO,
                "connection_info": {"app_id": self._identity.app_id},
            }
        )

    @staticmethod
    def _disconnect_message(reason: Reason) -> str:
        return json.dumps({"type": "disconnect", "reason": reason, "debug_info": _DEBUG_INFO})


def _envelope_id(text: str) -> object:
    try:
        answer = json.loads(text)
    except ValueError:
        return None  # Slack passes over what is no ack
    return answer.get("envelope_id") if isinstance(answer, dict) else None
