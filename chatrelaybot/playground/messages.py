"""Messages of the workspace as frozen values, and what a reader sees of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: One Block Kit block, as JSON.
Block: TypeAlias = Mapping[str, Any]

#: What a person's client makes of a user or a channel that was picked from a list.
PICKED = re.compile(r"(<(?:@[UW]|#C)[A-Z0-9]+(?:\|[^<>]*)?>)")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_ENTITY = re.compile("|".join(_ENTITIES))
#: What Slack makes a mention, a ping of everybody, a channel link or a link of. It does so
#: inside `markdown` blocks too.
_LIVE_TOKEN = re.compile(r"<(?:[@#!][^<>\s][^<>]*|(?:https?|mailto|tel):[^<>]*)>")


def unescape(text: str) -> str:
    """Decode the three entities that Slack knows."""
    return _ENTITY.sub(lambda match: _ENTITIES[match.group()], text)


def escape(text: str) -> str:
    """Escape as Slack does with what people type."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block_texts(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        text = block.get("text")
        if isinstance(text, Mapping):
            yield str(text.get("text", ""))
        elif isinstance(text, str):
            yield text


@dataclass(frozen=True, slots=True)
class Version:
    """What a message said from one moment on."""

    at: float  #: time.monotonic()
    text: str
    blocks: tuple[Block, ...] = ()

    @property
    def source(self) -> str:
        """The text as sent: that of the blocks, or the message's where they carry none.

        What people write has a rich_text block; it says the same as the text.
        """
        return "\n\n".join(_block_texts(self.blocks)) or self.text

    @property
    def shown(self) -> str:
        """What a reader sees, as Markdown source."""
        return unescape(self.source)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with its past. A value: look it up again to see what became of it."""

    channel: str
    ts: str
    user: str
    versions: tuple[Version, ...]  #: oldest first, never empty
    thread_ts: str | None = None  #: None for a message outside threads, and for a thread's root
    subtype: str | None = None
    bot_id: str | None = None  #: set where a bot wrote it
    metadata: Mapping[str, Any] | None = None
    edited: str | None = None  #: ts of the edit that readers see marked as "(edited)"
    deleted_at: float | None = None  #: time.monotonic()
    reactions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: name: users
    extra: Mapping[str, Any] = field(default_factory=dict)  #: more fields, such as files

    @property
    def text(self) -> str:
        """The text as stored, escaped."""
        return self.versions[-1].text

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks as stored."""
        return self.versions[-1].blocks

    @property
    def shown(self) -> str:
        """What a reader sees: the blocks' text, else the text, with entities decoded."""
        return self.versions[-1].shown

    @property
    def deleted(self) -> bool:
        """Whether it is gone for its readers."""
        return self.deleted_at is not None

    @property
    def live_tokens(self) -> Sequence[str]:
        """What of any version Slack would have made a mention, a ping or a link."""
        sources = (text for v in self.versions for text in (v.text, *_block_texts(v.blocks)))
        return [token for text in sources for token in _LIVE_TOKEN.findall(text)]
