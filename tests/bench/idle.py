"""Row 12: what it costs while nobody asks."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench import contenders
from tests.bench.contenders import Contender
from tests.bench.figures import BOLT, LIMIT, NAIVE, US, Figure, Findings, Plan
from tests.bench.start import start_imports
from tests.bench.world import World

_ROW = 12
_CONTENDERS = (US, NAIVE, BOLT)
#: After the start; seconds.
_REST = 3.0
_QUICK_REST = 1.0
#: How long they are watched, all rounds together; seconds.
_WATCHED = 60.0
_QUICK_WATCHED = 2.0

_MEMORY, _CPU, _WAKE_UPS, _THREADS = "memory", "CPU of a core", "wake-ups", "threads"
_UNITS = {_MEMORY: "MiB", _CPU: "%", _WAKE_UPS: "/s", _THREADS: ""}
_BOUNDS = {_MEMORY: 75.0, _CPU: 0.3}

Samples = dict[tuple[str, str], list[float]]  # by what was measured, and of whom


def measure(plan: Plan) -> Findings:
    """Watch all at the same time, which costs them nothing: none of them does anything."""
    seconds = (_QUICK_WATCHED if plan.is_quick else _WATCHED) / plan.rounds
    samples: Samples = defaultdict(list)
    with World() as world, ExitStack() as running:
        idlers = {
            name: running.enter_context(contenders.start(name, world, workers=100))
            for name in _CONTENDERS
        }
        _wait(_QUICK_REST if plan.is_quick else _REST)
        for _ in range(plan.rounds):
            _watch(idlers, seconds, samples)
            samples[_MEMORY, LIMIT].append(_memory_of_imports())
    return Findings(
        figures=[*_figures(samples)],
        notes=["row 12: memory is resident; the limit is that of the packages after their import."],
    )


def _watch(idlers: dict[str, Contender], seconds: float, samples: Samples) -> None:
    before = {name: _spent(idler.pid) for name, idler in idlers.items()}
    started = time.monotonic()
    _wait(seconds)
    for name, idler in idlers.items():
        cpu, wake_ups = _spent(idler.pid)
        elapsed = time.monotonic() - started
        usage = idler.usage()
        samples[_CPU, name].append((cpu - before[name][0]) / elapsed * 100.0)
        samples[_WAKE_UPS, name].append((wake_ups - before[name][1]) / elapsed)
        samples[_MEMORY, name].append(usage.rss / 2**20)
        samples[_THREADS, name].append(float(usage.threads))


def _spent(pid: int) -> tuple[float, int]:
    """Return CPU seconds and wake-ups so far, of the threads that there are.

    The kernel counts the former in nanoseconds here (/proc/PID/stat: in hundredths of a second),
    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    cpu, wake_ups = 0.0, 0
    for task in Path("/proc", str(pid), "task").iterdir():
        cpu += int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        status = (task / "status").read_text(encoding="utf-8")
        wake_ups += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return cpu, wake_ups


def _memory_of_imports() -> float:
    with start_imports() as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = contenders.usage_of(process.pid).rss / 2**20
        process.communicate()
    return memory


def _figures(samples: Samples) -> Iterator[Figure]:
    for (what, contender), values in samples.items():
        bound = _BOUNDS.get(what) if contender == US else None
        yield Figure(_ROW, what, contender, _UNITS[what], tuple(values), bound=bound)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
