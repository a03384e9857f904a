"""How a running bot is, as who asks over HTTP and the service manager are told it."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from chatrelaybot.daemon import Daemon
from chatrelaybot.daemon_health import Health
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.daemon_notify import Notifier
from chatrelaybot.database import Database
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.link import Links
from chatrelaybot.playground.links import Cut
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot, settings_for
from tests.postgres import PostgresServer
from tests.program import run
from tests.service_manager import ServiceManager

DEADLINE = 20.0
OPEN = "apps.connections.open"
UP = "STATUS=link up, 0 answers running"


@pytest.fixture(name="manager")
def _manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        yield manager


@pytest.fixture(name="daemon")
def _daemon(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes a daemon, which is not started."""
    made: list[Daemon] = []

    def make(**settings: Any) -> Daemon:
        made.append(Daemon(settings_for(workspace, backend.url, tmp_path, **settings)))
        return made[-1]

    yield make
    for daemon in made:
        daemon.stop()


def wait_for(predicate: Callable[[], object], timeout: float = DEADLINE) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def ask(bot: Daemon, path: str) -> tuple[int, dict[str, str]]:
    """Return the status and what was looked at."""
    with closing(http.client.HTTPConnection("127.0.0.1", bot.http_port, timeout=5.0)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        checks: dict[str, str] = json.loads(response.read())["checks"]
        return response.status, checks


def is_ready(bot: Daemon) -> bool:
    return ask(bot, "/readyz")[0] == 200


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def ups(heard: list[str]) -> list[str]:
    """Return what was heard of a link that is up; the questions may not be counted yet."""
    return [word for word in heard if word.startswith(UP)]


# --- who asks --------------------------------------------------------------------------------


def test_a_bot_with_a_link_and_a_database_is_ready(start_bot: StartBot) -> None:
    bot = start_bot(http_port=0)

    wait_for(lambda: is_ready(bot))
    assert ask(bot, "/readyz")[1] == {
        "started": "ok",
        "stopping": "ok",
        "link": "ok",
        "database": "ok",
    }
    lively = {"start": "ok", "loops": "ok", "keeper": "ok", "database": "ok"}
    assert ask(bot, "/livez") == (200, lively)


@pytest.mark.parametrize("how", ["close_frame", "fin", "reset"])
def test_a_link_that_ends_is_no_link_at_once(
    start_bot: StartBot, workspace: Workspace, how: Cut
) -> None:
    bot = start_bot(http_port=0)
    wait_for(lambda: is_ready(bot))
    workspace.faults.add(OPEN, status=500, times=None)

    workspace.cut_link(how)

    wait_for(lambda: not is_ready(bot), 1.0)
    assert ask(bot, "/readyz")[1]["link"].startswith("no link to Slack: ")
    assert ask(bot, "/livez")[0] == 200
    workspace.faults.clear()
    wait_for(lambda: is_ready(bot))


def test_a_link_that_is_lost_without_a_word_is_known_within_ten_seconds(
    start_bot: StartBot, workspace: Workspace
) -> None:
    bot = start_bot(http_port=0)
    wait_for(lambda: is_ready(bot))

    workspace.cut_link("silence")

    wait_for(lambda: not is_ready(bot), 10.0)
    assert ask(bot, "/readyz")[1]["link"].startswith("Slack not heard of for ")
    assert ask(bot, "/livez")[0] == 200
    wait_for(lambda: is_ready(bot))


def test_a_database_that_is_locked_makes_it_unready_until_it_is_not(
    start_bot: StartBot, tmp_path: Path
) -> None:
    bot = start_bot(http_port=0)
    wait_for(lambda: is_ready(bot))
    with closing(sqlite3.connect(tmp_path / "inbox.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        wait_for(lambda: not is_ready(bot))
        assert ask(bot, "/readyz")[1]["database"].startswith("database ")
        assert ask(bot, "/livez")[0] == 200
        other.execute("ROLLBACK")

    wait_for(lambda: is_ready(bot))


def test_a_database_that_is_frozen_makes_it_unready_and_nothing_stuck(
    start_bot: StartBot, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    with PostgresServer() as server:
        bot = start_bot(http_port=0, database_url=server.create_database())
        wait_for(lambda: is_ready(bot))

        with server.frozen():
            wait_for(lambda: not is_ready(bot), 10.0)
            assert ask(bot, "/readyz")[1]["database"].startswith("database has not answered")
            assert ask(bot, "/livez")[0] == 200
            count = manager.count("WATCHDOG=1")
            manager.wait_for(lambda heard: heard.count("WATCHDOG=1") > count)

        wait_for(lambda: is_ready(bot))
        bot.stop()


def test_it_is_told_what_the_start_waits_for(
    daemon: Callable[..., Daemon], manager: ServiceManager
) -> None:
    port = unused_port()
    bot = daemon(http_port=0, slack_api_url=f"http://127.0.0.1:{port}/api/")
    thread = threading.Thread(target=bot.start)
    thread.start()

    manager.wait_for(lambda heard: any("STATUS=waiting: slack not reachable" in w for w in heard))
    status, checks = ask(bot, "/readyz")
    assert status == 503
    assert checks["started"].startswith("slack not reachable: ")
    assert checks["link"] == "no link to Slack yet"
    assert ask(bot, "/livez")[0] == 200
    assert "EXTEND_TIMEOUT_USEC=60000000" in manager.heard
    assert "READY=1" not in manager.heard
    bot._on_stop()
    thread.join(DEADLINE)


def test_it_is_told_that_it_stops_while_answers_end(
    daemon: Callable[..., Daemon],
    workspace: Workspace,
    backend: AnsweringBackend,
    manager: ServiceManager,
) -> None:
    bot = daemon(http_port=0, drain_seconds=30.0)
    bot.start()
    manager.wait_for(lambda heard: "READY=1" in heard)
    answer = Gated("first, ", "last")
    backend.answer("slow", answer)
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} slow")
    backend.wait_for_requests(1)
    thread = threading.Thread(target=bot.stop)

    thread.start()

    manager.wait_for(lambda heard: "STOPPING=1" in heard)
    at = manager.heard.index("STOPPING=1")
    manager.wait_for(lambda heard: len(heard) > at + 2)
    assert manager.heard[at + 1 : at + 3] == [
        "STATUS=stopping, 1 answer running",
        "EXTEND_TIMEOUT_USEC=90000000",
    ]
    assert ask(bot, "/readyz")[0] == 503
    assert ask(bot, "/readyz")[1]["stopping"] == "stopping"
    assert ask(bot, "/livez")[0] == 200
    answer.let_all_go()
    thread.join(DEADLINE)
    assert [reply.shown for reply in workspace.replies(channel, ts)] == ["first, last"]
    with pytest.raises(ConnectionRefusedError):
        ask(bot, "/livez")


def test_a_port_that_is_in_use_ends_the_start(daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"^HTTP_PORT: port {port} is in use; "):
            daemon(http_port=port).start()


def test_a_port_that_is_in_use_ends_the_program_as_a_wrong_setting(
    workspace: Workspace, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(
            ["run"],
            tmp_path,
            SLACK_BOT_TOKEN=workspace.bot_token,
            SLACK_APP_TOKEN=workspace.app_token,
            SLACK_API_URL=workspace.api_url,
            HTTP_PORT=port,
        )

    assert ended.code == 78
    assert ended.err.splitlines()[-1].startswith("chatrelaybot: HTTP_PORT: ")
    assert "Traceback" not in ended.err


def test_without_a_port_nothing_is_served_nor_imported(start_bot: StartBot, tmp_path: Path) -> None:
    assert start_bot().http_port is None
    ended = run(
        ["-c", "import sys, chatrelaybot.daemon; print('waitress' in sys.modules)"],
        tmp_path,
        program=[sys.executable],
    )

    assert ended.out == "False\n", ended.err


# --- the service manager ---------------------------------------------------------------------


def test_it_is_ready_once_the_link_is_up_and_not_before(
    daemon: Callable[..., Daemon], workspace: Workspace, manager: ServiceManager
) -> None:
    fault = workspace.faults.add(OPEN, hold="before", times=None)
    bot = daemon()
    bot.start()
    manager.wait_for(lambda heard: any("no link to Slack yet" in word for word in heard))
    assert "READY=1" not in manager.heard

    workspace.faults.remove(fault)

    manager.wait_for(ups)
    assert manager.heard.index("READY=1") < manager.heard.index(ups(manager.heard)[0])
    assert manager.count("READY=1") == 1


def test_a_lost_link_is_told_at_once_and_no_second_start(
    start_bot: StartBot, workspace: Workspace, manager: ServiceManager
) -> None:
    start_bot()
    manager.wait_for(ups)
    workspace.faults.add(OPEN, status=500, times=None)

    workspace.cut_link("reset")

    manager.wait_for(lambda heard: any("no link to Slack: " in word for word in heard), 2.0)
    at = len(manager.heard)
    workspace.faults.clear()
    manager.wait_for(lambda heard: ups(heard[at:]))
    assert manager.count("READY=1") == 1


def test_the_watchdog_is_fed(
    start_bot: StartBot, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    start_bot()

    manager.wait_for(lambda heard: heard.count("WATCHDOG=1") >= 5)
    assert manager.count("READY=1") == 1


def test_the_end_of_a_reload_is_said_again_where_nobody_heard_it(
    start_bot: StartBot, manager: ServiceManager
) -> None:
    """Else the service would be thought to be reloading still."""
    bot = start_bot()
    manager.wait_for(lambda heard: "READY=1" in heard)
    wait_for(lambda: bot._health._is_announced)
    address = Path(manager.address)

    with bot._health.reloading():
        away = address.rename(f"{address}.away")
    away.rename(address)
    bot._health.wake()

    manager.wait_for(lambda heard: heard.count("READY=1") == 2)


def test_a_long_stop_asks_for_time_as_long_as_everything_moves(
    start_bot: StartBot,
    workspace: Workspace,
    backend: AnsweringBackend,
    manager: ServiceManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    slow = Gated("at last")
    backend.answer("slow", slow)
    bot = start_bot(drain_seconds=DEADLINE)
    channel = workspace.add_channel()
    workspace.say(channel, f"{workspace.mention} slow")
    backend.wait_for_requests(1)

    def extensions(heard: list[str]) -> int:
        after = heard[heard.index("STOPPING=1") :] if "STOPPING=1" in heard else []
        return sum(word.startswith("EXTEND_TIMEOUT_USEC=") for word in after)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(bot.stop)
        manager.wait_for(lambda heard: extensions(heard) >= 3)
        slow.let_all_go()
        stopped.result(DEADLINE)


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


def test_a_loop_that_hangs_is_named_with_its_place_and_the_watchdog_is_fed_no_more(
    daemon: Callable[..., Daemon], manager: ServiceManager, caplog: pytest.LogCaptureFixture
) -> None:
    bot = daemon(http_port=0)
    clock = Clock()
    bot._health = health = Health(
        bot._health._settings,
        parts=bot._parts,
        notifier=Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"}),
        failed=print,
        clock=clock,
    )
    bot.start()
    manager.wait_for(lambda heard: "READY=1" in heard)
    hangs, given_back = threading.Event(), threading.Event()

    def wait_for_a_lock() -> None:
        hangs.set()
        given_back.wait()

    loop = Loop("novelty", wait_for_a_lock, failed=print)
    loop.start()
    assert hangs.wait(DEADLINE)
    bot._parts.loops[:] = [loop]  # The others cannot follow a time that runs so fast.

    def let_pass(seconds: float) -> None:
        clock.added += seconds
        health.wake()

    for count in range(1, 8):
        let_pass(10.1)
        manager.wait_for(lambda heard: heard.count("WATCHDOG=1") == count)  # noqa: B023 - waits here
    let_pass(10.1)
    manager.wait_for(lambda heard: any(w.startswith("STATUS=novelty stuck for 6") for w in heard))

    assert manager.count("WATCHDOG=1") == 7
    assert ask(bot, "/livez")[0] == 503
    assert ask(bot, "/livez")[1]["loops"].startswith("novelty stuck for 6")
    wait_for(lambda: "a loop is stuck" in caplog.messages)
    (record,) = [record for record in caplog.records if record.message == "a loop is stuck"]
    assert record.levelno == logging.ERROR
    assert vars(record)["loop"] == "novelty"
    assert " wait_for_a_lock < daemon_loop.py:" in vars(record)["at"]
    given_back.set()
    loop.stop()
    let_pass(10.1)
    manager.wait_for(lambda heard: heard.count("WATCHDOG=1") == 8)
    assert ask(bot, "/livez")[0] == 200


# --- what the facts are made of --------------------------------------------------------------


def test_a_database_says_how_long_its_commit_takes(tmp_path: Path) -> None:
    with closing(Database(url=f"sqlite:///{tmp_path}/busy.sqlite3")) as database:
        database.open()
        assert database.busy_seconds == 0.0
        is_in, gate = threading.Event(), threading.Event()

        def hang(_connection: Connection) -> None:
            is_in.set()
            gate.wait(DEADLINE)

        writer = threading.Thread(target=lambda: database.write(hang))
        writer.start()
        assert is_in.wait(DEADLINE)

        first = database.busy_seconds
        assert 0.0 < first < database.busy_seconds
        gate.set()
        writer.join(DEADLINE)
        wait_for(lambda: database.busy_seconds == 0.0)


def test_links_say_how_long_nobody_has_kept_them() -> None:
    now = 1000.0
    links = Links(open_url=lambda: "", clock=lambda: now)

    assert links.late_seconds == 0.0
    now = 1151.0
    assert links.late_seconds == 151.0


def test_metrics_are_served(start_bot: StartBot) -> None:
    bot = start_bot(http_port=0)
    with closing(http.client.HTTPConnection("127.0.0.1", bot.http_port, timeout=5.0)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()

        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain")
        assert b"chatrelaybot" in response.read()
