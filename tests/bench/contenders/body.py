"""What people write: placeholder, a stream read on a thread, an edit a second, a last edit.

Shared by the two programs that differ only in how they are told of questions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import requests
from slack_sdk import WebClient
from sseclient import SSEClient

_EDIT_SECONDS = 1.0
_MOST_CHARS = 11_500


def web_client() -> WebClient:
    """Return the client as it comes, for the workspace that the environment names."""
    return WebClient(token=os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API_URL"])


def worker_count() -> int:
    """Return how many answers there may be at once."""
    return int(os.environ["WORKERS"])


def answer(client: WebClient, event: Mapping[str, Any]) -> None:
    """Answer a mention of the bot in its thread."""
    channel, thread_ts = event["channel"], event.get("thread_ts") or event["ts"]
    placeholder = "_Thinking…_"
    posted = client.chat_postMessage(
        channel=channel, thread_ts=thread_ts, text=placeholder, blocks=_blocks(placeholder)
    )
    ts = posted["ts"]
    text, edited_at = "", float("-inf")
    with requests.post(
        os.environ["BACKEND_URL"],
        json={"user_id": event["user"], "query": event["text"], "channel_id": channel},
        headers={"Accept": "text/event-stream"},
        stream=True,
        timeout=60,
    ) as response:
        response.raise_for_status()
        # Its documentation does so, whatever its types say.
        for part in SSEClient(response).events():  # type: ignore[arg-type]
            if part.event == "stream_end":
                break
            text += json.loads(part.data)["text_chunk"]
            if time.monotonic() - edited_at >= _EDIT_SECONDS:
                edited_at = time.monotonic()
                client.chat_update(channel=channel, ts=ts, text=text[:100], blocks=_blocks(text))
    client.chat_update(channel=channel, ts=ts, text=text[:100], blocks=_blocks(text))


def _blocks(text: str) -> list[dict[str, str]]:
    return [{"type": "markdown", "text": text[:_MOST_CHARS]}]
