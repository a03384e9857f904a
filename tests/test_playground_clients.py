"""slack_sdk's own Socket Mode clients against the local workspace."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing

import pytest
from slack_sdk import WebClient
from slack_sdk.socket_mode.builtin import SocketModeClient as BuiltinClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.socket_mode.websocket_client import SocketModeClient as WebSocketClient

from chatrelaybot.playground.workspace import Workspace


def ack(client: BaseSocketModeClient, request: SocketModeRequest) -> None:
    client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))


def talk(workspace: Workspace, client: BaseSocketModeClient, count: int) -> None:
    """Connect the client and let it ack so many events."""
    client.socket_mode_request_listeners.append(ack)
    client.connect()
    workspace.wait_for_link()
    workspace.burst(count, channels=[workspace.add_channel()])
    workspace.wait_for(lambda: workspace.acked_count == count)
    assert {len(delivery.sends) for delivery in workspace.deliveries} == {1}


@pytest.fixture(name="web_client")
def _web_client(workspace: Workspace) -> WebClient:
    return WebClient(token=workspace.bot_token, base_url=workspace.api_url)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_websocket_client_acks_a_burst(workspace: Workspace, web_client: WebClient) -> None:
    with closing(WebSocketClient(workspace.app_token, web_client=web_client)) as client:
        talk(workspace, client, 500)
        end_link(workspace, client)


def end_link(workspace: Workspace, client: WebSocketClient) -> None:
    """End the link from Slack's side; from the client's side it may take ten seconds."""
    client.auto_reconnect_enabled = False
    workspace.cut_link()
    workspace.wait_for(lambda: not client.is_connected())


@pytest.fixture(autouse=True)
def _collect_sockets() -> Iterator[None]:
    """websocket-client leaves the socket of a link that the other side closed to be collected."""
    yield
    gc.collect()


def test_the_builtin_client_acks_its_events(workspace: Workspace, web_client: WebClient) -> None:
    builtin = BuiltinClient(workspace.app_token, web_client=web_client, ping_interval=1)
    with closing(builtin) as client:
        # It reads by recursion, and does not survive a burst of thousands.
        talk(workspace, client, 50)
