from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from chatrelaybot.database import Database
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.schema_upgrade import HEAD
from tests.group_commit import together, writes

_T = TypeVar("_T")

#: Longer than any wait here should take; seconds.
DEADLINE = 10.0


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "inbox.db"


@pytest.fixture(name="database")
def _database(file: Path) -> Iterator[Database]:
    database = Database(url=f"sqlite:///{file}")
    database.open()
    database.write(run("CREATE TABLE notes (note TEXT PRIMARY KEY, body TEXT)"))
    yield database
    database.close()


@pytest.fixture(name="callers")
def _callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as callers:
        yield callers


def run(statement: str, **values: object) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text(statement), values)

    return work


def note(value: str) -> Callable[[Connection], None]:
    return run("INSERT INTO notes (note) VALUES (:value)", value=value)


def notes(connection: Connection) -> set[str]:
    return set(connection.scalars(text("SELECT note FROM notes")))


def open_error(file: Path) -> str:
    database = Database(url=f"sqlite:///{file}")
    with pytest.raises(ConfigurationError) as caught:
        database.open()
    assert caught.value.setting == "DATABASE_URL"
    return str(caught.value)


def test_a_write_returns_its_result_after_the_commit(database: Database, file: Path) -> None:
    def work(connection: Connection) -> str:
        note("a")(connection)
        return threading.current_thread().name

    assert database.write(work) == "chatrelaybot-database"

    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT note FROM notes").fetchall() == [("a",)]


def test_a_read_sees_what_was_written_before_it(database: Database) -> None:
    database.write(note("a"))

    assert database.read(notes) == {"a"}


