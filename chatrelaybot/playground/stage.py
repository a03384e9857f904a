"""The workspace, a backend and the real daemon, in one process: where questions can be asked."""

from __future__ import annotations

import logging
import queue
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from chatrelaybot.daemon import Daemon
from chatrelaybot.events import ReplyIn
from chatrelaybot.playground.exchange import Asked, Ending, Exchange, belongs_to, question_id
from chatrelaybot.playground.sample import SampleBackend
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.settings import Settings

#: Seconds in which the daemon's link to the workspace comes up.
_LINK_SECONDS = 20.0
#: At most so many seconds pass between two looks at a question.
_LOOK_SECONDS = 0.25
#: Seconds without a change, beyond those the backend may take, after which we stop watching.
_PATIENCE_SECONDS = 30.0
#: Seconds that running answers get when the playground closes: nobody reads them any more.
_DRAIN_SECONDS = 0.1
_RELAY_LOG = "chatrelaybot.relay"


class Stage:
    """Everything that runs, for as long as the context lasts. Belongs to one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts = ExitStack()
        self.workspace = Workspace(bot_name="relay")
        #: What the workspace and the relay's log tell; whoever watches a question takes it out.
        self._news: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._endings: dict[str, Ending] = {}
        self._daemon: Daemon | None = None
        self.has_sample_backend = "backend_url" not in settings.model_fields_set
        self.backend_url = settings.backend_url
        self.bot_name = self.workspace.identity.name

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything; raises what made the daemon stop, where nobody asked it to."""
        self._parts.close()

    @property
    def slack_url(self) -> str:
        """The base of the workspace's Web API."""
        return self.workspace.api_url

    @property
    def backend_address(self) -> str:
        """The backend's URL without its query, which may hold a secret."""
        url = urlsplit(self.backend_url)
        return f"{url.scheme}://{url.netloc}{url.path}"

    @property
    def is_alive(self) -> bool:
        """False once the daemon has stopped by itself."""
        return self._daemon is not None and not self._daemon.wait(0.0)

    def mention(self, text: str, *, after: Asked | None = None) -> Asked:
        """Ask in #general, or in the thread that an earlier question began."""
        if after is None:
            return self._ask(self._general, text)
        return self._ask(after.channel, text, thread_ts=after.root_ts)

    def tell(self, text: str) -> Asked:
        """Ask in a direct message."""
        return self._ask(self._direct, text)

    def watch(self, asked: Asked) -> Iterator[Exchange]:
        """Give what has become of a question, at each change and at least each quarter second.

        The last one has an ending, unless the daemon died or nothing has happened for too long.
        """
        settings = self._settings
        silence = max(settings.backend_silence_seconds, settings.backend_idle_seconds)
        patience = settings.backend_connect_seconds + silence + _PATIENCE_SECONDS
        changes, quiet_since = -1, time.monotonic()
        while True:
            exchange = self.look(asked)
            count = exchange.edit_count + len(exchange.messages) + exchange.refusal_count
            if count != changes:
                changes, quiet_since = count, time.monotonic()
            yield exchange
            is_quiet = time.monotonic() - quiet_since > patience
            if exchange.ending is not None or is_quiet or not self.is_alive:
                return
            self._listen()

    def look(self, asked: Asked) -> Exchange:
        """Return what has become of a question until now."""
        # The ending first: what it speaks of is in the workspace by then.
        ending = self._endings.get(asked.id)
        everything = self.workspace.everything(asked.channel)
        question = self.workspace.message(asked.channel, asked.ts)
        began = question.versions[0].at
        return Exchange(
            place=asked.place,
            question=question,
            messages=[message for message in everything if belongs_to(message, asked.id)],
            placeholder=self._settings.placeholder,
            refusal_count=sum(
                call.retry_after is not None and call.at >= began for call in self.workspace.calls
            ),
            ending=ending,
        )

    def name_of(self, user: str) -> str:
        """Return what people call a user."""
        return self.bot_name if user == self.workspace.bot_user_id else "you"

    def readable(self, text: str) -> str:
        """Put the bot's name where a text mentions it."""
        return text.replace(self.workspace.mention, f"@{self.bot_name}")

    def _ask(self, channel: str, text: str, *, thread_ts: str | None = None) -> Asked:
        # Bytes of a command line that are no UTF-8 come as lone surrogates; nobody can send those.
        text = text.encode(errors="replace").decode()
        is_direct = channel == self._direct
        words = text if is_direct else f"{self.workspace.mention} {text}"
        ts = self.workspace.say(channel, words, thread_ts=thread_ts)
        begins_thread = not is_direct and self._settings.reply_in is ReplyIn.THREAD
        place = "direct message" if is_direct else "#general"
        return Asked(
            id=question_id(team_id=self.workspace.team_id, channel=channel, ts=ts),
            channel=channel,
            ts=ts,
            root_ts=thread_ts or ts,
            place=f"{place} · thread" if thread_ts or begins_thread else place,
        )

    def _listen(self) -> None:
        """Wait for news, and take in all there are."""
        try:
            news = self._news.get(timeout=_LOOK_SECONDS)
            while True:
                if isinstance(news, Ending):
                    self._endings[news.question_id] = news
                news = self._news.get_nowait()
        except queue.Empty:
            return

    # What runs.

    def _open(self) -> None:
        self._parts.enter_context(self.workspace)
        self._parts.callback(self.workspace.subscribe(self._news.put))
        user = self.workspace.add_user("you")
        self._general = self.workspace.add_channel("general")
        self._direct = self.workspace.open_dm(user)
        if self.has_sample_backend:
            sample = self._parts.enter_context(SampleBackend())
            is_openai = self._settings.backend_dialect == "openai"
            self.backend_url = sample.openai_url if is_openai else sample.url
        self._hear_endings()
        daemon = self._daemon = Daemon(self._daemon_settings())
        self._parts.callback(daemon.stop)
        daemon.start()
        self.workspace.wait_for(lambda: daemon.is_up or not self.is_alive, _LINK_SECONDS)

    def _daemon_settings(self) -> Settings:
        """Return the settings, but for what leads out of the playground."""
        settings = self._settings
        secret = type(settings.slack_bot_token)
        changes: dict[str, Any] = {
            "slack_bot_token": secret(self.workspace.bot_token),
            "slack_app_token": secret(self.workspace.app_token),
            "slack_api_url": self.workspace.api_url,
            # Ids of the real workspace name nobody here.
            "slack_bot_user_id": None,
            "slack_channel": frozenset(),
            "backend_url": self.backend_url,
            "http_port": None,
            "drain_seconds": _DRAIN_SECONDS,
        }
        if "database_url" not in settings.model_fields_set:
            directory = self._parts.enter_context(
                tempfile.TemporaryDirectory(prefix="chatrelaybot-")
            )
            changes["database_url"] = f"sqlite:///{Path(directory) / 'inbox.sqlite3'}"
        return settings.model_copy(update=changes)

    def _hear_endings(self) -> None:
        log, level = logging.getLogger(_RELAY_LOG), logging.getLogger().level
        before = log.level
        ear = _Ear(self._news, shown_from=level)
        log.addFilter(ear)
        log.setLevel(min(level, logging.INFO))
        self._parts.callback(log.setLevel, before)
        self._parts.callback(log.removeFilter, ear)


class _Ear(logging.Filter):
    """Hears from the relay's log how each reply ended.

    Whether Slack shows the final text cannot tell that: a reply may end in a sentence about a
    failure. It is a filter because it must hear records that are too unimportant to be shown.
    """

    def __init__(self, news: queue.SimpleQueue[object], *, shown_from: int) -> None:
        super().__init__()
        self._news = news
        self._shown_from = shown_from

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass on what is to be shown."""
        if record.msg == "reply finished":
            facts = vars(record)
            self._news.put(
                Ending(
                    question_id=facts["question"],
                    is_delivered=facts["outcome"] == "delivered",
                    failure=facts["failure"],
                    attempt=facts["attempt"],
                )
            )
        return record.levelno >= self._shown_from
