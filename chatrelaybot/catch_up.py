"""Looks in Slack for questions that came while no link was up, and puts them into the inbox.

What is not acked Slack sends again for some six minutes, and never after that:
https://docs.slack.dev/apis/events-api/#retries. So after a longer time without a link the
conversations that the bot took part in are read: each known channel, each known thread, and the
threads of what is found in the channels.

That a link is up is noted in the database from time to time, and not while there is something to
be read: whoever dies halfway leaves the whole of it to the next one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chatrelaybot.delivery import elapsed
from chatrelaybot.errors import PermanentError, TransientError
from chatrelaybot.events import Question, Reading, is_mention, parse
from chatrelaybot.inbox import Inbox
from chatrelaybot.inbox_publishing import publish
from chatrelaybot.link import Links
from chatrelaybot.seen_links import Place, SeenLinks
from chatrelaybot.slack import Page, Slack
from chatrelaybot.telemetry_metrics import QUESTIONS, SILENT, Metrics
from chatrelaybot.telemetry_spans import Spans

_log = logging.getLogger(__name__)

#: How often `step` is best called: half of what Slack's Tier 3 lets through. The other half is
#: for the look-ups of answers. Seconds.
STEP_SECONDS = 2.4
#: How often the link is noted; seconds.
_NOTE_SECONDS = 15.0
#: Without a link for longer than this we have missed something: at the start, where an earlier
#: process may have died with what it had received, and later, when Slack has sent everything
#: again but the last time. Seconds.
_GAP_AT_START_SECONDS = 30.0
_GAP_SECONDS = 300.0
#: What is read before the gap: the last note may be too old, and clocks differ. Seconds.
_MARGIN_SECONDS = 60.0
#: Until the next try where nobody says when; seconds.
_RETRY_SECONDS = 30.0
#: Most calls of one catch-up, those that fail too, and most pages of one conversation.
_MOST_CALLS = 60
_MOST_PAGES = 5
#: Most places that are asked for; of more than this none would be read.
_MOST_PLACES = 1_000


@dataclass(slots=True)
class _Visit:
    """One conversation that is being read, a page a step."""

    place: Place
    oldest: str = ""
    cursor: str | None = None
    page_count: int = 0
    questions: list[Question] = field(default_factory=list)


@dataclass(slots=True)
class _Round:
    """One catch-up."""

    since: float  #: seconds since 1970
    began_at: float
    waiting: deque[_Visit] = field(default_factory=deque)
    known: set[tuple[str, str | None]] = field(default_factory=set)  #: channels and threads
    call_count: int = 0
    place_count: int = 0
    question_count: int = 0

    def visit(self, place: Place, *, is_next: bool = False) -> None:
        """Have a place read, once."""
        key = (place.channel, place.thread_ts)
        if key in self.known:
            return
        self.known.add(key)
        if is_next:
            self.waiting.appendleft(_Visit(place))
        else:
            self.waiting.append(_Visit(place))

    def leave(self, channel: str) -> None:
        """Read no more of a channel."""
        self.waiting = deque(v for v in self.waiting if v.place.channel != channel)


class CatchUp:
    """One thread calls `step` over and over; a step makes one call at most."""

    def __init__(
        self,
        *,
        slack: Slack,
        inbox: Inbox,
        seen_links: SeenLinks,
        reading: Reading,
        links: Links,
        minutes: float,
        retention_hours: float,
        spans: Spans,
        metrics: Metrics = SILENT,
        clock: Callable[[], float] = elapsed,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is asked that is older than `minutes`; 0: nothing is looked for.

        What the inbox has forgotten would be asked again, so that is the other limit. `now` is in
        seconds since 1970, as Slack's `ts` are.
        """
        self._slack = slack
        self._inbox = inbox
        self._link_times = seen_links
        self._reading = reading
        self._links = links
        self._most_seconds = min(minutes * 60.0, retention_hours * 3600.0)
        self._spans = spans
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._gap_seconds = _GAP_AT_START_SECONDS
        self._round: _Round | None = None
        self._due = self._up_at = clock()

    def answer_in(self, channels: frozenset[str]) -> None:
        """Take questions from these channels only, from now on; none: from all."""
        self._reading = replace(self._reading, channels=channels)

    def step(self) -> None:
        """Note that the link is up, or read the next page of what was missed.

        Raises:
            ConfigurationError: Slack refuses our token.
        """
        # What cannot be stored is not acked, so time without the database is as one without a link.
        if not self._links.is_up or not self._link_times.is_writable:
            return
        now = self._clock()
        if now - self._up_at > _GAP_SECONDS:
            self._round = None  # There is something new in what was read already.
        self._up_at = now
        if now >= self._due:
            self._advance()

    def _advance(self) -> None:
        try:
            round_ = self._round = self._round or self._begin()
            if round_ is None:
                self._note()
                return
            if round_.waiting and round_.call_count < _MOST_CALLS:
                self._read(round_)
            if not round_.waiting or round_.call_count >= _MOST_CALLS:
                self._end(round_)
        except TransientError as error:
            seconds = max(STEP_SECONDS, error.retry_after or _RETRY_SECONDS)
            self._due = self._clock() + seconds
            _log.warning(
                "catching up put off", extra={"error": str(error), "retry_seconds": seconds}
            )

    def _begin(self) -> _Round | None:
        """Begin a catch-up if something may have been missed."""
        if self._most_seconds <= 0.0:
            return None
        gap = self._link_times.seen_ago()
        if gap is None or gap <= self._gap_seconds:
            self._gap_seconds = _GAP_SECONDS
            return None
        places = self._link_times.places(_MOST_PLACES)
        self._gap_seconds = _GAP_SECONDS
        round_ = _Round(since=self._now() - gap - _MARGIN_SECONDS, began_at=self._clock())
        channels = self._reading.channels
        direct = {place.channel for place in places if place.is_direct}
        for place in places:
            if not channels or place.channel in channels:
                is_direct = place.channel in direct
                round_.visit(Place(place.channel, None, is_direct))
                round_.visit(Place(place.channel, place.thread_ts, is_direct))
        return round_

    def _note(self) -> None:
        self._link_times.note()
        self._due = self._clock() + _NOTE_SECONDS

    def _read(self, round_: _Round) -> None:
        """Read a page of the next place; one where that fails now comes last."""
        visit = round_.waiting.popleft()
        place = visit.place
        round_.call_count += 1
        self._due = self._clock() + STEP_SECONDS
        try:
            is_over = self._turn_page(round_, visit)
        except PermanentError as error:
            _log.warning(
                "conversation not caught up", extra={"channel": place.channel, "error": str(error)}
            )
            if place.thread_ts is None:
                round_.leave(place.channel)
        except TransientError:
            round_.waiting.append(visit)
            raise
        else:
            if is_over:
                round_.place_count += 1
            else:
                round_.waiting.appendleft(visit)

    def _turn_page(self, round_: _Round, visit: _Visit) -> bool:
        """Read one page; once there are no more, store what was found and return True."""
        place = visit.place
        # However long it took to get here.
        visit.oldest = visit.oldest or _ts(max(round_.since, self._now() - self._most_seconds))
        page = self._slack.said_since(
            place.channel, place.thread_ts, oldest=visit.oldest, cursor=visit.cursor
        )
        self._sort(round_, visit, page)
        if page.cursor is not None and visit.page_count + 1 < _MOST_PAGES:
            visit.page_count += 1
            visit.cursor = page.cursor
            return False
        if page.cursor is not None:
            _log.warning("long conversation not wholly caught up", extra={"channel": place.channel})
        round_.question_count += self._store(visit.questions)
        return True

    def _sort(self, round_: _Round, visit: _Visit, page: Page) -> None:
        """Keep the questions of a page, and find the threads that go on from it."""
        place = visit.place
        for message in page.messages:
            question = self._question(message, place)
            if question is not None and question.ts > visit.oldest:
                visit.questions.append(question)
            is_ours = message.get("bot_id") == self._reading.identity.bot_id
            thread_ts = message.get("thread_ts")
            if thread_ts is not None and (question is not None or is_ours):
                round_.visit(Place(place.channel, thread_ts, place.is_direct), is_next=True)

    def _question(self, message: Mapping[str, Any], place: Place) -> Question | None:
        question = parse(_envelope(message, place, self._reading), self._reading)
        return question if isinstance(question, Question) else None

    def _store(self, questions: Iterable[Question]) -> int:
        """Enqueue questions, oldest first; return how many of them are new."""
        ordered = sorted(questions, key=lambda question: question.ts)
        published = publish(self._inbox, self._spans, [(question, None) for question in ordered])
        new = [each for each in published if each.is_new]
        for each in new:  # All the others were known, which is no news.
            self._metrics.count(QUESTIONS, attributes={"result": each.result.value})
            each.span.end()
        return len(new)

    def _end(self, round_: _Round) -> None:
        self._note()
        self._round = None
        if round_.waiting:
            _log.warning(
                "conversations left out of catching up", extra={"places": len(round_.waiting)}
            )
        _log.info(
            "caught up",
            extra={
                "questions": round_.question_count,
                "places": round_.place_count,
                "seconds": self._clock() - round_.began_at,
            },
        )


def _ts(seconds: float) -> str:
    """Return a time as Slack writes it."""
    return f"{seconds:.6f}"


def _envelope(message: Mapping[str, Any], place: Place, reading: Reading) -> dict[str, Any]:
    """Return what Slack would have sent, or has sent, when the message was written."""
    team_id = reading.identity.team_id
    event = {**message, "channel": place.channel, "type": "message", "channel_type": "channel"}
    if event.get("thread_ts") == event.get("ts"):
        event.pop("thread_ts", None)  # The thread came later.
    if place.is_direct:
        event["channel_type"] = "im" if place.channel.startswith("D") else "mpim"
    elif is_mention(message, reading):
        event["type"] = "app_mention"
    event_id = f"catch-up:{team_id}:{place.channel}:{message.get('ts')}"
    payload = {"event_id": event_id, "team_id": team_id, "event": event}
    return {"type": "events_api", "payload": payload}
