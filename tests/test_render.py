from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatrelaybot.render import PART_LIMIT, Message, Rendering, message, unescape
from chatrelaybot.splitting import longest_closing
from tests.markdown_texts import PROPERTY, cleaned, is_balanced, pieces, texts

_LIMIT = 80
_NOTE = "This answer is incomplete."

limits = st.integers(60, 160)


def _rendering(*pieces: str, limit: int = PART_LIMIT) -> Rendering:
    rendering = Rendering(limit=limit)
    for piece in pieces:
        rendering.append(piece)
    return rendering


def _parts(rendering: Rendering) -> list[Message]:
    return [rendering.part(index) for index in range(rendering.part_count())]


def _final(*pieces: str, limit: int = PART_LIMIT, note: str | None = None) -> list[str]:
    rendering = _rendering(*pieces, limit=limit)
    rendering.close(note=note)
    return [part.markdown for part in _parts(rendering)]


def _assert_fit(shown: Message, limit: int) -> None:
    assert shown.markdown.strip()
    assert len(shown.markdown) <= limit
    assert "<" not in shown.markdown
    shown.markdown.encode()
    assert shown.text.strip()
    assert len(shown.text) <= 151
    assert not re.search(r"[<>\n]|&(?!(?:lt|gt|amp);)", shown.text)


def _ends(parts: list[str], text: str) -> set[int]:
    """Return where the parts may end in a text, as far as only fences were put into them."""
    ends = {0}
    for number, part in enumerate(parts):
        lines = unescape(part).split("\n")
        is_last = number == len(parts) - 1
        bodies = {
            "\n".join(lines[first : len(lines) - closed])
            for first in ((0, 1) if number else (0,))
            for closed in ((0,) if is_last else (0, 1))
        }
        ends = {
            start + len(body)
            for end in ends
            for start in range(end, end + len(text[end:]) - len(text[end:].lstrip()) + 1)
            for body in bodies
            if text.startswith(body, start)
        }
    return ends


# --- any text -------------------------------------------------------------------------------


@PROPERTY
@given(texts, limits)
def test_the_parts_are_the_text_but_for_fences_and_white_space_at_the_cuts(
    text: str, limit: int
) -> None:
    clean = cleaned(text)
    parts = _final(text, limit=limit)

    assert any(not clean[end:].strip() for end in _ends(parts, clean))
    assert parts or not clean.strip()


@PROPERTY
@given(st.data(), texts, limits)
def test_the_parts_depend_on_the_text_only(data: st.DataObject, text: str, limit: int) -> None:
    rendering = Rendering(limit=limit)
    sealed: list[Message] = []
    shown_count = 0
    for piece in data.draw(pieces(text)):
        rendering.append(piece)
        if data.draw(st.booleans()):
            assert rendering.part_count() >= max(shown_count, rendering.sealed_count())
            shown_count = rendering.part_count()
            for shown in _parts(rendering):
                _assert_fit(shown, limit)
                assert is_balanced(shown.markdown)
        sealed += [rendering.part(i) for i in range(len(sealed), rendering.sealed_count())]
    rendering.close()

    assert [part.markdown for part in _parts(rendering)] == _final(text, limit=limit)
    assert _parts(rendering)[: len(sealed)] == sealed
    assert rendering.part_count() >= shown_count
    assert rendering.length == len(text)
    assert rendering.has_text == bool(cleaned(text).strip())


@PROPERTY
@given(texts, limits)
def test_each_part_fits_and_all_fences_but_those_of_the_end_are_closed(
    text: str, limit: int
) -> None:
    rendering = _rendering(text, limit=limit)
    rendering.close()

    for shown in _parts(rendering):
        _assert_fit(shown, limit)
        assert is_balanced(shown.markdown) or shown == _parts(rendering)[-1]


