"""Whether something listens where the backend shall be; nothing is asked of it."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from chatrelaybot.errors import FailureKind, TransientError

_PORTS = {"http": 80, "https": 443}


def place(url: str) -> str:
    """Return host and port of a URL, which may hold a secret in its query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def reach(url: str, *, timeout: float) -> float:
    """Open a connection as the bot would, and close it; return the seconds that it took.

    `timeout`, in seconds, is for each of its steps.

    Raises:
        TransientError: There is no connection, or no trust in who answers.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    began = time.monotonic()
    with closing(_connect(host, port, timeout)) as connection:
        if parts.scheme == "https":
            _shake_hands(connection, host)
    return time.monotonic() - began


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout)
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        raise TransientError(_reason(error), kind=FailureKind.UNREACHABLE) from error


def _shake_hands(connection: socket.socket, host: str) -> None:
    context = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate is not trusted ({error.verify_message})"
        raise TransientError(reason, kind=FailureKind.UNREACHABLE) from error
    except (OSError, ValueError) as error:
        reason = "it does not speak TLS"
        raise TransientError(reason, kind=FailureKind.UNREACHABLE) from error


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "there is no such host"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return f"no connection ({getattr(error, 'strerror', None) or type(error).__name__})"
