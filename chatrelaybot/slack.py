"""The Web API calls that this program makes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from chatrelaybot.errors import OutcomeUnknown, TransientError
from chatrelaybot.events import Identity
from chatrelaybot.render import Message
from chatrelaybot.slack_calls import SlackCalls
from chatrelaybot.slack_client import PooledWebClient
from chatrelaybot.slack_errors import OPEN_LINK, Refusal, failure, token_error
from chatrelaybot.telemetry_metrics import SILENT, Metrics
from chatrelaybot.telemetry_spans import Value

_log = logging.getLogger(__name__)

#: Metadata is readable for all in the channel and comes back with a message's history:
#: https://docs.slack.dev/messaging/message-metadata/
_EVENT_TYPE = "chatrelaybot_reply"
#: Bounds of a search in a conversation: messages a page, and pages.
_PAGE_SIZE = 200
_PAGE_LIMIT = 5
#: Most characters of a section: https://docs.slack.dev/reference/block-kit/blocks/section-block
_SECTION_LIMIT = 3_000
#: A section ends with a line if one ends within its last characters. No more of them, so that
#: a message of the longest kind still is four sections.
_SECTION_SLACK = 120
_ENTITY_START = re.compile(r"&[a-z]{0,3}\Z")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part of a reply that is in Slack already."""

    part: int
    ts: str


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a conversation, its messages as Slack has them."""

    messages: Sequence[Mapping[str, Any]]
    cursor: str | None  #: where the next page begins; None: there is none


class Slack:
    """The calls that this program makes. Safe for any number of threads."""

    def __init__(
        self,
        *,
        bot_token: str,
        api_url: str,
        pool_size: int,
        timeout: float = 30.0,
        metrics: Metrics = SILENT,
    ) -> None:
        """`pool_size` is the number of calls at once; `timeout`, in seconds, is for an answer."""
        _check_token("chat.postMessage", bot_token)
        self._client = PooledWebClient(
            token=bot_token, api_url=api_url, pool_size=pool_size, timeout=timeout
        )
        self._calls = SlackCalls(api_url=api_url, metrics=metrics)
        self._identity: Identity | None = None

    @property
    def web_client(self) -> WebClient:
        """The client itself, for slack_sdk's Socket Mode clients."""
        return self._client

    def close(self) -> None:
        """Close the connections that no call uses."""
        self._client.close()

    def identify(self) -> Identity:
        """Ask who we are."""
        answer = self._call("auth.test")
        if not answer.get("bot_id"):
            raise token_error("auth.test", "it is not the token of a bot")
        identity = Identity(
            user_id=_text(answer, "auth.test", "user_id"),
            bot_id=_text(answer, "auth.test", "bot_id"),
            team_id=_text(answer, "auth.test", "team_id"),
            name=_text(answer, "auth.test", "user"),
        )
        self._identity = identity
        return identity

    def open_link_url(self, app_token: str) -> str:
        """Return the address of a new Socket Mode link; it is good for one connection."""
        _check_token(OPEN_LINK, app_token)
        return _text(self._call(OPEN_LINK, params={"token": app_token}), OPEN_LINK, "url")

    def post(
        self,
        channel: str,
        thread_ts: str | None,
        message: Message,
        *,
        question_id: str,
        part: int,
        as_plain: bool = False,
    ) -> str:
        """Post a part of the reply to a question, and return its `ts`."""
        payload: dict[str, Any] = {
            "channel": channel,
            "text": message.text,
            "blocks": _blocks(message, as_plain=as_plain),
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": {
                "event_type": _EVENT_TYPE,
                "event_payload": {"question": question_id, "part": part},
            },
        }
        if thread_ts is not None:
            payload["thread_ts"] = thread_ts
        facts = {"chatrelaybot.part": part, "chatrelaybot.characters": len(message.markdown)}
        answer = self._call("chat.postMessage", body=payload, facts=facts)
        return _text(answer, "chat.postMessage", "ts")

    def update(
        self,
        channel: str,
        ts: str,
        message: Message,
        *,
        as_plain: bool = False,
        is_passing: bool = False,
    ) -> None:
        """Show `message` in the place of what the message shows; its metadata stays.

        A passing edit is one that a later one will replace.
        """
        payload = {
            "channel": channel,
            "ts": ts,
            "text": message.text,
            "blocks": _blocks(message, as_plain=as_plain),
            # An update falls back to parse=client, which may linkify the text anew:
            # https://docs.slack.dev/reference/methods/chat.update
            "parse": "none",
        }
        facts = {"chatrelaybot.characters": len(message.markdown)}
        self._call("chat.update", body=payload, facts=facts, is_passing=is_passing)

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message; one that is gone already is no error."""
        self._call("chat.delete", params={"channel": channel, "ts": ts})

    def react(self, channel: str, ts: str, name: str) -> None:
        """Put a reaction on a message; one that is there already is no error."""
        self._call("reactions.add", params={"channel": channel, "timestamp": ts, "name": name})

    def unreact(self, channel: str, ts: str, name: str) -> None:
        """Take our reaction off a message; one that is gone already is no error."""
        self._call("reactions.remove", params={"channel": channel, "timestamp": ts, "name": name})

    def find_parts(
        self, channel: str, thread_ts: str | None, *, question_id: str, oldest: str
    ) -> list[FoundPart]:
        """Look for parts of the reply to a question, posted after `oldest`; oldest first."""
        # Anybody may copy our metadata, so the author counts as well.
        bot_id = (self._identity or self.identify()).bot_id
        found = [
            part
            for message in self._messages(channel, thread_ts, oldest=oldest)
            if message.get("bot_id") == bot_id and (part := _found_part(message, question_id))
        ]
        return sorted(found, key=lambda part: part.ts)

    def said_since(
        self, channel: str, thread_ts: str | None, *, oldest: str, cursor: str | None = None
    ) -> Page:
        """Read a page of what was said after `oldest`, in a thread or in a channel outside threads.

        Slack begins a channel with its newest message, and shows a thread's root however old it is:
        https://docs.slack.dev/reference/methods/conversations.replies
        """
        method = "conversations.replies" if thread_ts else "conversations.history"
        params: dict[str, Any] = {"channel": channel, "oldest": oldest, "limit": _PAGE_SIZE}
        params["include_all_metadata"] = True
        if thread_ts:
            params["ts"] = thread_ts
        if cursor:
            params["cursor"] = cursor
        answer = self._call(method, params=params)
        next_cursor = (answer.get("response_metadata") or {}).get("next_cursor")
        return Page(answer.get("messages") or (), next_cursor or None)

    def _messages(
        self, channel: str, thread_ts: str | None, *, oldest: str
    ) -> Iterator[Mapping[str, Any]]:
        cursor = None
        for _ in range(_PAGE_LIMIT):
            page = self.said_since(channel, thread_ts, oldest=oldest, cursor=cursor)
            yield from page.messages
            if (cursor := page.cursor) is None:
                return
        _log.warning("gave up searching a long conversation", extra={"channel": channel})

    def _call(
        self,
        method: str,
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        facts: Mapping[str, Value] | None = None,
        is_passing: bool = False,
    ) -> Mapping[str, Any]:
        """Call a method; return Slack's answer, or raise what its refusal means."""
        with self._calls.call(method, facts or {}, is_passing=is_passing) as call:
            try:
                answer = self._client.api_call(method, json=body, params=params).data
            except SlackApiError as error:
                refusal = Refusal.of(method, error)
                if refusal.is_settled:
                    call.answered(refusal.status, None)
                    return {}
                call.answered(refusal.status, refusal.code)
                # Without a code the SDK's error quotes the body, whatever that may hold.
                raise refusal.error() from (error if refusal.code else None)
            except requests.RequestException as error:
                raise failure(method, error) from error
            except OSError as error:  # From requests, when the CA bundle has vanished.
                raise TransientError(f"{method}: {type(error).__name__}") from error
            call.answered(requests.codes.ok, None)
        return answer if isinstance(answer, dict) else {}


