"""The steps that make the tables end, on both engines, at the tables that the program knows."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from chatrelaybot.database import Database
from chatrelaybot.delivery import Enqueued
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.schema import metadata
from chatrelaybot.schema_upgrade import HEAD

#: What the program left in the database before there were migrations.
OLD_QUESTION = Question("Ev1", "T1", "D1", "U1", "Why?", "1.2", None, is_direct=True)
OLD_ROWS = (
    "DROP TABLE alembic_version",
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "INSERT INTO schema_version VALUES (1)",
    """
    INSERT INTO questions
      (id, event_id, team_id, channel, ts, conversation, user_id, text, is_direct, traceparent,
       received_at, has_turn)
    VALUES
      (:id, 'Ev1', 'T1', 'D1', '1.2', :conversation, 'U1', 'Why?', true, '00-trace',
       1700000000.0, true)
    """,
    "INSERT INTO reply_parts VALUES (:id, 0, 1700000000.0, '1.3', NULL)",
)

#: Opens the database, and prints whether that took Alembic.
OPENER = """
import sys
from chatrelaybot.database import Database

database = Database(url=sys.argv[1])
database.open()
database.close()
print("alembic" in sys.modules)
"""

#: Everything that a wrong step could get wrong, as PostgreSQL itself puts it.
SERVER_TABLES = """
SELECT 'column', table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable,
  coalesce(column_default, '') || ' ' || coalesce(collation_name, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'index', tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'storage', relname, array_to_string(reloptions, ' ') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
UNION ALL
SELECT 'statistics', attrelid::regclass::text, attname || ' ' || attstattarget
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'public'::regnamespace AND attstattarget >= 0 AND relkind = 'r' AND attnum > 0
"""
#: The same of a file; the columns of tables are taken one by one.
FILE_INDEXES = "SELECT 'index', tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql <> ''"


@pytest.fixture(name="new_url", params=["sqlite", "postgres"])
def _new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return a function that returns the URL of an empty database, of either kind."""
    if request.param == "postgres":
        create: Callable[[], str] = request.getfixturevalue("postgres").create_database
        return create
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path / f'inbox{next(numbers)}.db'}"


@pytest.fixture(name="url")
def _url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture(name="engine")
def _engine(url: str) -> Engine:
    """What another program sees of the database."""
    return create_engine(url, poolclass=NullPool)


def open_and_close(url: str) -> None:
    database = Database(url=url)
    database.open()
    database.close()


def description(connection: Connection) -> list[tuple[str, ...]]:
    """Return everything about the tables that a step could get wrong."""
    if connection.dialect.name == "postgresql":
        rows = [tuple(row) for row in connection.execute(text(SERVER_TABLES))]
    else:
        rows = [tuple(row) for row in connection.execute(text(FILE_INDEXES))]
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            rows += [("column", table, str(column)) for column in inspector.get_columns(table)]
            rows += [
                ("constraint", table, str(found))
                for found in (
                    inspector.get_pk_constraint(table),
                    *inspector.get_foreign_keys(table),
                    *inspector.get_unique_constraints(table),
                )
            ]
    return sorted(rows)


def alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "chatrelaybot:migrations")
    config.attributes["connection"] = connection
    return config


def make_old(engine: Engine) -> None:
    """Make a database as the program did before there were migrations."""
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        for statement in OLD_ROWS:
            values = {"id": OLD_QUESTION.id, "conversation": OLD_QUESTION.conversation}
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), named)


def revision(engine: Engine) -> object:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


# A new database.


def test_a_new_database_is_as_all_steps_together_would_make_it(
    url: str, engine: Engine, new_url: Callable[[], str]
) -> None:
    open_and_close(url)
    reference = create_engine(new_url(), poolclass=NullPool)
    with reference.begin() as connection:
        command.upgrade(alembic_config(connection), "head")

    with engine.connect() as made, reference.connect() as step_by_step:
        assert description(made) == description(step_by_step)
        assert compare_metadata(MigrationContext.configure(made), metadata) == []


