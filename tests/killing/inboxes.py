"""What the inbox has of a question, read beside the daemon that owns it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from chatrelaybot.database import Database
from chatrelaybot.errors import TransientError
from tests.elapsing import elapse

#: Longer than a lease; seconds.
_LEASE_SECONDS = 16.0
#: Until a first daemon has made the tables; seconds.
_OPEN_SECONDS = 20.0

Row = Mapping[str, Any]


class InboxView:
    """Looks into a database. For one thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url=url)
        self._is_open = False

    @classmethod
    def in_directory(cls, directory: Path) -> InboxView:
        """Return the view of an SQLite file that is to be there."""
        return cls(f"sqlite:///{directory}/inbox.sqlite3")

    def close(self) -> None:
        self._database.close()

    def question(self, key: str) -> Row | None:
        """Return the row of a question; None: it is not stored."""
        rows = self._rows("SELECT * FROM questions WHERE id = :key", key)
        return rows[0] if rows else None

    def parts(self, key: str) -> Sequence[Row]:
        """Return what is known of the messages of its reply."""
        return self._rows("SELECT * FROM reply_parts WHERE question_id = :key ORDER BY part", key)

    def is_done(self, key: str) -> bool:
        query = text("SELECT state FROM questions WHERE id = :key")
        self._open()
        state = self._database.read(lambda connection: connection.scalar(query, {"key": key}))
        return bool(state == "done")

    def let_leases_end(self) -> None:
        """Let as much time pass as a lease takes, where a successor has to wait for that."""
        if self._database.is_shared:
            self._open()
            elapse(self._database, _LEASE_SECONDS)

    def _rows(self, query: str, key: str) -> Sequence[Row]:
        def read(connection: Connection) -> Sequence[Row]:
            return [dict(row) for row in connection.execute(text(query), {"key": key}).mappings()]

        self._open()
        return self._database.read(read)

    def _open(self) -> None:
        deadline = time.monotonic() + _OPEN_SECONDS
        while not self._is_open:
            try:
                self._database.open(as_owner=False)
                self._is_open = True
            except TransientError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
