"""What is left of a question and its answer once they are done with: nothing that can be read."""

from __future__ import annotations

import io
import itertools
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text

from chatrelaybot import cli_inbox
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts
from chatrelaybot.errors import TransientError
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.inbox_desk import InboxDesk
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated, streaming
from tests.conftest import StartBot
from tests.elapsing import elapse
from tests.postgres import PostgresServer
from tests.scripted_backend import Exchange

#: Words of a question and of its answer that stand nowhere else.
ASKED, ANSWERED = "chrysanthemum", "rhododendron"
RETENTION_HOURS = 2.0


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inbox.sqlite3'}"


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def _url(request: pytest.FixtureRequest, file: str) -> str:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.create_database()
    return file


@pytest.fixture(name="beside")
def _beside(start_bot: StartBot, url: str, log: io.StringIO) -> Iterator[Database]:  # noqa: ARG001
    """The database of a running bot, from beside it."""
    start_bot(database_url=url, retention_hours=RETENTION_HOURS)
    with closing(Database(url=url)) as database:
        database.open(as_owner=False)
        yield database


@pytest.fixture(name="inbox")
def _inbox(database: Database) -> Inbox:
    return inbox_in(database)


def inbox_in(database: Database) -> Inbox:
    return Inbox(database=database, owner="test", retention_hours=RETENTION_HOURS)


def question(number: int, *, size: int = 1) -> Question:
    return Question(
        event_id=f"Ev{number}",
        team_id="T1",
        channel=f"C{number}",
        user_id="U1",
        text=f"{ASKED} {number} " * size,
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=None,
    )


