"""Draws one trace that real processes have sent: `python -m tests.trace_example docs/trace.svg`.

A question whose backend is overloaded at first, whose bot is then killed in the middle of the
answer, and which a second process answers to its end, in the same reply.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import delta
from tests.otlp import DEADLINE, Collector, Span
from tests.program import ended, start
from tests.scripted_backend import CHUNKED, END, Exchange, ScriptedBackend, head
from tests.talking import ask, wait_until_shown
from tests.trace_picture import Run, draw

_ANSWER = "Tea is made of water that boils, and of patience that does not."
#: Between two words of the answer; seconds. Slack's own calls take about 0.1 s.
_WORD_SECONDS = 0.2
_SLACK_SECONDS = 0.1
#: After so many words of the second try the process is killed.
_WORDS_BEFORE_KILL = 6
_TITLE = "One question, one trace"
_NOTE = (
    "Its backend is overloaded at first; then the bot is killed in the middle of the answer, "
    "and started again."
)


class _Stage:
    """The backend, and what it has seen."""

    def __init__(self) -> None:
        self.second_try_at = 0.0
        self.is_midway = threading.Event()

    def overloaded(self, exchange: Exchange) -> None:
        exchange.send(head("Content-Length: 0", status="503 Service Unavailable", content_type=""))

    def interrupted(self, exchange: Exchange) -> None:
        self.second_try_at = time.time()
        exchange.send(head(CHUNKED))
        for word in _words()[:_WORDS_BEFORE_KILL]:
            _say(exchange, word)
        self.is_midway.set()
        exchange.wait_until_client_hangs_up()

    def whole(self, exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for word in _words():
            _say(exchange, word)
        exchange.send_chunk(END)
        exchange.end_chunks()


def _words() -> list[str]:
    return re.findall(r"\S+ ?", _ANSWER)


def _say(exchange: Exchange, word: str) -> None:
    threading.Event().wait(_WORD_SECONDS)
    exchange.send_chunk(delta(word))


def happen(directory: Path) -> str:
    """Let it happen, and return the picture."""
    stage = _Stage()
    scripts = (stage.overloaded, stage.interrupted, stage.whole)
    with (
        Collector() as collector,
        Workspace(limits=Limits.none(), latency=_SLACK_SECONDS) as workspace,
        ScriptedBackend(*scripts) as backend,
    ):
        place = (directory, workspace, backend.url, collector.url)
        with _Bot(*place) as first:
            workspace.wait_for_link()
            asked = ask(workspace, "How is tea made?")
            assert stage.is_midway.wait(DEADLINE)
            first.kill()
        with _Bot(*place) as second:
            wait_until_shown(workspace, asked, _ANSWER)
            collector.wait_for(lambda: len(collector.named("process inbox")) >= 2)
        return _picture(collector.spans, first, second, lost_since=stage.second_try_at)


class _Bot:
    """A daemon, and when it began and was killed, in seconds since 1970."""

    def __init__(self, directory: Path, workspace: Workspace, backend: str, collector: str) -> None:
        self.started = time.time()
        self.killed: float | None = None
        self._process = start(
            ["run"],
            directory,
            SLACK_BOT_TOKEN=workspace.bot_token,
            SLACK_APP_TOKEN=workspace.app_token,
            SLACK_API_URL=workspace.api_url,
            BACKEND_URL=backend,
            EDIT_SECONDS="0.3",
            HTTP_PORT="off",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector,
            OTEL_BSP_SCHEDULE_DELAY="50",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        ended(self._process)

    def kill(self) -> None:
        self.killed = time.time()
        self._process.kill()


def _picture(spans: Sequence[Span], first: _Bot, second: _Bot, *, lost_since: float) -> str:
    (trace_id,) = {span.trace_id for span in spans}
    by_instance: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.started):
        by_instance.setdefault(span.resource["service.instance.id"], []).append(span)
    before, after = by_instance.values()
    runs = [
        Run("first process", before, first.started, lost_since, first.killed),
        Run("second process", after, second.started),
    ]
    return draw(f"{_TITLE}: {trace_id}", _NOTE, runs)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        picture = happen(Path(directory))
    Path(sys.argv[1]).write_text(picture, encoding="utf-8")
