from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from tests.answering import AnsweringBackend
from tests.desk import Desk
from tests.postgres import PostgresServer

StartBot = Callable[..., Daemon]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env of the working directory, reaches a test."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "INVOCATION_ID"):
        monkeypatch.delenv(name, raising=False)
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
    }
    return Settings(**{**values, **more})
