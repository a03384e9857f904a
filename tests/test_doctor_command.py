"""`chatrelaybot doctor` as a process: its table, JSON, exit codes, and what it keeps quiet."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chatrelaybot.doctor_findings import Finding, Verdict, exit_code, failed, ok, warning
from chatrelaybot.doctor_table import lines
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, streaming
from tests.asking import full_port
from tests.clinic import free_port, good
from tests.program import DEADLINE, MODULE, ended, environment, run, start

QUESTION, ANSWER = "what is the password", "it is swordfish"


def test_a_good_set_up_ends_with_0(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    result = run(["doctor"], tmp_path, **good(workspace, backend.url, tmp_path))

    assert (result.code, result.err) == (0, "")
    assert "✓ bot token    @chatrelaybot in Playground" in result.out
    assert result.out.splitlines()[-1] == "9 ok · 5 skipped"


def test_both_trials_go_well_and_no_secret_and_no_text_is_told(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    backend.answer(QUESTION, streaming(ANSWER))
    settings = good(workspace, backend.url, tmp_path)
    settings["BACKEND_TOKEN"] = "s3cret"
    settings["SLACK_TEST_CHANNEL"] = workspace.add_channel()

    for shape in ([], ["--json"]):
        result = run(["doctor", "--ask", QUESTION, "--send", *shape], tmp_path, **settings)

        assert result.code == 0, result.out
        for secret in (
            QUESTION,
            ANSWER,
            "s3cret",
            workspace.bot_token,
            workspace.app_token,
            "ticket",
        ):
            assert secret not in result.out + result.err


def test_the_question_may_be_left_to_the_doctor(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    result = run(["doctor", "--ask"], tmp_path, **good(workspace, backend.url, tmp_path))

    assert result.code == 0
    assert "✓ answer       1 part of text" in result.out


def test_json_is_one_document_of_a_known_shape(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    settings = good(workspace, backend.url, tmp_path)
    settings["BACKEND_URL"] = f"http://127.0.0.1:{free_port()}/"

    result = run(["doctor", "--json"], tmp_path, **settings)

    document = json.loads(result.out)
    assert (result.code, document["exit_code"], document["ok"]) == (1, 1, False)
    assert [finding["check"] for finding in document["findings"]] == [
        "settings",
        "bot token",
        "scopes",
        "events",
        "app token",
        "link",
        "instances",
        "database",
        "backend",
        "answer",
        "collector",
        "health port",
        "clock",
        "sending",
    ]
    for finding in document["findings"]:
        assert set(finding) == {"check", "verdict", "fact", "mend"}
        assert finding["verdict"] in [*Verdict]
        assert finding["mend"] or finding["verdict"] in ("ok", "skipped")


def test_a_wrong_configuration_ends_with_78_and_still_shows_the_table(tmp_path: Path) -> None:
    result = run(["doctor"], tmp_path, WORKERS="many", HTTP_PORT="off")

    assert (result.code, result.err) == (78, "")
    for name in ("WORKERS", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"):
        assert f"✗ settings     {name}: " in result.out
    assert "✓ database" in result.out


def test_what_stands_in_env_files_is_looked_at_as_well(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    (tmp_path / ".env").write_text(
        f"OTEL_EXPORTER=otlp\nOTEL_EXPORTER_OTLP_ENDPOINT={endpoint}\n", encoding="utf-8"
    )

    result = run(["doctor"], tmp_path, **good(workspace, backend.url, tmp_path))

    assert result.code == 1
    assert f"✗ collector    {endpoint.removeprefix('http://')}: nothing listens" in result.out


def test_a_file_that_cannot_be_read_is_told_in_the_table(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")

    result = run(["doctor"], tmp_path)

    assert (result.code, result.err) == (78, "")
    assert result.out.splitlines()[0].startswith("✗ settings     .env or a credential: ")


def test_a_credential_that_cannot_be_read_is_told_in_the_document(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    (tmp_path / "OTEL_EXPORTER_OTLP_HEADERS").write_bytes(b"\xff")

    result = run(
        ["doctor", "--json"],
        tmp_path,
        CREDENTIALS_DIRECTORY=str(tmp_path),
        **good(workspace, backend.url, tmp_path),
    )

    findings = {each["check"]: each for each in json.loads(result.out)["findings"]}
    assert (result.code, result.err) == (78, "")
    assert (
        "credential OTEL_…: cannot be read (it is not UTF-8 text)" in findings["settings"]["fact"]
    )
    assert findings["collector"]["fact"] == "needs OTEL_… variables that can be read"
    assert findings["backend"]["verdict"] == "ok"


@pytest.mark.parametrize("shape", [[], ["--json"]])
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_the_signs_gets_others(
    tmp_path: Path, encoding: str, shape: list[str]
) -> None:
    result = run(["doctor", *shape], tmp_path, PYTHONIOENCODING=encoding, HTTP_PORT="off")

    assert (result.code, result.err) == (78, "")
    if shape:
        assert json.loads(result.out)["exit_code"] == 78
    else:
        assert "x settings     SLACK_BOT_TOKEN: it is not set" in result.out
        assert "> set it to the Slack app's xoxb-... token" in result.out
        assert result.out.isascii()


def test_a_narrow_terminal_gets_shorter_lines(tmp_path: Path) -> None:
    result = run(["doctor"], tmp_path, COLUMNS="60", HTTP_PORT="off")

    assert (
        "nothing was posted; doctor --send posts in\n" + " " * 15 + "SLACK_TEST_CHANNEL"
    ) in result.out


@pytest.mark.parametrize(
    ("prelude", "settings", "words"),
    [
        (
            "sys.modules['opentelemetry.exporter.otlp.proto.grpc'] = None",
            {"OTEL_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "the exporter for grpc is not installed",
        ),
        ("", {"OTEL_EXPORTER": "otlp", "OTEL_PROPAGATORS": "bogus"}, "OTEL_PROPAGATORS: "),
        ("", {"OTEL_EXPORTER": "console", "OTEL_PROPAGATORS": "bogus"}, "OTEL_PROPAGATORS: "),
    ],
)
def test_an_export_that_the_daemon_would_not_start_with_ends_with_78(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    prelude: str,
    settings: dict[str, str],
    words: str,
) -> None:
    code = f"import sys; {prelude}\nfrom chatrelaybot.cli import main; sys.exit(main())"

    result = run(
        ["doctor", "--json"],
        tmp_path,
        program=(sys.executable, "-c", code),
        **{**good(workspace, backend.url, tmp_path), **settings},
    )

    findings = {each["check"]: each for each in json.loads(result.out)["findings"]}
    assert (result.code, result.err) == (78, "")
    assert words in findings["collector"]["fact"]


def test_the_daemon_does_without_the_doctor(tmp_path: Path) -> None:
    code = (
        "import sys; from chatrelaybot.cli import main; code = main(); "
        "print([name for name in sys.modules if 'chatrelaybot.doctor' in name]); sys.exit(code)"
    )
    missing = f"sqlite:///{tmp_path}/missing/inbox.sqlite3"

    result = run(
        ["run"],
        tmp_path,
        program=(sys.executable, "-c", code),
        DATABASE_URL=missing,
        SLACK_BOT_TOKEN="xoxb-1-2-abc",
        SLACK_APP_TOKEN="xapp-1-A1-2-abc",
    )

    assert (result.code, result.out) == (78, "[]\n")


@pytest.mark.parametrize("verdict", [*Verdict])
def test_a_line_fits_a_terminal_of_100_columns(verdict: Verdict) -> None:
    finding = Finding("health port", verdict, "one word after another " * 20, "and so on " * 30)

    shown = [*lines(finding, has_colour=False)]

    assert max(map(len, shown)) <= 100
    assert [line for line in shown if "→" in line]
    assert all(line.startswith(" " * 15) for line in shown[1:])


def test_colour_is_for_the_sign_alone() -> None:
    finding = ok("clock", "as it should be")

    (plain,), (coloured,) = lines(finding, has_colour=False), lines(finding, has_colour=True)

    assert "\x1b" not in plain
    assert coloured == plain.replace("✓", "\x1b[32m✓\x1b[0m")


def test_exit_codes_tell_a_wrong_configuration_from_other_failures() -> None:
    wrong = Finding("a", Verdict.FAILED, "", is_configuration=True)

    assert exit_code([ok("a", "x"), warning("b", "x", "y")]) == 0
    assert exit_code([ok("a", "x"), failed("b", "x", "y")]) == 1
    assert exit_code([wrong, failed("b", "x", "y")]) == 78


def test_a_reader_who_has_seen_enough_is_no_error_to_talk_about(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: S603 our own program
        [*MODULE, "doctor"],
        cwd=tmp_path,
        env=environment(HTTP_PORT="off"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=DEADLINE)

    assert (process.returncode, said) == (1, b"")


def test_ctrl_c_ends_it_without_a_traceback(workspace: Workspace, tmp_path: Path) -> None:
    with full_port() as port:
        settings = good(workspace, f"http://127.0.0.1:{port}/", tmp_path)
        process = start(["doctor"], tmp_path, **{**settings, "BACKEND_CONNECT_SECONDS": "60"})
        assert process.stdout is not None
        # Until it waits for the backend, which takes no connection.
        assert any("database" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        result = ended(process)

    assert (result.code, result.err) == (1, "")
