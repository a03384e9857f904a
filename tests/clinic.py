"""A good set-up for the doctor to look at, in which a test breaks one thing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatrelaybot.doctor import Order, examine
from chatrelaybot.doctor_findings import Finding, Verdict, exit_code
from chatrelaybot.doctor_table import lines
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.settings_survey import survey
from chatrelaybot.web import Web
from tests.scripted_backend import Exchange, Script, head

OK, WARNING, FAILED, SKIPPED = Verdict.OK, Verdict.WARNING, Verdict.FAILED, Verdict.SKIPPED


@dataclass(frozen=True, slots=True)
class Visit:
    """What the doctor said."""

    findings: list[Finding]

    def of(self, check: str) -> Finding:
        (finding,) = (finding for finding in self.findings if finding.check == check)
        return finding

    def having(self, verdict: Verdict) -> list[str]:
        return [finding.check for finding in self.findings if finding.verdict is verdict]

    @property
    def table(self) -> str:
        return "\n".join(
            line for finding in self.findings for line in lines(finding, has_colour=False)
        )

    @property
    def code(self) -> int:
        return exit_code(self.findings)


#: To look, and nothing more.
NOTHING_MORE = Order()
SeeDoctor = Callable[..., Visit]


class Clinic:
    """Sees the doctor; keywords are settings."""

    def __init__(
        self,
        workspace: Workspace,
        backend: str,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._workspace = workspace
        self._backend = backend
        self._directory = directory
        self._monkeypatch = monkeypatch

    def see(
        self, order: Order = NOTHING_MORE, slack: Workspace | None = None, **settings: str
    ) -> Visit:
        values = {**good(slack or self._workspace, self._backend, self._directory), **settings}
        for name, value in values.items():
            self._monkeypatch.setenv(name, value)
        return Visit([*examine(survey(), order, values)])


def good(slack: Workspace, backend: str, directory: Path) -> dict[str, str]:
    """Return settings that nothing is wrong with."""
    return {
        "SLACK_BOT_TOKEN": slack.bot_token,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_API_URL": slack.api_url,
        "BACKEND_URL": backend,
        "DATABASE_URL": f"sqlite:///{directory}/inbox.sqlite3",
        "HTTP_PORT": "off",
    }


def saying(
    *pieces: bytes, status: str = "200 OK", content_type: str = "text/event-stream"
) -> Script:
    """Answer with these bytes."""

    def script(exchange: Exchange) -> None:
        exchange.send(head(status=status, content_type=content_type) + b"".join(pieces))
        exchange.hang_up()

    return script


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def running_bot(*, ready: dict[str, str | None]) -> Iterator[int]:
    """Serve the health of a bot; yield the port."""
    web = Web(
        host="127.0.0.1",
        port=0,
        live=dict,
        ready=lambda: ready,
        metrics=None,
        failed=lambda error: pytest.fail(str(error)),
    )
    web.start()
    with closing(web):
        yield web.port
