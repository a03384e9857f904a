"""The backend: answers in Server-Sent Events, dialect `relay`, paced by one timer for all."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import re

from tests.bench.world.book import Book
from tests.bench.world.records import Record
from tests.bench.world.script import Script, Timing, part_text
from tests.bench.world.web_server import Connection, Request, head_of

PATH = "/answers"
_QUESTION = re.compile(r"question (\d+)")
_END = b'event: stream_end\ndata: {"status": "done"}\n\n'


class Backend:
    """Asked over HTTP."""

    def __init__(self, book: Book, loop: asyncio.AbstractEventLoop) -> None:
        self._book = book
        self._pacer = _Pacer(loop)

    def take(self, request: Request, connection: Connection) -> None:
        """Begin to answer."""
        found = _QUESTION.search(str(json.loads(request.body).get("query")))
        record = self._book.records.get(int(found[1])) if found else None
        if record is None:
            connection.answer(404, b"", "text/plain")
            return
        now = self._pacer.now()
        asking = self._book.askings[record.number]
        record.requests.append(now)
        record.timing = asking.script.timing(
            asking=asking.asked.at,
            request=now,
            position=asking.position(record.number),
            parts=record.parts,
        )
        stream = _Stream(self._book, record, asking.script, connection)
        self._pacer.add(record.timing.first, stream)

    def take_lateness(self) -> float:
        """Return the longest delay of a part behind its time since this was last asked."""
        lateness, self._pacer.lateness = self._pacer.lateness, 0.0
        return lateness


class _Pacer:
    """Calls streams when they are due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[tuple[float, int, _Stream]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.lateness = 0.0
        self.now = loop.time

    def add(self, due: float, stream: _Stream) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), stream))
        self._set_timer()

    def _set_timer(self) -> None:
        due = self._due[0][0]
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        due, now = self._due, self._loop.time()
        self.lateness = max(self.lateness, now - due[0][0])
        while due and due[0][0] <= now:
            _, number, stream = due[0]
            next_due = stream.write()
            if next_due is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (next_due, number, stream))
        if due:
            self._set_timer()


class _Stream:
    """One answer that is being written."""

    def __init__(self, book: Book, record: Record, script: Script, connection: Connection) -> None:
        assert record.timing is not None
        self._book = book
        self._record = record
        self._script = script
        self._timing: Timing = record.timing
        self._connection = connection
        self._part = 0
        more = "Transfer-Encoding: chunked" if script.is_chunked else "Connection: close"
        head = f"{head_of(200, 'text/event-stream')}Cache-Control: no-cache\r\n{more}\r\n\r\n"
        connection.transport.write(head.encode("latin-1"))

    def write(self) -> float | None:
        """Write what is due; return when there is more, None: never."""
        if self._connection.is_lost:
            return None
        record, part = self._record, self._part
        if part == record.parts:
            self._end()
            return None
        text = json.dumps(part_text(record.number, part, self._script.part_chars))
        self._write(b'event: message_part\ndata: {"text_chunk": %s}\n\n' % text.encode("ascii"))
        self._part = part + 1
        if part == 0:
            record.first_part = asyncio.get_running_loop().time()
        if self._part < record.parts:
            return self._timing.due(self._part)
        record.last_part = asyncio.get_running_loop().time()
        if not self._script.end_after:
            self._end()
            return None
        return record.last_part + self._script.end_after

    def _end(self) -> None:
        self._write(_END)
        if self._script.is_chunked:
            self._connection.transport.write(b"0\r\n\r\n")
        else:
            self._connection.transport.close()
        self._record.ended = asyncio.get_running_loop().time()
        self._book.touch(self._record)

    def _write(self, event: bytes) -> None:
        if self._script.is_chunked:
            event = b"%x\r\n%s\r\n" % (len(event), event)
        self._connection.transport.write(event)
