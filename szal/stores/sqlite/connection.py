"""SQLite connections, shared by threads, carried over faults and forks, with their errors translated."""

import itertools
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import attrs
from sqlite_utils import Database
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from szal import process_events
from szal.errors import NotMigrated, StoreClosed, StoreError, StoreFailed, StoreUnavailable
from szal.stores.structure import COLUMNS
from szal.stores.url import SqliteFile

__all__ = [
    "LOCKED",
    "Readers",
    "SharedConnection",
    "as_it_comes",
    "code_of",
    "leave_to_parent",
    "opened",
    "translated",
    "wrap",
]

Made = TypeVar("Made")
Opened = TypeVar("Opened", bound=sqlite3.Connection)

# Besides sqlite3.Error: a value that is too long for SQLite, and text that is not UTF-8.
_DRIVER_ERRORS = (sqlite3.Error, OverflowError, UnicodeError)
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_WHO_LOCKS = "another connection to it has a transaction open, perhaps this program's own (as with ATOMIC_REQUESTS)"
# What may get better by itself, but perhaps only for a new connection: one that was opened while the file
# was read-only stays so, and one that met an I/O error may hold half a transaction.
_AILING = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_MISSING = re.compile(r"(?:no such|table szal_\w+ has no) (?P<kind>table|column)(?::| named) (?P<name>\S+)")
_OURS = frozenset(chain(COLUMNS, *COLUMNS.values(), ["szal_labels", "key", "value"]))
_WAL = b"\x02\x02"  # in the header: how a file in WAL mode is written and read
_READERS = 8
# What others wrote as text may be bytes of any kind; as str it would fail whatever reads it, with all the rows beside.
_as_text = partial(str, encoding="utf-8", errors="surrogateescape")
_inherited: list[object] = []  # closing a parent's connection in a child would drop the parent's locks


@attrs.define(eq=False)
class SharedConnection:
    """A connection that is opened when it is first needed, and the lock that lets one thread use it at a time.

    It is lent to a function, not to a block: a context manager that is written in Python can be interrupted by a signal
    handler after it took the lock and before the block begins, and then nobody gives the lock back.
    """

    name: str
    busy_timeout: float
    _open: Callable[[], Database] = attrs.field(repr=False)
    _durable: bool
    """Whether another connection would see the same database: neither ``:memory:`` nor a borrowed one."""
    _owned: bool
    _db: Database | None = attrs.field(default=None, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False)
    _is_brief: bool = attrs.field(default=False, init=False, repr=False)
    """The connection would not see what others write, so that it is for one use."""
    is_busy: bool = attrs.field(default=False, init=False, repr=False)
    """A hint: somebody uses it."""
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)  # guards the three above

    def __attrs_post_init__(self) -> None:
        process_events.enroll(self)

    @classmethod
    def to(cls, file: SqliteFile, synchronous: str, busy_timeout: float) -> "SharedConnection":
        """Return a connection to *file*, or to a new ``:memory:``."""

        def connect() -> Database:
            raw = opened(file, synchronous, busy_timeout, sqlite3.Connection)
            raw.text_factory = _as_text
            return wrap(raw)

        return cls(file.path, busy_timeout, connect, durable=not file.is_memory, owned=True)

    @classmethod
    def borrowed(cls, raw: sqlite3.Connection) -> "SharedConnection":
        """Return one that uses *raw*, never closes it, and leaves it as it was."""
        db = wrap(raw)
        file = as_it_comes(db, lambda db: db.conn.execute("PRAGMA database_list").fetchone()[2])
        return cls(file or ":memory:", 5.0, lambda: db, durable=False, owned=False)

    def use(self, work: Callable[[Database], Made]) -> Made:
        """Return what *work* makes of the connection; raise szal's errors for the driver's."""
        with self._lock:
            if self._closed:
                raise StoreClosed(self.name)
            try:
                self.is_busy = True
                if self._db is None:
                    self._is_brief = self._durable and _is_frozen(self.name)
                    self._db = self._open()
                return work(self._db) if self._owned else as_it_comes(self._db, work)
            except _DRIVER_ERRORS as error:
                raise self._translated(error) from error
            finally:
                self.is_busy = False
                if self._is_brief:
                    self._discard()

    def enable_wal(self) -> None:
        """Bring the file into WAL mode, if it is ours to; SQLite does not wait for a lock by itself there.

        A file that can only be read stays as it is.
        """
        if not self._owned:
            return
        locked = Retrying(
            retry=retry_if_exception(lambda error: code_of(error) in LOCKED),
            stop=stop_after_delay(self.busy_timeout),
            wait=wait_random(0.005, 0.05),
            reraise=True,
        )

        def enable(db: Database) -> None:
            try:
                locked(db.enable_wal)
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_READONLY:
                    raise

        self.use(enable)

    def _translated(self, error: Exception) -> StoreError:
        if code_of(error) in _AILING:
            self._discard()
        return translated(self.name, error)

    def _discard(self) -> None:
        """Close the connection if the next use can open another."""
        if self._durable and self._db is not None:
            db, self._db = self._db, None
            with suppress(sqlite3.Error):
                db.close()

    def close(self) -> None:
        """Close it for good, after the thread that uses it."""
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if self._owned and self._db is not None:
            self._db.close()
        self._db = None

    def __del__(self) -> None:
        self._release()

    # -- forks ----------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._lock.acquire()
        self._discard()

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # it is not held: before_fork was interrupted
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        if not self._owned:
            self._open = self._refuse
            self._db = None
        elif self._durable and self._db is not None:  # there was no before_fork
            _inherited.append(self._db)
            self._db = None

    def _refuse(self) -> Database:
        raise StoreFailed(self.name, "the connection belongs to the parent process: open one after the fork")

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:
        pass


