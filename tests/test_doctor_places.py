"""What the doctor finds at the places that the bot needs beside Slack: each test breaks one."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatrelaybot.database import Database
from chatrelaybot.doctor import Order
from chatrelaybot.doctor_findings import Verdict
from tests.answering import AnsweringBackend
from tests.clinic import FAILED, OK, WARNING, SeeDoctor, free_port, running_bot, saying
from tests.forwarder import CERTIFICATE
from tests.postgres import PostgresServer
from tests.scripted_backend import DEADLINE, Exchange, ScriptedBackend, head


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
        context.load_cert_chain(CERTIFICATE)
        with ScriptedBackend(say_status("200 OK"), tls=context) as backend:
            finding = see_doctor(BACKEND_URL=backend.url).of("backend")

        assert finding.verdict is FAILED
        assert "its certificate is not trusted (self-signed" in finding.fact
        assert "REQUESTS_CA_BUNDLE" in finding.mend

    def test_with_a_certificate_of_an_authority_that_is_named(
        self, see_doctor: SeeDoctor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
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
