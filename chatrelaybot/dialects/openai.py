"""The dialect `openai`: chat completions, as many servers of language models speak it.

https://platform.openai.com/docs/api-reference/chat/create, and as vLLM, Ollama, LiteLLM and
llama.cpp read it. Their thoughts (`reasoning_content`, `reasoning`) are no part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chatrelaybot.dialects.outcome import (
    Delta,
    Event,
    Failure,
    Finish,
    Outcome,
    garbled,
    json_object,
)
from chatrelaybot.events import Question

_DONE = "[DONE]"


class OpenAI:
    """The dialect with no state of its own."""

    def __init__(self, *, model: str, system_prompt: str) -> None:
        """`system_prompt` goes before each question; empty: nothing does."""
        self._model = model
        self._system_prompt = system_prompt

    @property
    def chat_model(self) -> str:
        return self._model

    def body(self, question: Question) -> dict[str, object]:
        messages = [{"role": "user", "content": question.text}]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        return {"model": self._model, "stream": True, "messages": messages}

    def decoder(self) -> OpenAIDecoder:
        return OpenAIDecoder()


class OpenAIDecoder:
    """One answer in the dialect."""

    def __init__(self) -> None:
        self._finish_reason = ""

    def decode_event(self, event: Event) -> Outcome | None:
        data = event.data.strip()
        if not data:
            return None
        if data == _DONE:
            return self._finish()
        fields = json_object(data)
        if fields is None:
            raise garbled()
        return _failure(fields) or self._delta(fields, "delta")

    def decode_json(self, body: object) -> Iterable[Outcome]:
        if not isinstance(body, dict):
            raise garbled()
        if failure := _failure(body):
            return (failure,)
        if not body.get("choices"):
            raise garbled()
        delta = self._delta(body, "message")
        return (delta, self._finish()) if delta else (self._finish(),)

    def end(self) -> Finish | None:
        # Some proxies never send [DONE], and llama.cpp has sent it without the blank line
        # that makes it an event.
        return self._finish() if self._finish_reason else None

    def _finish(self) -> Finish:
        return Finish(is_truncated=self._finish_reason == "length")

    def _delta(self, fields: Mapping[str, Any], key: str) -> Delta | None:
        """Return the text of the first choice; a chunk of token counts has no choice at all."""
        choices = fields.get("choices") or [{}]
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, dict):
            raise garbled()
        message = choice.get(key) or {}
        if not isinstance(message, dict):
            raise garbled()
        # Ollama has sent "" for "not finished": https://github.com/ollama/ollama/issues/4357
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)
        # A refusal stands where the answer would, in a field of its own.
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            raise garbled()
        return Delta(text) if text else None


def _failure(fields: Mapping[str, Any]) -> Failure | None:
    """Return the failure that a chunk or a body speaks of.

    vLLM has sent the error's own fields, marked "object": "error", in place of an `error` key.
    """
    error = fields.get("error")
    if not error and fields.get("object") != "error":
        return None
    words = error if error else fields
    if isinstance(words, dict):
        words = words.get("message")
    return Failure(words if isinstance(words, str) else "")
