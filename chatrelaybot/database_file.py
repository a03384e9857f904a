"""The SQLite file: one process owns it, and every commit is on the disk when it returns."""

from __future__ import annotations

import errno
import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from chatrelaybot.errors import ConfigurationError, TransientError

#: How long a transaction waits for another program that has the file locked; seconds.
LOCK_SECONDS = 2.0

#: Slack forgets an event once it is acked, so a commit must survive a power cut: FULL syncs the
#: log at each commit, NORMAL does not (https://www.sqlite.org/pragma.html#pragma_synchronous).
#: With secure_delete the text of a question is overwritten when it is deleted.
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
)
#: Primary result codes that are nobody's fault here, and may be gone the next time:
#: https://www.sqlite.org/rescode.html
_TROUBLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
#: Of those, the ones that a person must mend when they are met at the start.
_UNUSABLE = {
    sqlite3.SQLITE_NOTADB: ("is not an SQLite database", "name another file, or move it away"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "put back a copy, or move it away"),
    sqlite3.SQLITE_READONLY: ("cannot be written", "let the user of this program write it"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "let the user of this program write it"),
}


class SqliteFile:
    """A database in a file. Its time is the machine's."""

    insert = staticmethod(insert)
    is_shared = False

    def __init__(self, url: URL) -> None:
        """`url` is that of an SQLite file.

        Raises:
            ConfigurationError: It names no file.
        """
        file = url.database
        if not file or not Path(file).name or file == ":memory:" or file.startswith("file:"):
            raise ConfigurationError(
                "DATABASE_URL", "it names no SQLite file", "give sqlite:///FILE"
            )
        self._file = Path(file)
        self._changes_at_vacuum = -1  #: of the writer's connection

    def __repr__(self) -> str:
        return f"SqliteFile({self._file})"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep every other process off the file.

        The kernel drops the lock with the process, however that ends. The lock has a file of its
        own: SQLite loses its locks when anybody closes another descriptor of the database in the
        process (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
        """
        try:
            lock = self._file.with_name(f"{self._file.name}.lock").open("a")
        except OSError as error:
            raise self._unusable(error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Questions are nobody else's to read; SQLite gives its other files the same mode.
                self._file.touch(mode=0o600)
            except OSError as error:
                raise self._unusable(error) from error
            yield

    def writer(self) -> Engine:
        """Make an engine of one connection, to write with."""
        return self._engine(begin="BEGIN IMMEDIATE", size=1)

    def readers(self, size: int) -> Engine:
        """Make an engine of up to `size` connections, to read with."""
        return self._engine(begin="BEGIN", size=size)

    def lock(self, connection: Connection) -> None:
        """Do nothing: a transaction that writes has the file alone."""

    def vacuum(self, engine: Engine) -> None:
        """Write the file anew if it was changed since the last time, then empty the log.

        Deleted text is overwritten, but not the copies that SQLite leaves in the unused room of
        pages when it moves rows from one to another. 100,000 answered questions take half a second.
        """
        connection = engine.raw_connection()
        try:
            changes = getattr(connection.driver_connection, "total_changes", 0)
            cursor = connection.cursor()
            if changes != self._changes_at_vacuum:
                cursor.execute("VACUUM")
                self._changes_at_vacuum = changes
            is_busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        except sqlite3.Error as error:  # As SQLAlchemy would, of which this goes past.
            raise DBAPIError("VACUUM", None, error) from error
        finally:
            connection.close()
        if is_busy:
            raise TransientError("the log is not emptied: somebody is reading from it")

    def is_trouble(self, error: DBAPIError) -> bool:
        """Tell whether the database cannot be reached, as against a statement that is wrong."""
        return _code(error) in _TROUBLE

    def is_conflict(self, error: DBAPIError) -> bool:  # noqa: ARG002 - there is one writer
        """Say no: one process writes, and one thread of it."""
        return False

    def unusable(self, error: DBAPIError) -> ConfigurationError | None:
        """Return what a person must mend before the file can be used."""
        problem, mend = _UNUSABLE.get(_code(error), (None, ""))
        return (
            ConfigurationError("DATABASE_URL", f"{self._file} {problem}", mend) if problem else None
        )

    def _unusable(self, error: OSError) -> ConfigurationError:
        if error.errno == errno.EWOULDBLOCK:
            return ConfigurationError(
                "DATABASE_URL",
                f"another ChatRelayBot is using {self._file}",
                "stop it first, or give this one a file of its own",
            )
        return ConfigurationError(
            "DATABASE_URL",
            f"{self._file} cannot be opened ({error.strerror})",
            "name a file in a directory that exists and that the user of this program may write",
        )

    def _engine(self, *, begin: str, size: int) -> Engine:
        """Make a pool of up to `size` connections whose transactions start with `begin`."""
        engine = create_engine(
            URL.create("sqlite", database=str(self._file)),
            # SQLAlchemy's recipe for transactions that really begin where it says so:
            # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#sqlite-transactions
            connect_args={"timeout": LOCK_SECONDS, "isolation_level": None},
            hide_parameters=True,
            pool_size=size,
            max_overflow=0,
            pool_timeout=LOCK_SECONDS,
        )
        event.listen(engine, "connect", self._configure)
        event.listen(engine, "begin", lambda connection: _begin(connection, begin))
        return engine

    def _configure(self, connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()
        connection.create_function("database_time", 0, time.time)


def _begin(connection: Connection, begin: str) -> None:
    connection.exec_driver_sql(begin)


def _code(error: DBAPIError) -> int:
    extended: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return extended & 0xFF
