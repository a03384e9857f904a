"""What the bot asks of Slack at its installation: scopes, events, and the app manifest. Pure.

https://docs.slack.dev/reference/app-manifest
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chatrelaybot.errors import ConfigurationError

DEFAULT_NAME = "ChatRelayBot"
#: Slack's limit on the name of an app: https://docs.slack.dev/reference/app-manifest
_NAME_LIMIT = 35
#: The bot's own name has fewer characters to choose from than the app's.
_NO_BOT_NAME = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Needs:
    """What the settings make the bot do in Slack."""

    has_reaction: bool = True
    has_channels: bool = True  #: it answers in channels and group conversations
    has_direct: bool = True  #: it answers direct messages

    @classmethod
    def of(cls, *, busy_reaction: str | None, channels: Iterable[str]) -> Needs:
        """Conclude from SLACK_BUSY_REACTION and SLACK_CHANNEL; no channels: it answers everywhere.

        A `D…` is a direct message; what `C…` and `G…` are, the id does not tell.
        """
        kinds = {channel[0] for channel in channels} or {"C", "D"}
        return cls(
            has_reaction=busy_reaction is not None,
            has_channels=bool(kinds - {"D"}),
            has_direct="D" in kinds,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """A permission of the bot token."""

    name: str
    why: str
    loss: str  #: what does not work without it
    is_vital: bool = True  #: without it the bot does not hear, or does not answer


@dataclass(frozen=True, slots=True)
class Event:
    """An event that the bot is told of."""

    name: str
    scope: str  #: without it Slack sends none
    why: str


# metadata.message:read is for events about metadata. What history returns has the metadata of
# one's own messages without it: https://docs.slack.dev/messaging/message-metadata
_CHANNEL_SCOPES = (
    Scope("app_mentions:read", "hear when it is mentioned", "no mention arrives"),
    Scope(
        "channels:history",
        "find replies and missed questions in public channels",
        "a reply in a public channel may be posted twice after a crash, and what was missed "
        "there is not caught up",
        is_vital=False,
    ),
    Scope(
        "groups:history",
        "find replies and missed questions in private channels",
        "a reply in a private channel may be posted twice after a crash, and what was missed "
        "there is not caught up",
        is_vital=False,
    ),
    Scope(
        "mpim:history",
        "hear of mentions in group conversations, and find them again",
        "no question of a group conversation arrives",
    ),
)
_DIRECT_SCOPES = (
    Scope("im:history", "hear direct messages, and find them again", "no direct message arrives"),
)
_WRITE_SCOPE = Scope("chat:write", "write, edit and delete its replies", "nothing is answered")
_REACTION_SCOPE = Scope(
    "reactions:write",
    "put SLACK_BUSY_REACTION on a question that waits in a crowd",
    "in a crowd a waiting question gets no reaction; SLACK_BUSY_REACTION=off does without",
    is_vital=False,
)

_CHANNEL_EVENTS = (
    Event("app_mention", "app_mentions:read", "mentions in channels"),
    Event("message.mpim", "mpim:history", "mentions in group conversations"),
)
_DIRECT_EVENTS = (Event("message.im", "im:history", "direct messages"),)


def scopes(needs: Needs) -> list[Scope]:
    """Return the bot scopes that are needed, in alphabetical order."""
    needed = [_WRITE_SCOPE]
    needed += _CHANNEL_SCOPES if needs.has_channels else ()
    needed += _DIRECT_SCOPES if needs.has_direct else ()
    needed += [_REACTION_SCOPE] if needs.has_reaction else []
    return sorted(needed, key=lambda scope: scope.name)


def events(needs: Needs) -> list[Event]:
    """Return the bot events that are needed, in alphabetical order."""
    needed: Sequence[Event] = (
        *(_CHANNEL_EVENTS if needs.has_channels else ()),
        *(_DIRECT_EVENTS if needs.has_direct else ()),
    )
    return sorted(needed, key=lambda event: event.name)


def manifest(needs: Needs, *, name: str = DEFAULT_NAME) -> Mapping[str, object]:
    """Return the app's manifest.

    Raises:
        ConfigurationError: Slack takes no such name.
    """
    name = _checked(name)
    bot_name = _NO_BOT_NAME.sub("-", name.lower()).strip("-") or DEFAULT_NAME.lower()
    return {
        "display_information": {
            "name": name,
            "description": "Answers mentions and direct messages with the text of a backend",
        },
        "features": {
            # Else nobody could write to the bot directly.
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": needs.has_direct,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": bot_name, "always_online": True},
        },
        "oauth_config": {"scopes": {"bot": [scope.name for scope in scopes(needs)]}},
        "settings": {
            "event_subscriptions": {"bot_events": [event.name for event in events(needs)]},
            "interactivity": {"is_enabled": False},
            "org_deploy_enabled": False,
            "socket_mode_enabled": True,
            "token_rotation_enabled": False,
        },
    }


def remarks(needs: Needs) -> dict[str, str]:
    """Return what each scope and event of the manifest is for."""
    return {
        **{scope.name: scope.why for scope in scopes(needs)},
        **{event.name: event.why for event in events(needs)},
    }


def _checked(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= _NAME_LIMIT or not name.isprintable():
        raise ConfigurationError(
            "--name",
            f"Slack takes names of 1 to {_NAME_LIMIT} printable characters",
            "give another one",
        )
    return name
