"""Root's own commands beside the service, an upgrade, and taking it all away."""

from __future__ import annotations

import time

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.systemd.container import until
from tests.systemd.service import (
    CONFIGURATION,
    CREDENTIALS,
    INSTALLED,
    STATE,
    UNIT,
    VARIABLES,
    Service,
)
from tests.systemd.talk import wait_for_echo


def owners(service: Service) -> set[str]:
    return {*service.container.out("find", STATE, "-printf", "%U\\n").split()}


def test_roots_commands_see_the_inbox_and_leave_nothing_that_the_service_cannot_write(
    service: Service, workspace: Workspace
) -> None:
    for command in (("inbox", "list"), ("doctor",)):
        service.container.run("chatrelaybot", *command, is_checked=False)
    assert not service.has(STATE)
    service.start()
    wait_for_echo(workspace, "first")
    assert "answered" in service.container.out("chatrelaybot", "inbox", "list", "--all")
    service.stop()
    assert "answered" in service.container.out("chatrelaybot", "inbox", "list", "--all")
    service.container.run("chatrelaybot", "inbox", "purge", "--yes")
    service.container.run("chatrelaybot", "doctor", is_checked=False)
    # Log files that a reader makes while the service is down are there when it comes up.
    assert len(owners(service)) == 1
    service.start()
    wait_for_echo(workspace, "second")
    assert owners(service) == {service.status("Uid").split()[0]}


def test_root_is_told_that_the_service_runs_the_daemon(service: Service) -> None:
    done = service.container.run("chatrelaybot", "run", is_checked=False)

    assert done.returncode == 1
    assert "systemctl start chatrelaybot" in done.stderr


def test_others_may_use_the_program_without_the_services_settings(service: Service) -> None:
    done = service.container.run(
        *("setpriv", "--reuid=nobody", "--clear-groups", "env", "-C", "/"),
        *("chatrelaybot", "run"),
        is_checked=False,
    )

    assert done.returncode == 78
    assert "SLACK_BOT_TOKEN" in done.stderr


def test_the_service_and_roots_commands_have_the_same_variables(service: Service) -> None:
    lines = ("# BACKEND_URL=none", "BACKEND_URL=http://127.0.0.1:9/", ' NO_PROXY="127.0.0.1" ')
    of_root = {"BACKEND_URL": "http://127.0.0.1:11/", "PYTHONPATH": "/opt/of-root"}
    service.container.write("/opt/of-root/sitecustomize.py", "print('of root')")
    service.container.write(
        VARIABLES, "\n".join(["BACKEND_URL=http://127.0.0.1:10/", *lines, "HTTPS_PROXY=$HOME"])
    )
    doctor = service.container.run(
        "chatrelaybot", "doctor", environment=of_root, is_checked=False
    ).stdout
    service.start()
    variables = service.process("environ").split("\0")

    assert "127.0.0.1:9" in doctor
    assert "of root" not in doctor
    assert {"BACKEND_URL=http://127.0.0.1:9/", "NO_PROXY=127.0.0.1"} <= {*variables}
    assert "HTTPS_PROXY=$HOME" in variables


def test_the_program_runs_without_its_tree(service: Service) -> None:
    found = service.container.out(
        *("/opt/chatrelaybot/bin/python", "-I", "-c"),
        "import chatrelaybot, sys; print(chatrelaybot.__file__, sys.prefix)",
    )
    place, prefix = found.split()

    assert place.startswith("/opt/chatrelaybot/lib/")
    assert prefix == "/opt/chatrelaybot"


def test_an_upgrade_keeps_the_configuration_and_the_inbox(
    service: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    service.start()
    wait_for_echo(workspace, "before")
    kept = [f"{CONFIGURATION}/.env", f"{CREDENTIALS}/SLACK_BOT_TOKEN"]
    before = [service.container.read(path) for path in kept]
    service.container.write("/opt/chatrelaybot/of-the-old-one", "")
    service.container.write("/opt/chatrelaybot/share/extras", "postgres,grpc")
    of_others = ["/opt/chatrelaybot.new/file", "/opt/chatrelaybot.old/file"]
    for path in of_others:
        service.container.write(path, "")

    began = time.monotonic()
    said = service.make("install")
    service.figures["make install"] = f"{time.monotonic() - began:.1f} s"

    assert [service.container.read(path) for path in kept] == before
    assert "systemctl restart chatrelaybot" in said
    assert not service.has("/opt/chatrelaybot/of-the-old-one")
    listing = service.container.out("find", "/opt", "-maxdepth", "1", "-name", "chatrelaybot.*")
    assert {*listing.split()} == {path.removesuffix("/file") for path in of_others}
    assert all(service.has(path) for path in of_others)
    service.container.run(
        *("/opt/chatrelaybot/bin/python", "-c"), "import opentelemetry.exporter.otlp.proto.grpc"
    )
    wait_for_echo(workspace, "in between")  # By the old one, which still runs.
    service.systemctl("restart", UNIT)
    wait_for_echo(workspace, "after")
    assert backend.queries == ["before", "in between", "after"]
    secrets = service.container.out("find", CREDENTIALS, "-printf", "%m %u %y\\n")
    assert {*secrets.splitlines()} == {"700 root d", "600 root f"}


def test_an_uninstallation_keeps_settings_secrets_and_the_inbox(
    service: Service, workspace: Workspace
) -> None:
    service.start()
    wait_for_echo(workspace, "hello")
    service.systemctl("enable", UNIT)
    said = service.make("uninstall")

    assert "Kept: /etc/chatrelaybot" in said
    assert not [path for path in INSTALLED if service.has(path)]
    until("it is stopped", lambda: not service.is_active())
    assert not service.has(f"/etc/systemd/system/multi-user.target.wants/{UNIT}")
    assert service.has(f"{CONFIGURATION}/.env")
    assert service.has(f"{CREDENTIALS}/SLACK_BOT_TOKEN")
    assert service.has(f"{STATE}/chatrelaybot.sqlite3")
