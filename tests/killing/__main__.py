"""The launcher: forks a daemon for each line of JSON on its standard input.

    {"run": 7, "log": "/file", "environment": {…}}    starts one
    {"kill": 7}                                       ends it

and says on its standard output what became of it: {"run": 7, "pid": …}, {"run": 7, "status": …}.
When the input ends all of them are killed. It has no threads, so its children can be forked.
"""

from __future__ import annotations

import gc
import json
import os
import random
import selectors
import signal
import sys
import traceback
from typing import Any, NoReturn

# All that a daemon needs later on, so that no run has to import it.
import alembic.command
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite

import chatrelaybot.database_file
import chatrelaybot.database_server
import chatrelaybot.migrations
from chatrelaybot.daemon import Daemon
from chatrelaybot.settings import load_settings
from chatrelaybot.telemetry_logs import configure_logging
from tests.killing import tracing

_READY = (alembic.command, psycopg, sqlalchemy, chatrelaybot)


class _Nursery:
    """The children."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._pids: dict[int, int] = {}  #: run: pid
        self._runs: dict[int, int] = {}  #: pidfd: run
        self._rest = b""

    def tend(self) -> None:
        """Do as told until the input ends."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._runs:
                    self._bury(key.fd)
                elif not self._listen(key.fd):
                    return

    def kill(self) -> None:
        """Kill them all, and wait for their ends."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pidfd in list(self._runs):
            self._bury(pidfd)

    def _listen(self, stdin: int) -> bool:
        received = os.read(stdin, 1 << 16)
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "kill" not in command:
                self._fork(command)
            elif pid := self._pids.get(command["kill"]):
                os.kill(pid, signal.SIGKILL)
        return bool(received)

    def _fork(self, command: dict[str, Any]) -> None:
        pid = os.fork()
        if not pid:
            _be_daemon(command["log"], command["environment"])
        pidfd = os.pidfd_open(pid)
        self._pids[command["run"]] = pid
        self._runs[pidfd] = command["run"]
        self._selector.register(pidfd, selectors.EVENT_READ)
        _say(run=command["run"], pid=pid)

    def _bury(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        run = self._runs.pop(pidfd)
        _, status = os.waitpid(self._pids.pop(run), 0)
        _say(run=run, status=os.waitstatus_to_exitcode(status))


def _say(**fields: int) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _be_daemon(log: str, environment: dict[str, str]) -> NoReturn:
    """Run the daemon in the place of this process, which has just been forked."""
    code = 1
    try:
        _leave_parent(log)
        os.environ.update(environment)
        settings = load_settings()
        configure_logging(log_format=settings.log_format, level=settings.log_level)
        tracing.install(os.environ)
        Daemon(settings).run()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may get back into the launcher's own loop
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave_parent(log: str) -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nowhere, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    # The state of chance was forked as well.
    random.seed()


def main() -> None:
    nursery = _Nursery()
    gc.collect()
    gc.freeze()
    try:
        nursery.tend()
    finally:
        nursery.kill()


if __name__ == "__main__":
    main()
