from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.sample import SampleBackend, serve_forever
from chatrelaybot.playground.sample_answers import script, tokens

_SECONDS = 10.0


@pytest.fixture(name="backend", scope="module")
def _backend() -> Iterator[SampleBackend]:
    """A backend that writes as fast as it can."""
    with SampleBackend(tokens_per_second=1e6, first_token_seconds=0) as backend:
        yield backend


def _ask(
    backend: SampleBackend, query: str, *, accept: str | None = "text/event-stream"
) -> requests.Response:
    return requests.post(
        backend.url,
        json={"user_id": "U1", "query": query, "channel_id": "C1", "team_id": "T1"},
        headers={"Accept": accept},
        timeout=_SECONDS,
    )


def _ask_openai(backend: SampleBackend, query: str, *, stream: bool) -> requests.Response:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": query}]
    body = {"model": "sample", "messages": messages, "stream": stream}
    return requests.post(backend.openai_url, json=body, timeout=_SECONDS)


def _events(body: str) -> list[tuple[str, Any]]:
    """Event name and JSON data of each event of a stream that is known to be well made."""
    events = []
    for block in body.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if data := fields.get("data"):
            events.append((fields.get("event", ""), json.loads(data) if data != "[DONE]" else data))
    return events


def _text(events: list[tuple[str, Any]]) -> str:
    return "".join(data["text_chunk"] for event, data in events if event == "message_part")


# --- relay ----------------------------------------------------------------------------------


def test_a_stream_comes_in_words_and_ends_with_its_end(backend: SampleBackend) -> None:
    response = _ask(backend, "What can you do?")

    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    events = _events(response.content.decode())
    assert events[-1] == ("stream_end", {"status": "done"})
    assert {event for event, _ in events[:-1]} == {"message_part"}
    assert len(events) > 100
    assert max(len(data["text_chunk"].strip()) for _, data in events[:-1]) < 40


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/json;q=0.9, text/html"])
def test_an_answer_in_one_piece_is_the_streams_text(backend: SampleBackend, accept: str) -> None:
    stream = _ask(backend, "Write some code", accept="application/json, text/event-stream")
    whole = _ask(backend, "Write some code", accept=accept)

    assert whole.headers["Content-Type"] == "application/json; charset=utf-8"
    assert whole.json() == {"full_response": _text(_events(stream.content.decode()))}


def test_another_type_is_not_acceptable(backend: SampleBackend) -> None:
    response = _ask(backend, "Hello", accept="text/html")

    assert response.status_code == 406
    assert "text/event-stream" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"query": "a", "channel_id": "C1"}', "user_id must be a string"),
        (b'{"user_id": "U1", "query": 1, "channel_id": "C1"}', "query must be a string"),
        (b'{"user_id": "U1", "query": " ", "channel_id": "C1"}', "query is empty"),
    ],
)
def test_a_wrong_request_is_explained(backend: SampleBackend, body: bytes, words: str) -> None:
    response = requests.post(backend.url, data=body, timeout=_SECONDS)

    assert response.status_code == 400
    assert words in response.json()["error"]


def test_the_front_page_says_what_this_is(backend: SampleBackend) -> None:
    response = requests.get(backend.url.replace("/v1/chat/stream", "/"), timeout=_SECONDS)

    assert "sample backend" in response.text


# --- openai ---------------------------------------------------------------------------------


def test_an_openai_stream_has_role_text_reason_and_done(backend: SampleBackend) -> None:
    events = [data for _, data in _events(_ask_openai(backend, "Hi", stream=True).content.decode())]

    choices = [data["choices"][0] for data in events[:-1]]
    assert events[-1] == "[DONE]"
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "stop")
    assert "".join(choice["delta"].get("content", "") for choice in choices) == script("Hi").text
    assert len({(data["id"], data["model"], data["object"]) for data in events[:-1]}) == 1


def test_an_openai_answer_comes_in_one_piece_without_stream(backend: SampleBackend) -> None:
    choice = _ask_openai(backend, "Hi", stream=False).json()["choices"][0]

    assert choice["message"] == {"role": "assistant", "content": script("Hi").text}
    assert choice["finish_reason"] == "stop"


