from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.systemd.container import Container, Refused, obstacle
from tests.systemd.service import Service

_FIGURES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(name="container", scope="session")
def _container() -> Iterator[Container]:
    reason = obstacle()
    if reason:
        pytest.exit(f"passed over: {reason}", returncode=0)
    with ExitStack() as stack:
        try:
            container = stack.enter_context(Container())
        except Refused as error:
            pytest.exit(f"passed over: no container here: {error}", returncode=0)
        yield container


@pytest.fixture(name="installed", scope="session")
def _installed(container: Container, pytestconfig: pytest.Config) -> Service:
    """The service as `make install` leaves it."""
    service = Service(container)
    pytestconfig.stash[_FIGURES] = service.figures
    service.figures["boot of the container"] = f"{container.boot_seconds:.2f} s"
    service.make("install")
    return service


@pytest.fixture(name="service")
def _service(
    installed: Service, workspace: Workspace, backend: AnsweringBackend
) -> Iterator[Service]:
    """The service with the settings of the local workspace; not started."""
    installed.clear()
    installed.settings(
        SLACK_API_URL=workspace.api_url,
        BACKEND_URL=backend.url,
        EDIT_SECONDS=0.05,
        EDITS_PER_MINUTE=6000,
        POSTS_PER_MINUTE=6000,
        HTTP_PORT=0,
    )
    installed.secret("SLACK_BOT_TOKEN", workspace.bot_token)
    installed.secret("SLACK_APP_TOKEN", workspace.app_token)
    yield installed
    print("\n".join(str(entry.get("MESSAGE")) for entry in installed.entries()))  # noqa: T201
    installed.end()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show what was measured."""
    figures = config.stash.get(_FIGURES, {})
    for name, value in figures.items():
        terminalreporter.write_line(f"{name:<44} {value:>12}")
