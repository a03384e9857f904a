"""Tokens and scopes. Guarded by the board's lock, which callers hold.

https://docs.slack.dev/authentication/tokens
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from chatrelaybot.playground.content import Refusal

#: What this bot asks for at its installation.
BOT_SCOPES = frozenset(
    {
        "app_mentions:read",
        "channels:history",
        "chat:write",
        "groups:history",
        "im:history",
        "mpim:history",
        "reactions:write",
    }
)
_APP_SCOPES = frozenset({"connections:write"})


class Access:
    """Who may call what."""

    def __init__(self, *, scopes: Iterable[str] = BOT_SCOPES) -> None:
        number = secrets.randbelow(10**12)
        self.bot_token = f"xoxb-{number:012d}-{secrets.token_hex(12)}"
        self.app_token = f"xapp-1-A{number:012d}-{secrets.token_hex(32)}"
        self.scopes = frozenset(scopes)
        self.app_scopes = _APP_SCOPES
        self._errors: dict[str, str] = {}  # token that is refused: the error

    def revoke(self, token: str, error: str) -> None:
        """Refuse a token with this error from now on."""
        self._errors[token] = error

    def check(self, token: str | None, *, is_app_method: bool) -> None:
        """Refuse what the token is no good for."""
        if not token:
            raise Refusal("not_authed")
        if token not in (self.bot_token, self.app_token):
            raise Refusal("invalid_auth")
        if token in self._errors:
            raise Refusal(self._errors[token])
        if (token == self.app_token) is not is_app_method:
            raise Refusal("not_allowed_token_type")

    def granted(self, token: str | None) -> frozenset[str] | None:
        """Return the scopes of a token; None: it is no good."""
        if token in self._errors:
            return None
        return {self.app_token: self.app_scopes, self.bot_token: self.scopes}.get(token or "")

    def require(self, scope: str, *, is_app_method: bool = False) -> None:
        """Refuse where the token was not granted the scope."""
        scopes = self.app_scopes if is_app_method else self.scopes
        if scope not in scopes:
            raise Refusal("missing_scope", needed=scope, provided=",".join(sorted(scopes)))
