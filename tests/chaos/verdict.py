"""What became of each question, judged by what the workspace has seen. Pure.

Moments are time.monotonic() of the workspace.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chatrelaybot.playground.messages import StoredMessage
from tests.chaos.inboxes import Row

#: What a reply shows before it has any text.
PLACEHOLDER = "_Thinking…_"
#: Doubled parts can be read in many ways; more than so many are not looked at.
_MOST_READINGS = 1_000


class Fault(enum.StrEnum):
    """What may be wrong with the reply to a question, as the columns of the table say it."""

    UNANSWERED = "unanswered"
    DOUBLED = "doubled"
    OUT_OF_ORDER = "out of order"
    NOT_EXACT = "finals not exact"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was asked, and the answer of the backend to it."""

    number: int
    id: str  #: as the daemon calls it
    conversation: int
    channel: str
    thread_ts: str | None
    ts: str
    at: float
    text: str  #: the answer


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of it."""

    asked: Asked
    messages: tuple[StoredMessage, ...]  #: of its reply, deleted ones too, oldest first
    sent_at: float | None  #: when its event first went out
    acked_at: float | None
    row: Row | None  #: in the inbox
    has_reaction: bool = False  #: the bot has left one on the question

    @property
    def is_handed_over(self) -> bool:
        """Whether the bot ever had it. Once acked it counts, wherever it may be now."""
        return self.acked_at is not None or self.row is not None or bool(self.messages)

    @property
    def visible(self) -> Mapping[int, Sequence[StoredMessage]]:
        """What readers see in the end, by the number of the part."""
        parts: dict[int, list[StoredMessage]] = defaultdict(list)
        for message in self.messages:
            if not message.deleted:
                parts[part_of(message)].append(message)
        return dict(sorted(parts.items()))

    @property
    def begun_at(self) -> float:
        """When the first message of the reply was posted."""
        return min((message.versions[0].at for message in self.messages), default=math.inf)

    @property
    def final_at(self) -> float:
        """When the whole final text was first on show; never, where it is not."""
        shown = self._shown
        if not is_exact(shown, self.asked.text):
            return math.inf
        return max(_first_shown(self.messages, part, text) for part, text in enumerate(shown))

    @property
    def was_overwritten(self) -> bool:
        """Whether a final made way for something else for a time."""
        return any(
            _is_overwritten(message)
            for message in self.messages
            if not message.deleted and is_exact(self._shown, self.asked.text)
        )

    @property
    def _shown(self) -> Sequence[str]:
        return [messages[-1].shown for messages in self.visible.values()]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    fate: Fate
    words: str
    earlier: Fate | None = None  #: the question that should have been first


@dataclass(frozen=True, slots=True)
class Verdict:
    """All of it."""

    questions: int
    answered_once: int
    not_handed_over: int
    ordered_pairs: int  #: how many times an order was promised
    longest_seconds: float  #: from a question to its final
    findings: tuple[Finding, ...]

    def count(self, fault: Fault) -> int:
        """Return how many questions have this fault."""
        return len({found.fate.asked.id for found in self.findings if found.fault is fault})

    @property
    def is_good(self) -> bool:
        return not self.findings


def judge(fates: Sequence[Fate]) -> Verdict:
    """Judge all questions of a storm."""
    handed_over = [fate for fate in fates if fate.is_handed_over]
    pairs = list(_promised(handed_over))
    findings = [found for fate in handed_over for found in _wrong_with(fate)]
    findings += [found for pair in pairs if (found := _out_of_order(*pair))]
    faulty = {found.fate.asked.id for found in findings if found.fault is not Fault.OUT_OF_ORDER}
    finals = [fate.final_at - fate.asked.at for fate in handed_over if fate.final_at < math.inf]
    return Verdict(
        questions=len(fates),
        answered_once=len(handed_over) - len(faulty),
        not_handed_over=len(fates) - len(handed_over),
        ordered_pairs=len(pairs),
        longest_seconds=max(finals, default=0.0),
        findings=tuple(findings),
    )


def part_of(message: StoredMessage) -> int:
    """Return which part of its reply a message says it is; -1 where it does not say."""
    payload = (message.metadata or {}).get("event_payload") or {}
    part = payload.get("part")
    return part if isinstance(part, int) else -1


def is_exact(shown: Sequence[str], text: str) -> bool:
    """Say whether the parts are the text, of which only white space at the cuts may be missing."""
    if len(shown) == 1:
        return shown[0] == text
    place = 0
    for part in shown:
        place += len(text[place:]) - len(text[place:].lstrip())
        if not part.strip() or not text.startswith(part, place):
            return False
        place += len(part)
    return bool(shown) and not text[place:].strip()


def _wrong_with(fate: Fate) -> list[Finding]:
    visible = fate.visible
    texts = {message.shown for messages in visible.values() for message in messages}
    if fate.row is None or not fate.row.is_settled:
        state = "is not in the inbox" if fate.row is None else f"is still {fate.row.state}"
        return [Finding(Fault.UNANSWERED, fate, f"it {state}")]
    if texts <= {PLACEHOLDER}:
        return [Finding(Fault.UNANSWERED, fate, f"readers see {' '.join(texts) or 'nothing'}")]
    findings = []
    doubled = {part: len(messages) for part, messages in visible.items() if len(messages) > 1}
    if doubled:
        told = ", ".join(f"{count} of part {part}" for part, count in doubled.items())
        findings.append(Finding(Fault.DOUBLED, fate, f"readers see {told}"))
    if not any(is_exact(shown, fate.asked.text) for shown in _readings(visible)):
        parts = ", ".join(f"{part}: {len(each[-1].shown)}" for part, each in visible.items())
        words = f"{len(fate.asked.text)} characters are due, the parts have {parts}"
        findings.append(Finding(Fault.NOT_EXACT, fate, words))
    return findings


def _readings(visible: Mapping[int, Sequence[StoredMessage]]) -> Iterator[tuple[str, ...]]:
    """Yield the ways to read a reply, of which a doubled part has several."""
    texts = [sorted({message.shown for message in messages}) for messages in visible.values()]
    if [*visible] == [*range(len(visible))]:
        yield from itertools.islice(itertools.product(*texts), _MOST_READINGS)


def _promised(fates: Sequence[Fate]) -> Iterator[tuple[Fate, Fate]]:
    """Yield the pairs whose earlier one was acked before the later one was sent."""
    conversations: dict[int, list[Fate]] = defaultdict(list)
    for fate in sorted(fates, key=lambda fate: fate.asked.at):
        conversations[fate.asked.conversation].append(fate)
    for conversation in conversations.values():
        for earlier, later in itertools.combinations(conversation, 2):
            if _is_before(earlier.acked_at, later.sent_at):
                yield earlier, later


def _is_before(earlier: float | None, later: float | None) -> bool:
    return earlier is not None and later is not None and earlier <= later


def _out_of_order(earlier: Fate, later: Fate) -> Finding | None:
    # Where the earlier one has no final, that is what is wrong.
    if math.isinf(earlier.final_at) or earlier.final_at <= later.begun_at:
        return None
    seconds = earlier.final_at - later.begun_at
    words = f"begun {seconds:.3f} s before question {earlier.asked.number} had its final"
    return Finding(Fault.OUT_OF_ORDER, later, words, earlier)


def _is_overwritten(message: StoredMessage) -> bool:
    """Say whether its last text was shown before, and another one in between."""
    runs = [text for text, _ in itertools.groupby(version.shown for version in message.versions)]
    return runs.count(message.shown) > 1


def _first_shown(messages: Sequence[StoredMessage], part: int, text: str) -> float:
    moments = [
        version.at
        for message in messages
        if part_of(message) == part
        for version in message.versions
        if version.shown == text
    ]
    return min(moments, default=math.inf)
