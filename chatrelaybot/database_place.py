"""Where a database is, and what differs with it: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from chatrelaybot.errors import ConfigurationError


class Place(Protocol):
    """What the two have in common."""

    #: The insert that knows ON CONFLICT, which SQLAlchemy has for each of them by itself.
    insert: Callable[..., Any]

    @property
    def is_shared(self) -> bool:
        """Whether other instances may be using it."""

    def owned(self) -> AbstractContextManager[None]:
        """Keep other processes off it, where it is not shared."""

    def writer(self) -> Engine:
        """Make an engine of one connection, to write with."""

    def readers(self, size: int) -> Engine:
        """Make an engine of up to `size` connections, to read with."""

    def lock(self, connection: Connection) -> None:
        """Have the whole database alone until the end of the transaction."""

    def vacuum(self, engine: Engine) -> None:
        """Clear away what deleted texts have left in the files; may take long."""

    def is_trouble(self, error: DBAPIError) -> bool:
        """Tell whether the database cannot be reached, as against a statement that is wrong."""

    def is_conflict(self, error: DBAPIError) -> bool:
        """Tell whether another process was in the way, and the same may go well the next time."""

    def unusable(self, error: DBAPIError) -> ConfigurationError | None:
        """Return what a person must mend before it can be used; None: it may pass by itself."""


def place_of(url: str) -> Place:
    """Return the place that the setting names.

    Raises:
        ConfigurationError: It names none.
    """
    # What the other one needs is not imported.
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        parsed = None  # It may hold a password, so neither it nor SQLAlchemy's words are shown.
    kind = parsed.get_backend_name() if parsed else None
    if parsed and kind == "sqlite":
        from chatrelaybot.database_file import SqliteFile

        return SqliteFile(parsed)
    if parsed and kind == "postgresql":
        from chatrelaybot.database_server import PostgresServer

        return PostgresServer(parsed)
    raise ConfigurationError(
        "DATABASE_URL",
        "it names neither an SQLite file nor a PostgreSQL database",
        "give sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    ) from None
