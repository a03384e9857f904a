"""The sample backend: an HTTP server that answers in text, to try the bot with.

It speaks the dialect `relay` at `/v1/chat/stream` and `openai` at `/v1/chat/completions`. What it
says, and the orders for its failures (`!error`, `!slow 20`, `!cut` …), is in `sample_answers`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.sample_answers import Ending, Script, script, tokens
from chatrelaybot.playground.sample_wire import (
    BadRequest,
    OpenAIWire,
    RelayWire,
    Wire,
    read_openai,
    read_relay,
    wanted_type,
)

_log = logging.getLogger(__name__)

_STREAM = "text/event-stream"
#: About the rate of a hosted model.
_TOKENS_PER_SECOND = 40.0
_FIRST_TOKEN_SECONDS = 0.3
_KEEP_ALIVE_SECONDS = 10.0
#: Seconds that answers have to end by themselves when the server stops.
_SHUTDOWN_SECONDS = 0.1
#: Seconds within which the server's thread starts and stops.
_THREAD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly the sample backend writes. Durations are in seconds."""

    tokens_per_second: float = _TOKENS_PER_SECOND
    first_token_seconds: float = _FIRST_TOKEN_SECONDS
    keep_alive_seconds: float = _KEEP_ALIVE_SECONDS


class SampleBackend:
    """A sample backend in a thread of its own, for as long as the context lasts.

    Port 0 takes any free port.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tokens_per_second: float = _TOKENS_PER_SECOND,
        first_token_seconds: float = _FIRST_TOKEN_SECONDS,
        keep_alive_seconds: float = _KEEP_ALIVE_SECONDS,
    ) -> None:
        self._port = port
        self._server = _Server(Pace(tokens_per_second, first_token_seconds, keep_alive_seconds))
        self._thread = threading.Thread(target=self._run, name="chatrelaybot-sample-backend")
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    @property
    def url(self) -> str:
        """Where questions in the dialect `relay` go."""
        return f"{self._base}/v1/chat/stream"

    @property
    def openai_url(self) -> str:
        """Where questions in the dialect `openai` go."""
        return f"{self._base}/v1/chat/completions"

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self._started.result(timeout=_THREAD_SECONDS)[2]}"

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.result(timeout=_THREAD_SECONDS)
        except ConfigurationError:
            self._thread.join(timeout=_THREAD_SECONDS)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        loop, stopping, _ = self._started.result()
        loop.call_soon_threadsafe(stopping.set)
        self._thread.join(timeout=_THREAD_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError("the sample backend does not stop")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 it goes to the thread that waits for the start
            self._started.set_exception(error)

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        async with self._server.listening("127.0.0.1", self._port) as port:
            self._started.set_result((asyncio.get_running_loop(), stopping, port))
            await stopping.wait()


def serve_forever(*, port: int, host: str = "127.0.0.1", pace: Pace | None = None) -> None:
    """Serve on the calling thread, which must be the main one, until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: where the port cannot be had.
    """
    asyncio.run(_serve_until_signalled(_Server(pace or Pace()), host, port))


async def _serve_until_signalled(server: _Server, host: str, port: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with server.listening(host, port) as bound:
        url = f"http://{host}:{bound}/v1/chat/stream"
        _log.info("sample backend ready", extra={"url": url})
        await stopping.wait()
    _log.info("sample backend stopped")


class _Server:
    """The two routes, and how an answer is written."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; gives the port."""
        app = web.Application()
        app.router.add_get("/", self._welcome)
        app.router.add_post("/v1/chat/stream", self._relay)
        app.router.add_post("/v1/chat/completions", self._openai)
        # Cancellation frees an answer whose reader is gone, a hanging one above all.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        try:
            await _listen(runner, host, port)
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _welcome(self, _: web.Request) -> web.Response:
        return web.Response(
            text="The sample backend of ChatRelayBot. POST questions to /v1/chat/stream.\n"
        )

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        wire = RelayWire()
        try:
            question = read_relay(await request.read())
        except BadRequest as error:
            return web.json_response(wire.error(str(error)), status=400)
        wanted = wanted_type(request.headers.get("Accept", ""))
        if wanted is None:
            words = "this backend answers with text/event-stream or application/json"
            return web.json_response(wire.error(words), status=406)
        return await self._answer(request, wire, question, is_stream=wanted == _STREAM)

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        try:
            question, model, is_stream = read_openai(await request.read())
        except BadRequest as error:
            return web.json_response(OpenAIWire(model="").error(str(error)), status=400)
        wire = OpenAIWire(model=model)
        return await self._answer(request, wire, question, is_stream=is_stream)

    async def _answer(
        self, request: web.Request, wire: Wire, question: str, *, is_stream: bool
    ) -> web.StreamResponse:
        chosen = script(question)
        _log.debug("question", extra={"dialect": wire.name, "characters": len(chosen.text)})
        if chosen.status != 200:
            headers = {} if chosen.retry_after is None else {"Retry-After": str(chosen.retry_after)}
            body = wire.error(chosen.text)
            return web.json_response(body, status=chosen.status, headers=headers)
        if is_stream and not chosen.is_json:
            return await self._stream(request, wire, chosen)
        return await self._whole(request, wire, chosen)

    async def _whole(self, request: web.Request, wire: Wire, chosen: Script) -> web.StreamResponse:
        """Answer in one piece."""
        await asyncio.sleep(chosen.pause + self._pace.first_token_seconds)
        if chosen.ending is Ending.NEVER:
            await _forever()
        if chosen.ending is Ending.ERROR:
            return web.json_response(wire.error("the sample backend was told to fail"))
        whole = web.json_response(wire.whole(chosen.text))
        if chosen.ending is not Ending.CUT or not isinstance(whole.body, bytes):
            return whole
        half = web.StreamResponse(headers={"Content-Type": "application/json"})
        half.content_length = len(whole.body)
        await half.prepare(request)
        await half.write(whole.body[: len(whole.body) // 2])
        return _cut(request, half)

    async def _stream(self, request: web.Request, wire: Wire, chosen: Script) -> web.StreamResponse:
        """Answer word by word."""
        stream = web.StreamResponse(
            # The last one keeps nginx from collecting the words.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        stream.content_type, stream.charset = _STREAM, "utf-8"
        await stream.prepare(request)
        await stream.write(b": the sample backend is thinking\n\n" + wire.begin())
        if chosen.ending is Ending.NEVER:
            await _forever()
        await self._write(stream, wire, chosen)
        if chosen.ending is Ending.CUT:
            return _cut(request, stream)
        failed = wire.failed("the sample backend was told to fail")
        await stream.write(failed if chosen.ending is Ending.ERROR else wire.done())
        await stream.write_eof()
        return stream

    async def _write(self, stream: web.StreamResponse, wire: Wire, chosen: Script) -> None:
        clock = asyncio.get_running_loop().time
        due = clock() + chosen.pause + self._pace.first_token_seconds
        for token, gap in self._paced(chosen):
            # By the clock rather than gap by gap, so that the rate is right above 1000/s, too.
            while due - clock() > self._pace.keep_alive_seconds:
                await asyncio.sleep(self._pace.keep_alive_seconds)
                await stream.write(b": still here\n\n")
            await asyncio.sleep(due - clock())
            await stream.write(wire.text(token))
            due += gap

    def _paced(self, chosen: Script) -> Iterator[tuple[str, float]]:
        """Give each token with the seconds until the next one, as uneven as a model's."""
        unevenness = random.Random(chosen.text)
        mean = 1.0 / (self._pace.tokens_per_second * chosen.speed)
        return ((token, mean * unevenness.uniform(0.4, 1.6)) for token in tokens(chosen.text))


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        problem = {
            errno.EADDRINUSE: f"port {port} on {host} is already in use",
            errno.EACCES: f"port {port} needs privileges",
        }.get(error.errno or 0, f"cannot listen on {host} port {port}")
        raise ConfigurationError(
            "PORT", problem, "stop the other program, or set PORT to a free port"
        ) from error


def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection without the end that HTTP promises."""
    if request.transport is not None:
        request.transport.close()
    return response


async def _forever() -> None:
    """Wait until the reader is gone, or the server stops."""
    await asyncio.Event().wait()