def test_an_openai_error_ends_the_stream(backend: SampleBackend) -> None:
    events = _events(_ask_openai(backend, "!error", stream=True).content.decode())

    assert "told to fail" in events[-1][1]["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "a"}]},
        {"model": "m", "messages": "a"},
        {"model": "m", "messages": ["a"]},
        {"model": "m", "messages": [{"role": "system", "content": "a"}]},
        {"model": "m", "messages": [{"role": "user", "content": ""}]},
    ],
)
def test_a_wrong_openai_request_is_explained(backend: SampleBackend, body: object) -> None:
    response = requests.post(backend.openai_url, json=body, timeout=_SECONDS)

    assert response.status_code == 400
    assert "must" in response.json()["error"]["message"]


# --- what it says ---------------------------------------------------------------------------


_QUESTIONS = (
    "What can you do?",
    "Can you write a Python function?",
    "How risky is today's deploy?",
    "What is the difference between Kafka and a table?",
    "How should we begin?",
    "Is it raining in Turku?",
)


@pytest.mark.parametrize("question", _QUESTIONS)
def test_an_answer_has_a_heading_a_list_a_table_and_a_block_of_code(question: str) -> None:
    text = script(question).text

    for pattern in (r"^##+ \w", r"^(- |\d\. )", r"^\|[-| ]+\|$", r"^```\w+$", r"^```$"):
        assert re.search(pattern, text, re.MULTILINE), pattern
    assert text.count("```") == 2


def test_different_questions_have_different_answers() -> None:
    assert len({script(question).text.split("\n")[0] for question in _QUESTIONS}) == len(_QUESTIONS)


@pytest.mark.parametrize("question", _QUESTIONS[1:])
def test_an_answer_quotes_the_question(question: str) -> None:
    assert f"\n> {question}\n" in script(question.replace(" ", "\n")).text


def test_a_long_question_is_quoted_in_part() -> None:
    assert f"\n> {'a' * 299}…\n" in script("a" * 1000).text


def test_asked_what_it_can_do_it_says_that_it_is_no_model_and_names_every_order() -> None:
    text = script("So what can you do for us?").text

    assert "no language model" in text
    orders = ("error", "slow", "hang", "cut", "refuse", "busy", "long", "json")
    assert all(f"`!{order}" in text for order in orders)


def test_tokens_are_words_and_lose_nothing() -> None:
    text = script("What can you do?").text + "\n "

    assert "".join(tokens(text)) == text
    assert all(len(token.split()) <= 1 for token in tokens(text))


# --- orders ---------------------------------------------------------------------------------


def test_told_to_fail_it_ends_with_an_error(backend: SampleBackend) -> None:
    events = _events(_ask(backend, "!error").content.decode())

    assert _text(events).startswith("Here is what I found")
    assert events[-1] == ("error", {"error": "the sample backend was told to fail"})
    assert "told to fail" in _ask(backend, "!ERROR now", accept="*/*").json()["error"]


def test_told_to_refuse_it_refuses(backend: SampleBackend) -> None:
    response = _ask(backend, "!refuse")

    assert response.status_code == 422
    assert "refuse" in response.json()["error"]


def test_told_to_be_busy_it_says_how_long(backend: SampleBackend) -> None:
    response = _ask(backend, "!busy 7")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_told_to_cut_it_breaks_the_connection(backend: SampleBackend, accept: str) -> None:
    with pytest.raises(requests.exceptions.RequestException):
        _ask(backend, "!cut", accept=accept)


def test_told_to_cut_the_text_before_it_arrives(backend: SampleBackend) -> None:
    response = requests.post(
        backend.url,
        json={"user_id": "U1", "query": "!cut", "channel_id": "C1"},
        headers={"Accept": "text/event-stream"},
        timeout=_SECONDS,
        stream=True,
    )
    received: list[bytes] = []
    with response, pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(response.iter_content(chunk_size=None))

    assert _text(_events(b"".join(received).decode())) == script("!cut").text
    assert b"stream_end" not in b"".join(received)


@pytest.mark.parametrize("size", [1, 500, 30_000, 120_001])
def test_told_to_be_long_it_is_exactly_so_long(backend: SampleBackend, size: int) -> None:
    text = _text(_events(_ask(backend, f"!long {size}").content.decode()))

    assert len(text) == size


