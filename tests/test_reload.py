"""Settings that are read again while the bot runs."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.settings import Settings
from tests.answering import AnsweringBackend
from tests.conftest import settings_for
from tests.program import MODULE, ended, environment, start
from tests.service_manager import ServiceManager


@pytest.fixture(name="reloaded")
def _reloaded(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """A bot that runs; call it with the settings that it finds when it reads them again."""
    found: list[Settings] = []

    def settings(**more: Any) -> Settings:
        return settings_for(workspace, backend.url, tmp_path, **more)

    bot = Daemon(settings(), reread=lambda: found[-1])
    bot.start()
    workspace.wait_for_link()

    def reload(**more: Any) -> None:
        found.append(settings(**more))
        bot.reload()

    yield reload
    bot.stop()


def shown(workspace: Workspace, channel: str, ts: str) -> list[str]:
    return [reply.shown for reply in workspace.replies(channel, ts)]


def answers(workspace: Workspace, channel: str) -> str:
    """Ask there, and wait for the answer."""
    ts = workspace.say(channel, f"{workspace.mention} hello")
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["You asked: hello"])
    return ts


def test_other_channels_are_answered_at_once(
    reloaded: Callable[..., None], workspace: Workspace, backend: AnsweringBackend
) -> None:
    here, there = workspace.add_channel("here"), workspace.add_channel("there")
    answers(workspace, here)

    reloaded(slack_channel=there)

    ignored = workspace.say(here, f"{workspace.mention} anybody here?")
    answers(workspace, there)
    workspace.wait_for(lambda: workspace.deliveries_of(here, ignored)[0].acks)
    assert shown(workspace, here, ignored) == []
    reloaded()
    answers(workspace, here)
    assert "anybody here?" not in backend.queries


def test_what_waits_for_the_next_start_is_named_without_its_value(
    reloaded: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    more = {"workers": 7, "backend_token": "hush-hush"}

    for _ in range(2):  # It waits still.
        with caplog.at_level(logging.INFO):
            caplog.clear()
            reloaded(**more)

        told, warned = [r for r in caplog.records if r.name == "chatrelaybot.daemon_reload"]
        assert (told.message, vars(told)["changed"]) == ("settings read again", "none")
        assert warned.levelno == logging.WARNING
        assert vars(warned)["changed"] == "BACKEND_TOKEN, WORKERS"
        assert "hush" not in str(vars(warned))


def test_variables_of_opentelemetry_wait_for_the_next_start_too(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("OTEL_SERVICE_NAME=old\nOTEL_EXPORTER_OTLP_HEADERS=x-key=hush\n")
    settings = settings_for(workspace, backend.url, tmp_path)
    bot = Daemon(settings, reread=lambda: settings)
    bot.start()
    workspace.wait_for_link()

    env_file.write_text("OTEL_SERVICE_NAME=new\nOTEL_EXPORTER=otlp\n")
    bot.reload()
    bot.stop()

    warned = [r for r in caplog.records if r.message == "settings wait for the next start"]
    # OTEL_EXPORTER is one of our own, which `reread` reads.
    names = "OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME"
    assert [vars(record)["changed"] for record in warned] == [names]


def test_wrong_settings_change_nothing(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong() -> Settings:
        raise ConfigurationError("WORKERS", "“many” is no number", "write one")

    bot = Daemon(settings_for(workspace, backend.url, tmp_path), reread=wrong)
    bot.start()
    workspace.wait_for_link()

    bot.reload()

    (record,) = [r for r in caplog.records if r.name == "chatrelaybot.daemon_reload"]
    assert (record.levelno, record.message) == (logging.ERROR, "settings not read again")
    assert vars(record)["error"] == "WORKERS: “many” is no number; write one"
    answers(workspace, workspace.add_channel())
    bot.stop()


def test_settings_that_came_from_nowhere_stay(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bot = Daemon(settings_for(workspace, backend.url, tmp_path))

    bot.reload()

    assert caplog.messages == ["these settings cannot be read again"]
    bot.stop()


# --- the program -----------------------------------------------------------------------------


@pytest.fixture(name="manager")
def _manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path) as manager:
        yield manager


@pytest.fixture(name="run")
def _run(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path, manager: ServiceManager
) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / ".env").write_text("LOG_LEVEL=INFO\nWORKERS=3\n")
    process = start(
        ["run"],
        tmp_path,
        SLACK_BOT_TOKEN=workspace.bot_token,
        SLACK_APP_TOKEN=workspace.app_token,
        SLACK_API_URL=workspace.api_url,
        BACKEND_URL=backend.url,
        HTTP_PORT="off",
        LOG_FORMAT="json",
        NOTIFY_SOCKET=manager.address,
    )
    manager.wait_for(lambda heard: "READY=1" in heard)
    yield process
    if process.poll() is None:
        process.kill()
        ended(process)


def hang_up(process: subprocess.Popen[str], manager: ServiceManager) -> None:
    """Send SIGHUP, and wait until the reload is over."""
    before = manager.count("READY=1")
    process.send_signal(signal.SIGHUP)
    manager.wait_for(lambda heard: heard.count("READY=1") > before)


def test_a_hangup_reads_the_settings_again_and_tells_the_service_manager(
    run: subprocess.Popen[str], manager: ServiceManager, tmp_path: Path, workspace: Workspace
) -> None:
    began = time.monotonic()
    (tmp_path / ".env").write_text("LOG_LEVEL=DEBUG\nWORKERS=4\n")
    hang_up(run, manager)
    (tmp_path / ".env").write_text("LOG_LEVEL=LOUD\n")
    hang_up(run, manager)
    answers(workspace, workspace.add_channel())
    run.send_signal(signal.SIGTERM)
    result = ended(run)

    assert result.code == 0
    at = manager.heard.index("RELOADING=1")
    assert manager.heard[at + 2] == "READY=1"
    microseconds = int(manager.heard[at + 1].removeprefix("MONOTONIC_USEC="))
    assert began <= microseconds / 1e6 <= time.monotonic()
    lines = [json.loads(line) for line in result.err.splitlines()]
    told = [line for line in lines if line["logger"] == "chatrelaybot.daemon_reload"]
    assert [(line["message"], line.get("changed")) for line in told] == [
        ("settings read again", "LOG_LEVEL"),
        ("settings wait for the next start", "WORKERS"),
        ("settings not read again", None),
    ]
    assert told[2]["error"].startswith("LOG_LEVEL: “LOUD” ")
    assert [line for line in lines if line["level"] == "DEBUG"]


def test_a_terminal_that_is_closed_stops_it(
    workspace: Workspace, tmp_path: Path, manager: ServiceManager
) -> None:
    """Else it would run on with nobody before it."""
    master, terminal = os.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*MODULE, "run"],
        cwd=tmp_path,
        env=environment(
            SLACK_BOT_TOKEN=workspace.bot_token,
            SLACK_APP_TOKEN=workspace.app_token,
            SLACK_API_URL=workspace.api_url,
            HTTP_PORT="off",
            NOTIFY_SOCKET=manager.address,
        ),
        stdin=terminal,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    os.close(terminal)
    manager.wait_for(lambda heard: "READY=1" in heard)
    hang_up(process, manager)

    os.close(master)
    process.send_signal(signal.SIGHUP)

    result = ended(process)
    assert result.code == 0, result.err
    assert manager.count("RELOADING=1") == 1
