"""Hearing of submissions to a file, and of changes in it: whoever waits looks often, which costs next to nothing."""

from typing import Final

from sqlite_utils import Database

from szal.clock import monotonic
from szal.errors import StoreError
from szal.stores.listening import ChangeListener, Listener
from szal.stores.sqlite.connection import SharedConnection
from szal.waiters import Flag

__all__ = ["SqliteChanges", "SqliteListener"]

_LOOK_EVERY: Final = 0.02
"""Seconds. To look whether anything is due takes some 50 µs, whether anything was written 10 µs."""

_TRY_AGAIN_AFTER: Final = 0.5
"""Seconds, where the file cannot be read."""


class SqliteListener(Listener):
    """Says that something may have happened, again and again: no file tells whoever has it open."""

    def __init__(self) -> None:
        self._is_closed = Flag()

    def wait(self, timeout: float) -> None:
        self._is_closed.wait(min(timeout, _LOOK_EVERY))

    def close(self) -> None:
        self._is_closed.set()


class SqliteChanges(ChangeListener):
    """Asks SQLite, again and again, whether anybody has written to the file since; of what, it does not know.

    On *connection* nobody else writes, if *is_own*; else what is written through it counts as well.
    """

    def __init__(self, connection: SharedConnection, *, is_own: bool) -> None:
        self._connection = connection
        self._is_own = is_own
        self._last: object = None
        self._is_closed = Flag()

    def attend(self, execution_id: str) -> None:
        """Do nothing: nobody need tell."""

    def wait(self, timeout: float) -> tuple[str, ...] | None:
        until = monotonic() + timeout
        while not self._is_closed.is_set():
            try:
                found = self._connection.use(_written)
            except StoreError:
                self._is_closed.wait(min(timeout, _TRY_AGAIN_AFTER))
                return None
            if found != self._last:
                self._last = found
                return None
            left = until - monotonic()
            if left <= 0:
                return ()
            self._is_closed.wait(min(left, _LOOK_EVERY))
        if self._is_own:
            self._connection.close()
        return ()

    def close(self) -> None:
        self._is_closed.set()


def _written(db: Database) -> object:
    """Return what is another value after each write: of other connections, or through this one."""
    (version,) = db.conn.execute("PRAGMA data_version").fetchone()
    return id(db), version, db.conn.total_changes
