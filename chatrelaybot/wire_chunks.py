"""A body that comes in chunks: https://www.rfc-editor.org/rfc/rfc9112#section-7.1. Pure.

http.client hands out one chunk a call, and urllib3 puts a layer of its own on top of it. A part of
an answer most often is a chunk, so that together they cost more than all else that is done for it.
"""

from __future__ import annotations

from chatrelaybot.errors import FailureKind, TransientError

#: Most bytes of a line: the size of a chunk with its extensions, or a field behind the last chunk.
_LINE_LIMIT = 1 << 13
_BLANK = (b"\r", b"")


class Chunks:
    """Takes chunks apart, wherever they were cut on their way."""

    def __init__(self) -> None:
        #: The last chunk has come, and what belongs to it. What follows is not of this body.
        self.is_over = False
        #: Bytes of the chunk that are still to come, and whether the line end behind them is.
        self._missing = 0
        self._is_open = False
        self._is_last = False
        #: The beginning of a line.
        self._tail = b""

    def feed(self, received: bytes) -> bytes:
        """Return what there is of the body in the bytes that have come, maybe nothing.

        Raises:
            TransientError: They are no chunks.
        """
        if self._tail:
            received, self._tail = self._tail + received, b""
        pieces = []
        start = 0
        while start < len(received) and not self.is_over:
            if self._missing:
                piece = received[start : start + self._missing]
                self._missing -= len(piece)
                start += len(piece)
                pieces.append(piece)
                if received.startswith(b"\r\n", start):  # Most often it is here, too.
                    self._is_open = False
                    start += 2
                continue
            end = received.find(b"\n", start)
            if end < 0:
                self._tail = _bounded(received[start:])
                break
            self._take_line(received[start:end])
            start = end + 1
        return b"".join(pieces)

    def _take_line(self, line: bytes) -> None:
        if self._is_last:
            self.is_over = line in _BLANK
        elif self._is_open:
            if line not in _BLANK:
                raise _broken()
            self._is_open = False
        else:
            self._missing = _size(line)
            self._is_last = not self._missing
            self._is_open = not self._is_last


def _size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        size = -1
    if size < 0:
        raise _broken()
    return size


def _bounded(line: bytes) -> bytes:
    if len(line) > _LINE_LIMIT:
        raise _broken()
    return line


def _broken() -> TransientError:
    return TransientError("The answer broke off midway", kind=FailureKind.CUT)
