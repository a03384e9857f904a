"""What a service manager hears, at a real socket of its kind."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatrelaybot import daemon_notify as notify
from chatrelaybot.daemon_notify import Notifier


@pytest.fixture(name="name", params=["path", "abstract"])
def _name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/notify" if request.param == "path" else f"@crb-{uuid.uuid4().hex}"


@pytest.fixture(name="manager")
def _manager(name: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.settimeout(10.0)
        manager.bind(name.replace("@", "\0"))
        yield manager


def test_words_go_out_together(name: str, manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})

    assert notifier.tell(notify.ready(), notify.status("link up,\n 2 answers running"))

    assert manager.recv(1000) == b"READY=1\nSTATUS=link up, 2 answers running"


def test_a_reload_tells_when_it_began(name: str, manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": name}).tell(notify.reloading())

    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_times_are_in_microseconds() -> None:
    assert notify.extend(110.5) == "EXTEND_TIMEOUT_USEC=110500000"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nowhere/notify"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": f"/{'x' * 200}"},
    ],
)
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    assert not Notifier(environment).tell(notify.ready())


def test_a_manager_that_takes_nothing_holds_us_up_for_a_moment_only(
    name: str, manager: socket.socket
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    while notifier.tell(notify.alive()):
        pass

    manager.recv(1000)

    assert notifier.tell(notify.alive())


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_ours_or_anothers(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