def opened(file: SqliteFile, synchronous: str, busy_timeout: float, kind: type[Opened]) -> Opened:
    """Return a connection to *file*, in autocommit mode, for any thread. Raises sqlite3's errors."""
    frozen = not file.is_memory and _is_frozen(file.path)
    has_mode = frozen or file.mode != "rwc"
    raw = sqlite3.connect(
        file.uri + "&immutable=1" if frozen else file.uri if has_mode else file.path,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=kind,
        uri=has_mode,
    )
    try:
        sqlite3.Connection.execute(raw, f"PRAGMA synchronous = {synchronous}")  # one of that kind is for later
    except BaseException:
        sqlite3.Connection.close(raw)
        raise
    return raw


def leave_to_parent(connection: object) -> None:
    """Have a connection that came along through a fork never be closed here: that would drop the parent's locks."""
    _inherited.append(connection)


def code_of(error: BaseException) -> int:
    """Return SQLite's primary result code, or SQLITE_OK for an error that is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF


def translated(store: str, error: Exception) -> StoreError:
    """Return szal's error for the driver's."""
    code = code_of(error)
    problem = str(error)
    if code in LOCKED:
        return StoreUnavailable(store, f"{problem}: {_WHO_LOCKS}")
    if code in _AILING:
        return StoreUnavailable(store, problem)
    missing = _MISSING.match(problem) if code == sqlite3.SQLITE_ERROR else None
    if missing is not None and missing["name"].rpartition(".")[2] in _OURS:  # else it is of somebody's trigger
        return NotMigrated(store, f"{missing['kind']} {missing['name']}")
    return StoreFailed(store, problem)


class Readers:
    """Connections for reading, so that nobody waits for another's slow query; opened as they are needed.

    A thread takes the first that nobody uses, or else waits for one of them. Whether one is in use is a hint: who is
    misled by it waits for somebody.
    """

    def __init__(self, make: Callable[[], SharedConnection], number: int = _READERS) -> None:
        self._make = make
        self._connections = [make() for _ in range(number)]
        self._turns = itertools.count()

    def use(self, work: Callable[[Database], Made]) -> Made:
        """Return what *work* makes of one of them; raise szal's errors for the driver's."""
        for connection in self._connections:
            if not connection.is_busy:
                return connection.use(work)
        return self._connections[next(self._turns) % len(self._connections)].use(work)

    def another(self) -> SharedConnection:
        """Return one more, which is the caller's to close."""
        return self._make()

    def close(self) -> None:
        """Close them for good, after the threads that use them."""
        for connection in self._connections:
            connection.close()


def as_it_comes(db: Database, work: Callable[[Database], Made]) -> Made:
    """Return what *work* makes of rows as szal reads them, whatever their owner wants of them."""
    raw = db.conn
    rows, text = raw.row_factory, raw.text_factory
    try:
        raw.row_factory, raw.text_factory = None, _as_text
        return work(db)
    finally:
        raw.row_factory, raw.text_factory = rows, text


def _is_frozen(path: str) -> bool:
    """Return whether nobody seems to write to a file in WAL mode, and the files that readers need cannot be made."""
    if os.access(Path(path).parent, os.W_OK) or Path(f"{path}-wal").exists():
        return False
    try:
        with Path(path).open("rb") as file:
            return file.read(20)[18:] == _WAL
    except OSError:
        return False


def wrap(raw: sqlite3.Connection) -> Database:
    """Return *raw* as sqlite_utils has it."""
    # Plugins that happen to be installed have no business here.
    return Database(raw, recursive_triggers=False, execute_plugins=False)
