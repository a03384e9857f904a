"""Which log lines belong to which question, on stderr and in what is exported."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider

from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.telemetry_otel_logs import LogHandler
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot
from tests.otlp import Collector, LogRecord
from tests.scripted_backend import Exchange, head
from tests.talking import PLACEHOLDER, ask, wait_until_shown

#: The threads that work for a question, by a line that each of them writes when all goes wrong.
_LINES = {
    "backend failed": "chatrelaybot-worker",
    "refused by rate limit": "chatrelaybot-editor",
    "message not deleted": "chatrelaybot-sender",
    "reply finished": "chatrelaybot-worker",
}
_SEVERITIES = {"INFO": ("INFO", 9), "WARNING": ("WARN", 13), "ERROR": ("ERROR", 17)}


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def go_wrong(workspace: Workspace, backend: AnsweringBackend, log: io.StringIO) -> str:
    """Ask what is answered in the end, whatever goes wrong; return its trace's id."""

    answer = Gated("at last")

    def is_busy_once(exchange: Exchange) -> None:
        backend.answer("hello", answer)
        exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))

    backend.answer("hello", is_busy_once)
    # The answer is posted in place of an edit, and what it replaces cannot be deleted.
    workspace.faults.add("chat.update", retry_after=1, times=None)
    workspace.faults.add("chat.delete", error="cant_delete_message")
    place = ask(workspace, "hello")
    backend.wait_for_requests(2)
    wait_until_shown(workspace, place, PLACEHOLDER)
    answer.let_all_go()
    workspace.wait_for(lambda: "reply finished" in log.getvalue())
    workspace.faults.clear()
    (traceparent,) = backend.requests[0].header("traceparent")
    return traceparent[3:35]


def test_a_line_has_the_ids_of_its_question_whichever_thread_writes_it(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, log: io.StringIO
) -> None:
    start_bot()

    trace_id = go_wrong(workspace, backend, log)

    written = lines(log)
    for message, thread in _LINES.items():
        (line, *_) = [line for line in written if line["message"] == message]
        assert line["thread"].startswith(thread)
        assert line["trace_id"] == trace_id
        assert len(line["span_id"]) == 16
    (started,) = [line for line in written if line["message"] == "started"]
    assert "trace_id" not in started


def test_an_exported_record_says_what_the_line_does(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
    log: io.StringIO,
) -> None:
    bot = start_bot(otel_exporter="otlp")
    trace_id = go_wrong(workspace, backend, log)
    bot.stop()

    tries = {span.span_id for span in collector.named("process inbox")}
    for line in lines(log):
        if line["message"] not in _LINES:
            continue
        record, *_ = [each for each in collector.log_records if is_same(each, line)]
        assert (record.severity, record.severity_number) == _SEVERITIES[line["level"]]
        assert (record.trace_id, record.span_id) == (line["trace_id"], line["span_id"])
        assert record.trace_id == trace_id
        assert record.span_id in tries
        assert record.attributes["logger"] == line["logger"]
        told = line.keys() - {"time", "level", "message", "thread", "trace_id", "span_id"}
        for name in told:
            if line[name] is not None:
                assert record.attributes[name] == line[name]
        assert record.resource["service.name"] == "chatrelaybot"


def is_same(record: LogRecord, line: dict[str, Any]) -> bool:
    """Tell whether both are of one event, of which a try may have several alike."""
    thread = record.attributes["thread.name"]
    told = (line["message"], line["thread"], line["span_id"])
    return (record.body, thread, record.span_id) == told


def test_a_record_that_cannot_be_told_does_not_hurt_who_logs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A library's slip must not end the loop on whose thread it happens."""
    handler = LogHandler(LoggerProvider(shutdown_on_exit=False).get_logger("test"))

    handler.handle(
        logging.makeLogRecord({"name": "library", "msg": "%d things", "args": ("many",)})
    )

    assert "Logging error" in capsys.readouterr().err
