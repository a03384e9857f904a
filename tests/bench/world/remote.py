"""The world, as the bench sees it: a process of its own, led over a pipe."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Self

from chatrelaybot.playground.limits import Limits
from tests.bench.world import backend
from tests.bench.world.records import Asked, Call, Record
from tests.bench.world.script import Script
from tests.bench.world.server import Usage
from tests.bench.world.web_api import APP_TOKEN, BOT_TOKEN
from tests.bench.world.web_server import HOST
from tests.forwarder import CERTIFICATE
from tests.program import environment

#: Where `python -m tests.…` works.
ROOT = Path(__file__).parents[3]
#: How long the world may take to answer, and then to end; seconds.
_PATIENCE = 15.0
_PLAIN = Script()


class World:
    """Slack and a backend. One thread at a time; all times are time.monotonic()."""

    def __init__(
        self, *, latency: float = 0.08, limits: Limits | None = None, round_trip: float = 0.0
    ) -> None:
        """Seconds.

        Args:
            latency: from the arrival of a call to its effect and its answer.
            limits: None: none.
            round_trip: The Web API is spoken over TLS, and is so far away; 0: neither.
        """
        self._latency = latency
        self._limits = limits
        self._round_trip = round_trip
        self._stack = ExitStack()
        self._pipe: Pipe
        self._port = 0
        self._api_url = ""

    def __enter__(self) -> Self:
        with self._stack:
            self._start()
            self._port = self._call("port")
            self._call("change", self._latency, self._limits)
            self._api_url = f"http://{HOST}:{self._port}/api/"
            if self._round_trip:
                port = self._go_away(self._call("listen_with_tls"))
                self._api_url = f"https://{HOST}:{port}/api/"
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a bot that lives here."""
        trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(CERTIFICATE))
        return {
            "SLACK_BOT_TOKEN": BOT_TOKEN,
            "SLACK_APP_TOKEN": APP_TOKEN,
            "SLACK_API_URL": self._api_url,
            "BACKEND_URL": f"http://{HOST}:{self._port}{backend.PATH}",
            **(trust if self._round_trip else {}),
        }

    def change(self, *, latency: float, limits: Limits | None = None) -> None:
        """Use these from now on, as if the app had rested."""
        self._call("change", latency, limits)

    def wait_for_link(self, timeout: float = 30.0, *, since: float = 0.0) -> float:
        """Wait for a link that came up at `since` or later; return when its hello was written.

        Raises:
            TimeoutError: There is none.
        """
        at: float | None = self._call("wait_for_link", timeout, since, patience=timeout)
        if at is None:
            raise TimeoutError(f"no link in {timeout:.0f} s")
        return at

    def ask(
        self,
        count: int = 1,
        *,
        script: Script = _PLAIN,
        channels: int | Sequence[str] | None = None,
        per_second: float | None = None,
    ) -> Asked:
        """Ask questions; return when they are written.

        Args:
            channels: which, or how many, to be asked in by turns; None: a new one for each.
            per_second: None: all at once; else evenly.
        """
        if isinstance(channels, int):
            channels = [f"C{number:04d}SHARED" for number in range(channels)]
        seconds = count / per_second if per_second else 0.0
        asked: Asked = self._call(
            "ask", count, script, list(channels or ()), per_second, patience=seconds
        )
        return asked

    def wait_until_answered(self, asked: Asked, timeout: float) -> bool:
        """Wait until each question shows its answer and nothing else; False: time is up."""
        return bool(self._call("wait_until_answered", asked.numbers, timeout, patience=timeout))

    def wait_until_acked(self, asked: Asked, timeout: float) -> bool:
        """Wait until each event was acked; False: time is up."""
        return bool(self._call("wait_until_acked", asked.numbers, timeout, patience=timeout))

    def records(self, asked: Asked) -> list[Record]:
        """Return what is known of the questions until now."""
        records: list[Record] = self._call("records", asked.numbers)
        return records

    def calls(self) -> list[Call]:
        """Return all calls until now, also those that are about no question."""
        calls: list[Call] = self._call("calls")
        return calls

    def flaws(self, asked: Asked) -> list[str]:
        """Return what is wrong with the replies, as they are shown now; a sentence each."""
        flaws: list[str] = self._call("flaws", asked.numbers)
        return flaws

    def forget(self) -> None:
        """Drop all questions, replies and calls until now."""
        self._call("forget")

    def usage(self) -> Usage:
        """Return what the world has cost; without the distance, whose work is not ours."""
        usage: Usage = self._call("usage")
        return usage

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._stack.callback(self._pipe.close)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 our own program
                [sys.executable, "-m", "tests.bench.world", str(theirs.fileno())],
                cwd=ROOT,
                env=environment(),
                pass_fds=[theirs.fileno()],
            )
        self._stack.callback(_end, process)
        # It ends as soon as the pipe does.
        self._stack.callback(self._pipe.close)

    def _go_away(self, port: int) -> int:
        """Start a proxy in front of a port, and return its own."""
        process = subprocess.Popen(  # noqa: S603 our own program
            [
                sys.executable,
                "-m",
                "tests.bench.world.distance",
                str(port),
                str(self._round_trip / 2),
            ],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.callback(_end, process)
        assert process.stdin is not None
        assert process.stdout is not None
        self._stack.callback(process.stdout.close)
        self._stack.callback(process.stdin.close)
        return int(process.stdout.readline())

    def _call(self, name: str, *args: object, patience: float = 0.0) -> Any:
        self._pipe.send((name, args))
        if not self._pipe.poll(_PATIENCE + patience):
            raise TimeoutError("the load server does not answer")
        is_good, answer = self._pipe.recv()
        if not is_good:
            raise RuntimeError(f"the load server has failed:\n{answer}")
        return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
