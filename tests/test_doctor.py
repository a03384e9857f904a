"""The doctor on set-ups that are broken in one place each: what it finds, and how to mend it."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from chatrelaybot import doctor_link
from chatrelaybot.database import Database
from chatrelaybot.delivery import Enqueued
from chatrelaybot.doctor import Order
from chatrelaybot.doctor_findings import Verdict
from chatrelaybot.events import Question
from chatrelaybot.fleet import Fleet
from chatrelaybot.inbox import Inbox
from chatrelaybot.link_session import Link, Notice, Received
from chatrelaybot.link_socket import Dialer
from chatrelaybot.playground.access import BOT_SCOPES
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.web import Web
from tests.answering import AnsweringBackend
from tests.clinic import FAILED, OK, SKIPPED, WARNING, Clinic, SeeDoctor, free_port, saying
from tests.postgres import PostgresServer
from tests.scripted_backend import DEADLINE, Exchange, ScriptedBackend, head

#: A certificate of localhost that is its own authority, and its key.
_CERTIFICATE = Path(__file__).parent / "certificates" / "loopback.pem"


@pytest.fixture(name="see_doctor")
def _see_doctor(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SeeDoctor:
    return Clinic(workspace, backend.url, tmp_path, monkeypatch).see


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


@contextmanager
def running_bot(*, ready: dict[str, str | None]) -> Iterator[int]:
    """Serve the health of a bot; yield the port."""
    web = Web(
        host="127.0.0.1",
        port=0,
        live=dict,
        ready=lambda: ready,
        metrics=None,
        failed=lambda error: pytest.fail(str(error)),
    )
    web.start()
    with closing(web):
        yield web.port


@contextmanager
def one_reply(reply: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen, and do one thing to who comes and has said something; yield the port."""

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(DEADLINE)
            peer.recv(1 << 16)
            reply(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(DEADLINE)
        done = pool.submit(serve)
        yield listener.getsockname()[1]
        done.result(DEADLINE)


def say_status(status: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(head("Content-Length: 0", status=status))


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


class TestTheDatabase:
    def test_in_a_directory_that_is_not_there(self, see_doctor: SeeDoctor, tmp_path: Path) -> None:
        visit = see_doctor(DATABASE_URL=f"sqlite:///{tmp_path}/none/inbox.sqlite3")

        assert "none does not exist" in visit.of("database").fact
        assert "name a file in a directory that exists" in visit.of("database").mend
        assert visit.code == 78

    @pytest.mark.parametrize(
        ("version", "verdict", "words"),
        [("0001", WARNING, "brings it up to date"), ("9999", FAILED, "ChatRelayBot that made it")],
    )
    def test_of_another_version(
        self, see_doctor: SeeDoctor, tmp_path: Path, version: str, verdict: Verdict, words: str
    ) -> None:
        file = tmp_path / "inbox.sqlite3"
        with closing(Database(url=f"sqlite:///{file}")) as database:
            database.open()
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))

        finding = see_doctor().of("database")

        assert finding.verdict is verdict
        assert version in finding.fact
        assert words in finding.mend

    def test_that_is_none(self, see_doctor: SeeDoctor, tmp_path: Path) -> None:
        (tmp_path / "inbox.sqlite3").write_text("this is no database at all", encoding="utf-8")

        assert "not an SQLite database" in see_doctor().of("database").fact

    def test_is_counted_beside_its_owner(self, see_doctor: SeeDoctor, tmp_path: Path) -> None:
        with closing(Database(url=f"sqlite:///{tmp_path}/inbox.sqlite3")) as database:
            database.open()

            finding = see_doctor().of("database")

        assert finding.verdict is OK
        assert "0 waiting, 0 running, 0 buried" in finding.fact

    def test_on_a_server(self, see_doctor: SeeDoctor, postgres: PostgresServer) -> None:
        empty = see_doctor(DATABASE_URL=postgres.create_database())
        missing = see_doctor(DATABASE_URL=postgres.create_database().replace("?", "x?"))

        assert empty.of("database").verdict is OK
        assert "makes the tables" in empty.of("database").fact
        assert "create it" in missing.of("database").mend


