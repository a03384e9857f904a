"""The curves of the bench as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests import svg
from tests.bench.figures import BOLT, NAIVE, US

Point = tuple[float, float]
Curves = Mapping[str, Sequence[Point]]

_COLOURS = {US: "#2f81f7", NAIVE: "#c4710c", BOLT: "#9a68e0"}
_NAMES = {US: "ChatRelayBot", NAIVE: "a hundred-line script", BOLT: "the same with Bolt"}
_LINE = "#7a828c"
_REFUSED = "#e5484d"

# first-text.svg; pixels.
_PLOT_TOP, _PLOT_HEIGHT, _PLOT_LEFT, _PLOT_RIGHT = 70, 260, 56, 610
#: Least distance of two labels beside each other's curves.
_LABEL_GAP = 18.0
#: From this ratio of the largest latency to the smallest, a linear scale shows only the largest.
_WIDE = 8.0

# edits.svg; pixels.
_ROW_HEIGHT, _PANEL_HEAD, _EDITS_LEFT, _EDITS_RIGHT = 10, 62, 16, 844
_HALF_TICK = 3.5


def write(curves: Mapping[str, Curves], directory: Path) -> None:
    """Draw what there are curves for."""
    directory.mkdir(parents=True, exist_ok=True)
    if "first_text" in curves:
        drawn = first_text(curves["first_text"])
        (directory / "first-text.svg").write_text(drawn, encoding="utf-8")
    if "edits" in curves:
        (directory / "edits.svg").write_text(edits(curves["edits"]), encoding="utf-8")


def first_text(curves: Curves) -> str:
    """Draw latency, in latencies of a Slack call, against the number of answers at once."""
    points = [point for curve in curves.values() for point in curve]
    counts = sorted({count for count, _ in points})
    latencies = [latency for _, latency in points]
    x = _Scale(counts[0], counts[-1], _PLOT_LEFT, _PLOT_RIGHT, is_log=True)
    bottom = _PLOT_TOP + _PLOT_HEIGHT
    is_log = max(latencies) > _WIDE * max(1.0, min(latencies))
    y = _Scale(*_range(latencies, is_log=is_log), bottom, _PLOT_TOP, is_log=is_log)
    ticks = y.ticks()
    return svg.document(
        bottom + 52,
        [
            _title("From the backend's first text to its being visible in Slack"),
            svg.words(
                16, 48, "median, in L: a call's latency and the 20 ms to Slack and back, over TLS"
            ),
            *(_grid(y(tick), f"{tick:g} L") for tick in ticks),
            *(svg.words(x(n), bottom + 20, f"{n:g}", anchor="middle") for n in counts),
            svg.words(
                (_PLOT_LEFT + _PLOT_RIGHT) / 2, bottom + 42, "answers at once", anchor="middle"
            ),
            *(_curve(curve, x, y, _COLOURS[name]) for name, curve in _drawn(curves)),
            *_end_labels(curves, y),
        ],
    )


def edits(curves: Curves) -> str:
    """Draw what becomes of each answer: a line each, a tick an edit; ours above, naive below."""
    longest = max(seconds for curve in curves.values() for seconds, _ in curve)
    x = _Scale(0.0, longest * 1.01, _EDITS_LEFT, _EDITS_RIGHT)
    content, top = [_title("Twenty answers under Slack's rate limit: each line is an answer")], 40.0
    for name in (US, NAIVE):
        panel, height = _panel(name, curves, x, top)
        content += panel
        top += height
    content += [svg.words(x(tick), top + 16, f"{tick:g} s", anchor="middle") for tick in x.ticks()]
    return svg.document(top + 28, content)


class _Scale:
    """Where a value stands in the picture."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, is_log: bool = False
    ) -> None:
        self._of = math.log10 if is_log else float
        self._is_log = is_log
        self._low, self._high = low, high
        self._start = start
        span = self._of(high) - self._of(low)
        self._step = (end - start) / span if span else 0.0

    def __call__(self, value: float) -> float:
        return self._start + (self._of(value) - self._of(self._low)) * self._step

    def ticks(self) -> list[float]:
        """Return round numbers within the scale."""
        if self._is_log:
            powers = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
            round_ones = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        else:
            step = _round_step((self._high - self._low) / 6.0)
            first = math.ceil(self._low / step)
            round_ones = [step * (first + index) for index in range(12)]
        return [value for value in round_ones if self._low <= value <= self._high]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def _range(latencies: Sequence[float], *, is_log: bool) -> Point:
    if is_log:
        return min(1.0, *latencies), max(latencies) * 1.1
    return 0.0, max(latencies) * 1.1