def refuse(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def ask(workspace: Workspace, words: str) -> tuple[str, str]:
    channel = workspace.add_channel()
    return channel, workspace.say(channel, f"{workspace.mention} {words}")


def wait_until(workspace: Workspace, database: Database, state: str) -> None:
    """Wait until the only question is in the state."""
    states = text("SELECT state FROM questions")
    workspace.wait_for(
        lambda: database.read(lambda connection: list(connection.scalars(states))) == [state]
    )


def stored(database: Database) -> str:
    """Return what is in every column of every table, PostgreSQL's own included."""

    def dump(connection: Connection) -> str:
        tables = [f'"{name}"' for name in inspect(connection).get_table_names()]
        assert len(tables) > 2
        if connection.dialect.name == "postgresql":
            own = text(
                "SELECT oid::regclass FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = 'pg_catalog'::regnamespace"
            )
            tables += connection.scalars(own)
        rows = (connection.execute(text(f"SELECT * FROM {table}")) for table in tables)  # noqa: S608
        return "\n".join(str(tuple(row)) for table in rows for row in table)

    return database.read(dump)


def files_with(directory: Path, *words: str) -> list[str]:
    """Return the names of files that hold one of the words, in whatever corner of them."""
    return [
        path.name
        for path in directory.iterdir()
        if any(word.encode() in path.read_bytes() for word in words)
    ]


class TestOfAnAnsweredQuestion:
    def test_no_word_is_in_any_column_of_any_table(
        self, beside: Database, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        gated = Gated(ANSWERED)
        backend.answer(ASKED, gated)
        place = ask(workspace, ASKED)
        backend.wait_for_requests(1)
        assert ASKED in stored(beside)  # So it would be found.

        gated.let_all_go()
        wait_until(workspace, beside, "done")

        assert [reply.shown for reply in workspace.replies(*place)] == [ANSWERED]
        dump = stored(beside)
        assert place[0] in dump
        assert ASKED not in dump
        assert ANSWERED not in dump

    def test_no_word_is_in_the_log(
        self,
        beside: Database,
        workspace: Workspace,
        backend: AnsweringBackend,
        log: io.StringIO,
    ) -> None:
        backend.answer(ASKED, streaming(ANSWERED))
        ask(workspace, ASKED)
        wait_until(workspace, beside, "done")

        workspace.wait_for(lambda: "reply finished" in log.getvalue())
        assert ASKED not in log.getvalue()
        assert ANSWERED not in log.getvalue()

    @pytest.mark.parametrize("is_json", [False, True])
    def test_no_word_is_in_the_list(
        self,
        beside: Database,
        workspace: Workspace,
        backend: AnsweringBackend,
        capsys: pytest.CaptureFixture[str],
        is_json: bool,
    ) -> None:
        backend.answer(ASKED, streaming(ANSWERED))
        ask(workspace, ASKED)
        wait_until(workspace, beside, "done")

        desk = InboxDesk(database=beside)
        cli_inbox.show(desk, limit=100, has_answered=True, is_json=is_json)

        out, err = capsys.readouterr()
        assert "answered" in out
        assert ASKED not in out + err
        assert ANSWERED not in out + err

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_a_vacuum_beside_the_bot_leaves_no_word_in_any_file(
        self,
        beside: Database,
        workspace: Workspace,
        backend: AnsweringBackend,
        tmp_path: Path,
    ) -> None:
        backend.answer(ASKED, streaming(ANSWERED))
        ask(workspace, ASKED)
        wait_until(workspace, beside, "done")
        assert files_with(tmp_path, ASKED)  # The log of the file still has it.

        beside.vacuum()

        assert (tmp_path / "inbox.sqlite3-wal").exists()
        assert files_with(tmp_path, ASKED, ANSWERED) == []


class TestOfABuriedQuestion:
    def test_the_text_is_kept_for_another_try_and_not_logged(
        self,
        beside: Database,
        workspace: Workspace,
        backend: AnsweringBackend,
        log: io.StringIO,
    ) -> None:
        backend.answer(ASKED, refuse)
        ask(workspace, ASKED)
        wait_until(workspace, beside, "dead")

        assert ASKED in stored(beside)
        workspace.wait_for(lambda: "reply finished" in log.getvalue())
        assert ASKED not in log.getvalue()

    def test_the_text_goes_with_a_purge(
        self, beside: Database, workspace: Workspace, backend: AnsweringBackend
    ) -> None:
        backend.answer(ASKED, refuse)
        ask(workspace, ASKED)
        wait_until(workspace, beside, "dead")

        desk = InboxDesk(database=beside)
        assert desk.purge() == 1
        desk.clear_away()

        assert ASKED not in stored(beside)

    def test_the_text_goes_with_the_retention(self, database: Database, inbox: Inbox) -> None:
        inbox.enqueue([(question(1), "")])
        inbox.bury(inbox.lease(1)[0], reason="refused")
        elapse(database, RETENTION_HOURS * 3600.0 - 60.0)
        assert inbox.purge() == 0
        assert ASKED in stored(database)

        elapse(database, 120.0)
        assert inbox.purge() == 1

        assert ASKED not in stored(database)


class TestAVacuum:
    def test_keeps_no_samples_of_texts(self, database: Database, inbox: Inbox) -> None:
        """PostgreSQL would, for its planner, and they would outlive the questions."""
        inbox.enqueue([(question(number), "") for number in range(50)])

        database.vacuum()
        for delivery in inbox.lease(50):
            inbox.finish(delivery, outcome="delivered")

        assert ASKED not in stored(database)

    @pytest.mark.parametrize("url", ["postgres"], indirect=True)
    def test_leaves_no_dead_row(self, database: Database, inbox: Inbox) -> None:
        inbox.enqueue([(question(number, size=number), "") for number in range(50)])
        for delivery in inbox.lease(50):
            inbox.finish(delivery, outcome="delivered")

        database.vacuum()

        dead = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'questions'")
        assert database.read(lambda connection: connection.scalar(dead)) == 0

    @pytest.mark.parametrize("seed", range(3))
    def test_leaves_no_word_of_a_crowd_in_any_file(
        self, file: str, tmp_path: Path, seed: int
    ) -> None:
        """Rows of all sizes move between pages, and leave copies that nobody overwrites.

        With these seeds a file that is not written anew keeps some.
        """
        chance = random.Random(seed)
        with closing(Database(url=file)) as database:
            database.open()
            inbox = inbox_in(database)
            numbers, held = itertools.count(1), []
            for _ in range(60):
                new = itertools.islice(numbers, chance.randint(0, 12))
                sizes = (1, 6, 18, 50, 160, 500)
                inbox.enqueue([(question(n, size=chance.choice(sizes)), "") for n in new])
                held += inbox.lease(chance.randint(0, 12))
                chance.shuffle(held)
                for delivery in held[-chance.randint(1, 10) :]:
                    inbox.finish(delivery, outcome="delivered")
                    held.remove(delivery)
            for delivery in [*held, *inbox.lease(1000)]:
                inbox.finish(delivery, outcome="delivered")

            database.vacuum()

            assert inbox.counts() == Counts(waiting=0, running=0, dead=0)
            assert files_with(tmp_path, ASKED) == []

    def test_writes_nothing_where_nothing_was_changed(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            inbox_in(database).enqueue([(question(1), "")])
            file_of = tmp_path / "inbox.sqlite3"

            written = file_of.stat().st_mtime_ns
            database.vacuum()
            rewritten = file_of.stat().st_mtime_ns
            database.vacuum()

            assert written < rewritten
            assert rewritten == file_of.stat().st_mtime_ns

    def test_says_that_the_file_is_locked(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            with closing(sqlite3.connect(tmp_path / "inbox.sqlite3")) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(TransientError, match="database is locked"):
                    database.vacuum()

            database.vacuum()

    def test_that_a_reader_held_up_is_made_up_for(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            inbox = inbox_in(database)
            inbox.enqueue([(question(1), "")])
            with closing(sqlite3.connect(tmp_path / "inbox.sqlite3")) as other:
                other.execute("BEGIN")
                assert other.execute("SELECT count(*) FROM questions").fetchone() == (1,)
                inbox.finish(inbox.lease(1)[0], outcome="delivered")
                with pytest.raises(TransientError, match="somebody is reading"):
                    database.vacuum()
            assert files_with(tmp_path, ASKED)

            database.vacuum()

            assert files_with(tmp_path, ASKED) == []
