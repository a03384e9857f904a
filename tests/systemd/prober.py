"""Tries from within what the sandbox of the service shall refuse; prints what came of it."""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000


def _call(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")


def _writes(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("x")


def _listening() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


def _loading() -> None:
    for name in ("chatrelaybot.daemon", "psycopg", "opentelemetry.exporter.otlp.proto.http"):
        importlib.import_module(name)


TRIALS: dict[str, Callable[[], object]] = {
    "load its libraries": _loading,
    "write its state": _writes(f"{os.environ['STATE_DIRECTORY']}/probe"),
    "write into a /tmp of its own": _writes("/tmp/probe"),  # noqa: S108 - a private one
    "read its settings": lambda: Path("/etc/chatrelaybot/.env").read_text(),
    "read its credential": lambda: Path(
        os.environ["CREDENTIALS_DIRECTORY"], "SLACK_BOT_TOKEN"
    ).read_text(),
    "listen on the loopback interface": _listening,
    "start a process": lambda: subprocess.run([sys.executable, "-S", "-c", ""], check=True),
    "write /etc": _writes("/etc/chatrelaybot/probe"),
    "write its program": _writes("/opt/chatrelaybot/probe"),
    "write /usr": _writes("/usr/probe"),
    "write /var": _writes("/var/probe"),
    "write its credentials": _writes(f"{os.environ['CREDENTIALS_DIRECTORY']}/SLACK_BOT_TOKEN"),
    "read the secrets of root": lambda: [*Path("/etc/chatrelaybot/credentials").iterdir()],
    "look into homes": lambda: [*Path("/root").iterdir()],
    "see other processes": lambda: Path("/proc/1/cmdline").read_text(),
    "signal other processes": lambda: os.kill(1, signal.SIGURG),
    "see memory of the kernel": lambda: Path("/proc/meminfo").read_text(),
    "tune the kernel": _writes("/proc/sys/kernel/panic"),
    "see devices": lambda: Path("/dev/kmsg").read_bytes(),
    "map memory writable and executable": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "make a namespace": lambda: _call(_libc.unshare(_CLONE_NEWUSER)),
    "mount": lambda: _call(_libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "become root": lambda: os.setuid(0),
    "trace a process": lambda: _call(_libc.ptrace(0, 0, 0, 0)),
    "make a setuid file": lambda: os.chmod(f"{os.environ['STATE_DIRECTORY']}/probe", 0o4755),  # noqa: PTH101, S103
    "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "name the machine": lambda: socket.sethostname("probe"),
}


def _outcome(trial: Callable[[], object]) -> str:
    try:
        trial()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return "works"


sys.stdout.write(json.dumps({name: _outcome(trial) for name, trial in TRIALS.items()}) + "\n")
