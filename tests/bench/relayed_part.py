"""Row 7: what one part of an answer costs on its way from the socket to the editor.

The backend is a process of its own, and so is each reader: the CPU time is the reader's alone. As
a program this is one reader: `python -m tests.bench.relayed_part us URL PARTS SECONDS`.
"""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import requests
from sseclient import SSEClient

from chatrelaybot.backend import Backend
from chatrelaybot.delivery import Delivery, Lease
from chatrelaybot.dialects import dialect
from chatrelaybot.draft import Draft
from chatrelaybot.events import Question
from chatrelaybot.render import message
from chatrelaybot.telemetry_spans import NO_SPAN
from tests.bench.figures import LIMIT, NAIVE, US, Figure, Findings, Plan
from tests.bench.steady_stream import PARTS_PER_SECOND, steady_stream
from tests.bench.world.remote import ROOT
from tests.program import environment

_ROW = 7
_READERS = (US, NAIVE, LIMIT)
_ANSWERS = 100
#: How long the parts are watched; seconds.
_SECONDS = 5.0
_QUICK_SECONDS = 1.0
#: How long an answer lasts beyond that: its first parts pay for the connection; seconds.
_SPARE_SECONDS = 1.0
#: Longest life of a reader; seconds.
_DEADLINE = 60.0

_LIMIT_BOUND = 1.5
_NAIVE_BOUND = 1.0


def measure(plan: Plan) -> Findings:
    """Let each reader read in turn, `plan.rounds` times over."""
    seconds = _QUICK_SECONDS if plan.is_quick else _SECONDS
    parts = int((seconds + _SPARE_SECONDS) * PARTS_PER_SECOND)
    cpus: dict[str, list[float]] = {reader: [] for reader in _READERS}
    findings = Findings()
    for _ in range(plan.rounds):
        for reader in _READERS:
            cpu, received = _read(reader, parts, seconds)
            cpus[reader].append(cpu * 1e6)
            if reader == US and received != parts * _ANSWERS:
                findings.flaws.append(f"row 7: {received} of {parts * _ANSWERS} parts arrived")
    findings.figures += [
        Figure(_ROW, "CPU of a part", reader, "µs", tuple(cpus[reader])) for reader in _READERS
    ]
    findings.figures += [
        _ratio("CPU of ours / limit", cpus[US], cpus[LIMIT], _LIMIT_BOUND),
        _ratio("CPU of ours / naive", cpus[US], cpus[NAIVE], _NAIVE_BOUND),
    ]
    findings.notes.append(
        f"row 7: {_ANSWERS} answers at {PARTS_PER_SECOND} parts/s each, a thread an answer; "
        "nothing is rendered. The limit cuts what requests reads at blank lines, and no more."
    )
    return findings


def _ratio(what: str, ours: list[float], theirs: list[float], bound: float) -> Figure:
    ratios = tuple(our / their for our, their in zip(ours, theirs, strict=True))
    return Figure(_ROW, what, US, "×", ratios, bound=bound)


def _read(reader: str, parts: int, seconds: float) -> tuple[float, int]:
    """Run a reader; return the CPU seconds of a part, and how many parts came in all."""
    with steady_stream(parts) as url:
        done = subprocess.run(  # noqa: S603 our own program
            [sys.executable, "-m", "tests.bench.relayed_part", reader, url, str(seconds)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            check=True,
            timeout=_DEADLINE,
        )
    cpu, received = json.loads(done.stdout)
    return cpu, received


class _Ours:
    """The backend as it is, and drafts; a thread takes announcements as the editor does."""

    def __init__(self, url: str) -> None:
        self._backend = Backend(
            url=url,
            dialect=dialect("relay", model="", system_prompt="", separator=""),
            token=None,
            headers={},
            connect_seconds=5.0,
            idle_seconds=60.0,
            silence_seconds=300.0,
            pool_size=_ANSWERS,
        )
        self._placeholder = message("_Thinking…_")
        self._news: queue.SimpleQueue[Draft] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __call__(self, number: int) -> Iterator[object]:
        draft = Draft(
            delivery=_delivery(number),
            placeholder=self._placeholder,
            now=time.monotonic(),
            announce=self._news.put,
        )
        with self._backend.ask(draft.delivery.question, span=NO_SPAN) as answer:
            for delta in answer:
                draft.append(delta.text)
                yield None

    def _listen(self) -> None:
        while True:
            self._news.get().notice(time.monotonic())


class _Naive:
    """What a script does with requests and sseclient-py."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, number: int) -> Iterator[object]:
        texts = []
        response = requests.post(self._url, json={"query": str(number)}, stream=True, timeout=60)
        # Its documentation does so, whatever its types say.
        for event in SSEClient(response).events():  # type: ignore[arg-type]
            fields = json.loads(event.data)
            if event.event == "message_part":
                texts.append(fields["text_chunk"])
                yield None


class _Least:
    """A parser by hand that knows no more of the format than this backend sends."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, number: int) -> Iterator[object]:
        texts = []
        response = requests.post(self._url, json={"query": str(number)}, stream=True, timeout=60)
        rest = b""
        while chunk := response.raw.read1(65536):
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                name, _, data = event.partition(b"\n")
                fields = json.loads(data[6:])
                if name == b"event: message_part":
                    texts.append(fields["text_chunk"])
                    yield None


_MAKERS: dict[str, Callable[[str], Callable[[int], Iterator[object]]]] = {
    US: _Ours,
    NAIVE: _Naive,
    LIMIT: _Least,
}


def _delivery(number: int) -> Delivery:
    question = Question(
        event_id=f"Ev{number}",
        team_id="T0BENCH01",
        channel=f"C{number}",
        user_id="U0BENCH01",
        text="What is new?",
        ts=f"1700000000.{number:06}",
        thread_ts=None,
    )
    return Delivery(
        question=question,
        attempt=1,
        crash_count=0,
        lease=Lease(str(number), math.inf),
        traceparent="",
        age=0.0,
    )


def _be_a_reader(reader: str, url: str, seconds: str) -> None:
    """Read all answers to their end; print CPU seconds of a part, and the number of parts."""
    answers = _MAKERS[reader](url)
    counts = [0] * _ANSWERS
    begun: queue.SimpleQueue[int] = queue.SimpleQueue()

    def read(number: int) -> None:
        for _ in answers(number):
            if not counts[number]:
                begun.put(number)
            counts[number] += 1

    threads = [threading.Thread(target=read, args=(n,), daemon=True) for n in range(_ANSWERS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.get(timeout=_DEADLINE)
    cpu, count = time.process_time(), sum(counts)
    threading.Event().wait(float(seconds))
    cpu, count = time.process_time() - cpu, sum(counts) - count
    for thread in threads:
        thread.join(_DEADLINE)
    sys.stdout.write(json.dumps([cpu / count, sum(counts)]))


if __name__ == "__main__":
    _be_a_reader(*sys.argv[1:])
