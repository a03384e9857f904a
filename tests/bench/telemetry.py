"""Row 14: what traces, metrics and logs over OTLP cost, and what it costs that somebody scrapes.

The collector is a thread of the bench; the CPU time is the bot's alone. It is watched until all
spans are sent, and metrics are sent every five seconds in place of every minute.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.bench import contenders
from tests.bench.figures import US, Figure, Findings, Plan
from tests.bench.world import Script, World

_ROW = 14
_LATENCY = 0.08
#: Answers at once, and how often one after the other.
_ANSWERS, _QUICK_ANSWERS = 100, 20
_CROWDS = 3
_SCRIPT = Script(parts=100, parts_per_second=33.0, part_chars=20)
_PATIENCE = 90.0
#: How often spans and metrics are sent, and within what they surely are; seconds.
_SEND_EVERY, _QUICK_SEND_EVERY = 5.0, 0.5
_SEND_SLACK = 1.0
_BOUND = 1.15

_NONE, _SCRAPED, _OTLP = "none", "scraped", "otlp"
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    _NONE: {},
    _SCRAPED: {"HTTP_PORT": "0"},
    _OTLP: {"OTEL_EXPORTER": "otlp"},
}


def measure(plan: Plan) -> Findings:
    """Measure row 14: each of the three in turn, once a round."""
    findings = Findings()
    count = _QUICK_ANSWERS if plan.is_quick else _ANSWERS
    every = _QUICK_SEND_EVERY if plan.is_quick else _SEND_EVERY
    costs: dict[str, list[float]] = defaultdict(list)
    for number in range(plan.rounds):
        sys.stderr.write(f"  round {number + 1}\n")
        for mode in _SETTINGS:
            costs[mode].append(_run(mode, count, every, findings))
    for mode, cpu in costs.items():
        each = tuple(1000.0 * seconds / count for seconds in cpu)
        findings.figures.append(Figure(_ROW, f"CPU an answer, {mode}", US, "ms", each))
    for mode in (_SCRAPED, _OTLP):
        ratios = tuple(own / none for own, none in zip(costs[mode], costs[_NONE], strict=True))
        words = f"CPU an answer, {mode} / none"
        findings.figures.append(Figure(_ROW, words, US, "×", ratios, bound=_BOUND))
    return findings


def _run(mode: str, count: int, every: float, findings: Findings) -> float:
    """Return the CPU seconds of a crowd of so many answers."""
    with World(latency=_LATENCY) as world, _collector() as (endpoint, bodies):
        settings = {**_SETTINGS[mode], **_sending(endpoint, every)}
        with contenders.start(US, world, workers=count, **settings) as process:
            # What the first crowd brings along, threads and connections, is no answer's share.
            world.wait_until_answered(world.ask(count, script=_SCRIPT), _PATIENCE)
            time.sleep(every + _SEND_SLACK)
            before, sent_before = process.usage(), len(bodies)
            for _ in range(_CROWDS):
                asked = world.ask(count, script=_SCRIPT)
                world.wait_until_answered(asked, _PATIENCE)
                findings.flaws += [f"{mode}: {flaw}" for flaw in world.flaws(asked)]
            time.sleep(every + _SEND_SLACK)
            cpu_seconds = process.usage().cpu_seconds - before.cpu_seconds
            sent = len(bodies) - sent_before
        if bool(sent) is not (mode == _OTLP):
            findings.flaws.append(f"{mode}: {sent} requests to the collector")
    return cpu_seconds / _CROWDS


def _sending(endpoint: str, every: float) -> dict[str, str]:
    milliseconds = str(round(every * 1000.0))
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": milliseconds,
        "OTEL_METRIC_EXPORT_INTERVAL": milliseconds,
    }


@contextmanager
def _collector() -> Iterator[tuple[str, list[int]]]:
    """A collector that takes everything, and notes the size of it."""
    sizes: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self.rfile.read(length)
            sizes.append(length)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sizes
        finally:
            server.shutdown()
            thread.join()
