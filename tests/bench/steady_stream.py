"""A backend whose answers come at a steady pace, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.world.remote import ROOT
from tests.program import environment

PARTS_PER_SECOND = 50
#: A tick sends to every stream of one group, so that not all parts come at the same moment.
_GROUPS = 10
_TICK_SECONDS = 1.0 / PARTS_PER_SECOND / _GROUPS
#: How long the process has to end; seconds.
_DEADLINE = 10.0
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def steady_stream(parts: int) -> Iterator[str]:
    """Start the process, every answer of which has `parts` parts; yield the URL."""
    process = subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, "-m", "tests.bench.steady_stream", str(parts)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/chat/stream"
    finally:
        process.kill()
        process.communicate(timeout=_DEADLINE)


def _chunk(name: str, fields: dict[str, str]) -> bytes:
    event = f"event: {name}\ndata: {json.dumps(fields)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


class _Answers:
    """All running answers, in groups."""

    def __init__(self, parts: int) -> None:
        self._chunks = [_chunk("message_part", {"text_chunk": f"word{n} "}) for n in range(parts)]
        self._chunks.append(_chunk("stream_end", {"status": "done"}) + b"0\r\n\r\n")
        #: The writers of each group, with the number of the part that comes next.
        self._groups: list[dict[asyncio.StreamWriter, int]] = [{} for _ in range(_GROUPS)]

    async def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a question; its answer goes to the smallest group."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        await reader.readexactly(int(length or b"0"))
        writer.write(_HEAD)
        min(self._groups, key=len)[writer] = 0

    async def run(self) -> None:
        """Send parts, a group a tick."""
        loop = asyncio.get_running_loop()
        tick, due = 0, loop.time()
        while True:
            self._send(self._groups[tick % _GROUPS])
            tick += 1
            due += _TICK_SECONDS
            await asyncio.sleep(due - loop.time())

    def _send(self, group: dict[asyncio.StreamWriter, int]) -> None:
        for writer, number in list(group.items()):
            writer.write(self._chunks[number])
            group[writer] = number + 1
            if number + 1 == len(self._chunks):
                del group[writer]
                writer.close()


async def _serve(parts: int) -> None:
    answers = _Answers(parts)
    server = await asyncio.start_server(answers.begin, "127.0.0.1", 0, backlog=1000)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await answers.run()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
