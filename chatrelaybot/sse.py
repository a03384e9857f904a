"""Server-sent events out of bytes: framing around sseclient-py, which parses the fields.

sseclient-py 1.9 splits a stream into events differently from WHATWG (mixed line ends, a byte order
mark, an unfinished last event, ids), and takes quadratic time for large events. So it is given
one small, regular frame after another, from which it cannot but read the right event.
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sseclient import SSEClient

from chatrelaybot.dialects import Event
from chatrelaybot.errors import FailureKind, PermanentError

#: Bytes of one event: all its lines, comments too, each with one byte for its end.
EVENT_LIMIT = 1 << 20
#: Lines of data in one frame. sseclient-py copies all earlier lines for each line of a frame.
_FRAME_LINES = 16
#: Bytes of events that sseclient-py is given as they are, in which its time is not quadratic yet.
_PLAIN_LIMIT = 1 << 13
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def events(chunks: Iterable[bytes], *, limit: int = EVENT_LIMIT) -> Iterator[Event]:
    """Yield each event as soon as the chunk with its last byte is here.

    Raises:
        PermanentError: An event is larger than `limit`.
    """
    framing = _Framing(limit)
    name = last_id = ""
    parts: list[str] = []
    for parsed in SSEClient(framing.frames(chunks)).events():
        if parsed.id is not None:
            last_id = parsed.id
        if framing.is_whole:
            yield Event(parsed.event, parsed.data, last_id)
            continue
        if framing.is_without_data:
            continue
        name = name or parsed.event
        parts.append(parsed.data)
        if not framing.more_count:
            yield Event(name, "\n".join(parts), last_id)
            name, parts = "", []


class _Framing:
    """Cuts chunks into frames: an event each, or a few lines of one."""

    def __init__(self, limit: int) -> None:
        #: About the frame that was yielded last: it holds whole events;
        self.is_whole = True
        #: or else how many more lines of the same event are to come,
        self.more_count = 0
        #: and whether the event only sets the id, and is not dispatched.
        self.is_without_data = False
        self._limit = limit
        self._is_start = True
        #: Nothing of an event, nor of a line end, is left from the chunks so far.
        self._is_between = True
        self._is_after_cr = False
        #: The unfinished line, and the lines of the unfinished event that matter.
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._id = b""
        #: Bytes of the unfinished event's finished lines.
        self._size = 0

    def frames(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            frame = chunk.replace(b"\r\n", b"\n") if b"\r" in chunk else chunk
            if self._is_between and _is_plain(frame) and len(chunk) <= self._limit:
                self._is_start = False
                yield frame if frame.isascii() else _valid(frame)
            else:
                yield from self._frames_by_line(chunk)

    def _frames_by_line(self, chunk: bytes) -> Iterator[bytes]:
        if self._is_after_cr and chunk:
            # The second half of a line end whose first half has ended the line already.
            chunk = chunk.removeprefix(b"\n")
            self._is_after_cr = False
        # splitlines() of bytes knows no line ends but these three.
        for piece in chunk.splitlines(keepends=True):
            line = piece.rstrip(b"\r\n")
            self._is_after_cr = piece.endswith(b"\r")
            if len(line) == len(piece):
                self._tail += piece
                self._check(self._size + len(self._tail) + 1)
            elif line or self._tail:
                self._add(bytes(self._tail + line))
                self._tail.clear()
            else:
                yield from self._end_event()
        self._is_between = not (self._size or self._tail or self._is_after_cr)

    def _add(self, line: bytes) -> None:
        """Keep a line if it matters: comments and unknown fields only count."""
        self._size += len(line) + 1
        self._check(self._size)
        if self._is_start:
            self._is_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line[:5] == b"data:" or line == b"data":
            self._data.append(line)
        elif line[:6] == b"event:" or line == b"event":
            self._name = line + b"\n"
        elif (line[:3] == b"id:" or line == b"id") and b"\0" not in line:
            self._id = line + b"\n"

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise PermanentError("An event of the backend is too large", kind=FailureKind.TOO_LONG)

    def _end_event(self) -> Iterator[bytes]:
        data, head = self._data, self._name + self._id
        self.is_without_data = not data
        if not data and self._id:
            # Data of ours makes sseclient-py hand the id over.
            data = [b"data"]
        self.is_whole = len(data) <= _FRAME_LINES and not self.is_without_data
        self._is_start = False
        self._data, self._name, self._id, self._size = [], b"", b"", 0
        for start in range(0, len(data), _FRAME_LINES):
            self.more_count = max(0, len(data) - start - _FRAME_LINES)
            yield _valid(head + b"\n".join(data[start : start + _FRAME_LINES]) + b"\n\n")
            head = b""
        self.is_whole = True


def _is_plain(frame: bytes) -> bool:
    """Say whether these are whole events that sseclient-py reads as the standard does.

    That is what most backends send, and much cheaper than going line by line.
    """
    return (
        frame.endswith(b"\n\n")
        and len(frame) <= _PLAIN_LIMIT
        and b"\r" not in frame
        and b"\nid" not in frame
        and not frame.startswith((b"id", _BYTE_ORDER_MARK))
    )


def _valid(frame: bytes) -> bytes:
    """Put replacement characters where bytes are no UTF-8; sseclient-py would raise."""
    return frame if frame.isascii() else frame.decode("utf-8", "replace").encode()
