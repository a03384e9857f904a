"""What the daemon costs with many answers streaming at once.

The workspace and the backend run in a process of their own, so that the figures are the daemon's
alone. Run it with `make bench`; `ANSWERS=n` chooses how many.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pydantic import SecretStr

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.settings import Settings
from tests.answering import AnsweringBackend, delta
from tests.scripted_backend import END, Exchange, head

#: Latency of one Slack call, seconds.
_LATENCY = 0.08
#: What each answer streams.
_PARTS_PER_SECOND = 50
_PARTS = 750
_DEADLINE = 120.0


@dataclass(frozen=True, slots=True)
class _World:
    """Where the daemon finds the other process."""

    api_url: str
    bot_token: str
    app_token: str
    backend_url: str


def _stream(exchange: Exchange) -> None:
    pause = threading.Event()
    exchange.send(head())
    for number in range(_PARTS):
        exchange.send(delta(f"word{number} "))
        pause.wait(1.0 / _PARTS_PER_SECOND)
    exchange.send(END)
    exchange.hang_up()


def _be_the_world(pipe: Connection, count: int) -> None:
    """Run workspace and backend, ask at once, and say how many finals are exact."""
    text = "".join(f"word{number} " for number in range(_PARTS))
    with (
        Workspace(limits=Limits.none(), latency=_LATENCY) as workspace,
        AnsweringBackend() as backend,
    ):
        backend.fall_back(_stream)
        tokens = (workspace.bot_token, workspace.app_token)
        pipe.send(_World(workspace.api_url, *tokens, backend.url))
        workspace.wait_for_link(timeout=_DEADLINE)
        channels = [workspace.add_channel(f"c{number}") for number in range(count)]
        pipe.recv()
        asked = workspace.burst(count, channels=channels)
        pipe.recv()
        exact = sum(
            [reply.shown for reply in workspace.replies(*place)] == [text]
            for place in zip(channels, asked, strict=True)
        )
        edits = sum(call.method == "chat.update" for call in workspace.calls)
        pipe.send((exact, edits))
        pipe.recv()


def _rss() -> float:
    """Return our resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_share(seconds: float) -> float:
    """Return the share of a core that we use from now on."""
    cpu, wall = time.process_time(), time.monotonic()
    threading.Event().wait(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - wall)


def _measure(daemon: Daemon, pipe: Connection, count: int) -> list[tuple[str, str]]:
    imported = _rss()
    daemon.start()
    threading.Event().wait(1.0)
    idle, threads, idle_share = _rss(), threading.active_count(), _cpu_share(5.0)
    pipe.send("ask")
    share, busy = _cpu_share(10.0), _rss()
    deadline = time.monotonic() + _DEADLINE
    while daemon.running_count and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    pipe.send("count")
    exact, edits = pipe.recv()
    return [
        ("memory after the imports", f"{imported:.0f} MiB"),
        ("memory when idle", f"{idle:.0f} MiB, {threads} threads"),
        ("CPU when idle", f"{idle_share:.2%} of a core"),
        ("CPU while streaming", f"{share:.0%} of a core, {count * _PARTS_PER_SECOND} parts/s"),
        ("memory while streaming", f"{busy:.0f} MiB, {(busy - idle) * 1024 / count:.0f} KiB each"),
        ("edits", str(edits)),
        ("final texts exact", f"{exact} of {count}"),
    ]


def main() -> int:
    """Measure, print, and return 1 if a text was lost or wrong."""
    count = int(os.environ.get("ANSWERS") or "100")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_be_the_world, args=(theirs, count), daemon=True
    )
    process.start()
    theirs.close()  # So that we hear of it when the other process ends.
    world = ours.recv()
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(
            Settings(
                slack_bot_token=SecretStr(world.bot_token),
                slack_app_token=SecretStr(world.app_token),
                slack_api_url=world.api_url,
                backend_url=world.backend_url,
                database_url=f"sqlite:///{directory}/inbox.sqlite3",
                edits_per_minute=6000,
                posts_per_minute=6000,
                workers=max(count, 100),
            )
        )
        rows = _measure(daemon, ours, count)
        daemon.stop()
    ours.send("end")
    process.join(_DEADLINE)
    sys.stdout.write(f"{count} answers at once, each Slack call {_LATENCY * 1000:.0f} ms\n\n")
    sys.stdout.writelines(f"  {name:26}{value}\n" for name, value in rows)
    return 0 if rows[-1][1] == f"{count} of {count}" else 1
