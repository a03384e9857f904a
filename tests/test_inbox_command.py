"""`chatrelaybot inbox`: what an operator sees and does, with a daemon at work and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from chatrelaybot import cli_inbox
from chatrelaybot.database import Database
from chatrelaybot.delivery import Counts, Delivery
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.events import Question
from chatrelaybot.inbox import Inbox
from chatrelaybot.inbox_desk import InboxDesk, NotRetried, opened
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, streaming
from tests.conftest import StartBot
from tests.elapsing import elapse
from tests.postgres import PostgresServer
from tests.program import DEADLINE, MODULE, Ended, environment, run
from tests.scripted_backend import Exchange

HOUR = 3600.0
CTRL_C, CTRL_D = "\x03", "\x04"
#: Stands in every question here, and may stand in nothing that is printed.
SECRET = "chrysanthemum"


@pytest.fixture(name="inbox")
def _inbox(database: Database) -> Inbox:
    return Inbox(database=database, owner="daemon", retention_hours=24.0, queue_limit=5)


@pytest.fixture(name="desk")
def _desk(inbox: Inbox, url: str) -> Iterator[InboxDesk]:  # noqa: ARG001 - makes the tables
    """The desk beside it."""
    with opened(url) as desk:
        yield desk


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inbox.sqlite3'}"


def question(number: int, *, thread: str | None = None) -> Question:
    return Question(
        event_id=f"Ev{number}",
        team_id="T1",
        channel=f"C{number}",
        user_id=f"U{number}",
        text=f"{SECRET} {number}",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts=thread,
    )


def follow_up(number: int) -> Question:
    """Return one of several questions of one conversation."""
    return Question(
        event_id=f"Ev{number}",
        team_id="T1",
        channel="C1",
        user_id="U1",
        text=f"{SECRET} {number}",
        ts=f"{1_700_000_000 + number}.000100",
        thread_ts="1.1",
    )


def put(inbox: Inbox, *questions: Question) -> None:
    inbox.enqueue([(question, "00-trace") for question in questions])


def lease_one(inbox: Inbox) -> Delivery:
    (delivery,) = inbox.lease(1)
    return delivery


def bury(inbox: Inbox, *questions: Question, reason: str = "refused") -> None:
    """Bury questions, each after one try that has posted a message."""
    for each in questions:
        put(inbox, each)
        delivery = lease_one(inbox)
        assert delivery.question == each
        inbox.record_post(delivery, 0, "9.9")
        inbox.bury(delivery, reason=reason)


def fill(inbox: Inbox, database: Database) -> list[Question]:
    """Put in one of everything there is, a minute and a half after the other."""

    def pass_time() -> None:
        elapse(database, 90.0)
        inbox.extend([running.lease])

    put(inbox, question(1))
    running = lease_one(inbox)
    pass_time()
    bury(inbox, question(2))
    pass_time()
    put(inbox, question(3))
    inbox.finish(lease_one(inbox), outcome="delivered")
    pass_time()
    put(inbox, question(4))
    inbox.retry(lease_one(inbox), after=200.5)
    put(inbox, follow_up(5))
    put(inbox, follow_up(6))
    pass_time()
    return [question(1), question(2), question(3), question(4), follow_up(5), follow_up(6)]


def texts(database: Database) -> list[str]:
    query = text("SELECT text FROM questions ORDER BY ts")
    return database.read(lambda connection: list(connection.scalars(query)))


class TestTheList:
    def test_shows_what_waits_runs_and_was_buried_the_oldest_first(
        self,
        inbox: Inbox,
        database: Database,
        desk: InboxDesk,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fill(inbox, database)

        cli_inbox.show(desk, limit=100, has_answered=False, is_json=False)

        behind = "after another of its conversation"
        assert capsys.readouterr().out.splitlines() == [
            "ID            STATE    AGE  TRIES  CRASHES  CHANNEL  USER  REASON",
            f"{question(1).id[:12]}  running  6m   1      0        C1       U1",
            f"{question(2).id[:12]}  buried   4m   1      0        C2       U2    refused",
            f"{question(4).id[:12]}  waiting  1m   1      0        C4       U4    next try in 1m",
            f"{follow_up(5).id[:12]}  waiting  1m   0      0        C1       U1",
            f"{follow_up(6).id[:12]}  waiting  1m   0      0        C1       U1    " + behind,
            "3 waiting · 1 running · 1 buried",
        ]

    def test_shows_what_was_answered_where_that_is_asked_for(
        self,
        inbox: Inbox,
        database: Database,
        desk: InboxDesk,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fill(inbox, database)

        cli_inbox.show(desk, limit=100, has_answered=True, is_json=False)

        lines = capsys.readouterr().out.splitlines()
        assert lines[3] == (
            f"{question(3).id[:12]}  answered  3m   1      0        C3       U3    delivered"
        )
        assert lines[-1] == "3 waiting · 1 running · 1 answered · 1 buried"

    def test_as_json_has_one_object_a_line(
        self, inbox: Inbox, desk: InboxDesk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bury(inbox, question(1))
        put(inbox, question(2))

        cli_inbox.show(desk, limit=100, has_answered=False, is_json=True)

        first, second = map(json.loads, capsys.readouterr().out.splitlines())
        for time_of in (first["received_at"], first["finished_at"], second["received_at"]):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_of)
        assert first == {
            "id": question(1).id,
            "state": "buried",
            "received_at": first["received_at"],
            "age_seconds": pytest.approx(0.0, abs=30.0),
            "attempt": 1,
            "crash_count": 0,
            "team_id": "T1",
            "channel": "C1",
            "thread_ts": None,
            "ts": question(1).ts,
            "user_id": "U1",
            "next_try_in_seconds": 0.0,
            "has_turn": False,
            "is_refused": False,
            "outcome": "refused",
            "finished_at": first["finished_at"],
        }
        assert (second["state"], second["outcome"], second["finished_at"]) == (
            "waiting",
            None,
            None,
        )

    @pytest.mark.parametrize("is_json", [False, True])
    def test_shows_no_text(
        self,
        inbox: Inbox,
        database: Database,
        desk: InboxDesk,
        capsys: pytest.CaptureFixture[str],
        is_json: bool,
    ) -> None:
        fill(inbox, database)

        cli_inbox.show(desk, limit=100, has_answered=True, is_json=is_json)

        out, err = capsys.readouterr()
        assert len(out.splitlines()) >= 6
        assert SECRET not in out + err

    def test_says_how_many_it_leaves_out(
        self, inbox: Inbox, desk: InboxDesk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(inbox, *(question(number) for number in range(5)))

        cli_inbox.show(desk, limit=2, has_answered=False, is_json=False)
        _, *rows, left_out, summary = capsys.readouterr().out.splitlines()
        cli_inbox.show(desk, limit=2, has_answered=False, is_json=True)
        out, err = capsys.readouterr()

        assert [row.split()[0] for row in rows] == [question(n).id[:12] for n in range(2)]
        assert left_out == "… 3 more are not shown; a larger --limit shows them"
        assert summary == "5 waiting · 0 running · 0 buried"
        assert [json.loads(line)["id"] for line in out.splitlines()] == [
            question(n).id for n in range(2)
        ]
        assert err == "chatrelaybot: 3 more are not shown; a larger --limit shows them\n"

    def test_tells_a_refused_question_from_others(
        self, inbox: Inbox, desk: InboxDesk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(inbox, *(question(number) for number in range(6)))

        cli_inbox.show(desk, limit=100, has_answered=False, is_json=False)

        assert "U5    too many waited when it came" in capsys.readouterr().out

    def test_of_an_empty_inbox_is_its_summary(
        self, desk: InboxDesk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cli_inbox.show(desk, limit=100, has_answered=False, is_json=False)

        assert capsys.readouterr().out == "0 waiting · 0 running · 0 buried\n"


class TestARetry:
    def test_makes_a_buried_question_new_but_for_its_reply(
        self, inbox: Inbox, desk: InboxDesk
    ) -> None:
        bury(inbox, question(1))

        assert desk.retry(question(1).id[:12]) == question(1).id

        delivery = lease_one(inbox)
        assert delivery.question == question(1)
        assert (delivery.attempt, delivery.crash_count) == (1, 0)
        assert [(part.part, part.ts) for part in delivery.parts] == [(0, "9.9")]
        inbox.finish(delivery, outcome="delivered")
        assert inbox.counts() == Counts(waiting=0, running=0, dead=0)

    def test_answers_also_one_that_was_buried_because_too_many_waited(
        self, inbox: Inbox, desk: InboxDesk
    ) -> None:
        put(inbox, *(question(number) for number in range(6)))
        refused = lease_one(inbox)
        assert refused.is_refused
        inbox.bury(refused, reason="busy")

        desk.retry(refused.question.id)

        again = {delivery.question.id: delivery for delivery in inbox.lease(10)}
        assert not again[refused.question.id].is_refused

    def test_gives_a_question_its_place_before_later_ones(
        self, inbox: Inbox, desk: InboxDesk
    ) -> None:
        bury(inbox, follow_up(1))
        put(inbox, follow_up(2), follow_up(3))

        desk.retry(follow_up(1).id)

        for number in (1, 2, 3):
            delivery = lease_one(inbox)
            assert delivery.question == follow_up(number)
            assert inbox.lease(10) == []
            inbox.finish(delivery, outcome="delivered")

    def test_lets_a_later_one_end_that_runs_already(self, inbox: Inbox, desk: InboxDesk) -> None:
        bury(inbox, follow_up(1))
        put(inbox, follow_up(2), follow_up(3))
        running = lease_one(inbox)

        desk.retry(follow_up(1).id)

        assert inbox.lease(10) == []
        inbox.finish(running, outcome="delivered")
        assert lease_one(inbox).question == follow_up(1)

    def test_of_several_keeps_their_order(self, inbox: Inbox, desk: InboxDesk) -> None:
        bury(inbox, follow_up(1), follow_up(2))

        desk.retry(follow_up(2).id)
        desk.retry(follow_up(1).id)

        first = lease_one(inbox)
        assert first.question == follow_up(1)
        inbox.finish(first, outcome="delivered")
        assert lease_one(inbox).question == follow_up(2)

    def test_makes_one_due_that_waits_for_its_next_try(self, inbox: Inbox, desk: InboxDesk) -> None:
        put(inbox, question(1))
        inbox.retry(lease_one(inbox), after=HOUR)
        assert inbox.lease(1) == []

        desk.retry(question(1).id)

        assert lease_one(inbox).attempt == 2

    def test_of_what_runs_is_refused(self, inbox: Inbox, desk: InboxDesk) -> None:
        put(inbox, question(1))
        delivery = lease_one(inbox)

        with pytest.raises(NotRetried, match=f"{question(1).id} is being answered"):
            desk.retry(question(1).id[:4])

        inbox.finish(delivery, outcome="delivered")

    def test_of_what_was_answered_is_refused(self, inbox: Inbox, desk: InboxDesk) -> None:
        put(inbox, question(1))
        inbox.finish(lease_one(inbox), outcome="delivered")

        with pytest.raises(NotRetried, match=f"{question(1).id} was answered"):
            desk.retry(question(1).id)

    @pytest.mark.parametrize(
        ("prefix", "words"),
        [
            ("0000", "no question has an id that begins with 0000"),
            ("abc", "at least 4 characters"),
            ("%%%%", "only letters and digits"),
            ("____", "only letters and digits"),
        ],
    )
    def test_of_what_is_not_there_is_refused(
        self, inbox: Inbox, desk: InboxDesk, prefix: str, words: str
    ) -> None:
        bury(inbox, question(1))

        with pytest.raises(NotRetried, match=words):
            desk.retry(prefix)

    def test_of_a_beginning_of_several_names_them(
        self, inbox: Inbox, database: Database, desk: InboxDesk
    ) -> None:
        bury(inbox, question(1), question(2))
        alike = text("UPDATE questions SET id = 'cafe' || substr(id, 5) WHERE id IN (:a, :b)")
        pair = {"a": question(1).id, "b": question(2).id}
        database.write(lambda connection: connection.execute(text("DELETE FROM reply_parts")))
        database.write(lambda connection: connection.execute(alike, pair))

        with pytest.raises(NotRetried) as refused:
            desk.retry("CAFE")

        first, second = sorted(f"cafe{each.id[4:]}" for each in (question(1), question(2)))
        assert str(refused.value) == f"several ids begin with cafe: {first}, {second}"
        assert inbox.counts().dead == 2


class TestAPurge:
    def test_deletes_what_was_buried_and_nothing_else(
        self, inbox: Inbox, database: Database, desk: InboxDesk
    ) -> None:
        fill(inbox, database)

        assert desk.purge() == 1

        assert texts(database) == [f"{SECRET} 1", "", *(f"{SECRET} {n}" for n in (4, 5, 6))]
        assert inbox.counts() == Counts(waiting=3, running=1, dead=0)

    def test_can_be_of_what_was_buried_long_ago(
        self, inbox: Inbox, database: Database, desk: InboxDesk
    ) -> None:
        bury(inbox, question(1))
        elapse(database, 2 * HOUR)
        bury(inbox, question(2))

        assert desk.count_buried(older_than=HOUR) == 1
        assert desk.purge(older_than=HOUR) == 1

        assert texts(database) == [f"{SECRET} 2"]

    def test_deletes_more_than_fit_one_transaction(
        self, inbox: Inbox, database: Database, desk: InboxDesk
    ) -> None:
        copy = text(
            "INSERT INTO questions (id, event_id, team_id, channel, ts, conversation, user_id, "
            "text, is_direct, traceparent, received_at, state, finished_at) "
            "SELECT id || :n, event_id || :n, team_id, channel || :n, ts, conversation || :n, "
            "user_id, text, is_direct, traceparent, received_at, state, finished_at "
            "FROM questions WHERE id = :id"
        )
        bury(inbox, question(1))
        rows = [{"n": str(number), "id": question(1).id} for number in range(500)]
        database.write(lambda connection: connection.execute(copy, rows))

        assert desk.purge() == 501

    def test_leaves_a_question_alone_that_is_tried_again(
        self, inbox: Inbox, database: Database, desk: InboxDesk
    ) -> None:
        bury(inbox, question(1))
        desk.retry(question(1).id)

        assert desk.purge() == 0
        assert texts(database) == [f"{SECRET} 1"]


class TestADatabase:
    def test_that_does_not_exist_is_not_made(self, tmp_path: Path) -> None:
        with (
            pytest.raises(TransientError, match=f"no inbox yet: {tmp_path}/none.sqlite3 does"),
            opened(f"sqlite:///{tmp_path}/none.sqlite3"),
        ):
            pass

        assert list(tmp_path.iterdir()) == []

    def test_without_tables_holds_no_inbox_yet(self, postgres: PostgresServer) -> None:
        url = postgres.create_database()

        with pytest.raises(TransientError, match="there is no inbox yet"), opened(url):
            pass

        with closing(Database(url=url)) as database:
            database.open()  # Nothing was left in its way.

    @pytest.mark.parametrize("version", ["0001", "9999"])
    def test_of_another_version_is_refused_and_left_as_it_is(
        self, database: Database, url: str, version: str
    ) -> None:
        other = text("UPDATE alembic_version SET version_num = :version")
        database.write(lambda connection: connection.execute(other, {"version": version}))

        with (
            pytest.raises(ConfigurationError, match=f"database is at version {version}, this"),
            opened(url),
        ):
            pass

        known = text("SELECT version_num FROM alembic_version")
        assert database.read(lambda connection: connection.scalar(known)) == version

    def test_from_before_there_were_migrations_is_refused(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/old.sqlite3"
        with closing(Database(url=url)) as database:
            database.open()
            rename = text("ALTER TABLE alembic_version RENAME TO schema_version")
            database.write(lambda connection: connection.execute(rename))

        with pytest.raises(ConfigurationError, match="is at version 0001"), opened(url):
            pass

    def test_is_not_taken_from_its_owner(self, desk: InboxDesk, inbox: Inbox) -> None:
        """Both go on, each beside the other."""
        put(inbox, question(1))
        assert desk.list(limit=1).left_out == 0
        put(inbox, question(2))
        assert desk.list(limit=1).left_out == 1


def forbidden(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


class TestTheProgram:
    """The program in a process of its own."""

    def command(self, *arguments: str, directory: Path, url: str) -> Ended:
        return run(["inbox", *arguments], directory, DATABASE_URL=url)

    def test_beside_a_daemon_turns_a_buried_question_into_its_answer_in_the_same_message(
        self,
        start_bot: StartBot,
        workspace: Workspace,
        backend: AnsweringBackend,
        url: str,
        tmp_path: Path,
    ) -> None:
        backend.answer("why?", forbidden)
        start_bot(database_url=url)
        channel = workspace.add_channel()
        ts = workspace.say(channel, f"{workspace.mention} why?")
        workspace.wait_for(
            lambda: ["did not accept" in m.shown for m in workspace.replies(channel, ts)] == [True]
        )
        (failed,) = workspace.replies(channel, ts)
        backend.answer("why?", streaming("Because."))
        listed = self.wait_for_buried(tmp_path, url)

        result = self.command("retry", listed["id"][:12], directory=tmp_path, url=url)

        assert result == Ended(0, f"{listed['id']} will be tried as soon as its turn comes\n", "")
        workspace.wait_for(
            lambda: [m.shown for m in workspace.replies(channel, ts)] == ["Because."]
        )
        (answered,) = workspace.replies(channel, ts)
        assert answered.ts == failed.ts
        keys = [request.header("Idempotency-Key") for request in backend.requests]
        assert len(keys) == 2
        assert keys[0] == keys[1]

    def wait_for_buried(self, directory: Path, url: str) -> dict[str, str]:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            result = self.command("list", "--json", directory=directory, url=url)
            listed: dict[str, str] = json.loads(result.out.splitlines()[0])
            if listed["state"] == "buried":
                return listed
        raise AssertionError(listed)

    def test_works_without_a_daemon(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            bury(Inbox(database=database, owner="gone", retention_hours=1.0), question(1))
            elapse(database, 90.0)

        listed = self.command("list", directory=tmp_path, url=file)
        again = self.command("retry", question(1).id[:12], directory=tmp_path, url=file)
        then = self.command("list", directory=tmp_path, url=file)
        refused = self.command("retry", "0000", directory=tmp_path, url=file)

        assert listed.out.splitlines()[1:] == [
            f"{question(1).id[:12]}  buried  1m   1      0        C1       U1    refused",
            "0 waiting · 0 running · 1 buried",
        ]
        assert again.code == 0
        assert then.out.splitlines()[-1] == "1 waiting · 0 running · 0 buried"
        assert refused == Ended(
            1, "", "chatrelaybot: no question has an id that begins with 0000\n"
        )

    def test_says_that_a_purge_has_left_traces_in_the_file(
        self, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            bury(Inbox(database=database, owner="gone", retention_hours=1.0), question(1))
            with (
                opened(file) as desk,
                closing(sqlite3.connect(tmp_path / "inbox.sqlite3")) as reader,
            ):
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM questions").fetchone()
                assert cli_inbox.purge(desk, hours=0.0, is_sure=True)

        out, err = capsys.readouterr()
        assert out == "1 buried question deleted\n"
        assert err.startswith("chatrelaybot: traces of them may be left for now: ")

    def test_purges_without_a_question_where_nobody_could_answer_it(
        self, file: str, tmp_path: Path
    ) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            bury(
                Inbox(database=database, owner="gone", retention_hours=1.0), *map(question, (1, 2))
            )

        none = self.command("purge", "--older-than", "1", directory=tmp_path, url=file)
        both = self.command("purge", directory=tmp_path, url=file)

        assert none == Ended(0, "0 buried questions deleted\n", "")
        assert both == Ended(0, "2 buried questions deleted\n", "")
        for path in tmp_path.iterdir():
            assert SECRET.encode() not in path.read_bytes()

    @pytest.mark.parametrize(
        ("answer", "arguments", "expected"),
        [
            ("y\n", [], (0, "1 buried question deleted\n", "[y/N] ")),
            ("\n", [], (1, "", "[y/N] Nothing was deleted.\n")),
            (CTRL_D, [], (1, "", "[y/N] Nothing was deleted.\n")),
            (CTRL_C, [], (1, "", "[y/N] \nNothing was deleted.\n")),
            ("", ["--yes"], (0, "1 buried question deleted\n", "")),
            ("", ["--older-than=1"], (0, "0 buried questions deleted\n", "")),
        ],
    )
    def test_on_a_terminal_asks_before_it_purges(
        self,
        file: str,
        tmp_path: Path,
        answer: str,
        arguments: list[str],
        expected: tuple[int, str, str],
    ) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            bury(Inbox(database=database, owner="gone", retention_hours=1.0), question(1))

        result = at_terminal(["inbox", "purge", *arguments], answer, tmp_path, DATABASE_URL=file)

        code, out, err = expected
        asked = "Delete 1 buried question for good? " if err else ""
        assert result == Ended(code, out, f"{asked}{err}")

    def test_that_finds_no_inbox_says_so_and_makes_none(self, file: str, tmp_path: Path) -> None:
        result = self.command("list", directory=tmp_path, url=file)

        assert result == Ended(
            1,
            "",
            f"chatrelaybot: there is no inbox yet: {tmp_path}/inbox.sqlite3 does not exist\n",
        )
        assert list(tmp_path.iterdir()) == []

    def test_shows_no_password_of_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        url = "postgresql+psycopg://bot:hunter2@127.0.0.1:1/inbox"

        result = self.command("list", directory=tmp_path, url=url)

        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("chatrelaybot: the database cannot be reached: ")
        assert result.err.count("\n") == 1
        assert "hunter2" not in result.err

    def test_refuses_what_is_no_inbox_as_a_wrong_configuration(
        self, file: str, tmp_path: Path
    ) -> None:
        (tmp_path / "inbox.sqlite3").write_text("not a database, " * 100)

        result = self.command("list", directory=tmp_path, url=file)

        assert (result.code, result.out) == (78, "")
        assert result.err.startswith("chatrelaybot: DATABASE_URL: ")
        assert result.err.count("\n") == 1

    def test_says_in_one_line_that_the_file_is_locked(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
            bury(Inbox(database=database, owner="gone", retention_hours=1.0), question(1))

            def retry_meanwhile(_: object) -> Ended:
                return self.command("retry", question(1).id, directory=tmp_path, url=file)

            result = database.write(retry_meanwhile)

        assert (result.code, result.out) == (1, "")
        assert result.err == "chatrelaybot: the database cannot be reached: database is locked\n"

    def test_does_not_mind_a_reader_that_has_seen_enough(self, file: str, tmp_path: Path) -> None:
        with closing(Database(url=file)) as database:
            database.open()
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as closed:
            result = subprocess.run(  # noqa: S603 our own program
                [*MODULE, "inbox", "list"],
                cwd=tmp_path,
                env=environment(DATABASE_URL=file),
                stdout=closed,
                stderr=subprocess.PIPE,
                timeout=DEADLINE,
                check=False,
            )

        assert (result.returncode, result.stderr) == (1, b"")

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["burn"],
            ["retry"],
            ["list", "--limit", "0"],
            ["list", "--limit", "many"],
            ["purge", "--older-than", "-1"],
            ["purge", "--older-than", "nan"],
            ["purge", "abcd"],
        ],
    )
    def test_tells_its_usage_where_it_does_not_understand(
        self, arguments: list[str], file: str, tmp_path: Path
    ) -> None:
        result = self.command(*arguments, directory=tmp_path, url=file)

        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("usage: chatrelaybot ")


def at_terminal(arguments: list[str], answer: str, directory: Path, **settings: str) -> Ended:
    """Run the program with somebody at the keyboard, who answers what they are asked."""
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 our own program
        [*MODULE, *arguments],
        cwd=directory,
        env=environment(**settings),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    os.close(terminal)
    try:
        asked = ""
        if answer:
            assert process.stderr is not None
            while not asked.endswith("[y/N] ") and (more := process.stderr.read(1)):
                asked += more
            if answer == CTRL_C:  # It is not the process's own terminal, which would do this.
                process.send_signal(signal.SIGINT)
            else:
                os.write(keyboard, answer.encode())
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        os.close(keyboard)
    return Ended(process.returncode, out, asked + err)
