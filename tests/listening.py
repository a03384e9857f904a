"""Links to a local workspace, with their threads, for the tests of link and listener."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from chatrelaybot.link import Links, Patience
from chatrelaybot.link_session import Received
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.slack import Slack

#: Longest wait of anything here, seconds.
DEADLINE = 10.0
#: Quick everywhere, and always ready to connect again.
HASTY = Patience(
    connect=2.0,
    hello=2.0,
    ping=0.05,
    silence=1.0,
    grace=0.05,
    settled=0.0,
    first_retry=0.02,
    last_retry=0.1,
    flush=0.05,
)


class Loop(threading.Thread):
    """Calls `step` until it is stopped or fails; `stop` raises what it failed with."""

    def __init__(self, step: Callable[[], object], *, wake: Callable[[], None]) -> None:
        super().__init__(name="chatrelaybot-test-loop", daemon=True)
        self._step = step
        self._wake = wake
        self._stopping = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
        except Exception as error:  # noqa: BLE001 - raised by `stop`
            self._error = error

    def stop(self) -> None:
        self._stopping.set()
        self._wake()
        self.join(DEADLINE)
        assert not self.is_alive(), "the loop has not ended"
        if self._error is not None:
            raise self._error


class Line:
    """Links to a workspace, and their thread. Closed in the same order as by the daemon."""

    def __init__(self, workspace: Workspace, *, patience: Patience = HASTY, **more: Any) -> None:
        self.slack = Slack(
            bot_token=workspace.bot_token, api_url=workspace.api_url, pool_size=1, timeout=DEADLINE
        )
        options = {"open_url": lambda: self.slack.open_link_url(workspace.app_token), **more}
        self.links = Links(patience=patience, **options)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self.slack.close)
        self.run(self.links.step)
        return self

    def __exit__(self, *_: object) -> None:
        self.links.close()
        self._stack.close()

    def run(self, step: Callable[[], object]) -> None:
        """Run a loop of ours beside the one of the links."""
        loop = Loop(step, wake=self.links.wake)
        loop.start()
        self._stack.callback(loop.stop)


class Acker:
    """Acks whatever comes."""

    def __init__(self, line: Line) -> None:
        self._links = line.links
        #: The payloads, in the order of their arrival.
        self.events: list[dict[str, Any]] = []
        #: While it is not set, nothing is acked.
        self.gate = threading.Event()
        self.gate.set()
        #: Set when something waits for the gate.
        self.is_held = threading.Event()

    def step(self) -> None:
        for received in self._links.receive(500, timeout=DEADLINE):
            self._take(received)

    def _take(self, received: Received) -> None:
        if not self.gate.is_set():
            self.is_held.set()
            assert self.gate.wait(DEADLINE)
        envelope = json.loads(received.text)
        self.events.append(envelope["payload"]["event"])
        received.link.ack(envelope["envelope_id"])