def _drawn(curves: Curves) -> Iterator[tuple[str, Sequence[Point]]]:
    """Yield the curves; ours last, above the others."""
    for name in (BOLT, NAIVE, US):
        if curves.get(name):
            yield name, sorted(curves[name])


def _curve(curve: Sequence[Point], x: _Scale, y: _Scale, colour: str) -> str:
    places = [(x(count), y(latency)) for count, latency in curve]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    dots = "".join(
        f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" fill="{colour}"/>' for left, top in places
    )
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _end_labels(curves: Curves, y: _Scale) -> Iterator[str]:
    """Name each curve at its right end, one below the other where they would meet."""
    ends = sorted((y(curve[-1][1]), name, curve[-1][1]) for name, curve in _drawn(curves))
    lowest = -math.inf
    for top, name, latency in ends:
        lowest = max(top, lowest + _LABEL_GAP)
        words = f"{_NAMES[name]}, {latency:.3g} L"
        yield svg.words(_PLOT_RIGHT + 12, lowest + 4, words, colour=_COLOURS[name], is_strong=True)


def _grid(top: float, label: str) -> str:
    return (
        f'<line x1="{_PLOT_LEFT}" x2="{_PLOT_RIGHT}" y1="{top:.1f}" y2="{top:.1f}" '
        f'stroke="{_LINE}" stroke-opacity="0.3"/>'
        + svg.words(_PLOT_LEFT - 8, top + 4, label, anchor="end")
    )


def _panel(name: str, curves: Curves, x: _Scale, top: float) -> tuple[list[str], float]:
    """Draw one contender's answers; return the drawing and its height."""
    made, refused, finals = (curves.get(f"{name} {kind}", ()) for kind in _KINDS)
    answers = sorted({number for curve in (made, refused, finals) for _, number in curve})
    first = top + _PANEL_HEAD
    tops = {number: first + index * _ROW_HEIGHT for index, number in enumerate(answers)}
    height = len(answers) * _ROW_HEIGHT
    ends = {number: seconds for seconds, number in sorted((*made, *refused, *finals))}
    drawn = [
        svg.words(16, top + 18, _NAMES[name], colour=_COLOURS[name], is_strong=True),
        *_key(top + 38, _COLOURS[name], _counts(made, refused, finals, len(answers))),
        *(_stroke(f"M{x(tick):.1f},{first - 6}v{height + 4}", _LINE, 0.3) for tick in x.ticks()),
        *(_stroke(f"M{x(0.0):.1f},{tops[n]}H{x(ends[n]):.1f}", _LINE, 0.45) for n in answers),
        _stroke(_path(made, x, tops, f"m0,-{_HALF_TICK}v{2 * _HALF_TICK}"), _COLOURS[name]),
        _stroke(_path(refused, x, tops, _CROSS), _REFUSED),
        *(_dot(x(seconds), tops[number], _COLOURS[name]) for seconds, number in finals),
    ]
    return drawn, _PANEL_HEAD + height


_KINDS = ("edit", "refused", "final")
_CROSS = "m-3,-3l6,6m0,-6l-6,6"


def _counts(
    made: Sequence[Point], refused: Sequence[Point], finals: Sequence[Point], answers: int
) -> tuple[str, str, str]:
    last = f", the last at {max(finals)[0]:.1f} s" if finals else ""
    return (
        f"{len(made)} edits",
        f"{len(refused)} refused calls",
        f"{len({number for _, number in finals})} of {answers} final texts{last}",
    )


def _key(top: float, colour: str, words: tuple[str, str, str]) -> Iterator[str]:
    """Say beside each sign what it is and how many there are."""
    edited, refused, ended = words
    yield _stroke(f"M20,{top - 4 - _HALF_TICK}v{2 * _HALF_TICK}", colour)
    yield svg.words(30, top, edited)
    yield _stroke(f"M150,{top - 4}{_CROSS}", _REFUSED)
    yield svg.words(160, top, refused)
    yield _dot(300, top - 4, colour)
    yield svg.words(310, top, ended)


def _path(points: Iterable[Point], x: _Scale, tops: Mapping[float, float], sign: str) -> str:
    return "".join(f"M{x(seconds):.1f},{tops[number]}{sign}" for seconds, number in points)


def _stroke(path: str, colour: str, opacity: float = 1.0) -> str:
    if not path:
        return ""
    width = 1.5 if opacity == 1.0 else 1.0
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}"/>'
    )


def _dot(left: float, top: float, colour: str) -> str:
    return f'<circle cx="{left:.1f}" cy="{top}" r="3.5" fill="{colour}"/>'


def _title(words: str) -> str:
    return svg.words(16, 28, words, size=16, is_strong=True)
