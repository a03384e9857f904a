"""Every read of one answer: deadlines that no drip of bytes puts off, and an end at any time.

requests lets go of no connection before the response's headers are here, and its read timeout
starts anew with each byte. So urllib3 gets connections (`wire_pool`) that ask the answer's `Wire`
for every read. How they find it: whoever sends a request puts its wire into this thread's context.
The body is read from the wire itself.
"""

from __future__ import annotations

import math
import queue
import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any

from urllib3.connection import HTTPConnection

from chatrelaybot.errors import ChatRelayBotError, FailureKind, PermanentError, TransientError
from chatrelaybot.wire_addresses import candidates

#: The wire of the request that this thread sends.
sending_wire: ContextVar[Wire] = ContextVar("chatrelaybot_wire")

#: Deadlines nearer than this are waited for at once; seconds.
_SHORT_SECONDS = 0.1
#: Most bytes of one read; each answer keeps room for as many.
_READ_SIZE = 1 << 12
#: Shorter intervals would bring hardly more than one part a read, and cost a wake-up; seconds.
_LEAST_INTERVAL = 0.05
#: What is left of an interval is not waited for if it is shorter than this; seconds.
_LEAST_REST_SECONDS = 0.002


class AnswerCancelled(ChatRelayBotError):
    """The answer was cancelled on our side."""


class Pace:
    """How often the answers that run at once are read, all of them together.

    A read costs far more than the text that it brings: its thread has to be woken, and has to wait
    for all others. So many answers are each read less often, and each read brings several parts.
    """

    def __init__(self, *, reads_per_second: float) -> None:
        self._seconds_each = 1.0 / reads_per_second
        #: The wires that are read; adding one and discarding it are atomic.
        self._reading: set[Wire] = set()
        #: The least seconds from one read of an answer to its next.
        self.interval = 0.0

    def join(self, wire: Wire) -> None:
        self._reading.add(wire)
        self._reckon()

    def leave(self, wire: Wire) -> None:
        self._reading.discard(wire)
        self._reckon()

    def _reckon(self) -> None:
        seconds = len(self._reading) * self._seconds_each
        self.interval = seconds if seconds >= _LEAST_INTERVAL else 0.0


class Wire:
    """Every read of one answer, and whatever ends it. One thread reads; any thread cancels."""

    def __init__(
        self, *, pace: Pace, connect_seconds: float, idle_seconds: float, silence_seconds: float
    ) -> None:
        """Seconds: to connect; to the headers and then between bytes; between texts."""
        self._pace = pace
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._silence_seconds = silence_seconds
        self._byte_deadline = self._text_deadline = math.inf
        #: The timeout that the socket has, if it is one of ours.
        self._timeout = math.inf
        self._is_in_body = False
        self._read_at = -math.inf
        #: Returns what comes next of the body; nothing at its end. Raises what `receive` raises,
        #: and TransientError where the body breaks off.
        self.read: Callable[[], bytes] = bytes
        self.is_cancelled = False
        #: Text has come, and was taken by whom it is for; set by whoever hands it over.
        self.has_text = False
        self._must_dial = False
        self._has_dialled = False
        self._received_count = 0
        # recv() would allocate as much before it waits, and leave holes all over the heap.
        self._buffer = memoryview(bytearray(_READ_SIZE))
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
        token = sending_wire.set(self)
        try:
            yield
        finally:
            sending_wire.reset(token)

    def enter_body(self) -> None:
        """Note that the headers are here: from now on each byte puts the idle deadline off."""
        self._is_in_body = True
        self._pace.join(self)
        self._byte_deadline = monotonic() + self._idle_seconds

    def hurry(self, seconds: float) -> None:
        """Allow that many seconds more for whatever still comes."""
        self.has_text = False
        self._read_at = -math.inf
        self._text_deadline = monotonic() + seconds

    def let_go(self) -> None:
        """Leave the connection alone from now on."""
        self._pace.leave(self)
        self.read = bytes
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
        cause: Exception | None = None
        try:
            for candidate in candidates(host, port, seconds=self._connect_seconds):
                try:
                    return self._connect(
                        candidate.socket(), candidate.address, options, candidate.seconds
                    )
                except OSError as error:
                    cause = error
        except (OSError, UnicodeError) as error:  # There is no such host.
            cause = error
        self.check()
        raise TransientError(
            "The backend cannot be reached", kind=FailureKind.UNREACHABLE
        ) from cause

    def receive(self, sock: socket.socket) -> bytes:
        """Read once, within the deadlines; nothing is the end of the body.

        Raises:
            TransientError: The connection broke.
            PermanentError: It was silent for too long.
            AnswerCancelled: Somebody has called `cancel`.
        """
        try:
            received = self._wait_for(sock)
        except OSError as error:
            self.check()
            raise self._broken() from error
        if self.is_cancelled:
            raise AnswerCancelled
        if self._is_in_body:
            self._read_at = monotonic()
            self._byte_deadline = self._read_at + self._idle_seconds
        elif received:
            self._received_count += len(received)
        else:
            raise self._broken()
        return received

    def _wait_for(self, sock: socket.socket) -> bytes:
        if self._pace.interval:
            _rest(sock, self._read_at + self._pace.interval - monotonic())
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
                _set_timeout(sock, self._timeout)
            try:
                return bytes(self._buffer[: sock.recv_into(self._buffer)])
            except (TimeoutError, BlockingIOError):
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


def _set_timeout(sock: socket.socket, seconds: float) -> None:
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(seconds)
        return
    # For a timeout of its own Python asks poll() before each read, and has to wait for its turn
    # among the threads after both. The kernel keeps the time as well.
    sock.settimeout(None)
    microseconds = max(1, int(seconds * 1e6))
    timeval = struct.pack("ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)


def _rest(sock: socket.socket, seconds: float) -> None:
    """Let that much time pass, unless the connection ends, or is ended by a cancel."""
    if seconds < _LEAST_REST_SECONDS:
        return
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    poll.poll(seconds * 1000.0)
