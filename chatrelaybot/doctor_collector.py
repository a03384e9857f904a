"""The doctor's look for what shall receive traces, metrics and logs by OTLP."""

from __future__ import annotations

import http
import os
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import requests

from chatrelaybot import telemetry_environment as environment
from chatrelaybot.backend_reach import NotTrusted, place, reach, trouble
from chatrelaybot.doctor_findings import Finding, Verdict, failed, ok, skipped, warning, wrong
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.telemetry import Telemetry
from chatrelaybot.telemetry_environment import GRPC, SIGNALS, Signal

COLLECTOR = "collector"

#: Longest wait for each step; seconds.
_TIMEOUT = 3.0
_START = "start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT; the bot runs without"
#: The schemes of the variables that gRPC reads: https_proxy and so on.
_PROXIES = frozenset(("grpc", "https", "http"))
#: With it the SDK reads no metrics by itself, and sends no last ones either: the end of them
#: would take as long as a collector that is away.
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_TRUST = "name the file of its authority's certificate in OTEL_EXPORTER_OTLP_CERTIFICATE"


def collector(short: str, variables: Mapping[str, str]) -> Finding:
    """Knock where each signal goes; `short` is OTEL_EXPORTER, `variables` the environment."""
    finding = skipped(COLLECTOR, "nothing is exported by OTLP (OTEL_EXPORTER)")
    try:
        wanted = environment.exports(short, variables)
        _set_up(short, variables)
        for signal in SIGNALS:
            if "otlp" in wanted.of(signal):
                finding = _knock(signal, variables)
            if finding.verdict not in (Verdict.OK, Verdict.SKIPPED):
                break  # What is in the way of one is in the way of all, most often.
    except ConfigurationError as error:
        return wrong(COLLECTOR, error)
    return finding


def _set_up(short: str, variables: Mapping[str, str]) -> None:
    """Set everything up as the daemon does, which refuses what it cannot use, and end it."""
    ours = {name: value for name, value in variables.items() if name.startswith("OTEL_")}
    interval = os.environ.get(_INTERVAL)
    os.environ[_INTERVAL] = "inf"
    try:
        telemetry = Telemetry(exporter=short, variables=ours, instance="doctor", has_scrapes=False)
    finally:
        if interval is None:
            del os.environ[_INTERVAL]
        else:
            os.environ[_INTERVAL] = interval
    telemetry.mute()
    for close in telemetry.closers:
        close()  # Nothing was told, so that there is nothing to wait for.


def _knock(signal: Signal, variables: Mapping[str, str]) -> Finding:
    url = environment.endpoint(signal, variables)
    parts = _split(url if "://" in url else f"http://{url}")
    if parts is None:
        return failed(COLLECTOR, f"the endpoint for {signal} is no http or https URL", _START)
    where = place(parts.geturl())
    try:
        if environment.protocol(signal, variables) == GRPC:
            return _connected(signal, where, parts, variables)
        return _answered(signal, where, _export_nothing(signal, parts, variables))
    except NotTrusted as error:
        return failed(COLLECTOR, f"{where}: {error}", _TRUST)
    except TransientError as error:
        return failed(COLLECTOR, f"{where}: {error}", _START)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_good else None


def _connected(
    signal: Signal, where: str, parts: SplitResult, variables: Mapping[str, str]
) -> Finding:
    """Open a connection, which says as much about gRPC as can be said without it."""
    if _PROXIES.intersection(getproxies_environment()) and not proxy_bypass(parts.hostname or ""):
        return skipped(COLLECTOR, f"{where} may be behind a proxy, and gRPC is not spoken here")
    certificate = _of(signal, "CERTIFICATE", variables)
    seconds = reach(parts.geturl(), timeout=_TIMEOUT, ca_bundle=certificate)
    return ok(COLLECTOR, f"{where} is there, in {seconds:.2f} s")


def _export_nothing(signal: Signal, parts: SplitResult, variables: Mapping[str, str]) -> int:
    """Send an export of nothing, which is an empty message of protobuf; return the status.

    It goes the way of the exporter: by requests, with its proxies, and the same certificates.
    """
    if not variables.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip():
        parts = parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}")
    certificate, key = (
        _of(signal, name, variables) for name in ("CLIENT_CERTIFICATE", "CLIENT_KEY")
    )
    with requests.Session() as session:
        session.verify = _of(signal, "CERTIFICATE", variables) or True
        session.cert = (certificate, key) if certificate and key else certificate
        try:
            return session.post(
                parts.geturl(),
                data=b"",
                headers={"Content-Type": "application/x-protobuf"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ).status_code
        except (OSError, ValueError) as error:  # The former of a bundle that has vanished.
            raise _trouble(error) from error


def _trouble(error: Exception) -> TransientError:
    """Return what is at the bottom of an error of requests, whose words show the URL."""
    bottom: BaseException = error
    while below := bottom.__cause__ or bottom.__context__:
        bottom = below
    if isinstance(bottom, OSError) and not isinstance(bottom, requests.RequestException):
        return trouble(bottom)
    return TransientError(f"no answer ({type(bottom).__name__})")


def _of(signal: Signal, name: str, variables: Mapping[str, str]) -> str | None:
    """Return the variable of a signal, else the one for all."""
    own = variables.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
    return own or variables.get(f"OTEL_EXPORTER_OTLP_{name}") or None


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
