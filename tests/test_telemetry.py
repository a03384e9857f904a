from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatrelaybot.errors import PermanentError
from chatrelaybot.telemetry import configure_logging, new_traceparent

_LIBRARIES = ("slack_sdk", "sqlalchemy", "urllib3", "websocket", "aiohttp", "asyncio")


@pytest.fixture(name="stream", autouse=True)
def _stream() -> Iterator[io.StringIO]:
    """A log of its own; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in _LIBRARIES}
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


_log = logging.getLogger("chatrelaybot.relay")


def _json_line(stream: io.StringIO) -> dict[str, Any]:
    line = stream.getvalue()
    assert line.count("\n") == 1
    parsed = json.loads(line)
    assert isinstance(parsed, dict)
    return parsed


def _fail(act: Callable[[], object]) -> None:
    """Log the error of `act` with its traceback."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 any error is what these tests are about
        _log.error("broke", exc_info=error)


def _raise_from(error: Exception, cause: Exception) -> None:
    raise error from cause


# --- JSON -----------------------------------------------------------------------------------


def test_a_json_line_has_the_record_and_its_facts(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=stream)

    _log.info("reply finished", extra={"question": "q1", "first_text_seconds": 0.41, "parts": 2})

    line = _json_line(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO",
        "logger": "chatrelaybot.relay",
        "message": "reply finished",
        "thread": "MainThread",
        "question": "q1",
        "first_text_seconds": 0.41,
        "parts": 2,
    }


def test_a_json_fact_of_any_type_is_shown_and_takes_no_fields_place(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=stream)

    _log.info("started", extra={"kinds": {1}, "level": "mine", "name_ü": "ü"})

    line = _json_line(stream)
    assert (line["kinds"], line["level"], line["name_ü"]) == ("{1}", "INFO", "ü")


def test_a_json_exception_has_type_and_traceback_in_the_one_line(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=stream)

    _fail(lambda: json.loads("the question"))

    exception = _json_line(stream)["exception"]
    assert exception["type"] == "json.decoder.JSONDecodeError"
    assert "test_telemetry.py" in exception["traceback"]


# --- text -----------------------------------------------------------------------------------


def test_a_text_line_reads_as_one_sentence_with_its_facts(stream: io.StringIO) -> None:
    configure_logging(log_format="text", level="INFO", stream=stream)

    _log.info("reply finished", extra={"question": "q1", "first_text_seconds": 0.4123, "rate": 0.5})

    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO  relay  reply finished"
        r"  question=q1 first_text=0\.412s rate=0\.5\n",
        stream.getvalue(),
    )


def test_a_text_line_without_facts_ends_with_its_event(stream: io.StringIO) -> None:
    configure_logging(log_format="text", level="INFO", stream=stream)

    logging.getLogger("other.library").warning("it is %s", "late")

    assert stream.getvalue().endswith(" WARNING other.library  it is late\n")


def test_a_text_line_cannot_be_broken_by_what_is_in_it(stream: io.StringIO) -> None:
    configure_logging(log_format="text", level="INFO", stream=stream)

    _log.info("a\nb\x1b[31m", extra={"error": 'x\n12:00 "forged" line', "empty": ""})

    assert stream.getvalue().endswith(
        '  a\\nb\\x1b[31m  error="x\\n12:00 \\"forged\\" line" empty=""\n'
    )
    assert stream.getvalue().count("\n") == 1


def test_a_text_traceback_stands_below_its_line(stream: io.StringIO) -> None:
    configure_logging(log_format="text", level="INFO", stream=stream)

    _fail(lambda: [][0])

    first, *frames, last = stream.getvalue().splitlines()
    assert first.endswith("relay  broke")
    assert any("test_telemetry.py" in frame for frame in frames)
    assert last == "IndexError"


