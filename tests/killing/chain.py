"""One daemon after the other in a workspace; each takes up what the one before it died over."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from chatrelaybot.playground.exchange import question_id
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, query
from tests.killing.inboxes import InboxView
from tests.killing.kinds import DECOY, Kind
from tests.killing.launcher import Child, Launcher
from tests.killing.tracing import ARMED_BY, COUNT_INTO, KILL_AT, FailPoint
from tests.killing.verdict import Asked, Case, Played, evidence, fault_of
from tests.scripted_backend import Exchange

#: Until a daemon is up, and until a question is answered; seconds.
_DEADLINE = 30.0
#: What has begun, or is settled, runs lines for so long; on a busy machine for longer. Seconds.
_REST_SECONDS = 0.4
_LONG_REST_SECONDS = 2.0
_POLL_SECONDS = 0.1


class NeverEnded(AssertionError):
    """A question was not answered in time."""


class Chain:
    """A workspace, a backend, an inbox, and one daemon at a time. For one thread."""

    def __init__(
        self,
        launcher: Launcher,
        kind: Kind,
        directory: Path,
        url: str = "",
        *,
        make_workspace: Callable[..., Workspace] = Workspace,
    ) -> None:
        """`url` is that of another database than an SQLite file in the directory."""
        self._launcher = launcher
        self._kind = kind
        self._directory = directory
        self._inbox = InboxView(url) if url else InboxView.in_directory(directory)
        self._workspace = make_workspace(
            limits=Limits.none(), ack_seconds=0.5, redelivery=(0.3,) * 60, resume_seconds=0.02
        )
        self._backend = AnsweringBackend()
        self._backend.fall_back(self._answer)
        self._channels: dict[str, str] = {}  #: by question
        self._pause = threading.Event()
        self._parts = ExitStack()
        self._child: Child | None = None
        self._recent: list[Child] = []
        self._number = 0

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._parts.enter_context(self._workspace)
        self._parts.enter_context(self._backend)
        self._parts.callback(self._inbox.close)
        self._parts.callback(self._end_child)
        return self

    def __exit__(self, *ended: object) -> None:
        self._parts.close()

    def count_lines(self) -> Mapping[tuple[str, int], int]:
        """Answer one question; return how often each line was run for it, by file and number."""
        into = self._directory / "lines.json"
        number = self._next_number()
        counting = {COUNT_INTO: str(into)}
        if self._kind.opening is None:
            self._start(number, counting, is_new=True)
            self._pause.wait(_REST_SECONDS)  # What only a start does is over.
            asked = self._ask(number)
        else:
            asked = self._die_first(number)
            self._start(number, counting, is_new=False)
        child = self._child
        assert child is not None
        self._settle(asked, [])
        self._pause.wait(_REST_SECONDS)
        child.signal(signal.SIGUSR1)
        self._wait(into.exists, "lines are not written")
        fault = fault_of(asked, self._workspace, self._inbox)
        assert not fault, f"{fault}\n{self._evidence(asked)}"
        self._end_child()
        return {(file, line): count for file, line, count in json.loads(into.read_text())}

    def play(self, cases: Sequence[Case]) -> list[Played]:
        """Kill a daemon at each line; return what came of it, in that order."""
        played: list[Played] = []
        done: list[Asked] = []
        for case, asked, was_killed in self._die_at(cases):
            played.append(self._judge(case, asked, was_killed=was_killed))
            done.append(asked)
        return [
            one if one.fault else self._look_again(one, asked)
            for one, asked in zip(played, done, strict=True)
        ]

    def _die_at(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Asked, bool]]:
        """Yield each case once its question is settled by the daemon that came after."""
        pending: tuple[Case, Asked, bool] | None = None
        for case in [*cases, None]:
            number = self._next_number()
            point = None if case is None else self._first_point(case)
            if self._kind.needs_fresh and pending is not None:
                self._start(number, {}, is_new=True)
                self._settle(pending[1], [pending[0]])
                self._end_child()
            self._start(number, {KILL_AT: str(point)} if point else {}, is_new=True)
            if pending is not None:
                self._settle(pending[1], [pending[0]])
                yield pending
            if case is None:
                self._end_child()
                return
            asked = self._ask(number)
            was_killed = self._wait_for_death(asked, self._first_point(case))
            if self._kind.opening is not None:
                self._start(number, {KILL_AT: str(case.point)}, is_new=False)
                was_killed &= self._wait_for_death(asked, case.point)
            pending = case, asked, was_killed

    def _first_point(self, case: Case) -> FailPoint:
        return self._kind.opening.point if self._kind.opening else case.point

    def _die_first(self, number: int) -> Asked:
        """Have a first daemon die over a question."""
        assert self._kind.opening is not None
        point = self._kind.opening.point
        self._start(number, {KILL_AT: str(point)}, is_new=True)
        asked = self._ask(number)
        assert self._wait_for_death(asked, point), f"it did not die first\n{self._evidence(asked)}"
        return asked

    def _judge(self, case: Case, asked: Asked, *, was_killed: bool) -> Played:
        fault = fault_of(asked, self._workspace, self._inbox)
        if fault:
            fault = f"{case}\n{fault}\n{self._evidence(asked)}"
        return Played(case, was_killed, fault)

    def _look_again(self, played: Played, asked: Asked) -> Played:
        """Judge a reply once more after all others."""
        return self._judge(played.case, asked, was_killed=played.was_killed)

    # The daemons.

    def _start(self, number: int, fail_point: Mapping[str, str], *, is_new: bool) -> None:
        """Start a daemon; one that is to get a new question is waited for."""
        armed_by = {ARMED_BY: _words(number)} if is_new else {}
        before = len(self._workspace.links)
        self._child = self._launcher.start({**self._settings(), **fail_point, **armed_by})
        self._recent = [*self._recent[-2:], self._child]
        if is_new:
            self._workspace.wait_for_link(after=before, timeout=_DEADLINE)

    def _settings(self) -> Mapping[str, str]:
        return {
            "SLACK_BOT_TOKEN": self._workspace.bot_token,
            "SLACK_APP_TOKEN": self._workspace.app_token,
            "SLACK_API_URL": self._workspace.api_url,
            "HTTP_PORT": "off",
            "BACKEND_URL": self._backend.url,
            "DATABASE_URL": self._inbox.url,
            "EDIT_SECONDS": "0.05",
            "EDITS_PER_MINUTE": "6000",
            "POSTS_PER_MINUTE": "6000",
            # What was killed before it was stored comes again from Slack.
            "CATCH_UP_MINUTES": "0",
            "LOG_FORMAT": "json",
            **self._kind.settings,
        }

    def _end_child(self) -> None:
        if self._child is not None and not self._child.status.done():
            self._launcher.kill(self._child)

    def _wait_for_death(self, asked: Asked, point: FailPoint) -> bool:
        """Wait until the daemon has died; False: it has answered, and was killed for that."""
        child = self._child
        assert child is not None
        rest_ends = float("inf")

        def is_over() -> bool:
            nonlocal rest_ends
            if rest_ends == float("inf") and self._inbox.is_done(asked.key):
                rest_ends = time.monotonic() + _LONG_REST_SECONDS
            return child.status.done() or time.monotonic() > rest_ends

        self._wait(is_over, f"{self._kind.name}, {point}: neither killed nor settled", asked)
        was_killed = child.was_killed
        self._end_child()
        self._inbox.let_leases_end()
        return was_killed

    # The questions.

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _ask(self, number: int) -> Asked:
        if self._kind.has_decoy:
            decoy = self._say(f"{DECOY} {number}")
            self._wait(lambda: self._inbox.is_done(decoy.key), "decoy not settled", decoy)
        return self._say(_words(number))

    def _say(self, words: str) -> Asked:
        channel = self._channels[words] = self._workspace.add_channel()
        ts = self._workspace.say(channel, f"{self._workspace.mention} {words}")
        key = question_id(team_id=self._workspace.team_id, channel=channel, ts=ts)
        return Asked(key, channel, ts, words, self._kind.text(words))

    def _answer(self, exchange: Exchange) -> None:
        is_first = self._backend.queries.count(query(exchange.request)) == 1
        self._kind.answer(exchange, writes=self._writes, is_first=is_first)

    def _writes(self, words: str) -> int:
        messages = self._workspace.bot_messages(self._channels[words])
        return sum(len(message.versions) for message in messages)

    def _settle(self, asked: Asked, cases: Sequence[Case]) -> None:
        what = "; ".join(["not settled", *map(str, cases)])
        self._wait(lambda: self._inbox.is_done(asked.key), what, asked)

    def _wait(self, is_so: Callable[[], bool], what: str, asked: Asked | None = None) -> None:
        deadline = time.monotonic() + _DEADLINE
        while not is_so():
            if time.monotonic() > deadline:
                raise NeverEnded(f"{what}\n{self._evidence(asked) if asked else ''}")
            self._pause.wait(_POLL_SECONDS)

    def _evidence(self, asked: Asked) -> str:
        logs = [child.log.read_text() for child in self._recent if child.log.exists()]
        return evidence(asked, self._workspace, self._inbox, logs)


def _words(number: int) -> str:
    # No number is the beginning of another one with a word behind it.
    return f"question {number} please"
