"""What happens and when, drawn by chance from a seed. Pure: the same seed, the same plan.

Times are seconds since the start of the storm.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Engine = Literal["sqlite", "postgres"]
Blow = Literal["kill", "freeze", "deploy"]
#: Ways to cut a link, and reasons with which Slack says that it will be cut.
LinkTrouble = Literal[
    "close_frame", "fin", "reset", "silence", "no_pong", "warning", "refresh_requested"
]

#: How often each thing happens for so many questions; fewer questions, fewer of each.
_FULL_SIZE = 800
_COUNTS = {"kill": 22, "freeze": 8, "deploy": 5, "link": 20, "slack": 90, "database": 3}
_LEAST_KILLS = 2
#: Questions of one conversation, on average; and conversations.
_IN_CONVERSATION, _LEAST_CONVERSATIONS = 8, 8
#: Seconds of asking for each question: Slack takes 200 posts a minute, and answers are not all.
_ASKING_SECONDS = 0.36
#: How much of the time of a process is free of blows, at least.
_CALM_SHARE = 0.25
#: Seconds until a process that was started is at work.
_START_SECONDS = 2.5
#: Seconds in which a process posts something, if it is to be killed while it does.
POST_SECONDS = 4.0
#: Share of the events that are delivered again, and the longest time until then in seconds.
_REDELIVERED, _REDELIVERED_SECONDS = 0.2, 60.0
#: Share of the mentions that come as two events.
_TWINS = 0.1
#: One kill in so many happens while a post is under way, or just after a freeze.
_KILLS_TO_ONE_IN_A_POST, _KILLS_TO_ONE_AFTER_A_FREEZE = 3, 8

_METHODS = (
    "chat.postMessage",
    "chat.postMessage",
    "chat.update",
    "chat.update",
    "chat.delete",
    "conversations.replies",
)
#: A call that takes effect long after its sender died cannot be foreseen by anybody, so what comes
#: before the effect is short.
_TROUBLES: tuple[dict[str, Any], ...] = (
    {"status": 503, "times": 2},
    {"status": 500},
    {"status": 503, "has_effect": True},
    {"cut": "after"},
    {"cut": "after", "times": 2},
    {"cut": "before"},
    {"delay": 0.5, "times": 3},
    {"answer_delay": 1.5, "times": 3},
    {"answer_delay": 5.0},
)
_LINK_TROUBLES: tuple[LinkTrouble, ...] = get_args(LinkTrouble)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question to be asked."""

    at: float
    number: int
    conversation: int
    is_twin: bool


@dataclass(frozen=True, slots=True)
class Redelivery:
    """The event of a question once more."""

    at: float
    number: int


@dataclass(frozen=True, slots=True)
class Strike:
    """What befalls one process."""

    at: float
    blow: Blow
    process: int
    seconds: float  #: kill: until it is started again; freeze: how long; deploy: nothing
    is_in_post: bool = False  #: kill: while a post of it is under way
    kill_after: float | None = None  #: freeze: killed so many seconds after it goes on
    is_overlapping: bool = False  #: deploy: the successor starts before the end of the old one


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of Slack's: `fault` are arguments of `Faults.add`."""

    at: float
    method: str
    fault: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """Trouble with all links: how they are cut, or why Slack says it will cut them."""

    at: float
    how: LinkTrouble


