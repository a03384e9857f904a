"""The PostgreSQL database that several instances share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.schema import questions

#: How long a read waits for a free connection; seconds.
_POOL_SECONDS = 2.0
#: An instance that is paused within a transaction holds up the others for so long at most. A
#: statement waits less for a lock than that, so that the rest of its instance's work goes on; all
#: its tries together wait longer, so that it need not fail.
#: https://www.postgresql.org/docs/current/runtime-config-client.html
_SESSION = {
    "idle_in_transaction_session_timeout": "3s",
    "lock_timeout": "1s",
    "statement_timeout": "30s",
    # Statistics of a queue are always late. Without this a plan from when it was empty reads all
    # of it, and sorts it, for each lease.
    "enable_seqscan": "off",
}
#: A dead server, or a way to it that swallows everything, is noticed within some ten seconds:
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": 8_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "application_name": "chatrelaybot",
}
#: An upgrade may write whole tables anew, and begins with the import of Alembic.
_UPGRADE = {
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "60s",
    "statement_timeout": "0",
}
#: Whoever holds this lock brings the tables up to date.
_UPGRADE_LOCK = 0x63726270

# https://www.postgresql.org/docs/current/errcodes-appendix.html
#: Two processes did the same thing, or waited for each other.
_CONFLICTS = frozenset({"23505", "40001", "40P01", "55P03"})
#: Classes: connection, resources, operator's intervention, system; read-only while it fails over.
_TROUBLE_CLASSES = ("08", "53", "57", "58")
_TROUBLE = frozenset({"25006", "25P03", "XX000"})
#: What libpq says, which has no code, when the server does not let us in; and what the server
#: says of tables that are to be created.
_REFUSALS = {
    "password authentication failed": ("the server refuses the password", "correct it"),
    "no password supplied": ("the server wants a password", "put one into the URL"),
    "does not exist": (
        "the server knows no such database or user",
        "create it, or correct the URL",
    ),
    "no pg_hba.conf entry": (
        "the server does not let this machine in",
        "allow it in pg_hba.conf",
    ),
    "permission denied for database": (
        "its user may not connect to it",
        "grant CONNECT on the database",
    ),
    "no schema has been selected": (
        "it has no schema to create tables in",
        "create one, or correct its search_path",
    ),
    "permission denied": (
        "its user may not create tables there",
        "grant CREATE on the schema, or let its owner start first",
    ),
}
_REFUSAL_CODES = frozenset({None, "3F000", "42501"})


class PostgresServer:
    """A database on a server. Its time is the server's."""

    insert = staticmethod(insert)
    is_shared = True

    def __init__(self, url: URL) -> None:
        """`url` is that of a PostgreSQL database.

        Raises:
            ConfigurationError: The driver is not installed.
        """
        if find_spec("psycopg") is None:
            raise ConfigurationError(
                "DATABASE_URL",
                "PostgreSQL needs psycopg, which is not installed",
                "pip install 'chatrelaybot[postgres]'",
            )
        self._url = url.set(drivername="postgresql+psycopg")

    def __repr__(self) -> str:
        url = self._url  # A password may be in its query as well.
        return f"PostgresServer({url.host or url.query.get('host')}/{url.database})"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Do nothing: it is shared."""
        yield

    def writer(self) -> Engine:
        """Make an engine of one connection, to write with."""
        return self._engine(size=1)

    def readers(self, size: int) -> Engine:
        """Make an engine of up to `size` connections, to read with."""
        # Who reads is not called again, so a connection that broke while it rested must not be met.
        return self._engine(size=size, pool_pre_ping=True)

    def lock(self, connection: Connection) -> None:
        """Wait until no other instance brings the tables up to date."""
        for name, value in _UPGRADE.items():
            connection.execute(text(f"SET LOCAL {name} = '{value}'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))

    def vacuum(self, engine: Engine) -> None:
        """Let PostgreSQL use the room of what was deleted again, and look at how much there is.

        It does not look at texts: from some of them it would keep samples, in `pg_statistic`.
        Bytes of deleted ones stay in unused room of its files, and in its log, until others come
        to stand there. A table that is locked is being cleaned by another instance or the server.
        """
        looked_at = ", ".join(column.name for column in questions.columns if column.name != "text")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"VACUUM (ANALYZE, SKIP_LOCKED) questions ({looked_at})"))
            for table in ("reply_parts", "strays", "instances"):
                connection.execute(text(f"VACUUM (ANALYZE, SKIP_LOCKED) {table}"))

    def is_trouble(self, error: DBAPIError) -> bool:
        """Tell whether the database cannot be reached, as against a statement that is wrong."""
        code = _code(error)
        if code is None:  # The connection broke, or there is none.
            return error.connection_invalidated or isinstance(error, OperationalError)
        return code.startswith(_TROUBLE_CLASSES) or code in _TROUBLE

    def is_conflict(self, error: DBAPIError) -> bool:
        """Tell whether another process was in the way, and the same may go well the next time."""
        return _code(error) in _CONFLICTS

    def unusable(self, error: DBAPIError) -> ConfigurationError | None:
        """Return what a person must mend before the server lets us in."""
        if _code(error) not in _REFUSAL_CODES:
            return None
        words = str(error.orig)
        found = (refusal for sign, refusal in _REFUSALS.items() if sign in words)
        problem, mend = next(found, (None, ""))
        return ConfigurationError("DATABASE_URL", problem, mend) if problem else None

    def _engine(self, *, size: int, pool_pre_ping: bool = False) -> Engine:
        engine = create_engine(
            self._url,
            connect_args=_CONNECTION,
            hide_parameters=True,
            pool_size=size,
            pool_pre_ping=pool_pre_ping,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
        )
        event.listen(engine, "connect", _configure)
        return engine


def _configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # Not in the `options` of the connection, which poolers refuse or drop.
    settings = "; ".join(f"SET {name} = '{value}'" for name, value in _SESSION.items())
    connection.execute(settings)
    connection.commit()


def _code(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code
