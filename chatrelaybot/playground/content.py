"""What Slack takes as the content of a message, and what it refuses. Pure.

https://docs.slack.dev/reference/methods/chat.postMessage
https://docs.slack.dev/reference/methods/chat.update
https://docs.slack.dev/reference/block-kit/blocks/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatrelaybot.playground.messages import Block

#: Characters. chat.update refuses more text; chat.postMessage cuts what is beyond its limit.
_UPDATE_TEXT_LIMIT = 4_000
_POST_TEXT_LIMIT = 40_000
_MARKDOWN_TEXT_LIMIT = 12_000
_MARKDOWN_BLOCK_LIMIT = 12_000
#: Of all markdown blocks together. Documented as 12,000; what Slack was seen to refuse is
#: 13,202 and 13,297 characters: https://github.com/metabase/metabase/issues/79908
_MARKDOWN_TOTAL_LIMIT = 13_200
_BLOCK_TEXT_LIMITS = {"section": 3_000, "header": 150}
_BLOCK_COUNT_LIMIT = 50
_ATTACHMENT_COUNT_LIMIT = 100
_BLOCK_TYPES = frozenset(
    {
        "actions",
        "alert",
        "card",
        "carousel",
        "context",
        "context_actions",
        "divider",
        "file",
        "header",
        "image",
        "input",
        "markdown",
        "plan",
        "rich_text",
        "section",
        "table",
        "task_card",
        "video",
    }
)


class Refusal(Exception):
    """Slack's answer to a call that it refuses: `{"ok": false, "error": …}`."""

    def __init__(self, error: str, **more: object) -> None:
        super().__init__(error)
        self.error = error
        self.more = more  #: further fields of the answer


@dataclass(frozen=True, slots=True)
class Content:
    """What a call wants a message to say. None stands for an argument that was left out."""

    text: str | None = None
    blocks: tuple[Block, ...] | None = None
    metadata: Mapping[str, Any] | None = None  #: an empty one removes the message's metadata
    has_attachments: bool = False
    warning: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.blocks or self.has_attachments or (self.text or "").strip())


def read(*, text: Any, blocks: Any, markdown_text: Any, attachments: Any, metadata: Any) -> Content:
    """Return the content of a call after the checks that all calls have in common."""
    if markdown_text is not None:
        if text is not None or blocks is not None:
            raise Refusal("markdown_text_conflict")
        if len(str(markdown_text)) > _MARKDOWN_TEXT_LIMIT:
            raise Refusal("msg_too_long")
        text = str(markdown_text)
    checked_blocks = _checked_blocks(blocks)
    if isinstance(attachments, list) and len(attachments) > _ATTACHMENT_COUNT_LIMIT:
        raise Refusal("too_many_attachments")
    return Content(
        text=None if text is None else str(text),
        blocks=checked_blocks,
        metadata=_checked_metadata(metadata),
        has_attachments=bool(attachments),
    )


def for_post(content: Content) -> Content:
    """Return the content as chat.postMessage stores it."""
    if content.is_empty:
        raise Refusal("no_text")
    if content.text is None or len(content.text) <= _POST_TEXT_LIMIT:
        return content
    return Content(
        text=content.text[:_POST_TEXT_LIMIT],
        blocks=content.blocks,
        metadata=content.metadata,
        has_attachments=content.has_attachments,
        warning="message_truncated",
    )


def for_update(content: Content, *, is_markdown_text: bool) -> Content:
    """Return the content if chat.update takes it."""
    if content.is_empty and content.metadata is None:
        raise Refusal("no_text")
    if not is_markdown_text and len(content.text or "") > _UPDATE_TEXT_LIMIT:
        raise Refusal("msg_too_long")
    return content


def _checked_blocks(blocks: Any) -> tuple[Block, ...] | None:
    if blocks is None:
        return None
    if not isinstance(blocks, list):
        raise Refusal("invalid_blocks_format")
    if len(blocks) > _BLOCK_COUNT_LIMIT:
        raise Refusal("invalid_blocks")
    for block in blocks:
        _check_block(block)
    _check_markdown(block["text"] for block in blocks if block["type"] == "markdown")
    return tuple(blocks)


def _check_block(block: object) -> None:
    if not isinstance(block, dict) or block.get("type") not in _BLOCK_TYPES:
        raise Refusal("invalid_blocks")
    kind, text = block["type"], block.get("text")
    if kind == "markdown" and not (isinstance(text, str) and text):
        raise Refusal("invalid_blocks")
    if kind == "section" and not (text or block.get("fields")):
        raise Refusal("invalid_blocks")
    if kind in _BLOCK_TEXT_LIMITS and text is not None:
        _check_text_object(text, _BLOCK_TEXT_LIMITS[kind])


def _check_text_object(text: object, limit: int) -> None:
    words = text.get("text") if isinstance(text, dict) else None
    if not isinstance(words, str) or not 0 < len(words) <= limit:
        raise Refusal("invalid_blocks")


def _check_markdown(texts: Any) -> None:
    lengths: Sequence[int] = [len(text) for text in texts]
    if any(n > _MARKDOWN_BLOCK_LIMIT for n in lengths) or sum(lengths) > _MARKDOWN_TOTAL_LIMIT:
        raise Refusal("msg_blocks_too_long")


def _checked_metadata(metadata: Any) -> Mapping[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise Refusal("invalid_metadata_format")
    if not metadata:
        return {}
    event_type, event_payload = metadata.get("event_type"), metadata.get("event_payload")
    if not isinstance(event_type, str) or not isinstance(event_payload, dict):
        raise Refusal("invalid_metadata_schema")
    return metadata
