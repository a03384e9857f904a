"""What the instances that share a database tell each other: who is there, and what went astray."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Float, and_, bindparam, delete, func, select

from chatrelaybot.database import Database
from chatrelaybot.schema import State, instances, questions, reply_parts, strays
from chatrelaybot.statements import NOW

#: An instance that was not heard of for so long is gone; seconds.
GONE_SECONDS = 15.0

_seconds = bindparam("seconds", type_=Float)
_COUNT = select(func.count()).where(instances.c.seen_at > NOW - _seconds)
_FORGET_GONE = delete(instances).where(instances.c.seen_at < NOW - 4.0 * _seconds)
_STRAYS = (
    select(
        strays.c.question_id,
        strays.c.ts,
        (NOW - strays.c.noted_at).label("age"),
        questions.c.state,
        questions.c.owner,
        questions.c.channel,
        questions.c.ts.label("question_ts"),
        reply_parts.c.part,
    )
    .outerjoin(questions, questions.c.id == strays.c.question_id)
    .outerjoin(
        reply_parts,
        and_(
            reply_parts.c.question_id == strays.c.question_id,
            reply_parts.c.ts == strays.c.ts,
        ),
    )
)
_FORGET_STRAY = delete(strays).where(
    strays.c.question_id == bindparam("key"), strays.c.ts == bindparam("gone")
)


@dataclass(frozen=True, slots=True)
class Stray:
    """A message in Slack that an instance wrote into after its lease had ended.

    Where `ts` is that of the question, it is our reaction to it.
    """

    question_id: str
    ts: str
    age: float  #: seconds since it was noted
    channel: str | None  #: None: the question is purged
    owner: str | None  #: who is answering the question, or settled it
    is_settled: bool  #: nobody writes the reply any more
    is_question: bool  #: it is the question itself, which has our reaction
    is_part: bool  #: it is a part of the reply, and may show an old text; else it is too many


class Fleet:
    """This instance among the others. Every method raises TransientError as the inbox's do."""

    def __init__(self, *, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._beat = (
            database.insert(instances)
            .values(id=owner, seen_at=NOW)
            .on_conflict_do_update(index_elements=[instances.c.id], set_={"seen_at": NOW})
        )
        self._note = database.insert(strays).values(noted_at=NOW).on_conflict_do_nothing()

    @property
    def owner(self) -> str:
        """The name of this instance."""
        return self._owner

    def beat(self) -> int:
        """Say that we are here; return how many instances there are, with us."""
        values = {"seconds": GONE_SECONDS}

        def beat(connection: Connection) -> int:
            connection.execute(self._beat)
            connection.execute(_FORGET_GONE, values)
            return connection.scalar(_COUNT, values) or 1

        return self._database.write(beat)

    def leave(self) -> None:
        """Say that we are gone."""
        gone = delete(instances).where(instances.c.id == self._owner)
        self._database.write(lambda connection: connection.execute(gone))

    def note_stray(self, question_id: str, ts: str) -> None:
        """Note a message that we wrote into although the question may not have been ours."""
        values = {"question_id": question_id, "ts": ts}
        self._database.write(lambda connection: connection.execute(self._note, values))

    def strays(self) -> list[Stray]:
        """Return all that went astray, whoever noted it."""
        rows = self._database.read(lambda connection: connection.execute(_STRAYS).all())
        return [
            Stray(
                question_id=row.question_id,
                ts=row.ts,
                age=row.age,
                channel=row.channel,
                owner=row.owner,
                is_settled=row.state in (State.DONE, State.DEAD),
                is_question=row.ts == row.question_ts,
                is_part=row.part is not None,
            )
            for row in rows
        ]

    def forget_stray(self, stray: Stray) -> None:
        """Forget one that is put right."""
        values = {"key": stray.question_id, "gone": stray.ts}
        self._database.write(lambda connection: connection.execute(_FORGET_STRAY, values))
