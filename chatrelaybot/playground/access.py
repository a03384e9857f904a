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

    def granted(self, token: str | None) -> frozenset[str]:
        """Return the scopes of a token."""
        return _APP_SCOPES if token == self.app_token else self.scopes

    def require(self, scope: str) -> None:
        """Refuse where the bot token was not granted the scope."""
        if scope not in self.scopes:
            raise Refusal("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))
