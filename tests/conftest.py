from __future__ import annotations

import io
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chatrelaybot.daemon import Daemon
from chatrelaybot.database import Database
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.settings import Settings
from chatrelaybot.telemetry_logs import configure_logging
from tests import program
from tests.answering import AnsweringBackend
from tests.clinic import Clinic, SeeDoctor
from tests.desk import Desk
from tests.otlp import Collector
from tests.postgres import PostgresServer

StartBot = Callable[..., Daemon]
StartProgram = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env of the working directory, reaches a test."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in (
        "CREDENTIALS_DIRECTORY",
        "STATE_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, on each engine in turn."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.create_database()
    return f"sqlite:///{tmp_path}/inbox.sqlite3"


@pytest.fixture(name="database")
def _database(url: str) -> Iterator[Database]:
    with closing(Database(url=url)) as database:
        database.open()
        yield database


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that refuses nothing; tests of limits set their own."""
    with Workspace(limits=Limits.none()) as workspace:
        yield workspace


@pytest.fixture(name="backend")
def _backend() -> Iterator[AnsweringBackend]:
    with AnsweringBackend() as backend:
        yield backend


@pytest.fixture(name="start_bot")
def _start_bot(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> Iterator[StartBot]:
    """Return a function that starts the real daemon; its keywords are settings."""
    running: list[Daemon] = []

    def start(**settings: Any) -> Daemon:
        daemon = Daemon(settings_for(workspace, backend.url, tmp_path, **settings))
        running.append(daemon)
        daemon.start()
        workspace.wait_for_link()
        return daemon

    yield start
    for daemon in running:
        daemon.stop()
    left = [thread.name for thread in threading.enumerate() if "chatrelaybot-worker" in thread.name]
    assert not left, left


@pytest.fixture(name="bot")
def _bot(start_bot: StartBot) -> Daemon:
    """The daemon with settings that let tests be quick."""
    return start_bot()


@pytest.fixture(name="collector")
def _collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Where the daemons of this process send telemetry, if they are told to send any, and soon."""
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        yield collector


@pytest.fixture(name="start_program")
def _start_program(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> Iterator[StartProgram]:
    """Return a function that starts the daemon as a process; its keywords are settings."""
    started: list[subprocess.Popen[str]] = []

    def start(*, words: Sequence[str] = program.MODULE, **settings: str) -> subprocess.Popen[str]:
        values = {
            "SLACK_BOT_TOKEN": workspace.bot_token,
            "SLACK_APP_TOKEN": workspace.app_token,
            "SLACK_API_URL": workspace.api_url,
            "BACKEND_URL": backend.url,
            "DATABASE_URL": f"sqlite:///{tmp_path}/inbox.sqlite3",
            "HTTP_PORT": "off",
        }
        started.append(program.start(["run"], tmp_path, program=words, **{**values, **settings}))
        workspace.wait_for_link()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        program.ended(process)


@pytest.fixture(name="log")
def _log() -> Iterator[io.StringIO]:
    """The log as it is written, at its most talkative."""
    root = logging.getLogger()
    handlers, level, log = root.handlers[:], root.level, io.StringIO()
    configure_logging(log_format="json", level="DEBUG", stream=log)
    yield log
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(name="see_doctor")
def _see_doctor(
    workspace: Workspace,
    backend: AnsweringBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SeeDoctor:
    """See what the doctor says of the workspace and the backend; the keywords are settings."""
    return Clinic(workspace, backend.url, tmp_path, monkeypatch).see


@pytest.fixture(name="desk")
def _desk(workspace: Workspace, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(workspace, tmp_path)
    yield desk
    desk.close()


def settings_for(workspace: Workspace, backend: str, directory: Path, **more: Any) -> Settings:
    """Return settings for a daemon in the workspace; `more` wins."""
    values = {
        "slack_bot_token": SecretStr(workspace.bot_token),
        "slack_app_token": SecretStr(workspace.app_token),
        "slack_api_url": workspace.api_url,
        "backend_url": backend,
        "database_url": f"sqlite:///{directory}/inbox.sqlite3",
        "edit_seconds": 0.05,
        "edits_per_minute": 6000,
        "posts_per_minute": 6000,
        "drain_seconds": 5.0,
        "http_port": None,
    }
    return Settings(**{**values, **more})
