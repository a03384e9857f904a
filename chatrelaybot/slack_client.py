"""slack_sdk's WebClient over one pool of kept-open connections."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from slack_sdk import WebClient
from slack_sdk.errors import SlackRequestError
from urllib3.connection import HTTPConnection

from chatrelaybot.delivery import elapsed
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.slack_errors import is_broken_off

_log = logging.getLogger(__name__)

#: Methods whose second call changes nothing that the first has not: these alone are sent again
#: when a kept-open connection turns out to be closed. chat.postMessage would post twice.
_IDEMPOTENT = frozenset(
    {
        "apps.connections.open",
        "auth.test",
        "chat.delete",
        "chat.update",
        "conversations.history",
        "conversations.replies",
        "reactions.add",
        "reactions.remove",
    }
)
#: A call that breaks off later than this (seconds) is not sent again: this process may have been
#: paused meanwhile, and whoever called has to see anew whether the call is still theirs to make.
_RESEND_SECONDS = 1.0
#: Longest wait for a connection, seconds.
_CONNECT_SECONDS = 10.0
#: A firewall forgets a connection that rests, and then swallows the next call. So a resting
#: connection is probed (seconds of rest, seconds between probes, probes until it is given up).
_PROBES = {"TCP_KEEPIDLE": 45, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
_JSON = "application/json;charset=utf-8"
_FORM = "application/x-www-form-urlencoded"


class PooledWebClient(WebClient):
    """slack_sdk's client, sending over one `requests.Session`.

    The SDK opens a connection for every call, and on Python 3.11 a TLS context as well. It has
    no hook for another transport, so `_perform_urllib_http_request` is replaced (read in
    slack_sdk 3.47.0, web/base_client.py). `api_call` and the pagination both send through it.
    Above it the SDK puts a request together, and below it there are only urllib and retries
    that would post twice. Going through `Session.send` keeps the calls visible for OpenTelemetry.
    """

    def __init__(self, *, token: str, api_url: str, pool_size: int, timeout: float) -> None:
        # A logger that nobody hears: the SDK writes out bodies, which hold answers, wherever
        # the level is DEBUG or unset. What goes wrong is raised as well.
        silence = logging.Logger("slack_sdk", logging.CRITICAL + 1)  # noqa: LOG001 - see above
        super().__init__(
            token=token, base_url=_checked_url(api_url), retry_handlers=[], logger=silence
        )
        # The SDK has read HTTPS_PROXY without regard to NO_PROXY; requests knows better.
        self.proxy = None
        self._timeouts = (min(timeout, _CONNECT_SECONDS), timeout)
        self._session = requests.Session()
        adapter = _Adapter(pool_maxsize=pool_size, pool_block=False, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # Proxies and the CA bundle, from the environment. Read once: requests would do so anew
        # for each call, at a quarter of the call's whole CPU time (measured: 0.1 of 0.4 ms).
        self._settings = self._session.merge_environment_settings(
            self.base_url, {}, None, None, None
        )
        _check_bundle(self._settings["verify"])

    def close(self) -> None:
        """Close the connections that no call uses."""
        self._session.close()

    def _perform_urllib_http_request(self, *, url: str, args: dict[str, Any]) -> dict[str, Any]:
        if args["data"]:
            raise SlackRequestError("files are not sent over this client")
        if args["json"]:
            # ASCII, since half a surrogate pair in an answer could not be encoded as UTF-8.
            text, content_type = json.dumps(args["json"], separators=(",", ":")), _JSON
        else:
            text, content_type = urlencode(args["params"] or {}), _FORM
        body = text.encode("ascii")
        headers = {
            **args["headers"],
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
        }
        request = _prepared(url, headers, body)
        response = self._send(url.rpartition("/")[2], request)
        answer = response.content.decode("utf-8", errors="replace")
        # The SDK falls over JSON that is not an object; an empty body it calls a failure.
        answer = answer if answer.lstrip().startswith("{") else ""
        return {"status": response.status_code, "headers": response.headers, "body": answer}

    def _send(self, method: str, request: requests.PreparedRequest) -> requests.Response:
        began_at = elapsed()
        try:
            return self._send_once(request)
        except requests.ConnectionError as error:
            is_late = elapsed() - began_at > _RESEND_SECONDS
            if method not in _IDEMPOTENT or is_late or not is_broken_off(error):
                raise
        _log.info("slack connection broke off, sending again", extra={"slack.method": method})
        return self._send_once(request)

    def _send_once(self, request: requests.PreparedRequest) -> requests.Response:
        return self._session.send(
            request, timeout=self._timeouts, allow_redirects=False, **self._settings
        )


class _Adapter(HTTPAdapter):
    """An adapter whose connections are probed while they rest."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, socket_options=_socket_options(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, socket_options=_socket_options(), **options)


def _socket_options() -> list[tuple[int, int, int]]:
    probes = [
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _PROBES.items()
        if hasattr(socket, name)  # Not every system has each.
    ]
    on = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return [*HTTPConnection.default_socket_options, on, *probes]


def _prepared(url: str, headers: dict[str, str], body: bytes) -> requests.PreparedRequest:
    """Put a request together by hand.

    `Session.request` would let ~/.netrc replace the Authorization, and both it and
    `Request.prepare` would take the same address apart for each call.
    """
    request = requests.PreparedRequest()
    request.method, request.url, request.body = "POST", url, body
    request.prepare_headers(headers)
    request.prepare_cookies({})
    return request


def _checked_url(api_url: str) -> str:
    """Return the base of the Web API as requests writes it."""
    try:
        url = requests.Request("POST", api_url).prepare().url
    except requests.RequestException as error:
        raise _url_error() from error
    if url is None or not url.startswith(("http://", "https://")):
        raise _url_error()
    return url


def _url_error() -> ConfigurationError:
    return ConfigurationError(
        "SLACK_API_URL", "it is not an address", "leave it empty, or write https://host/api/"
    )


def _check_bundle(verify: object) -> None:
    if isinstance(verify, str) and not Path(verify).exists():
        name = "REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "CURL_CA_BUNDLE"
        raise ConfigurationError(name, "there is no such file", "name a PEM file, or unset it")
