"""Carries events to the app: envelopes, their acks, and the deliveries that are tried again.

https://docs.slack.dev/apis/events-api/#retries
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatrelaybot.playground.board import Board
from chatrelaybot.playground.links import Link
from chatrelaybot.playground.payloads import event_callback
from chatrelaybot.playground.store import Identity

#: Envelopes that go out before the loop looks at anything else.
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Send:
    """One envelope that went out. `at` is time.monotonic()."""

    at: float
    link: int  #: number of the link
    envelope_id: str
    attempt: int  #: 0 for the first delivery
    reason: str  #: of a later one


@dataclass(frozen=True, slots=True)
class Ack:
    """One ack that came in. `at` is time.monotonic()."""

    at: float
    link: int  #: number of the link it came over, which may be another one
    envelope_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an event until now."""

    event_id: str
    event: Mapping[str, Any]
    sends: Sequence[Send] = ()
    acks: Sequence[Ack] = ()
    is_given_up: bool = False  #: all tries passed without an ack in time

    @property
    def ack_seconds(self) -> float | None:
        """Seconds from the first envelope to the first ack."""
        return self.acks[0].at - self.sends[0].at if self.acks else None


@dataclass(eq=False, slots=True)
class _Record:
    event_id: str
    event: Mapping[str, Any]
    payload: str  #: JSON
    attempt: int = 0
    sends: list[Send] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    is_given_up: bool = False

    def snapshot(self) -> Delivery:
        return Delivery(
            self.event_id, self.event, tuple(self.sends), tuple(self.acks), self.is_given_up
        )


class Courier:
    """Sends lie in the loop; the records are guarded by the board's lock."""

    def __init__(
        self,
        *,
        board: Board,
        identity: Identity,
        call_soon: Callable[..., object],
        ack_seconds: float,
        redelivery: Sequence[float],
        resume_seconds: float,
    ) -> None:
        """Durations are seconds.

        Args:
            call_soon: runs a callback in the loop, from any thread.
            ack_seconds: after how long without an ack a delivery has failed.
            redelivery: how long to wait before each further try.
            resume_seconds: how long after a link came up it gets what waited for a link.
        """
        self._board = board
        self._identity = identity
        self._call_soon = call_soon
        self._ack_seconds = ack_seconds
        self._redelivery = redelivery
        self._resume_seconds = resume_seconds
        self._numbers = itertools.count(1)
        # Guarded by the board's lock:
        self._records: dict[str, _Record] = {}
        self._acked_count = 0
        # The rest is the loop's alone.
        self._envelopes: dict[str, _Record] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}  # envelope_id: its ack is overdue
        self._parked: list[_Record] = []  # waits for a link
        self._choose_link: Callable[[], Link | None] = lambda: None

    def use_links(self, choose_link: Callable[[], Link | None]) -> None:
        """Say where the links come from."""
        self._choose_link = choose_link

    def publish(
        self, event: Mapping[str, Any], *, event_id: str | None = None, after: float = 0.0
    ) -> str:
        """Send an event, `after` seconds from now; return its event_id. From any thread."""
        [record] = self._record([event], event_id)
        if after:
            self._call_soon(self._send_later, after, record)
        else:
            self._call_soon(self._send, record)
        return record.event_id

    def publish_all(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Send many events as fast as the links take them. From any thread."""
        records = self._record(events, None)
        for start in range(0, len(records), _BATCH):
            self._call_soon(self._send_batch, records[start : start + _BATCH])
        return [record.event_id for record in records]

    def deliveries(self) -> list[Delivery]:
        """Return what became of each event, in the order of their publication."""
        with self._board:
            return [record.snapshot() for record in self._records.values()]

    def delivery(self, event_id: str) -> Delivery:
        """Return what became of one event."""
        with self._board:
            return self._records[event_id].snapshot()

    def acked_count(self) -> int:
        """Return how many events were acked."""
        with self._board:
            return self._acked_count

    def take_ack(self, envelope_id: object, link: int) -> None:
        """Note an ack. One that is late is noted, and the next try comes all the same."""
        record = self._envelopes.get(envelope_id) if isinstance(envelope_id, str) else None
        if record is None:
            return
        if timer := self._timers.pop(str(envelope_id), None):
            timer.cancel()
        with self._board:
            self._acked_count += not record.acks
            record.acks.append(Ack(time.monotonic(), link, str(envelope_id)))
            self._board.touch()

    def link_is_up(self) -> None:
        """Send what waited for a link, in a moment."""
        if self._parked:
            asyncio.get_running_loop().call_later(self._resume_seconds, self._resume)

    def _record(self, events: Iterable[Mapping[str, Any]], event_id: str | None) -> list[_Record]:
        with self._board:
            records = [self._new_record(event, event_id) for event in events]
            # An event with the id of an earlier one goes out, and the earlier keeps the record.
            for record in records:
                self._records.setdefault(record.event_id, record)
            return records

    def _new_record(self, event: Mapping[str, Any], event_id: str | None) -> _Record:
        event_id = event_id or f"Ev{next(self._numbers):09d}P"
        payload = event_callback(self._identity, dict(event), event_id)
        return _Record(event_id, event, json.dumps(payload))

    def _send_later(self, seconds: float, record: _Record) -> None:
        asyncio.get_running_loop().call_later(seconds, self._send, record)

    def _send_batch(self, records: list[_Record]) -> None:
        for record in records:
            self._send(record)

    def _send(self, record: _Record) -> None:
        link = self._choose_link()
        if link is None:
            record.attempt = max(1, record.attempt)
            self._parked.append(record)
            return
        envelope_id = str(uuid.uuid4())
        reason = "timeout" if record.attempt else ""
        self._envelopes[envelope_id] = record
        self._timers[envelope_id] = asyncio.get_running_loop().call_later(
            self._ack_seconds, self._ack_is_overdue, envelope_id
        )
        with self._board:
            record.sends.append(
                Send(time.monotonic(), link.number, envelope_id, record.attempt, reason)
            )
            self._board.touch()
        link.send_envelope(
            f'{{"envelope_id":"{envelope_id}","payload":{record.payload},"type":"events_api",'
            f'"accepts_response_payload":false,"retry_attempt":{record.attempt},'
            f'"retry_reason":"{reason}"}}'
        )

    def _ack_is_overdue(self, envelope_id: str) -> None:
        del self._timers[envelope_id]
        record = self._envelopes[envelope_id]
        if record.attempt >= len(self._redelivery):
            with self._board:
                record.is_given_up = True
                self._board.touch()
            return
        seconds = self._redelivery[record.attempt]
        record.attempt += 1
        asyncio.get_running_loop().call_later(seconds, self._send, record)

    def _resume(self) -> None:
        parked, self._parked = self._parked, []
        self._send_batch(parked)
