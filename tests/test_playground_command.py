"""The command `playground`: run as people run it, and its picture looked at piece by piece."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chatrelaybot.cli import main
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.exchange import Ending, Exchange, summary
from chatrelaybot.playground.messages import StoredMessage, Version
from chatrelaybot.playground.stage import Stage
from chatrelaybot.playground.terminal import LiveTerminal, PlainTerminal
from chatrelaybot.settings import Settings
from tests.answering import AnsweringBackend, Gated
from tests.program import DEADLINE, MODULE, Ended, ended, environment, start

SECONDS = r"(\d+\.\d\d) s"
PLACEHOLDER = "_Thinking…_"

#: Arguments, stdin and settings of what is run side by side, as most of it is waiting.
RUNS: Mapping[str, tuple[list[str], str, dict[str, str]]] = {
    "unreachable": (["--ask", "hello"], "", {"BACKEND_URL": "http://127.0.0.1:9/ask?key=1"}),
    "answered": (
        ["--ask", "!json What's this?"],
        "",
        # Ids of a real workspace, which name nobody in the playground, a proxy that cannot know
        # it, and a wish for colours.
        {
            "HTTP_PROXY": "http://127.0.0.1:1",
            "http_proxy": "http://127.0.0.1:1",
            "SLACK_CHANNEL": "C0123456789",
            "SLACK_BOT_USER_ID": "U0123456789",
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
        },
    ),
    "failed": (["--ask", "!error"], "", {}),
    "piped": (
        [],
        "!json one\n\n/dm !json two\n/thread !json three\n/help\n/nonsense\n /!json four",
        {"REPLY_IN": "channel", "LOG_LEVEL": "INFO", "LOG_FORMAT": "json"},
    ),
}


class Programs:
    """What came of each run; it is waited for only when somebody wants to know."""

    def __init__(self, running: Mapping[str, subprocess.Popen[str]]) -> None:
        self._running = running
        self._ended: dict[str, Ended] = {}

    def __getitem__(self, name: str) -> Ended:
        if name not in self._ended:
            self._ended[name] = ended(self._running[name])
        return self._ended[name]


@pytest.fixture(name="programs", scope="module")
def _programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, (arguments, stdin, settings) in RUNS.items():
            directory = tmp_path_factory.mktemp(name)
            running[name] = start(["playground", *arguments], directory, stdin=stdin, **settings)
        yield Programs(running)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


@pytest.fixture(name="own_log")
def _own_log() -> Iterator[None]:
    """Give the log back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class TestOneQuestion:
    def test_shows_the_answer_and_what_happened(self, programs: Programs) -> None:
        result = programs["answered"]

        assert result.code == 0, result.err
        assert result.err == ""
        assert "#general · thread\nyou:\n    @relay !json What's this?\n" in result.out
        assert re.search(rf"^ +{SECONDS} +_Thinking…_$", result.out, re.MULTILINE)
        assert "\nrelay:\n    ## You asked\n\n    > What's this?\n" in result.out
        found = re.search(
            rf"^placeholder after {SECONDS} · first text after {SECONDS} · "
            rf"final text after {SECONDS}\n"
            "1 edit of 1 message · no calls refused by Slack's rate limits\n",
            result.out,
            re.MULTILINE,
        )
        assert found
        placeholder, first, final = map(float, found.groups())
        assert 0.0 <= placeholder < first == final < DEADLINE

    def test_leaves_a_pipe_free_of_escape_codes(self, programs: Programs) -> None:
        assert "\x1b" not in programs["answered"].out

    def test_that_gets_half_an_answer_is_a_failure(self, programs: Programs) -> None:
        result = programs["failed"]

        assert result.code == 1
        assert "1. The request arrived." in result.out
        assert re.search(r"_This answer is incomplete: .+\(reference \w+\)_\n", result.out)
        assert result.out.endswith("\nno complete answer after 1 try: failed\n\n")


