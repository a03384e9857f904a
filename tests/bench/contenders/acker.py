"""The limit of taking in events: a loop that acks, and does nothing else."""

from __future__ import annotations

import asyncio
import json
import os

import aiohttp


async def main() -> None:
    """Ack until the process is ended."""
    async with aiohttp.ClientSession() as session:
        token = {"Authorization": f"Bearer {os.environ['SLACK_APP_TOKEN']}"}
        url = f"{os.environ['SLACK_API_URL']}apps.connections.open"
        async with session.post(url, headers=token) as answer:
            address = (await answer.json())["url"]
        async with session.ws_connect(address, max_msg_size=0) as link:
            async for message in link:
                envelope_id = json.loads(message.data).get("envelope_id")
                if envelope_id:
                    await link.send_str(f'{{"envelope_id":"{envelope_id}"}}')


if __name__ == "__main__":
    asyncio.run(main())