@PROPERTY
@given(texts, limits, st.sampled_from([_NOTE, "a < b_c & " * 20, "x"]))
def test_a_note_stands_outside_of_all_fences_and_the_text_before_it(
    text: str, limit: int, note: str
) -> None:
    rendering = _rendering(text, limit=limit)
    rendering.close(note=note)
    *before, last = _parts(rendering)

    for shown in [*before, last]:
        _assert_fit(shown, limit)
        assert is_balanced(shown.markdown)
    rest, _, paragraph = last.markdown.rpartition("\n\n")
    assert re.fullmatch(r"_.+_", paragraph)
    assert is_balanced(rest)
    assert rendering.has_text == bool(cleaned(text).strip())


# --- the growing part -----------------------------------------------------------------------


def test_a_growing_text_is_shown_healed_and_a_closed_one_as_it_came() -> None:
    rendering = _rendering("See **the [docs](http://x")

    assert rendering.part(0).markdown == "See **the**"

    rendering.append(".y/z) and `more")

    assert rendering.part(0).markdown == "See **the [docs](http://x.y/z) and `more`**"

    rendering.close()

    assert rendering.part(0).markdown == "See **the [docs](http://x.y/z) and `more"


def test_a_part_of_which_nothing_can_be_shown_yet_does_not_count() -> None:
    rendering = _rendering("```py\n")

    assert rendering.has_text
    assert rendering.part_count() == 0
    with pytest.raises(IndexError):
        rendering.part(0)

    rendering.append("x")

    assert rendering.part_count() == 1
    assert rendering.part(0).markdown == "```py\nx\n```"


def test_what_was_shown_once_is_not_taken_back() -> None:
    """A message would be deleted for it, and posted again."""
    rendering = _rendering("1")
    first = rendering.part(0)
    rendering.append(". ")

    assert rendering.part_count() == 1
    assert rendering.part(0) == first


def test_the_part_after_a_cut_in_code_begins_with_its_first_line() -> None:
    rendering = _rendering("```py\n" + "a = 1\n" * 10, limit=_LIMIT)

    assert (rendering.sealed_count(), rendering.part_count()) == (0, 1)

    rendering.append("a = 1\n" * 3 + "b")

    assert (rendering.sealed_count(), rendering.part_count()) == (1, 2)
    assert is_balanced(rendering.part(0).markdown)
    assert rendering.part(1).markdown == "```py\na = 1\na = 1\nb\n```"


def test_a_nearly_full_part_is_healed_within_the_limit() -> None:
    for length in range(_LIMIT - 12, _LIMIT - 1):
        rendering = _rendering("**" + "a" * length, limit=_LIMIT)
        assert rendering.part_count() == 1
        assert _LIMIT - 2 * longest_closing(_LIMIT) <= len(rendering.part(0).markdown) <= _LIMIT
        assert rendering.part(0).markdown.endswith("a**")


# --- the closed text ------------------------------------------------------------------------


def test_as_much_as_fits_is_one_part() -> None:
    assert _final("a" * PART_LIMIT) == ["a" * PART_LIMIT]
    assert _final("a" * PART_LIMIT + "b") == ["a" * PART_LIMIT, "b"]
    assert _final("<" * 2_875) == ["&lt;" * 2_875]
    assert [len(part) for part in _final("<" * 2_876)] == [11_500, 4]


def test_an_answer_of_one_part_is_exactly_the_text() -> None:
    text = "\n  A *half\r\n\r\n```py\nx = '>'\n\n"

    assert unescape(_final(text)[0]) == text


def test_white_space_is_no_answer() -> None:
    rendering = _rendering(" \n\x00\r")
    rendering.close()

    assert not rendering.has_text
    assert rendering.part_count() == 0
    assert _final("\r", "\n" * 20_000, " ") == []


def test_a_pair_of_surrogates_that_arrives_in_halves_is_one_character() -> None:
    assert _final("a\ud83d", "\ude00b") == ["a😀b"]


def test_a_token_of_slack_shows_as_text_however_it_arrives() -> None:
    rendering = _rendering(*"<!channel> & <@U012>")

    assert rendering.part(0).markdown == "&lt;!channel&gt; & &lt;@U012&gt;"
    assert "<" not in rendering.part(0).text


