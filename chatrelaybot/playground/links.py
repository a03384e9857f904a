"""One Socket Mode connection, seen from Slack's end. Lives in the loop alone.

aiohttp shakes hands and reads. Frames are written here, because a frame in pieces, a frame that
stops in its middle or a silent peer is what aiohttp rightly refuses to be.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

#: What can happen to a link; `Links.cut` explains each.
Cut = Literal["close_frame", "fin", "reset", "silence", "no_pong"]

_CONTINUATION, _TEXT, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x8, 0x9, 0xA
#: How long the other side gets to answer a close frame, in seconds.
_CLOSE_SECONDS = 2.0


def frame(opcode: int, payload: bytes, *, is_final: bool = True) -> bytes:
    """Return a frame as servers send it, unmasked: https://www.rfc-editor.org/rfc/rfc6455#section-5.2"""
    first, length = (0x80 if is_final else 0) | opcode, len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


@dataclass(frozen=True, slots=True)
class Shape:
    """How an envelope is written that is not written plainly."""

    fragments: int = 1  #: into how many frames it is cut
    stall_seconds: float = 0.0  #: how long writing stops in the middle of the (first) frame


class Link:
    """Writes whole frames in order; when it stalls, what comes after waits."""

    def __init__(
        self,
        *,
        number: int,
        transport: asyncio.Transport,
        shape: Callable[[], Shape | None],
    ) -> None:
        """`shape()` says how the next envelope is written; None: plainly."""
        self.number = number
        self.opened_at = time.monotonic()
        self.pong_at: float | None = None  #: when the other side last answered a ping
        self.silent_since: float | None = None
        self.withholds_pongs = False
        self.is_closing = False  #: no more envelopes go out over it
        #: Set when the workspace lets go of a link that it had fallen silent on.
        self.released = asyncio.Event()
        self._transport = transport
        self._shape = shape
        self._waiting: deque[bytes | float] | None = None  # not None: a pause is on

    @property
    def is_silent(self) -> bool:
        """Whether nothing is read or written any more."""
        return self.silent_since is not None

    def send(self, text: str) -> None:
        """Send a message about the link itself."""
        self._write(frame(_TEXT, text.encode()))

    def send_envelope(self, text: str) -> None:
        """Send an envelope."""
        payload, shape = text.encode(), self._shape()
        if shape is None:
            self._write(frame(_TEXT, payload))
            return
        first, *rest = _fragments(payload, shape.fragments)
        half = len(first) // 2
        pieces: list[bytes | float] = [first[:half], shape.stall_seconds, first[half:], *rest]
        for piece in pieces:
            self._write(piece)

    def ping(self) -> None:
        self._write(frame(_PING, b"Ping from playground"))

    def pong(self, payload: bytes) -> None:
        if not self.withholds_pongs:
            self._write(frame(_PONG, payload))

    def cut(self, how: Cut) -> None:
        """Lose the link in one of the ways in which links are lost."""
        if how == "no_pong":
            self.withholds_pongs = True
        elif how == "silence":
            self.silent_since = time.monotonic()
        else:
            self.is_closing = True
            _ENDINGS[how](self)

    def abort(self) -> None:
        """Let go of the socket."""
        self.is_closing = True
        self.released.set()
        self._transport.abort()

    def _write(self, piece: bytes | float) -> None:
        """Write bytes, or pause for so many seconds; while it pauses, all else waits its turn."""
        if self._waiting is not None:
            self._waiting.append(piece)
        elif isinstance(piece, bytes):
            if not self.is_silent and not self._transport.is_closing():
                self._transport.write(piece)
        elif piece > 0:
            self._waiting = deque()
            asyncio.get_running_loop().call_later(piece, self._go_on)

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        for piece in waiting or ():
            self._write(piece)

    def _close_with_frame(self) -> None:
        self._write(frame(_CLOSE, struct.pack("!H", 1000)))
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._transport.close)

    def _close_without_frame(self) -> None:
        self._transport.close()

    def _reset(self) -> None:
        # With this option and nothing to wait for, closing sends RST in place of FIN.
        connection = self._transport.get_extra_info("socket")
        with suppress(OSError):  # It may be closed by now.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


_ENDINGS: dict[str, Callable[[Link], None]] = {
    "close_frame": Link._close_with_frame,
    "fin": Link._close_without_frame,
    "reset": Link._reset,
}


def _fragments(payload: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(payload) // count))
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    last = len(pieces) - 1
    return [
        frame(_TEXT if index == 0 else _CONTINUATION, piece, is_final=index == last)
        for index, piece in enumerate(pieces)
    ]
