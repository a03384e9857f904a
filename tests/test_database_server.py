"""The database on a real server: outages, refusals, and other instances that are in the way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ProgrammingError

from chatrelaybot.database import Database
from chatrelaybot.errors import ConfigurationError, TransientError
from tests.group_commit import together, wait_until, writes
from tests.postgres import PostgresServer

#: Longer than any wait here should take; seconds.
DEADLINE = 20.0
#: What is called quick: no timeout of the program is among it; seconds.
AT_ONCE = 1.5


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[PostgresServer]:
    """A server of this module's own, which may be stopped."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(name="open_database")
def _open_database() -> Iterator[Callable[[str], Database]]:
    """Return a function that opens a database, to be closed after the test."""
    with ExitStack() as opened:

        def open_database(url: str) -> Database:
            database = Database(url=url)
            database.open()
            opened.callback(database.close)
            return database

        yield open_database


@pytest.fixture(name="url")
def _url(server: PostgresServer) -> str:
    """A database with a table of two counters."""
    url = server.create_database()
    with raw(url) as connection:
        connection.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        connection.execute("INSERT INTO counters VALUES ('a', 0), ('b', 0)")
    return url


@pytest.fixture(name="callers")
def _callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as callers:
        yield callers


def raw(url: str) -> psycopg.Connection[Any]:
    """Connect as another program would."""
    return psycopg.connect(url.replace("+psycopg", ""))