def test_told_to_be_long_it_says_where_its_end_is() -> None:
    assert script("!long").text.endswith("\n\nThis is the end.")
    assert len(script("!long 20,000 please").text) == 20_000
    assert len(script("!long 9999999999").text) == 1_000_000


def test_told_to_answer_in_one_piece_it_does_so_where_a_stream_was_asked_for(
    backend: SampleBackend,
) -> None:
    assert "You asked" in _ask(backend, "!json Is it so?").json()["full_response"]


def test_an_unknown_order_is_answered_with_the_known_ones() -> None:
    assert "`!eror`" in script("!eror").text
    assert "| `!slow 20` |" in script("!eror").text


# --- pace -----------------------------------------------------------------------------------


def test_told_to_be_slow_it_says_that_it_is_alive() -> None:
    with SampleBackend(tokens_per_second=1e6, keep_alive_seconds=0.2) as backend:
        began = time.monotonic()
        body = _ask(backend, "!slow 1").content.decode()

    assert time.monotonic() - began >= 1
    assert body.count(": still here\n\n") >= 3
    assert _text(_events(body)) == "That took me **1 s** of thought."


def test_the_rate_is_kept() -> None:
    count = len(tokens(script("!cut").text))
    with SampleBackend(tokens_per_second=count / 0.5, first_token_seconds=0.1) as backend:
        began = time.monotonic()
        assert _text(_events(_ask(backend, "!error").content.decode()))
        took = time.monotonic() - began

    expected = 0.1 + 0.5 * len(tokens(script("!error").text)) / count
    assert 0.5 * expected < took < 2 * expected + 1


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_told_to_hang_it_hangs_until_its_reader_goes(accept: str) -> None:
    with SampleBackend(first_token_seconds=0) as backend:
        port = int(backend.url.split(":")[2].split("/")[0])
        body = b'{"user_id": "U1", "query": "!hang", "channel_id": "C1"}'
        head = f"POST /v1/chat/stream HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as link:
            link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            received: list[bytes] = []
            with pytest.raises(TimeoutError):
                # Ends at the end of the connection, or by the time-out of a hanging one.
                received.extend(iter(partial(link.recv, 65536), b""))

    assert b"message_part" not in b"".join(received)
    assert b"full_response" not in b"".join(received)


# --- start and stop -------------------------------------------------------------------------


def test_it_stops_at_once_in_the_middle_of_an_answer() -> None:
    threads = threading.active_count()
    with SampleBackend(tokens_per_second=1) as backend:
        response = requests.post(
            backend.url,
            json={"user_id": "U1", "query": "Hi", "channel_id": "C1"},
            headers={"Accept": "text/event-stream"},
            timeout=_SECONDS,
            stream=True,
        )
        began = time.monotonic()

    assert time.monotonic() - began < 5
    assert threading.active_count() == threads
    response.close()


def test_a_port_in_use_is_a_configuration_error() -> None:
    with SampleBackend() as first:
        port = int(first.url.split(":")[2].split("/")[0])
        with (
            pytest.raises(ConfigurationError, match=r"^PORT: port \d+ on .* already in use; "),
            SampleBackend(port=port),
        ):
            pytest.fail("it started")
        with pytest.raises(ConfigurationError, match=r"^PORT: "):
            serve_forever(port=port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stops_cleanly_on_a_signal(number: signal.Signals) -> None:
    code = (
        "import sys\n"
        "from chatrelaybot import telemetry_logs\n"
        "from chatrelaybot.playground import sample\n"
        "telemetry_logs.configure_logging(log_format='text', level='INFO', stream=sys.stdout)\n"
        "sample.serve_forever(port=0)"
    )
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(  # noqa: S603 our own interpreter and text
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        url = ready.split("url=")[1].strip()
        answer = requests.post(
            url, json={"user_id": "U1", "query": "Hi", "channel_id": "C1"}, timeout=_SECONDS
        )
        process.send_signal(number)
        _, errors = process.communicate(timeout=_SECONDS)

    assert "full_response" in answer.json()
    assert (process.returncode, errors) == (0, "")
