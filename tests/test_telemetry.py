"""What is exported, where to and how, as the operator's variables say; and what is not."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.conftest import StartBot, StartProgram
from tests.otlp import Collector, spans_of
from tests.program import ended, run
from tests.talking import ask, wait_until_shown

TOKENS = {"SLACK_BOT_TOKEN": "xoxb-1-2-abc", "SLACK_APP_TOKEN": "xapp-1-A1-2-abc"}
TRACES, METRICS, LOGS = "/v1/traces", "/v1/metrics", "/v1/logs"


def exported(
    start_bot: StartBot, workspace: Workspace, collector: Collector, **settings: str
) -> set[str]:
    """Return what kinds of things are exported of an answer."""
    bot = start_bot(**settings)
    wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
    bot.stop()
    return {request.path for request in collector.requests}


class TestWhatIsExported:
    @pytest.mark.usefixtures("log")
    @pytest.mark.parametrize(
        ("short", "variables", "paths"),
        [
            ("none", {}, set()),
            ("otlp", {}, {TRACES, METRICS, LOGS}),
            ("otlp", {"OTEL_SDK_DISABLED": "true"}, set()),
            ("otlp", {"OTEL_SDK_DISABLED": "false"}, {TRACES, METRICS, LOGS}),
            ("otlp", {"OTEL_TRACES_EXPORTER": "none"}, {METRICS, LOGS}),
            ("otlp", {"OTEL_METRICS_EXPORTER": "prometheus"}, {TRACES, LOGS}),
            ("none", {"OTEL_TRACES_EXPORTER": "otlp"}, {TRACES}),
            ("none", {"OTEL_METRICS_EXPORTER": "otlp"}, {METRICS}),
            ("console", {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "none"}, {LOGS}),
        ],
    )
    def test_is_what_the_variables_say_and_the_standard_ones_win(
        self,
        start_bot: StartBot,
        workspace: Workspace,
        collector: Collector,
        monkeypatch: pytest.MonkeyPatch,
        short: str,
        variables: dict[str, str],
        paths: set[str],
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        assert exported(start_bot, workspace, collector, otel_exporter=short) == paths

    def test_goes_to_the_standard_output_for_who_has_no_collector(
        self, start_program: StartProgram, workspace: Workspace
    ) -> None:
        process = start_program(OTEL_EXPORTER="console")
        wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
        process.terminate()

        out = ended(process).out
        for name in ("process inbox", "chatrelaybot.questions"):
            assert f'"name": "{name}"' in out
        assert '"body": "reply finished"' in out

    def test_goes_by_http_unless_told_otherwise(
        self, start_bot: StartBot, workspace: Workspace, collector: Collector
    ) -> None:
        exported(start_bot, workspace, collector, otel_exporter="otlp")

        types = {request.headers["content-type"] for request in collector.requests}
        assert types == {"application/x-protobuf"}

    def test_goes_compressed_where_that_is_asked_for(
        self,
        start_bot: StartBot,
        workspace: Workspace,
        collector: Collector,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")

        exported(start_bot, workspace, collector, otel_exporter="otlp")

        assert {request.headers["content-encoding"] for request in collector.requests} == {"gzip"}
        assert collector.named("process inbox")

    def test_goes_by_grpc_where_that_is_asked_for(
        self, start_program: StartProgram, workspace: Workspace
    ) -> None:
        with grpc_receiver() as (url, requests):
            process = start_program(
                OTEL_TRACES_EXPORTER="otlp",
                OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
                OTEL_EXPORTER_OTLP_ENDPOINT=url,
            )
            wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
            process.terminate()
            assert ended(process).code == 0

        names = {span.name for request in requests for span in spans_of(request)}
        assert {"publish inbox", "process inbox", "POST"} <= names


@contextmanager
def grpc_receiver() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A receiver of traces; its address, and what it was sent."""
    requests: list[ExportTraceServiceRequest] = []

    class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(  # noqa: N802 - gRPC's name
            self, request: ExportTraceServiceRequest, _context: object
        ) -> ExportTraceServiceResponse:
            requests.append(request)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    add_receiver = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add_receiver(Receiver(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", requests
    finally:
        server.stop(0).wait()


class TestAWrongVariable:
    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"OTEL_EXPORTER": "jaeger"}, "OTEL_EXPORTER: “jaeger” "),
            (
                {"OTEL_TRACES_EXPORTER": "zipkin"},
                "OTEL_TRACES_EXPORTER: 'zipkin' is not supported; use otlp, console or none",
            ),
            (
                {"OTEL_EXPORTER": "otlp", "OTEL_PROPAGATORS": "tracecontext,pigeon"},
                "OTEL_PROPAGATORS: one of them is unknown; use tracecontext,baggage",
            ),
        ],
    )
    def test_is_named_with_what_mends_it(
        self, tmp_path: Path, variables: dict[str, str], words: str
    ) -> None:
        result = run(["run"], tmp_path, HTTP_PORT="off", **TOKENS, **variables)

        assert result.code == 78
        assert result.err.startswith(f"chatrelaybot: {words}")
        assert result.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "pigeon"),
        ],
    )
    def test_of_the_protocol_is_named_too(
        self, start_bot: StartBot, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)

        with pytest.raises(ConfigurationError) as caught:
            start_bot(otel_exporter="otlp")

        words = f"{name}: {value!r} is not supported; use http/protobuf or grpc"
        assert str(caught.value) == words

    def test_is_one_for_which_something_is_not_installed(self, tmp_path: Path) -> None:
        missing = "opentelemetry.exporter.otlp.proto.grpc"
        code = (
            f"import sys; sys.modules[{missing!r}] = None; "
            "from chatrelaybot.cli import main; sys.exit(main())"
        )

        result = run(
            ["run"],
            tmp_path,
            program=(sys.executable, "-c", code),
            HTTP_PORT="off",
            OTEL_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            **TOKENS,
        )

        assert result.code == 78
        assert result.err == (
            "chatrelaybot: OTEL_EXPORTER_OTLP_PROTOCOL: the exporter for grpc is not installed; "
            "pip install 'chatrelaybot[grpc]', or use http/protobuf\n"
        )


