"""The doctor's look at the port of the health server: does the bot run here, and is it ready."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from chatrelaybot import inbox_desk
from chatrelaybot.doctor_findings import Finding, failed, ok, skipped, warning, wrong
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.web import listen

HEALTH = "health port"

#: Longest wait for an answer of this machine; seconds.
_TIMEOUT = 2.0
#: More than this of an answer is not read; bytes.
_MOST_BYTES = 1 << 16
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not listened on
_OTHER_PORT = "give HTTP_PORT another number, 0 for any, or off"


def health(host: str, port: int | None, *, file: Path | None) -> tuple[Finding, bool]:
    """Look at who has the port; with it, whether the bot runs. `file` is the SQLite file."""
    if port is None:
        return skipped(HEALTH, "HTTP_PORT=off"), False
    if port == 0:
        return skipped(HEALTH, "HTTP_PORT=0 takes any free port"), False
    try:
        status, checks = _ask(_EVERY_ADDRESS.get(host, host), port)
    except ConnectionRefusedError:
        return _free(host, port), False
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        fact = f"port {port}: no answer from what listens there ({type(error).__name__})"
        return failed(HEALTH, fact, _OTHER_PORT), False
    if checks is None:
        problem = f"port {port} is taken by another program"
        return wrong(HEALTH, ConfigurationError("HTTP_PORT", problem, _OTHER_PORT)), False
    if file is not None and _is_another(file, checks):
        problem = f"port {port} is taken by another ChatRelayBot: none uses {file.absolute()}"
        return wrong(HEALTH, ConfigurationError("HTTP_PORT", problem, _OTHER_PORT)), False
    return _running(port, status, checks), True


def _is_another(file: Path, checks: Mapping[str, str]) -> bool:
    # Only one that has started, and does not stop, surely has its file.
    is_steady = checks.get("started") == checks.get("stopping") == "ok"
    return is_steady and inbox_desk.has_owner(file) is False


def _ask(host: str, port: int) -> tuple[int, dict[str, str] | None]:
    with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT)) as connection:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, _checks(response.read(_MOST_BYTES))


def _checks(body: bytes) -> dict[str, str] | None:
    """Return what /readyz says; None: that is another program."""
    try:
        checks = json.loads(body)["checks"]
        return {str(name): str(state) for name, state in checks.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _free(host: str, port: int) -> Finding:
    try:
        listen(host, port).close()
    except ConfigurationError as error:
        return wrong(HEALTH, error)
    except TransientError as error:
        return failed(
            HEALTH,
            str(error),
            "correct HTTP_HOST: the bot waits until this machine has the address",
        )
    return ok(HEALTH, f"port {port} is free: the bot does not run here")


def _running(port: int, status: int, checks: Mapping[str, str]) -> Finding:
    if status == http.HTTPStatus.OK:
        return ok(HEALTH, f"the bot runs, and is ready (port {port})")
    trouble = ", ".join(f"{name}: {state}" for name, state in checks.items() if state != "ok")
    return warning(HEALTH, f"the bot runs, and is not ready ({trouble})", "look into its log")
