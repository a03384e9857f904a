"""How a question and its growing reply look: live in a terminal, as plain lines elsewhere."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from chatrelaybot.playground.exchange import Exchange, count, summary
from chatrelaybot.playground.markdown import SlackMarkdown
from chatrelaybot.playground.messages import StoredMessage

#: Columns; longer lines are hard to read.
_WIDTH = 100
#: Characters of the newest text that a plain line shows.
_GLIMPSE = 60
#: What an answer could do to a terminal: control characters other than tab and line break.
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(32), *range(127, 160))
    if chr(code) not in "\t\n"
}


class Names(Protocol):
    """Knows how people call what the workspace has ids for."""

    def name_of(self, user: str) -> str: ...

    def readable(self, text: str) -> str: ...


class Terminal(Protocol):
    """Where exchanges are shown."""

    def say(self, line: str = "") -> None:
        """Write a line."""

    def show(self, exchanges: Iterable[Exchange], names: Names) -> Exchange:
        """Show a question and its reply until the last of its states; return that."""
        ...


def terminal() -> Terminal:
    """Return what suits the standard output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another character set shows question marks rather than a traceback.
        sys.stdout.reconfigure(errors="replace")
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveTerminal(Console(highlight=False))
    return PlainTerminal(sys.stdout)


def log_stream() -> TextIO | None:
    """Return where log lines go so that they do not tear the picture; None: to stderr."""
    return cast("TextIO", _BesideThePicture()) if sys.stderr.isatty() else None


class _BesideThePicture(io.TextIOBase):
    """Whatever is stderr at the moment: while a picture is live, rich puts the lines above it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class PlainTerminal:
    """Lines for pipes, files and logs of automatic checks."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, line: str = "") -> None:
        """Write a line."""
        self._out.write(f"{line.translate(_CONTROLS)}\n")
        self._out.flush()

    def show(self, exchanges: Iterable[Exchange], names: Names) -> Exchange:
        """Write a line for each version of the reply, then the reply itself and the figures."""
        last: Exchange | None = None
        told: dict[str, int] = {}
        for exchange in exchanges:
            if last is None:
                self.say(exchange.place)
                self._block(names.name_of(exchange.question.user), names, exchange.question)
                self.say()
            for line in _growth(exchange, told):
                self.say(line)
            last = exchange
        assert last is not None  # noqa: S101 - whoever watches gives at least one
        self.say()
        for message in last.replies:
            self._block(names.name_of(message.user), names, message)
            self.say()
        for line in summary(last):
            self.say(line)
        return last

    def _block(self, author: str, names: Names, message: StoredMessage) -> None:
        mark = " (edited)" if message.edited else ""
        self.say(f"{author}:{mark}")
        for line in names.readable(message.shown).splitlines():
            self.say(f"    {line}".rstrip())


class LiveTerminal:
    """The message as Slack shows it, changing in place."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str = "") -> None:
        """Write a line."""
        self._console.print(Text(line.translate(_CONTROLS)), soft_wrap=True)

    def show(self, exchanges: Iterable[Exchange], names: Names) -> Exchange:
        """Draw the exchange at each of its states, and leave the last one standing."""
        last: Exchange | None = None
        try:
            with _without_echo(), self._live() as live:
                for last in exchanges:
                    live.update(_Tail(_growing(last, names)), refresh=True)
        finally:
            # Also where somebody has had enough of it: what was there stays.
            if last is not None:
                self._console.print(_picture(last, names))
        assert last is not None  # noqa: S101 - whoever watches gives at least one
        for line in summary(last):
            self._console.print(Text(line, style="dim" if last.is_answered else "red"))
        return last

    def _live(self) -> Live:
        return Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            # A log that goes to a file stays there.
            redirect_stderr=sys.stderr.isatty(),
        )


def _growth(exchange: Exchange, told: dict[str, int]) -> Iterator[str]:
    """Describe the versions that `told` does not count yet, and count them."""
    news = []
    for number, message in enumerate(exchange.messages, start=1):
        for version in message.versions[told.get(message.ts, 0) :]:
            is_text = version.shown != exchange.placeholder
            size = f"{len(version.shown)} characters" if is_text else ""
            where = f"message {number}: " if number > 1 else ""
            news.append((version.at, f"{size:>16}  {where}{_glimpse(version.shown)}"))
        told[message.ts] = len(message.versions)
    for at, text in sorted(news):
        yield f"{exchange.since(at):8.2f} s{text}"


def _glimpse(text: str) -> str:
    """Return the newest words on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _GLIMPSE else f"…{line[-_GLIMPSE:]}"


def _growing(exchange: Exchange, names: Names) -> RenderableType:
    seconds = exchange.since(time.monotonic())
    status = f"{seconds:.1f} s, {count(exchange.edit_count, 'edit')}"
    return Group(_picture(exchange, names), Text(status, style="dim"))


def _picture(exchange: Exchange, names: Names) -> RenderableType:
    messages = (exchange.question, *exchange.replies)
    parts = [part for message in messages for part in _message(message, names)]
    return Constrain(Group(Text(exchange.place, style="dim"), *parts), _WIDTH)


def _message(message: StoredMessage, names: Names) -> Iterator[RenderableType]:
    head = Text(names.name_of(message.user), style="bold")
    if message.bot_id:
        head.append("  APP", style="dim")
    shown = names.readable(message.shown).translate(_CONTROLS)
    # Slack takes what people type as it is.
    body: RenderableType = SlackMarkdown(shown) if message.bot_id else Text(shown)
    yield head
    yield Padding(body, (0, 0, 0, 2))
    if message.edited:
        yield Text("  (edited)", style="dim")
    if message.reactions:
        marks = (f":{name}: {len(users)}" for name, users in message.reactions.items())
        yield Text(f"  {'  '.join(marks)}", style="dim")
    yield Text()


class _Tail:
    """The end of a picture that may be higher than the screen: the newest words are there."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._picture, options.update(height=None), pad=False)
        room = max(2, console.height - 1)
        if len(lines) > room:
            hidden = len(lines) - room + 1
            yield Text(f"⋮ {hidden} lines above", style="dim")
            lines = lines[hidden:]
        for line in lines:
            yield from line
            yield Segment.line()


@contextmanager
def _without_echo() -> Iterator[None]:
    """Keep what is typed meanwhile out of the picture; it is read afterwards."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