def test_every_commit_is_synced_and_deleted_text_is_overwritten(database: Database) -> None:
    def settings(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return [connection.scalar(text(f"PRAGMA {name}")) for name in names]

    full = 2
    assert database.write(settings) == ["wal", full, 1, 1]


def test_writes_of_many_threads_all_land(database: Database, callers: ThreadPoolExecutor) -> None:
    values = {f"note {n}" for n in range(400)}

    list(callers.map(lambda value: database.write(note(value)), values))

    assert database.read(notes) == values


def test_what_waits_at_the_same_moment_shares_a_transaction(
    database: Database, callers: ThreadPoolExecutor
) -> None:
    def transaction(connection: Connection) -> object:
        return connection.get_transaction()

    futures = together(database, callers, writes(database, [transaction] * 8))

    assert len({future.result(DEADLINE) for future in futures}) == 1


def test_more_than_fit_one_transaction_are_all_done(database: Database) -> None:
    with ThreadPoolExecutor(151) as callers:
        futures = together(database, callers, writes(database, [note(f"{n}") for n in range(150)]))
        for future in futures:
            future.result(DEADLINE)

    assert len(database.read(notes)) == 150


def test_only_the_guilty_one_of_a_group_fails(
    database: Database, callers: ThreadPoolExecutor
) -> None:
    def broken(connection: Connection) -> None:
        note("broken")(connection)
        raise ZeroDivisionError

    first, guilty, last = together(
        database, callers, writes(database, [note("a"), broken, note("b")])
    )

    with pytest.raises(ZeroDivisionError):
        guilty.result(DEADLINE)
    first.result(DEADLINE)
    last.result(DEADLINE)
    assert database.read(notes) == {"a", "b"}
    assert database.is_reachable


def test_an_idle_write_waits_for_no_timer(database: Database) -> None:
    start = time.monotonic()
    for n in range(20):
        database.write(note(f"{n}"))

    assert time.monotonic() - start < 1.0


def test_an_error_shows_no_values(database: Database) -> None:
    insert = "INSERT INTO notes (note, body) VALUES ('a', :body)"
    database.write(run(insert, body="a secret"))

    with pytest.raises(IntegrityError) as caught:
        database.write(run(insert, body="a secret"))

    assert "secret" not in str(caught.value)


def test_a_locked_file_fails_writes_for_as_long_as_it_is_locked(
    database: Database, file: Path
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(TransientError, match="locked") as caught:
            database.write(note("a"))
        elapsed = time.monotonic() - start
        was_reachable = database.is_reachable
        other.execute("ROLLBACK")

    assert isinstance(caught.value.__cause__, OperationalError)
    assert 1.5 < elapsed < 4.0
    database.write(note("later"))
    assert (was_reachable, database.is_reachable) == (False, True)
    assert database.read(notes) == {"later"}


def test_reads_go_on_while_writes_cannot(database: Database, file: Path) -> None:
    database.write(note("a"))

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert database.read(notes) == {"a"}


def test_a_file_locked_for_a_moment_is_waited_for(
    database: Database, file: Path, callers: ThreadPoolExecutor
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        written = callers.submit(database.write, note("a"))
        other.execute("ROLLBACK")
        written.result(DEADLINE)

    assert database.read(notes) == {"a"}


def test_a_full_disk_is_trouble_that_may_pass(database: Database) -> None:
    database.write(run("PRAGMA max_page_count = 1"))

    with pytest.raises(TransientError, match="full"):
        database.write(run("INSERT INTO notes VALUES ('a', zeroblob(1000000))"))

    was_reachable = database.is_reachable
    database.write(note("later"))
    assert (was_reachable, database.is_reachable) == (False, True)
    assert database.read(notes) == {"later"}


def test_a_database_that_is_read_only_is_trouble_that_may_pass(database: Database) -> None:
    database.write(run("PRAGMA query_only = 1"))

    with pytest.raises(TransientError, match="readonly"):
        database.write(note("a"))

    database.write(note("later"))
    assert database.read(notes) == {"later"}


def test_a_closed_database_takes_no_work(database: Database) -> None:
    database.close()

    with pytest.raises(TransientError, match="closed"):
        database.write(note("a"))
    with pytest.raises(TransientError, match="closed"):
        database.read(notes)
    assert not database.is_reachable


def test_a_close_commits_what_waits(
    database: Database, file: Path, callers: ThreadPoolExecutor
) -> None:
    futures = together(database, callers, writes(database, [note("a"), note("b")]))
    database.close()

    assert [future.exception(DEADLINE) for future in futures] == [None, None]
    again = Database(url=f"sqlite:///{file}")
    again.open()
    assert again.read(notes) == {"a", "b"}
    again.close()


def test_a_second_owner_of_a_file_is_refused_until_the_first_has_closed(
    database: Database, file: Path
) -> None:
    assert "another ChatRelayBot is using" in open_error(file)

    database.close()
    second = Database(url=f"sqlite:///{file}")
    second.open()
    assert second.is_reachable
    second.close()


def test_the_file_is_nobody_elses_to_read(database: Database, file: Path) -> None:
    database.write(note("a"))

    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.glob("*.db*")}
    del modes["inbox.db.lock"]
    assert modes == {"inbox.db": 0o600, "inbox.db-wal": 0o600, "inbox.db-shm": 0o600}


def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_text("a recipe for soup\n" * 100)

    assert "is not an SQLite database; name another file" in open_error(file)
    assert file.read_text().startswith("a recipe")


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in open_error(tmp_path / "missing" / "inbox.db")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in open_error(tmp_path)


def test_a_newer_schema_is_refused(database: Database, file: Path) -> None:
    database.write(run("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    assert "is at version 9999" in open_error(file)
    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE alembic_version SET version_num = ?", (HEAD,))
        other.commit()
    database.open()
    assert database.is_reachable


def test_a_file_that_is_locked_at_the_start_is_trouble_that_may_pass(file: Path) -> None:
    database = Database(url=f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match="locked"):
            database.open()

    database.open()
    assert database.is_reachable
    database.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////",
        "sqlite:///file:inbox?mode=memory&uri=true",
        "mysql://user:hunter2@host/inbox",
        "hunter2",
    ],
)
def test_what_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(url=url)

    assert "give sqlite:///FILE" in str(caught.value)
    assert "hunter2" not in str(caught.value)
