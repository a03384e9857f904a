"""The database: one thread writes, and what waits at the same moment shares one commit.

A commit costs a sync of the disk whatever is in it, so under load the questions of a crowd go to
the disk together, and a lone write is not held back for company.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatrelaybot import database_file, schema
from chatrelaybot.errors import TransientError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Pieces of work in one transaction; more would make the first of them wait for the last.
_MOST_TOGETHER = 64
#: Connections for reading.
_READERS = 4
#: How long `close` waits for the last commit; seconds.
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Connection], Any]
    result: Future[Any] = field(default_factory=Future)


class Database:
    """An SQLite file. `write` and `read` may be called from any thread.

    Work is called with a connection inside a transaction. Where something of the same transaction
    fails it is called again in one of its own, so it must do nothing but use its connection.
    """

    def __init__(self, *, url: str) -> None:
        self._file = database_file.file_of(url)
        self._readers: Engine | None = None
        self._is_reachable = False
        self._parts = ExitStack()
        self._thread: threading.Thread | None = None
        #: Guards the two below; notified when work comes and when no more will.
        self._news = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._is_open = False

    def __repr__(self) -> str:
        with self._news:
            return f"Database({self._file}, {len(self._waiting)} waiting)"

    @property
    def is_reachable(self) -> bool:
        """How the last write went; False where the database is closed."""
        return self._is_reachable

    def open(self) -> None:
        """Take possession of the file, and create its tables where they are missing.

        Raises:
            ConfigurationError: The file cannot be used, or another process is using it.
            TransientError: It is locked by another program, or the disk is full.
        """
        with ExitStack() as parts:
            parts.enter_context(database_file.owned(self._file))
            writer = database_file.engine_of(self._file, begin="BEGIN IMMEDIATE", size=1)
            parts.callback(writer.dispose)
            readers = database_file.engine_of(self._file, begin="BEGIN", size=_READERS)
            parts.callback(readers.dispose)
            self._prepare(writer)
            self._readers = readers
            self._start(writer)
            self._parts = parts.pop_all()

    def close(self) -> None:
        """Commit what waits, and give the file free."""
        with self._news:
            self._is_open = False
            self._news.notify_all()
        self._readers = None
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            self._is_reachable = False
            if self._thread.is_alive():
                # It still has the file, so nobody else may: the lock goes with the process.
                _log.error("the last commit does not end")
                return
        self._parts.close()

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in the writer's thread; return its result after the commit.

        Raises:
            TransientError: The database cannot be reached, or is closed; nothing was written.
                Where another program has locked the file this takes LOCK_SECONDS, at most twice.
        """
        job = _Job(work)
        with self._news:
            if not self._is_open:
                raise TransientError("the database is closed")
            self._waiting.append(job)
            self._news.notify()
        result: _T = job.result.result()
        return result

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in the caller's thread, on what is committed so far.

        Raises:
            TransientError: The database cannot be reached, or is closed.
        """
        readers = self._readers
        if readers is None:
            raise TransientError("the database is closed")
        with _mapped(), readers.begin() as connection:
            return work(connection)

    def _prepare(self, writer: Engine) -> None:
        try:
            with _mapped(), writer.begin() as connection:
                schema.prepare(connection)
        except TransientError as error:
            cause = error.__cause__
            wrong = isinstance(cause, DBAPIError) and database_file.wrong_file(self._file, cause)
            if wrong:
                raise wrong from cause
            raise

    def _start(self, writer: Engine) -> None:
        self._is_open = self._is_reachable = True
        self._thread = threading.Thread(
            target=self._run, args=(writer,), name="chatrelaybot-database", daemon=True
        )
        self._thread.start()

    def _run(self, writer: Engine) -> None:
        while jobs := self._take():
            self._serve(writer, jobs)

    def _take(self) -> list[_Job]:
        """Wait for work; return nothing when there will be none any more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or not self._is_open)
            jobs = list(islice(self._waiting, _MOST_TOGETHER))
            for _ in jobs:
                self._waiting.popleft()
        return jobs

    def _serve(self, writer: Engine, jobs: Sequence[_Job]) -> None:
        try:
            with _mapped(), writer.begin() as connection:
                results = [job.work(connection) for job in jobs]
        except TransientError as error:
            # A connection opened while the disk was read only would stay so.
            writer.dispose()
            self._lose(jobs, error)
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
            if len(jobs) == 1:
                jobs[0].result.set_exception(error)
                return
            for job in jobs:  # Only the guilty one shall fail.
                self._serve(writer, [job])
        else:
            self._reached()
            for job, result in zip(jobs, results, strict=True):
                job.result.set_result(result)

    def _lose(self, jobs: Sequence[_Job], error: TransientError) -> None:
        if self._is_reachable:
            _log.warning("database not reachable", extra={"error": str(error)})
        self._is_reachable = False
        for job in jobs:
            # Each caller raises an error of its own: a traceback belongs to one thread.
            lost = TransientError(str(error))
            lost.__cause__ = error.__cause__
            job.result.set_exception(lost)

    def _reached(self) -> None:
        if not self._is_reachable:
            _log.info("database reachable again")
        self._is_reachable = True


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn the database's trouble into ours; what is wrong with a statement passes as it is."""
    try:
        yield
    except DBAPIError as error:
        if not database_file.is_trouble(error):
            raise
        raise TransientError(f"the database cannot be reached: {error.orig}") from error
    except PoolTimeout as error:
        raise TransientError("the database is too busy to be read") from error
