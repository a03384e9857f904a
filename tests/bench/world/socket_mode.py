"""Socket Mode: links, envelopes, acks, and what is sent again. Lives in the loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence

from chatrelaybot.playground.payloads import event_callback, rich_text
from chatrelaybot.playground.store import Identity
from tests.bench.world.book import Asking, Book
from tests.bench.world.link import Link, handshake, text_frame
from tests.bench.world.records import Asked, Record
from tests.bench.world.script import Script, text_of
from tests.bench.world.web_api import BOT, BOT_USER, TEAM
from tests.bench.world.web_server import Connection, Request

PATH = "/link"
_APP = "A00000BENCH"
_IDENTITY = Identity("bench", BOT_USER, BOT, TEAM, _APP)
_PERSON = "U0000PERSON"
_ENVELOPE_ID = re.compile(rb'"envelope_id": ?"([0-9a-f]{8})-')
#: Slack waits so long for an ack, and then so long before each further try; seconds.
#: https://docs.slack.dev/apis/events-api/#retries
_ACK_SECONDS = 3.0
_RETRY_AFTER = (0.0, 60.0, 300.0)


class SocketMode:
    """Asks questions."""

    def __init__(
        self, book: Book, loop: asyncio.AbstractEventLoop, next_ts: Callable[[], str]
    ) -> None:
        self._book = book
        self._loop = loop
        self._next_ts = next_ts
        self._links: list[Link] = []
        self._next_number = 1
        self._payloads: dict[int, str] = {}  # by question, until it is acked
        self._link_is_up = asyncio.Event()
        self._up_at = 0.0

    def take(self, request: Request, connection: Connection) -> None:
        """Open a link."""
        transport = connection.transport
        transport.write(handshake(request.headers["sec-websocket-key"]))
        link = Link(transport, receive=self._take_ack, lost=self._lose)
        self._links.append(link)
        hello = {
            "type": "hello",
            "num_connections": len(self._links),
            "debug_info": {"host": "bench", "approximate_connection_time": 18060},
            "connection_info": {"app_id": _APP},
        }
        transport.write(text_frame(json.dumps(hello).encode()))
        self._up_at = self._loop.time()
        self._link_is_up.set()

    async def wait_for_link(self, timeout: float, since: float = 0.0) -> float | None:
        """Return when the newest link said hello, None if there is none in time."""
        try:
            async with asyncio.timeout(timeout):
                while not self._links or self._up_at < since:
                    self._link_is_up.clear()
                    await self._link_is_up.wait()
        except TimeoutError:
            return None
        return self._up_at

    async def ask(
        self, count: int, script: Script, channels: Sequence[str], per_second: float | None
    ) -> Asked:
        """Ask at once, or evenly over time; without channels in a new one each."""
        numbers = range(self._next_number, self._next_number + count)
        self._next_number += count
        asked = Asked(numbers, self._loop.time())
        asking = Asking(asked, script)
        records = [self._new_record(number, asking, channels) for number in numbers]
        asked = Asked(numbers, self._loop.time())
        for record in records:
            self._book.add(record, Asking(asked, script))
        if per_second is None:
            self._send(numbers)
            return asked
        for index, number in enumerate(numbers):
            await asyncio.sleep(max(0.0, asked.at + index / per_second - self._loop.time()))
            self._send([number])
        return asked

    def forget(self) -> None:
        """Send nothing again."""
        self._payloads.clear()

    def _new_record(self, number: int, asking: Asking, channels: Sequence[str]) -> Record:
        script = asking.script
        parts = script.parts_of(asking.position(number))
        length = len(text_of(number, parts, script.part_chars))
        channel = f"C{number:07d}OWN"
        if channels:
            channel = channels[(number - asking.asked.numbers.start) % len(channels)]
        record = Record(number, channel, self._next_ts(), parts, length, script.part_chars)
        self._payloads[number] = self._payload(record)
        return record

    @staticmethod
    def _payload(record: Record) -> str:
        text = f"<@{BOT_USER}> question {record.number}"
        event = {
            "type": "app_mention",
            "user": _PERSON,
            "text": text,
            "ts": record.ts,
            "team": TEAM,
            "blocks": rich_text(text),
            "channel": record.channel,
            "event_ts": record.ts,
        }
        return json.dumps(event_callback(_IDENTITY, event, f"Ev{record.number:08d}"))

    def _send(self, numbers: Sequence[int], attempt: int = 0) -> None:
        """Send events as fast as the links take them."""
        frames = [self._envelope(number, attempt) for number in numbers]
        for index, link in enumerate(self._links):
            link.transport.write(b"".join(frames[index :: len(self._links)]))
        self._links.append(self._links.pop(0))
        now = self._loop.time()
        for number in numbers:
            self._book.records[number].sends.append(now)
        self._loop.call_later(_ACK_SECONDS, self._look_for_acks, numbers, attempt)

    def _envelope(self, number: int, attempt: int) -> bytes:
        reason = "timeout" if attempt else ""
        envelope_id = f"{number:08x}-{attempt:04x}-4000-8000-000000000000"
        return text_frame(
            f'{{"envelope_id":"{envelope_id}","payload":{self._payloads[number]},'
            f'"type":"events_api","accepts_response_payload":false,'
            f'"retry_attempt":{attempt},"retry_reason":"{reason}"}}'.encode()
        )

    def _look_for_acks(self, numbers: Sequence[int], attempt: int) -> None:
        """Plan to send again what is not acked in time."""
        late = self._unacked(numbers)
        if late and attempt < len(_RETRY_AFTER):
            self._loop.call_later(_RETRY_AFTER[attempt], self._send_again, late, attempt + 1)

    def _send_again(self, numbers: Sequence[int], attempt: int) -> None:
        late = self._unacked(numbers)
        if late and self._links:
            self._send(late, attempt)

    def _unacked(self, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if number in self._payloads]

    def _take_ack(self, text: bytes) -> None:
        found = _ENVELOPE_ID.search(text)
        if found is None:
            return
        number = int(found[1], 16)
        self._payloads.pop(number, None)
        record = self._book.records.get(number)
        if record is not None:
            record.acks.append(self._loop.time())
            self._book.touch(record)

    def _lose(self, link: Link) -> None:
        self._links.remove(link)
