"""What a refused or a failed Web API call means, in this program's words.

The codes are those of the methods' own pages, e.g.
https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import requests
import urllib3.exceptions
from slack_sdk.errors import SlackApiError

from chatrelaybot.errors import (
    BlocksRefused,
    ChatRelayBotError,
    ConfigurationError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
    Undeliverable,
)

OPEN_LINK = "apps.connections.open"

#: Seconds to wait where a refusal carries no Retry-After. Slack's windows are a minute long.
_DEFAULT_RETRY_AFTER = 10.0
#: A shorter wait than this (seconds) would only be refused again: Slack's unit is whole seconds.
_LEAST_RETRY_AFTER = 1.0
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
#: What a Slack error code, or a list of scopes, looks like; anything else is not quoted.
_CODE = re.compile(r"[a-z0-9_.:,-]{1,100}")

# chat.postMessage lists both spellings.
_RATE_LIMITED = frozenset({"ratelimited", "rate_limited"})
_TOKEN_REFUSED = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
# "Some aspect of the operation" may have "succeeded before the error was raised".
_UNKNOWN = frozenset({"fatal_error", "internal_error"})
# org_login_required and team_added_to_org last as long as Slack moves the workspace.
_TRANSIENT = frozenset(
    {
        "external_channel_migrating",
        "org_login_required",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
        "update_failed",
    }
)
_GONE = frozenset(
    {
        "cannot_reply_to_message",
        "cant_delete_message",
        "cant_update_message",
        "channel_not_found",
        "edit_window_closed",
        "is_archived",
        "is_inactive",
        "message_not_found",
        "messages_tab_disabled",
        "not_in_channel",
        "thread_not_found",
    }
)
# restricted_action_read_only_channel, …_thread_locked and so on.
_GONE_PREFIX = "restricted_action"
_BLOCKS_REFUSED = frozenset(
    {
        "block_mismatch",
        "invalid_blocks",
        "invalid_blocks_format",
        "msg_blocks_too_long",
        "msg_too_large",
        "msg_too_long",
    }
)
#: The call was refused because what it asks for is so already.
_SETTLED = {
    "reactions.add": frozenset({"already_reacted"}),
    "reactions.remove": frozenset({"no_reaction"}),
    "chat.delete": frozenset({"message_not_found"}),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the Web API other than `ok`."""

    method: str
    status: int
    #: Slack's error code; None where the answer is not Slack's (an HTML page of some proxy).
    code: str | None
    #: Seconds; None where the answer has no readable Retry-After.
    retry_after: float | None
    #: The missing scope, where one is missing.
    needed: str | None

    @classmethod
    def of(cls, method: str, error: SlackApiError) -> Refusal:
        """Read a refusal from slack_sdk's error."""
        response = error.response
        data = response.data if isinstance(response.data, dict) else {}
        # In the place of the code the SDK puts the beginning of a body that is not JSON.
        return cls(
            method=method,
            status=response.status_code,
            code=_code(data.get("error")),
            retry_after=_seconds(response.headers),
            needed=_code(data.get("needed")),
        )

    @property
    def is_settled(self) -> bool:
        """Whether what the call asked for is so already."""
        return self.code in _SETTLED.get(self.method, ())

    def error(self) -> ChatRelayBotError:
        """Return the error to raise."""
        words = f"{self.method}: {self.code or f'HTTP {self.status}'}"
        if self.code in _RATE_LIMITED or self.status == requests.codes.too_many:
            return RateLimited(words, retry_after=self.retry_after or _DEFAULT_RETRY_AFTER)
        if self.code is not None and (error := self._coded(self.code, words)):
            return error
        if self._is_outcome_unknown:
            return OutcomeUnknown(words, retry_after=self.retry_after)
        return PermanentError(f"{words}, needed: {self.needed}" if self.needed else words)

    @property
    def _is_outcome_unknown(self) -> bool:
        if self.code in _UNKNOWN or self.status >= requests.codes.server_error:
            return True
        # "OK" from something that does not speak Slack: who knows what it did with the call.
        return self.code is None and self.status == requests.codes.ok

    def _coded(self, code: str, words: str) -> ChatRelayBotError | None:
        if code in _TOKEN_REFUSED or (code == "missing_scope" and self.method == OPEN_LINK):
            return token_error(self.method, f"Slack refuses it ({code})")
        if code in _TRANSIENT:
            return TransientError(words, retry_after=self.retry_after)
        if code in _GONE or code.startswith(_GONE_PREFIX):
            return Undeliverable(words)
        return BlocksRefused(words) if code in _BLOCKS_REFUSED else None


def token_error(method: str, problem: str) -> ConfigurationError:
    """Return the error for a token that `method` cannot be called with."""
    if method == OPEN_LINK:
        mend = "make an app-level token with the scope connections:write (Basic Information)"
        return ConfigurationError("SLACK_APP_TOKEN", problem, mend)
    mend = "install the app in the workspace and copy its token (OAuth & Permissions)"
    return ConfigurationError("SLACK_BOT_TOKEN", problem, mend)


def failure(method: str, error: requests.RequestException) -> ChatRelayBotError:
    """Return the error for a call that got no answer."""
    words = f"{method}: {type(error).__name__}"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        # The address of the Web API has been looked at before, so it is the proxy's.
        return ConfigurationError(
            "HTTPS_PROXY", "it is not the address of a proxy", "write http://host:port, or unset it"
        )
    return TransientError(words) if _is_unsent(error) else OutcomeUnknown(words)


def is_broken_off(error: requests.ConnectionError) -> bool:
    """Tell whether a connection was closed on us before the first byte of an answer."""
    # urllib3: ProtocolError("Connection aborted.", ConnectionResetError(…)), where
    # http.client's RemoteDisconnected is a ConnectionResetError as well.
    reason = _reason(error)
    is_protocol = isinstance(reason, urllib3.exceptions.ProtocolError)
    return is_protocol and isinstance(reason.args[-1], ConnectionError)


def _is_unsent(error: requests.RequestException) -> bool:
    """Tell whether the request surely never reached Slack."""
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    reason = _reason(error)
    if isinstance(reason, urllib3.exceptions.SSLError):
        # A certificate is looked at before anything is sent; other TLS errors come at any time.
        return "CERTIFICATE_VERIFY_FAILED" in str(reason)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _reason(error: requests.RequestException) -> Any:
    """Return urllib3's error inside one of requests."""
    inner = error.args[0] if error.args else None
    return getattr(inner, "reason", inner)


def _code(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _seconds(headers: dict[str, str]) -> float | None:
    """Return the Retry-After of an answer, whose names come in any case."""
    for name, value in headers.items():
        if name.lower() == "retry-after" and _SECONDS.fullmatch(value.strip()):
            return max(_LEAST_RETRY_AFTER, float(value))
    return None
