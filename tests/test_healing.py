from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatrelaybot.escaping import escape
from chatrelaybot.healing import heal
from tests.markdown_texts import PROPERTY, cleaned, is_balanced, texts

_LIMIT = 11_500


def _healed(text: str) -> str:
    return heal(text, limit=_LIMIT)


@pytest.mark.parametrize(
    ("text", "healed"),
    [
        ("**bold", "**bold**"),
        ("**bold*", "**bold**"),
        ("*it **and bold", "*it **and bold***"),
        ("***both", "***both***"),
        ("__bold _and", "__bold _and___"),
        ("~~gone", "~~gone~~"),
        ("~~gone~", "~~gone~~"),
        ("**a `b", "**a `b`**"),
        ("`code", "`code`"),
        ("``a ` b", "``a ` b``"),
        ("``code`", "``code``"),
        ("## A **head", "## A **head**"),
        ("> a **quote", "> a **quote**"),
        ("- one\n- **two", "- one\n- **two**"),
        ("foo**bar*", "foo**bar**"),
        ("_see https://x.y/a_b", "_see https://x.y/a_b_"),
        ("**https://x.y**", "**https://x.y**"),
    ],
)
def test_an_open_mark_is_closed(text: str, healed: str) -> None:
    assert _healed(text) == healed


@pytest.mark.parametrize(
    "text",
    [
        "snake_case and more_of_it",
        "2 * 3 and 2 ** 3",
        "* a list item\n* and more",
        "an \\*escaped\\* mark, \\`and ticks\\`",
        "about ~5 of ~/files",
        "**all** *is* __well__ `here` ~~now~~",
        "https://x.y/a_b_c?d=_e",
        "[a_link](https://x.y/_a) and [text] and a[0]",
        "`**` and `` ` `` and `a_` are code",
        "a *new\n\nparagraph",
        "*one\n# Head\nthe text",
        "- *one\n- two",
        "```\n**code\n```",
        "***\ntext after a rule",
        "5 - 3 =  2",
        "[a](b c) is no link",
    ],
)
def test_what_is_whole_or_no_mark_is_left_alone(text: str) -> None:
    assert _healed(text) == text


@pytest.mark.parametrize(
    ("text", "healed"),
    [
        ("see [the do", "see"),
        ("see [the docs]", "see"),
        ("see [the docs](htt", "see"),
        ("see [the docs](https://x.y/a_(b", "see"),
        ('see [the docs](https://x.y "A ti', "see"),
        ("![image](https://x", ""),
        ("[![image](src)](hre", ""),
        ("**see [the **docs", "**see**"),
        ("a **", "a"),
        ("a ** __", "a"),
        ("a (**", "a ("),
        ("a `", "a"),
        ("a ``` ", "a"),
        ("a \\", "a"),
        ("snake_", "snake"),
        ("text\n- ", "text"),
        ("text\n  2. ", "text"),
        ("text\n## ", "text"),
        ("text\n> ", "text"),
        ("text\n---", "text"),
        ("text\n``", "text"),
        ("- one\n- [", "- one"),
        ("- one\n- **[x", "- one"),
    ],
)
def test_what_can_not_be_shown_yet_is_held_back(text: str, healed: str) -> None:
    assert _healed(text) == healed


def test_a_bracket_holds_back_no_more_than_a_label() -> None:
    assert _healed("in [0, 1) " + "and " * 50 + "so on").endswith("so on")
    assert _healed("array[0").endswith("[0")
    assert _healed("[a](b 'c " + "d " * 2_000).startswith("[a](b 'c d")