# --- what never gets into the log -----------------------------------------------------------


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_words_of_foreign_errors_are_left_out_and_ours_are_kept(
    stream: io.StringIO, log_format: Any
) -> None:
    configure_logging(log_format=log_format, level="INFO", stream=stream)

    error, cause = PermanentError("the backend answered 418"), ValueError("the text of a question")
    _fail(lambda: _raise_from(error, cause))

    assert "ValueError" in stream.getvalue()
    assert "which led to" in stream.getvalue()
    assert "chatrelaybot.errors.PermanentError: the backend answered 418" in stream.getvalue()
    assert "text of a question" not in stream.getvalue()


def test_an_error_of_the_system_is_told_by_its_code(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=stream)

    _fail(lambda: open("/nowhere/secret-name"))  # noqa: PTH123, SIM115 it fails

    assert _json_line(stream)["exception"]["type"] == "FileNotFoundError[ENOENT]"
    assert stream.getvalue().count("ENOENT") == 2


def test_a_chain_of_errors_that_bites_its_tail_comes_to_an_end(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=stream)
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    _fail(lambda: _raise_from(first, second))

    assert _json_line(stream)["exception"]["traceback"].count("which led to") == 1


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("token xoxb-12-ab-Secret9 used", "token xoxb-*** used"),
        ("xoxe.xoxp-1-Secret", "xoxe.xoxp-***"),
        ("'xapp-1-A0-Secret'", "'xapp-***'"),
        ("Authorization: Bearer p@ss.Secret/+= x", "Authorization: Bearer *** x"),
        ("wss://host/link/?ticket=Secret-1&app_id=2", "wss://host/link/?ticket=***&app_id=2"),
    ],
)
def test_secrets_are_masked_wherever_they_stand(
    stream: io.StringIO, log_format: Any, words: str, shown: str
) -> None:
    configure_logging(log_format=log_format, level="INFO", stream=stream)

    _log.info("event %s", words, extra={"fact": words})
    _fail(lambda: _raise_from(PermanentError(words), ValueError()))

    assert "Secret" not in stream.getvalue()
    # Twice in the first record, and once in the error's.
    assert stream.getvalue().count(shown) == 3


def test_prefixes_without_a_token_are_left_alone(stream: io.StringIO) -> None:
    configure_logging(log_format="text", level="INFO", stream=stream)

    _log.info("give the xoxb-… token")

    assert "give the xoxb-… token" in stream.getvalue()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("slack_sdk.web.base_client", ["INFO", "WARNING"]),
        ("slack_sdk.socket_mode.builtin.client", ["INFO", "WARNING"]),
        ("urllib3.connectionpool", ["WARNING"]),
        ("websocket", []),
        ("sqlalchemy.engine.Engine", ["WARNING"]),
        ("chatrelaybot.relay", ["DEBUG", "INFO", "WARNING"]),
    ],
)
def test_libraries_that_print_texts_stay_quiet_at_debug(
    stream: io.StringIO, name: str, shown: list[str]
) -> None:
    configure_logging(log_format="json", level="DEBUG", stream=stream)

    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger(name).log(level, "words")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


def test_a_library_is_not_louder_than_asked(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="ERROR", stream=stream)

    logging.getLogger("slack_sdk").warning("words")
    logging.getLogger("slack_sdk").error("more words")

    assert _json_line(stream)["message"] == "more words"


def test_configuring_again_replaces_the_first_log(stream: io.StringIO) -> None:
    configure_logging(log_format="json", level="INFO", stream=io.StringIO())
    configure_logging(log_format="json", level="INFO", stream=stream)

    _log.info("once")

    assert _json_line(stream)["message"] == "once"


def test_the_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="text", level="INFO")

    _log.info("here")

    out, err = capsys.readouterr()
    assert out == ""
    assert "here" in err


# --- trace context --------------------------------------------------------------------------


def test_a_traceparent_is_of_the_first_version_sampled_and_new_each_time() -> None:
    made = {new_traceparent() for _ in range(100)}

    assert len(made) == 100
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", each) for each in made)
