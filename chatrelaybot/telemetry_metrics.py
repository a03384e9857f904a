"""The instruments, as one table, and the hub that every measurement goes through.

Names and units are those of OpenTelemetry's semantic conventions where they have one:
https://opentelemetry.io/docs/specs/semconv/. No attribute ever holds a text, a user or a channel.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatrelaybot.errors import FailureKind

#: Bounds of a histogram of seconds: from a call on the machine to the longest answers.
SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
)

_WORD = re.compile(r"[\w .:-]{1,60}")

Attributes = Mapping[str, str]
#: What an observed instrument shows at this moment.
Read = Callable[[], Iterable[tuple[float, Attributes]]]


class Kind(enum.Enum):
    """What can be done with an instrument."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"  #: observed
    TOTAL = "total"  #: an observed counter


@dataclass(frozen=True, slots=True)
class Instrument:
    """Something that is measured."""

    kind: Kind
    name: str
    unit: str  #: "s", or a thing in braces, such as "{question}"
    description: str
    attributes: tuple[str, ...] = ()
    #: Values of the attributes that are shown as 0 from the start: who looks for the first failure
    #: of its kind would not see a series that begins with it.
    known: tuple[tuple[str, ...], ...] = ()


QUESTIONS = Instrument(
    Kind.COUNTER,
    "chatrelaybot.questions",
    "{question}",
    "Questions received; result: new, duplicate, refused (too many wait) or failed (not stored)",
    ("result",),
    (("new",), ("duplicate",), ("refused",), ("failed",)),
)
IGNORED = Instrument(
    Kind.COUNTER,
    "chatrelaybot.envelopes.ignored",
    "{envelope}",
    "Envelopes that held no question for us",
    ("reason",),
)
QUEUE_WAIT = Instrument(
    Kind.HISTOGRAM,
    "chatrelaybot.queue.wait",
    "s",
    "From the receipt of a question to its first lease",
)
PROCESS_DURATION = Instrument(
    Kind.HISTOGRAM,
    "messaging.process.duration",
    "s",
    "From the lease of a question until it is settled or given back",
    ("messaging.system", "messaging.operation.name", "error.type"),
)
REPLIES = Instrument(
    Kind.COUNTER,
    "chatrelaybot.replies",
    "{reply}",
    "Replies that have ended; failure: what their reader was told, or none",
    ("outcome", "failure"),
    (
        ("delivered", "none"),
        *(("delivered", kind.value) for kind in FailureKind),
        ("undeliverable", "none"),
    ),
)
TO_PLACEHOLDER = Instrument(
    Kind.HISTOGRAM,
    "chatrelaybot.reply.time_to_placeholder",
    "s",
    "From the receipt of a question to its placeholder",
)
TO_FIRST_TEXT = Instrument(
    Kind.HISTOGRAM,
    "chatrelaybot.reply.time_to_first_text",
    "s",
    "From the receipt of a question to the first text that its reader sees",
)
TO_FINAL_TEXT = Instrument(
    Kind.HISTOGRAM,
    "chatrelaybot.reply.time_to_final_text",
    "s",
    "From the receipt of a question to its last edit",
)
HTTP_DURATION = Instrument(
    Kind.HISTOGRAM,
    "http.client.request.duration",
    "s",
    "Calls of the backend, to the end of the answer, and of Slack's methods (url.template)",
    (
        "http.request.method",
        "server.address",
        "server.port",
        "url.template",
        "http.response.status_code",
        "error.type",
    ),
)
FIRST_PART = Instrument(
    Kind.HISTOGRAM,
    "chatrelaybot.backend.time_to_first_part",
    "s",
    "From the sending of a question to the first text of its answer",
)
BACKEND_FAILURES = Instrument(
    Kind.COUNTER,
    "chatrelaybot.backend.failures",
    "{failure}",
    "Answers that failed, each try for itself",
    ("kind",),
    tuple(
        (kind.value,)
        for kind in FailureKind
        if kind not in (FailureKind.BUSY, FailureKind.INTERNAL)  # Those are ours.
    ),
)
CHAT_DURATION = Instrument(
    Kind.HISTOGRAM,
    "gen_ai.client.operation.duration",
    "s",
    "Chat completions, to the end of the answer",
    ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type"),
)
CHAT_FIRST_CHUNK = Instrument(
    Kind.HISTOGRAM,
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "From the sending of a chat completion to its first text",
    ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"),
)
EDITS = Instrument(
    Kind.COUNTER,
    "chatrelaybot.edits",
    "{edit}",
    "Edits of replies; result: sent, coalesced (came with a later one), unchanged, rate_limited "
    "or failed",
    ("result",),
    (("sent",), ("coalesced",), ("unchanged",), ("rate_limited",), ("failed",)),
)
BUDGET_LEFT = Instrument(
    Kind.GAUGE,
    "chatrelaybot.slack.budget.left",
    "{call}",
    "Calls that Slack's rate limits allow at once; below 0: owed",
    ("method",),
)
RETRY_AFTER = Instrument(
    Kind.COUNTER,
    "chatrelaybot.slack.retry_after",
    "s",
    "Seconds that Slack told us to wait",
    ("method",),
)
RUNNING = Instrument(
    Kind.GAUGE, "chatrelaybot.questions.running", "{question}", "Questions being answered here"
)
WAITING = Instrument(
    Kind.GAUGE, "chatrelaybot.questions.waiting", "{question}", "Questions waiting in the inbox"
)
BURIED = Instrument(
    Kind.GAUGE,
    "chatrelaybot.questions.buried",
    "{question}",
    "Questions given up and kept (`chatrelaybot inbox list`)",
)
OLDEST_WAIT = Instrument(
    Kind.GAUGE, "chatrelaybot.queue.oldest", "s", "How long the oldest waiting question waits"
)
WORKERS = Instrument(
    Kind.GAUGE, "chatrelaybot.workers.limit", "{worker}", "Questions that may be answered at once"
)
LINK_UP = Instrument(
    Kind.GAUGE, "chatrelaybot.link.up", "{link}", "1 while the link to Slack is up, else 0"
)
LINK_DOWN_TIME = Instrument(
    Kind.TOTAL, "chatrelaybot.link.downtime", "s", "Time without a link to Slack"
)
RECONNECTS = Instrument(
    Kind.COUNTER,
    "chatrelaybot.link.reconnects",
    "{link}",
    "Links that had to be replaced, and tries that failed",
    ("reason",),
)
DATABASE_UP = Instrument(
    Kind.GAUGE, "chatrelaybot.database.up", "{database}", "1 while the database can be written"
)
DATABASE_WAITING = Instrument(
    Kind.GAUGE, "chatrelaybot.database.waiting", "{write}", "Writes that wait for a commit"
)
COMMIT_DURATION = Instrument(
    Kind.HISTOGRAM,
    "db.client.operation.duration",
    "s",
    "Transactions of the inbox, each of one or more writes",
    ("db.system.name", "db.operation.name", "error.type"),
)

