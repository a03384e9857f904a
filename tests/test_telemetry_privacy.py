"""What nobody finds in traces, metrics and logs: words of people, of backends, and secrets."""

from __future__ import annotations

import io
import logging

import pytest
from pydantic import SecretStr

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, delta, streaming
from tests.conftest import StartBot
from tests.otlp import Collector
from tests.scraping import scrape
from tests.scripted_backend import CHUNKED, Exchange, ScriptedBackend, event, head
from tests.talking import ask

#: Each stands in one place only. All in lower case, letters only: nothing has to escape them.
ASKED = "chrysanthemum"
ANSWERED = "rhododendron"
PLACEHOLDER = "forsythia"
PROMPT = "hellebore"
BACKEND_WORDS = "bougainvillea"
FOREIGN_WORDS = "agapanthus"
BACKEND_TOKEN = "xerochrysum"
HEADER = "zantedeschia"
PATH, QUERY = "wisteria", "tuberose"
WORDS = (ASKED, ANSWERED, PLACEHOLDER, PROMPT, BACKEND_WORDS, FOREIGN_WORDS)
SECRETS = (BACKEND_TOKEN, HEADER, PATH, QUERY)


@pytest.fixture(name="telling")
def _telling(
    start_bot: StartBot,
    backend: AnsweringBackend,
    collector: Collector,  # noqa: ARG001 - must be there first, as must the log
    log: io.StringIO,  # noqa: ARG001
) -> Daemon:
    """A daemon that tells all it can, and has all that it must not tell."""
    return start_bot(
        otel_exporter="otlp",
        http_port=0,
        placeholder=PLACEHOLDER,
        backend_url=f"http://localhost:{backend.port}/{PATH}?key={QUERY}",
        backend_headers={"X-Key": HEADER},
    )


def fail(exchange: Exchange) -> None:
    """Fail in the midst of an answer, and say why."""
    exchange.send(head(CHUNKED))
    exchange.send_chunk(delta(f"{ANSWERED} "))
    exchange.send_chunk(event("error", f'{{"error": "{BACKEND_WORDS}"}}'))
    exchange.end_chunks()


def refuse(exchange: Exchange) -> None:
    """Refuse with a page that repeats the question."""
    body = f"<html>{BACKEND_WORDS} {ASKED}</html>".encode()
    status = f"400 {BACKEND_WORDS}"
    exchange.send(head(f"Content-Length: {len(body)}", status=status, content_type="text/html"))
    exchange.send(body)


def babble(exchange: Exchange) -> None:
    """Answer with what is no JSON."""
    body = f'{{"full_response": {BACKEND_WORDS}'.encode()
    fields = f"Content-Length: {len(body)}"
    exchange.send(head(fields, content_type="application/json"))
    exchange.send(body)


def endings(log: io.StringIO) -> int:
    return log.getvalue().count('"reply finished"')


def check(told: str, workspace: Workspace) -> None:
    hidden = (*WORDS, *SECRETS, workspace.bot_token, workspace.app_token)
    assert [word for word in hidden if word in told] == []


def test_no_word_and_no_secret_is_told_whatever_becomes_of_a_question(
    telling: Daemon,
    collector: Collector,
    workspace: Workspace,
    backend: AnsweringBackend,
    log: io.StringIO,
) -> None:
    answers = (streaming(ANSWERED), fail, refuse, babble)
    for number, script in enumerate(answers):
        backend.answer(f"{ASKED} {number}", script)
        workspace.faults.add("chat.update", status=503)
        workspace.faults.add("chat.postMessage", error="internal_error")
        ask(workspace, f"{ASKED} {number}")
    workspace.wait_for(lambda: endings(log) == len(answers))
    for request in backend.requests:  # What must not be told was there.
        assert all(word in f"{request}" for word in (PATH, QUERY, HEADER, ASKED))
    told = scrape(telling).text
    telling.stop()

    paths = {request.path for request in collector.requests}
    assert paths == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert len(collector.named("process inbox")) >= len(answers)
    assert {"backend failed", "slack call failed"} <= {one.body for one in collector.log_records}
    question_id = backend.requests[0].header("Idempotency-Key")[0]
    assert question_id.encode() in collector.raw  # So it would be found.
    check(collector.raw.decode("latin-1") + told + log.getvalue(), workspace)


def test_no_word_of_a_foreign_error_is_told(
    telling: Daemon, collector: Collector, workspace: Workspace, log: io.StringIO
) -> None:
    try:
        raise ValueError(FOREIGN_WORDS)
    except ValueError as error:
        try:
            raise RuntimeError(workspace.bot_token) from error
        except RuntimeError:
            logging.getLogger("chatrelaybot.relay").exception("relaying broke")
    logging.getLogger("slack_sdk").warning("used %s", workspace.bot_token)
    telling.stop()

    (record,) = [one for one in collector.log_records if one.body == "relaying broke"]
    assert record.severity == "ERROR"
    assert record.attributes["exception.type"] == "RuntimeError"
    assert "which led to" in record.attributes["exception.stacktrace"]
    assert "test_telemetry_privacy.py" in record.attributes["exception.stacktrace"]
    assert "used xoxb-***" in [one.body for one in collector.log_records]
    check(collector.raw.decode("latin-1") + log.getvalue(), workspace)


def test_no_word_of_a_chat_completion_is_told(
    start_bot: StartBot,
    collector: Collector,
    workspace: Workspace,
    log: io.StringIO,
) -> None:
    def complain(exchange: Exchange) -> None:
        body = f'{{"error": {{"message": "{BACKEND_WORDS}", "type": "{BACKEND_WORDS}"}}}}'.encode()
        fields = f"Content-Length: {len(body)}"
        status = "401 Unauthorized"
        exchange.send(head(fields, status=status, content_type="application/json"))
        exchange.send(body)

    with ScriptedBackend(complain) as model:
        daemon = start_bot(
            otel_exporter="otlp",
            http_port=0,
            backend_url=f"{model.url}?key={QUERY}",
            backend_dialect="openai",
            backend_model="tiny-1",
            backend_system_prompt=PROMPT,
            backend_token=SecretStr(BACKEND_TOKEN),
        )
        ask(workspace, ASKED)
        workspace.wait_for(lambda: endings(log) == 1)
        (request,) = model.requests
        told = scrape(daemon).text
        daemon.stop()

    assert all(word in f"{request}" for word in (PROMPT, BACKEND_TOKEN, ASKED))
    assert collector.named("chat tiny-1")
    check(collector.raw.decode("latin-1") + told + log.getvalue(), workspace)
