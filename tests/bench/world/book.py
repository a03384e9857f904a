"""What has happened: questions, messages, calls, and who waits for what. Lives in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench.world.records import Asked, Call, Record, Reply, version_of
from tests.bench.world.script import Script


@dataclass(frozen=True, slots=True)
class Asking:
    """What one `ask` wants."""

    asked: Asked
    script: Script

    def position(self, number: int) -> float:
        """Return where a question stands among those asked with it, 0 to below 1."""
        return (number - self.asked.numbers.start) / len(self.asked.numbers)


@dataclass(slots=True)
class _Waiter:
    numbers: set[int]  #: of the questions that are waited for
    is_over: Callable[[Record], bool]
    happened: asyncio.Future[bool]


class Book:
    """The state of the world."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.askings: dict[int, Asking] = {}  #: by question
        self.calls: list[Call] = []
        self._by_place: dict[tuple[str, str], Record] = {}
        self._replies: dict[tuple[str, str], Reply] = {}
        self._waiters: list[_Waiter] = []

    def forget(self) -> None:
        self.records.clear()
        self.askings.clear()
        self.calls.clear()
        self._by_place.clear()
        self._replies.clear()

    def add(self, record: Record, asking: Asking) -> None:
        """Add a question."""
        self.records[record.number] = record
        self.askings[record.number] = asking
        self._by_place[record.channel, record.ts] = record

    def about(self, channel: str, ts: str) -> Record | None:
        """Return the question at a place, or to which the message there is a reply."""
        reply = self._replies.get((channel, ts))
        return self._by_place.get((channel, reply.thread_ts if reply else ts))

    def reply(self, channel: str, ts: str) -> Reply | None:
        """Return a message of the bot that can be seen."""
        reply = self._replies.get((channel, ts))
        return None if reply is None or reply.deleted_at is not None else reply

    def post(self, record: Record | None, reply: Reply, at: float) -> None:
        self._replies[reply.channel, reply.ts] = reply
        if record is not None:
            reply.versions.append(version_of(record, reply.text, at))
            record.replies.append(reply)

    def edit(self, record: Record | None, reply: Reply, text: str, at: float) -> None:
        reply.text = text
        if record is not None:
            reply.versions.append(version_of(record, text, at))

    async def wait(
        self, numbers: Iterable[int], is_over: Callable[[Record], bool], timeout: float
    ) -> bool:
        """Wait until something is so for each of the questions; False: time is up."""
        left = {number for number in numbers if not is_over(self.records[number])}
        if not left:
            return True
        happened = asyncio.get_running_loop().create_future()
        waiter = _Waiter(left, is_over, happened)
        self._waiters.append(waiter)
        try:
            return await asyncio.wait_for(happened, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)

    def touch(self, record: Record | None) -> None:
        """Say that something about a question has changed."""
        if record is None:
            return
        for waiter in self._waiters:
            if record.number in waiter.numbers and waiter.is_over(record):
                waiter.numbers.discard(record.number)
                if not waiter.numbers and not waiter.happened.done():
                    waiter.happened.set_result(True)
