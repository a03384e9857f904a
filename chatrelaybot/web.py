"""The small HTTP server: whether the bot lives, whether it is ready, and its metrics.

It tells nothing that is secret, and does nothing for who asks but look.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waitress.server import create_server
from waitress.wasyncore import close_all

from chatrelaybot.errors import ConfigurationError, TransientError

_log = logging.getLogger(__name__)

#: Requests that are answered at once; connections that are open at once.
_THREADS = 2
_MOST_CONNECTIONS = 500
#: A connection that is silent for so long is closed; seconds.
_SILENCE_SECONDS = 10
#: Most bytes of a request.
_MOST_HEADER_BYTES = 16_384
_MOST_BODY_BYTES = 1_024
#: How long the thread sleeps where nobody asks anything; seconds.
_IDLE_SECONDS = 10
#: How long `close` waits for the threads; seconds.
_CLOSE_SECONDS = 5.0

#: What was looked at, and what is wrong with it; None: nothing.
Checks = Mapping[str, str | None]
#: Returns a text and its content type.
Metrics = Callable[[], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class _Page:
    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


_NOT_FOUND = _Page("404 Not Found", b"not found\n")
_NOT_ALLOWED = _Page("405 Method Not Allowed", b"only GET and HEAD\n")


class Web:
    """The server. It listens from the beginning, and answers between `start` and `close`."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        live: Callable[[], Checks],
        ready: Callable[[], Checks],
        metrics: Metrics | None,
        failed: Callable[[Exception], None],
    ) -> None:
        """`failed` is told, on the server's thread, what has ended it.

        Raises:
            ConfigurationError: The port cannot be used.
            TransientError: The address is not there; it may be later.
        """
        self._pages: dict[str, Callable[[], _Page]] = {
            "/livez": lambda: _verdict(live()),
            "/readyz": lambda: _verdict(ready()),
        }
        if metrics is not None:
            self._pages["/metrics"] = lambda: _text(metrics())
        self._failed = failed
        self._sockets: dict[int, Any] = {}
        listener = listen(host, port)
        self.port: int = listener.getsockname()[1]
        self._server: Any = create_server(
            self._answer,
            map=self._sockets,
            sockets=[listener],
            threads=_THREADS,
            connection_limit=_MOST_CONNECTIONS,
            channel_timeout=_SILENCE_SECONDS,
            cleanup_interval=_IDLE_SECONDS,
            max_request_header_size=_MOST_HEADER_BYTES,
            max_request_body_size=_MOST_BODY_BYTES,
            asyncore_loop_timeout=_IDLE_SECONDS,
            asyncore_use_poll=True,  # The other way ends at 1024 open files.
            log_socket_errors=False,
            ident="",
        )
        self._thread = threading.Thread(target=self._run, name="chatrelaybot-web", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()
        _log.info("health served", extra={"port": self.port})

    def close(self) -> None:
        """Close all connections, and end all threads."""
        sockets: dict[int, Any] = {}

        def let_go() -> None:
            sockets.update(self._sockets)
            self._sockets.clear()

        # The thread ends when it has nothing left. Only then is anything closed: what wakes it up
        # is one of its sockets, and others may be about to do so.
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(let_go)
            self._thread.join(_CLOSE_SECONDS)
        self._server.task_dispatcher.shutdown(timeout=_CLOSE_SECONDS)
        close_all(sockets or self._sockets, ignore_all=True)

    def _run(self) -> None:
        try:
            self._server.run()
        except Exception as error:  # noqa: BLE001 - the top of a thread
            self._failed(error)

    def _answer(self, request: WSGIEnvironment, begin: StartResponse) -> Iterable[bytes]:
        page = self._page(request["REQUEST_METHOD"], request["PATH_INFO"])
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.body))),
            ("Cache-Control", "no-store"),
        ]
        if page is _NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        begin(page.status, headers)
        return [] if request["REQUEST_METHOD"] == "HEAD" else [page.body]

    def _page(self, method: str, path: str) -> _Page:
        if (make := self._pages.get(path)) is None:
            return _NOT_FOUND
        return make() if method in ("GET", "HEAD") else _NOT_ALLOWED


def _verdict(checks: Checks) -> _Page:
    is_well = not any(checks.values())
    found = {name: problem or "ok" for name, problem in checks.items()}
    words = json.dumps({"status": "ok" if is_well else "failing", "checks": found}, indent=2)
    status = "200 OK" if is_well else "503 Service Unavailable"
    return _Page(status, f"{words}\n".encode(), "application/json")


def _text(metrics: tuple[bytes, str]) -> _Page:
    body, content_type = metrics
    return _Page("200 OK", body, content_type)


def listen(host: str, port: int) -> socket.socket:
    """Take an address.

    Raises:
        ConfigurationError: The port cannot be used.
        TransientError: The address is not there; it may be later.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: Exception) -> ConfigurationError | TransientError:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        problem = f"port {port} is in use"
        return ConfigurationError("HTTP_PORT", problem, "choose another, 0 for any, or off")
    if code == errno.EACCES:
        problem = f"port {port} is not for this user"
        return ConfigurationError("HTTP_PORT", problem, "choose one above 1023, or off")
    # A name that is not known yet, or an interface that comes up later: at a boot both happen.
    mend = "write 127.0.0.1, 0.0.0.0, or one that it has"
    return TransientError(f"HTTP_HOST: {host} is no address of this machine; {mend}")
