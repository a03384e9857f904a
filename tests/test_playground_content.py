"""What Slack takes as the content of a message, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from chatrelaybot.playground import content
from chatrelaybot.playground.content import Content, Refusal


def read(
    text: Any = None,
    blocks: Any = None,
    markdown_text: Any = None,
    attachments: Any = None,
    metadata: Any = None,
) -> Content:
    return content.read(
        text=text,
        blocks=blocks,
        markdown_text=markdown_text,
        attachments=attachments,
        metadata=metadata,
    )


def markdown(*lengths: int) -> list[dict[str, Any]]:
    return [{"type": "markdown", "text": "x" * length} for length in lengths]


def section(length: int) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": "x" * length}}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"blocks": markdown(12_001)}, "msg_blocks_too_long"),
        ({"blocks": markdown(12_000, 1_201)}, "msg_blocks_too_long"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": [section(3_001)]}, "invalid_blocks"),
        ({"blocks": [section(0)]}, "invalid_blocks"),
        ({"blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "text": "bare"}]}, "invalid_blocks"),
        ({"blocks": markdown(0)}, "invalid_blocks"),
        ({"blocks": [{"type": "marked_down"}]}, "invalid_blocks"),
        ({"blocks": ["text"]}, "invalid_blocks"),
        ({"blocks": {"type": "divider"}}, "invalid_blocks_format"),
        ({"markdown_text": "x" * 12_001}, "msg_too_long"),
        ({"markdown_text": "a", "text": "b"}, "markdown_text_conflict"),
        ({"markdown_text": "a", "blocks": []}, "markdown_text_conflict"),
        ({"text": "a", "attachments": [{}] * 101}, "too_many_attachments"),
        ({"text": "a", "metadata": "words"}, "invalid_metadata_format"),
        ({"text": "a", "metadata": {"event_type": "t"}}, "invalid_metadata_schema"),
    ],
)
def test_content_beyond_slacks_rules_is_refused(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(Refusal) as refusal:
        read(**arguments)

    assert refusal.value.error == error


@pytest.mark.parametrize(
    "arguments",
    [
        {"blocks": markdown(12_000, 1_200)},
        {"blocks": [{"type": "divider"}] * 50},
        {"blocks": [section(3_000)]},
        {"markdown_text": "x" * 12_000},
        {"text": "x", "attachments": [{}] * 100},
        {"text": "x", "metadata": {}},
        {"text": "x", "metadata": {"event_type": "t", "event_payload": {}}},
    ],
)
def test_content_within_slacks_rules_can_be_posted(arguments: dict[str, Any]) -> None:
    posted = content.for_post(read(**arguments))

    assert not posted.is_empty


@pytest.mark.parametrize("arguments", [{}, {"text": " \n"}, {"text": "", "blocks": []}])
def test_a_message_that_shows_nothing_has_no_text(arguments: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="no_text"):
        content.for_post(read(**arguments))


def test_a_posted_text_beyond_40_000_characters_is_cut_with_a_warning() -> None:
    posted = content.for_post(read(text="x" * 40_001))

    assert (len(posted.text or ""), posted.warning) == (40_000, "message_truncated")


def test_a_posted_text_of_40_000_characters_is_kept() -> None:
    posted = content.for_post(read(text="x" * 40_000))

    assert (len(posted.text or ""), posted.warning) == (40_000, None)


def test_an_edit_takes_4_000_characters_of_text_and_no_more() -> None:
    content.for_update(read(text="x" * 4_000), is_markdown_text=False)

    with pytest.raises(Refusal, match="msg_too_long"):
        content.for_update(read(text="x" * 4_001), is_markdown_text=False)


def test_an_edit_may_be_of_metadata_alone() -> None:
    update = content.for_update(read(metadata={}), is_markdown_text=False)

    assert update.metadata == {}


def test_an_edit_to_nothing_has_no_text() -> None:
    with pytest.raises(Refusal, match="no_text"):
        content.for_update(read(blocks=[]), is_markdown_text=False)
