"""How the calls travel: connections, proxies, TLS, and what happens when a connection breaks."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.socket_mode.client import BaseSocketModeClient

from chatrelaybot.errors import (
    ConfigurationError,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from chatrelaybot.render import Message
from chatrelaybot.slack import Slack
from tests.forwarder import CERTIFICATE
from tests.scripted_web_api import DEADLINE, Answer, WebApi

TOKEN = "xoxb-made-up"
MESSAGE = Message(markdown="An **answer**.", text="An answer.")

OpenSlack = Callable[..., Slack]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(name="api")
def _api() -> Iterator[WebApi]:
    with WebApi() as api:
        yield api


@pytest.fixture(name="tls_api")
def _tls_api() -> Iterator[WebApi]:
    with WebApi(is_tls=True) as api:
        yield api


@pytest.fixture(name="open_slack")
def _open_slack() -> Iterator[OpenSlack]:
    with ExitStack() as stack:

        def open_slack(api_url: str, *, pool_size: int = 10, timeout: float = DEADLINE) -> Slack:
            slack = Slack(bot_token=TOKEN, api_url=api_url, pool_size=pool_size, timeout=timeout)
            stack.callback(slack.close)
            return slack

        yield open_slack


# Connections


def test_fifty_calls_share_one_connection(api: WebApi, open_slack: OpenSlack) -> None:
    """This fails when an slack_sdk update sends its calls by another way than the one replaced."""
    slack = open_slack(api.url)

    for _ in range(25):
        slack.update("C1", "1.1", MESSAGE)
        slack.react("C1", "1.1", "eyes")

    assert len(api.calls) == 50
    assert api.connection_count == 1


def test_the_pagination_of_slack_sdk_shares_the_connection(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)
    cursor = {"response_metadata": {"next_cursor": "next"}}
    api.script("users.list", Answer(cursor), Answer({"members": []}))

    pages = list(slack.web_client.users_list())

    assert len(pages) == 2
    assert [call.body.get("cursor") for call in api.calls] == [None, "next"]
    assert api.connection_count == 1


def test_a_client_of_socket_mode_opens_its_link_over_the_same_connection(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)
    url = "wss://127.0.0.1/link/?ticket=1"
    api.script("apps.connections.open", Answer({"url": url}), Answer({"url": url}))
    link = BaseSocketModeClient()
    link.app_token, link.web_client = "xapp-1", slack.web_client

    assert link.issue_new_wss_url() == url
    assert slack.open_link_url("xapp-1") == url
    assert [call.headers["Authorization"] for call in api.calls] == ["Bearer xapp-1"] * 2
    assert api.connection_count == 1


def test_close_ends_the_connections(api: WebApi, open_slack: OpenSlack) -> None:
    slack = open_slack(api.url)
    slack.update("C1", "1.1", MESSAGE)

    slack.close()

    assert api.wait_until_all_ended()


def test_a_hundred_threads_each_get_their_own_answer(api: WebApi, open_slack: OpenSlack) -> None:
    slack = open_slack(api.url, pool_size=100)
    everyone = threading.Barrier(100, timeout=DEADLINE)

    def post(number: int) -> list[str]:
        everyone.wait()
        message = Message(markdown="An answer.", text=f"{number}")  # Comes back as the ts.
        return [
            slack.post("C1", None, message, question_id="q", part=part, as_plain=False)
            for part in range(3)
        ]

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(post, range(100), timeout=DEADLINE))

    assert answers == [[f"{number}"] * 3 for number in range(100)]
    assert api.connection_count <= 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of connections")
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:{port}"])
def test_a_resting_connection_is_probed(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.format(port=api.address.rpartition(":")[2]))
    open_slack(api.url).update("C1", "1.1", MESSAGE)

    # Columns of /proc/net/tcp: 1 is the local address, 5 the timer; "02" is the one that probes.
    port = f":{api.calls[0].port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    assert [row[5][:2] for row in rows if row[1].endswith(port)] == ["02"]


def test_netrc_does_not_replace_the_token(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))

    open_slack(api.url).update("C1", "1.1", MESSAGE)

    assert api.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_cookie_is_not_sent_back(api: WebApi, open_slack: OpenSlack) -> None:
    slack = open_slack(api.url)
    api.script("chat.update", Answer(headers={"Set-Cookie": "b=1; Path=/"}))

    slack.update("C1", "1.1", MESSAGE)
    slack.update("C1", "1.1", MESSAGE)

    assert "Cookie" not in api.calls[1].headers


def test_files_are_refused_rather_than_sent_by_another_way(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)

    with pytest.raises(SlackRequestError):
        slack.web_client.api_call("files.upload", files={"file": b"content"}, data={"a": "b"})

    assert api.calls == []


def test_half_a_surrogate_pair_can_be_sent(api: WebApi, open_slack: OpenSlack) -> None:
    message = Message(markdown="half \ud83d", text="half \ud83d")

    open_slack(api.url).update("C1", "1.1", message)

    assert api.calls[0].body["text"] == "half \ud83d"


def test_a_base_without_a_slash_at_its_end_is_understood(
    api: WebApi, open_slack: OpenSlack
) -> None:
    open_slack(api.url.removesuffix("/")).update("C1", "1.1", MESSAGE)

    assert api.calls[0].path == "/api/chat.update"


@pytest.mark.parametrize("url", ["slack.com/api", "ftp://slack.com/api/", "https://", ""])
def test_an_address_that_is_none_names_its_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SLACK_API_URL"):
        Slack(bot_token=TOKEN, api_url=url, pool_size=1)


def test_slack_sdk_writes_no_bodies_to_the_log(
    api: WebApi,
    open_slack: OpenSlack,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    slack = open_slack(api.url)
    api.script("chat.update", Answer(), Answer(b'{"text": "An answer.'), Answer({"error": "oops"}))

    slack.update("C1", "1.1", MESSAGE)
    with pytest.raises(OutcomeUnknown):
        slack.update("C1", "1.1", MESSAGE)
    with pytest.raises(PermanentError):
        slack.update("C1", "1.1", MESSAGE)

    written = caplog.text + capsys.readouterr().err
    assert "answer" not in written.lower()
    assert TOKEN not in written


# Broken connections


def test_a_connection_closed_while_it_rested_is_replaced(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)
    api.script("chat.postMessage", Answer({"ts": "1.1"}, cut="after"))

    slack.post("C1", None, MESSAGE, question_id="q", part=0)
    assert api.closed_one.wait(DEADLINE)
    slack.post("C1", None, MESSAGE, question_id="q", part=1)

    assert [call.body["metadata"]["event_payload"]["part"] for call in api.calls] == [0, 1]
    assert api.connection_count == 2


@pytest.mark.parametrize("cut", ["fin", "reset"])
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_an_update_cut_off_is_sent_once_more(
    api: WebApi,
    tls_api: WebApi,
    open_slack: OpenSlack,
    monkeypatch: pytest.MonkeyPatch,
    cut: str,
    kind: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    server = tls_api if kind == "tls" else api
    slack = open_slack(server.url)
    server.script("chat.update", Answer(), Answer(cut=cut), Answer())

    slack.update("C1", "1.1", MESSAGE)
    slack.update("C1", "1.1", MESSAGE)

    assert len(server.calls) == 3
    assert server.connection_count == 2


def test_an_update_cut_off_twice_is_given_up(api: WebApi, open_slack: OpenSlack) -> None:
    slack = open_slack(api.url)
    api.script("chat.update", Answer(cut="fin"), Answer(cut="fin"))

    with pytest.raises(OutcomeUnknown, match=r"chat\.update: ConnectionError"):
        slack.update("C1", "1.1", MESSAGE)

    assert len(api.calls) == 2


def test_an_update_that_is_cut_off_after_a_while_is_left_to_its_caller(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)
    gate = threading.Event()
    api.script("chat.update", Answer(cut="fin", gate=gate), Answer())
    timer = threading.Timer(1.2, gate.set)
    timer.start()

    with pytest.raises(OutcomeUnknown, match=r"chat\.update: ConnectionError"):
        slack.update("C1", "1.1", MESSAGE)

    timer.join()
    assert len(api.calls) == 1


@pytest.mark.parametrize("cut", ["fin", "reset"])
def test_a_post_cut_off_is_never_sent_again(api: WebApi, open_slack: OpenSlack, cut: str) -> None:
    slack = open_slack(api.url)
    api.script("chat.postMessage", Answer(cut=cut))

    with pytest.raises(OutcomeUnknown):
        slack.post("C1", None, MESSAGE, question_id="q", part=0)

    assert len(api.calls) == 1


def test_an_answer_cut_off_midway_leaves_the_outcome_unknown(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url)
    api.script("chat.update", Answer({"ts": "1.1"}, cut="midway"))

    with pytest.raises(OutcomeUnknown):
        slack.update("C1", "1.1", MESSAGE)

    assert len(api.calls) == 1


def test_an_answer_that_is_too_late_leaves_the_outcome_unknown(
    api: WebApi, open_slack: OpenSlack
) -> None:
    slack = open_slack(api.url, timeout=0.05)
    gate = threading.Event()
    api.script("chat.update", Answer(gate=gate))

    try:
        with pytest.raises(OutcomeUnknown, match=r"chat\.update: ReadTimeout"):
            slack.update("C1", "1.1", MESSAGE)
    finally:
        gate.set()

    assert len(api.calls) == 1


def test_a_refused_connection_means_that_nothing_happened(open_slack: OpenSlack) -> None:
    with WebApi() as gone:
        url = gone.url

    with pytest.raises(TransientError) as caught:
        open_slack(url).post("C1", None, MESSAGE, question_id="q", part=0)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.__cause__ is not None


# Proxies and TLS


def test_a_proxy_of_the_environment_is_used(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", api.address.replace("://", "://somebody:secret@"))
    slack = open_slack("http://slack.invalid/api/")

    slack.update("C1", "1.1", MESSAGE)
    slack.update("C1", "1.1", MESSAGE)

    assert [call.path for call in api.calls] == ["http://slack.invalid/api/chat.update"] * 2
    assert api.calls[0].headers["Proxy-Authorization"].startswith("Basic ")
    assert api.connection_count == 1


def test_no_proxy_is_honoured(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    slack = open_slack(api.url)
    slack.update("C1", "1.1", MESSAGE)

    assert api.calls[0].path == "/api/chat.update"
    assert slack.web_client.proxy is None  # slack_sdk's Socket Mode clients may read this.


def test_a_proxy_that_is_down_means_that_nothing_happened(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    with pytest.raises(TransientError, match="ProxyError") as caught:
        open_slack(api.url).post("C1", None, MESSAGE, question_id="q", part=0)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert api.calls == []


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:1", "http://", "http://[oops"])
def test_a_proxy_that_is_none_names_its_setting(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)

    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        open_slack(api.url).update("C1", "1.1", MESSAGE)


def test_tls_goes_through_the_tunnel_of_a_proxy_once(
    api: WebApi, tls_api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", api.address)
    slack = open_slack(tls_api.url)

    for _ in range(5):
        slack.update("C1", "1.1", MESSAGE)
    slack.close()

    assert [call.path for call in api.calls] == [tls_api.address.removeprefix("https://")]
    assert len(tls_api.calls) == 5


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_is_trusted(
    tls_api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(CERTIFICATE))
    slack = open_slack(tls_api.url)

    for _ in range(10):
        slack.update("C1", "1.1", MESSAGE)

    assert len(tls_api.calls) == 10
    assert tls_api.connection_count == 1


def test_a_server_that_is_not_trusted_gets_nothing(tls_api: WebApi, open_slack: OpenSlack) -> None:
    with pytest.raises(TransientError, match="SSLError") as caught:
        open_slack(tls_api.url).post("C1", None, MESSAGE, question_id="q", part=0)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert tls_api.calls == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_is_not_there_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "none.pem"))

    with pytest.raises(ConfigurationError, match=name):
        Slack(bot_token=TOKEN, api_url="https://slack.com/api/", pool_size=1)


def test_a_bundle_that_vanishes_is_waited_for(
    tls_api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It does while the system's certificates are being updated."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(CERTIFICATE.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    slack = open_slack(tls_api.url)
    bundle.unlink()

    with pytest.raises(TransientError):
        slack.update("C1", "1.1", MESSAGE)


def test_the_client_raises_what_slack_sdk_promises(api: WebApi, open_slack: OpenSlack) -> None:
    api.script("apps.connections.open", Answer({"error": "ratelimited"}, status=429))

    with pytest.raises(SlackApiError) as caught:
        open_slack(api.url).web_client.apps_connections_open(app_token="xapp-1")

    assert caught.value.response["error"] == "ratelimited"


def test_the_environment_is_read_once(
    api: WebApi, open_slack: OpenSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests alone reads it for each call, which costs more than putting the call together."""
    slack = open_slack(api.url)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    slack.update("C1", "1.1", MESSAGE)

    assert len(api.calls) == 1
