"""What the service may do and see, and who sees its secrets."""

from __future__ import annotations

import json
from pathlib import Path

from chatrelaybot.playground.workspace import Workspace
from tests.systemd.container import TREE, until
from tests.systemd.service import CONFIGURATION, CREDENTIALS, UNIT, Service

PROBER = Path(__file__).with_name("prober.py")
ALLOWED = {
    "load its libraries",
    "write its state",
    "write into a /tmp of its own",
    "read its settings",
    "read its credential",
    "listen on the loopback interface",
    "start a process",
}
#: What systemd-analyze says of the unit, at most; chrony-wait and redis-server are alike.
SCORE = 1.1
INFO, ERROR = "6", "3"
BACKEND_SECRET = "a-secret-of-the-backend"


def test_the_unit_is_right_and_scores_well(service: Service) -> None:
    verified = service.container.run("systemd-analyze", "verify", UNIT)
    security = service.container.out("systemd-analyze", "security", "--no-pager", UNIT)
    score = float(security.splitlines()[-1].partition(":")[2].split()[0])

    service.figures["exposure (systemd-analyze security)"] = f"{score}"
    assert verified.stdout + verified.stderr == ""
    assert score <= SCORE
    assert "systemctl" in service.container.out("man", "8", "chatrelaybot")


def test_the_sandbox_refuses_what_the_daemon_does_not_need(service: Service) -> None:
    service.container.write("/opt/prober/prober.py", PROBER.read_text())
    # What runs before the daemon runs in the same sandbox.
    service.drop_in("probe", "ExecStartPre=/opt/chatrelaybot/bin/python /opt/prober/prober.py")
    service.start()
    outcomes = json.loads(next(line for line in service.log() if line.startswith('{"load its')))

    assert {name for name, outcome in outcomes.items() if outcome == "works"} == ALLOWED


def test_the_daemon_has_no_rights_left(service: Service) -> None:
    service.start()
    maps = [line.split(maxsplit=2)[1] for line in service.process("maps").splitlines()]

    assert service.status("Uid").split()[0] not in ("0", "65534")
    assert service.status("NoNewPrivs") == "1"
    assert service.status("Seccomp") == "2"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(service.status(capabilities), 16) == 0
    assert not [rights for rights in maps if "w" in rights and "x" in rights]


def test_nobody_else_sees_a_secret(service: Service, workspace: Workspace) -> None:
    service.secret("BACKEND_TOKEN", BACKEND_SECRET)
    service.container.write(
        f"{CONFIGURATION}/.env", service.container.read(f"{CONFIGURATION}/.env") + "LOG_LEVEL=DEBUG"
    )
    service.start()
    channel = workspace.add_channel()
    ts = workspace.say(channel, f"{workspace.mention} the text of a question")
    workspace.wait_for(lambda: workspace.replies(channel, ts)[-1:])
    secrets = (workspace.bot_token, workspace.app_token, BACKEND_SECRET, "the text of a question")
    seen = [
        service.container.out("systemctl", "show", UNIT),
        service.container.out("systemctl", "cat", UNIT),
        service.container.out("systemctl", "status", "--full", "--lines=1000", UNIT),
        service.process("environ"),
        service.process("cmdline"),
        json.dumps(service.entries()),
    ]

    assert not [secret for secret in secrets if any(secret in words for words in seen)]
    for place in (CREDENTIALS, f"/run/credentials/{UNIT}"):
        for user in ("nobody", "daemon"):
            peek = service.container.run(
                *("setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"),
                *("cat", f"{place}/BACKEND_TOKEN"),
                is_checked=False,
            )
            assert "Permission denied" in peek.stderr


def test_the_inbox_is_nobody_elses_to_read(service: Service) -> None:
    service.start()
    listing = service.container.out("find", "/var/lib/private/chatrelaybot", "-printf", "%m %U\\n")
    uid = service.status("Uid").split()[0]

    assert {*listing.splitlines()} == {f"700 {uid}", f"600 {uid}"}


def test_encrypted_secrets_work(service: Service, workspace: Workspace) -> None:
    service.secret("BACKEND_TOKEN", "")
    service.container.run("sh", "-ec", _readme_on_encryption())

    assert workspace.open_links
    names = {*service.container.out("ls", CREDENTIALS).split()}
    assert names == {"BACKEND_TOKEN", "SLACK_APP_TOKEN.cred", "SLACK_BOT_TOKEN.cred"}
    # Root's own commands read them where the service has them open,
    assert "✓ bot token" in service.container.out("chatrelaybot", "doctor")
    # and decrypt them where it does not.
    service.stop()
    assert "✓ bot token" in service.container.out("chatrelaybot", "doctor")
    assert "chatrelaybot" not in service.container.out("ls", "/run")


def test_a_secret_that_cannot_be_decrypted_is_named(service: Service) -> None:
    service.container.run("sh", "-ec", _readme_on_encryption())
    service.stop()
    service.container.write(f"{CREDENTIALS}/SLACK_BOT_TOKEN.cred", "of another machine")
    doctor = service.container.run("chatrelaybot", "doctor", is_checked=False)
    service.systemctl("start", "--no-block", UNIT)
    until("it has failed", lambda: service.show("ActiveState") == "failed")

    assert doctor.returncode == 1
    assert "SLACK_BOT_TOKEN.cred cannot be decrypted" in doctor.stderr
    assert "chatrelaybot" not in service.container.out("ls", "/run")
    assert service.show("ExecMainStatus") == "243"
    assert service.show("NRestarts") == "0"


def _readme_on_encryption() -> str:
    """Return the commands that README.md names, for somebody who is root already."""
    for block in (TREE / "README.md").read_text().split("\n\n"):
        if "systemd-creds encrypt" in block and block.startswith("    "):
            return block.replace("sudo ", "")
    raise AssertionError("README.md says nothing about encryption")


def test_the_journal_holds_objects_with_their_priority(
    service: Service, workspace: Workspace
) -> None:
    service.start()
    workspace.revoke_token()
    channel = workspace.add_channel()
    workspace.say(channel, f"{workspace.mention} hello")
    until("it has ended", lambda: service.show("ActiveState") == "failed")
    own = [entry for entry in service.entries() if entry.get("_TRANSPORT") == "stdout"]
    objects = [json.loads(entry["MESSAGE"]) for entry in own if entry["MESSAGE"][0] == "{"]
    started = next(entry for entry in own if '"started"' in entry["MESSAGE"])
    (wrong,) = [entry for entry in own if entry["MESSAGE"].startswith("chatrelaybot: ")]

    assert len(objects) == len(own) - 1
    assert started["PRIORITY"] == INFO
    assert "SLACK_BOT_TOKEN" in wrong["MESSAGE"]
    assert wrong["PRIORITY"] == ERROR
