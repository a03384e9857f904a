"""One call of the Web API with all that Slack tells beside the answer: scopes, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from slack_sdk.errors import SlackApiError

from chatrelaybot.errors import TransientError
from chatrelaybot.slack_client import PooledWebClient
from chatrelaybot.slack_errors import Refusal, failure

#: The header's time is in whole seconds, and so is on average half of one too early.
_HALF_A_SECOND = 0.5


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back. Of an answer other than `ok`, `refusal` says what it means."""

    data: Mapping[str, Any]
    refusal: Refusal | None
    scopes: frozenset[str] | None  #: of the token; None: Slack does not tell
    #: How far this machine's clock is ahead of Slack's, in seconds; None: Slack does not tell.
    clock_ahead: float | None
    seconds: float  #: until the answer


def call(
    method: str,
    *,
    token: str,
    api_url: str,
    timeout: float,
    now: Callable[[], float] = time.time,
) -> Heard:
    """Call a method that needs no arguments; `timeout` is in seconds.

    Raises:
        ConfigurationError: The Web API's address, or the environment's proxy or CA bundle, is none.
        TransientError: There is no answer.
    """
    client = PooledWebClient(token=token, api_url=api_url, pool_size=1, timeout=timeout)
    with closing(client):
        began, began_at = time.monotonic(), now()
        refusal = None
        try:
            response = client.api_call(method)
        except SlackApiError as error:
            refusal = Refusal.of(method, error)
            response = error.response
        except requests.RequestException as error:
            raise failure(method, error) from error
        except OSError as error:  # From requests, when the CA bundle has vanished.
            raise TransientError(f"{method}: {type(error).__name__}") from error
        seconds = time.monotonic() - began
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Heard(
        data=response.data if isinstance(response.data, dict) else {},
        refusal=refusal,
        scopes=_scopes(headers.get("x-oauth-scopes")),
        clock_ahead=_ahead(headers.get("date"), began_at + seconds / 2.0),
        seconds=seconds,
    )


def _scopes(header: str | None) -> frozenset[str] | None:
    if header is None:
        return None
    return frozenset(filter(None, (scope.strip() for scope in header.split(","))))


def _ahead(header: str | None, moment: float) -> float | None:
    try:
        slack_time = parsedate_to_datetime(header or "")
    except (TypeError, ValueError):
        return None
    return moment - slack_time.timestamp() - _HALF_A_SECOND
