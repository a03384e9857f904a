"""One Socket Mode connection, seen from Slack's end: https://www.rfc-editor.org/rfc/rfc6455"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Callable

from chatrelaybot.playground.links import frame

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PING_SECONDS = 10.0


def text_frame(payload: bytes) -> bytes:
    return frame(_TEXT, payload)


def handshake(key: str) -> bytes:
    """Return the answer to a client's handshake."""
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(digest)
    )


class Link(asyncio.Protocol):
    """Takes over a connection whose handshake is done."""

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        receive: Callable[[bytes], None],
        lost: Callable[[Link], None],
    ) -> None:
        """`receive` is called with each text, `lost` when the connection has ended."""
        self.transport = transport
        self._receive = receive
        self._lost = lost
        self._buffer = b""
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._pinging = asyncio.get_running_loop().call_later(_PING_SECONDS, self._ping)
        transport.set_protocol(self)
        self._confirm_soon()

    def connection_lost(self, _error: Exception | None) -> None:
        self._pinging.cancel()
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        self._confirm_soon()
        buffer, start = self._buffer + data, 0
        while (found := _frame_at(buffer, start)) is not None:
            opcode, payload, start = found
            if opcode == _TEXT:
                self._receive(payload)
            elif opcode == _PING:
                self.transport.write(frame(_PONG, payload))
            elif opcode == _CLOSE:
                self.transport.write(frame(_CLOSE, payload))
                self.transport.close()
        self._buffer = buffer[start:]

    def _confirm_soon(self) -> None:
        # Not all clients turn Nagle's algorithm off: without this our kernel's delay in confirming
        # one ack would hold up the next one, until the next event. It has to be said each time.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _ping(self) -> None:
        self.transport.write(frame(_PING, b"Ping from bench"))
        self._pinging = asyncio.get_running_loop().call_later(_PING_SECONDS, self._ping)


def _frame_at(buffer: bytes, start: int) -> tuple[int, bytes, int] | None:
    """Return opcode and payload of a whole, masked frame, and where it ends; None: not yet."""
    if len(buffer) < start + 6:
        return None
    length, at = buffer[start + 1] & 0x7F, start + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, at = int.from_bytes(buffer[at : at + size], "big"), at + size
    end = at + 4 + length
    if len(buffer) < end:
        return None
    mask = buffer[at : at + 4] * (length // 4 + 1)
    masked = int.from_bytes(buffer[at + 4 : end], "big")
    payload = (masked ^ int.from_bytes(mask[:length], "big")).to_bytes(length, "big")
    return buffer[start] & 0xF, payload, end
