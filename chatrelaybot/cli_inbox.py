"""What `chatrelaybot inbox` prints."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence

from chatrelaybot.errors import TransientError
from chatrelaybot.inbox_desk import Entry, InboxDesk, Listing, Standing

_HEADER = ("ID", "STATE", "AGE", "TRIES", "CRASHES", "CHANNEL", "USER", "REASON")
#: So many characters of an id tell one question from another.
_SHORT_ID = 12
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def show(desk: InboxDesk, *, limit: int, has_answered: bool, is_json: bool) -> None:
    """Print the questions, the oldest first, and how many there are."""
    listing = desk.list(limit=limit, has_answered=has_answered)
    if is_json:
        sys.stdout.writelines(f"{_json(entry)}\n" for entry in listing.entries)
        if listing.left_out:
            sys.stderr.write(f"chatrelaybot: {_left_out(listing)}\n")
        return
    if listing.entries:
        sys.stdout.writelines(f"{line}\n" for line in _table(listing.entries))
    if listing.left_out:
        sys.stdout.write(f"… {_left_out(listing)}\n")
    counts = (f"{count} {standing}" for standing, count in listing.counts.items())
    sys.stdout.write(f"{' · '.join(counts)}\n")


def retry(desk: InboxDesk, prefix: str) -> None:
    """Let a question be tried again, and say so."""
    sys.stdout.write(f"{desk.retry(prefix)} will be tried as soon as its turn comes\n")


def purge(desk: InboxDesk, *, hours: float, is_sure: bool) -> bool:
    """Delete buried questions, after a question to whoever sits there; False: not wanted."""
    older_than = hours * 3600.0
    if not is_sure and sys.stdin.isatty() and not _is_wanted(desk, older_than):
        sys.stderr.write("Nothing was deleted.\n")
        return False
    count = desk.purge(older_than=older_than)
    sys.stdout.write(f"{_buried(count)} deleted\n")
    if count:
        try:
            desk.clear_away()
        except TransientError as error:
            sys.stderr.write(f"chatrelaybot: traces of them may be left for now: {error}\n")
    return True


def _is_wanted(desk: InboxDesk, older_than: float) -> bool:
    count = desk.count_buried(older_than=older_than)
    if not count:
        return True  # There is nothing to be asked about.
    try:
        sys.stderr.write(f"Delete {_buried(count)} for good? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return False


def _buried(count: int) -> str:
    return f"{count} buried {'question' if count == 1 else 'questions'}"


def _left_out(listing: Listing) -> str:
    return f"{listing.left_out} more are not shown; a larger --limit shows them"


def _table(entries: Sequence[Entry]) -> list[str]:
    rows = [_HEADER, *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.id[:_SHORT_ID],
        entry.standing,
        _span(entry.age),
        str(entry.attempt),
        str(entry.crash_count),
        entry.channel,
        entry.user_id,
        _reason(entry),
    )


def _reason(entry: Entry) -> str:
    if entry.standing is not Standing.WAITING:
        return entry.outcome or ""
    if entry.is_refused:
        return "too many waited when it came"
    if not entry.has_turn:
        return "after another of its conversation"
    return f"next try in {_span(entry.ready_in)}" if entry.ready_in else ""


def _span(seconds: float) -> str:
    """Show a time in the largest unit of which it holds one."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{int(seconds / size)}{unit}"


def _json(entry: Entry) -> str:
    values = {
        "id": entry.id,
        "state": entry.standing,
        "received_at": _utc(entry.received_at),
        "age_seconds": round(entry.age, 3),
        "attempt": entry.attempt,
        "crash_count": entry.crash_count,
        "team_id": entry.team_id,
        "channel": entry.channel,
        "thread_ts": entry.thread_ts,
        "ts": entry.ts,
        "user_id": entry.user_id,
        "next_try_in_seconds": round(entry.ready_in, 3),
        "has_turn": entry.has_turn,
        "is_refused": entry.is_refused,
        "outcome": entry.outcome,
        "finished_at": None if entry.finished_at is None else _utc(entry.finished_at),
    }
    return json.dumps(values, ensure_ascii=False)


def _utc(moment: float) -> str:
    time = datetime.datetime.fromtimestamp(moment, tz=datetime.UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
