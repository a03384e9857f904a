"""What the head of a backend's response says, before its body is looked at. Pure.

https://www.rfc-editor.org/rfc/rfc9110
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from chatrelaybot.errors import FailureKind, PermanentError, TransientError

#: The longest wait that a backend may ask for; seconds. Beyond it the reader is told at once.
_MOST_RETRY_AFTER = 20.0
_OVERLOADED = frozenset({429, 503})
#: "Request Timeout" and "Too Early" are about this try; every other 4xx is about the question.
_FAILED_FOR_NOW = frozenset({408, 425})
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def of_status(
    status: int, headers: Mapping[str, str], *, now: datetime.datetime
) -> TransientError | PermanentError | None:
    """Return what a status means for the question; None where there is an answer."""
    if 200 <= status < 300:
        return None
    message = f"The backend answered with status {status}"
    if status in _OVERLOADED:
        kind = FailureKind.OVERLOADED
    elif status in _FAILED_FOR_NOW or status >= 500:
        kind = FailureKind.FAILED
    else:
        # A redirect too: it is not followed, since it would take the question elsewhere.
        return PermanentError(message, kind=FailureKind.REFUSED)
    wait = retry_after(headers.get("Retry-After", ""), now=now)
    if wait is not None and wait > _MOST_RETRY_AFTER:
        return PermanentError(message, kind=kind)
    return TransientError(message, kind=kind, retry_after=wait)


def retry_after(value: str, *, now: datetime.datetime) -> float | None:
    """Return the seconds in a Retry-After header: a number, or the time until a date."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - now).total_seconds())


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Say whether a body is anything but its plain bytes, in chunks or not."""
    content = headers.get("Content-Encoding", "").strip().lower()
    transfer = headers.get("Transfer-Encoding", "").strip().lower()
    return content not in ("", "identity") or transfer not in ("", "chunked")


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type without its parameters."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()
