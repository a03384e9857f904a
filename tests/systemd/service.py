"""The service in the container: its settings, what systemd says of it, what its log says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.systemd.container import SHOWN_TREE, Container, system_python, until

UNIT = "chatrelaybot.service"
CONFIGURATION = "/etc/chatrelaybot"
CREDENTIALS = f"{CONFIGURATION}/credentials"
VARIABLES = f"{CONFIGURATION}/environment"
STATE = "/var/lib/private/chatrelaybot"
INSTALLED = (
    "/opt/chatrelaybot",
    "/usr/local/bin/chatrelaybot",
    "/usr/local/lib/systemd/system/chatrelaybot.service",
    "/usr/local/share/man/man8/chatrelaybot.8",
)
_DROP_INS = f"/etc/systemd/system/{UNIT}.d"
#: pip fetches some forty packages, or finds them in its cache.
_INSTALL_SECONDS = 110.0


@dataclass
class Service:
    """`chatrelaybot.service`, as an admin handles it."""

    container: Container
    #: Figures for the table at the end.
    figures: dict[str, str] = field(default_factory=dict)
    _cursor: str = ""

    def make(self, *arguments: str) -> str:
        """Run `make` in the tree, which is read-only there."""
        command = ("make", "-C", SHOWN_TREE, f"PYTHON={system_python()}", *arguments)
        return self.container.run(*command, seconds=_INSTALL_SECONDS).stdout

    def settings(self, **values: object) -> None:
        """Write `.env`."""
        lines = "".join(f"{name}={value}\n" for name, value in values.items())
        self.container.write(f"{CONFIGURATION}/.env", lines)

    def secret(self, name: str, value: str) -> None:
        self.container.write(f"{CREDENTIALS}/{name}", value, mode=0o600)

    def drop_in(self, name: str, text: str) -> None:
        self.container.write(f"{_DROP_INS}/{name}.conf", f"[Service]\n{text}\n")
        self.systemctl("daemon-reload")

    def has(self, path: str) -> bool:
        return self.container.run("test", "-e", path, is_checked=False).returncode == 0

    def systemctl(self, *arguments: str) -> None:
        self.container.run("systemctl", *arguments)

    def start(self) -> None:
        """Start, and return when it is ready."""
        self.systemctl("start", UNIT)

    def stop(self) -> None:
        self.systemctl("stop", UNIT)

    def end(self) -> None:
        """Stop it, installed or not."""
        self.container.run("systemctl", "stop", UNIT, is_checked=False)

    def clear(self) -> None:
        """Back to what it was after the installation, with an empty inbox and an empty log."""
        self.stop()
        self.container.run("rm", "-rf", _DROP_INS, STATE, CREDENTIALS, VARIABLES)
        self.container.run("install", "-d", "--mode=700", CREDENTIALS)
        self.systemctl("daemon-reload")
        self.container.run("systemctl", "reset-failed", UNIT, is_checked=False)
        lines = self.container.out("journalctl", "--lines=1", "--output=json", "--quiet")
        self._cursor = json.loads(lines)["__CURSOR"]

    def show(self, name: str) -> str:
        return self.container.out("systemctl", "show", "--value", f"--property={name}", UNIT)

    def is_active(self) -> bool:
        return self.show("ActiveState") == "active"

    def restarted(self, times: int = 1) -> bool:
        """Tell whether systemd has started it again so often, and it is ready."""
        return int(self.show("NRestarts")) >= times and self.is_active()

    @property
    def pid(self) -> int:
        return int(self.show("MainPID"))

    def process(self, file: str) -> str:
        """Read one of the kernel's files on the main process."""
        return self.container.read(f"/proc/{self.pid}/{file}")

    def status(self, field_name: str) -> str:
        """Return a line of /proc/PID/status."""
        lines = dict(line.split(":", 1) for line in self.process("status").splitlines())
        return lines[field_name].strip()

    def entries(self) -> list[dict[str, Any]]:
        """Return the journal of the service itself, and what systemd says of it."""
        done = self.container.out(
            *("journalctl", f"--unit={UNIT}", "--output=json", "--all", "--quiet"),
            f"--after-cursor={self._cursor}",
        )
        return [json.loads(line) for line in done.splitlines()]

    def log(self) -> list[str]:
        """Return what the program itself has written into the journal."""
        return [
            str(entry["MESSAGE"]) for entry in self.entries() if entry.get("_TRANSPORT") == "stdout"
        ]

    def logged(self, words: str) -> bool:
        return any(words in line for line in self.log())

    def wait_for_log(self, words: str) -> None:
        until(f"the log says: {words}", lambda: self.logged(words))
