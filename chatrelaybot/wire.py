"""The connection of one answer: deadlines that no drip of bytes puts off, and an end at any time.

requests lets go of no connection before the response's headers are here, and its read timeout
starts anew with each byte. So urllib3 gets connections that ask the answer's `Wire` before every
read. How they find it: whoever sends a request puts its wire into this thread's context.
"""

from __future__ import annotations

import http.client
import io
import math
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatrelaybot.errors import ChatRelayBotError, FailureKind, PermanentError, TransientError

_sending: ContextVar[Wire] = ContextVar("chatrelaybot_wire")

#: Least seconds for a try to connect, where the time for all addresses is almost over.
_LEAST_CONNECT_SECONDS = 0.05
#: Deadlines nearer than this are waited for at once; seconds.
_SHORT_SECONDS = 0.1


class AnswerCancelled(ChatRelayBotError):
    """The answer was cancelled on our side."""


class Wire:
    """Every read of one answer, and whatever ends it. One thread reads; any thread cancels."""

    def __init__(
        self, *, connect_seconds: float, idle_seconds: float, silence_seconds: float
    ) -> None:
        """Seconds: to connect; to the headers and then between bytes; between texts."""
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._silence_seconds = silence_seconds
        self._byte_deadline = self._text_deadline = math.inf
        #: The timeout that the socket has, if it is one of ours.
        self._timeout = math.inf
        self._is_in_body = False
        self.is_cancelled = False
        #: Text has come, and was taken by whom it is for; set by whoever hands it over.
        self.has_text = False
        self._must_dial = False
        self._has_dialled = False
        self._received_count = 0
        #: A second handle on the connection's socket, good for its end only. Whoever takes it out
        #: of the queue may use it and puts it back: so it never ends the next answer's connection.
        self._handle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._is_held = False

    @property
    def is_stale(self) -> bool:
        """The connection was kept from an earlier answer, and not a byte of this one has come."""
        return not self._has_dialled and not self._received_count

    def cancel(self) -> None:
        """End every read at once and for good, and connecting too. For any thread.

        Only the look-up of a host's name cannot be ended; it has time limits of its own.
        """
        self.is_cancelled = True
        try:
            handle = self._handle.get_nowait()
        except queue.Empty:
            return
        try:
            with suppress(OSError):  # The other side was faster.
                handle.shutdown(socket.SHUT_RDWR)
        finally:
            self._handle.put(handle)

    def check(self) -> None:
        """Raise AnswerCancelled if the answer is cancelled."""
        if self.is_cancelled:
            raise AnswerCancelled

    @contextmanager
    def sending(self, *, must_dial: bool) -> Iterator[None]:
        """Make the requests of this thread use this wire; `must_dial`: and a new connection."""
        self.check()
        self._must_dial = must_dial
        self._timeout = math.inf
        token = _sending.set(self)
        try:
            yield
        finally:
            _sending.reset(token)

    def enter_body(self) -> None:
        """Note that the headers are here: from now on each byte puts the idle deadline off."""
        self._is_in_body = True
        self._byte_deadline = monotonic() + self._idle_seconds

    def hurry(self, seconds: float) -> None:
        """Allow that many seconds more for whatever still comes."""
        self.has_text = False
        self._text_deadline = monotonic() + seconds

    def let_go(self) -> None:
        """Leave the connection alone from now on."""
        if self._is_held:
            self._is_held = False
            self._handle.get().close()

    def reuse(self, connection: HTTPConnection) -> None:
        """Take a kept connection into use, unless a new one was asked for."""
        if self._has_dialled or connection.sock is None:
            return
        if self._must_dial:
            connection.close()
            return
        self._hold(connection.sock)
        self._start_clock()

    def dial(self, host: str, port: int, options: Any) -> socket.socket:
        """Connect to the first address that answers, all of them within the connect seconds."""
        self._has_dialled = True
        deadline = monotonic() + self._connect_seconds
        cause: Exception | None = None
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            addresses, cause = [], error
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            # A share each, so that a dead address leaves time for the next one.
            share = (deadline - monotonic()) / (len(addresses) - index)
            try:
                return self._connect(
                    socket.socket(family, kind, protocol),
                    address,
                    options,
                    max(_LEAST_CONNECT_SECONDS, share),
                )
            except OSError as error:
                cause = error
        self.check()
        raise TransientError(
            "The backend cannot be reached", kind=FailureKind.UNREACHABLE
        ) from cause

    def receive_into(self, sock: socket.socket, buffer: Any) -> int:
        """Read once, within the deadlines; 0 is the end of the body."""
        try:
            count = self._wait_for(sock, buffer)
        except OSError as error:
            self.check()
            raise self._broken() from error
        if self.is_cancelled:
            raise AnswerCancelled
        if self._is_in_body:
            self._byte_deadline = monotonic() + self._idle_seconds
        elif count:
            self._received_count += count
        else:
            raise self._broken()
        return count

    def _wait_for(self, sock: socket.socket, buffer: Any) -> int:
        if self.has_text:
            # The time that its reader took for it is not the backend's.
            self.has_text = False
            self._start_clock()
        while True:
            seconds = min(self._byte_deadline, self._text_deadline) - monotonic()
            if seconds <= 0:
                raise PermanentError("The backend was silent for too long", kind=FailureKind.SLOW)
            if seconds < self._timeout:
                # Setting it costs a system call, so it is set to less than is needed, and seldom.
                self._timeout = seconds / 2 if seconds > _SHORT_SECONDS else seconds
                sock.settimeout(self._timeout)
            try:
                return sock.recv_into(buffer)
            except TimeoutError:
                self._timeout = math.inf

    def _start_clock(self) -> None:
        now = monotonic()
        self._byte_deadline = now + self._idle_seconds
        self._text_deadline = now + self._silence_seconds

    def _connect(
        self, sock: socket.socket, address: Any, options: Any, seconds: float
    ) -> socket.socket:
        try:
            for option in options or ():
                sock.setsockopt(*option)
            self._hold(sock)
            sock.settimeout(seconds)
            sock.connect(address)
            # A cancelled attempt may look like a connection.
            self.check()
        except BaseException:
            sock.close()
            raise
        self._start_clock()
        return sock

    def _hold(self, sock: socket.socket) -> None:
        self.let_go()
        self._handle.put(socket.fromfd(sock.fileno(), sock.family, sock.type))
        self._is_held = True
        # Only now: a cancel that came before the handle has found nothing to end.
        self.check()

    def _broken(self) -> TransientError:
        if self._received_count:
            return TransientError("The answer broke off midway", kind=FailureKind.CUT)
        return TransientError("The backend hung up unheard", kind=FailureKind.UNREACHABLE)


class _Input(io.RawIOBase):
    """What a response is read from."""

    def __init__(self, wire: Wire, sock: socket.socket, file: io.RawIOBase) -> None:
        """`file` is closed with this one: a socket stays open until the last of its files."""
        self._wire = wire
        self._sock = sock
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.receive_into(self._sock, buffer)

    def close(self) -> None:
        if not self.closed:
            # Before urllib3 keeps the connection for the next answer.
            self._wire.let_go()
            self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, wire: Wire, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        file: Any = self.fp
        self.fp = io.BufferedReader(_Input(wire, sock, file.detach()))


class _OnWire(HTTPConnection):
    """A connection that leaves connecting and reading to the wire of whoever sends."""

    def _new_conn(self) -> socket.socket:
        return _sending.get().dial(self.host, self.port, self.socket_options)

    def request(self, *args: Any, **kwargs: Any) -> None:
        wire = _sending.get()
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
