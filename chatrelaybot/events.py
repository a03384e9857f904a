"""Slack's words as frozen values, and the parsing of Socket Mode envelopes. Pure.

An envelope is the JSON object that Slack sends over the link:
https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: `message` subtypes that still are somebody's words to us. `thread_broadcast` is a reply
#: "also sent to the channel"; dropping it would lose mentions.
_SPOKEN_SUBTYPES = ("file_share", "thread_broadcast", "me_message")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_ENTITY = re.compile("|".join(_ENTITIES))


class ReplyIn(enum.StrEnum):
    """Where a mention outside a thread is answered."""

    THREAD = "thread"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are in a workspace, as `auth.test` tells it."""

    user_id: str
    bot_id: str
    team_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Question:
    """Text that a person addressed to us. `ts` values are opaque, never numbers."""

    event_id: str
    team_id: str
    channel: str
    user_id: str
    text: str
    ts: str
    #: Root of the thread that the reply goes to; None for a reply outside a thread.
    thread_ts: str | None
    #: True where the conversation is a direct message (`im` or `mpim`).
    is_direct: bool = False

    @property
    def id(self) -> str:
        """The same for every delivery of the same message: derived from where and when."""
        key = "\0".join((self.team_id, self.channel, self.ts))
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    @property
    def conversation(self) -> str:
        """Key of the place the reply goes to; questions with the same key keep their order."""
        return ":".join((self.team_id, self.channel, self.thread_ts or ""))


@dataclass(frozen=True, slots=True)
class Control:
    """A message of the link itself: `hello`, or `disconnect` with its reason."""

    type: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What `parse` needs to know: who we are, and where we may answer."""

    identity: Identity
    reply_in: ReplyIn = ReplyIn.THREAD
    #: Answer in these channels only; empty: everywhere.
    channels: frozenset[str] = frozenset()


def parse(envelope: Mapping[str, Any], reading: Reading) -> Question | Control | None:
    """Return the question or control message in an envelope, None for all else."""
    kind = envelope.get("type")
    if kind in ("hello", "disconnect"):
        return Control(type=kind, reason=envelope.get("reason"))
    payload = envelope.get("payload")
    if kind != "events_api" or not isinstance(payload, Mapping):
        return None
    event = payload.get("event")
    if not isinstance(event, Mapping) or _objection(event, reading) is not None:
        return None
    return _question(payload, event, reading)


def why_ignored(envelope: Mapping[str, Any], reading: Reading) -> str:
    """Return in a word why `parse` finds no question in an envelope; there are few such words."""
    payload = envelope.get("payload")
    event = payload.get("event") if isinstance(payload, Mapping) else None
    if envelope.get("type") != "events_api" or not isinstance(event, Mapping):
        return "not_an_event"
    return _objection(event, reading) or "incomplete"


def is_mention(message: Mapping[str, Any], reading: Reading) -> bool:
    """Tell whether a message mentions us."""
    return re.search(_mention(reading), str(message.get("text"))) is not None


def _objection(event: Mapping[str, Any], reading: Reading) -> str | None:
    """Return why an event is not for us; None: it is."""
    if event.get("bot_id") or event.get("user") == reading.identity.user_id:
        return "from_a_bot"
    subtype = event.get("subtype")
    if event.get("hidden") or (subtype is not None and subtype not in _SPOKEN_SUBTYPES):
        return "not_spoken"
    if not all(isinstance(event.get(key), str) for key in ("channel", "ts", "user")):
        return "incomplete"
    if reading.channels and event["channel"] not in reading.channels:
        return "other_channel"
    return None if _is_addressed(event, reading) else "not_addressed"


def _is_addressed(event: Mapping[str, Any], reading: Reading) -> bool:
    if event.get("type") != "message":
        return event.get("type") == "app_mention"
    # Slack sends no app_mention for direct messages, whether we are mentioned or not:
    # https://docs.slack.dev/reference/events/app_mention
    if event.get("channel_type") == "im":
        return True
    return event.get("channel_type") == "mpim" and is_mention(event, reading)


def _question(
    payload: Mapping[str, Any], event: Mapping[str, Any], reading: Reading
) -> Question | None:
    event_id, team_id = payload.get("event_id"), payload.get("team_id") or event.get("team")
    if not isinstance(event_id, str) or not isinstance(team_id, str):
        return None
    channel_type = event.get("channel_type")
    is_direct = channel_type in ("im", "mpim") or event["channel"].startswith("D")
    return Question(
        event_id=event_id,
        team_id=team_id,
        channel=event["channel"],
        user_id=event["user"],
        text=_plain_text(str(event.get("text") or ""), reading),
        ts=event["ts"],
        thread_ts=_reply_thread(event, is_direct=is_direct, reply_in=reading.reply_in),
        is_direct=is_direct,
    )


def _reply_thread(event: Mapping[str, Any], *, is_direct: bool, reply_in: ReplyIn) -> str | None:
    if isinstance(event.get("thread_ts"), str):
        return str(event["thread_ts"])
    if is_direct or reply_in is ReplyIn.CHANNEL:
        return None
    return str(event["ts"])


def _mention(reading: Reading) -> str:
    """Return the pattern of a mention of us."""
    return rf"<@{re.escape(reading.identity.user_id)}(?:\|[^>]*)?>"


def _plain_text(text: str, reading: Reading) -> str:
    """Strip our mention at both ends, name us inside the text, decode Slack's entities."""
    mention = _mention(reading)
    text = re.sub(rf"\A(?:\s|{mention})+|(?:\s|{mention})+\Z", "", text)
    text = re.sub(mention, lambda _: reading.identity.name, text)
    return _ENTITY.sub(lambda match: _ENTITIES[match.group()], text)
