"""The plainest possible Slack app, to look at the workspace with: what comes, as it comes."""

from __future__ import annotations

import json
from typing import Any, Self

import requests
from websocket import ABNF, WebSocket, create_connection

from chatrelaybot.playground.workspace import Workspace


class Link:
    """A Socket Mode link that does nothing unless it is read; reading answers pings."""

    def __init__(self, url: str) -> None:
        self.socket: WebSocket = create_connection(url, timeout=5)

    def read_frame(self) -> ABNF:
        """Return the next frame, whatever it is."""
        frame: ABNF = self.socket.recv_frame()  # type: ignore[no-untyped-call]
        return frame

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == ABNF.OPCODE_TEXT:
                message: dict[str, Any] = json.loads(data)
                return message
            if opcode == ABNF.OPCODE_CLOSE:
                raise ConnectionError("closed with a close frame")

    def ack(self, envelope: dict[str, Any]) -> None:
        self.socket.send(json.dumps({"envelope_id": envelope["envelope_id"]}))

    def close(self) -> None:
        self.socket.shutdown()  # type: ignore[no-untyped-call]


class App:
    """Calls the Web API over one connection, and opens links."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.session = requests.Session()
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        for link in self._links:
            link.close()

    def send(self, method: str, *, token: str | None = None, **args: Any) -> requests.Response:
        """Call a method with JSON; return the HTTP response."""
        return self.session.post(
            self.workspace.api_url + method,
            json=args,
            headers={"Authorization": f"Bearer {token or self.workspace.bot_token}"},
            timeout=5,
        )

    def call(self, method: str, **args: Any) -> dict[str, Any]:
        """Call a method; return the answer, be it ok or not."""
        answer: dict[str, Any] = self.send(method, **args).json()
        return answer

    def post(self, channel: str, **args: Any) -> str:
        """Post a message; return its ts."""
        answer = self.call("chat.postMessage", channel=channel, **args)
        assert answer["ok"], answer
        return str(answer["ts"])

    def link_url(self) -> str:
        """Return an address that is good for one link."""
        answer = self.call("apps.connections.open", token=self.workspace.app_token)
        return str(answer["url"])

    def open_link(self) -> Link:
        link = Link(self.link_url())
        self._links.append(link)
        return link

    def ready_link(self) -> Link:
        """Return a link that has said hello."""
        link = self.open_link()
        assert link.read()["type"] == "hello"
        return link
