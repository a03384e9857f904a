"""Row 11: from the start of the process to the link's being up, against the imports alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.bench import contenders
from tests.bench.figures import BOLT, LIMIT, NAIVE, US, Figure, Findings, Plan
from tests.bench.world import World
from tests.bench.world.remote import ROOT
from tests.program import environment

_ROW = 11
#: L; seconds.
_LATENCY = 0.08
#: What `chatrelaybot run` imports of other packages (see `python -X importtime`).
PACKAGES = (
    "slack_sdk",
    "slack_sdk.socket_mode.websocket_client",
    "websocket",
    "requests",
    "sseclient",
    "pydantic_settings",
    "sqlalchemy",
    "sqlalchemy.dialects.sqlite",
)
#: What it must not import while telemetry and the health server are off and nobody plays.
_OFF = (
    "aiohttp",
    "chatrelaybot.playground",
    "grpc",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "waitress",
)
#: Longest time that the imports may take; seconds.
_DEADLINE = 30.0

_SECONDS_BOUND = 1.0
_RATIO_BOUND = 1.3
_NEW, _EXISTING = "new inbox", "old inbox"
_IMPORTS = "imports"

Samples = dict[tuple[str, str], list[float]]  # by what was measured, and of whom


def measure(plan: Plan) -> Findings:
    """Start everybody in turn, `plan.rounds` times over."""
    samples: Samples = defaultdict(list)
    with World(latency=0.0) as world:
        for _ in range(plan.rounds):
            _start_ours(world, samples)
            _start_all(world, samples)
        off_count = len(_off_modules(world))
    figures = [*_ratios(samples), *_seconds(samples)]
    figures.append(Figure(_ROW, "imports of what is off", US, "", (float(off_count),), bound=0.0))
    note = (
        "row 11: from exec on; the limit is a process that only imports what we use of other "
        f"packages. L is {_LATENCY * 1000:.0f} ms; our start makes two calls."
    )
    return Findings(figures=figures, notes=[note])


def start_imports() -> subprocess.Popen[bytes]:
    """Start a process that imports the packages, says so, and waits for the end of its input."""
    code = f"import {', '.join(PACKAGES)}, sys; print(1, flush=True); sys.stdin.read()"
    return subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _import() -> float:
    started = time.monotonic()
    with start_imports() as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.monotonic() - started
        process.communicate(timeout=_DEADLINE)
    return seconds


def _start_ours(world: World, samples: Samples) -> None:
    """Start ours twice with the same inbox, where calls take no time; import between the two."""
    world.change(latency=0.0)
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory, 'inbox.sqlite3')}"
        samples[_NEW, US].append(_start(US, world, DATABASE_URL=url))
        samples[_IMPORTS, LIMIT].append(_import())
        samples[_EXISTING, US].append(_start(US, world, DATABASE_URL=url))


def _start_all(world: World, samples: Samples) -> None:
    world.change(latency=_LATENCY)
    for contender in (US, NAIVE, BOLT):
        samples["", contender].append(_start(contender, world))


def _start(name: str, world: World, **settings: str) -> float:
    """Return the seconds from the start of a process to its link's being up."""
    with contenders.start(name, world, workers=100, **settings) as contender:
        return contender.link_up - contender.started


def _seconds(samples: Samples) -> Iterator[Figure]:
    what = "link up"
    for contender in (US, NAIVE, BOLT):
        bound = _SECONDS_BOUND if contender == US else None
        yield Figure(_ROW, what, contender, "s", tuple(samples["", contender]), bound=bound)


def _ratios(samples: Samples) -> Iterator[Figure]:
    imports = samples[_IMPORTS, LIMIT]
    for inbox in (_NEW, _EXISTING):
        ours = samples[inbox, US]
        what = f"link up, no L, {inbox}"
        yield Figure(_ROW, what, US, "s", tuple(ours))
        yield Figure(_ROW, what, LIMIT, "s", tuple(imports))
        ratios = tuple(our / least for our, least in zip(ours, imports, strict=True))
        yield Figure(_ROW, f"link up, {inbox} / imports", US, "×", ratios, bound=_RATIO_BOUND)


def _off_modules(world: World) -> list[str]:
    """Return what a start imports of what is off."""
    with contenders.start(US, world, workers=100, PYTHONPROFILEIMPORTTIME="1") as contender:
        # import time: self [us] | cumulative | imported package
        lines = contender.log().splitlines()
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    if "chatrelaybot.daemon" not in names:
        raise RuntimeError("the imports were not seen")
    return [name for name in names if name.startswith(_OFF)]
