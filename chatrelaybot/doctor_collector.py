"""The doctor's look for what shall receive traces, metrics and logs by OTLP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

from chatrelaybot import telemetry_environment as environment
from chatrelaybot.backend_reach import place, reach
from chatrelaybot.doctor_findings import Finding, Verdict, failed, ok, skipped, warning, wrong
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.telemetry_environment import GRPC, SIGNALS, Signal

COLLECTOR = "collector"

#: Longest wait for each step; seconds.
_TIMEOUT = 3.0
_START = "start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT; the bot runs without"


def collector(short: str, variables: Mapping[str, str]) -> Finding:
    """Knock where each signal goes; `short` is OTEL_EXPORTER, `variables` the environment."""
    finding = skipped(COLLECTOR, "nothing is exported by OTLP (OTEL_EXPORTER)")
    try:
        wanted = environment.exports(short, variables)
        for signal in SIGNALS:
            if "otlp" in wanted.of(signal):
                finding = _knock(signal, variables)
            if finding.verdict not in (Verdict.OK, Verdict.SKIPPED):
                break  # What is in the way of one is in the way of all, most often.
    except ConfigurationError as error:
        return wrong(COLLECTOR, error)
    return finding


def _knock(signal: Signal, variables: Mapping[str, str]) -> Finding:
    is_grpc = environment.protocol(signal, variables) == GRPC
    url = environment.endpoint(signal, variables)
    parts = _split(url if "://" in url else f"http://{url}")
    if parts is None:
        return failed(COLLECTOR, f"the endpoint for {signal} is no http or https URL", _START)
    where = place(parts.geturl())
    try:
        seconds = reach(parts.geturl(), timeout=_TIMEOUT)
    except TransientError as error:
        return failed(COLLECTOR, f"{where}: {error}", _START)
    if is_grpc:
        return ok(COLLECTOR, f"{where} is there, in {seconds:.2f} s")
    if not variables.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip():
        parts = parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}")
    try:
        return _answered(signal, where, _export_nothing(parts))
    except (OSError, http.client.HTTPException) as error:
        return failed(COLLECTOR, f"{where}: no answer ({type(error).__name__})", _START)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_good else None


def _export_nothing(parts: SplitResult) -> int:
    """Send an export of nothing, which is an empty message of protobuf; return the status."""
    with closing(_connection(parts)) as connection:
        connection.request(
            "POST", parts.path or "/", b"", {"Content-Type": "application/x-protobuf"}
        )
        return connection.getresponse().status


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    trust = ssl.create_default_context()
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=trust)


def _answered(signal: Signal, where: str, status: int) -> Finding:
    if status < http.HTTPStatus.BAD_REQUEST:
        return ok(COLLECTOR, f"{where} takes what is sent to it by OTLP")
    if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        mend = "see whether OTEL_EXPORTER_OTLP_HEADERS grants it: the doctor does not send them"
        return warning(COLLECTOR, f"{where} wants to be shown who we are ({status})", mend)
    return failed(
        COLLECTOR,
        f"{where} takes no {signal} by OTLP over HTTP ({status})",
        "correct OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_PROTOCOL, or send none there: "
        f"OTEL_{signal.upper()}_EXPORTER=none",
    )
