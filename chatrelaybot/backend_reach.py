"""Whether something listens where the backend shall be; nothing is asked of it."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from chatrelaybot import trust
from chatrelaybot.errors import FailureKind, TransientError
from chatrelaybot.wire_addresses import candidates

_PORTS = {"http": 80, "https": 443}


class NotTrusted(TransientError):
    """Its certificate is not trusted."""


def place(url: str) -> str:
    """Return host and port of a URL, which may hold a secret in its query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def reach(url: str, *, timeout: float, ca_bundle: str | None = None) -> float:
    """Open a connection as the bot would, and close it; return the seconds that it took.

    `timeout`, in seconds, is for all addresses of the host together, and once more for TLS; the
    look-up of the host's name has time limits of its own. `ca_bundle` is a file of certificates
    to trust in place of those that the environment names.

    Raises:
        NotTrusted: There is no trust in who answers.
        TransientError: There is no connection.
        ConfigurationError: The CA bundle is none.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    context = trust.context(ca_bundle) if parts.scheme == "https" else None
    began = time.monotonic()
    try:
        with closing(_connect(host, port, timeout)) as connection:
            if context is not None:
                connection.settimeout(timeout)
                context.wrap_socket(connection, server_hostname=host).close()
    except (OSError, ValueError) as error:
        raise trouble(error) from error
    return time.monotonic() - began


def trouble(error: Exception) -> TransientError:
    """Return in plain words what is in the way of a connection."""
    kind = NotTrusted if isinstance(error, ssl.SSLCertVerificationError) else TransientError
    return kind(_reason(error), kind=FailureKind.UNREACHABLE)


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first address that answers, all of them within the timeout."""
    cause: OSError = socket.gaierror()
    for candidate in candidates(host, port, seconds=timeout):
        try:
            with ExitStack() as stack:
                connection = stack.enter_context(candidate.socket())
                connection.settimeout(candidate.seconds)
                connection.connect(candidate.address)
                stack.pop_all()
        except OSError as error:
            cause = error
        else:
            return connection
    raise cause


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS"
    # The latter of a name that no host can have.
    if isinstance(error, socket.gaierror | ValueError):
        return "there is no such host"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return f"no connection ({getattr(error, 'strerror', None) or type(error).__name__})"
