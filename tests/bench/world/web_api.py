"""Slack's Web API, as far as bots of the bench call it. Lives in the loop.

A call takes the latency of Slack: it is received, then takes effect, which is seen by all at that
moment, and is answered. Whether it is within the limits is decided when it is received.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from chatrelaybot.playground.limits import Limits, RateGate
from tests.bench.world.book import Book
from tests.bench.world.records import Call, Record, Reply
from tests.bench.world.web_server import Connection, Request

PATH = "/api/"
BOT_TOKEN = "xoxb-1-bench"
APP_TOKEN = "xapp-1-bench"
TEAM, BOT_USER, BOT = "T000000BENCH", "U00000BENCH", "B00000BENCH"
_SCOPES = "app_mentions:read,channels:history,chat:write,reactions:write"
_HEADERS = (
    f"X-OAuth-Scopes: {_SCOPES}\r\n"
    "X-Slack-Req-Id: 0f9e8d7c6b5a4938271605f4e3d2c1b0\r\n"
    "X-Content-Type-Options: nosniff\r\nVary: Accept-Encoding\r\n"
    "Strict-Transport-Security: max-age=31536000; includeSubDomains; preload\r\n"
)
_IDENTITY = {
    "url": "https://bench.slack.com/",
    "team": "bench",
    "user": "bench",
    "team_id": TEAM,
    "user_id": BOT_USER,
    "bot_id": BOT,
    "is_enterprise_install": False,
}


class _Refused(Exception):
    """`str()` of it is Slack's code."""


@dataclass(frozen=True, slots=True)
class _Pending:
    call: Call
    args: Mapping[str, Any]
    record: Record | None
    retry_after: int | None
    connection: Connection


