"""A scripted Web API over real sockets, for the tests of the slack modules."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.forwarder import CERTIFICATE

#: Longest wait of anything here, seconds.
DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one call."""

    body: Mapping[str, Any] | bytes = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    #: "fin" or "reset" in the place of an answer; "midway" cuts the body short; "after" closes
    #: the connection after the answer without having said so.
    cut: str | None = None
    #: Answer only when this is set.
    gate: threading.Event | None = None

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps({"ok": "error" not in self.body, **self.body}).encode()


@dataclass(frozen=True, slots=True)
class Call:
    """A call that reached the server."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    #: The caller's port, which tells connections apart.
    port: int

    @property
    def method(self) -> str:
        return self.path.rpartition("/")[2]


class WebApi:
    """A server on a free port of 127.0.0.1, with HTTP/1.1 connections that are kept open."""

    def __init__(self, *, is_tls: bool = False) -> None:
        self._server = _Server(("127.0.0.1", 0), _Requests)
        self._server.api = self
        if is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if is_tls else "http"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.address}/api/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        #: Guards the calls, the script and the connections; notified when a connection ends.
        self._lock = threading.Condition()
        self.calls: list[Call] = []
        self.connection_count = 0
        self._script: dict[str, deque[Answer]] = defaultdict(deque)
        self._open: set[socket.socket] = set()
        #: Set when a connection has been closed from this side.
        self.closed_one = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(DEADLINE)
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _shut(connection)
        self._server.server_close()

    def script(self, method: str, *answers: Answer) -> None:
        """Give these answers to the next calls of a method; later ones get a plain success."""
        self._script[method].extend(answers)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self.connection_count += 1
            self._open.add(connection)

    def ended(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
            self._lock.notify_all()

    def wait_until_all_ended(self) -> bool:
        """Wait until no connection is open; False if it takes too long."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, DEADLINE)

    def take(self, call: Call) -> Answer:
        with self._lock:
            self.calls.append(call)
            script = self._script[call.method]
            return script.popleft() if script else Answer({"ts": call.body.get("text", "1.2")})


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # So that closing the server waits for them.
    request_queue_size = 200
    api: WebApi


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = DEADLINE
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.api.opened(self.request)

    def finish(self) -> None:
        self.server.api.ended(self.request)
        super().finish()

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"].startswith("application/json")
        call = Call(
            path=self.path,
            headers=dict(self.headers.items()),
            body=json.loads(sent) if is_json else dict(parse_qsl(sent.decode())),
            port=self.client_address[1],
        )
        answer = self.server.api.take(call)
        if answer.gate is not None:
            answer.gate.wait(DEADLINE)
        if answer.cut in ("fin", "reset"):
            self._cut(is_reset=answer.cut == "reset")
            return
        self._answer(answer)

    def do_CONNECT(self) -> None:
        """Be a tunnel, as a proxy is for https."""
        host, _, port = self.path.partition(":")
        self.server.api.take(Call(self.path, dict(self.headers.items()), {}, 0))
        with socket.create_connection((host, int(port)), DEADLINE) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(there, self.connection))
            back.start()
            _pump(self.connection, there)
            back.join(DEADLINE)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""

    def _answer(self, answer: Answer) -> None:
        content = answer.content
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if answer.cut == "midway" else content)
        if answer.cut:
            self._cut(is_reset=False)

    def _cut(self, *, is_reset: bool) -> None:
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())  # http.server itself would say FIN first.
        else:
            _shut(self.connection)
        self.close_connection = True
        self.server.api.closed_one.set()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # One end is gone, so the other goes as well.
        while data := source.recv(65_536):
            sink.sendall(data)
    _shut(sink)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # It is closed already.
        connection.shutdown(socket.SHUT_RDWR)
