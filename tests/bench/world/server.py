"""The world's process: one loop that is Slack and the backend, led by its parent over a pipe."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from chatrelaybot.playground.limits import Limits
from tests.bench.world import backend, socket_mode, web_api
from tests.bench.world.book import Book
from tests.bench.world.flaws import flaws
from tests.bench.world.records import Asked, Call, Record
from tests.bench.world.script import Script
from tests.bench.world.web_server import HOST, Connection, Request
from tests.forwarder import CERTIFICATE

#: Connections that may wait until they are accepted: a crowd connects at once.
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Usage:
    """What the world itself has cost."""

    cpu_seconds: float
    wall_seconds: float
    lateness: float  #: longest delay of a part behind its time since this was last asked, seconds

    def share_since(self, earlier: Usage) -> float:
        """Return the share of a core since an earlier look."""
        seconds = self.wall_seconds - earlier.wall_seconds
        return (self.cpu_seconds - earlier.cpu_seconds) / seconds


def run(pipe: Pipe) -> None:
    """Be the world until the parent closes its end of the pipe."""
    with asyncio.Runner() as runner:
        runner.run(_serve(pipe))


async def _serve(pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.set_exception_handler(lambda loop, context: _on_error(loop, context, over))
    server = _Server(loop)
    await server.open()
    # Nothing of what is made per part or per call is in a cycle.
    gc.freeze()
    gc.disable()
    desk = _Desk(pipe, server, over)
    loop.add_reader(pipe.fileno(), desk.read)
    await over.wait()
    loop.remove_reader(pipe.fileno())


def _on_error(
    loop: asyncio.AbstractEventLoop, context: dict[str, Any], over: asyncio.Event
) -> None:
    if not isinstance(context.get("exception"), OSError):  # Those are connections that end.
        loop.default_exception_handler(context)
        over.set()


class _Desk:
    """Does what the parent wants: one thing after the other."""

    def __init__(self, pipe: Pipe, server: _Server, over: asyncio.Event) -> None:
        self._pipe = pipe
        self._server = server
        self._over = over
        self._task: asyncio.Task[None] | None = None

    def read(self) -> None:
        try:
            name, args = self._pipe.recv()
        except (EOFError, OSError):
            self._over.set()
            return
        self._task = asyncio.create_task(self._do(name, args))

    async def _do(self, name: str, args: tuple[Any, ...]) -> None:
        try:
            answer = getattr(self._server, name)(*args)
            self._pipe.send((True, await answer if asyncio.iscoroutine(answer) else answer))
        except Exception:  # noqa: BLE001 - the parent raises it
            self._pipe.send((False, traceback.format_exc()))


class _Server:
    """All that can be asked of the world. `World` has the same methods, and their docstrings."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._started_at = time.monotonic()
        self._port = 0
        self._book = Book()
        self._backend = backend.Backend(self._book, loop)
        self._web_api = web_api.WebApi(self._book, loop, self._link_url)
        self._socket_mode = socket_mode.SocketMode(self._book, loop, self._web_api.next_ts)
        self._routes: list[tuple[str, Callable[[Request, Connection], None]]] = [
            (web_api.PATH, self._web_api.take),
            (backend.PATH, self._backend.take),
            (socket_mode.PATH, self._socket_mode.take),
        ]

    async def open(self) -> None:
        """Listen, without TLS."""
        self._port = await self._listen(None)

    async def listen_with_tls(self) -> int:
        """Listen with TLS as well; return that port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        return await self._listen(context)

    def port(self) -> int:
        return self._port

    def change(self, latency: float, limits: Limits | None) -> None:
        self._web_api.change(latency, limits)

    async def wait_for_link(self, timeout: float, since: float = 0.0) -> float | None:
        return await self._socket_mode.wait_for_link(timeout, since)

    async def ask(
        self, count: int, script: Script, channels: list[str], per_second: float | None
    ) -> Asked:
        return await self._socket_mode.ask(count, script, channels, per_second)

    async def wait_until_answered(self, numbers: range, timeout: float) -> bool:
        return await self._book.wait(numbers, _is_answered, timeout)

    async def wait_until_acked(self, numbers: range, timeout: float) -> bool:
        return await self._book.wait(numbers, _is_acked, timeout)

    def records(self, numbers: range) -> list[Record]:
        return [self._book.records[number] for number in numbers]

    def calls(self) -> list[Call]:
        return self._book.calls

    def flaws(self, numbers: range) -> list[str]:
        return flaws(self.records(numbers))

    def forget(self) -> None:
        self._book.forget()
        self._socket_mode.forget()
        gc.collect()

    def usage(self) -> Usage:
        wall = time.monotonic() - self._started_at
        return Usage(time.process_time(), wall, self._backend.take_lateness())

    async def _listen(self, context: ssl.SSLContext | None) -> int:
        server = await self._loop.create_server(
            lambda: Connection(self._route), HOST, 0, ssl=context, backlog=_BACKLOG
        )
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _route(self, request: Request, connection: Connection) -> None:
        for path, take in self._routes:
            if request.path.startswith(path):
                take(request, connection)
                return
        connection.answer(404, b"", "text/plain")

    def _link_url(self) -> str:
        return f"ws://{HOST}:{self._port}{socket_mode.PATH}/?ticket=bench&app_id=bench"


def _is_answered(record: Record) -> bool:
    return record.ended is not None and record.is_answered


def _is_acked(record: Record) -> bool:
    return bool(record.acks)


def main() -> None:
    """Run with the number of the pipe's descriptor."""
    run(Pipe(int(sys.argv[1])))
