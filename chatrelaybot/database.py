"""The database: one thread writes, and what waits at the same moment shares one commit.

A commit costs a sync of the disk whatever is in it, so under load the questions of a crowd go to
the disk together, and a lone write is not held back for company.
"""

from __future__ import annotations

import logging
import threading
import time
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

from chatrelaybot import schema_upgrade
from chatrelaybot.database_place import place_of
from chatrelaybot.errors import TransientError
from chatrelaybot.telemetry_metrics import COMMIT_DURATION, SILENT, Metrics

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: A commit takes milliseconds. One that takes longer than this hangs; seconds.
HANGING_SECONDS = 3.0
#: Pieces of work in one transaction; more would make the first of them wait for the last.
_MOST_TOGETHER = 64
#: Work that other processes were in the way of is done again this often at most.
_MOST_CONFLICTS = 5
#: Connections for reading.
_READERS = 4
#: How long `close` waits for the last commit; seconds.
_CLOSE_SECONDS = 10.0


class _InTheWay(TransientError):
    """Another process was in the way."""


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    result: Future[Any] = field(default_factory=Future)
    conflict_count: int = 0  #: how often it alone met another process


@dataclass(frozen=True, slots=True)
class _Vacuum:
    result: Future[None] = field(default_factory=Future)


class Database:
    """The database. `write` and `read` may be called from any thread.

    Work is called with a connection inside a transaction. Where something of the same transaction
    fails it is called again in one of its own, so it must do nothing but use its connection.
    """

    def __init__(self, *, url: str, metrics: Metrics = SILENT) -> None:
        self._place = place_of(url)
        self._metrics = metrics
        self._readers: Engine | None = None
        self._is_reachable = False
        self._busy_since: float | None = None  #: None: the writer is at rest
        self._parts = ExitStack()
        self._thread: threading.Thread | None = None
        #: Guards the two below; notified when work comes and when no more will.
        self._news = threading.Condition()
        self._waiting: deque[_Job | _Vacuum] = deque()
        self._is_open = False

    def __repr__(self) -> str:
        with self._news:
            return f"Database({self._place}, {len(self._waiting)} waiting)"

    @property
    def waiting_count(self) -> int:
        """How many writes wait for the writer."""
        return len(self._waiting)

    @property
    def is_shared(self) -> bool:
        """Whether other instances may be using it."""
        return self._place.is_shared

    @property
    def insert(self) -> Callable[..., Any]:
        """The insert that knows ON CONFLICT here."""
        return self._place.insert

    @property
    def is_reachable(self) -> bool:
        """How the last write went; False where the database is closed."""
        return self._is_reachable

    @property
    def is_storing(self) -> bool:
        """Whether what is written now is stored: the last write went well, and none hangs."""
        return self._is_reachable and self.busy_seconds <= HANGING_SECONDS

    @property
    def busy_seconds(self) -> float:
        """How long the current transaction has taken: a frozen server never fails it."""
        since, thread = self._busy_since, self._thread
        is_alive = thread is not None and thread.is_alive()
        return 0.0 if since is None or not is_alive else time.monotonic() - since

    def open(self, *, as_owner: bool = True) -> None:
        """Take possession of the database, and bring its tables up to date.

        With `as_owner` False it is used beside the process that owns it, and its tables are taken
        as they are.

        Raises:
            ConfigurationError: It cannot be used, or another process is using it.
            TransientError: It cannot be reached, is locked by another program, or full; for one
                who is not its owner, it is empty.
        """
        with ExitStack() as parts:
            if as_owner:
                parts.enter_context(self._place.owned())
            writer = self._place.writer()
            parts.callback(writer.dispose)
            readers = self._place.readers(_READERS)
            parts.callback(readers.dispose)
            if as_owner:
                self._prepare(writer, self._upgrade)
            else:
                self._prepare(readers, schema_upgrade.check)
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
        self._put(job)
        result: _T = job.result.result()
        return result

    def vacuum(self) -> None:
        """Clear away what deleted texts have left; in a file, nothing is written meanwhile.

        Raises:
            TransientError: The database cannot be reached, or is closed.
        """
        readers = self._readers
        if self._place.is_shared and readers is not None:
            with self._mapped():
                self._place.vacuum(readers)
            return
        job = _Vacuum()
        self._put(job)
        job.result.result()

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in the caller's thread, on what is committed so far.

        Raises:
            TransientError: The database cannot be reached, or is closed.
        """
        readers = self._readers
        if readers is None:
            raise TransientError("the database is closed")
        with self._mapped(), readers.begin() as connection:
            return work(connection)

    def _put(self, job: _Job | _Vacuum) -> None:
        with self._news:
            if not self._is_open:
                raise TransientError("the database is closed")
            self._waiting.append(job)
            self._news.notify()

    def _upgrade(self, connection: Connection) -> None:
        self._place.lock(connection)
        schema_upgrade.prepare(connection)

    def _prepare(self, engine: Engine, work: Callable[[Connection], None]) -> None:
        try:
            with engine.begin() as connection:
                work(connection)
        except DBAPIError as error:
            if (unusable := self._place.unusable(error)) is not None:
                raise unusable from error
            with self._mapped():
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
            self._busy_since = None

    def _take(self) -> Sequence[_Job | _Vacuum]:
        """Wait for work; return nothing when there will be none any more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or not self._is_open)
            jobs = list(islice(self._waiting, _MOST_TOGETHER))
            for _ in jobs:
                self._waiting.popleft()
        return jobs

    def _serve(self, writer: Engine, jobs: Sequence[_Job | _Vacuum]) -> None:
        writes = [job for job in jobs if isinstance(job, _Job)]
        # What met another process once will again, and the others would wait for it.
        alone = [job for job in writes if job.conflict_count]
        together = [job for job in writes if not job.conflict_count]
        for group in (together, *([job] for job in alone)):
            if group:
                self._write(writer, group)
        for job in jobs:
            if isinstance(job, _Vacuum):
                self._vacuum(writer, job)

    def _write(self, writer: Engine, jobs: Sequence[_Job]) -> None:
        self._busy_since = time.monotonic()
        try:
            with self._timed(writer.dialect.name):
                results = self._commit(writer, jobs)
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
            self._failed(writer, jobs, error)
        else:
            self._reached()
            for job, result in zip(jobs, results, strict=True):
                job.result.set_result(result)

    def _commit(self, writer: Engine, jobs: Sequence[_Job]) -> list[Any]:
        """Do the work in one transaction."""
        for is_second in (False, True):
            try:
                with writer.begin() as connection:
                    return [job.work(connection) for job in jobs]
            except DBAPIError as error:
                # A connection that broke while it rested says nothing about the database now.
                if error.connection_invalidated and not is_second:
                    continue
                if not self._place.is_conflict(error):
                    # A connection opened while the disk was read only would stay so.
                    writer.dispose()
                with self._mapped():
                    raise
        raise AssertionError("unreachable")

    def _failed(self, writer: Engine, jobs: Sequence[_Job], error: Exception) -> None:
        is_conflict = isinstance(error, _InTheWay)
        if isinstance(error, TransientError) and not is_conflict:
            self._lost(error)
            _fail(jobs, error)
        elif len(jobs) > 1:
            for job in jobs:  # Only the guilty one shall fail.
                self._write(writer, [job])
        elif is_conflict and jobs[0].conflict_count < _MOST_CONFLICTS - 1:
            jobs[0].conflict_count += 1
            with self._news:  # The rest goes first, so that it does not wait as often.
                self._waiting.append(jobs[0])
        else:
            jobs[0].result.set_exception(error)

    def _vacuum(self, writer: Engine, job: _Vacuum) -> None:
        self._busy_since = time.monotonic()
        try:
            with self._mapped():
                self._place.vacuum(writer)
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
            job.result.set_exception(error)
        else:
            job.result.set_result(None)

    def _lost(self, error: TransientError) -> None:
        if self._is_reachable:
            _log.warning("database not reachable", extra={"error": str(error)})
        self._is_reachable = False

    def _reached(self) -> None:
        if not self._is_reachable:
            _log.info("database reachable again")
        self._is_reachable = True

    @contextmanager
    def _timed(self, system: str) -> Iterator[None]:
        attributes = {"db.system.name": system, "db.operation.name": "COMMIT"}
        began_at = time.monotonic()
        try:
            yield
        except Exception as error:
            attributes["error.type"] = type(error).__name__
            raise
        finally:
            self._metrics.record(COMMIT_DURATION, time.monotonic() - began_at, attributes)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the database's trouble into ours; what is wrong with a statement passes as it is."""
        try:
            yield
        except DBAPIError as error:
            if self._place.is_conflict(error):
                raise _InTheWay from error
            if not self._place.is_trouble(error):
                raise
            words = str(error.orig).partition("\n")[0]
            raise TransientError(f"the database cannot be reached: {words}") from error
        except PoolTimeout as error:
            raise TransientError("the database is too busy to be read") from error


def _fail(jobs: Sequence[_Job], error: TransientError) -> None:
    for job in jobs:
        # Each caller raises an error of its own: a traceback belongs to one thread.
        own = TransientError(str(error))
        own.__cause__ = error.__cause__
        job.result.set_exception(own)