def changed(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def one(connection: Connection) -> object:
    return connection.scalar(text("SELECT 1"))


def counted(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        statement = "UPDATE counters SET value = value + 1 WHERE name = :name"
        connection.execute(text(statement), {"name": name})

    return work


def counters(connection: Connection) -> dict[str, int]:
    return {row.name: row.value for row in connection.execute(text("SELECT * FROM counters"))}


def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Database(url=url).open()
    assert caught.value.setting == "DATABASE_URL"
    return str(caught.value)


def trouble(act: Callable[[], object]) -> str:
    """Return the words of the trouble that comes at once, as one line of a log has them."""
    start = time.monotonic()
    with pytest.raises(TransientError) as caught:
        act()
    assert time.monotonic() - start < AT_ONCE
    return str(caught.value)


# Outages.


def test_while_the_server_is_away_all_fails_at_once_and_afterwards_all_goes_well(
    server: PostgresServer, url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)
    database.read(one)
    server.stop()
    try:
        words = [
            trouble(act)
            for act in (
                lambda: database.write(one),
                lambda: database.read(one),
                lambda: database.write(one),
                lambda: database.read(one),
                database.vacuum,
            )
        ]
        was_reachable = database.is_reachable
    finally:
        server.start()

    assert all(line.startswith("the database cannot be reached: ") for line in words)
    assert all("\n" not in line and not line.endswith(": ") for line in words)
    database.write(counted("a"))
    assert (was_reachable, database.is_reachable) == (False, True)
    assert database.read(counters) == {"a": 1, "b": 0}


def test_a_restart_that_nobody_noticed_fails_nothing(
    server: PostgresServer, url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)
    database.read(one)
    server.stop()
    server.start()

    assert database.read(counters) == {"a": 0, "b": 0}
    database.write(counted("a"))
    assert database.read(counters) == {"a": 1, "b": 0}
    database.vacuum()


def test_a_write_that_a_restart_breaks_is_done_again(
    server: PostgresServer, url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)
    calls: list[None] = []

    def broken_the_first_time(connection: Connection) -> None:
        counted("a")(connection)
        calls.append(None)
        if len(calls) == 1:
            server.stop()
            server.start()
        counted("b")(connection)

    database.write(broken_the_first_time)

    assert len(calls) == 2
    assert database.read(counters) == {"a": 1, "b": 1}
    assert database.is_reachable


def test_a_wrong_statement_is_not_taken_for_trouble(
    url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)

    def wrong(connection: Connection) -> None:
        connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(ProgrammingError):
        database.write(wrong)
    with pytest.raises(ProgrammingError):
        database.read(wrong)
    assert database.is_reachable


# What is refused at the start.


def test_a_database_that_is_not_there_is_refused(postgres: PostgresServer) -> None:
    words = refusal(changed(postgres.create_database(), database="lost", password="hunter2"))

    assert words == (
        "DATABASE_URL: the server knows no such database or user; create it, or correct the URL"
    )


def test_a_user_that_is_not_there_is_refused(postgres: PostgresServer) -> None:
    words = refusal(changed(postgres.create_database(), username="nobody", password="hunter2"))

    assert "no such database or user; create it" in words


def test_a_user_is_let_in_with_the_right_password_and_with_the_right_to_create_tables(
    server: PostgresServer, url: str, open_database: Callable[[str], Database]
) -> None:
    with raw(url) as connection:
        connection.execute("CREATE ROLE bot LOGIN PASSWORD 'right'")
        found = connection.execute("SHOW hba_file").fetchone()
    assert found is not None
    rules = Path(found[0])
    rules.write_text(f"local all bot scram-sha-256\n{rules.read_text()}")
    server.stop()
    server.start()

    words = refusal(changed(url, username="bot", password="hunter2"))
    assert words == "DATABASE_URL: the server refuses the password; correct it"
    assert "wants a password; put one into the URL" in refusal(changed(url, username="bot"))
    right = changed(url, username="bot", password="right")
    assert "may not create tables there; grant CREATE" in refusal(right)
    with raw(url) as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO bot")
    assert open_database(right).is_reachable


def test_a_user_who_may_not_connect_is_refused(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    with raw(url) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute(f"REVOKE CONNECT ON DATABASE {make_url(url).database} FROM PUBLIC")

    assert "grant CONNECT on the database" in refusal(changed(url, username="guest"))


def test_a_schema_that_is_not_there_is_refused(url: str) -> None:
    parts = {**make_url(url).query, "options": "-c search_path=nowhere"}

    assert "create one, or correct its search_path" in refusal(changed(url, query=parts))


def test_a_missing_table_is_not_taken_for_a_missing_database(url: str) -> None:
    with raw(url) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")

    with pytest.raises(ProgrammingError, match="does not exist"):
        Database(url=url).open()


def test_a_server_that_is_not_there_is_trouble_that_may_pass(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = changed(postgres.create_database(), query={"host": str(tmp_path)}, password="hunter2")
    database = Database(url=url)

    words = trouble(database.open)

    assert "No such file or directory" in words
    assert "\n" not in words
    assert "hunter2" not in words
    assert not database.is_reachable


# Several instances.


def test_a_server_that_never_answers_is_trouble_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/name"

        with pytest.raises(TransientError, match="timeout expired"):
            Database(url=url).open()


def test_instances_that_find_an_empty_database_at_the_same_moment_all_open_it(
    postgres: PostgresServer, callers: ThreadPoolExecutor
) -> None:
    url = postgres.create_database()
    all_ready = threading.Barrier(4)

    def start(_: int) -> object:
        database = Database(url=url)
        all_ready.wait(DEADLINE)
        database.open()
        try:
            return database.read(
                lambda connection: connection.scalar(text("SELECT count(*) FROM questions"))
            )
        finally:
            database.close()

    assert list(callers.map(start, range(4), timeout=DEADLINE)) == [0] * 4


def test_an_upgrade_waits_for_another_no_longer_than_it_must(
    url: str, callers: ThreadPoolExecutor, open_database: Callable[[str], Database]
) -> None:
    with raw(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(x'63726270'::int)")
        opening = callers.submit(open_database, url)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        with raw(url) as watcher:
            watcher.autocommit = True
            wait_until(lambda: watcher.execute(waiting).fetchone() == (1,))
        assert not opening.done()
        other.rollback()
        assert opening.result(AT_ONCE * 5).is_reachable


def test_an_instance_that_is_paused_in_a_transaction_holds_up_others_for_seconds_only(
    url: str, callers: ThreadPoolExecutor, open_database: Callable[[str], Database]
) -> None:
    paused, other = open_database(url), open_database(url)
    is_paused, go_on = threading.Event(), threading.Event()

    def pause(connection: Connection) -> None:
        counted("a")(connection)
        is_paused.set()
        assert go_on.wait(DEADLINE)

    pausing = callers.submit(paused.write, pause)
    assert is_paused.wait(DEADLINE)
    try:
        other.write(counted("a"))
    finally:
        go_on.set()

    # It was thrown out, so it does its work again.
    pausing.result(DEADLINE)
    assert other.read(counters) == {"a": 2, "b": 0}


def test_a_locked_row_holds_up_only_what_needs_it(
    url: str,
    callers: ThreadPoolExecutor,
    open_database: Callable[[str], Database],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_database(url)
    with raw(url) as other:
        other.execute("SELECT * FROM counters WHERE name = 'a' FOR UPDATE")
        first, stuck, last = together(
            database, callers, writes(database, [counted("b"), counted("a"), counted("b")])
        )
        first.result(DEADLINE)
        last.result(DEADLINE)
        for _ in range(2):
            database.write(counted("b"))
        assert not stuck.done()
        with pytest.raises(TransientError, match="Another process was in the way"):
            stuck.result(DEADLINE)

    assert "database not reachable" not in caplog.messages
    assert database.is_reachable
    assert database.read(counters) == {"a": 0, "b": 4}


def test_a_row_locked_for_a_moment_is_waited_for(
    url: str, callers: ThreadPoolExecutor, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)
    with raw(url) as other:
        other.execute("SELECT * FROM counters WHERE name = 'a' FOR UPDATE")
        written = callers.submit(database.write, counted("a"))
        with raw(url) as watcher:
            watcher.autocommit = True
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: watcher.execute(waiting).fetchone() == (1,))
        other.rollback()
        written.result(DEADLINE)

    assert database.read(counters) == {"a": 1, "b": 0}


def test_a_deadlock_of_two_groups_ends_well_for_both(
    url: str, callers: ThreadPoolExecutor, open_database: Callable[[str], Database]
) -> None:
    crossing = threading.Barrier(2)

    def cross(calls: list[None]) -> Callable[[Connection], None]:
        def work(_: Connection) -> None:
            calls.append(None)
            if len(calls) == 1:  # Each has its first row, and wants the other's.
                crossing.wait(DEADLINE)

        return work

    first, second = open_database(url), open_database(url)
    with ThreadPoolExecutor(8) as others:
        works = [counted("a"), cross([]), counted("b"), counted("b")]
        futures = together(first, callers, writes(first, works))
        works = [counted("b"), cross([]), counted("a"), counted("a")]
        futures += together(second, others, writes(second, works))
        for future in futures:
            future.result(DEADLINE)

    with raw(url) as connection:
        rows = connection.execute("SELECT name, value FROM counters ORDER BY name").fetchall()
    assert rows == [("a", 3), ("b", 3)]


def test_a_cleaning_goes_on_where_another_instance_cleans_too(
    url: str, open_database: Callable[[str], Database]
) -> None:
    database = open_database(url)
    with raw(url) as other:
        other.execute("LOCK TABLE questions IN SHARE UPDATE EXCLUSIVE MODE")

        database.vacuum()


def test_options_of_the_url_are_kept(url: str, open_database: Callable[[str], Database]) -> None:
    parts = {**make_url(url).query, "options": "-c search_path=elsewhere -c lock_timeout=9s"}
    with raw(url) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
    database = open_database(changed(url, query=parts))

    def settings(connection: Connection) -> list[object]:
        return [connection.scalar(text(f"SHOW {name}")) for name in ("search_path", "lock_timeout")]

    assert database.read(settings) == ["elsewhere", "1s"]


# Secrets.


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://bot:hunter2@host/inbox",
        "postgresql://bot@host/inbox?password=hunter2",
        "postgresql://host/inbox?user=bot&sslpassword=hunter2",
    ],
)
def test_a_database_is_shown_without_its_password(url: str) -> None:
    shown = repr(Database(url=url))

    assert "hunter2" not in shown
    assert "host/inbox" in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bot:hunter2@host:port/inbox",
        "postgresql://bot:a@hunter2:b@host/inbox",
        "postgresql://bot:hunter2@[::1/inbox",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    """A password with a special character in it is how one gets there."""
    with pytest.raises(ConfigurationError) as caught:
        Database(url=url)

    assert caught.value.setting == "DATABASE_URL"
    assert "hunter2" not in str(caught.value)
