"""The log's two formats, what never gets into it, and the trace context of W3C.

A record is a constant short text with its facts in `extra`. Every line is masked as the last
step, so that a token is not shown even where another library put it into its words.
"""

from __future__ import annotations

import datetime
import errno
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Literal, TextIO

from chatrelaybot.errors import ChatRelayBotError

#: What every record has; the rest of its attributes came with `extra`.
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
#: Lowest levels, whatever LOG_LEVEL is: below them these libraries print texts of messages
#: (slack_sdk), bytes of requests, and parameters of SQL statements (sqlalchemy from INFO on).
_LIBRARY_LEVELS = {
    "slack_sdk": logging.INFO,
    "sqlalchemy": logging.WARNING,
    "urllib3": logging.WARNING,
    # A warning of its about odd headers shows the whole URL.
    "urllib3.connection": logging.ERROR,
    # It calls every end of a connection an error; the link says which ones are.
    "websocket": logging.CRITICAL,
    "aiohttp": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
}
#: Tokens: https://docs.slack.dev/authentication/tokens; a link's ticket is as good as one.
_SECRET = re.compile(
    r"""\b(xox[a-z]-|xapp-|xwfp-)[0-9A-Za-z-]+
      | \b(bearer\s+)[^\s"'\\,;]+
      | \b(ticket=)[^\s"'\\&]+""",
    re.VERBOSE | re.IGNORECASE,
)
_BREAKS = str.maketrans({code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n"})


def configure_logging(
    *, log_format: Literal["json", "text"], level: str, stream: TextIO | None = None
) -> None:
    """Send every logger's records to `stream` (stderr), in place of an earlier call's."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, _JsonLines | _TextLines):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, lowest in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(lowest, root.level))


def new_traceparent() -> str:
    """Begin a trace: https://www.w3.org/TR/trace-context/#traceparent-header."""
    ids = os.urandom(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-01"


def mask(text: str) -> str:
    """Hide what grants access: Slack's tokens, bearer tokens, tickets of links."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; a fact cannot take the place of a field that every line has."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        line |= {name: value for name, value in _facts(record).items() if name not in line}
        if error := _error(record):
            line["exception"] = {"type": _name(error), "traceback": _traceback(error)}
        return mask(json.dumps(line, ensure_ascii=False, default=str))


class _TextLines(logging.Formatter):
    """One readable line, and the traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; control characters cannot begin a line of their own."""
        clock = datetime.datetime.fromtimestamp(record.created).astimezone()
        event = record.getMessage().translate(_BREAKS)
        facts = [_fact(name, value) for name, value in _facts(record).items()]
        where = f"{record.levelname:<5} {record.name.removeprefix('chatrelaybot.')}"
        head = f"{clock:%H:%M:%S}.{int(record.msecs):03d} {where}"
        line = "  ".join((head, event, *([" ".join(facts)] if facts else [])))
        error = _error(record)
        return mask(f"{line}\n{_traceback(error)}" if error else line)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _fact(name: str, value: object) -> str:
    """Show a fact as `name=value`; `first_text_seconds` of 0.4123 is `first_text=0.412s`."""
    if isinstance(value, float):
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        return f"{name[:-8]}={text}s" if name.endswith("_seconds") else f"{name}={text}"
    text = str(value)
    # Quoted where a space or a sign would make it look like more than one fact.
    is_plain = re.fullmatch(r'[^\s\x00-\x1f="]+', text)
    return f"{name}={text if is_plain else json.dumps(text, ensure_ascii=False)}"


def _utc(created: float) -> str:
    moment = datetime.datetime.fromtimestamp(created, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _name(error: BaseException) -> str:
    """Name an error; the code of the system's ones says what their hidden words would."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _qualified(kind)
    code = errno.errorcode.get(getattr(error, "errno", None) or 0)
    return f"{name}[{code}]" if code else name


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _traceback(error: BaseException) -> str:
    """Render where it failed, causes first, without the words of errors that are not ours.

    Words of other libraries may repeat what they worked on: a question, an answer, a URL.
    """
    parts = []
    for link in reversed([*_chain(error)]):
        words = f": {link}" if isinstance(link, ChatRelayBotError) else ""
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"{frames}{_name(link)}{words}")
    return "\nwhich led to:\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
