"""The log's two formats, and what never gets into it.

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

from chatrelaybot import telemetry_spans
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
    # It warns whenever two ask at once.
    "waitress": logging.ERROR,
}
#: Tokens: https://docs.slack.dev/authentication/tokens; a link's ticket is as good as one.
_SECRET = re.compile(
    r"""\b(xox[a-z]-|xapp-|xwfp-)[0-9A-Za-z-]+
      | \b(bearer\s+)[^\s"'\\,;]+
      | \b(ticket=)[^\s"'\\&]+""",
    re.VERBOSE | re.IGNORECASE,
)
#: Of the journal, which are syslog's; by the lowest level that has them.
_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.NOTSET: 7,
}
#: Between two records about telemetry that cannot be sent; seconds.
_CALM_SECONDS = 60.0
#: What follows the host of an address, or stands alone where urllib3 names the path.
_PATH = re.compile(r"(https?://[^\s/'\"]*|url: )/[^\s'\")]*")
_BREAKS = str.maketrans({code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n"})


def configure_logging(
    *, log_format: Literal["json", "text"], level: str, stream: TextIO | None = None
) -> None:
    """Send every logger's records to `stream` (stderr), in place of an earlier call's."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    formatter = _JsonLines() if log_format == "json" else _TextLines()
    handler.setFormatter(_Prioritised(formatter) if _is_journal(stream) else formatter)
    handler.addFilter(_Calm())
    root = logging.getLogger()
    before = root.handlers[:]
    root.addHandler(handler)  # First, so that no record falls in between.
    for old in before:
        if isinstance(old.formatter, _JsonLines | _TextLines | _Prioritised):
            root.removeHandler(old)
    root.setLevel(level)
    for name, lowest in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(lowest, root.level))


def is_exporters(record: logging.LogRecord) -> bool:
    """Tell whether a record is about the export of traces, metrics or logs itself."""
    return record.name.startswith("opentelemetry")


def mask(text: str) -> str:
    """Hide what grants access: Slack's tokens, bearer tokens, tickets of links."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


class _Prioritised(logging.Formatter):
    """Puts the journal's priority before each line of another format.

    https://www.freedesktop.org/software/systemd/man/sd-daemon.html
    """

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        priority = next(number for level, number in _PRIORITIES.items() if record.levelno >= level)
        return f"<{priority}>" + self._lines.format(record).replace("\n", f"\n<{priority}>")


class _Calm(logging.Filter):
    """Lets one record a minute through about the export of telemetry: it is not our business."""

    def __init__(self) -> None:
        super().__init__()
        self._last_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record through, or not."""
        if not is_exporters(record):
            return True
        # Where the clock was set back, the time of the last one says nothing.
        if 0.0 <= record.created - self._last_at < _CALM_SECONDS:
            return False
        self._last_at = record.created
        return True


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; a fact cannot take the place of a field that every line has."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "thread": record.threadName,
        }
        if trace := telemetry_spans.ids(telemetry_spans.current().traceparent):
            line["trace_id"], line["span_id"] = trace
        line |= {name: value for name, value in facts(record).items() if name not in line}
        if error := shown_error(record):
            line["exception"] = error
        return mask(json.dumps(line, ensure_ascii=False, default=str))


class _TextLines(logging.Formatter):
    """One readable line, and the traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; control characters cannot begin a line of their own."""
        clock = datetime.datetime.fromtimestamp(record.created).astimezone()
        event = _message(record).translate(_BREAKS)
        told = [_fact(name, value) for name, value in facts(record).items()]
        where = f"{record.levelname:<5} {record.name.removeprefix('chatrelaybot.')}"
        head = f"{clock:%H:%M:%S}.{int(record.msecs):03d} {where}"
        line = "  ".join((head, event, *([" ".join(told)] if told else [])))
        error = _error(record)
        return mask(f"{line}\n{_traceback(error)}" if error else line)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    # The collector's address may hold a key, in its path or its query.
    return _PATH.sub(r"\1/…", text) if is_exporters(record) else text


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """Return what came with `extra`."""
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


def _is_journal(stream: TextIO) -> bool:
    """Tell whether a stream ends in the journal, as systemd says of the one it has made."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _utc(created: float) -> str:
    moment = datetime.datetime.fromtimestamp(created, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_error(record: logging.LogRecord) -> dict[str, str] | None:
    """Return the name and the traceback of a record's error, without words that are not ours."""
    error = _error(record)
    return {"type": _name(error), "traceback": _traceback(error)} if error else None


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
