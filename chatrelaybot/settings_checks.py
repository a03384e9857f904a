"""What a single setting may hold: each check takes a value, and returns it or says how to mend it.

A check never repeats a value that may be, or may contain, a secret.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

#: What the prefix of a Slack token says about it: https://docs.slack.dev/authentication/tokens
_TOKEN_KINDS = {
    "xoxb-": "a bot token (xoxb-…)",
    "xapp-": "an app-level token (xapp-…)",
    "xoxp-": "a user token (xoxp-…)",
    "xoxe": "a rotating token (xoxe…), which expires within hours",
}
_TOKEN_MENDS = {
    "xoxb-": "copy the Bot User OAuth Token from the app's page “OAuth & Permissions”",
    "xapp-": "copy an App-Level Token with connections:write from the app's “Basic Information”",
}
#: Headers that are the program's own: they carry the contract with the backend.
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "idempotency-key",
        "traceparent",
        "transfer-encoding",
    }
)
#: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What requests can send in a header, without a way to begin a second one.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


class WrongValue(ValueError):
    """A setting's value is wrong."""

    def __init__(self, problem: str, mend: str, *, setting: str | None = None) -> None:
        """`setting` is needed only where the check looks at several settings."""
        super().__init__(problem)
        self.problem = problem
        self.mend = mend
        self.setting = setting


def slack_token(value: SecretStr, *, prefix: str) -> SecretStr:
    """Accept a token of the kind that begins with `prefix`, or none at all."""
    token = value.get_secret_value().strip()
    mend = _TOKEN_MENDS[prefix]
    if token and not token.startswith(prefix):
        known = (kind for start, kind in _TOKEN_KINDS.items() if token.startswith(start))
        found = next(known, "something else")
        raise WrongValue(f"expected {_TOKEN_KINDS[prefix]}, but it holds {found}", mend)
    if token and not re.fullmatch(r"[0-9A-Za-z-]+", token.removeprefix(prefix)):
        raise WrongValue("it is not a whole token, or has more than a token in it", mend)
    return SecretStr(token)


def tokens_are_not_swapped(values: Mapping[str, object]) -> None:
    """Name the most common slip, which the two checks alone would call two wrong tokens."""
    if _is_kind(values.get("slack_bot_token"), "xapp-") and _is_kind(
        values.get("slack_app_token"), "xoxb-"
    ):
        raise WrongValue(
            "this and SLACK_APP_TOKEN are swapped",
            "put the xoxb-… token into SLACK_BOT_TOKEN and the xapp-… token into SLACK_APP_TOKEN",
            setting="SLACK_BOT_TOKEN",
        )


def _is_kind(token: object, prefix: str) -> bool:
    text = token.get_secret_value() if isinstance(token, SecretStr) else token
    return isinstance(text, str) and text.strip().startswith(prefix)


def bearer_token(value: SecretStr) -> SecretStr:
    """Accept what can stand behind `Authorization: Bearer`."""
    token = value.get_secret_value().strip()
    if token.lower().startswith("bearer "):
        raise WrongValue("it begins with the word Bearer", "give the token alone")
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise WrongValue("it has a space or another character that no token has", "copy it anew")
    return SecretStr(token)


def http_url(value: str) -> str:
    """Accept an http or https URL without user name and password."""
    _split(value)
    return value.strip()


def slack_api_url(value: str) -> str:
    """Accept the Web API's base, where tokens do not travel in the clear."""
    parts = _split(value)
    if parts.query:
        raise WrongValue("it has a query", "give the base alone, such as https://slack.com/api/")
    if parts.scheme.lower() == "http" and not _is_loopback(parts.hostname or ""):
        raise WrongValue(
            "plain http would send the Slack tokens readable over the network",
            "use https, or http to this machine only",
        )
    # slack_sdk puts the method's name right behind the base.
    return value.strip().rstrip("/") + "/"


def _split(value: str) -> SplitResult:
    mend = "give an address such as https://example.com/path"
    try:
        parts = urlsplit(value.strip())
        port = parts.port
    except ValueError:  # its words may repeat the URL
        raise WrongValue("it is not a URL", mend) from None
    if parts.scheme.lower() not in ("http", "https"):
        raise WrongValue("it is not an http or https URL", mend)
    if "@" in parts.netloc:
        raise WrongValue(
            "it has a user name or a password in it",
            "take them out of the URL; BACKEND_TOKEN and BACKEND_HEADERS are for the backend's",
        )
    if not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", value.strip()):
        raise WrongValue("it is not a whole URL", mend)
    if parts.fragment:
        raise WrongValue("it has a #fragment, which is never sent", "leave that out")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, and names can point anywhere
        return False


