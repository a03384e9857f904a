"""The database that the processes share: where it is, what stands in it, and its outages."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from tests.chaos.plan import Engine

#: Seconds to wait for a lock of the file.
_LOCK_SECONDS = 10.0
_QUERY = "SELECT id, state, outcome FROM questions"


@dataclass(frozen=True, slots=True)
class Row:
    """What the inbox says of a question."""

    state: str
    outcome: str | None

    @property
    def is_settled(self) -> bool:
        return self.state not in ("ready", "leased")


class Inbox(Protocol):
    """What the storm needs of a database."""

    url: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def rows(self) -> Mapping[str, Row]:
        """Return what stands in it, by question id; nothing where it has no tables yet."""

    def go_away(self, seconds: float, leaving: threading.Event) -> None:
        """Be of no use for so long, or until `leaving`."""


class SqliteInbox:
    """A file; in an outage somebody else has locked it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "inbox.sqlite3"
        self.url = f"sqlite:///{self._file}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self) -> Mapping[str, Row]:
        with closing(sqlite3.connect(self._file, timeout=_LOCK_SECONDS)) as connection:
            try:
                return {key: Row(*rest) for key, *rest in connection.execute(_QUERY)}
            except sqlite3.OperationalError:
                return {}

    def go_away(self, seconds: float, leaving: threading.Event) -> None:
        with closing(
            sqlite3.connect(self._file, timeout=_LOCK_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            leaving.wait(seconds)
            connection.execute("ROLLBACK")


class PostgresInbox:
    """A server of our own; in an outage it has crashed."""

    def __init__(self) -> None:
        # Only here: without PostgreSQL at hand, SQLite can still be tried.
        from tests.postgres import PostgresServer

        self._server = PostgresServer()
        self.url = ""

    def __enter__(self) -> Self:
        self._server.__enter__()
        self.url = self._server.create_database()
        return self

    def __exit__(self, *ended: object) -> None:
        self._server.__exit__(*ended)

    def rows(self) -> Mapping[str, Row]:
        import psycopg

        plain = self.url.replace("postgresql+psycopg:", "postgresql:")
        try:
            with psycopg.connect(plain, autocommit=True) as connection:
                found: list[tuple[Any, ...]] = connection.execute(_QUERY).fetchall()
        except psycopg.Error:
            return {}
        return {key: Row(*rest) for key, *rest in found}

    def go_away(self, seconds: float, leaving: threading.Event) -> None:
        self._server.stop()
        leaving.wait(seconds)
        self._server.start()


def inbox_for(engine: Engine, directory: Path) -> Inbox:
    """Return the inbox of an engine, not there yet: it is entered."""
    return SqliteInbox(directory) if engine == "sqlite" else PostgresInbox()
