from __future__ import annotations

import datetime

import pytest

from chatrelaybot import refusal
from chatrelaybot.errors import TransientError

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("9" * 400, float("inf")),
        ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0),
        ("Sun, 01 Mar 2026 13:00:09 +0100", 9.0),
        ("Sun, 01 Mar 2026 12:00:09 -0000", 9.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("1e3", None),
        ("٣", None),
        ("Sun, 99 Mar 2026 12:00:09 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert refusal.retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize("status", [200, 201, 299])
def test_every_2xx_is_an_answer(status: int) -> None:
    assert refusal.of_status(status, {"Retry-After": "5"}, now=NOW) is None


def test_a_date_is_obeyed_as_seconds_are() -> None:
    headers = {"Retry-After": "Sun, 01 Mar 2026 12:00:20 GMT"}
    error = refusal.of_status(503, headers, now=NOW)

    assert isinstance(error, TransientError)
    assert error.retry_after == 20.0


def test_the_status_is_told_and_nothing_else() -> None:
    assert str(refusal.of_status(500, {}, now=NOW)) == "The backend answered with status 500"


@pytest.mark.parametrize(
    ("headers", "is_encoded"),
    [
        ({}, False),
        ({"Content-Encoding": ""}, False),
        ({"Content-Encoding": "Identity", "Transfer-Encoding": "Chunked"}, False),
        ({"Content-Encoding": "gzip"}, True),
        ({"Content-Encoding": "identity, gzip"}, True),
        ({"Transfer-Encoding": "gzip, chunked"}, True),
    ],
)
def test_plain_bytes_have_no_encoding(headers: dict[str, str], is_encoded: bool) -> None:
    assert refusal.is_encoded(headers) is is_encoded