def _check_token(method: str, token: str) -> None:
    # requests' own error for a token with a line break in it quotes the token.
    if not _TOKEN.fullmatch(token):
        raise token_error(method, "it holds characters that no token has")


def _text(answer: Mapping[str, Any], method: str, key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str) or not value:
        raise OutcomeUnknown(f"{method}: no {key} in the answer")
    return value


def _found_part(message: Mapping[str, Any], question_id: str) -> FoundPart | None:
    metadata = message.get("metadata") or {}
    payload = metadata.get("event_payload") or {}
    if metadata.get("event_type") != _EVENT_TYPE or payload.get("question") != question_id:
        return None
    part, ts = payload.get("part"), message.get("ts")
    return FoundPart(part, ts) if isinstance(part, int) and isinstance(ts, str) else None


def _blocks(message: Message, *, as_plain: bool) -> list[dict[str, object]]:
    if not as_plain:
        return [{"type": "markdown", "text": message.markdown}]
    # `verbatim`: names of channels and people in an answer must not become live.
    return [
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": section, "verbatim": True},
            "expand": True,
        }
        for section in _sections(message.markdown) or [message.text]
    ]


def _sections(markdown: str) -> list[str]:
    """Cut a text into pieces that each fit a section; blank ones, which Slack refuses, go."""
    sections = []
    while len(markdown) > _SECTION_LIMIT:
        end = _section_end(markdown[:_SECTION_LIMIT])
        sections.append(markdown[:end])
        markdown = markdown[end:]
    return [section for section in (*sections, markdown) if section.strip()]


def _section_end(head: str) -> int:
    line_end = head.rfind("\n", _SECTION_LIMIT - _SECTION_SLACK) + 1
    if line_end:
        return line_end
    entity = _ENTITY_START.search(head)  # `&lt` cut off its `;` would show as such.
    return entity.start() if entity else _SECTION_LIMIT
