"""The doctor's look, as root, at what the service may not do where root may.

The service of systemd has a user of its own, without rights, and writes nowhere but in its
StateDirectory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chatrelaybot import inbox_desk
from chatrelaybot.doctor_findings import Finding, ok, wrong
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.settings import ENV_FILE, Settings

SERVICE = "service"

#: Ports below it are for those with rights, where the kernel does not say another number.
_FIRST_FREE_PORT = 1024
_FIRST_FREE_PORT_FILE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_DROP_IN = "a drop-in of the unit may allow it"


def is_for_service(state_directory: str) -> bool:
    """Tell whether root looks at the service's set-up, as the installed program lets it."""
    return os.geteuid() == 0 and bool(state_directory)


def service(settings: Settings, *, directory: Path, state_directory: Path) -> list[Finding]:
    """See what the service may not read, write or listen on; `directory` is where it works."""
    errors = [
        error
        for error in (
            _env_file(directory / ENV_FILE),
            _database(settings.database_url, directory, state_directory),
            _port(settings.http_port),
        )
        if error is not None
    ]
    if not errors:
        return [ok(SERVICE, "it can use .env, the inbox's place and the port as root can")]
    return [wrong(SERVICE, error) for error in errors]


def _env_file(file: Path) -> ConfigurationError | None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except FileNotFoundError:
        return None
    if mode & stat.S_IROTH:
        return None
    return ConfigurationError(
        str(file),
        f"the service cannot read it (mode {mode:04o})",
        f"chmod o+r {file}, after moving secrets from it into credentials",
    )


def _database(url: str, directory: Path, state_directory: Path) -> ConfigurationError | None:
    file = inbox_desk.file_of(url)
    if file is None or (directory / file).resolve().is_relative_to(state_directory.resolve()):
        return None
    return ConfigurationError(
        "DATABASE_URL",
        f"{directory / file} is not below {state_directory}, where alone the service writes",
        f"leave it empty, or name a file there ({_DROP_IN}: ReadWritePaths=)",
    )


def _port(port: int | None) -> ConfigurationError | None:
    if not port or port >= _first_free_port():
        return None
    return ConfigurationError(
        "HTTP_PORT",
        f"the service cannot listen on port {port}, which needs rights",
        f"give it a number from {_FIRST_FREE_PORT} on, 0 for any, or off "
        f"({_DROP_IN}: AmbientCapabilities=)",
    )


def _first_free_port() -> int:
    try:
        return int(_FIRST_FREE_PORT_FILE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _FIRST_FREE_PORT
