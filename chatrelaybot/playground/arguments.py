"""The arguments of a Web API call, in each way that Slack takes them.

https://docs.slack.dev/apis/web-api/#methods
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from chatrelaybot.playground.content import Refusal

#: Arguments that are JSON also where the call itself is a form.
_NESTED = ("attachments", "blocks", "event_payload", "metadata")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Arguments:
    """Read access with Slack's leniency: forms know only strings."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def get(self, name: str) -> Any:
        """Return the value as it came, None where it is missing."""
        return self.values.get(name)

    def text(self, name: str) -> str:
        """Return a string, empty where it is missing."""
        value = self.values.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return self.text(name).lower() in ("1", "true", "t")

    def number(self, name: str, default: int) -> int:
        """Return a whole number."""
        try:
            return int(self.text(name) or default)
        except ValueError:
            raise Refusal("invalid_arguments") from None


async def read_request(request: web.Request) -> tuple[str | None, dict[str, Any]]:
    """Return the token and the arguments of a call."""
    values: dict[str, Any] = dict(request.query)
    if request.method == "POST":
        values.update(await _read_body(request))
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    argument = values.pop("token", None)
    return (token if scheme == "Bearer" else argument), values


async def _read_body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.read()
    except ConnectionResetError:  # Whoever called was killed in the middle.
        raise Refusal("request_timeout") from None
    if not body:
        return {}
    if request.content_type == "application/json":
        return _read_json(body)
    if request.content_type not in _FORMS:
        raise Refusal("invalid_post_type")
    values = {name: value for name, value in (await request.post()).items()}  # noqa: C416
    for name in _NESTED:
        if isinstance(values.get(name), str):
            values[name] = _read_nested(name, values[name])
    return values


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except ValueError:
        raise Refusal("invalid_json") from None
    if not isinstance(values, dict):
        raise Refusal("json_not_object")
    for name in _NESTED:
        if isinstance(values.get(name), str):
            values[name] = _read_nested(name, values[name])
    return values


def _read_nested(name: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Refusal(f"invalid_{name}_format") from None
