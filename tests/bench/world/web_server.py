"""As much of HTTP/1.1 as the clients of the bench speak: bodies with a length, connections kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Where all servers of the bench listen.
HOST = "127.0.0.1"
_REASONS = {101: "Switching Protocols", 200: "OK", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    path: str  #: with the query
    headers: Mapping[str, str]  #: names in lower case
    body: bytes


class Connection(asyncio.Protocol):
    """One connection of a client, which sends a request after the answer to the one before."""

    def __init__(self, serve: Callable[[Request, Connection], None]) -> None:
        """`serve` is called with each request, and answers it sooner or later."""
        self._serve = serve
        self._buffer = b""
        self._is_kept = True
        self.transport: asyncio.Transport
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._is_kept = headers.get("connection", "").lower() != "close"
        self._serve(Request(first.split(" ")[1], headers, rest[:length]), self)

    def answer(self, status: int, body: bytes, content_type: str, more: str = "") -> None:
        """Send an answer in one piece; `more` is further header lines."""
        if self.is_lost:
            return
        head = f"{head_of(status, content_type)}Content-Length: {len(body)}\r\n{more}\r\n"
        self.transport.write(head.encode("latin-1") + body)
        if not self._is_kept:
            self.transport.close()


def head_of(status: int, content_type: str) -> str:
    """Return the first lines of an answer."""
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
