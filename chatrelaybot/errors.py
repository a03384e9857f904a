"""Errors, grouped by what to do about them.

The docstring of an error is its default message. A leaf exists only where someone acts
differently on it. No message ever carries a secret, the text of a question or of an answer.
"""

from __future__ import annotations

import enum
import inspect


class FailureKind(enum.Enum):
    """What went wrong with an answer, as far as its reader is concerned."""

    UNREACHABLE = "unreachable"  #: no connection to the backend
    REFUSED = "refused"  #: the backend does not accept the question (4xx, a redirect)
    OVERLOADED = "overloaded"  #: the backend asks for patience (429, 503)
    FAILED = "failed"  #: the backend says that it failed (an error event, another 5xx)
    SLOW = "slow"  #: nothing came for too long
    CUT = "cut"  #: the answer broke off midway
    GARBLED = "garbled"  #: what came is not what the dialect promises
    TOO_LONG = "too_long"  #: one event, or the answer, is larger than allowed
    EMPTY = "empty"  #: the answer ended without a single character
    BUSY = "busy"  #: this bot has too many questions waiting
    INTERNAL = "internal"  #: a fault of this program


class ChatRelayBotError(Exception):
    """Something went wrong in ChatRelayBot."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(self.__doc__ or "").splitlines()[0])


class ConfigurationError(ChatRelayBotError):
    """The configuration is wrong."""

    def __init__(self, setting: str, problem: str, mend: str) -> None:
        """Name the setting, what is wrong with it, and what to do about it."""
        super().__init__(f"{setting}: {problem}; {mend}")
        self.setting = setting
        self.problem = problem
        self.mend = mend


class TransientError(ChatRelayBotError):
    """It failed now and may work later."""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        kind: FailureKind = FailureKind.INTERNAL,
    ) -> None:
        """`retry_after` is in seconds; None where the other side did not say."""
        super().__init__(message)
        self.retry_after = retry_after
        self.kind = kind


class RateLimited(TransientError):
    """Slack refused the call for now."""


class OutcomeUnknown(TransientError):
    """The call was sent, and whether it took effect is not known."""


class LeaseOverdue(TransientError):
    """Our lease may have ended: nothing may be written before it is extended."""


class PermanentError(ChatRelayBotError):
    """It will fail in the same way again."""

    def __init__(
        self, message: str | None = None, *, kind: FailureKind = FailureKind.INTERNAL
    ) -> None:
        super().__init__(message)
        self.kind = kind


class Undeliverable(PermanentError):
    """The message, or the place it belongs to, is gone."""


class BlocksRefused(PermanentError):
    """Slack does not take the blocks of this message."""


class LeaseLost(ChatRelayBotError):
    """Another process has the question now."""
