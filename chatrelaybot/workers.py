"""Leasing questions and answering them on a pool of threads."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from chatrelaybot import telemetry_spans
from chatrelaybot.delivery import Delivery, Stop
from chatrelaybot.errors import TransientError
from chatrelaybot.inbox import Inbox
from chatrelaybot.telemetry_spans import Unrecorded

_log = logging.getLogger(__name__)

#: Wait after the inbox could not be reached; seconds.
_TROUBLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Running:
    delivery: Delivery
    stop: Future[Stop] = field(default_factory=Future)


class Workers:
    """Up to `size` answers at once. `step` and `beat` are the bodies of two loops."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        answer: Callable[[Delivery, Future[Stop]], None],
        size: int,
        poll_seconds: float = 5.0,
    ) -> None:
        """`poll_seconds`: how often to look for what nobody wakes us for."""
        self._inbox = inbox
        self._answer = answer
        self._size = size
        self._poll_seconds = poll_seconds
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="chatrelaybot-worker")
        self._wake = threading.Event()
        #: Guards the two below, and is notified when a question leaves or the drain is to end.
        self._left = threading.Condition()
        self._running: dict[str, _Running] = {}
        self._is_hurried = False

    def __repr__(self) -> str:
        return f"Workers({self.running_count}/{self._size})"

    @property
    def running_count(self) -> int:
        with self._left:
            return len(self._running)

    def wake(self) -> None:
        """Say that there may be something to lease."""
        self._wake.set()

    def step(self) -> None:
        """Lease what can be answered now, then wait until there may be more."""
        try:
            wait = self._lease()
        except TransientError as error:
            _log.warning("inbox not reachable", extra={"error": str(error)})
            wait = _TROUBLE_SECONDS
        self._wake.wait(wait)
        # Only now: what woke us while we leased may have come too late for that lease.
        self._wake.clear()

    def beat(self) -> None:
        """Extend the leases of all running questions; stop those that another process has.

        It is told of no running questions, too: it takes back those whose lease has run out.
        """
        with self._left:
            leases = [running.delivery.lease for running in self._running.values()]
        try:
            lost = self._inbox.extend(leases)
        except TransientError as error:
            _log.warning("leases not extended", extra={"error": str(error)})
            return
        for lease_id in lost:
            self._stop(lease_id, Stop.LOST)

    def drain(self, seconds: float) -> None:
        """Give running answers `seconds` to end, then give back what is left. Needs no leaser."""
        with self._left:
            self._left.wait_for(lambda: self._is_hurried or not self._running, timeout=seconds)
            lease_ids = list(self._running)
        for lease_id in lease_ids:
            self._stop(lease_id, Stop.LEAVING)
        self._pool.shutdown(wait=True)

    def hurry(self) -> None:
        """End a drain that is under way, or to come, at once; nothing is leased any more."""
        with self._left:
            self._is_hurried = True
            self._left.notify_all()

    def _lease(self) -> float:
        with self._left:
            free = 0 if self._is_hurried else self._size - len(self._running)
        if free <= 0:
            return self._poll_seconds
        deliveries = self._inbox.lease(free)
        for delivery in deliveries:
            self._start(delivery)
        if len(deliveries) == free:
            return 0.0
        next_ready_in = self._inbox.next_ready_in()
        return min(self._poll_seconds, math.inf if next_ready_in is None else next_ready_in)

    def _start(self, delivery: Delivery) -> None:
        running = _Running(delivery)
        with self._left:
            self._running[delivery.lease.id] = running
        self._pool.submit(self._run, running)

    def _run(self, running: _Running) -> None:
        """Answer one question; runs on a pool thread."""
        try:
            # Also what is logged when nobody tells of it any more is found by its trace.
            with telemetry_spans.active(Unrecorded(running.delivery.traceparent)):
                self._try_to_answer(running)
        finally:
            with self._left:
                del self._running[running.delivery.lease.id]
                self._left.notify_all()
            self._wake.set()

    def _try_to_answer(self, running: _Running) -> None:
        try:
            self._answer(running.delivery, running.stop)
        except Exception:  # noqa: BLE001 - the top of a thread
            # The question stays leased to us and is not extended any more: it comes back when the
            # lease ends, and is buried when that has happened too often.
            _log.exception("answering broke", extra={"question": running.delivery.question.id})

    def _stop(self, lease_id: str, reason: Stop) -> None:
        with self._left:
            running = self._running.get(lease_id)
        # A drain and a lost lease may want the same at the same moment.
        with suppress(InvalidStateError):
            if running is not None:
                running.stop.set_result(reason)
