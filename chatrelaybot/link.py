"""The link to Slack, as one thing that is up or down, over ever new connections.

One thread calls `step` over and over; it alone opens connections and decides which one serves.
Each connection has a reading thread (see `link_session`), which puts envelopes into one queue, for
whoever calls `receive`, and tells what becomes of the connection through another, for `step`.
So nothing that `step` waits for, be it Slack's Web API, holds up an ack.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from chatrelaybot.errors import PermanentError, TransientError
from chatrelaybot.link_record import LinkRecord
from chatrelaybot.link_session import Ended, Hello, Leaving, Link, Notice, Received
from chatrelaybot.link_socket import Dialer
from chatrelaybot.telemetry_metrics import SILENT, Metrics

_log = logging.getLogger(__name__)

#: Longest time that a step waits when nothing is due and nobody calls, in seconds.
_STEP_SECONDS = 60.0
#: Reasons for a disconnect that another link at once would not mend, and what a person can do.
_MENDS = {
    "link_disabled": "turn Socket Mode on in the settings of the app",
    "too_many_websockets": "an app may have 10 links; stop other processes that use its token",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the links wait for what; seconds."""

    connect: float = 10.0  #: for each step of connecting: TCP, proxy, TLS
    hello: float = 10.0  #: for Slack's hello, with the handshake
    ping: float = 5.0  #: between two pings of ours
    silence: float = 15.0  #: since the last frame, until a link counts as lost
    grace: float = 3.0  #: until an old link is closed, after the new one is up
    settled: float = 10.0  #: a link that was up for less time is followed with back-off
    first_retry: float = 0.5  #: back-off: this · 2ⁿ, of which up to half is left off by chance
    last_retry: float = 30.0  #: the most
    flush: float = 1.0  #: at the end, for acks of what has arrived


