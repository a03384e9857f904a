"""The connection under a link: through the same proxy, and trusting the same CAs, as the Web API.

Neither slack_sdk nor websocket-client would do. The former passes no CA bundle on; the latter
has no time limit for connecting (it waits for as long as the kernel tries, two minutes and more)
and reads variables of its own (WEBSOCKET_CLIENT_CA_BUNDLE). So the socket is made here:

- proxy: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case, as requests reads them;
- CAs: as `trust` finds them.
"""

from __future__ import annotations

import base64
import socket
import ssl
from contextlib import ExitStack
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, urlsplit

from requests.utils import (
    get_auth_from_url,
    get_environ_proxies,
    prepend_scheme_if_needed,
    select_proxy,
)

from chatrelaybot import trust
from chatrelaybot.errors import ConfigurationError, TransientError

_PORTS = {"ws": 80, "wss": 443}
#: The kernel breaks a connection off whose peer takes nothing for this long, in seconds; so no
#: ack waits for longer. https://www.rfc-editor.org/rfc/rfc5482
_UNTAKEN_SECONDS = 10.0


class Dialer:
    """Connects to addresses of links. One thread at a time."""

    def __init__(self, *, timeout: float) -> None:
        """`timeout` is for each step of the way (TCP, proxy, TLS), in seconds."""
        self._timeout = timeout

    def dial(self, url: str) -> socket.socket:
        """Return a connected socket, inside TLS for `wss`.

        Raises:
            TransientError: There is no connection.
            ConfigurationError: The proxy or the CA bundle is none.
        """
        is_tls, host, port = _address(url)
        # The variables are looked up by scheme, and know no wss.
        proxy = _proxy(f"{'https' if is_tls else 'http'}://{host}:{port}/")
        context = self._context if is_tls else None
        try:
            connection = self._connect(host, port, proxy)
            if context is not None:
                return context.wrap_socket(connection, server_hostname=host)
        except (OSError, HTTPException, ValueError) as error:
            raise TransientError(f"no connection to {host}: {_reason(error)}") from error
        return connection

    def _connect(self, host: str, port: int, proxy: SplitResult | None) -> socket.socket:
        if proxy is None:
            connection = HTTPConnection(host, port, timeout=self._timeout)
        else:
            connection = HTTPConnection(
                proxy.hostname or "", proxy.port or 80, timeout=self._timeout
            )
            connection.set_tunnel(host, port, headers=_authorization(proxy))
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.connect()
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it.
                limit = int(_UNTAKEN_SECONDS * 1000.0)
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
            stack.pop_all()
        return connection.sock

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return trust.context()  # Made once, since it takes a while.


def _address(url: str) -> tuple[bool, str, int]:
    """Take a URL apart: whether TLS is wanted, host, port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        host = None
    if not host:
        # Without the words of the error, which quote the ticket.
        raise TransientError("Slack gave no address of a link")
    return parts.scheme == "wss", host, port


def _proxy(url: str) -> SplitResult | None:
    proxies = get_environ_proxies(url, no_proxy=None)
    address = select_proxy(url, proxies)
    if not address:
        return None
    try:
        address = prepend_scheme_if_needed(address, "http")  # type: ignore[no-untyped-call]
        proxy = urlsplit(str(address))
        is_good = proxy.scheme == "http" and bool(proxy.hostname) and proxy.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigurationError(
            "HTTPS_PROXY", "it is not the address of a proxy", "write http://host:port, or unset it"
        )
    return proxy


def _authorization(proxy: SplitResult) -> dict[str, str]:
    user, password = get_auth_from_url(proxy.geturl())
    if not user:
        return {}
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {token}"}


def _reason(error: Exception) -> str:
    """Name an error; what a certificate lacks is said, other words may quote anything."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{type(error).__name__} ({error.verify_message})"
    return type(error).__name__
