"""What the operator asks for: the variables that every program with OpenTelemetry knows.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from chatrelaybot.errors import ConfigurationError

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
GRPC = "grpc"
HTTP = "http/protobuf"

_EXPORTERS = ("otlp", "console")
#: Known to other programs, and served here at /metrics anyway.
_PROMETHEUS = "prometheus"
_ENDPOINTS = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}


@dataclass(frozen=True, slots=True)
class Exports:
    """Where each signal goes: "otlp", "console", both, or nowhere."""

    traces: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()
    logs: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.traces or self.metrics or self.logs)

    def of(self, signal: Signal) -> frozenset[str]:
        """Return where the signal goes."""
        return {"traces": self.traces, "metrics": self.metrics, "logs": self.logs}[signal]


def exports(short: str, environment: Mapping[str, str]) -> Exports:
    """Return what is asked for; `short`, OTEL_EXPORTER, stands for all that is not set by name.

    Raises:
        ConfigurationError: It is not to be had here.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Exports()
    return Exports(*(_wanted(signal, short, environment) for signal in SIGNALS))


def protocol(signal: Signal, environment: Mapping[str, str]) -> str:
    """Return how a signal is sent.

    Raises:
        ConfigurationError: In a way that this program does not know.
    """
    name, value = _set(
        environment,
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    if value not in ("", GRPC, HTTP):
        raise ConfigurationError(name, f"{value[:20]!r} is not supported", f"use {HTTP} or {GRPC}")
    return value or HTTP


def endpoint(signal: Signal, environment: Mapping[str, str]) -> str:
    """Return the address of the collector; for a signal that has its own, with the path."""
    _, value = _set(
        environment,
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    return value or _ENDPOINTS[protocol(signal, environment)]


def _wanted(signal: Signal, short: str, environment: Mapping[str, str]) -> frozenset[str]:
    name, value = _set(environment, f"OTEL_{signal.upper()}_EXPORTER")
    wanted = {word.strip().lower() for word in (value or short).split(",")} - {"", "none"}
    if signal == "metrics":
        wanted.discard(_PROMETHEUS)
    for word in sorted(wanted.difference(_EXPORTERS)):
        raise ConfigurationError(
            name, f"{word[:20]!r} is not supported", f"use {', '.join(_EXPORTERS)} or none"
        )
    return frozenset(wanted)


def _set(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first of the variables that is set, with its value."""
    for name in names:
        if value := environment.get(name, "").strip():
            return name, value
    return names[0], ""