@pytest.mark.parametrize(
    ("text", "healed"),
    [
        ("```py\nx = 1", "```py\nx = 1\n```"),
        ("~~~~\nx = 1\n~~~", "~~~~\nx = 1\n~~~~"),
        ("```\na **b _c `d\n\n[e", "```\na **b _c `d\n\n[e\n```"),
        ("text\n```py\nx\n``", "text\n```py\nx\n```"),
        ("text\n  ```\n  x", "text\n  ```\n  x\n  ```"),
        ("- ```py\n  x", "- ```py\n  x\n  ```"),
        ("1. one\n    ```py\n    **x", "1. one\n    ```py\n    **x\n    ```"),
        ("1. one\n\n    ```py\n    **x\n    ``", "1. one\n\n    ```py\n    **x\n    ```"),
        ("1. one\n    ```py", "1. one"),
        ("text\n```py", "text"),
        ("text\n```py\n\n", "text"),
        ("**text\n```py\n``", "**text**"),
        ("```\nx\n```", "```\nx\n```"),
        ("```\nx\n```\n**a", "```\nx\n```\n**a**"),
        ("```\nx\n```\n- ", "```\nx\n```"),
    ],
)
def test_open_code_is_closed_and_what_is_in_it_is_left_alone(text: str, healed: str) -> None:
    assert _healed(text) == healed


@pytest.mark.parametrize(
    ("text", "healed"),
    [
        ("text\n| a | b |", "text"),
        ("text\n| a | b |\n|--", "text"),
        ("text\n| a | b |\n|---|:-:|", "text\n| a | b |\n|---|:-:|"),
        ("| a |\n|---|\n| **1", "| a |\n|---|\n| **1**"),
        ("| a |\n|---|\n| **1 | 2", "| a |\n|---|\n| **1 | 2"),
        ("| a |\n|---|\n| 1 |\ntext **b", "| a |\n|---|\n| 1 |\ntext **b**"),
        ("| a \\| b |\n|---|", "| a \\| b |\n|---|"),
        ("|a|\n|b|\n|c|", "|a|\n|b|"),
    ],
)
def test_the_head_of_a_table_waits_for_its_dashes(text: str, healed: str) -> None:
    assert _healed(text) == healed


def test_a_mark_that_is_closed_by_more_than_there_is_room_for_stays_open() -> None:
    assert heal("a " + "`" * 20 + "a", limit=100) == "a " + "`" * 20 + "a"
    assert heal("`" * 20 + "\na", limit=100) == "`" * 20 + "\na"


@PROPERTY
@given(texts, st.integers(60, 400))
def test_a_healed_text_is_a_beginning_of_the_text_and_what_closes_it(text: str, limit: int) -> None:
    text = escape(cleaned(text))[:limit]
    healed = heal(text, limit=limit)

    assert len(healed) <= limit
    assert not healed or healed.strip()
    shared = next((i for i, (a, b) in enumerate(zip(text, healed, strict=False)) if a != b), None)
    added = healed[min(len(text), len(healed)) if shared is None else shared :]
    assert not added.strip("\n `*_~")
    assert is_balanced(healed)


@PROPERTY
@given(st.text(max_size=300))
def test_healing_takes_any_text(text: str) -> None:
    assert len(heal(text, limit=400)) <= 400


def test_little_of_a_usual_text_is_ever_held_back() -> None:
    text = (
        "## Head\n\nSome **bold _and_ more** text with `code`, [a link](https://x.y/a_b) and\n"
        "another line.\n\n- one\n- two\n  1. three\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "```py\nx = 2 ** 3\n```\n\n> a quote, *the* end.\n"
    )
    for end in range(len(text)):
        so_far = text[:end].rstrip()
        assert len(_healed(so_far)) >= len(so_far) - 25


@pytest.mark.parametrize(
    "fragment",
    [
        *("*a ", "**a _b ", "** ", "~~", "[", "[a](b 'c", "](", "[](x '[](x \"", "[x]((a)", "- ["),
        *("` `` ", "```\n````\n", "\\", "|", "|a|\n", "a\n", "---\n", "(a", "&lt;", "http://"),
    ],
)
def test_a_hostile_text_is_healed_in_no_time(fragment: str) -> None:
    """The worst takes 0.05 s."""
    text = (fragment * _LIMIT)[:_LIMIT]
    started = time.process_time()
    healed = _healed(text)

    assert time.process_time() - started < 2
    assert len(healed) <= _LIMIT
