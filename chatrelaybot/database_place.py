"""Where a database is, and what differs with it: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

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