class WebApi:
    """Takes calls and answers them."""

    def __init__(
        self, book: Book, loop: asyncio.AbstractEventLoop, open_link: Callable[[], str]
    ) -> None:
        """`open_link()` returns the address of a new link."""
        self._book = book
        self._loop = loop
        self._open_link = open_link
        self._gate = RateGate(Limits.none())
        self._latency = 0.0
        self._last_micros = 0
        self._methods: dict[str, Callable[[_Pending], dict[str, Any]]] = {
            "apps.connections.open": lambda _: {"url": self._open_link()},
            "auth.test": lambda _: dict(_IDENTITY),
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.delete": self._delete,
            "conversations.history": self._history,
            "conversations.replies": self._history,
            "reactions.add": self._react,
            "reactions.remove": self._unreact,
        }

    def change(self, latency: float, limits: Limits | None) -> None:
        """Use another latency, seconds, and other limits, as if the app had rested."""
        self._latency = latency
        self._gate.change(limits or Limits.none())

    def next_ts(self) -> str:
        """Return a ts that is later than all others."""
        self._last_micros = max(self._last_micros + 1, time.time_ns() // 1000)
        return f"{self._last_micros // 1_000_000}.{self._last_micros % 1_000_000:06d}"

    def take(self, request: Request, connection: Connection) -> None:
        """Receive a call."""
        received = self._loop.time()
        method = request.path.removeprefix(PATH)
        args = _arguments(request)
        channel = str(args.get("channel", ""))
        place = str(args.get("thread_ts" if method == "chat.postMessage" else "ts") or "")
        record = self._book.about(channel, place or str(args.get("timestamp", "")))
        call = Call(
            method, received, record.number if record else None, channel, str(args.get("ts", ""))
        )
        self._book.calls.append(call)
        if record is not None:
            record.calls.append(call)
        retry_after = self._retry_after(method, channel, received)
        pending = _Pending(call, args, record, retry_after, connection)
        self._loop.call_at(received + self._latency, self._finish, pending)

    def _retry_after(self, method: str, channel: str, now: float) -> int | None:
        window = self._gate.window(method, channel, now)
        return window if window is not None else self._gate.admit(method, channel, now)

    def _finish(self, pending: _Pending) -> None:
        answer: dict[str, Any]
        status, more = 200, _HEADERS
        try:
            answer = {"ok": True, **self._perform(pending)}
        except _Refused as refused:
            pending.call.error = str(refused)
            answer = {"ok": False, "error": str(refused)}
            if pending.retry_after is not None:
                status, more = 429, f"{_HEADERS}Retry-After: {pending.retry_after}\r\n"
        body = json.dumps(answer, separators=(",", ":")).encode("ascii")
        pending.connection.answer(status, body, "application/json; charset=utf-8", more)
        pending.call.answered = self._loop.time()
        self._book.touch(pending.record)

    def _perform(self, pending: _Pending) -> dict[str, Any]:
        if pending.retry_after is not None:
            raise _Refused("ratelimited")
        run = self._methods.get(pending.call.method)
        if run is None:
            raise _Refused("unknown_method")
        pending.call.visible = self._loop.time()
        try:
            return run(pending)
        except _Refused:
            pending.call.visible = None
            raise

    def _post(self, pending: _Pending) -> dict[str, Any]:
        args, call = pending.args, pending.call
        thread_ts = str(args.get("thread_ts", ""))
        reply = Reply(call.channel, self.next_ts(), thread_ts, _shown(args), args.get("metadata"))
        call.ts, call.chars = reply.ts, len(reply.text)
        self._book.post(pending.record, reply, self._loop.time())
        return _written(reply, args)

    def _update(self, pending: _Pending) -> dict[str, Any]:
        reply, text = self._own(pending), _shown(pending.args)
        pending.call.chars = len(text)
        self._book.edit(pending.record, reply, text, self._loop.time())
        return _written(reply, pending.args) | {"text": pending.args.get("text", "")}

    def _delete(self, pending: _Pending) -> dict[str, Any]:
        reply = self._own(pending)
        reply.deleted_at = self._loop.time()
        return {"channel": reply.channel, "ts": reply.ts}

    def _history(self, pending: _Pending) -> dict[str, Any]:
        oldest = str(pending.args.get("oldest", ""))
        replies = pending.record.shown if pending.record else []
        found = [reply for reply in replies if reply.ts > oldest]
        messages = [_message(reply, {"metadata": reply.metadata}) for reply in found]
        return {"messages": messages, "has_more": False}

    def _react(self, pending: _Pending) -> dict[str, Any]:
        return self._set_reaction(pending, is_on=True, refusal="already_reacted")

    def _unreact(self, pending: _Pending) -> dict[str, Any]:
        return self._set_reaction(pending, is_on=False, refusal="no_reaction")

    def _set_reaction(self, pending: _Pending, *, is_on: bool, refusal: str) -> dict[str, Any]:
        if pending.record is None:
            raise _Refused("message_not_found")
        if pending.record.has_reaction is is_on:
            raise _Refused(refusal)
        pending.record.has_reaction = is_on
        return {}

    def _own(self, pending: _Pending) -> Reply:
        reply = self._book.reply(pending.call.channel, pending.call.ts)
        if reply is None:
            raise _Refused("message_not_found")
        return reply


def _arguments(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        read: dict[str, Any] = json.loads(request.body or b"{}")
        return read
    args: dict[str, Any] = dict(parse_qsl(request.body.decode()))
    for name in ("blocks", "metadata"):
        if name in args:
            args[name] = json.loads(args[name])
    return args


def _shown(args: Mapping[str, Any]) -> str:
    """Return the text of the blocks, or what stands for it where there are none."""
    texts = [block.get("text", "") for block in args.get("blocks") or ()]
    shown = "\n\n".join(text if isinstance(text, str) else text["text"] for text in texts)
    return shown or str(args.get("text", ""))


def _message(reply: Reply, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "message",
        "user": BOT_USER,
        "bot_id": BOT,
        "team": TEAM,
        "ts": reply.ts,
        "thread_ts": reply.thread_ts,
        **more,
    }


def _written(reply: Reply, args: Mapping[str, Any]) -> dict[str, Any]:
    content = {"text": args.get("text", ""), "blocks": args.get("blocks", [])}
    return {"channel": reply.channel, "ts": reply.ts, "message": _message(reply, content)}
