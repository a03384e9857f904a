"""A backend that sends the very bytes of a script, when the script says so, and ends as it says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

#: Nothing in a test takes longer; seconds.
DEADLINE = 10.0

Script = Callable[["Exchange"], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has sent."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class ClientGone(Exception):
    """The client has hung up while the script was still sending."""


class Exchange:
    """One request, and the bytes that answer it."""

    def __init__(self, sock: socket.socket, request: Request) -> None:
        self._sock = sock
        self.request = request
        self.is_over = False

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise ClientGone from error

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_chunks(self) -> None:
        self.send(b"0\r\n\r\n")

    def hang_up(self) -> None:
        """Send a FIN."""
        self.is_over = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST."""
        self.is_over = True
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def wait_until_client_hangs_up(self) -> None:
        self.is_over = True
        self._sock.settimeout(DEADLINE)
        with contextlib.suppress(ConnectionResetError):
            while self._sock.recv(1 << 16):
                pass

    def drip(self, data: bytes, every: float) -> None:
        """Send `data` again and again, `every` so many seconds, until the client hangs up."""
        self.is_over = True
        self._sock.settimeout(every)
        for _ in range(int(DEADLINE / every)):
            self.send(data)
            try:
                if not self._sock.recv(1 << 16):
                    return
            except TimeoutError:
                continue
            except ConnectionResetError:
                return
        raise TimeoutError("the client bore it all")

    def flood(self, data: bytes) -> None:
        """Send `data` again and again as fast as it goes, until the client hangs up."""
        self.is_over = True
        self._sock.settimeout(DEADLINE)
        with contextlib.suppress(ClientGone):
            while True:
                self.send(data)


class ScriptedBackend:
    """Plays one script for each request; the last one for all that follow."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = list(scripts)
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._failures: list[BaseException] = []
        self._is_closing = False
        #: Guards what follows, and is notified when a request has come.
        self._came = threading.Condition()
        self._requests: list[Request] = []
        self.connection_count = 0

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://localhost:{self.port}/v1/chat/stream"

    @property
    def requests(self) -> list[Request]:
        with self._came:
            return self._requests[:]

    def wait_for_requests(self, count: int) -> list[Request]:
        with self._came:
            assert self._came.wait_for(lambda: len(self._requests) >= count, DEADLINE)
            return self._requests[:]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closing = True
        # Closing alone does not wake an accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        # The thread that accepts comes first: after it there are no more connections.
        self._threads[0].join(DEADLINE)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), thread.name
        for sock in self._sockets:
            sock.close()
        if self._failures and error is None:
            raise self._failures[0]

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(
            target=self._guarded,
            args=(target, *args),
            name=f"chatrelaybot-scripted-backend-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _guarded(self, target: Callable[..., None], *args: Any) -> None:
        try:
            target(*args)
        except Exception as error:  # noqa: BLE001 - raised in the test's own thread at the end
            if not self._is_closing:
                self._failures.append(error)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._came:
                self.connection_count += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except OSError:
                return  # The client does not trust us.
            self._sockets.append(sock)
        with contextlib.suppress(ClientGone):
            for request in _requests(sock):
                if self._play(Exchange(sock, request)):
                    return
            # Nothing came for long; a client must not take the connection for a live one.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _play(self, exchange: Exchange) -> bool:
        with self._came:
            self._requests.append(exchange.request)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._came.notify_all()
        script(exchange)
        return exchange.is_over


def _requests(sock: socket.socket) -> Iterator[Request]:
    """Yield the requests that come on one connection, until the client hangs up."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            if not (received := _receive(sock)):
                return
            buffer += received
        head, buffer = buffer.split(b"\r\n\r\n", 1)
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = [(key, value.strip()) for key, _, value in (f.partition(":") for f in fields)]
        length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
        while len(buffer) < length:
            if not (received := _receive(sock)):
                return
            buffer += received
        yield Request(line, headers, buffer[:length])
        buffer = buffer[length:]


def _receive(sock: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return sock.recv(1 << 16)
    return b""


def head(*fields: str, status: str = "200 OK", content_type: str = "text/event-stream") -> bytes:
    """Return the head of a response; without a field about its length it ends with a FIN."""
    lines = [f"HTTP/1.1 {status}", *fields]
    if content_type:
        lines.insert(1, f"Content-Type: {content_type}")
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


CHUNKED = "Transfer-Encoding: chunked"


def event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def part(text: str) -> bytes:
    """Return an event of the dialect relay; `text` holds nothing that JSON escapes."""
    return event("message_part", f'{{"text_chunk": "{text}"}}')


END = event("stream_end", '{"status": "done"}')
