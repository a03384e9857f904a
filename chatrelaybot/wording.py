"""What the reader is told when there is no answer, or only a part of one. Pure.

One honest sentence on what went wrong, one on what the reader can do. Status codes go to the log,
under the reference that the sentence carries; the backend's own words, which may repeat the
question, go nowhere.
"""

from __future__ import annotations

from chatrelaybot.errors import FailureKind

HINT = "I did not find a question in your message. Write it right after my name."

GOES_ON = "I am being restarted. This answer goes on shortly."

_AGAIN_SOON = "Please ask again in a few minutes."
_TELL = "If it happens again, tell the people who run this bot."

_NO_ANSWER = {
    FailureKind.UNREACHABLE: f"I could not reach the service that answers. {_AGAIN_SOON}",
    FailureKind.REFUSED: f"The service that answers did not accept this question. {_TELL}",
    FailureKind.OVERLOADED: f"The service that answers is overloaded. {_AGAIN_SOON}",
    FailureKind.FAILED: f"The service that answers ran into an error. Please ask again. {_TELL}",
    FailureKind.SLOW: "The service that answers stayed silent for too long, so I stopped waiting. "
    + _AGAIN_SOON,
    FailureKind.CUT: f"The answer broke off before it began. {_AGAIN_SOON}",
    FailureKind.GARBLED: f"The service that answers sent something that I cannot read. {_TELL}",
    FailureKind.TOO_LONG: "The answer was too long for me. Please ask for less at a time.",
    FailureKind.EMPTY: "The service that answers had nothing to say. Try to put it differently.",
    FailureKind.BUSY: "Too many questions are waiting for me right now. "
    "Please ask again in a few minutes.",
    FailureKind.INTERNAL: f"Something went wrong inside this bot. Please ask again. {_TELL}",
}

_INCOMPLETE = {
    FailureKind.SLOW: "the service that answers fell silent",
    FailureKind.TOO_LONG: "it grew too long",
    FailureKind.FAILED: "the service that answers ran into an error",
    FailureKind.GARBLED: "the service that answers sent something that I cannot read",
    FailureKind.INTERNAL: "something went wrong inside this bot",
}


def no_answer(kind: FailureKind, *, reference: str) -> str:
    """Return what stands in place of an answer."""
    return f"{_NO_ANSWER[kind]} (reference {reference})"


def incomplete(kind: FailureKind, *, reference: str) -> str:
    """Return the note that follows the text of an answer that was cut off."""
    reason = _INCOMPLETE.get(kind, "the connection to the service that answers broke")
    advice = "Ask for less at a time" if kind is FailureKind.TOO_LONG else "Ask again for all of it"
    return f"This answer is incomplete: {reason}. {advice}. (reference {reference})"
