"""The framing, against cases of our own and against a straightforward reading of the standard."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatrelaybot.dialects import Event
from chatrelaybot.errors import FailureKind, PermanentError
from chatrelaybot.sse import EVENT_LIMIT, events

Triple = tuple[str, str, str]

#: Bytes, and what WHATWG makes of them: (event, data, last event id). The section is
#: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
CASES: dict[str, tuple[bytes, list[Triple]]] = {
    "nothing": (b"", []),
    "blank lines only": (b"\n\r\n\r\r", []),
    "one event": (b"data: tea\n\n", [("message", "tea", "")]),
    "a name": (b"event: part\ndata: tea\n\n", [("part", "tea", "")]),
    "the last name counts": (b"event: a\nevent: b\ndata: x\n\n", [("b", "x", "")]),
    "a name does not outlive its event": (
        b"event: part\n\ndata: tea\n\n",
        [("message", "tea", "")],
    ),
    "an empty name is no name": (b"event:\ndata: tea\n\n", [("message", "tea", "")]),
    "a name without a colon is none": (b"event\ndata: tea\n\n", [("message", "tea", "")]),
    "lines are joined": (b"data: one\ndata: two\n\n", [("message", "one\ntwo", "")]),
    "one space is dropped": (b"data:  x\ndata:y\ndata:\tz\n\n", [("message", " x\ny\n\tz", "")]),
    "a colon may stand in a value": (b"data: 10:30\n\n", [("message", "10:30", "")]),
    "empty data": (b"data:\n\ndata\n\ndata: \n\n", [("message", "", "")] * 3),
    "two empty lines of data": (b"data\ndata:\n\n", [("message", "\n", "")]),
    "no data, no event": (b"event: part\nid: 7\n\n", []),
    "a comment": (b": hello\ndata: a\n:\n\n:\n\n", [("message", "a", "")]),
    "unknown fields": (
        b"datax: no\nDATA: no\n data: no\nbare\ndata: yes\n\n",
        [("message", "yes", "")],
    ),
    "a retry": (b"retry: 50\ndata: a\n\n", [("message", "a", "")]),
    "cr": (b"data: a\rdata: b\r\rdata: c\r\r", [("message", "a\nb", ""), ("message", "c", "")]),
    "crlf": (b"event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n", [("e", "a", ""), ("message", "b", "")]),
    "lf, then crlf": (b"data: a\n\r\ndata: b\n\n", [("message", "a", ""), ("message", "b", "")]),
    "crlf, then lf": (b"data: a\r\n\ndata: b\n\n", [("message", "a", ""), ("message", "b", "")]),
    "cr, then crlf": (b"data: a\r\r\ndata: b\n\n", [("message", "a", ""), ("message", "b", "")]),
    "lf, then cr": (b"data: a\n\rdata: b\n\n", [("message", "a", ""), ("message", "b", "")]),
    "cr between lines": (b"data: a\rdata: b\n\n", [("message", "a\nb", "")]),
    "other separators are text": (
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n".encode(),
        [("message", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg", "")],
    ),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    "a second byte order mark is a name": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "a late byte order mark is a name": (
        b"data: a\n\n\xef\xbb\xbfdata: b\n\n",
        [("message", "a", "")],
    ),
    "a byte order mark alone": (b"\xef\xbb\xbf\ndata: a\n\n", [("message", "a", "")]),
    "broken utf-8": (b"data: \xff(\xe2\x82)\n\n", [("message", "\ufffd(\ufffd)", "")]),
    "several bytes a character": (
        "event: wörter\ndata: naïve 日本 🐢\n\n".encode(),
        [("wörter", "naïve 日本 🐢", "")],
    ),
    "nul is text": (b"data: \0\n\n", [("message", "\0", "")]),
    "an id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\n",
        [("message", "a", "1"), ("message", "b", "1"), ("message", "c", "2")],
    ),
    "an id is reset": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\ndata: c\n\n",
        [("message", "a", "1"), ("message", "b", ""), ("message", "c", "")],
    ),
    "an id with nul is none": (
        b"id: 1\nid: 2\0\ndata: a\n\nid: \0\n\ndata: b\n\n",
        [("message", "a", "1"), ("message", "b", "1")],
    ),
    "id is no beginning of a field": (b"idx: 3\ndata: a\n\n", [("message", "a", "")]),
    "an unfinished event is dropped": (b"data: a\n\nid: 9\ndata: b\n", [("message", "a", "")]),
    "an unfinished line is dropped": (b"data: a\n\ndata: b", [("message", "a", "")]),
    "more lines than one frame holds": (
        b"event: poem\nid: 4\n" + b"".join(b"data: %d\n" % n for n in range(100)) + b"\n",
        [("poem", "\n".join(map(str, range(100))), "4")],
    ),
    "as many lines as one frame holds": (
        b"data: x\n" * 16 + b"\n" + b"data: x\n" * 17 + b"\n" + b"data: z\n\n",
        [
            ("message", "\n".join("x" * 16), ""),
            ("message", "\n".join("x" * 17), ""),
            ("message", "z", ""),
        ],
    ),
}


def _read(chunks: list[bytes], **options: int) -> list[Triple]:
    return [(event.event, event.data, event.id) for event in events(iter(chunks), **options)]


def _bytewise(stream: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in stream]


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES)
def test_a_stream_is_read_as_the_standard_says_however_it_is_cut(
    stream: bytes, expected: list[Triple]
) -> None:
    assert _read([stream]) == expected
    assert _read(_bytewise(stream)) == expected
    for cut in range(len(stream)):
        assert _read([stream[:cut], b"", stream[cut:]]) == expected


def test_an_event_is_a_frozen_value() -> None:
    assert list(events([b"id: 1\nevent: e\ndata: d\n\n"])) == [Event("e", "d", "1")]


@pytest.mark.parametrize(
    "stream",
    [b"data: a\n\n", b"data: a\r\r", b"data: a\r\n\r\n", b":\ndata: a\n\r", b"x\ndata: a\r\r\n"],
)
def test_an_event_comes_with_the_byte_that_ends_it(stream: bytes) -> None:
    """The LF of a CRLF says nothing new, and is not waited for."""
    bytewise = iter(_bytewise(stream))

    next(events(bytewise))
    assert b"".join(bytewise) == (b"\n" if stream.endswith(b"\r\n") else b"")


# ---- any stream in any chunks ----

_LINES = st.sampled_from(
    [
        *(b"", b"", b"", b"data", b"data:", b"data: x", b"data:yy", b"event: e", b"event"),
        *(b"id: 1", b"id", b"id:\0", b": note", b"retry: 3", b"what: ever", b"data: \xc3\xa9"),
        *(b"data: \xf0\x9f\x90", b"\xef\xbb\xbfdata: bom", b"data: \0", b"   ", b"dat"),
    ]
)
_ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
_STREAMS = st.lists(st.tuples(_LINES, _ENDS), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def _reference(stream: bytes) -> list[Triple]:
    """Follow the standard step by step, with the whole stream at hand."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\r|\n", text)
    dispatched: list[Triple] = []
    data, name, last_id = "", "", ""
    for line in lines:
        if not line:
            if data:
                dispatched.append((name or "message", data[:-1], last_id))
            data, name = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
    return dispatched


