"""The doctor on set-ups that are broken in one place each: what it finds, and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from chatrelaybot import doctor_link
from chatrelaybot.database import Database
from chatrelaybot.delivery import Enqueued
from chatrelaybot.doctor_findings import Verdict
from chatrelaybot.events import Question
from chatrelaybot.fleet import Fleet
from chatrelaybot.inbox import Inbox
from chatrelaybot.link_session import Link, Notice, Received
from chatrelaybot.link_socket import Dialer
from chatrelaybot.playground.access import BOT_SCOPES
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.clinic import FAILED, OK, SKIPPED, WARNING, SeeDoctor, free_port, running_bot
from tests.postgres import PostgresServer
from tests.scripted_backend import DEADLINE


@contextmanager
def another_link(workspace: Workspace) -> Iterator[SimpleQueue[Received]]:
    """Have a link to the app, as another process would; yield the envelopes that it gets."""
    _, offer = doctor_link.open_link(workspace.app_token, api_url=workspace.api_url)
    assert offer is not None
    envelopes: SimpleQueue[Received] = SimpleQueue()
    notices: SimpleQueue[Notice] = SimpleQueue()
    link = Link(
        url=offer.url,
        connection=Dialer(timeout=DEADLINE).dial(offer.url),
        deliver=envelopes.put,
        notify=notices.put,
        clock=time.monotonic,
        ping_seconds=DEADLINE,
    )
    with closing(link):
        link.connect()
        notices.get(timeout=DEADLINE)
        yield envelopes


def test_a_good_set_up_is_found_to_be_good(see_doctor: SeeDoctor) -> None:
    visit = see_doctor()

    assert visit.code == 0
    assert visit.having(FAILED) == visit.having(WARNING) == []
    assert visit.having(SKIPPED) == [
        "events",
        "answer",
        "collector",
        "health port",
        "sending",
    ]
    assert "@chatrelaybot in Playground" in visit.of("bot token").fact


def test_the_doctor_leaves_no_link_behind(see_doctor: SeeDoctor, workspace: Workspace) -> None:
    see_doctor()

    workspace.wait_for(lambda: not workspace.open_links)
    assert [call.method for call in workspace.calls] == ["auth.test", "apps.connections.open"]


class TestSettings:
    def test_all_wrong_ones_are_named_and_what_does_not_need_them_is_looked_at(
        self, see_doctor: SeeDoctor
    ) -> None:
        visit = see_doctor(WORKERS="many", DATABASE_URL="mysql://db", REPLY_IN="postcard")

        wrong = [each.fact.partition(":")[0] for each in visit.findings if each.check == "settings"]
        assert sorted(wrong) == ["DATABASE_URL", "REPLY_IN", "WORKERS"]
        assert visit.of("database").verdict is SKIPPED
        assert visit.of("database").fact == "needs DATABASE_URL"
        assert visit.of("link").verdict is OK
        assert visit.code == 78

    def test_swapped_tokens(self, see_doctor: SeeDoctor, workspace: Workspace) -> None:
        visit = see_doctor(SLACK_BOT_TOKEN=workspace.app_token, SLACK_APP_TOKEN=workspace.bot_token)

        finding = visit.of("settings")
        assert "swapped" in finding.fact
        assert "put the xoxb-… token into SLACK_BOT_TOKEN" in finding.mend
        assert {"bot token", "app token", "link", "scopes"} <= {*visit.having(SKIPPED)}
        assert visit.of("backend").verdict is OK
        assert workspace.calls == []
        assert visit.code == 78

    def test_that_cannot_be_read_hide_all_else(self, see_doctor: SeeDoctor, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"\xff")

        visit = see_doctor()

        assert [each.verdict for each in visit.findings] == [FAILED, SKIPPED]
        assert visit.code == 78


class TestTheBotToken:
    @pytest.mark.parametrize("error", ["token_revoked", "account_inactive", "token_expired"])
    def test_that_is_revoked(self, see_doctor: SeeDoctor, workspace: Workspace, error: str) -> None:
        workspace.revoke_token(error=error)

        visit = see_doctor()

        finding = visit.of("bot token")
        assert finding.fact == f"SLACK_BOT_TOKEN: Slack refuses it ({error})"
        assert "install the app in the workspace and copy its token" in finding.mend
        assert visit.of("scopes").verdict is SKIPPED
        assert visit.of("clock").verdict is visit.of("link").verdict is OK
        assert visit.code == 78

    def test_that_belongs_to_another_user_id_than_the_setting_says(
        self, see_doctor: SeeDoctor
    ) -> None:
        finding = see_doctor(SLACK_BOT_USER_ID="U1").of("bot token")

        assert finding.verdict is WARNING
        assert "leave SLACK_BOT_USER_ID empty" in finding.mend

    def test_cannot_be_looked_at_while_slack_does_not_answer(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(SLACK_API_URL=f"http://127.0.0.1:{free_port()}/api/")

        assert "SLACK_API_URL" in visit.of("bot token").mend
        assert visit.of("app token").fact == "needs a Slack that answers"
        assert visit.having(FAILED) == ["bot token"]
        assert visit.code == 1

    def test_may_be_too_busy_to_be_looked_at(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.faults.add("auth.test", retry_after=7)

        assert see_doctor().of("bot token").mend == "try again in 7 s"

    def test_is_looked_at_through_a_proxy_that_answers_in_its_place(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.faults.add("auth.test", status=502)

        finding = see_doctor().of("bot token")

        assert finding.verdict is FAILED
        assert "HTTP 502" in finding.fact


class TestScopes:
    def test_that_are_missing(self, see_doctor: SeeDoctor, workspace: Workspace) -> None:
        workspace.set_scopes(BOT_SCOPES - {"reactions:write", "im:history"})

        visit = see_doctor()

        scopes, events = visit.of("scopes"), visit.of("events")
        assert "no im:history: no direct message arrives" in scopes.fact
        assert "add im:history, reactions:write, and reinstall the app" in scopes.mend
        assert events.fact == "without im:history Slack sends no message.im"
        assert visit.code == 1

    def test_that_the_bot_can_do_without_are_no_failure(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.set_scopes(BOT_SCOPES - {"reactions:write"})

        visit = see_doctor()

        assert visit.of("scopes").verdict is WARNING
        assert "SLACK_BUSY_REACTION=off does without" in visit.of("scopes").fact
        assert visit.code == 0

    def test_that_are_not_needed_are_a_hint(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.set_scopes(BOT_SCOPES | {"users:read"})

        finding = see_doctor(SLACK_BUSY_REACTION="off").of("scopes")

        assert finding.verdict is OK
        assert finding.mend.endswith("taken away: reactions:write, users:read")


class TestEvents:
    def test_that_have_arrived_are_evidence(self, see_doctor: SeeDoctor, tmp_path: Path) -> None:
        ask_in(tmp_path / "inbox.sqlite3", is_direct=False)

        finding = see_doctor().of("events")

        assert finding.verdict is OK
        assert finding.fact.startswith("last mention in a channel ")
        assert finding.fact.endswith("; no direct message in memory")
        assert "add message.im" in finding.mend
        assert "app_mention" not in finding.mend

    def test_that_have_not_arrived_are_looked_up_by_hand(self, see_doctor: SeeDoctor) -> None:
        finding = see_doctor().of("events")

        assert finding.verdict is SKIPPED
        assert "Slack does not tell" in finding.fact
        assert "Event Subscriptions" in finding.mend
        assert finding.mend.endswith("app_mention, message.im, message.mpim")


class TestTheLink:
    def test_with_an_app_token_that_lacks_its_scope(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.set_scopes(["authorizations:read"], which="app")

        visit = see_doctor()

        assert visit.of("app token").fact == "SLACK_APP_TOKEN: it lacks connections:write"
        assert "App-Level Tokens: make one with connections:write" in visit.of("app token").mend
        assert visit.of("link").verdict is visit.of("instances").verdict is SKIPPED
        assert visit.code == 78

    def test_with_an_app_token_that_is_revoked(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.revoke_token(which="app", error="invalid_auth")

        visit = see_doctor()

        assert "invalid_auth" in visit.of("app token").fact
        assert visit.of("bot token").verdict is OK
        assert visit.code == 78

    def test_with_socket_mode_off(self, see_doctor: SeeDoctor, workspace: Workspace) -> None:
        workspace.plan_links(disconnect="link_disabled", says_hello=False)

        visit = see_doctor()

        assert visit.of("link").verdict is FAILED
        assert "Socket Mode: turn it on" in visit.of("link").mend
        assert visit.of("app token").verdict is OK
        assert visit.code == 1

    def test_that_is_refused_with_the_ticket(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.faults.add("apps.connections.open", error="forbidden_team")

        visit = see_doctor()

        assert "forbidden_team" in visit.of("app token").fact
        assert "Socket Mode" in visit.of("app token").mend

    def test_that_is_refused_at_the_handshake(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        workspace.refuse_links(status=409)

        visit = see_doctor()

        assert "409" in visit.of("link").fact
        assert "try again" in visit.of("link").mend

    def test_beside_ten_others(self, see_doctor: SeeDoctor, workspace: Workspace) -> None:
        workspace.plan_links(disconnect="too_many_websockets", says_hello=False)

        assert "stop other processes" in see_doctor().of("link").mend

    def test_takes_no_question_away(self, see_doctor: SeeDoctor) -> None:
        with Workspace(limits=Limits.none(), resume_seconds=0.0, redelivery=(0.0,) * 9) as slack:
            channel = slack.add_channel()
            slack.say(channel, f"{slack.mention} are you there?")

            see_doctor(slack=slack)

            with another_link(slack) as envelopes:
                assert b"are you there?" in envelopes.get(timeout=DEADLINE).text


class TestInstances:
    def test_on_an_sqlite_file_are_one_too_many(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        with another_link(workspace):
            visit = see_doctor()

        finding = visit.of("instances")
        assert (finding.verdict, finding.fact) == (WARNING, "1 other link to the app")
        assert "give all instances one PostgreSQL" in finding.mend
        assert visit.code == 0

    def test_may_be_the_bot_that_runs_here(
        self, see_doctor: SeeDoctor, workspace: Workspace
    ) -> None:
        with another_link(workspace), running_bot(ready={"link": None}) as port:
            visit = see_doctor(HTTP_PORT=str(port))

        assert visit.of("instances").verdict is visit.of("health port").verdict is OK

    @pytest.mark.parametrize(
        ("alive_count", "verdict", "words"),
        [
            (2, OK, "2 other links to the app: instances on one PostgreSQL"),
            (1, WARNING, "2 other links to the app, but instances on this database: 1"),
            (None, SKIPPED, "2 other links to the app; needs the database"),
        ],
    )
    def test_are_compared_with_those_on_a_postgres(
        self, alive_count: int | None, verdict: Verdict, words: str
    ) -> None:
        finding = doctor_link.instances(
            doctor_link.Greeting(connection_count=3),
            is_shared=True,
            alive_count=alive_count,
            runs_here=False,
        )

        assert finding.verdict is verdict
        assert finding.fact.startswith(words)

    def test_are_counted_in_the_database(
        self, see_doctor: SeeDoctor, workspace: Workspace, postgres: PostgresServer
    ) -> None:
        url = postgres.create_database()
        with closing(Database(url=url)) as database, another_link(workspace):
            database.open()
            stranger = see_doctor(DATABASE_URL=url).of("instances")
            Fleet(database=database, owner="another").beat()
            instance = see_doctor(DATABASE_URL=url).of("instances")

        assert stranger.verdict is WARNING
        assert "give it the same DATABASE_URL" in stranger.mend
        assert instance.verdict is OK


class TestTheClock:
    @pytest.mark.parametrize(
        ("ahead", "verdict", "words"),
        [
            (-300.0, FAILED, "s ahead of Slack"),
            (300.0, FAILED, "s behind Slack"),
            (20.0, WARNING, "s behind Slack"),
            (0.0, OK, "within 5 s"),
        ],
    )
    def test_is_compared_with_slacks(
        self, see_doctor: SeeDoctor, ahead: float, verdict: Verdict, words: str
    ) -> None:
        with Workspace(limits=Limits.none(), clock_ahead=ahead) as slack:
            finding = see_doctor(slack=slack).of("clock")

        assert finding.verdict is verdict
        assert words in finding.fact
        assert ("NTP" in finding.mend) is (verdict is not OK)


def ask_in(file: Path, *, is_direct: bool) -> None:
    """Put a question into an inbox."""
    with closing(Database(url=f"sqlite:///{file}")) as database:
        database.open()
        inbox = Inbox(
            database=database,
            owner="test",
            lease_seconds=15.0,
            queue_limit=10,
            retention_hours=24.0,
        )
        question = Question(
            event_id="E1",
            team_id="T1",
            channel="C1",
            user_id="U1",
            text="a question",
            ts="1700000000.000100",
            thread_ts=None,
            is_direct=is_direct,
        )
        assert inbox.enqueue([(question, "")]) == [Enqueued.NEW]
