"""urllib3's connections, which leave connecting and reading to the wire of whoever sends."""

from __future__ import annotations

import http.client
import socket
from functools import partial
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatrelaybot.errors import FailureKind, TransientError
from chatrelaybot.wire import Wire, sending_wire
from chatrelaybot.wire_chunks import Chunks


class _Input:
    """What http.client reads the head of a response from, and closes."""

    def __init__(self, wire: Wire, sock: socket.socket, file: Any) -> None:
        """`file` is closed with this one: a socket stays open until the last of its files."""
        self._wire = wire
        self._sock = sock
        self._file = file
        #: What has come and was not asked for yet.
        self.received = bytearray()

    def readline(self, limit: int) -> bytes:
        received = self.received
        while (end := received.find(b"\n", 0, limit) + 1) == 0 and len(received) < limit:
            received += self._wire.receive(self._sock)
        line = bytes(received[: end or limit])
        del received[: len(line)]
        return line

    def flush(self) -> None:
        """Do nothing; http.client asks for it."""

    def close(self) -> None:
        # Before urllib3 keeps the connection for the next answer.
        self._wire.let_go()
        self._file.close()


class _Response(http.client.HTTPResponse):
    """A response whose body is read by `read_body` alone."""

    def __init__(self, wire: Wire, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        file: Any = self.fp
        head: Any = _Input(wire, sock, file.detach())
        self.fp = head
        self._behind_head: bytearray = head.received
        self._receive = partial(wire.receive, sock)
        self._chunks = Chunks()
        wire.read = self.read_body

    def read_body(self) -> bytes:
        """Return what comes next; at the end of the body nothing, and be closed."""
        while not (self._chunks.is_over or self.length == 0 or self.isclosed()):
            received = self._take_behind_head() if self._behind_head else self._receive()
            body = self._body_in(received)
            if body:
                return body
            if not received:
                self._check_end()
                break
        self.close()
        return b""

    def _take_behind_head(self) -> bytes:
        received = bytes(self._behind_head)
        self._behind_head.clear()
        return received

    def _body_in(self, received: bytes) -> bytes:
        if self.chunked:
            return self._chunks.feed(received)
        if self.length is None:
            return received
        body = received[: self.length]
        self.length -= len(body)
        return body

    def _check_end(self) -> None:
        if self.chunked or self.length is not None:
            raise TransientError("The answer broke off midway", kind=FailureKind.CUT)


class _OnWire(HTTPConnection):
    """A connection that leaves connecting and reading to the wire of whoever sends."""

    def _new_conn(self) -> socket.socket:
        return sending_wire.get().dial(self.host, self.port, self.socket_options)

    def request(self, *args: Any, **kwargs: Any) -> None:
        wire = sending_wire.get()
        wire.reuse(self)
        # http.client only calls it; typeshed wants a class.
        self.response_class = partial(_Response, wire)  # type: ignore[assignment]
        super().request(*args, **kwargs)


class _OnSecureWire(_OnWire, HTTPSConnection):
    """The same within TLS."""


class Pool(HTTPConnectionPool):
    """Connections of `http`."""

    ConnectionCls = _OnWire


class SecurePool(HTTPSConnectionPool):
    """Connections of `https`."""

    ConnectionCls = _OnSecureWire
