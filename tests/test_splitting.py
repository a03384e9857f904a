from __future__ import annotations

import pytest

from chatrelaybot.fences import scan_fences
from chatrelaybot.splitting import cut, step_back


def _parts(text: str, *, limit: int) -> list[str]:
    """Cut a text until the rest fits, as a reply does."""
    parts, start, fence = [], 0, None
    while len(fence.opening if fence else "") + len(text) - start > limit:
        piece = cut(text, start, limit=limit, fence=fence)
        parts.append(piece.part)
        start, fence = piece.resume, piece.fence
    return [*parts, (fence.opening if fence else "") + text[start:]]


def test_a_text_is_cut_between_paragraphs() -> None:
    text = "a" * 60 + "\n\n" + "b" * 20 + "\n" + "c" * 40

    assert _parts(text, limit=100) == ["a" * 60, "b" * 20 + "\n" + "c" * 40]


def test_a_paragraph_break_that_leaves_a_tiny_part_is_not_used() -> None:
    text = "a" * 10 + "\n\n" + "b" * 50 + "\n" + "c" * 60

    assert _parts(text, limit=100) == ["a" * 10 + "\n\n" + "b" * 50, "c" * 60]


def test_a_paragraph_is_cut_between_lines_and_a_line_between_words() -> None:
    assert _parts("a" * 60 + "\n" + "b" * 60, limit=100) == ["a" * 60, "b" * 60]
    assert _parts("a" * 60 + " b " + "c" * 60, limit=100) == ["a" * 60 + " b", "c" * 60]


def test_a_word_is_cut_where_the_room_ends() -> None:
    assert _parts("a" * 150, limit=100) == ["a" * 100, "a" * 50]


def test_a_blank_line_outside_code_is_better_than_one_within() -> None:
    code = "```py\nx = 1\n\ny = 2\n```"
    text = "a" * 55 + "\n\n" + code + "\n" + "b" * 60

    assert _parts(text, limit=100) == ["a" * 55, code + "\n" + "b" * 60]


def test_code_is_closed_and_reopened_with_its_language() -> None:
    text = "```python title=x\n" + "a = 1\n" * 20 + "```\nand so on"
    first, second = _parts(text, limit=120)

    assert first == "```python title=x\n" + "a = 1\n" * 16 + "```"
    assert second == "```python title=x\n" + "a = 1\n" * 4 + "```\nand so on"


def test_an_indentation_survives_the_cut() -> None:
    text = "```\n" + "a" * 70 + "\n\n    return 1\n" + "b" * 60 + "\n```"

    assert _parts(text, limit=100)[1].startswith("```\n    return 1\n")


def test_a_long_info_string_is_shortened_to_the_language_before_it_takes_the_room() -> None:
    text = "~~~python " + "x" * 20 + "\n" + "a = 1\n" * 20

    assert _parts(text, limit=100)[1].startswith("~~~python\na = 1")


def test_a_fence_too_long_to_be_mended_is_left_alone() -> None:
    parts = _parts("`" * 30 + "\n" + "a\n" * 60, limit=100)

    assert max(map(len, parts)) <= 100
    assert parts[1].startswith("a\n")


def test_no_part_is_an_empty_code_block() -> None:
    opened = "a" * 40 + "\n" + "b" * 35 + "\n```py\n" + "c" * 60 + "\n```"
    closed = "```py\n" + "a" * 50 + "\n" + "b" * 38 + "\n```\n" + "c" * 60

    assert _parts(opened, limit=100)[0] == "a" * 40 + "\n" + "b" * 35
    assert _parts(closed, limit=100)[0] == "```py\n" + "a" * 50 + "\n```"


def test_a_table_stays_whole_and_a_heading_stays_with_its_text() -> None:
    table = "a" * 60 + "\n| h | i |\n|---|---|\n| 1 | 2 |\n" + "b" * 60
    heading = "a" * 60 + "\n## Head\n\n" + "b" * 60

    assert _parts(table, limit=80)[0] == "a" * 60
    assert _parts(heading, limit=100)[0] == "a" * 60


def test_a_word_that_would_turn_into_a_list_or_a_fence_does_not_start_a_part() -> None:
    assert _parts("a" * 60 + " b - " + "c" * 60, limit=63)[1].startswith("b - ")
    assert _parts("a" * 60 + " b ```" + "c" * 60, limit=65)[1].startswith("b ```")


@pytest.mark.parametrize(
    "torn",
    ["&lt;", "&amp;", "e\u0301", "👩🏽\u200d💻", "\\*", "x```", "x~~~~"],
)
def test_what_belongs_together_is_not_torn(torn: str) -> None:
    for position in range(1, len(torn)):
        assert step_back("a" * 10 + torn + "b" * 10, 10 + position) == 10


def test_an_entity_is_whole_even_where_nothing_else_can_be_spared() -> None:
    text = "`" * 40 + "&lt;`"

    assert step_back(text, 42) == 40
    assert step_back("`" * 50, 40) == 40


def test_a_line_break_of_two_characters_stays_whole() -> None:
    for room in range(60, 66):
        parts = _parts("a" * 61 + "\r\n" + "b" * 40, limit=room)
        assert not any(part.endswith("\r") or part.startswith("\n") for part in parts)


def test_white_space_that_fills_a_part_is_no_part() -> None:
    assert _parts(" " * 150 + "a" * 30, limit=100) == ["", "a" * 30]
    assert _parts("a" + " " * 150 + "b", limit=100) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("```", "```"),
        ("   ~~~~ py", "~~~~"),
        ("    ```", None),
        ("```a`b", None),
        ("~~~a`b", "~~~"),
        ("```\n``", "```"),
        ("```\n~~~", "```"),
        ("````\n```", "````"),
        ("```\n````  ", None),
        ("```\n``` x", "```"),
        ("```\r\n```\r\n", None),
        ("- ```py\n  x\n  ```", None),
        ("1. ```py\n   x", "```"),
        ("> ```", None),
    ],
)
def test_fences_open_and_close_as_commonmark_says(text: str, marker: str | None) -> None:
    fence = scan_fences(text).fence

    assert (fence.marker if fence else None) == marker
