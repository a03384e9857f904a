"""The command `playground`: questions from the command line, a terminal or a pipe."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from chatrelaybot.playground.exchange import Asked
from chatrelaybot.playground.stage import Stage
from chatrelaybot.playground.terminal import Terminal, log_stream, terminal
from chatrelaybot.settings import load_settings
from chatrelaybot.telemetry_logs import configure_logging

_ANSWERED = 0
_NOT_ANSWERED = 1

_HELP = """\
Each line is a mention of @BOT in #general.
  /thread TEXT   goes on in the thread of the question before
  /dm TEXT       is a direct message
  /help, /quit   (or Ctrl-D)
Begin a line with a space to ask something that begins with a slash."""


def play(question: str | None) -> int:
    """Ask one question, or, without one, what people type; return the exit code."""
    settings = load_settings(needs_slack=False)
    level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
    configure_logging(log_format=settings.log_format, level=level, stream=log_stream())
    _keep_proxies_out()
    with _terminated_like_interrupted():
        try:
            with Stage(settings) as stage:
                scene = _Scene(stage, terminal())
                return scene.one(question) if question is not None else scene.all(level)
        except KeyboardInterrupt:
            return _ANSWERED if question is None else _NOT_ANSWERED
        except BrokenPipeError:
            # Nobody reads on. What the interpreter still flushes at its end goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _NOT_ANSWERED


def _keep_proxies_out() -> None:
    """Reach the workspace directly: a proxy that the machine uses knows another 127.0.0.1."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


class _Scene:
    """Questions one after the other."""

    def __init__(self, stage: Stage, out: Terminal) -> None:
        self._stage = stage
        self._out = out
        self._last: Asked | None = None
        self._code = _ANSWERED

    def one(self, question: str) -> int:
        """Ask one question."""
        self._out.say(f"backend: {self._backend}")
        self._out.say()
        self._answer(self._stage.mention(question))
        return self._code

    def all(self, log_level: str) -> int:
        """Ask what is typed, or what comes through a pipe, until it ends."""
        is_typed = sys.stdin is not None and sys.stdin.isatty()
        self._introduce(log_level)
        if is_typed:
            self._help()
        for line in _typed_lines() if is_typed else _piped_lines():
            if not self._obey(line.rstrip("\n")) or not self._stage.is_alive:
                break
        # Who sits before it has seen how each went; who reads the exit code has not.
        return _ANSWERED if is_typed else self._code

    @property
    def _backend(self) -> str:
        whose = "the sample backend" if self._stage.has_sample_backend else "from BACKEND_URL"
        return f"{self._stage.backend_address} ({whose})"

    def _introduce(self, log_level: str) -> None:
        self._out.say("A Slack workspace on this machine, with the real bot in it.")
        self._out.say()
        self._out.say(f"  slack    {self._stage.slack_url} (with Slack's rate limits)")
        self._out.say(f"  backend  {self._backend}")
        self._out.say(f"  log      {log_level} and above (LOG_LEVEL=INFO shows the bot at work)")
        self._out.say()

    def _help(self) -> None:
        self._out.say(_HELP.replace("BOT", self._stage.bot_name))
        self._out.say()

    def _obey(self, line: str) -> bool:
        """Do what a line asks for; False where it asks for the end."""
        command, _, text = line.partition(" ")
        if not line.startswith("/"):
            command, text = "", line
        text = text.strip()
        match command:
            case "/quit":
                return False
            case "/help":
                self._help()
            case "" | "/dm" | "/thread":
                if text:
                    self._answer(self._ask(command, text))
            case _:
                self._out.say(f"There is no command {command}; /help tells which there are.")
                self._out.say()
        return True

    def _ask(self, command: str, text: str) -> Asked:
        if command == "/dm":
            return self._stage.tell(text)
        return self._stage.mention(text, after=self._last if command == "/thread" else None)

    def _answer(self, asked: Asked) -> None:
        self._last = asked
        last = self._out.show(self._stage.watch(asked), self._stage)
        self._out.say()
        if not last.is_answered:
            self._code = _NOT_ANSWERED


def _piped_lines() -> Iterable[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    return sys.stdin or ()


def _typed_lines() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets `input` know the arrow keys
    while True:
        try:
            yield input("#general> ")
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            raise


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM clean up, too."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: Callable[[int, FrameType | None], object] | int | None
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
