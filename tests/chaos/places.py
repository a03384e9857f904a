"""The workspace of the storm and the conversations in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from chatrelaybot.playground.arguments import Arguments
from chatrelaybot.playground.people import Announcements
from chatrelaybot.playground.web_api import WebApi
from chatrelaybot.playground.workspace import Workspace

#: Of three conversations one is direct; the threads are in channels, so many in each.
_DIRECT_EVERY, _THREADS_IN_CHANNEL = 3, 3
#: What becomes of an event that nobody acks, in seconds: more tries than Slack makes, so that each
#: gets through when all is calm at last.
_TRIES = {
    "ack_seconds": 3.0,
    "redelivery": (0.0, 5.0, 15.0, 30.0, 30.0, *[60.0] * 10),
    "resume_seconds": 0.5,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation is held; without a thread it is direct."""

    channel: str
    thread_ts: str | None


class BlindWorkspace(Workspace):
    """One that does not show the bot the metadata by which it finds its own messages again."""

    def _new_web_api(self, announcements: Announcements) -> WebApi:
        api = super()._new_web_api(announcements)
        for name in ("conversations.history", "conversations.replies"):
            spec = api._methods[name]
            api._methods[name] = replace(spec, run=_without_metadata(spec.run))  # type: ignore[index]
        return api


def workspace_for(*, is_blind: bool) -> Workspace:
    """Return a workspace with Slack's own limits."""
    return (BlindWorkspace if is_blind else Workspace)(**_TRIES)  # type: ignore[arg-type]


def settle_in(workspace: Workspace, count: int) -> list[Place]:
    """Bring in people and channels, and begin so many conversations."""
    places: list[Place] = []
    channel = ""
    for number in range(count):
        if number % _DIRECT_EVERY == 0:
            place = Place(workspace.open_dm(workspace.add_user(f"user{number}")), None)
        else:
            threads = sum(place.channel == channel for place in places)
            if threads in (0, _THREADS_IN_CHANNEL):
                channel = workspace.add_channel(f"channel{number}")
            place = Place(channel, workspace.say(channel, "a talk among people"))
        places.append(place)
    return places


def _without_metadata(
    run: Callable[[Arguments], dict[str, Any]],
) -> Callable[[Arguments], dict[str, Any]]:
    def blind(arguments: Arguments) -> dict[str, Any]:
        answer = run(arguments)
        messages = [
            {key: value for key, value in message.items() if key != "metadata"}
            for message in answer["messages"]
        ]
        return {**answer, "messages": messages}

    return blind
