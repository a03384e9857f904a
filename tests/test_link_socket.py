"""TLS and proxies of a link, as the environment orders them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.link_socket import Dialer
from chatrelaybot.playground.links import Cut
from chatrelaybot.playground.workspace import Workspace
from tests.forwarder import CERTIFICATE, Forwarder
from tests.listening import Acker, Line

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    for name in (*bundles, *PROXY_NAMES, *(name.lower() for name in PROXY_NAMES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(name="tls")
def _tls(workspace: Workspace) -> Iterator[Forwarder]:
    """Ends TLS in front of the workspace."""
    with Forwarder(target=workspace.port, is_tls=True) as tls:
        yield tls


@pytest.fixture(name="proxy")
def _proxy() -> Iterator[Forwarder]:
    with Forwarder() as proxy:
        yield proxy


def ask_over(line: Line, workspace: Workspace) -> None:
    """Send a question, and wait for its ack."""
    line.run(Acker(line).step)
    workspace.wait_for_link()
    workspace.say(workspace.open_dm(), "hello")
    workspace.wait_for(lambda: workspace.acked_count)


def tls_line(workspace: Workspace, tls: Forwarder) -> Line:
    """Return links that go through TLS; Slack's addresses are wss."""

    def open_url() -> str:
        url = line.slack.open_link_url(workspace.app_token)
        return url.replace(f"ws://127.0.0.1:{workspace.port}", f"wss://127.0.0.1:{tls.port}")

    line = Line(workspace, open_url=open_url)
    return line


def failure(url: str) -> str:
    """Return what a dialer says of an address that it cannot connect to."""
    with pytest.raises(TransientError) as caught:
        Dialer(timeout=2.0).dial(url)
    return str(caught.value)


# --- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_link_trusts_the_bundle_of_the_environment(
    workspace: Workspace, tls: Forwarder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(CERTIFICATE))

    with tls_line(workspace, tls) as line:
        ask_over(line, workspace)
        workspace.wait_for(lambda: line.links.is_up)


@pytest.mark.parametrize("how", ["close_frame", "fin", "reset"])
def test_a_link_inside_tls_is_replaced(
    workspace: Workspace,
    tls: Forwarder,
    monkeypatch: pytest.MonkeyPatch,
    how: Cut,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with tls_line(workspace, tls) as line:
        workspace.wait_for(lambda: line.links.is_up)

        workspace.cut_link(how)

        workspace.wait_for(lambda: len(workspace.links) == 2 and line.links.is_up)
        ask_over(line, workspace)


def test_a_burst_comes_through_tls(
    workspace: Workspace, tls: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread reads while another sends acks over the same TLS connection."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    channel = workspace.add_channel()
    with tls_line(workspace, tls) as line:
        line.run(Acker(line).step)
        workspace.wait_for_link()

        workspace.burst(400, channels=[channel])
        workspace.wait_for(lambda: workspace.acked_count == 400)

    assert len(workspace.links) == 1


def test_a_link_trusts_a_directory_of_certificates(
    tls: Forwarder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # OpenSSL finds a certificate by the hash of its subject: `openssl x509 -hash -noout -in …`.
    (tmp_path / "7ba33457.0").write_bytes(CERTIFICATE.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))

    with closing(Dialer(timeout=2.0).dial(f"wss://127.0.0.1:{tls.port}/")) as connection:
        assert isinstance(connection, ssl.SSLSocket)


def test_an_unknown_authority_is_not_trusted(tls: Forwarder) -> None:
    reason = failure(f"wss://127.0.0.1:{tls.port}/?ticket=abc")

    assert reason.startswith("no connection to 127.0.0.1: SSLCertVerificationError (")
    assert "abc" not in reason


def test_a_certificate_of_another_host_is_not_trusted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    with Forwarder(host="127.0.0.2", target=workspace.port, is_tls=True) as tls:
        reason = failure(f"wss://127.0.0.2:{tls.port}/")

    assert "SSLCertVerificationError (IP address mismatch" in reason


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "garbage"])
def test_a_bundle_that_is_none_names_its_setting(
    tls: Forwarder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    content: str | None,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv(name, str(bundle))

    with pytest.raises(ConfigurationError) as caught:
        Dialer(timeout=2.0).dial(f"wss://127.0.0.1:{tls.port}/")

    assert caught.value.setting == name


def test_a_peer_that_does_not_speak_tls_is_no_connection(workspace: Workspace) -> None:
    assert "SSLError" in failure(f"wss://127.0.0.1:{workspace.port}/")


def test_a_handshake_that_is_not_answered_has_a_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TransientError):
        Dialer(timeout=0.1).dial(f"wss://127.0.0.1:{mute.getsockname()[1]}/")


# --- proxies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "name"),
    [("wss", "HTTPS_PROXY"), ("wss", "https_proxy"), ("wss", "ALL_PROXY"), ("ws", "HTTP_PROXY")],
)
def test_a_proxy_of_the_environment_is_used(
    tls: Forwarder,
    workspace: Workspace,
    proxy: Forwarder,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    name: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    port = tls.port if scheme == "wss" else workspace.port

    with closing(Dialer(timeout=2.0).dial(f"{scheme}://127.0.0.1:{port}/link")):
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.")


def test_a_link_works_through_a_proxy(
    tls: Forwarder, workspace: Workspace, proxy: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")

    with tls_line(workspace, tls) as line:
        ask_over(line, workspace)

    assert len(proxy.heads) == 1


def test_a_proxy_is_told_who_we_are(
    workspace: Workspace, proxy: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")

    with closing(Dialer(timeout=2.0).dial(f"ws://127.0.0.1:{workspace.port}/")):
        assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in proxy.heads[0]


@pytest.mark.parametrize("without", ["127.0.0.1", "127.0.0.0/8", "*"])
def test_no_proxy_is_honoured(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", without)

    with closing(Dialer(timeout=2.0).dial(f"ws://127.0.0.1:{workspace.port}/")) as connection:
        assert connection.getpeername()[1] == workspace.port


def test_a_proxy_that_refuses_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with Forwarder(answer="407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{proxy.port}")

        reason = failure("wss://127.0.0.1:1/")

    assert reason == "no connection to 127.0.0.1: OSError"


def test_a_proxy_that_does_not_answer_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{mute.getsockname()[1]}")

        with pytest.raises(TransientError, match="TimeoutError"):
            Dialer(timeout=0.1).dial("wss://127.0.0.1:1/")


@pytest.mark.parametrize(
    "address", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "http://[oops"]
)
def test_a_proxy_that_is_none_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)

    with pytest.raises(ConfigurationError) as caught:
        Dialer(timeout=2.0).dial("wss://127.0.0.1:1/")

    assert caught.value.setting == "HTTPS_PROXY"


# --- no connection ---------------------------------------------------------------------------


def test_a_refused_connection_is_named() -> None:
    assert failure("ws://127.0.0.1:1/?ticket=abc") == (
        "no connection to 127.0.0.1: ConnectionRefusedError"
    )


@pytest.mark.parametrize(
    "url", ["", "ws://", "gopher://127.0.0.1/", "/link", "ws://a:b/", "ws://[/"]
)
def test_an_address_that_is_none_is_no_connection(url: str) -> None:
    assert failure(url) == "Slack gave no address of a link"