@st.composite
def _chunked(draw: st.DrawFn) -> list[bytes]:
    stream = draw(st.one_of(_STREAMS, st.binary(max_size=40)))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@settings(deadline=None, max_examples=400)
@given(_chunked())
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    assert _read(chunks) == _reference(b"".join(chunks))


def test_the_reference_itself_agrees_with_the_cases() -> None:
    assert {name: _reference(stream) for name, (stream, _) in CASES.items()} == {
        name: expected for name, (_, expected) in CASES.items()
    }


# ---- bounds ----


@pytest.mark.parametrize("line", [b"data: %b", b": %b", b"unknown: %b", b"%b"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_event_of_just_the_limit_passes_and_a_byte_more_does_not(line: bytes, size: int) -> None:
    """Whatever it is made of, and however it is cut."""
    padding = 50 - len(b"data: a\n") - len(line % b"") - len(b"\n")
    for extra, is_allowed in ((0, True), (1, False)):
        stream = b"data: a\n" + line % (b"x" * (padding + extra)) + b"\n\n"
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        if is_allowed:
            assert len(_read(chunks, limit=50)) == 1
            continue
        with pytest.raises(PermanentError) as caught:
            _read(chunks, limit=50)
        assert caught.value.kind is FailureKind.TOO_LONG
        assert "xx" not in str(caught.value)


def test_what_came_before_a_large_event_is_not_lost() -> None:
    reading = events([b"data: a\n\ndata: " + b"x" * 100 + b"\n\n"], limit=50)

    assert next(reading).data == "a"
    with pytest.raises(PermanentError):
        next(reading)


def test_an_endless_line_is_given_up_at_the_limit() -> None:
    given_bytes = 0

    def endless() -> Iterator[bytes]:
        nonlocal given_bytes
        while True:
            given_bytes += 1 << 16
            yield b"x" * (1 << 16)

    with pytest.raises(PermanentError):
        next(events(endless()))
    assert given_bytes <= EVENT_LIMIT + (1 << 16)


def test_events_do_not_add_up_to_the_limit() -> None:
    stream = b": %b\ndata: a\n\n" % (b"x" * 30)
    assert len(_read([stream] * 100, limit=50)) == 100


@pytest.mark.parametrize(
    "line", [b"data:\n", b"data: " + b"x" * 65_000 + b"\n", b"data: a\r\n", b":\n", b"data: \xff\n"]
)
def test_time_is_linear_in_the_size_of_an_event(line: bytes) -> None:
    """sseclient-py alone takes some 100 times as long for 8 times the lines, which is 15 s."""

    def seconds(size: int) -> float:
        stream = line * (size // len(line)) + b"data: end\n\n"
        chunks = [stream[at : at + 1400] for at in range(0, len(stream), 1400)]
        started = time.process_time()
        assert len(_read(chunks, limit=2 * EVENT_LIMIT)) == 1
        return time.process_time() - started

    small = min(seconds(EVENT_LIMIT // 8) for _ in range(3))
    assert seconds(EVENT_LIMIT) < 40 * small + 0.1
