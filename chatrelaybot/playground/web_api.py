"""Slack's Web API over HTTP: who may call, how often, what goes wrong, and a record of all calls.

What the methods do is in `writing` and `reading`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

from aiohttp import web

from chatrelaybot.playground.access import Access
from chatrelaybot.playground.arguments import Arguments, read_request
from chatrelaybot.playground.board import Board
from chatrelaybot.playground.content import Refusal
from chatrelaybot.playground.faults import Fault, Faults
from chatrelaybot.playground.limits import RateGate


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the Web API."""

    run: Callable[[Arguments], dict[str, Any]]  #: called with the board's lock held
    scope: str | None = None
    is_for_app_token: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came in. Times are time.monotonic()."""

    method: str
    args: Mapping[str, Any]  #: without the token
    at: float
    done_at: float | None = None  #: None: not answered yet
    status: int | None = None  #: HTTP status; None also where the connection was cut
    error: str | None = None
    retry_after: int | None = None
    #: It came while a Retry-After for it was running, be it that its sender could not know.
    is_in_window: bool = False


def heedless(calls: Sequence[Call], *, grace: float) -> list[Call]:
    """Return the calls whose sender had been told by a Retry-After to wait.

    `grace` is how many seconds the refusal may take to get to everybody at the sender's.
    """
    refusals = [call for call in calls if call.retry_after is not None]
    return [
        call
        for call in calls
        if call.is_in_window
        and any(
            refusal.method == call.method
            and refusal.done_at is not None
            and refusal.done_at + grace < call.at < refusal.at + (refusal.retry_after or 0)
            for refusal in refusals
        )
    ]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int | None  #: None: the connection is cut
    body: Mapping[str, Any] | str
    retry_after: int | None = None
    is_in_window: bool = False

    @property
    def error(self) -> str | None:
        return None if isinstance(self.body, str) else self.body.get("error")


_CUT = _Answer(None, {})


class _RateLimited(Exception):
    def __init__(
        self, retry_after: int, *, error: str | None = None, is_in_window: bool = False
    ) -> None:
        super().__init__()
        body = {"ok": False, "error": error or "ratelimited"}
        self.answer = _Answer(429, body, retry_after, is_in_window)


class WebApi:
    """Answers calls; lives in the loop."""

    def __init__(
        self,
        *,
        board: Board,
        access: Access,
        gate: RateGate,
        faults: Faults,
        methods: Mapping[str, Method],
        latency: float,
        clock_ahead: float,
    ) -> None:
        """Seconds: each call takes `latency`, half before and half after its effect; the clock
        is ahead of this machine's by `clock_ahead`.
        """
        self._board = board
        self._access = access
        self._gate = gate
        self._faults = faults
        self._methods = methods
        self._latency = latency
        self._clock_ahead = clock_ahead
        self.calls: list[Call] = []  # guarded by the board's lock

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request."""
        method, at = request.match_info["method"], time.monotonic()
        token: str | None = None
        args: dict[str, Any] = {}
        try:
            token, args = await read_request(request)
            index = self._note(Call(method, args, at))
            answer = await self._serve(method, token, args)
        except Refusal as refusal:  # the arguments themselves could not be read
            index = self._note(Call(method, args, at))
            answer = _refused(refusal)
        self._note_answer(index, answer)
        if answer.status is None and request.transport is not None:
            request.transport.abort()
        return self._response(method, answer, token)

    async def _serve(self, method: str, token: str | None, args: dict[str, Any]) -> _Answer:
        if self._latency:
            await asyncio.sleep(self._latency / 2)
        try:
            return await self._perform(self._authorized(method, token), method, Arguments(args))
        except Refusal as refusal:
            return _refused(refusal)
        except _RateLimited as limited:
            return limited.answer
        finally:
            if self._latency:
                await asyncio.sleep(self._latency / 2)

    async def _perform(self, spec: Method, name: str, args: Arguments) -> _Answer:
        channel = args.text("channel") or None
        self._check_window(name, channel)
        fault = self._faults.take(name, args.values)
        if fault is None:
            self._take_token(name, channel)
            return self._run(spec, args)
        await fault.pause("before")
        if fault.retry_after is not None:
            with self._board:
                self._gate.refuse(name, fault.retry_after, time.monotonic())
            raise _RateLimited(fault.retry_after, error=fault.error)
        if fault.is_before_effect:
            return _spoilt(fault)
        self._take_token(name, channel)
        answer = self._run(spec, args)
        await fault.pause("after")
        return answer if not (fault.cut or fault.status or fault.error) else _spoilt(fault)

    def _authorized(self, name: str, token: str | None) -> Method:
        spec = self._methods.get(name)
        if spec is None:
            raise Refusal("unknown_method", req_method=name)
        with self._board:
            self._access.check(token, is_app_method=spec.is_for_app_token)
            if spec.scope is not None:
                self._access.require(spec.scope, is_app_method=spec.is_for_app_token)
        return spec

    def _scope_headers(self, method: str, token: str | None) -> dict[str, str]:
        """Tell what the token may do, and what the method wants; Slack is silent on a bad token."""
        with self._board:
            granted = self._access.granted(token)
        spec = self._methods.get(method)
        if granted is None or spec is None:
            return {}
        wanted = [] if spec.scope is None else [spec.scope]
        return {"X-OAuth-Scopes": _listed(granted), "X-Accepted-OAuth-Scopes": _listed(wanted)}

    def _check_window(self, method: str, channel: str | None) -> None:
        with self._board:
            seconds = self._gate.window(method, channel, time.monotonic())
        if seconds is not None:
            raise _RateLimited(seconds, is_in_window=True)

    def _take_token(self, method: str, channel: str | None) -> None:
        with self._board:
            seconds = self._gate.admit(method, channel, time.monotonic())
        if seconds is not None:
            raise _RateLimited(seconds)

    def _run(self, spec: Method, args: Arguments) -> _Answer:
        with self._board:
            return _Answer(200, {"ok": True, **spec.run(args)})

    def _note(self, call: Call) -> int:
        with self._board:
            self.calls.append(call)
            self._board.touch()
            return len(self.calls) - 1

    def _note_answer(self, index: int, answer: _Answer) -> None:
        with self._board:
            self.calls[index] = replace(
                self.calls[index],
                done_at=time.monotonic(),
                status=answer.status,
                error=answer.error,
                retry_after=answer.retry_after,
                is_in_window=answer.is_in_window,
            )
            self._board.touch()

    def _response(self, method: str, answer: _Answer, token: str | None) -> web.Response:
        headers = {
            "Date": formatdate(time.time() + self._clock_ahead, usegmt=True),
            "X-Slack-Req-Id": secrets.token_hex(16),
            **self._scope_headers(method, token),
        }
        if answer.retry_after is not None:
            headers["Retry-After"] = str(answer.retry_after)
        is_page = isinstance(answer.body, str)
        return web.Response(
            status=answer.status or 500,
            text=str(answer.body) if is_page else json.dumps(answer.body),
            content_type="text/html" if is_page else "application/json",
            headers=headers,
        )


def _listed(scopes: Iterable[str]) -> str:
    return ",".join(sorted(scopes))


def _refused(refusal: Refusal) -> _Answer:
    return _Answer(200, {"ok": False, "error": refusal.error, **refusal.more})


def _spoilt(fault: Fault) -> _Answer:
    if fault.cut is not None:
        return _CUT
    if fault.status is not None:
        return _Answer(fault.status, fault.page)
    return _Answer(200, {"ok": False, "error": fault.error})
