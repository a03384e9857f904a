"""The doctor where the machine, the network or the set-up is odd, and its own faults."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from chatrelaybot import backend_reach, doctor_service, inbox_desk
from chatrelaybot.database import Database
from chatrelaybot.doctor import examine
from chatrelaybot.doctor_findings import Finding, Verdict
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.settings import load_settings
from chatrelaybot.settings_survey import survey
from chatrelaybot.web import Web
from tests.answering import AnsweringBackend
from tests.asking import full_port
from tests.clinic import FAILED, NOTHING_MORE, OK, SKIPPED, SeeDoctor, Visit, saying
from tests.forwarder import CERTIFICATE
from tests.scripted_backend import ScriptedBackend


class TestAFaultOfTheDoctor:
    def test_is_told_without_its_words_and_hides_no_other_check(
        self, see_doctor: SeeDoctor
    ) -> None:
        see_doctor()  # Has set everything.
        surveyed = survey()
        assert surveyed.settings is not None
        odd = surveyed.settings.model_copy(update={"backend_url": "http://[secret"})

        visit = Visit([*examine(replace(surveyed, settings=odd), NOTHING_MORE, {})])

        finding = visit.of("backend")
        assert (finding.verdict, finding.fact) == (FAILED, "this check fell over (ValueError)")
        assert "secret" not in visit.table
        assert visit.having(FAILED) == ["backend"]
        assert visit.of("sending").verdict is SKIPPED


class TestTheInbox:
    def test_in_a_place_that_cannot_be_looked_at(
        self, see_doctor: SeeDoctor, tmp_path: Path
    ) -> None:
        # As it is where a directory may not be searched, and for root as well.
        url = f"sqlite:///{tmp_path}/{'long' * 100}"

        visit = see_doctor(DATABASE_URL=url)

        assert "cannot be looked at (File name too long)" in visit.of("database").fact
        assert visit.code == 78
        with pytest.raises(ConfigurationError, match="cannot be looked at"), inbox_desk.opened(url):
            pass


class TestTheHealthPort:
    @pytest.mark.parametrize(("has_inbox", "verdict"), [(True, OK), (False, FAILED)])
    def test_may_be_that_of_another_bot(
        self, see_doctor: SeeDoctor, tmp_path: Path, has_inbox: bool, verdict: Verdict
    ) -> None:
        with (
            _healthy(started=None, stopping=None) as port,
            closing(Database(url=f"sqlite:///{tmp_path}/inbox.sqlite3")) as database,
        ):
            if has_inbox:
                database.open()
            visit = see_doctor(HTTP_PORT=str(port))

        assert visit.of("health port").verdict is verdict
        if not has_inbox:
            assert "is taken by another ChatRelayBot" in visit.of("health port").fact
            assert visit.code == 78

    def test_of_a_bot_that_starts_may_well_be_ours(self, see_doctor: SeeDoctor) -> None:
        with _healthy(started="waits for Slack", stopping=None) as port:
            visit = see_doctor(HTTP_PORT=str(port))

        assert "is not ready (started: waits for Slack)" in visit.of("health port").fact

    def test_leaves_the_inbox_to_the_next_start(
        self, see_doctor: SeeDoctor, tmp_path: Path
    ) -> None:
        url = f"sqlite:///{tmp_path}/inbox.sqlite3"
        with closing(Database(url=url)) as database:
            database.open()
        with _healthy(started=None, stopping=None) as port:
            assert see_doctor(HTTP_PORT=str(port)).of("health port").verdict is FAILED

        with closing(Database(url=url)) as database:
            database.open()


@contextmanager
def _healthy(**checks: str | None) -> Iterator[int]:
    """Serve the health of a bot; yield the port."""
    web = Web(
        host="127.0.0.1",
        port=0,
        live=dict,
        ready=lambda: checks,
        metrics=None,
        failed=lambda error: pytest.fail(str(error)),
    )
    web.start()
    with closing(web):
        yield web.port


class TestTheWay:
    def test_to_a_host_of_many_addresses_takes_no_longer_than_to_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with full_port() as port:
            address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 8)
            began = time.monotonic()
            with pytest.raises(TransientError, match="it does not answer"):
                backend_reach.reach(f"http://many.example:{port}/", timeout=0.8)
            seconds = time.monotonic() - began

        assert 0.7 < seconds < 1.6

    def test_to_a_host_whose_first_address_is_dead(
        self, monkeypatch: pytest.MonkeyPatch, backend: AnsweringBackend
    ) -> None:
        with full_port() as port:
            addresses = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each))
                for each in (port, backend.port)
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

            assert backend_reach.reach("http://two.example/", timeout=0.4) >= 0.2


class TestTheCollector:
    @pytest.fixture(autouse=True)
    def _no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "OTEL_EXPORTER_OTLP_TIMEOUT"):
            monkeypatch.delenv(name, raising=False)

    @pytest.fixture(name="at")
    def _at(self, see_doctor: SeeDoctor) -> Callable[..., Finding]:
        """Return a function that lets the doctor look for a collector at an address."""

        def at(url: str, **settings: str) -> Finding:
            return see_doctor(OTEL_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url, **settings).of(
                "collector"
            )

        return at

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    @pytest.mark.parametrize("is_named", [True, False])
    def test_of_an_authority_of_its_own(
        self, at: Callable[..., Finding], protocol: str, is_named: bool
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        settings = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        if is_named:
            settings["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(CERTIFICATE)
        with ScriptedBackend(saying(), tls=context) as server:
            finding = at(f"https://localhost:{server.port}", **settings)

        assert finding.verdict is (OK if is_named else FAILED)
        if not is_named:
            assert "its certificate is not trusted (self-signed" in finding.fact
            assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in finding.mend

    def test_behind_a_proxy(
        self, at: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        with ScriptedBackend(saying()) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            finding = at("http://collector.invalid:4318")
            lines = [request.line for request in proxy.requests]

        assert finding.verdict is OK
        assert lines[0] == "POST http://collector.invalid:4318/v1/traces HTTP/1.1"

    def test_behind_a_proxy_is_not_spoken_to_by_grpc(
        self, at: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

        finding = at("http://collector.invalid:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")

        assert finding.verdict is SKIPPED

    def test_with_a_path_that_is_not_ascii(self, at: Callable[..., Finding]) -> None:
        with ScriptedBackend(saying()) as server:
            finding = at(f"http://127.0.0.1:{server.port}/ü")

        assert finding.verdict is OK

    def test_that_swallows_everything_is_waited_for_once(self, at: Callable[..., Finding]) -> None:
        with full_port() as port:
            began = time.monotonic()
            finding = at(f"http://127.0.0.1:{port}")
            seconds = time.monotonic() - began

        assert finding.fact == f"127.0.0.1:{port}: it does not answer"
        assert seconds < 6.0

    def test_is_told_nothing_by_what_is_set_up(
        self, see_doctor: SeeDoctor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        finding = see_doctor(OTEL_EXPORTER="console").of("collector")

        assert finding.verdict is SKIPPED
        assert capfd.readouterr().out == ""
        assert os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") is None


class TestTheService:
    @pytest.fixture(name="facts")
    def _facts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
        """Return a function that looks at settings as the service would meet them."""
        state = tmp_path / "state"
        state.mkdir()
        monkeypatch.setenv("STATE_DIRECTORY", str(state))

        def facts(**settings: str) -> list[str]:
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            found = doctor_service.service(
                load_settings(needs_slack=False), directory=tmp_path, state_directory=state
            )
            return [each.fact for each in found if each.verdict is FAILED]

        return facts

    def test_can_use_what_is_left_as_it_is(
        self, facts: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        (tmp_path / ".env").touch(0o644)

        assert facts() == []

    def test_reads_no_file_that_is_for_root_alone(
        self, facts: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        (tmp_path / ".env").touch(0o600)

        assert facts() == [f"{tmp_path}/.env: the service cannot read it (mode 0600)"]

    @pytest.mark.parametrize(
        ("place", "is_good"),
        [("{}/state/other.db", True), ("{}/other.db", False), ("{}/state/../o.db", False)],
    )
    def test_writes_in_its_own_directory(
        self, facts: Callable[..., list[str]], tmp_path: Path, place: str, is_good: bool
    ) -> None:
        found = facts(DATABASE_URL=f"sqlite:///{place.format(tmp_path)}")

        assert [fact.partition(":")[0] for fact in found] == ([] if is_good else ["DATABASE_URL"])

    def test_may_have_its_inbox_on_a_server(self, facts: Callable[..., list[str]]) -> None:
        assert facts(DATABASE_URL="postgresql+psycopg://u:p@db/bot") == []

    def test_listens_on_no_port_that_needs_rights(self, facts: Callable[..., list[str]]) -> None:
        start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        first = int(start.read_text(encoding="ascii")) if start.exists() else 1024
        if first < 2:
            pytest.skip("here every port is for everybody")

        assert "HTTP_PORT: the service cannot listen on port 1, " in facts(HTTP_PORT="1")[0]
        assert facts(HTTP_PORT=str(max(first, 1024))) == facts(HTTP_PORT="off") == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root sees it with other eyes")
    def test_is_looked_at_where_root_asks_with_its_state_directory(
        self, see_doctor: SeeDoctor, tmp_path: Path
    ) -> None:
        without = see_doctor()
        (tmp_path / ".env").touch(0o600)
        (tmp_path / ".env").chmod(0o600)
        visit = see_doctor(STATE_DIRECTORY=str(tmp_path))

        assert "service" not in [finding.check for finding in without.findings]
        assert "the service cannot read it" in visit.of("service").fact
        assert visit.code == 78