INSTRUMENTS = tuple(value for value in vars().copy().values() if isinstance(value, Instrument))


class Words:
    """Keeps an attribute whose values come from outside to a few: to the first ones."""

    def __init__(self, most: int = 30) -> None:
        self._most = most
        self._known: frozenset[str] = frozenset()

    def of(self, word: str) -> str:
        """Return the word if it is one of the first, and short; else "other"."""
        if word in self._known:
            return word
        if len(self._known) >= self._most or not _WORD.fullmatch(word):
            return "other"
        # Two threads may let each other's word go once; it comes back with the next.
        self._known |= {word}
        return word


class Sink(Protocol):
    """Where measurements go. Safe for any number of threads; never waits for anybody."""

    def count(self, instrument: Instrument, amount: float, attributes: Attributes) -> None:
        """Add to a counter."""

    def record(self, instrument: Instrument, value: float, attributes: Attributes) -> None:
        """Put a value into a histogram."""

    def observe(self, instrument: Instrument, read: Read) -> None:
        """Ask `read` whenever somebody wants to know; it must not wait, nor raise."""


class Metrics:
    """Passes measurements on to all sinks; without any it costs next to nothing."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def count(
        self, instrument: Instrument, amount: float = 1.0, attributes: Attributes | None = None
    ) -> None:
        """Add to a counter."""
        for sink in self._sinks:
            sink.count(instrument, amount, attributes or {})

    def record(
        self, instrument: Instrument, value: float, attributes: Attributes | None = None
    ) -> None:
        """Put a value into a histogram."""
        for sink in self._sinks:
            sink.record(instrument, value, attributes or {})

    def observe(self, instrument: Instrument, read: Read) -> None:
        """Ask `read` whenever somebody wants to know; it must not wait, nor raise."""
        for sink in self._sinks:
            sink.observe(instrument, read)


#: For whoever measures nothing.
SILENT = Metrics()
