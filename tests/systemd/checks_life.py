"""The life of the service under systemd: start, crash, freeze, reload, stop."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.systemd.container import until
from tests.systemd.service import CONFIGURATION, CREDENTIALS, STATE, UNIT, Service
from tests.systemd.talk import ask, shown, wait_for_echo

#: An editor that has not moved for 30 s is given up, and the watchdog takes some more.
HANG_SECONDS = 60.0
ENV = f"{CONFIGURATION}/.env"
HANGER = Path(__file__).with_name("hanger.py")


def kill(service: Service, number: signal.Signals) -> None:
    service.container.run("kill", f"-{number.value}", str(service.pid))


def leaves(service: Service, state: str, seconds: float) -> bool:
    """Tell whether it leaves a state within some seconds."""
    try:
        until("it changes", lambda: service.show("ActiveState") != state, seconds)
    except AssertionError:
        return False
    return True


def test_it_counts_as_started_when_the_link_is_up(service: Service, workspace: Workspace) -> None:
    service.drop_in("impatient", "TimeoutStartSec=3")  # It asks for more.
    workspace.go_down()
    service.systemctl("start", "--no-block", UNIT)
    service.wait_for_log("slack not reachable")

    assert not leaves(service, "activating", 5.0)
    assert "slack not reachable" in service.show("StatusText")
    workspace.come_up()
    until("it is active", service.is_active)
    assert service.show("NRestarts") == "0"
    assert workspace.open_links
    until("its status says so", lambda: "link up" in service.show("StatusText"))


def test_it_answers_and_uses_little(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    began = time.monotonic()
    service.start()
    service.figures["from start to READY"] = f"{time.monotonic() - began:.2f} s"
    service.figures["memory at rest (RSS)"] = f"{int(service.status('VmRSS').split()[0]) >> 10} MiB"
    service.figures["threads at rest"] = service.status("Threads")

    wait_for_echo(workspace, "hello")
    assert service.show("NRestarts") == "0"
    assert backend.queries == ["hello"]
    served = next(json.loads(line) for line in service.log() if "health served" in line)
    with closing(HTTPConnection("127.0.0.1", served["port"], timeout=5.0)) as connection:
        connection.request("GET", "/readyz")
        ready = connection.getresponse()
        assert ready.status == HTTPStatus.OK
        ready.read()
        connection.request("GET", "/metrics")
        # The sandbox hides /proc/stat, and must not take the figures of the process with it.
        assert "process_resident_memory_bytes " in connection.getresponse().read().decode()


def test_a_killed_daemon_is_started_again_and_finishes_its_answer(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    answer = Gated("one ", "two ", "three")
    backend.answer("count", answer)
    service.start()
    channel, ts = ask(workspace, "count")
    answer.let_go()
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["one"])
    (before,) = workspace.replies(channel, ts)

    began = time.monotonic()
    kill(service, signal.SIGKILL)
    until("it is active again", service.restarted)
    service.figures["from kill -9 to READY"] = f"{time.monotonic() - began:.2f} s"
    answer.let_all_go()

    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["one two three"], 30.0)
    (after,) = workspace.replies(channel, ts)
    assert after.ts == before.ts
    assert backend.queries == ["count", "count"]


def test_a_frozen_daemon_is_started_again(service: Service, workspace: Workspace) -> None:
    service.drop_in("watchdog", "WatchdogSec=2")
    service.start()
    kill(service, signal.SIGSTOP)

    until("it is active again", service.restarted)
    assert any("watchdog" in str(entry["MESSAGE"]) for entry in service.entries())
    wait_for_echo(workspace, "hello")


def test_one_hung_thread_is_enough_for_a_new_start(service: Service, workspace: Workspace) -> None:
    service.container.write("/opt/hanger/sitecustomize.py", HANGER.read_text())
    service.drop_in("watchdog", "WatchdogSec=4\nEnvironment=PYTHONPATH=/opt/hanger")
    service.start()
    service.container.write(f"{STATE}/hang", "chatrelaybot-editor")
    service.wait_for_log("hanging chatrelaybot-editor")
    channel, ts = ask(workspace, "hello")

    until("it is active again", service.restarted, HANG_SECONDS)
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["You asked: hello"], 30.0)
    assert service.logged("Fatal Python error: Aborted")  # Where each thread stood.


def test_a_stop_lets_a_running_answer_end(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    answer = Gated("to be ", "continued")
    backend.answer("long", answer)
    service.start()
    channel, ts = ask(workspace, "long")
    answer.let_go()
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["to be"])

    service.systemctl("stop", "--no-block", UNIT)
    until("it stops", lambda: service.show("ActiveState") == "deactivating")
    answer.let_all_go()
    until("it has stopped", lambda: service.show("ActiveState") == "inactive")

    assert service.show("Result") == "success"
    assert shown(workspace, channel, ts) == ["to be continued"]
    assert backend.queries == ["long"]


def test_a_stop_that_waits_for_answers_asks_for_the_time(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    answer = Gated("at ", "last")
    backend.answer("long", answer)
    service.drop_in("impatient", "TimeoutStopSec=2")
    service.start()
    channel, ts = ask(workspace, "long")
    answer.let_go()
    workspace.wait_for(lambda: shown(workspace, channel, ts) == ["at"])

    service.systemctl("stop", "--no-block", UNIT)
    service.wait_for_log("stopping")
    assert not leaves(service, "deactivating", 4.0)
    answer.let_all_go()
    until("it has stopped", lambda: service.show("ActiveState") == "inactive")

    assert service.show("Result") == "success"
    assert shown(workspace, channel, ts) == ["at last"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLACK_BOT_TOKEN", ""),
        ("SLACK_BOT_TOKEN", "xoxb-refused-by-slack"),
        ("SLACK_APP_TOKEN", "xoxb-of-the-wrong-kind"),
    ],
)
def test_a_wrong_token_ends_it_with_one_line(service: Service, name: str, value: str) -> None:
    service.secret(name, value)
    service.systemctl("start", "--no-block", UNIT)
    until("it has failed", lambda: service.show("ActiveState") == "failed")

    (line,) = [line for line in service.log() if name in line]
    assert line.startswith("chatrelaybot: ")
    assert service.show("ExecMainStatus") == "78"
    assert service.show("NRestarts") == "0"
    assert not any(value and value in line for line in service.log())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (CONFIGURATION, "200"),
        ("/opt/chatrelaybot/bin/chatrelaybot", "203"),
    ],
)
def test_what_is_not_there_is_not_tried_for_ever(service: Service, path: str, status: str) -> None:
    service.container.run("mv", path, "/opt/aside")
    try:
        service.systemctl("start", "--no-block", UNIT)
        until("it has failed", lambda: service.show("ActiveState") == "failed")
    finally:
        service.container.run("mv", "/opt/aside", path)

    assert service.show("ExecMainStatus") == status
    assert service.show("NRestarts") == "0"


def test_without_credential_files_the_log_says_what_is_missing(service: Service) -> None:
    service.container.run("rm", "-rf", CREDENTIALS)
    service.systemctl("start", "--no-block", UNIT)
    until("it has failed", lambda: service.show("ActiveState") == "failed")

    assert service.show("ExecMainStatus") == "78"
    assert service.logged("SLACK_BOT_TOKEN")


def test_a_reload_changes_the_log_level_and_the_channels(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    allowed, other = workspace.add_channel("allowed"), workspace.add_channel("other")
    env = service.container.read(ENV)
    service.container.write(ENV, f"{env}LOG_LEVEL=WARNING\n")
    service.start()
    pid = service.pid
    assert not service.log()
    service.container.write(ENV, f"{env}LOG_LEVEL=INFO\nSLACK_CHANNEL={allowed}\n")
    service.systemctl("reload", UNIT)
    service.wait_for_log("SLACK_CHANNEL, LOG_LEVEL")

    workspace.say(other, f"{workspace.mention} unheard")
    ts = workspace.say(allowed, f"{workspace.mention} heard")
    workspace.wait_for(lambda: shown(workspace, allowed, ts) == ["You asked: heard"])
    assert backend.queries == ["heard"]
    assert service.pid == pid


def test_a_reload_of_wrong_settings_keeps_the_old_ones(
    service: Service, workspace: Workspace
) -> None:
    service.start()
    service.settings(LOG_LEVEL="LOUD")
    pid = service.pid
    service.systemctl("reload", UNIT)
    service.wait_for_log("LOG_LEVEL")
    until("the reload is over", service.is_active)

    wait_for_echo(workspace, "still there?")
    assert service.pid == pid
    assert service.is_active()
