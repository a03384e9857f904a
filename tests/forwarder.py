"""What stands between us and Slack: something that ends TLS, and a proxy. For tests."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

CERTIFICATE = Path(__file__).parent / "certificates" / "loopback.pem"
#: Longest wait of anything here, seconds.
_DEADLINE = 10.0


class Forwarder:
    """Takes connections on a free port and passes their bytes on, both ways.

    As a proxy it first reads the head of a CONNECT, which names where to; else it is told.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        target: int | None = None,
        is_tls: bool = False,
        answer: str = "200 OK",
    ) -> None:
        """`target` is a port of 127.0.0.1, None: be a proxy, whose answer begins so."""
        self._target = target
        self._answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if is_tls else None
        if self._context is not None:
            self._context.load_cert_chain(CERTIFICATE)
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        #: The heads of the CONNECTs so far.
        self.heads: list[str] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._threads[0].join(_DEADLINE)
        for connection in self._sockets:
            _shut(connection)
        for thread in self._threads:
            thread.join(_DEADLINE)
        for connection in (self._listener, *self._sockets):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._start(self._serve, client)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.settimeout(_DEADLINE)
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
                self._sockets.append(client)
            port = self._target or self._read_target(client)
            client.settimeout(None)  # Else reading and writing TLS at once goes wrong.
            if port is None:
                _shut(client)
                return
            server = socket.create_connection(("127.0.0.1", port))
            self._sockets.append(server)
            self._start(_pump, client, server)
            _pump(server, client)

    def _read_target(self, client: socket.socket) -> int | None:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := client.recv(1)):
            head += byte
        self.heads.append(head.decode())
        client.sendall(f"HTTP/1.1 {self._answer}\r\n\r\n".encode())
        if not self._answer.startswith("200"):
            return None
        return int(head.split()[1].rpartition(b":")[2])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
