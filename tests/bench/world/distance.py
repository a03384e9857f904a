"""A proxy that makes a server seem far away: bytes take their time each way, in their order.

A program of its own: `python -m tests.bench.world.distance PORT SECONDS` passes bytes on to PORT,
each way in SECONDS, says on standard output on which port it listens, and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from tests.bench.world.web_server import HOST

_BACKLOG = 2048


class _Way(asyncio.Protocol):
    """One direction of a connection: reads here, writes there, later."""

    def __init__(self, seconds: float, *, extra: float) -> None:
        """`extra`: how much longer the first bytes take."""
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._not_before = self._loop.time() + seconds + extra
        self._waiting: deque[bytes | None] = deque()  # None: the end
        self.transport: asyncio.Transport | None = None
        self.other: _Way | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._pass_later(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._pass_later(None)

    def _pass_later(self, piece: bytes | None) -> None:
        self._not_before = max(self._not_before, self._loop.time() + self._seconds)
        self._waiting.append(piece)
        self._loop.call_at(self._not_before, self._pass)

    def _pass(self) -> None:
        piece = self._waiting.popleft()
        there = self.other.transport if self.other else None
        if there is None or there.is_closing():
            return
        if piece is None:
            there.close()
        else:
            there.write(piece)


class _Near(_Way):
    """The client's side."""

    def __init__(self, seconds: float, port: int) -> None:
        # The kernel accepts at once; what connecting would take, the first bytes take.
        super().__init__(seconds, extra=2 * seconds)
        self._port = port
        self._dialing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()  # until there is somebody to pass it to
        self._dialing = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        far = _Way(self._seconds, extra=0.0)
        far.other = self
        await self._loop.create_connection(lambda: far, HOST, self._port)
        assert self.transport is not None
        assert far.transport is not None
        self.other = far
        if self.transport.is_closing():
            far.transport.close()
        else:
            self.transport.resume_reading()


async def _serve(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Near(seconds, port), HOST, 0, backlog=_BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
