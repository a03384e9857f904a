"""Which dialect a backend seems to speak, whatever the bot was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chatrelaybot.dialects import Decoder, Dialect, Event, Finish, Outcome
from chatrelaybot.dialects.outcome import json_object
from chatrelaybot.events import Question

#: Keys that one dialect has, and no other.
_KEYS = {"choices": "openai", "text_chunk": "relay", "full_response": "relay"}
_EVENTS = {"message_part": "relay", "stream_end": "relay"}
_OPENAI_DONE = "[DONE]"


class WatchedDialect:
    """A dialect, and the signs of others in what the backend says. It keeps no text."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.signs: set[str] = set()  #: names of dialects
        self.event_count = 0

    @property
    def chat_model(self) -> str | None:
        return self._dialect.chat_model

    def body(self, question: Question) -> dict[str, object]:
        return self._dialect.body(question)

    def decoder(self) -> Decoder:
        return _WatchedDecoder(self, self._dialect.decoder())

    def note(self, signs: Iterable[str | None]) -> None:
        """Note the signs in a piece of the answer."""
        self.signs.update(sign for sign in signs if sign)


class _WatchedDecoder:
    def __init__(self, watch: WatchedDialect, decoder: Decoder) -> None:
        self._watch = watch
        self._decoder = decoder

    def decode_event(self, event: Event) -> Outcome | None:
        self._watch.event_count += 1
        self._watch.note(_signs(event))
        return self._decoder.decode_event(event)

    def decode_json(self, body: object) -> Iterable[Outcome]:
        if isinstance(body, Mapping):
            self._watch.note(_KEYS.get(key) for key in body)
        return self._decoder.decode_json(body)

    def end(self) -> Finish | None:
        return self._decoder.end()


def _signs(event: Event) -> list[str | None]:
    fields = json_object(event.data) or {}
    return [
        _EVENTS.get(event.event) or _EVENTS.get(str(fields.get("event"))),
        "openai" if event.data.strip() == _OPENAI_DONE else None,
        *(_KEYS.get(key) for key in fields),
    ]
