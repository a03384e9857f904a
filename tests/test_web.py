"""The small HTTP server, asked over real sockets."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.web import Web

DEADLINE = 10.0

Serve = Callable[..., Web]


@pytest.fixture(name="serve")
def _serve() -> Iterator[Serve]:
    """Return a function that starts a server; its keywords replace what is well."""
    with ExitStack() as stack:

        def serve(**more: Any) -> Web:
            well: dict[str, Any] = {
                "host": "127.0.0.1",
                "port": 0,
                "live": lambda: {"loops": None},
                "ready": lambda: {"link": None},
                "metrics": None,
                "failed": pytest.fail,
            }
            web = Web(**{**well, **more})
            web.start()
            stack.callback(web.close)
            return web

        yield serve


def ask(web: Web, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


@pytest.mark.parametrize(("path", "name"), [("/livez", "loops"), ("/readyz", "link")])
def test_what_is_well_is_told_with_the_names_of_what_was_looked_at(
    serve: Serve, path: str, name: str
) -> None:
    status, headers, body = ask(serve(), path)

    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"status": "ok", "checks": {name: "ok"}}


def test_what_is_wrong_is_told_with_its_reason(serve: Serve) -> None:
    web = serve(ready=lambda: {"link": "no link to Slack: silence", "database": None})

    status, _, body = ask(web, "/readyz")

    assert status == 503
    assert json.loads(body) == {
        "status": "failing",
        "checks": {"link": "no link to Slack: silence", "database": "ok"},
    }
    assert ask(web, "/livez")[0] == 200


def test_nobody_is_told_what_serves(serve: Serve) -> None:
    _, headers, _ = ask(serve(), "/livez")

    assert set(headers) == {"Content-Type", "Content-Length", "Cache-Control", "Date"}


def test_a_head_is_a_get_without_its_body(serve: Serve) -> None:
    web = serve()
    _, headers, body = ask(web, "/readyz")

    status, heads, nothing = ask(web, "/readyz", "HEAD")

    assert (status, nothing) == (200, b"")
    assert heads["Content-Length"] == headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(serve: Serve, method: str) -> None:
    status, headers, _ = ask(serve(), "/readyz", method)

    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/readyz/", "/metrics", "/..%2fsettings"])
def test_there_is_nothing_else(serve: Serve, path: str) -> None:
    status, _, body = ask(serve(), path)

    assert (status, body) == (404, b"not found\n")


def test_metrics_are_shown_as_they_are(serve: Serve) -> None:
    web = serve(metrics=lambda: (b"up 1\n", "text/plain; version=0.0.4"))

    status, headers, body = ask(web, "/metrics")

    assert (status, body) == (200, b"up 1\n")
    assert headers["Content-Type"] == "text/plain; version=0.0.4"


def test_a_look_that_breaks_is_an_error_and_no_end(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, str | None]:
        raise RuntimeError("a secret")

    web = serve(live=broken)

    status, headers, body = ask(web, "/livez")

    assert status == 500
    assert "Server" not in headers
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert ask(web, "/readyz")[0] == 200
    assert caplog.records[-1].name == "waitress"


def test_who_sends_too_much_is_refused(serve: Serve) -> None:
    with closing(socket.create_connection(("127.0.0.1", serve().port), DEADLINE)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")

        assert connection.recv(100).startswith(b"HTTP/1.0 431 ")


def test_who_says_nothing_holds_nobody_up(serve: Serve) -> None:
    web = serve()
    with ExitStack() as stack:
        for _ in range(20):
            silent = socket.create_connection(("127.0.0.1", web.port), DEADLINE)
            stack.callback(silent.close)
            silent.sendall(b"GET /livez HTTP/1.1\r\n")

        assert ask(web, "/livez")[0] == 200


def test_a_stop_closes_all_and_leaves_no_thread(serve: Serve) -> None:
    before = threading.active_count()
    web = serve()
    with closing(socket.create_connection(("127.0.0.1", web.port), DEADLINE)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        received = b""
        while not received.endswith(b"}\n}\n") and (data := connection.recv(1000)):
            received += data
        assert received.startswith(b"HTTP/1.1 200 OK")

        web.close()

        assert connection.recv(1000) == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", web.port), DEADLINE)


def test_the_port_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        web = serve()

    (record,) = [record for record in caplog.records if record.name == "chatrelaybot.web"]
    assert record.message == "health served"
    assert vars(record)["port"] == web.port


def test_a_port_that_is_in_use_is_named_with_its_mend(serve: Serve) -> None:
    taken = serve().port

    with pytest.raises(ConfigurationError) as caught:
        serve(port=taken)

    assert str(caught.value) == (
        f"HTTP_PORT: port {taken} is in use; choose another, 0 for any, or off"
    )


@pytest.mark.parametrize("host", ["203.0.113.7", "x" * 64])
def test_an_address_of_another_machine_is_named_with_its_mend(serve: Serve, host: str) -> None:
    """It may be its own soon: at a boot names and interfaces come late."""
    with pytest.raises(TransientError, match=f"^HTTP_HOST: {host} is no address of this"):
        serve(host=host)
