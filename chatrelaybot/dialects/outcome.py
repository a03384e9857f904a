"""The words between a backend's wire format and the rest of the program. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chatrelaybot.errors import FailureKind, PermanentError
from chatrelaybot.events import Question

#: What is at the bottom of json.loads: this runs for each piece of text.
_decode = json.JSONDecoder().raw_decode
_JSON_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that the answer grows by; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is whole."""

    #: The backend itself stopped at a limit of its own on the length.
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """The backend says that it failed."""

    #: The backend's own words. They may repeat the question: never for Slack, nor for an error.
    words: str


Outcome = Delta | Finish | Failure


class Event(NamedTuple):
    """A server-sent event as WHATWG dispatches it; `event` is "message" where it has no name.

    A tuple is made in half the time of a frozen dataclass, and this is one for each piece of text.
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    event: str
    data: str
    id: str


class Decoder(Protocol):
    """Makes sense of one answer; it remembers what came before."""

    def decode_event(self, event: Event) -> Outcome | None:
        """Return what an event says, None where it is to be passed over.

        Raises:
            PermanentError: The event is not what the dialect promises.
        """
        ...

    def decode_json(self, body: object) -> Iterable[Outcome]:
        """Return what an answer in one piece says. Raises as `decode_event` does."""
        ...

    def end(self) -> Finish | None:
        """Return the finish if the answer is whole though its body ended without saying so."""
        ...


class Dialect(Protocol):
    """How a kind of backend is asked, and how it answers."""

    @property
    def chat_model(self) -> str | None:
        """The language model that is asked; None: the backend is something else."""
        ...

    def body(self, question: Question) -> dict[str, object]:
        """Return the request's body, to be sent as JSON."""
        ...

    def decoder(self) -> Decoder:
        """Return what decodes one answer."""
        ...


def garbled() -> PermanentError:
    """Say that the answer breaks the dialect, and nothing of its words."""
    return PermanentError(
        "The backend's answer is not what its dialect promises", kind=FailureKind.GARBLED
    )


def json_object(data: str) -> dict[str, Any] | None:
    """Return the JSON object in `data`, None where there is something else."""
    try:
        data = data.strip(_JSON_SPACE)
        value, end = _decode(data)
    except (ValueError, RecursionError):
        # RecursionError: a few thousand opening brackets are enough.
        return None
    return value if isinstance(value, dict) and end == len(data) else None
