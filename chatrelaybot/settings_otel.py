"""OpenTelemetry's own variables from the places where our settings are: `.env` and credentials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.settings import ENV_FILE

_PREFIX = "OTEL_"
#: Begins so too, and is a setting of ours.
_OURS = "OTEL_EXPORTER"


def otel_variables() -> dict[str, str]:
    """Return those that are set, by name; the environment, which wins, is not looked at.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    try:
        found = {**dict(_credentials()), **dict(_env_file())}
    except (OSError, UnicodeDecodeError) as error:
        name = getattr(error, "filename", None) or f"{ENV_FILE} or a credential {_PREFIX}…"
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(
            str(name), f"cannot be read ({reason})", "mend or remove it"
        ) from None
    found.pop(_OURS, None)
    return found


def _env_file() -> Iterator[tuple[str, str]]:
    for name, value in dotenv_values(ENV_FILE, encoding="utf-8").items():
        if name.upper().startswith(_PREFIX) and value:
            yield name.upper(), value


def _credentials() -> Iterator[tuple[str, str]]:
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory or not Path(directory).is_dir():
        return
    for file in sorted(Path(directory).glob(f"{_PREFIX}*")):
        if value := file.read_text(encoding="utf-8").strip():
            yield file.name, value