class TestTheBackend:
    def test_that_is_down(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(BACKEND_URL=f"http://127.0.0.1:{free_port()}/ask?key=secret")

        assert visit.of("backend").fact.endswith(": nothing listens there")
        assert visit.of("backend").mend == "start the backend, or correct BACKEND_URL"
        assert "secret" not in visit.table
        assert visit.code == 1

    def test_is_asked_nothing(self, see_doctor: SeeDoctor, backend: AnsweringBackend) -> None:
        see_doctor()

        assert backend.requests == []

    def test_with_a_certificate_that_is_not_trusted(self, see_doctor: SeeDoctor) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_CERTIFICATE)
        with ScriptedBackend(say_status("200 OK"), tls=context) as backend:
            finding = see_doctor(BACKEND_URL=backend.url).of("backend")

        assert finding.verdict is FAILED
        assert "its certificate is not trusted (self-signed" in finding.fact
        assert "REQUESTS_CA_BUNDLE" in finding.mend

    def test_with_a_certificate_of_an_authority_that_is_named(
        self, see_doctor: SeeDoctor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(_CERTIFICATE))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_CERTIFICATE)
        script = saying(b'{"full_response": "x"}', content_type="application/json")
        with ScriptedBackend(script, tls=context) as backend:
            visit = see_doctor(Order(question="?"), BACKEND_URL=backend.url)

        assert visit.of("backend").verdict is visit.of("answer").verdict is OK

    def test_with_a_bundle_of_certificates_that_is_none(
        self, see_doctor: SeeDoctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))

        visit = see_doctor(BACKEND_URL="https://localhost/")

        assert visit.of("backend").fact.startswith("SSL_CERT_FILE: it cannot be read")
        assert visit.code == 78

    def test_that_does_not_speak_tls(self, see_doctor: SeeDoctor) -> None:
        with one_reply(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
            finding = see_doctor(BACKEND_URL=f"https://localhost:{port}/").of("backend")

        assert finding.fact.endswith(": it does not speak TLS")

    def test_that_is_slow_at_the_handshake(self, see_doctor: SeeDoctor) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"https://127.0.0.1:{mute.getsockname()[1]}/"
            finding = see_doctor(BACKEND_URL=url, BACKEND_CONNECT_SECONDS="0.1").of("backend")

        assert finding.fact.endswith(": it does not answer")

    def test_that_resets_the_handshake(self, see_doctor: SeeDoctor) -> None:
        def reset(peer: socket.socket) -> None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with one_reply(reset) as port:
            finding = see_doctor(BACKEND_URL=f"https://localhost:{port}/").of("backend")

        assert finding.fact.endswith(": no connection (Connection reset by peer)")

    def test_on_a_host_that_there_is_none_of(self, see_doctor: SeeDoctor) -> None:
        finding = see_doctor(BACKEND_URL="http://no-such-host.invalid/").of("backend")

        assert finding.fact == "no-such-host.invalid:80: there is no such host"

    def test_whose_path_is_that_of_another_dialect(
        self, see_doctor: SeeDoctor, backend: AnsweringBackend
    ) -> None:
        url = f"http://localhost:{backend.port}/v1/chat/completions"

        finding = see_doctor(BACKEND_URL=url).of("backend")

        assert finding.verdict is WARNING
        assert finding.mend == "set BACKEND_DIALECT=openai, and BACKEND_MODEL"


class TestTheCollector:
    def test_that_is_down(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(
            OTEL_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        )

        assert "nothing listens there" in visit.of("collector").fact
        assert "correct OTEL_EXPORTER_OTLP_ENDPOINT" in visit.of("collector").mend
        assert visit.code == 1

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [("200 OK", OK), ("401 Unauthorized", WARNING), ("404 Not Found", FAILED)],
    )
    def test_is_sent_an_export_of_nothing(
        self, see_doctor: SeeDoctor, status: str, verdict: Verdict
    ) -> None:
        with ScriptedBackend(say_status(status)) as collector:
            url = f"http://127.0.0.1:{collector.port}"
            finding = see_doctor(OTEL_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url).of(
                "collector"
            )
            requests = [(request.line, request.body) for request in collector.requests]

        assert finding.verdict is verdict
        assert requests[0] == ("POST /v1/traces HTTP/1.1", b"")
        assert len(requests) == (3 if verdict is OK else 1)

    def test_of_one_signal_has_a_path_of_its_own(self, see_doctor: SeeDoctor) -> None:
        with ScriptedBackend(say_status("200 OK")) as collector:
            see_doctor(
                OTEL_METRICS_EXPORTER="otlp",
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{collector.port}/in",
            )
            (request,) = collector.requests

        assert request.line == "POST /in HTTP/1.1"

    @pytest.mark.parametrize("url", ["ftp://localhost", "http://", "http://localhost:port"])
    def test_with_an_endpoint_that_is_none(self, see_doctor: SeeDoctor, url: str) -> None:
        finding = see_doctor(OTEL_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url).of("collector")

        assert finding.fact == "the endpoint for traces is no http or https URL"

    def test_over_grpc_is_only_connected_to(self, see_doctor: SeeDoctor) -> None:
        with socket.create_server(("127.0.0.1", 0)) as collector:
            port = collector.getsockname()[1]
            visit = see_doctor(
                OTEL_EXPORTER="otlp",
                OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            )

        assert visit.of("collector").verdict is OK

    def test_in_a_protocol_that_is_not_known(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(OTEL_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="pigeon")

        assert visit.of("collector").fact.startswith("OTEL_EXPORTER_OTLP_PROTOCOL: ")
        assert visit.code == 78


class TestTheHealthPort:
    def test_that_is_free(self, see_doctor: SeeDoctor) -> None:
        finding = see_doctor(HTTP_PORT=str(free_port())).of("health port")

        assert finding.verdict is OK
        assert "the bot does not run here" in finding.fact

    def test_that_another_program_has(self, see_doctor: SeeDoctor) -> None:
        with ScriptedBackend(say_status("200 OK")) as other:
            visit = see_doctor(HTTP_PORT=str(other.port))

        assert "is taken by another program" in visit.of("health port").fact
        assert "give HTTP_PORT another number" in visit.of("health port").mend
        assert visit.code == 78

    def test_of_a_bot_that_is_not_ready(self, see_doctor: SeeDoctor) -> None:
        with running_bot(ready={"link": "down", "database": None}) as port:
            finding = see_doctor(HTTP_PORT=str(port)).of("health port")

        assert finding.verdict is WARNING
        assert "link: down" in finding.fact
        assert "database" not in finding.fact

    def test_at_an_address_that_the_machine_does_not_have(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(HTTP_PORT=str(free_port()), HTTP_HOST="127.0.0.1.invalid")

        assert visit.of("health port").verdict is FAILED


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
