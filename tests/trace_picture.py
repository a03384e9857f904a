"""A trace as a picture: a bar for each span, below the process that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests import svg
from tests.otlp import Span

_FAILED = "#e5484d"
_SLACK = "#9a68e0"
#: By the first word of a span's name; Slack's methods are all the others.
_COLOURS = {
    "publish": "#2da05a",
    "process": "#2f81f7",
    "POST": "#c4710c",
    "chat": "#c4710c",
    "settle": "#7a828c",
}
_METHOD = "chat."

# Pixels.
_LEFT, _RIGHT = 176, 836
_TOP, _ROW, _BAR, _GROUP = 62, 24, 11, 36
_INDENT = 14
#: About as wide as a character of this size is, on average.
_CHARACTER = 6.2


@dataclass(frozen=True, slots=True)
class Run:
    """The life of one process, and what it has sent; times in seconds since 1970."""

    name: str
    spans: Sequence[Span]
    started: float
    lost_since: float | None = None  #: when the work began that it was killed in
    killed: float | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    depth: int
    began: float
    ended: float
    words: str
    colour: str
    ticks: Sequence[float] = ()
    is_failed: bool = False
    is_lost: bool = False


class _Scale:
    """Where a moment stands in the picture."""

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = first, last
        self._step = (_RIGHT - _LEFT) / (last - first)

    def __call__(self, moment: float) -> float:
        return _LEFT + (moment - self.first) * self._step


def draw(title: str, note: str, runs: Sequence[Run]) -> str:
    """Draw a trace."""
    spans = [span for run in runs for span in run.spans]
    scale = _Scale(min(span.started for span in spans), max(span.ended for span in spans))
    content = [svg.words(16, 26, title, size=16, is_strong=True), svg.words(16, 46, note)]
    top = float(_TOP)
    for run in runs:
        rows = [*_rows(run, spans)]
        bottom = top + _GROUP + len(rows) * _ROW
        content += [
            svg.words(16, top + 20, run.name, is_strong=True),
            *_life(run, scale, top, bottom),
        ]
        for number, row in enumerate(rows):
            content += _drawn(row, scale, top + _GROUP + number * _ROW)
        top = bottom
    return svg.document(top + 28, [*_axis(scale, top), *content])


def _rows(run: Run, spans: Sequence[Span]) -> Iterator[_Row]:
    """Yield the rows of a process; what is below another one's span is shown to be so."""
    ours, all_ids = ({span.span_id for span in some} for some in (run.spans, spans))
    roots = [span for span in run.spans if span.parent_id not in ours]
    for root in sorted(roots, key=lambda span: span.started):
        yield from _family(root, run.spans, int(root.parent_id in all_ids))
    if run.lost_since is not None and run.killed is not None:
        lost = (run.lost_since, run.killed, "what was open is never sent", _FAILED)
        yield _Row("process inbox", 1, *lost, is_failed=True, is_lost=True)


def _family(span: Span, spans: Sequence[Span], depth: int) -> Iterator[_Row]:
    """Yield the row of a span, and those of its children."""
    yield _Row(
        span.name,
        depth,
        span.started,
        span.ended,
        _told(span),
        _COLOURS.get(span.name.split()[0], _SLACK),
        ticks=[event.at for event in span.events],
        is_failed=span.is_failed,
    )
    children = [child for child in spans if child.parent_id == span.span_id]
    for child in sorted(children, key=lambda child: child.started):
        yield from _family(child, spans, depth + 1)


def _life(run: Run, scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    """Draw the start and the end of a process, where they are in the picture."""
    if run.started > scale.first:
        left = scale(run.started)
        yield _line(left, top + 8, top + _GROUP - 6, svg.TEXT)
        yield svg.words(left + 6, top + 20, "started", size=12)
    if run.killed is not None:
        left = scale(run.killed)
        yield _line(left, top + 8, bottom, _FAILED, dashes="3 3")
        yield svg.words(left + 6, top + 20, "kill -9", size=12, colour=_FAILED)


def _told(span: Span) -> str:
    """Say in short what a span has to say."""
    said = [_duration(span.seconds)]
    attempt, crashes = (
        span.attributes.get(f"chatrelaybot.{n}") for n in ("attempt", "crash_count")
    )
    if attempt:
        said.append(f"attempt {attempt}")
    if crashes:
        said.append(f"crash_count {crashes}")
    edits = sum(name.startswith(_METHOD) for name in span.event_names)
    if edits:
        said.append(f"{edits} edits on the way")
    said += [
        f"{event.name} after {_duration(event.at - span.started)}"
        for event in span.events
        if not event.name.startswith(_METHOD)
    ]
    if span.is_failed:
        status = span.attributes.get("http.response.status_code", "")
        said.append(f"{status} {span.attributes.get('error.type', '')}".strip())
    return " · ".join(said)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1.0 else f"{seconds * 1000:.0f} ms"


def _drawn(row: _Row, scale: _Scale, top: float) -> Iterator[str]:
    left, right = scale(row.began), max(scale(row.ended), scale(row.began) + 3.0)
    style = (
        f'fill="none" stroke="{row.colour}" stroke-dasharray="4 3"'
        if row.is_lost
        else f'fill="{row.colour}"'
    )
    yield svg.words(16 + row.depth * _INDENT, top + _BAR, row.label)
    yield (
        f'<rect x="{left:.1f}" y="{top + 1:.1f}" width="{right - left:.1f}" height="{_BAR}" '
        f'rx="2" {style}/>'
    )
    yield from (_line(scale(tick), top - 2, top + _BAR + 4, svg.TEXT) for tick in row.ticks)
    colour = _FAILED if row.is_failed else svg.TEXT
    place = (right + 6, "start")
    if right + 6 + len(row.words) * _CHARACTER > svg.WIDTH:
        place = (left - 6, "end")
    yield svg.words(place[0], top + _BAR, row.words, size=12, colour=colour, anchor=place[1])


def _axis(scale: _Scale, bottom: float) -> Iterator[str]:
    for second in range(int(scale.last - scale.first) + 1):
        left = scale(scale.first + second)
        yield _line(left, _TOP, bottom + 4, svg.TEXT, opacity=0.25)
        yield svg.words(left, bottom + 20, f"{second} s", anchor="middle")


def _line(
    left: float, top: float, bottom: float, colour: str, *, opacity: float = 1.0, dashes: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="M{left:.1f},{top:.1f}V{bottom:.1f}" stroke="{colour}" '
        f'stroke-opacity="{opacity}" stroke-width="1.5"{dashed}/>'
    )