class TestWhereTheVariablesAre:
    def test_the_environment_file_and_credentials_count_too(
        self, start_program: StartProgram, workspace: Workspace, tmp_path: Path
    ) -> None:
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        (credentials / "OTEL_EXPORTER_OTLP_HEADERS").write_text("x-key=from-a-credential\n")
        with Collector() as collector:
            (tmp_path / ".env").write_text(
                "OTEL_TRACES_EXPORTER=otlp\n"
                f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}\n"
                "OTEL_SERVICE_NAME=from-the-file\n"
                "OTEL_RESOURCE_ATTRIBUTES=place=the-file\n"
            )
            process = start_program(
                CREDENTIALS_DIRECTORY=str(credentials),
                OTEL_SERVICE_NAME="from-the-environment",
                OTEL_TRACES_EXPORTER="",  # The same as not set.
            )
            wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
            process.terminate()
            ended(process)

            keys = {request.headers.get("x-key") for request in collector.requests}
            assert keys == {"from-a-credential"}
            resource = collector.named("process inbox")[0].resource
        assert resource["service.name"] == "from-the-environment"
        assert resource["place"] == "the-file"

    @pytest.mark.parametrize(("name", "has_baggage"), [("baggage", True), ("tracecontext", False)])
    def test_the_propagators_are_those_that_are_asked_for(
        self,
        start_program: StartProgram,
        workspace: Workspace,
        backend: AnsweringBackend,
        name: str,
        has_baggage: bool,
    ) -> None:
        """The SDK looks at this variable but once in the life of a process."""
        with Collector() as collector:
            start_program(
                OTEL_TRACES_EXPORTER="otlp",
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_PROPAGATORS=name,
            )
            ask(workspace, "hello")
            (request,) = backend.wait_for_requests(1)

        assert bool(request.header("baggage")) is has_baggage
        assert request.header("traceparent")  # Promised to the backend, whatever they are.


class TestWhatIsOff:
    @pytest.mark.parametrize(
        ("settings", "loaded"),
        [
            ({}, []),
            ({"HTTP_PORT": "0"}, ["prometheus_client", "waitress"]),
            ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, []),
        ],
    )
    def test_is_not_even_imported(
        self,
        start_program: StartProgram,
        workspace: Workspace,
        settings: dict[str, str],
        loaded: list[str],
    ) -> None:
        code = (
            "import json, sys; from chatrelaybot.cli import main; code = main(); "
            "print(json.dumps([*sys.modules])); sys.exit(code)"
        )
        process = start_program(words=(sys.executable, "-c", code), **settings)
        wait_until_shown(workspace, ask(workspace, "hello"), "You asked: hello")
        process.send_signal(signal.SIGTERM)

        result = ended(process)
        assert result.code == 0, result.err
        names = {name.partition(".")[0] for name in json.loads(result.out)}
        dear = {"opentelemetry", "grpc", "google", "prometheus_client", "waitress"}
        assert sorted(names & dear) == loaded
