"""A backend whose answer depends on the question."""

from __future__ import annotations

import json
import threading
from types import TracebackType

from tests.scripted_backend import (
    CHUNKED,
    DEADLINE,
    END,
    ClientGone,
    Exchange,
    Request,
    Script,
    ScriptedBackend,
    event,
    head,
)


def query(request: Request) -> str:
    text = json.loads(request.body)["query"]
    assert isinstance(text, str)
    return text


def delta(text: str) -> bytes:
    return event("message_part", json.dumps({"text_chunk": text}))


def streaming(*texts: str) -> Script:
    """Answer with these parts, as fast as they go."""

    def script(exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for text in texts:
            exchange.send_chunk(delta(text))
        exchange.send_chunk(END)
        exchange.end_chunks()

    return script


class Gated:
    """An answer whose parts a test lets go one by one."""

    def __init__(self, *texts: str) -> None:
        self._texts = texts
        #: Guards the number of parts that may go, and whether none will any more.
        self._changed = threading.Condition()
        self._is_abandoned = False
        self._allowed = 0

    def let_go(self, count: int = 1) -> None:
        with self._changed:
            self._allowed += count
            self._changed.notify_all()

    def let_all_go(self) -> None:
        """Let go of all parts and of the end."""
        self.let_go(len(self._texts) + 1)

    def abandon(self) -> None:
        """Let whoever waits for a part hang up in its place."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def __call__(self, exchange: Exchange) -> None:
        exchange.send(head(CHUNKED))
        for number, piece in enumerate([*map(delta, self._texts), END], start=1):
            self._wait_for(number)
            exchange.send_chunk(piece)
        exchange.end_chunks()

    def _wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: self._is_abandoned or self._allowed >= number, DEADLINE
            )
            if self._is_abandoned:
                raise ClientGone


class AnsweringBackend(ScriptedBackend):
    """Answers as told by `answer`, and with an echo where nothing was told."""

    def __init__(self) -> None:
        super().__init__(self._choose)
        self._answers: dict[str, Script] = {}
        self._gated: list[Gated] = []
        self._fallback: Script = _echo

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for gated in self._gated:
            gated.abandon()
        super().__exit__(kind, error, trace)

    def answer(self, question: str, script: Script) -> None:
        self._answers[question] = script
        if isinstance(script, Gated):
            self._gated.append(script)

    def fall_back(self, script: Script) -> None:
        """Answer so where nothing was told."""
        self._fallback = script

    @property
    def queries(self) -> list[str]:
        return [query(request) for request in self.requests]

    def _choose(self, exchange: Exchange) -> None:
        self._answers.get(query(exchange.request), self._fallback)(exchange)


def _echo(exchange: Exchange) -> None:
    streaming(f"You asked: {query(exchange.request)}")(exchange)