class Links:
    """What is received, and over what."""

    def __init__(
        self,
        *,
        open_url: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        patience: Patience = Patience(),
        on_change: Callable[[], None] = lambda: None,
        metrics: Metrics = SILENT,
    ) -> None:
        """`open_url()` calls apps.connections.open; `chance()` is between 0 and 1.

        `on_change()` is called on the thread of `step` when a link comes up, is lost, or fails.
        """
        self._open_url = open_url
        self._clock = clock
        self._chance = chance
        self._patience = patience
        self._on_change = on_change
        self._record = LinkRecord(clock=clock, metrics=metrics)
        self._dialer = Dialer(timeout=patience.connect)
        self._received: SimpleQueue[Received | SimpleQueue[None] | None] = SimpleQueue()
        #: Whoever waits until all that came before is done with. The receiving thread's alone.
        self._flushing: list[SimpleQueue[None]] = []
        self._notices: SimpleQueue[Notice | None] = SimpleQueue()
        self._is_closed = False
        # Only `step` changes these; a look at one of them may be taken from any thread.
        self._links: list[Link] = []
        self._serving: Link | None = None
        self._coming: Link | None = None
        self._retiring: list[tuple[Link, float]] = []  # with the time to close it
        self._due: float | None = clock()  # when to open a link; None: none is needed
        self._hello_at = 0.0
        self._hello_count = 0
        self._failure_count = 0  # tries without a hello, in a row
        self._unsettled_count = 0  # links that were up for a short time only, in a row
        self._trouble = ""  # why no link serves

    # For any thread.

    @property
    def is_up(self) -> bool:
        """Whether Slack has said hello, and has been heard of lately."""
        link = self._serving
        if link is None or self._is_closed:
            return False
        return self._clock() - link.last_life <= self._patience.silence

    @property
    def last_life(self) -> float | None:
        """When Slack was last heard of over the link that serves, by our clock."""
        link = self._serving
        return None if link is None else link.last_life

    @property
    def trouble(self) -> str:
        """Why there is no link, where one was lost, or could not be opened."""
        return self._trouble

    @property
    def late_seconds(self) -> float:
        """How long `step` has not done what is due."""
        return max(0.0, self._clock() - self._next_due())

    @property
    def downtime_seconds(self) -> float:
        """How long there was no link, all in all."""
        return self._record.downtime_seconds

    @property
    def reconnect_count(self) -> int:
        """How many links came up after the first one."""
        return max(0, self._hello_count - 1)

    def wake(self) -> None:
        """End the current wait of `step` and of `receive`."""
        self._notices.put(None)
        self._received.put(None)

    def close(self) -> None:
        """Close all links, after the acks of what has arrived have gone out."""
        self._is_closed = True  # Seen by `step` before it uses a link that is not in the list.
        flushed: SimpleQueue[None] = SimpleQueue()
        self._received.put(flushed)
        with suppress(Empty):
            flushed.get(timeout=self._patience.flush)
        for link in list(self._links):
            link.close()

    # For the thread that receives.

    def receive(self, limit: int, *, timeout: float) -> list[Received]:
        """Wait for envelopes, and take all that are here.

        To call it again says that one is done with those of the last time.
        """
        while self._flushing:
            self._flushing.pop().put(None)
        batch: list[Received] = []
        with suppress(Empty):
            item = self._received.get(timeout=timeout)
            while isinstance(item, Received):
                batch.append(item)
                if len(batch) == limit:
                    return batch
                item = self._received.get_nowait()
            if item is not None:
                self._flushing.append(item)
        return batch

    # For the thread that calls `step`.

    def step(self) -> None:
        """Wait for news or for the next thing to do, and do it.

        Raises:
            ConfigurationError: Slack refuses our token.
        """
        with suppress(Empty):
            self._take(self._notices.get(timeout=self._wait_seconds()))
        now = self._clock()
        self._let_go(now)
        if self._due is not None and now >= self._due and not self._is_closed:
            self._open()

    def _wait_seconds(self) -> float:
        return min(_STEP_SECONDS, max(0.0, self._next_due() - self._clock()))

    def _next_due(self) -> float:
        # Each is looked at once: from another thread it may be gone at the second look.
        due, coming, serving = self._due, self._coming, self._serving
        times = [end for _, end in self._retiring]
        if due is not None:
            times.append(due)
        if coming is not None:
            times.append(coming.opened_at + self._patience.hello)
        if serving is not None:
            times.append(serving.last_life + self._patience.silence)
        return min(times, default=math.inf)

    def _take(self, notice: Notice | None) -> None:
        if isinstance(notice, Hello):
            self._on_hello(notice)
        elif isinstance(notice, Leaving):
            self._on_leaving(notice)
        elif isinstance(notice, Ended):
            self._on_ended(notice)

    def _open(self) -> None:
        self._due = None
        try:
            url = self._open_url()
            connection = self._dialer.dial(url)
        except (TransientError, PermanentError) as error:
            retry_after = error.retry_after if isinstance(error, TransientError) else None
            self._fail(str(error), retry_after=retry_after)
            return
        link = Link(
            url=url,
            connection=connection,
            deliver=self._received.put,
            notify=self._notices.put,
            clock=self._clock,
            ping_seconds=self._patience.ping,
        )
        self._links.append(link)
        self._coming = link
        link.connect()
        if self._is_closed:  # `close` may have looked into the list before.
            link.close()

    def _on_hello(self, hello: Hello) -> None:
        link, now = hello.link, self._clock()
        if link is not self._coming:
            return
        if self._serving is not None:
            self._retiring.append((self._serving, now + self._patience.grace))
        self._serving, self._coming = link, None
        self._record.came_up()
        self._hello_at = now
        self._hello_count += 1
        self._failure_count = 0
        _log.info(
            "link up",
            extra={
                "open_seconds": now - link.opened_at,
                "connection_count": hello.connection_count,
                "reconnect_count": self.reconnect_count,
            },
        )
        self._on_change()

    def _on_leaving(self, leaving: Leaving) -> None:
        """Open a new link; one that is due or coming already will do."""
        reason = leaving.reason
        mend = {"mend": _MENDS[reason]} if reason in _MENDS else {}
        log = _log.error if mend else _log.info
        log("slack wants the link closed", extra={"reason": reason, **mend})
        if leaving.link is self._coming:
            leaving.link.abort()
            self._coming = None
            self._fail(reason)
        elif leaving.link is self._serving:
            self._replace(reason)

    def _on_ended(self, ended: Ended) -> None:
        link = ended.link
        link.close()  # It has ended; this lets go of what is left of it.
        self._links.remove(link)
        self._retiring = [(other, end) for other, end in self._retiring if other is not link]
        if link is self._coming:
            self._coming = None
            self._fail(ended.reason)
        elif link is self._serving:
            self._lose(ended.reason)

    def _let_go(self, now: float) -> None:
        """Give up what has taken too long."""
        serving, coming = self._serving, self._coming
        if serving is not None and now - serving.last_life > self._patience.silence:
            serving.abort()
            self._lose("silence")
        if coming is not None and now - coming.opened_at > self._patience.hello:
            coming.abort()
            self._coming = None
            self._fail("no hello")
        over = [link for link, end in self._retiring if now >= end]
        self._retiring = [(link, end) for link, end in self._retiring if now < end]
        for link in over:
            link.close()

    def _lose(self, reason: str) -> None:
        self._serving, self._trouble = None, reason
        self._record.went_down()
        if self._is_closed:
            return
        self._on_change()
        _log.warning("link lost", extra={"reason": reason})
        self._replace(reason)

    def _replace(self, reason: str) -> None:
        """Make a new link due, unless one is due or coming."""
        if self._due is not None or self._coming is not None:
            return
        self._record.replaced(reason)
        now = self._clock()
        if now - self._hello_at >= self._patience.settled:
            self._unsettled_count = 0
        count = max(self._unsettled_count, 1 if reason in _MENDS else 0)
        self._unsettled_count += 1
        self._due = now + self._back_off(count)

    def _fail(self, reason: str, *, retry_after: float | None = None) -> None:
        """Make the next try due."""
        if self._is_closed:
            return
        self._failure_count += 1
        self._record.replaced(reason)
        self._trouble = reason
        self._on_change()
        seconds = self._back_off(self._failure_count + self._unsettled_count)
        seconds = max(seconds, retry_after or 0.0)
        self._due = self._clock() + seconds
        _log.warning("no link", extra={"reason": reason, "retry_seconds": seconds})

    def _back_off(self, count: int) -> float:
        if count == 0:
            return 0.0
        most = min(
            self._patience.last_retry, self._patience.first_retry * 2.0 ** min(count - 1, 30)
        )
        return most * (1.0 - self._chance() / 2.0)
