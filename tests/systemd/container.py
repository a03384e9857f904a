"""This machine, once more, with systemd as its first process: nothing done in it outlives it.

Its files are an overlay on this machine's; its network is this machine's, so that both share the
loopback interface.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")

TREE = Path(__file__).parents[2]
#: Where the container shows this tree, read-only.
SHOWN_TREE = "/srv/chatrelaybot"
#: Longest wait for anything in the container, but for an installation; seconds.
DEADLINE = 30.0
_PACKAGES = {"systemd-nspawn": "systemd-container", "dbus-daemon": "dbus", "nsenter": "util-linux"}
#: systemd's request to power off: https://www.freedesktop.org/software/systemd/man/systemd.html
_POWER_OFF = "RTMIN+4"
#: What pip and its like may need to know of the way to the outside.
_KEPT = ("PIP_", "SSL_", "REQUESTS_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def obstacle() -> str | None:
    """Say why this machine can hold no such container; None: it can."""
    if not sys.platform.startswith("linux"):
        return "a systemd container needs Linux"
    if os.geteuid() != 0:
        return "a systemd container needs root"
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            return f"{program} is missing; apt-get install {package}"
    if not Path("/lib/systemd/systemd").exists():
        return "this machine has no systemd; apt-get install systemd"
    if system_python() is None:
        return "no Python 3.11 that others may run, with venv; apt-get install python3-venv"
    return None


def system_python() -> str | None:
    """Return a Python that a service can run, too: it is in no home. None: there is none."""
    ours = f"{sys.base_prefix}/bin/python3.{sys.version_info.minor}"
    check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (ours, "/usr/bin/python3"):
        is_in_home = python.startswith(("/root/", "/home/", "/run/user/"))
        if not is_in_home and Path(python).exists() and not _call(python, "-c", check).returncode:
            return python
    return None


def until(what: str, look: Callable[[], _T], seconds: float = DEADLINE) -> _T:
    """Look again and again until there is something to see, and return it."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        pause.wait(0.02)
    return seen


class Refused(Exception):
    """This machine does not let us have a container."""


class Container:
    """Boots when it is entered, and is gone without a trace when it is left."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._leader = 0
        self.boot_seconds = 0.0
        self.root = Path()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.root = self._mount(stack)
            self._prepare()
            began = time.monotonic()
            self._boot(stack)
            self.boot_seconds = time.monotonic() - began
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(
        self,
        *command: str,
        is_checked: bool = True,
        seconds: float = DEADLINE,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the container, and wait for its end."""
        done = subprocess.run(  # noqa: S603 - our own words
            ["nsenter", "--target", str(self._leader), "--all", "--wdns=/", *command],  # noqa: S607
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**_environment(), **(environment or {})},
            check=False,
        )
        if is_checked:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def out(self, *command: str) -> str:
        """Return what a command prints."""
        return self.run(*command).stdout.strip()

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        script = f'mkdir -p "$(dirname {path})" && cat > {path} && chmod {mode:o} {path}'
        self.run("sh", "-c", script, stdin=text)

    def _mount(self, stack: ExitStack) -> Path:
        place = Path(tempfile.mkdtemp(prefix="chatrelaybot-systemd-"))
        stack.callback(place.rmdir)
        self._mounted(stack, place, "-t", "tmpfs", "-o", "mode=0755", "tmpfs")
        for name in ("upper", "work", "root"):
            (place / name).mkdir()
        options = f"lowerdir=/,upperdir={place}/upper,workdir={place}/work"
        root = place / "root"
        self._mounted(stack, root, "-t", "overlay", "-o", options, "overlay")
        return root

    def _mounted(self, stack: ExitStack, place: Path, *how: str) -> None:
        done = _call("mount", *how, str(place))
        if done.returncode:
            raise Refused(done.stderr.partition("\n")[0])
        stack.callback(_call, "umount", "--lazy", str(place))

    def _prepare(self) -> None:
        """Leave out what this machine starts besides systemd, and what it knows of the bot."""
        system = self.root / "etc/systemd"
        for wants in (system / "system").glob("*.wants"):
            shutil.rmtree(wants)
        journal = system / "journald.conf.d/chatrelaybot-tests.conf"
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text("[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")
        for place in ("opt/chatrelaybot", "etc/chatrelaybot", "var/lib/private/chatrelaybot"):
            shutil.rmtree(self.root / place, ignore_errors=True)

    def _boot(self, stack: ExitStack) -> None:
        console = stack.enter_context((self.root.parent / "console").open("w+"))
        process = subprocess.Popen(  # noqa: S603 - our own words
            [
                # It powers off should this process die.
                *("setpriv", "--pdeathsig", "TERM"),
                *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}"),
                *("--register=no", "--keep-unit", "--link-journal=no", "--console=pipe"),
                f"--bind-ro={TREE}:{SHOWN_TREE}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**_environment(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        stack.callback(self._power_off, process)
        try:
            until("systemd answers", lambda: self._state(process))
        except AssertionError as error:
            console.seek(0)
            raise Refused(f"systemd-nspawn: {error}: {console.read().strip()[-300:]}") from error
        # From here on it is no matter of this machine any more.
        until("systemd is up", lambda: self._state(process) in ("running", "degraded"))

    def _state(self, process: subprocess.Popen[bytes]) -> str:
        """Return what systemd says of itself; empty: it says nothing yet."""
        assert process.poll() is None, "the container has ended"
        self._leader = _child(process.pid)
        if not self._leader:
            return ""
        state = self.run("systemctl", "is-system-running", is_checked=False).stdout.strip()
        return "" if state in ("offline", "unknown") else state

    def _power_off(self, process: subprocess.Popen[bytes]) -> None:
        leader = _child(process.pid)
        if leader:
            _call("kill", "-s", _POWER_OFF, str(leader))
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith(_KEPT)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8"}


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def _child(parent: int) -> int:
    """Return a child of a process; 0: it has none."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:  # It has just ended.
            continue
        if int(rest.rpartition(") ")[2].split()[1]) == parent:
            return int(pid)
    return 0
