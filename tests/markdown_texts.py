"""Texts as a backend may write them, and a reading of code fences that is not the package's own."""

from __future__ import annotations

import re

from hypothesis import settings
from hypothesis import strategies as st

#: The same examples each time, however slow the machine.
PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)

_FRAGMENTS = (
    *("```\n", "\n```\n", "\n```python\n", "\n~~~\n", "~~~~ text\n", "\n````\n", "   ```\n", "``"),
    *("**", "*", "__", "_", "~~", "~", "`", "``", "***", "\\*", "\\", "2 * 3", "snake_case "),
    *("\n\n", "\n", " ", "\r\n", "\r", "\t", " " * 30, "\n" * 25, "\x00", "\x1b", "\u2028"),
    *(
        "\n- item ",
        "\n  * item ",
        "\n1. step ",
        "\n# Head\n",
        "\n## ",
        "\n> quote ",
        "> ",
        "\n---\n",
    ),
    *("| a | b |\n", "|---|---|\n", "| 1 | 2", "[text](http://x.y/a_b)", "![alt](", "[", "](", ")"),
    *("<!channel>", "<@U012>", "<#C012>", "<http://x.y|z>", "&lt;", "&amp;", "&", "amp;", "lt;"),
    *(
        "Ein Satz. ",
        "word " * 9,
        "unbroken" * 6,
        "日本語の文章。",
        "e\u0301",
        "👩🏽\u200d💻",
        "\ud83d",
        "\ude00",
    ),
)

#: Markdown with everything that is hard about it, and with plain characters in between. Fences are
#: not longer than what even the smallest part has room to mend.
texts = (
    st.lists(st.sampled_from(_FRAGMENTS) | st.text(alphabet="ab .<>&;", max_size=40), max_size=40)
    .map("".join)
    .filter(lambda text: not re.search("`{7}|~{7}", text))
)


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def cleaned(text: str) -> str:
    """What is left of a text without the characters that Slack is not sent."""
    text = "".join(c for c in text if (c >= " " or c in "\t\n\r") and c != "\x7f")
    text = re.sub("\r+(?!\n)", lambda match: "\n" * len(match[0]), text)
    text = re.sub("\r(?=\r)", "\n", text)
    text = re.sub("[\ud800-\udbff][\udc00-\udfff]", _joined, text)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _joined(pair: re.Match[str]) -> str:
    high, low = map(ord, pair[0])
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def is_balanced(markdown: str) -> bool:
    """Say whether each code fence is closed."""
    marker = ""
    for line in markdown.split("\n"):
        body = line.rstrip(" \t\r").lstrip(" ")
        if len(line) - len(line.lstrip(" ")) > 3 or not body.startswith(("```", "~~~")):
            continue
        run = body[: len(body) - len(body.lstrip(body[0]))]
        info = body[len(run) :]
        if not marker:
            marker = "" if run[0] == "`" and "`" in info else run
        elif not info and run.startswith(marker):
            marker = ""
    return not marker
