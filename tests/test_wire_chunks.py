"""Chunks, wherever they were cut on their way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatrelaybot.errors import FailureKind, TransientError
from chatrelaybot.wire_chunks import Chunks


def _read(pieces: list[bytes]) -> tuple[bytes, bool]:
    chunks = Chunks()
    return b"".join(map(chunks.feed, pieces)), chunks.is_over


_SIZE_LINES = st.sampled_from(
    [b"%x\r\n", b"%X\r\n", b"000%x\r\n", b"%x;a=b;c\r\n", b"%x \r\n", b"%x\n"]
)
_TRAILERS = st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ: 0\r\n"])


@st.composite
def _cut_up(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body, and the bytes that it comes in."""
    contents = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    stream = b"".join(draw(_SIZE_LINES) % len(content) + content + b"\r\n" for content in contents)
    stream += b"0\r\n" + draw(_TRAILERS) + b"\r\n"
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    return b"".join(contents), pieces


@given(_cut_up())
def test_where_they_were_cut_does_not_matter(case: tuple[bytes, list[bytes]]) -> None:
    body, pieces = case
    assert _read(pieces) == (body, True)


def test_what_is_here_of_a_chunk_does_not_wait_for_the_rest() -> None:
    chunks = Chunks()
    assert chunks.feed(b"ffff\r\nte") == b"te"
    assert chunks.feed(b"a") == b"a"
    assert not chunks.is_over


def test_they_are_not_over_before_the_line_behind_the_last() -> None:
    chunks = Chunks()
    assert chunks.feed(b"1\r\na\r\n0\r\n") == b"a"
    assert not chunks.is_over
    chunks.feed(b"X: y\r\n\r")
    assert not chunks.is_over
    chunks.feed(b"\n")
    assert chunks.is_over


def test_what_follows_them_is_none_of_their_body() -> None:
    chunks = Chunks()
    assert chunks.feed(b"1\r\na\r\n0\r\n\r\n1\r\nb\r\n") == b"a"
    assert chunks.feed(b"1\r\nb\r\n") == b""


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"xyz\r\n",
        b"-1\r\na\r\n",
        b";a=b\r\n",
        b"1\r\nab\r\n",
        b"1\r\na1\r\nb\r\n",
        b"data: {}\n\n",
        b"1;" + b"x" * 10_000,
        b"0\r\nX: " + b"y" * 10_000,
    ],
)
def test_what_is_no_chunk_is_a_cut(stream: bytes) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        with pytest.raises(TransientError) as caught:
            _read(pieces)
        assert caught.value.kind is FailureKind.CUT