def header_object(value: object) -> object:
    """Read a JSON object of header names and values."""
    if not isinstance(value, str):
        return value
    mend = 'give a JSON object of strings, such as {"X-Team": "support"}'
    try:
        headers = json.loads(value)
    except ValueError:  # its words may repeat a value
        raise WrongValue("it is not JSON", mend) from None
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise WrongValue("it is not a JSON object of strings", mend)
    return headers


def headers(value: dict[str, str]) -> dict[str, str]:
    """Accept headers that can be sent and are not the program's own."""
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise WrongValue("one of the names is not a header name", "use letters, digits and -")
        if name.lower() in _OWN_HEADERS:
            raise WrongValue(f"{name} is set by the program itself", "leave that header out")
        if not _HEADER_VALUE.fullmatch(text):
            raise WrongValue(
                f"the value of {name} cannot be sent in a header", "use printable Latin characters"
            )
    return value


def channel_ids(value: object) -> object:
    """Read comma-separated channel ids."""
    if not isinstance(value, str):
        return value
    ids = frozenset(filter(None, (part.strip() for part in value.split(","))))
    for channel in ids:
        channel_id(channel)
    return ids


def channel_id(value: str) -> str:
    """Accept the id of a channel, a group or a direct message, or none."""
    if value and not re.fullmatch(r"[CDG][0-9A-Z]+", value):
        raise WrongValue(
            "a channel is named by its id, not by its name",
            "copy the id (C…) from the end of the channel's details in Slack",
        )
    return value


def user_id(value: str | None) -> str | None:
    """Accept a user id."""
    if value and not re.fullmatch(r"[UW][0-9A-Z]+", value):
        raise WrongValue(
            "it is not a user id (U… or W…)", "leave it empty: Slack tells it at the start"
        )
    return value


def off_is_none(value: object) -> object:
    """Read `off`, the word that turns a setting off."""
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


def reaction_name(value: str | None) -> str | None:
    """Accept an emoji's name, with or without its colons."""
    if value is None:
        return None
    name = value.strip().strip(":")
    # A custom emoji may have a name in any script.
    if not re.fullmatch(r"[^\s:]+(::skin-tone-[2-6])?", name):
        raise WrongValue("it is not the name of an emoji", "give a name such as eyes, or off")
    return name


def not_blank(value: str) -> str:
    """Refuse a text that Slack would refuse to post."""
    if not value.strip():
        raise WrongValue("it is blank", "give some text, or leave it empty for the default")
    return value


def database_url(value: str) -> str:
    """Accept the URL of an SQLite file, or of a PostgreSQL database."""
    mend = (
        "give sqlite:///FILE (three slashes, four before an absolute path) "
        "or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    )
    scheme, colon, rest = value.strip().partition(":")
    kind, _, driver = scheme.lower().partition("+")
    if not colon or not re.fullmatch(r"[A-Za-z0-9+_-]+", scheme):
        raise WrongValue("it is not a database URL", mend)
    if kind in ("postgresql", "postgres"):
        return _postgres_url(driver, rest)
    if kind != "sqlite" and rest.startswith("//"):
        raise WrongValue(f"{kind} is not supported", mend)
    if driver not in ("", "pysqlite") or kind != "sqlite" or not rest.startswith("///"):
        raise WrongValue("it is not the URL of an SQLite file", mend)
    file = rest.removeprefix("///").partition("?")[0]
    if file in ("", ":memory:") or file.startswith("file:"):
        raise WrongValue("a database in memory loses every question at a stop", mend)
    return value.strip()


def _postgres_url(driver: str, rest: str) -> str:
    """Name the driver that this program uses, in all the ways in which people write such URLs."""
    mend = "give postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    if driver not in ("", "psycopg"):
        raise WrongValue(f"the driver {driver} is not supported", mend)
    # The password stands before the last @.
    _, _, name = rest.removeprefix("//").rpartition("@")[2].partition("/")
    if not rest.startswith("//") or not name.partition("?")[0]:
        raise WrongValue("it names no PostgreSQL database", mend)
    return f"postgresql+psycopg:{rest}"


def lower(value: object) -> object:
    """Read a word in any case."""
    return value.strip().lower() if isinstance(value, str) else value


def upper(value: object) -> object:
    """Read a level in any case."""
    return value.strip().upper() if isinstance(value, str) else value
