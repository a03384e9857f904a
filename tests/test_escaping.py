from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatrelaybot.escaping import Escaper, escape, unescape
from tests.markdown_texts import PROPERTY, cleaned, pieces, texts


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<!channel> <@U012>", "&lt;!channel&gt; &lt;@U012&gt;"),
        ("<https://x.y|here>", "&lt;https://x.y|here&gt;"),
        ("a > b", "a &gt; b"),
        (">quote\n>\n> ", ">quote\n>\n> "),
        ("> a quote\n  >> deeper > not", "> a quote\n  >> deeper &gt; not"),
        ("https://x.y/?a=1&b=2", "https://x.y/?a=1&b=2"),
        ("write &lt; for <", "write &amp;lt; for &lt;"),
        ("&amp;lt; &copy; AT&T", "&amp;amp;lt; &copy; AT&T"),
    ],
)
def test_nothing_stays_a_token_and_quotes_and_links_stay_what_they_are(
    text: str, escaped: str
) -> None:
    assert escape(text) == escaped


@PROPERTY
@given(st.text() | texts)
def test_escaping_can_be_undone(text: str) -> None:
    assert "<" not in escape(text)
    assert unescape(escape(text)) == text


@PROPERTY
@given(st.data(), texts)
def test_a_text_is_escaped_the_same_however_it_arrives(data: st.DataObject, text: str) -> None:
    escaper = Escaper()
    arrived = "".join(escaper.feed(piece) for piece in data.draw(pieces(text)))

    assert arrived + escaper.flush() == escape(cleaned(text))


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b\x07c\x1b[0m\x7f", "abc[0m"),
        ("tab\tand\nbreak", "tab\tand\nbreak"),
        ("one\r\ntwo\rthree\r", "one\r\ntwo\nthree\n"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d and \ude00", "\ufffd and \ufffd"),
        ("\ud83d", "\ufffd"),
        ("&\x00lt;", "&amp;lt;"),
        ("&l", "&l"),
        (">\r\n> > a", ">\r\n> > a"),
    ],
)
def test_what_slack_may_refuse_is_dropped_or_replaced(text: str, clean: str, size: int) -> None:
    escaper = Escaper()
    arrived = "".join(escaper.feed(text[i : i + size]) for i in range(0, len(text), size))

    assert arrived + escaper.flush() == clean
