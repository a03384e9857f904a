"""Markdown for the terminal, nearer to what Slack makes of a `markdown` block than rich's own.

https://docs.slack.dev/reference/block-kit/blocks/markdown-block/
"""

from __future__ import annotations

from typing import ClassVar

from rich.console import JustifyMethod
from rich.markdown import Heading, Markdown, MarkdownElement, Paragraph


class _LeftHeading(Heading):
    """Slack puts no heading into the middle."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class SlackMarkdown(Markdown):
    """To Slack HTML is text like any other; rich would leave it out."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "html_block": Paragraph,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme="ansi_dark", hyperlinks=False)
        for block in self.parsed:
            for token in block.children or ():
                if token.type == "html_inline":
                    token.type = "text"
