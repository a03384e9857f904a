"""The doctor's trial in a channel: a message is posted, edited, found again and deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from chatrelaybot.doctor_findings import Finding, failed, ok, skipped, warning
from chatrelaybot.doctor_slack import APPS
from chatrelaybot.errors import ChatRelayBotError
from chatrelaybot.render import message
from chatrelaybot.slack import Slack

SENDING = "sending"

_TIMEOUT = 6.0
_FIRST = message("A test of ChatRelayBot: this message goes away by itself.")
_SECOND = message("A test of ChatRelayBot: this message was edited, and goes away by itself.")
#: Clocks differ; the message is looked for from so many seconds ago.
_LOOK_BACK_SECONDS = 600.0
_MENDS = {
    "not_in_channel": "invite the bot into the channel: /invite @its-name",
    "channel_not_found": "correct SLACK_TEST_CHANNEL, and if the channel is private, invite the "
    "bot there: /invite @its-name",
    "is_archived": "name a channel that is not archived in SLACK_TEST_CHANNEL",
    "missing_scope": f"{APPS} → the app → OAuth & Permissions: add the scope, and reinstall",
    "restricted_action": "let the bot post there, or name another channel in SLACK_TEST_CHANNEL",
}

_T = TypeVar("_T")


class _Stopwatch:
    """Times calls by name."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def time(self, name: str, call: Callable[[], _T]) -> _T:
        began = time.monotonic()
        result = call()
        self.words.append(f"{name} {time.monotonic() - began:.2f} s")
        return result


def unsent() -> Finding:
    """Say that nobody wanted anything to be posted."""
    return skipped(SENDING, "nothing was posted; doctor --send posts in SLACK_TEST_CHANNEL")


def send(token: str, *, api_url: str, channel: str) -> Finding:
    """Post, edit, find and delete a message, and time each."""
    if not channel:
        return failed(SENDING, "SLACK_TEST_CHANNEL is not set", "set it to a channel's id (C…)")
    watch = _Stopwatch()
    slack = Slack(bot_token=token, api_url=api_url, pool_size=1, timeout=_TIMEOUT)
    with closing(slack):
        try:
            slack.identify()
            found = _try(slack, channel, watch)
        except ChatRelayBotError as error:
            done = f" (after {', '.join(watch.words)})" if watch.words else ""
            return failed(SENDING, f"{error}{done}", _mend(str(error)))
    fact = ", ".join(watch.words)
    if not found:
        mend = "after a crash a reply may be posted twice: see whether a scope for history lacks"
        return warning(SENDING, f"{fact}; but the message was not found by its metadata", mend)
    return ok(SENDING, fact)


def _try(slack: Slack, channel: str, watch: _Stopwatch) -> bool:
    key = f"doctor-{os.urandom(8).hex()}"
    oldest = f"{time.time() - _LOOK_BACK_SECONDS:.6f}"
    ts = watch.time("post", lambda: slack.post(channel, None, _FIRST, question_id=key, part=0))
    try:
        watch.time("edit", lambda: slack.update(channel, ts, _SECOND))
        parts = watch.time(
            "find", lambda: slack.find_parts(channel, None, question_id=key, oldest=oldest)
        )
    finally:
        watch.time("delete", lambda: slack.delete(channel, ts))
    return [part.ts for part in parts] == [ts]


def _mend(words: str) -> str:
    found = (mend for code, mend in _MENDS.items() if code in words)
    return next(found, "look at what Slack says, and try again")