def test_every_index_with_a_condition_is_partial(url: str, engine: Engine) -> None:
    open_and_close(url)

    with engine.connect() as connection:
        made = {row[2] for row in description(connection) if row[0] == "index"}
    for table in metadata.sorted_tables:
        for index in table.indexes:
            (definition,) = (line for line in made if f" INDEX {index.name} ON " in line)
            assert (" WHERE " in definition) == ("where" in index.info)


def test_a_new_database_is_at_the_last_step(url: str, engine: Engine) -> None:
    open_and_close(url)
    with engine.connect() as connection:
        steps = ScriptDirectory.from_config(alembic_config(connection))

    assert steps.get_heads() == [HEAD]
    assert revision(engine) == HEAD


def test_a_database_that_is_opened_again_stays_as_it_is(url: str, engine: Engine) -> None:
    open_and_close(url)
    with engine.connect() as connection:
        before = description(connection)

    open_and_close(url)

    with engine.connect() as connection:
        assert description(connection) == before


def test_alembic_is_imported_only_where_there_is_something_to_do(
    url: str, new_url: Callable[[], str]
) -> None:
    """It takes as long as all the rest of a start."""

    def opens_with_alembic(url: str) -> str:
        command = [sys.executable, "-c", OPENER, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - ours
        return done.stdout.strip()

    old = new_url()
    make_old(create_engine(old, poolclass=NullPool))
    assert [opens_with_alembic(url) for _ in range(2)] == ["False", "False"]
    assert [opens_with_alembic(old) for _ in range(2)] == ["True", "False"]


# An old one.


def test_a_database_from_before_the_steps_is_upgraded_and_keeps_its_questions(
    url: str, engine: Engine, new_url: Callable[[], str]
) -> None:
    make_old(engine)

    database = Database(url=url)
    database.open()
    try:
        inbox = Inbox(database=database, owner="test", retention_hours=1.0)
        assert inbox.enqueue([(OLD_QUESTION, "00-trace")]) == [Enqueued.DUPLICATE]
        (delivery,) = inbox.lease(2)
        inbox.finish(delivery, outcome="delivered")
    finally:
        database.close()

    assert delivery.question == OLD_QUESTION
    assert [(part.part, part.ts) for part in delivery.parts] == [(0, "1.3")]
    assert "schema_version" not in tables(engine)
    assert revision(engine) == HEAD
    other = new_url()
    open_and_close(other)
    new = create_engine(other, poolclass=NullPool)
    with engine.connect() as upgraded, new.connect() as made:
        assert description(upgraded) == description(made)


@pytest.mark.parametrize("step", ["0001"])
def test_a_database_at_an_earlier_step_is_upgraded(url: str, engine: Engine, step: str) -> None:
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), step)

    open_and_close(url)

    assert revision(engine) == HEAD
    assert set(metadata.tables) <= tables(engine)


def test_an_upgrade_that_fails_leaves_everything_as_it_was(url: str, engine: Engine) -> None:
    make_old(engine)
    with engine.begin() as connection:
        # The last table that the steps create is in the way.
        connection.execute(text("CREATE TABLE link_times (note INTEGER)"))
    before = tables(engine)

    with pytest.raises(DBAPIError, match="already exists"):
        open_and_close(url)

    assert tables(engine) == before
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE link_times"))
    open_and_close(url)
    assert revision(engine) == HEAD


def test_a_newer_database_is_refused_and_left_alone(url: str, engine: Engine) -> None:
    open_and_close(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigurationError) as caught:
        open_and_close(url)

    assert str(caught.value) == (
        f"DATABASE_URL: the database is at version 9999, this program knows {HEAD}; "
        "install the ChatRelayBot that made it, or name another database"
    )
    assert revision(engine) == "9999"
