"""An editor at work in a workspace, over the real Web API door and inbox."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chatrelaybot.budget import WorkspaceBudget
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.database import Database
from chatrelaybot.delivery import Delivery
from chatrelaybot.draft import Draft, Outcome
from chatrelaybot.editor import Editor, Habits
from chatrelaybot.events import Question
from chatrelaybot.fleet import Fleet
from chatrelaybot.inbox import Inbox
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.render import message
from chatrelaybot.sender import Sender
from chatrelaybot.slack import Slack
from chatrelaybot.strays import Strays

PLACEHOLDER = "_Thinking…_"
DEADLINE = 10.0


class Desk:
    """An editor at work in a workspace, and questions to write replies to."""

    def __init__(
        self,
        workspace: Workspace,
        directory: Path,
        *,
        url: str | None = None,
        name: str = "desk",
    ) -> None:
        """`url` is that of a database that several desks share; None: a file in the directory."""
        self.workspace = workspace
        self.channel = workspace.add_channel("desk")
        self.failures: list[Exception] = []
        self.url = url or f"sqlite:///{directory}/desk.sqlite3"
        self.database = Database(url=self.url)
        self.database.open()
        self.inbox = Inbox(database=self.database, owner=name, retention_hours=1.0)
        self.slack = Slack(bot_token=workspace.bot_token, api_url=workspace.api_url, pool_size=100)
        self.fleet = Fleet(database=self.database, owner=name)
        self.strays = Strays(
            fleet=self.fleet,
            shared=None,
            slack=self.slack,
            reaction="hourglass",
            clock=time.monotonic,
        )
        self._senders = ThreadPoolExecutor(100, thread_name_prefix="chatrelaybot-sender")
        self._loops: list[Loop] = []

    def start(
        self, *, edits_per_minute: float = 6000, posts_per_minute: float = 6000, **habits: Any
    ) -> Editor:
        editor = Editor(
            sender=Sender(
                slack=self.slack,
                inbox=self.inbox,
                reaction="hourglass",
                note_stray=self.strays.note,
            ),
            senders=self._senders,
            budget=WorkspaceBudget(
                edits_per_minute=edits_per_minute,
                posts_per_minute=posts_per_minute,
                now=time.monotonic(),
            ),
            habits=Habits(placeholder=message(PLACEHOLDER), **{"edit_seconds": 0.05, **habits}),
            clock=time.monotonic,
        )
        loop = Loop(
            "editor",
            editor.step,
            failed=self.failures.append,
            wake=editor.wake,
            afterwards=editor.let_go,
        )
        loop.start()
        self._loops.append(loop)
        return editor

    def lease(self, *, channel: str | None = None) -> Delivery:
        """Return a question that was written, enqueued and leased."""
        channel = channel or self.channel
        ts = self.workspace.say(channel, "a question")
        question = Question(
            event_id=f"Ev{ts}",
            team_id="T",
            channel=channel,
            user_id="U",
            text="a question",
            ts=ts,
            thread_ts=ts,
        )
        self.inbox.enqueue([(question, "")])
        (delivery,) = self.inbox.lease(1)
        return delivery

    def lease_again(self, delivery: Delivery) -> Delivery:
        """Give a question back, and lease it for a later try."""
        self.inbox.release(delivery)
        (again,) = self.inbox.lease(1)
        return again

    def reply(self, draft: Draft) -> list[StoredMessage]:
        question = draft.delivery.question
        return self.workspace.replies(question.channel, question.ts)

    def shown(self, draft: Draft) -> list[str]:
        return [reply.shown for reply in self.reply(draft)]

    def reactions(self, draft: Draft) -> list[str]:
        """Return the reactions to the question."""
        question = draft.delivery.question
        return list(self.workspace.message(question.channel, question.ts).reactions)

    def wait_until_shown(self, draft: Draft, *texts: str) -> None:
        self.workspace.wait_for(lambda: self.shown(draft) == list(texts))

    def close(self) -> None:
        for loop in self._loops:
            loop.stop()
        self._senders.shutdown()
        self.slack.close()
        self.database.close()


def settled(draft: Draft) -> Outcome:
    return draft.settled.result(DEADLINE)


def calls(workspace: Workspace, method: str) -> list[Any]:
    return [call for call in workspace.calls if call.method == method]
