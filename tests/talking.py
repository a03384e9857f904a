"""Talking to a bot in a workspace."""

from __future__ import annotations

from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated

PLACEHOLDER = "_Thinking…_"


def ask(workspace: Workspace, words: str) -> tuple[str, str]:
    """Mention the bot in a channel of its own; return that and the ts."""
    channel = workspace.add_channel()
    return channel, workspace.say(channel, f"{workspace.mention} {words}")


def wait_until_shown(workspace: Workspace, place: tuple[str, str], text: str) -> None:
    """Wait until a question has one reply that shows the text."""
    workspace.wait_for(lambda: [reply.shown for reply in workspace.replies(*place)] == [text])


def ask_slow(workspace: Workspace, backend: AnsweringBackend, *texts: str) -> tuple[str, str]:
    """Ask what is answered only when the placeholder is shown: what comes then are edits."""
    answer = Gated(*texts)
    backend.answer("slow", answer)
    place = ask(workspace, "slow")
    wait_until_shown(workspace, place, PLACEHOLDER)
    answer.let_all_go()
    return place
