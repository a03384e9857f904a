"""The command line, in processes of its own: exit codes, and what is written where."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

import chatrelaybot
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.program import DEADLINE, MODULE, SCRIPT, ended, run, start

TOKENS = {"SLACK_BOT_TOKEN": "xoxb-1-2-abc", "SLACK_APP_TOKEN": "xapp-1-A1-2-abc"}


def without(module: str) -> tuple[str, ...]:
    """Return the program as it runs where a module is not installed."""
    missing = f"import sys; sys.modules[{module!r}] = None"
    return python(f"{missing}; from chatrelaybot.cli import main; sys.exit(main())")


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


@pytest.mark.parametrize("program", [MODULE, SCRIPT])
def test_the_module_and_the_script_are_the_same_program(
    program: Sequence[str], tmp_path: Path
) -> None:
    result = run(["--version"], tmp_path, program=program)

    assert (result.code, result.out) == (0, f"{chatrelaybot.__version__}\n")


def test_without_a_command_the_usage_is_told(tmp_path: Path) -> None:
    result = run([], tmp_path)

    assert result.code == 2
    assert result.err.startswith("usage: chatrelaybot")
    assert "COMMAND" in result.err


def test_help_names_the_commands(tmp_path: Path) -> None:
    result = run(["--help"], tmp_path)

    assert result.code == 0
    for command in ("run", "doctor", "manifest", "playground", "backend", "inbox"):
        assert re.search(rf"^ +{command}\b", result.out, re.MULTILINE)


class TestAWrongConfiguration:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, "SLACK_BOT_TOKEN: it is not set; "),
            ({"LOG_FORMAT": "json"}, "SLACK_BOT_TOKEN: it is not set; "),
            ({**TOKENS, "LOG_FORMAT": "yaml"}, "LOG_FORMAT: “yaml” "),
        ],
    )
    def test_is_told_in_one_line_whatever_the_log_looks_like(
        self, settings: dict[str, str], words: str, tmp_path: Path
    ) -> None:
        result = run(["run"], tmp_path, **settings)

        assert (result.code, result.out) == (78, "")
        assert result.err.startswith(f"chatrelaybot: {words}")
        assert result.err.count("\n") == 1

    def test_may_show_only_when_slack_is_asked(self, workspace: Workspace, tmp_path: Path) -> None:
        workspace.revoke_token()

        result = run(
            ["run"],
            tmp_path,
            SLACK_BOT_TOKEN=workspace.bot_token,
            SLACK_APP_TOKEN=workspace.app_token,
            SLACK_API_URL=workspace.api_url,
            HTTP_PORT="off",
        )

        assert result.code == 78
        assert result.err.splitlines()[-1].startswith("chatrelaybot: SLACK_BOT_TOKEN: ")
        assert "Traceback" not in result.err
        assert workspace.bot_token not in result.err

    def test_keeps_the_playground_from_starting(self, tmp_path: Path) -> None:
        result = run(["playground"], tmp_path, BACKEND_DIALECT="morse")

        assert (result.code, result.out) == (78, "")
        assert result.err.startswith("chatrelaybot: BACKEND_DIALECT: ")
        assert result.err.count("\n") == 1


class TestTheDaemon:
    def test_answers_until_it_is_told_to_stop(
        self, workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
    ) -> None:
        process = start(
            ["run"],
            tmp_path,
            SLACK_BOT_TOKEN=workspace.bot_token,
            SLACK_APP_TOKEN=workspace.app_token,
            SLACK_API_URL=workspace.api_url,
            BACKEND_URL=backend.url,
            HTTP_PORT="off",
        )
        try:
            workspace.wait_for_link(timeout=DEADLINE)
            channel = workspace.add_channel()
            ts = workspace.say(channel, f"{workspace.mention} hello")
            workspace.wait_for(
                lambda: [m.shown for m in workspace.replies(channel, ts)] == ["You asked: hello"]
            )
            process.send_signal(signal.SIGTERM)
        finally:
            process.send_signal(signal.SIGTERM)
            result = ended(process)

        assert (result.code, result.out) == (0, "")
        assert "reply finished" in result.err
        assert "hello" not in result.err

    def test_does_without_what_only_the_playground_needs(self, tmp_path: Path) -> None:
        program = python(
            "import sys; from chatrelaybot.cli import main; code = main(); "
            "print(sorted({'aiohttp', 'rich'} & {*sys.modules})); sys.exit(code)"
        )

        # A file that cannot be opened: that shows only after all of the daemon was loaded.
        missing = f"sqlite:///{tmp_path}/missing/inbox.sqlite3"
        result = run(
            ["run"], tmp_path, program=program, DATABASE_URL=missing, HTTP_PORT="off", **TOKENS
        )

        assert result.out == "[]\n"
        assert result.code == 78


class TestTheSampleBackend:
    def test_serves_until_it_is_told_to_stop(self, tmp_path: Path) -> None:
        process = start(["backend"], tmp_path, PORT="0")
        try:
            url = url_of(process)
            question = urllib.request.Request(  # noqa: S310 loopback
                url,
                b'{"user_id": "U1", "query": "!json hello", "channel_id": "C1"}',
                {"Accept": "text/event-stream", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(question, timeout=DEADLINE) as answer:  # noqa: S310
                body = answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            result = ended(process)

        assert "full_response" in body
        assert result.code == 0

    def test_that_finds_its_port_taken_is_a_wrong_configuration(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            result = run(["backend"], tmp_path, PORT=str(other.getsockname()[1]))

        assert result.code == 78
        assert re.fullmatch(r"chatrelaybot: PORT: port \d+ .+ already in use; .+\n", result.err)


class TestWhatIsNotInstalled:
    @pytest.mark.parametrize(
        ("command", "module"),
        [("playground", "rich"), ("backend", "aiohttp")],
    )
    def test_is_named_together_with_how_to_get_it(
        self, command: str, module: str, tmp_path: Path
    ) -> None:
        result = run([command], tmp_path, program=without(module))

        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(f"chatrelaybot: {module} is not installed; ")
        assert result.err.count("\n") == 1

    def test_is_no_excuse_for_a_module_of_ours(self, tmp_path: Path) -> None:
        result = run(["backend"], tmp_path, program=without("chatrelaybot.playground.sample"))

        assert result.code == 1
        assert "ModuleNotFoundError" in result.err


def url_of(process: subprocess.Popen[str]) -> str:
    """Read where the sample backend listens from its log."""
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/\S+", line)
    assert found, line
    return found.group()