def test_a_note_is_a_paragraph_of_its_own_in_italics() -> None:
    assert _final("Half an ans", note=_NOTE) == [f"Half an ans\n\n_{_NOTE}_"]
    assert _final("", note=_NOTE) == [f"_{_NOTE}_"]
    assert _final("a", note="two\nlines <here>") == ["a\n\n_two lines &lt;here&gt;_"]
    assert _final("a", note="") == ["a"]


def test_open_code_is_closed_before_the_note() -> None:
    assert _final("```py\nx = 1\n", note=_NOTE) == [f"```py\nx = 1\n```\n\n_{_NOTE}_"]


def test_a_note_that_does_not_fit_is_a_part_of_its_own() -> None:
    assert _final("a" * 70, limit=_LIMIT, note=_NOTE) == ["a" * 70, f"_{_NOTE}_"]
    code = "```\n" + "a" * 38 + "\n" + "b" * 37
    assert _final(code, limit=_LIMIT, note="b") == [
        "```\n" + "a" * 38 + "\n```",
        "```\n" + "b" * 37 + "\n```\n\n_b_",
    ]


def test_nothing_follows_the_close() -> None:
    rendering = _rendering("a")
    rendering.close()

    with pytest.raises(RuntimeError):
        rendering.append("b")
    with pytest.raises(RuntimeError):
        rendering.close(note=_NOTE)
    assert rendering.is_closed


def test_a_limit_too_small_to_mend_fences_is_refused() -> None:
    with pytest.raises(ValueError, match="40 characters"):
        Rendering(limit=39)


# --- our own sentences, and the summaries ---------------------------------------------------


def test_a_sentence_of_our_own_is_a_message() -> None:
    assert message("_Thinking…_") == Message("_Thinking…_", "Thinking…")
    assert message("<!here>").markdown == "&lt;!here&gt;"
    assert message(" ") == Message("…", "…")
    assert len(message("a " * PART_LIMIT).markdown) <= PART_LIMIT


@pytest.mark.parametrize(
    ("markdown", "summary"),
    [
        ("## A **bold** `head`\n\nand _text_", "A bold head and text"),
        ("- one\n- [x] two\n1. three", "one [x] two three"),
        ("> a quote\n>and more", "a quote and more"),
        ("```python\nsnake_case = 2 ** 3\n```", "snake_case = 2 3"),
        ("See [the docs](https://x.y) ![img](z)", "See the docs img"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a | b | 1 | 2 |"),
        ("a < b && <@U1>", "a &lt; b &amp;&amp; &lt;@U1&gt;"),
        ("---", "…"),
        ("***", "…"),
        ("two  \r\n lines", "two lines"),
    ],
)
def test_a_summary_is_plain_words(markdown: str, summary: str) -> None:
    assert message(markdown).text == summary


def test_a_long_summary_ends_between_words_and_never_within_an_entity() -> None:
    assert message("word " * 100).text == "word " * 29 + "word…"
    assert message("a" * 200).text == "a" * 150 + "…"
    assert message("a" + "<" * 200).text == "a" + "&lt;" * 37 + "…"


# --- cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paragraph",
    [
        "Some **bold** words, `code` and a [link](https://x.y/a_b), a < b.\n\n" * 3
        + "```py\nx = 1\n```\n",
        "**never *closed _and `so` on ",
    ],
)
def test_a_long_answer_in_tiny_pieces_costs_little(paragraph: str) -> None:
    """It takes 0.2 s, of a slow machine with coverage a few times as much; quadratic, minutes."""
    text = (paragraph * 10_000)[:100_000]
    rendering = Rendering()
    started = time.process_time()
    for place in range(0, len(text), 4):
        rendering.append(text[place : place + 4])
        if place % 200 == 0:
            rendering.part(rendering.part_count() - 1)
    rendering.close()

    assert time.process_time() - started < 20
    assert rendering.part_count() >= 9
    assert max(len(part.markdown) for part in _parts(rendering)) <= PART_LIMIT
