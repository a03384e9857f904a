"""Brings a database to the tables that this program knows, and refuses one from its future."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)

from chatrelaybot import schema
from chatrelaybot.errors import ConfigurationError, TransientError

#: The newest step in `migrations/versions`.
HEAD = "0002"
#: The table that held the version before there were migrations, and what it was worth.
_OLD_TABLE = "schema_version"
_OLD_REVISION = "0001"

_NEWER_MEND = "install the ChatRelayBot that made it, or name another database"

#: As Alembic makes it.
_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class NoInbox(TransientError):
    """There is no inbox yet."""


class OlderTables(ConfigurationError):
    """The tables are of an earlier version, and the next start brings them up to date."""


def prepare(connection: Connection) -> None:
    """Bring the tables up to date; within the caller's transaction, which has the database alone.

    An empty database gets them at once, as all steps together would make them; a test compares
    the two. Alembic takes as long to import as all else that a start needs.

    Raises:
        ConfigurationError: A later version of this program has made them.
    """
    revision = _revision(connection)
    if revision is None and not inspect(connection).has_table(_OLD_TABLE):
        schema.create(connection)
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=HEAD))
    elif revision != HEAD:
        _upgrade(connection)


def check(connection: Connection) -> None:
    """See that the tables are the ones that this program knows; change nothing.

    Raises:
        ConfigurationError: They are of an earlier or a later version.
        TransientError: There are none.
    """
    revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is None and not inspect(connection).has_table(_OLD_TABLE):
        raise NoInbox("there is no inbox yet: the database has no tables of one")
    found = revision or _OLD_REVISION
    problem = f"the database is at version {found}, this program knows {HEAD}"
    if found < HEAD:
        mend = "start this program's daemon, which brings it up to date"
        raise OlderTables("DATABASE_URL", problem, mend)
    raise ConfigurationError("DATABASE_URL", problem, _NEWER_MEND)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.scalar(select(_version.c.version_num))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "chatrelaybot:migrations")
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    revision = _revision(connection)
    if revision is not None and revision not in known:
        raise ConfigurationError(
            "DATABASE_URL",
            f"the database is at version {revision}, this program knows {HEAD}",
            _NEWER_MEND,
        )
    if inspect(connection).has_table(_OLD_TABLE):
        command.stamp(config, _OLD_REVISION)
        connection.execute(text(f"DROP TABLE {_OLD_TABLE}"))
    command.upgrade(config, "head")
