"""The workspace's HTTP server: one aiohttp application in one loop in one thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")

_NOT_RUNNING = "the workspace is not running"
_HOST = "127.0.0.1"
#: Connections that may wait to be taken; a hundred clients may come at once.
_BACKLOG = 1024
#: Seconds. What still runs in the loop at the end is cut off.
_STOP_SECONDS = 5.0


class Server:
    """Start it, and `port` says where it listens."""

    def __init__(self, *, port: int, idle_seconds: float) -> None:
        """`port` 0: a free one. An idle connection is closed after `idle_seconds`."""
        self.port = port
        self._idle_seconds = idle_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    def start(self, routes: Iterable[web.RouteDef]) -> None:
        """Listen; raises OSError where the port is taken."""
        listener = self._bind()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chatrelaybot-playground", daemon=True
        )
        self._thread.start()
        self.run(self._set_up(routes, listener))

    def close(self) -> None:
        """Stop, and return when the thread has ended."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self.run(self._tear_down())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        loop.close()
        self._loop = self._thread = None

    def call_soon(self, callback: Any, *args: Any) -> None:
        """Run a callback in the loop; calls keep their order. From any thread."""
        if self._loop is None:
            raise RuntimeError(_NOT_RUNNING)
        self._loop.call_soon_threadsafe(callback, *args)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result. From any other thread."""
        if self._loop is None:
            work.close()
            raise RuntimeError(_NOT_RUNNING)
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(_STOP_SECONDS)

    def stop_listening(self) -> None:
        """Refuse new connections, and cut those that there are."""
        self.run(self._cut_off())

    def listen_again(self) -> None:
        """Listen on the same port as before."""
        if self._site is None:
            self.run(self._listen(self._bind()))

    def _bind(self) -> socket.socket:
        listener = socket.create_server((_HOST, self.port), backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        return listener

    async def _set_up(self, routes: Iterable[web.RouteDef], listener: socket.socket) -> None:
        application = web.Application(client_max_size=16 * 2**20)
        application.add_routes(routes)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=self._idle_seconds,
        )
        await self._runner.setup()
        await self._listen(listener)

    async def _listen(self, listener: socket.socket) -> None:
        if self._runner is not None:
            self._site = web.SockSite(self._runner, listener, backlog=_BACKLOG)
            await self._site.start()

    async def _cut_off(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        server = self._runner and self._runner.server
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def _tear_down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()
