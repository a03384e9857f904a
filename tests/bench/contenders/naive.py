"""The hundred-line script: slack_sdk's built-in client and a pool of threads."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from tests.bench.contenders.body import answer, web_client, worker_count


def main() -> None:
    """Answer mentions until the process is ended."""
    web = web_client()
    client = SocketModeClient(app_token=os.environ["SLACK_APP_TOKEN"], web_client=web)
    pool = ThreadPoolExecutor(worker_count())

    def process(client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        event = request.payload.get("event", {})
        if request.type == "events_api" and event.get("type") == "app_mention":
            pool.submit(answer, web, event)

    client.socket_mode_request_listeners.append(process)
    client.connect()
    threading.Event().wait()


if __name__ == "__main__":
    main()