@dataclass(frozen=True, slots=True)
class Outage:
    """The database is away, or its file is locked."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole storm. Every list is ordered by time."""

    seed: int
    engine: Engine
    seconds: float  #: how long questions are asked and things go wrong
    process_count: int
    conversation_count: int
    askings: tuple[Asking, ...]
    redeliveries: tuple[Redelivery, ...]
    strikes: tuple[Strike, ...]
    troubles: tuple[Trouble, ...]
    cuts: tuple[Cut, ...]
    outages: tuple[Outage, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind of fault is to happen."""
        blows = Counter(strike.blow for strike in self.strikes)
        after_freezes = sum(strike.kill_after is not None for strike in self.strikes)
        return {
            "kill": blows["kill"] + after_freezes,
            "freeze": blows["freeze"],
            "deploy": blows["deploy"],
            "link": len(self.cuts),
            "slack": len(self.troubles),
            "database": len(self.outages),
        }


def draw(seed: int, questions: int, engine: Engine) -> Plan:
    """Draw a plan."""
    chance = random.Random(f"{seed}/{questions}/{engine}")
    counts = {
        kind: max(1, math.ceil(count * questions / _FULL_SIZE)) for kind, count in _COUNTS.items()
    }
    counts["kill"] = max(_LEAST_KILLS, counts["kill"])
    processes = 1 if engine == "sqlite" else chance.randint(2, 4)
    conversations = max(_LEAST_CONVERSATIONS, math.ceil(questions / _IN_CONVERSATION))
    blows = _dealt(chance, _blows(chance, counts, engine), processes)
    longest = max(sum(map(busy_seconds, dealt)) for dealt in blows)
    seconds = max(questions * _ASKING_SECONDS, longest / (1 - _CALM_SHARE))
    askings = tuple(_askings(chance, questions, conversations, seconds))
    return Plan(
        seed=seed,
        engine=engine,
        seconds=seconds,
        process_count=processes,
        conversation_count=conversations,
        askings=askings,
        redeliveries=tuple(_redeliveries(chance, askings, seconds)),
        strikes=tuple(sorted(_placed(chance, blows, seconds), key=lambda strike: strike.at)),
        troubles=tuple(_troubles(chance, counts["slack"], seconds)),
        cuts=tuple(_cuts(chance, counts["link"], seconds)),
        outages=tuple(_outages(chance, counts["database"], engine, seconds)),
    )


def _askings(
    chance: random.Random, questions: int, conversations: int, seconds: float
) -> Iterator[Asking]:
    for number, at in enumerate(_times(chance, questions, seconds)):
        yield Asking(
            at=at,
            number=number,
            conversation=chance.randrange(conversations),
            is_twin=chance.random() < _TWINS,
        )


def _redeliveries(
    chance: random.Random, askings: Sequence[Asking], seconds: float
) -> Iterator[Redelivery]:
    again = chance.sample(askings, math.ceil(_REDELIVERED * len(askings)))
    times = [
        min(asking.at + chance.uniform(0.05, _REDELIVERED_SECONDS), seconds) for asking in again
    ]
    for at, asking in sorted(zip(times, again, strict=True), key=lambda pair: pair[0]):
        yield Redelivery(at, asking.number)


def _blows(chance: random.Random, counts: Mapping[str, int], engine: Engine) -> list[Strike]:
    """Draw what befalls processes; when and which process is decided later."""
    kills, freezes = counts["kill"], counts["freeze"]
    after_freeze = min(
        freezes, max(kills >= _LEAST_KILLS * 2, kills // _KILLS_TO_ONE_AFTER_A_FREEZE)
    )
    thaw_kills = [chance.uniform(0.0, 0.05) for _ in range(after_freeze)]
    posting = [number % _KILLS_TO_ONE_IN_A_POST == 0 for number in range(kills - after_freeze)]
    overlaps = [engine == "postgres" and chance.random() < 0.5 for _ in range(counts["deploy"])]
    blows = [
        *(
            Strike(0.0, "freeze", 0, chance.uniform(16.0, 20.0), kill_after=kill_after)
            for kill_after in [*thaw_kills, *[None] * (freezes - after_freeze)]
        ),
        *(Strike(0.0, "kill", 0, chance.uniform(0.05, 1.5), is_in_post=is_in) for is_in in posting),
        *(Strike(0.0, "deploy", 0, 0.0, is_overlapping=is_over) for is_over in overlaps),
    ]
    chance.shuffle(blows)
    return blows


def _dealt(chance: random.Random, blows: list[Strike], processes: int) -> list[list[Strike]]:
    """Deal the blows to the processes, each of which is about as long busy with them."""
    hands: list[list[Strike]] = [[] for _ in range(processes)]
    for blow in sorted(blows, key=busy_seconds, reverse=True):
        min(hands, key=lambda hand: sum(map(busy_seconds, hand))).append(blow)
    for hand in hands:
        chance.shuffle(hand)
    return hands


def _placed(chance: random.Random, hands: list[list[Strike]], seconds: float) -> Iterator[Strike]:
    """Give each blow its time, so that none begins before the one before it is over."""
    for process, hand in enumerate(hands):
        calm = seconds - sum(map(busy_seconds, hand))
        busy = 0.0
        for at, blow in zip(_times(chance, len(hand), calm), hand, strict=True):
            yield replace(blow, at=at + busy, process=process)
            busy += busy_seconds(blow)


def busy_seconds(blow: Strike) -> float:
    """Return how long a process is busy with it, until it is at work again."""
    if blow.blow == "deploy":
        return 2.0 + _START_SECONDS
    is_started = blow.blow == "kill" or blow.kill_after is not None
    return blow.seconds + _START_SECONDS * is_started + POST_SECONDS * blow.is_in_post + 0.5


def _troubles(chance: random.Random, count: int, seconds: float) -> Iterator[Trouble]:
    for at in _times(chance, count, seconds):
        yield Trouble(at, chance.choice(_METHODS), chance.choice(_TROUBLES))


def _cuts(chance: random.Random, count: int, seconds: float) -> Iterator[Cut]:
    kinds = [_LINK_TROUBLES[number % len(_LINK_TROUBLES)] for number in range(count)]
    chance.shuffle(kinds)
    for at, how in zip(_times(chance, count, seconds), kinds, strict=True):
        yield Cut(at, how)


def _outages(chance: random.Random, count: int, engine: Engine, seconds: float) -> Iterator[Outage]:
    """Draw one outage in each of as many equal spans of time."""
    span = seconds / count
    for number in range(count):
        length = chance.uniform(2.0, min(10.0 if engine == "postgres" else 8.0, span / 2))
        yield Outage(span * number + chance.uniform(0.0, span / 2), length)


def _times(chance: random.Random, count: int, seconds: float) -> list[float]:
    return sorted(chance.uniform(0.0, seconds) for _ in range(count))
