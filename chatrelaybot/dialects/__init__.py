"""The wire formats of backends, one file each: a question out, events or JSON in. Pure."""

from __future__ import annotations

from chatrelaybot.dialects.openai import OpenAI
from chatrelaybot.dialects.outcome import (
    Decoder,
    Delta,
    Dialect,
    Event,
    Failure,
    Finish,
    Outcome,
)
from chatrelaybot.dialects.relay import Relay
from chatrelaybot.errors import ConfigurationError

__all__ = [
    "Decoder",
    "Delta",
    "Dialect",
    "Event",
    "Failure",
    "Finish",
    "Outcome",
    "dialect",
]


def dialect(name: str, *, model: str, system_prompt: str, separator: str) -> Dialect:
    """Return the dialect of that name; each takes the values that it knows."""
    if name == "relay":
        return Relay(separator=separator)
    if name == "openai":
        return OpenAI(model=model, system_prompt=system_prompt)
    raise ConfigurationError("BACKEND_DIALECT", f"{name!r} is unknown", "use relay or openai")
