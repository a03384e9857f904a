"""The same on Bolt, as its documentation has it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from tests.bench.contenders.body import answer, web_client, worker_count


def main() -> None:
    """Answer mentions until the process is ended."""
    app = App(client=web_client(), listener_executor=ThreadPoolExecutor(worker_count()))

    @app.event("app_mention")
    def mentioned(event: dict[str, Any], client: WebClient) -> None:
        answer(client, event)

    SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
