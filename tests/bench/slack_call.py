"""Row 6: what one `chat.update` costs, over TLS and with a round trip of 20 ms.

Slack, and the way to it, are in processes of their own, and so is each caller: the CPU time is the
caller's alone. As a program this is one caller: `python -m tests.bench.slack_call us COUNT`.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from slack_sdk import WebClient

from chatrelaybot.render import Message, message
from chatrelaybot.slack import Slack
from tests.bench.figures import LIMIT, NAIVE, US, Figure, Findings, Plan
from tests.bench.world import World
from tests.bench.world.remote import ROOT
from tests.forwarder import CERTIFICATE
from tests.program import environment

Call = Callable[[], object]

_ROW = 6
#: L, and bytes there and back; seconds.
_LATENCY = 0.08
_ROUND_TRIP = 0.02
#: A bare requests session: not the limit, but the least that a client of Slack's would use.
_SESSION = "session"
_CALLERS = (US, NAIVE, LIMIT, _SESSION)
_CALLS = 20
_QUICK_CALLS = 3
_CHARACTERS = 2_000
_CHANNEL = "C0BENCH01"
#: What tells our clients, and urllib's, which CAs to trust.
_TRUST = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
#: Longest life of a caller; seconds.
_DEADLINE = 60.0

_WALL_BOUND = 1.1
_CPU_BOUND = 10.0


def measure(plan: Plan) -> Findings:
    """Let each caller call in turn, `plan.rounds` times over."""
    count = _QUICK_CALLS if plan.is_quick else _CALLS
    walls: dict[str, list[float]] = {caller: [] for caller in _CALLERS}
    cpus: dict[str, list[float]] = {caller: [] for caller in _CALLERS}
    with _trusted() as bundle, World(latency=_LATENCY, round_trip=_ROUND_TRIP) as world:
        variables = world.environment | dict.fromkeys(_TRUST, bundle)
        for _ in range(plan.rounds):
            for caller in _CALLERS:
                wall, cpu = _called(caller, count, variables)
                walls[caller].append(wall / (_ROUND_TRIP + _LATENCY))
                cpus[caller].append(cpu * 1000.0)
    note = (
        f"row 6: L is {_LATENCY * 1000:.0f} ms and a round trip {_ROUND_TRIP * 1000:.0f} ms; "
        "naive is a WebClient as it comes, and Bolt calls with the same one; the limit is "
        "http.client with one connection kept open."
    )
    return Findings(figures=[*_wall_figures(walls), *_cpu_figures(cpus)], notes=[note])


def _wall_figures(walls: dict[str, list[float]]) -> Iterator[Figure]:
    what = "a call, in round trips + L"
    yield Figure(_ROW, what, US, "×", tuple(walls[US]), bound=_WALL_BOUND)
    yield Figure(_ROW, what, NAIVE, "×", tuple(walls[NAIVE]))
    yield Figure(_ROW, what, LIMIT, "×", tuple(walls[LIMIT]))


def _cpu_figures(cpus: dict[str, list[float]]) -> Iterator[Figure]:
    for caller in (US, NAIVE, LIMIT):
        yield Figure(_ROW, "CPU of a call", caller, "ms", tuple(cpus[caller]))
    what = "CPU of a call, bare requests session"
    yield Figure(_ROW, what, LIMIT, "ms", tuple(cpus[_SESSION]))
    ratios = tuple(theirs / ours for theirs, ours in zip(cpus[NAIVE], cpus[US], strict=True))
    yield Figure(_ROW, "CPU of naive / ours", US, "×", ratios, bound=_CPU_BOUND, is_floor=True)


@contextmanager
def _trusted() -> Iterator[str]:
    """Make a CA bundle as large as a real one that trusts our certificate, too.

    Reading the bundle is most of what a client costs that makes a TLS context for every call.
    """
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory, "bundle.pem")
        bundle.write_bytes(Path(DEFAULT_CA_BUNDLE_PATH).read_bytes() + CERTIFICATE.read_bytes())
        yield str(bundle)


def _called(caller: str, count: int, variables: Mapping[str, str]) -> tuple[float, float]:
    """Run a caller; return wall and CPU seconds of one call."""
    done = subprocess.run(  # noqa: S603 our own program
        [sys.executable, "-m", "tests.bench.slack_call", caller, str(count)],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        check=True,
        timeout=_DEADLINE,
    )
    wall, cpu = json.loads(done.stdout)
    return wall, cpu


def _our_call(url: str, token: str, ts: str, shown: Message) -> Call:
    slack = Slack(bot_token=token, api_url=url, pool_size=100)
    return lambda: slack.update(_CHANNEL, ts, shown)


def _naive_call(url: str, token: str, ts: str, shown: Message) -> Call:
    client = WebClient(token, base_url=url)
    return lambda: client.chat_update(**_payload(ts, shown))


def _session_call(url: str, token: str, ts: str, shown: Message) -> Call:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return lambda: session.post(f"{url}chat.update", json=_payload(ts, shown)).json()


def _least_call(url: str, token: str, ts: str, shown: Message) -> Call:
    host = url.split("/")[2]
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context())
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call() -> object:
        connection.request("POST", "/api/chat.update", json.dumps(_payload(ts, shown)), headers)
        return json.loads(connection.getresponse().read())

    return call


def _payload(ts: str, shown: Message) -> dict[str, Any]:
    """Return what `Slack.update` sends."""
    return {
        "channel": _CHANNEL,
        "ts": ts,
        "text": shown.text,
        "blocks": [{"type": "markdown", "text": shown.markdown}],
        "parse": "none",
    }


_MAKERS = {US: _our_call, NAIVE: _naive_call, LIMIT: _least_call, _SESSION: _session_call}


def _be_a_caller(caller: str, count: str) -> None:
    """Call one time for the connection's sake, then measure; print wall and CPU seconds."""
    url, token = os.environ["SLACK_API_URL"], os.environ["SLACK_BOT_TOKEN"]
    shown = message(("A line of an answer, *as it may be*.\n" * 100)[:_CHARACTERS])
    posted = WebClient(token, base_url=url).chat_postMessage(channel=_CHANNEL, text="…")
    call = _MAKERS[caller](url, token, str(posted["ts"]), shown)
    call()
    walls = []
    cpu = time.process_time()
    for _ in range(int(count)):
        start = time.perf_counter()
        call()
        walls.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / len(walls)
    sys.stdout.write(json.dumps([statistics.median(walls), cpu]))


if __name__ == "__main__":
    _be_a_caller(*sys.argv[1:])
