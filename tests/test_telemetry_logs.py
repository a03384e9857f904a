from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatrelaybot.errors import PermanentError
from chatrelaybot.telemetry_logs import configure_logging

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
    assert "test_telemetry_logs.py" in exception["traceback"]


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
    assert any("test_telemetry_logs.py" in frame for frame in frames)
    assert last == "IndexError"


# --- the export of telemetry ----------------------------------------------------------------


def test_what_its_trouble_says_of_an_address_ends_with_the_host(stream: io.StringIO) -> None:
    """A key of the collector may stand in the path or the query."""
    configure_logging(log_format="text", level="INFO", stream=stream)

    logging.getLogger("opentelemetry.exporter").warning(
        "%s",
        "no https://collector.example:4318/k3y/v1/traces?token=k3y (host='h'): "
        "Max retries exceeded with url: /k3y/v1/traces (Caused by X)",
    )

    told = stream.getvalue()
    assert "k3y" not in told
    assert "no https://collector.example:4318/… (host='h')" in told
    assert "with url: /… (Caused by X)" in told


def test_its_trouble_is_told_once_a_minute(stream: io.StringIO) -> None:
    """It comes with every try, many times a minute, and answers do not suffer from it."""
    configure_logging(log_format="text", level="INFO", stream=stream)
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")

    def tell(seconds: float) -> None:
        fields = {"name": logger.name, "levelno": logging.WARNING, "msg": f"after {seconds:.0f} s"}
        logger.handle(logging.makeLogRecord({**fields, "created": 1_700_000_000.0 + seconds}))

    for seconds in (0.0, 1.0, 59.0, 60.0, 61.0, 119.0, 121.0):
        tell(seconds)
        _log.info("other words")

    told = [line for line in stream.getvalue().splitlines() if " opentelemetry" in line]
    assert [line.partition("  ")[2] for line in told] == ["after 0 s", "after 60 s", "after 121 s"]
    assert stream.getvalue().count("other words") == 7


# --- the journal ----------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_each_line_into_the_journal_has_its_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: Any
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging(log_format=log_format, level="DEBUG", stream=stream)

        levels = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
        for name in levels:
            _log.log(logging.getLevelNamesMapping()[name], name)
        _fail(lambda: json.loads("no JSON"))

        stream.seek(0)
        lines = stream.read().splitlines()
    for line, (name, priority) in zip(lines, levels.items(), strict=False):
        assert line.startswith(f"<{priority}>")
        assert name in line
    # A traceback takes several lines of the text, each of them an entry of its own.
    rest = lines[len(levels) :]
    assert len(rest) == 1 if log_format == "json" else len(rest) > 5
    assert all(line.startswith("<3>") for line in rest)


def test_no_other_stream_has_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    with (tmp_path / "journal").open("w+") as journal, (tmp_path / "log").open("w+") as log:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging(log_format="text", level="INFO", stream=log)
        _log.info("hello")
        log.seek(0)
        assert "<" not in log.read()

    configure_logging(log_format="text", level="INFO", stream=stream)
    _log.info("hello")
    assert "<" not in stream.getvalue()


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
