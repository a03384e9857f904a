"""What `make install` leaves, and what it refuses."""

from __future__ import annotations

import pytest

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend
from tests.systemd.container import SHOWN_TREE, system_python
from tests.systemd.service import CONFIGURATION, CREDENTIALS, INSTALLED, Service


def test_a_new_installation_lacks_nothing_but_tokens(
    installed: Service, workspace: Workspace, backend: AnsweringBackend
) -> None:
    doctor = installed.container.run("chatrelaybot", "doctor", is_checked=False)
    assert doctor.returncode == 78
    assert "SLACK_BOT_TOKEN" in doctor.stdout

    installed.settings(SLACK_API_URL=workspace.api_url, BACKEND_URL=backend.url)
    installed.secret("SLACK_BOT_TOKEN", workspace.bot_token)
    installed.secret("SLACK_APP_TOKEN", workspace.app_token)
    doctor = installed.container.run("chatrelaybot", "doctor")
    assert "✗" not in doctor.stdout
    installed.start()
    installed.stop()


def test_secrets_have_a_place_that_is_roots_alone(installed: Service) -> None:
    modes = installed.container.out("find", CREDENTIALS, "-printf", "%m %u %y\\n")
    example = installed.container.read(f"{CONFIGURATION}/.env.example")

    assert {*modes.splitlines()} == {"700 root d", "600 root f"}
    assert "TOKEN=" not in example
    assert "DATABASE_URL=" not in example
    assert "BACKEND_URL=" in example


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("PREFIX=/usr",), "name another PREFIX"),
        (("PREFIX=here",), "no absolute path"),
        (("PREFIX=/home/bot",), "service cannot see"),
        (("PREFIX=/opt/../var/tmp//bot",), "service cannot see"),
        (("PYTHON=/no/python",), "Python 3.11 or later"),
    ],
)
def test_an_installation_that_cannot_be_right_is_refused(
    installed: Service, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        installed.make("install", *arguments)
    assert installed.has("/usr/bin/env")


def test_a_packager_installs_into_a_directory_without_root(installed: Service) -> None:
    installed.container.run("install", "-d", "-o", "nobody", "/var/tmp/package")  # noqa: S108
    installed.container.run(
        *("setpriv", "--reuid=nobody", "--clear-groups"),
        # Relative to the tree, with a slash too many.
        *("make", "-C", SHOWN_TREE, "install", "DESTDIR=../../var/tmp/package/"),
        *("PREFIX=/srv//bot/", f"PYTHON={system_python()}"),
        seconds=110.0,
    )
    package = "/var/tmp/package"  # noqa: S108
    places = [f"{package}{path}" for path in ("/srv/bot", *INSTALLED[1:])]
    script = installed.container.read(f"{package}/srv/bot/bin/chatrelaybot")

    assert all(installed.has(place) for place in places)
    assert script.startswith("#!/srv/bot/bin/python")
    assert "program=/srv/bot/bin" in installed.container.read(
        f"{package}/usr/local/bin/chatrelaybot"
    )
    # Where it is need not be said a second time.
    installed.make("uninstall", f"DESTDIR={package}")
    assert not any(installed.has(place) for place in places)


def test_an_uninstallation_of_another_place_is_refused(installed: Service) -> None:
    with pytest.raises(AssertionError, match="make uninstall PREFIX=/opt/chatrelaybot"):
        installed.make("uninstall", "PREFIX=/srv/other")
    assert all(installed.has(path) for path in INSTALLED)
