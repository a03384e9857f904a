"""What the service manager is told: https://www.freedesktop.org/software/systemd/man/sd_notify.html."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping

#: Longest wait for the manager to take a message; seconds.
_SEND_SECONDS = 1.0


class Notifier:
    """Tells the service manager, where there is one. From any thread; nothing of it ever fails."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` names the manager's socket, and how often it wants to hear of us."""
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        #: The manager kills us where it does not hear for so long that we live; seconds.
        self.watchdog_seconds = _watchdog_seconds(environment)

    def tell(self, *words: str) -> bool:
        """Send some assignments, such as READY=1, in one message; say whether they went out."""
        if self._address is None or not words:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(_SEND_SECONDS)
                connection.sendto("\n".join(words).encode(), self._address)
        except OSError:
            return False  # It may be told again; to fail for it would be worse.
        return True


def ready() -> str:
    """The start, or a reload, is over."""
    return "READY=1"


def alive() -> str:
    """Feed the watchdog."""
    return "WATCHDOG=1"


def stopping() -> str:
    """A stop has begun."""
    return "STOPPING=1"


def reloading() -> str:
    """A reload has begun, now."""
    return f"RELOADING=1\nMONOTONIC_USEC={_microseconds(time.monotonic())}"


def status(words: str) -> str:
    """One line for people."""
    return f"STATUS={' '.join(words.split())}"


def extend(seconds: float) -> str:
    """Wait for the end of the start, or of the stop, for so long from now on."""
    return f"EXTEND_TIMEOUT_USEC={_microseconds(seconds)}"


def _microseconds(seconds: float) -> int:
    return math.ceil(seconds * 1e6)


def _address(name: str) -> str | None:
    """Return the address of a socket in the file system, or of an abstract one (`@name`)."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """https://www.freedesktop.org/software/systemd/man/sd_watchdog_enabled.html."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # It is meant for another process.
    return int(microseconds) / 1e6
