"""Somebody in the local workspace, who talks to the bot."""

from __future__ import annotations

from chatrelaybot.playground.workspace import Workspace


def ask(workspace: Workspace, question: str) -> tuple[str, str]:
    """Ask in a channel of its own; return the channel and the message's `ts`."""
    channel = workspace.add_channel()
    return channel, workspace.say(channel, f"{workspace.mention} {question}")


def shown(workspace: Workspace, channel: str, ts: str) -> list[str]:
    """Return what the replies to a message show."""
    return [reply.shown for reply in workspace.replies(channel, ts)]


def wait_for_echo(workspace: Workspace, question: str) -> None:
    """Ask something that the backend was told nothing about, and wait for its echo."""
    channel, ts = ask(workspace, question)
    workspace.wait_for(lambda: shown(workspace, channel, ts) == [f"You asked: {question}"], 30.0)