class TestAPipe:
    def test_is_answered_line_by_line(self, programs: Programs) -> None:
        result = programs["piped"]

        assert result.code == 0, result.err
        quotes = re.findall(r"^    > (.+)$", result.out, re.MULTILINE)
        assert quotes == ["one", "two", "three", "/!json four"]

    def test_may_lead_to_other_places(self, programs: Programs) -> None:
        out = programs["piped"].out

        places = re.findall(r"^(#general.*|direct message.*)$", out, re.MULTILINE)
        assert places == ["#general", "direct message", "direct message · thread", "#general"]

    def test_may_hold_commands(self, programs: Programs) -> None:
        out = programs["piped"].out

        assert out.count("/dm TEXT") == 1
        assert "There is no command /nonsense; /help " in out

    def test_is_told_how_all_is_wired(self, programs: Programs) -> None:
        out = programs["piped"].out

        assert re.search(r"^  slack    http://127\.0\.0\.1:\d+/api/ ", out, re.MULTILINE)
        assert re.search(r"^  backend  http://\S+/v1/chat/stream \(the sample", out, re.MULTILINE)
        assert "  log      INFO and above" in out

    def test_comes_with_the_log_that_was_asked_for(self, programs: Programs) -> None:
        assert programs["piped"].err.count('"message": "reply finished"') == 4

    @pytest.mark.usefixtures("own_log")
    @pytest.mark.parametrize(
        ("lines", "code"), [("!error\n!json one\n/quit\n!json two\n", 1), ("", 0), (None, 0)]
    )
    def test_tells_whether_all_were_answered_and_ends_when_told(
        self,
        lines: str | None,
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(sys, "stdin", None if lines is None else io.StringIO(lines))

        assert main(["playground"]) == code

        shown = re.findall(r"^    @relay (.+)$", capsys.readouterr().out, re.MULTILINE)
        assert shown == (["!error", "!json one"] if lines else [])

    def test_that_nobody_reads_ends_the_playground_without_a_traceback(
        self, tmp_path: Path
    ) -> None:
        process = start(["playground", "--ask", "!json hello"], tmp_path)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None

        result = ended(process)

        assert (result.code, result.err) == (1, "")


class Typist:
    """Somebody at a terminal with the playground in it."""

    def __init__(self, directory: Path) -> None:
        self._terminal, slave = pty.openpty()
        self._unread = ""
        self.process = subprocess.Popen(  # noqa: S603 our own program
            [*MODULE, "playground"],
            cwd=directory,
            env=environment(TERM="xterm-256color", COLUMNS="90", LINES="30"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def read_to(self, words: str) -> str:
        """Read until the words have come; return what came before, without control sequences."""
        while words not in self._unread:
            self._unread += self._read()
        before, _, self._unread = self._unread.partition(words)
        return before

    def has_news(self, *, within: float) -> bool:
        """Wait for so many seconds until something is to be read, or the program has gone."""
        return bool(select.select([self._terminal], [], [], within)[0])

    def read_to_the_end(self) -> str:
        """Read until the program has gone."""
        # A terminal that nobody has open any more fails with EIO.
        with contextlib.suppress(OSError):
            while True:
                self._unread += self._read()
        return self._unread

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def _read(self) -> str:
        ready, _, _ = select.select([self._terminal], [], [], DEADLINE)
        assert ready, f"nothing comes after {self._unread!r}"
        read = os.read(self._terminal, 1 << 16).decode(errors="replace")
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", read)


@pytest.fixture(name="typist")
def _typist(tmp_path: Path) -> Iterator[Typist]:
    typist = Typist(tmp_path)
    yield typist
    typist.close()


class TestATerminal:
    def test_shows_the_reply_growing_and_asks_for_more(self, typist: Typist) -> None:
        typist.read_to("/help, /quit")
        typist.read_to("#general> ")
        typist.type("!slow 1\n")
        growing = typist.read_to("placeholder after ")
        figures = typist.read_to("#general> ")
        typist.type("!error\n")
        failing = typist.read_to("no complete answer after 1 try: failed")
        typist.read_to("#general> ")
        typist.type("\x04")
        typist.read_to_the_end()

        assert growing.index("@relay !slow 1") < growing.index("Thinking…")
        assert growing.index("Thinking…") < growing.index("That took me 1 s of thought.")
        assert re.search(r"\n0\.\d s, no edits", growing)
        assert "final text after " in figures
        # The log's line pushed the picture down.
        assert "backend failed" in failing
        assert failing.index("backend failed") < failing.rindex("@relay !error")
        assert typist.process.wait(DEADLINE) == 0

    def test_keeps_the_picture_when_it_is_interrupted(self, typist: Typist) -> None:
        typist.read_to("#general> ")
        typist.type("!hang\n")
        typist.read_to("Thinking…")
        typist.interrupt()
        left = typist.read_to_the_end()

        assert left.rstrip().endswith("relay  APP\n  Thinking…")
        assert typist.process.wait(DEADLINE) == 0

    def test_may_be_interrupted_at_the_prompt(self, typist: Typist) -> None:
        typist.read_to("#general> ")
        # A signal between the prompt and the wait for a line may be seen with the next one only:
        # the interpreter looks for signals before it waits.
        typist.interrupt()
        if not typist.has_news(within=5.0):
            typist.interrupt()
        left = typist.read_to_the_end()

        assert left.strip() == ""
        assert typist.process.wait(DEADLINE) == 0


class TestASignal:
    def test_ends_a_question_without_an_answer(self, tmp_path: Path) -> None:
        process = start(["playground", "--ask", "!hang"], tmp_path, TMPDIR=str(tmp_path))
        assert process.stdout is not None
        while PLACEHOLDER not in process.stdout.readline():
            pass
        process.terminate()

        result = ended(process)

        assert (result.code, result.err) == (1, "")
        assert list(tmp_path.iterdir()) == []


class TestTheStage:
    @pytest.fixture(name="settings")
    def _settings(self, backend: AnsweringBackend) -> Settings:
        return Settings(backend_url=backend.url)

    def test_asks_the_backend_that_was_named(self, settings: Settings) -> None:
        with Stage(settings) as stage:
            *_, last = stage.watch(stage.mention("what's up? \udcff"))

        assert not stage.has_sample_backend
        assert [message.shown for message in last.replies] == ["You asked: what's up? ?"]
        assert last.is_answered

    def test_speaks_the_dialect_of_the_settings_with_the_sample_backend(self) -> None:
        with Stage(Settings(backend_dialect="openai", backend_model="any")) as stage:
            *_, last = stage.watch(stage.tell("!json hello"))

        assert stage.backend_address.endswith("/v1/chat/completions")
        assert "> hello" in last.replies[0].shown

    def test_keeps_the_inbox_where_it_was_told_to(self, settings: Settings, tmp_path: Path) -> None:
        file = tmp_path / "kept.sqlite3"
        with Stage(settings.model_copy(update={"database_url": f"sqlite:///{file}"})):
            pass

        assert file.exists()

    def test_that_cannot_open_leaves_nothing_running(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        before = set(threading.enumerate())
        wrong = settings.model_copy(
            update={"database_url": f"sqlite:///{tmp_path}/missing/inbox.sqlite3"}
        )
        with pytest.raises(ConfigurationError, match="DATABASE_URL"), Stage(wrong):
            pass

        assert set(threading.enumerate()) <= before

    def test_stops_watching_when_the_daemon_dies(
        self, settings: Settings, backend: AnsweringBackend
    ) -> None:
        gated = Gated("some ", "text")
        backend.answer("hello", gated)
        states: list[Exchange] = []

        def watch() -> None:
            with Stage(settings) as stage:
                for state in stage.watch(stage.mention("hello")):
                    states.append(state)
                    if state.messages:
                        stage.workspace.revoke_token()
                        gated.let_all_go()

        with pytest.raises(ConfigurationError, match="SLACK_BOT_TOKEN"):
            watch()

        assert states[-1].ending is None
        assert summary(states[-1])[-1] == "no complete answer: the bot has not finished it"

    def test_does_not_tell_what_may_be_secret_in_an_address(self) -> None:
        stage = Stage(Settings(backend_url="https://example.com:8443/ask?key=1"))

        assert stage.backend_address == "https://example.com:8443/ask"


class Names:
    def name_of(self, user: str) -> str:
        return {"U1": "relay"}.get(user, "you")

    def readable(self, text: str) -> str:
        return text.replace("<@U1>", "@relay")


def wrote(*texts: str, at: float = 1000.0, user: str = "U1", **more: Any) -> StoredMessage:
    """Return a message with a version for each text, a second between them."""
    versions = tuple(Version(at + number, text) for number, text in enumerate(texts))
    bot_id = "B1" if user == "U1" else None
    return StoredMessage("C1", f"{at}", user, versions, bot_id=bot_id, **more)


def exchange(*messages: StoredMessage, **more: Any) -> Exchange:
    question = wrote("<@U1> hello", at=999.0, user="U2")
    fields = {"question": question, "messages": messages, "placeholder": PLACEHOLDER}
    return Exchange(place="#general · thread", **{**fields, **more})


ANSWERED = Ending("q", is_delivered=True, failure=None, attempt=1)


class TestTheFigures:
    def test_of_an_answer_in_several_messages(self) -> None:
        first = wrote(PLACEHOLDER, "a", "b")
        done = exchange(first, wrote("c", "d", at=1002.5), ending=ANSWERED, refusal_count=1)

        assert summary(done) == [
            "placeholder after 1.00 s · first text after 2.00 s · final text after 4.50 s",
            "3 edits of 2 messages · 1 call refused by Slack's rate limits",
        ]

    def test_of_an_answer_that_took_the_place_of_its_placeholder(self) -> None:
        replaced = wrote(PLACEHOLDER, deleted_at=1003.0)
        done = exchange(replaced, wrote("whole", at=1002.0), ending=ANSWERED)

        assert summary(done) == [
            "placeholder after 1.00 s · first text after 3.00 s · final text after 3.00 s",
            "no edits of 1 message · no calls refused by Slack's rate limits",
        ]

    def test_of_a_reply_that_nobody_can_read(self) -> None:
        gone = wrote(PLACEHOLDER, deleted_at=1003.0)
        ending = Ending("q", is_delivered=False, failure=None, attempt=2)

        assert summary(exchange(gone, ending=ending)) == [
            "placeholder after 1.00 s",
            "no edits of no messages · no calls refused by Slack's rate limits",
            "no complete answer after 2 tries: the reply could not be delivered",
        ]

    def test_of_a_question_that_got_no_reply_at_all(self) -> None:
        assert summary(exchange())[-1] == "no complete answer: the bot has not finished it"


class TestPlainLines:
    def show(self, *states: Exchange) -> list[str]:
        out = io.StringIO()
        assert PlainTerminal(out).show(states, Names()) is states[-1]
        return out.getvalue().splitlines()

    def test_tell_each_version_once(self) -> None:
        message = wrote(PLACEHOLDER, "word " * 30)
        early = wrote(PLACEHOLDER)
        more = wrote("more", at=1003.0)

        lines = self.show(exchange(early), exchange(message), exchange(message, more))

        assert lines[:4] == ["#general · thread", "you:", "    @relay hello", ""]
        assert lines[4:7] == [
            f"    1.00 s{'':18}{PLACEHOLDER}",
            f"    2.00 s  150 characters  …{' word' * 12}",
            "    4.00 s    4 characters  message 2: more",
        ]

    def test_show_the_mark_of_an_edited_message(self) -> None:
        lines = self.show(exchange(wrote("a", "b", edited="1001.0"), ending=ANSWERED))

        assert lines[-5:-2] == ["relay: (edited)", "    b", ""]

    def test_never_hold_what_controls_a_terminal(self) -> None:
        lines = self.show(exchange(wrote("a\x1b[2Jb\x9bc\x07"), ending=ANSWERED))

        assert "    a�[2Jb�c�" in lines
        assert "\x1b" not in "".join(lines)


class TestThePicture:
    def show(self, *states: Exchange, height: int = 20) -> str:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, color_system=None, width=60, height=height)
        assert LiveTerminal(console).show(states, Names()) is states[-1]
        return out.getvalue()

    def test_shows_markdown_as_slack_does(self) -> None:
        text = "# Head\n\nOh &lt;!here&gt; and &lt;b&gt;this&lt;/b&gt;\n\n&lt;div&gt;\n\n[a](http://b.c)"

        shown = self.show(exchange(wrote(text), ending=ANSWERED))

        assert "\n  Head " in shown
        assert "Oh <!here> and <b>this</b>" in shown
        assert "\n  <div> " in shown
        assert "a (http://b.c)" in shown

    def test_shows_marks_and_reactions(self) -> None:
        question = wrote("<@U1> hello", at=999.0, user="U2", reactions={"hourglass": ("U1",)})

        shown = self.show(exchange(wrote("a", edited="1001.0"), question=question, ending=ANSWERED))

        assert re.search(r"@relay hello\s+:hourglass: 1\n", shown)
        assert "(edited)" in shown

    def test_shows_the_newest_words_of_what_is_higher_than_the_screen(self) -> None:
        text = "\n\n".join(f"line {number}" for number in range(50))

        shown = self.show(exchange(wrote(text)), height=10)

        growing, _, final = shown.partition("#general · thread")
        assert "lines above" in growing
        assert "line 49" in growing
        assert "line 20" not in growing
        assert "line 20" in final

    def test_never_lets_an_answer_control_the_terminal(self) -> None:
        shown = self.show(exchange(wrote("`a\x1b[31mb` \x1b]0;title\x07"), ending=ANSWERED))

        assert "\x1b[31m" not in shown
        assert "\x1b]0" not in shown


class TestThatNobodyAnswers:
    def test_that_nobody_answers_is_a_failure(self, programs: Programs) -> None:
        result = programs["unreachable"]

        assert result.code == 1
        assert "backend: http://127.0.0.1:9/ask (from BACKEND_URL)\n" in result.out
        assert "    _I could not reach the service that answers. " in result.out
        assert "\nno complete answer after 4 tries: unreachable\n" in result.out
        assert "first text" not in result.out
        assert result.err.count("backend failed") == 4
