"""What the database knows about links: when one was last up, and where questions came from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, cast, func, select

from chatrelaybot.database import Database
from chatrelaybot.schema import link_times, questions
from chatrelaybot.statements import NOW

_l = link_times.c
_q = questions.c

_SEEN_AGO = select(NOW - _l.seen_at).where(_l.team_id == bindparam("team"))

#: All of a workspace's questions are read, and their texts are not: there are 100,000 at most
#: where this is asked, at the start and after an outage.
_PLACES = (
    select(_q.channel, _q.thread_ts, func.max(cast(_q.is_direct, Integer)).label("is_direct"))
    .where(_q.team_id == bindparam("team"))
    .group_by(_q.channel, _q.thread_ts)
    .order_by(func.max(_q.ts).desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where replies went: a thread, or with None for it a channel outside threads."""

    channel: str
    thread_ts: str | None
    is_direct: bool


class SeenLinks:
    """What is known of one workspace. All methods raise TransientError where the database does."""

    def __init__(self, *, database: Database, team_id: str) -> None:
        self._database = database
        self._team_id = team_id
        insert = database.insert(link_times).values(team_id=team_id, seen_at=NOW)
        self._note = insert.on_conflict_do_update(
            index_elements=[_l.team_id], set_={"seen_at": insert.excluded.seen_at}
        )

    @property
    def is_writable(self) -> bool:
        """Whether the last write to the database went well, whoever's it was.

        Somebody must be writing all the time, as the heartbeat does.
        """
        return self._database.is_storing

    def seen_ago(self) -> float | None:
        """Return the seconds since any instance last had a link; None where none ever had."""
        values = {"team": self._team_id}
        seconds = self._database.read(lambda connection: connection.scalar(_SEEN_AGO, values))
        return None if seconds is None else max(0.0, seconds)

    def note(self) -> None:
        """Note that there is a link now."""
        self._database.write(lambda connection: connection.execute(self._note))

    def places(self, limit: int) -> list[Place]:
        """Return where questions in the inbox are answered, answered ones too; latest first."""
        values = {"team": self._team_id, "most": limit}
        rows = self._database.read(lambda connection: connection.execute(_PLACES, values).all())
        return [Place(row.channel, row.thread_ts, bool(row.is_direct)) for row in rows]
