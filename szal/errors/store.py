"""A store could not do what was asked of it."""

from collections.abc import Sequence

import attrs

from szal.errors.description import describe
from szal.errors.root import SzalError

__all__ = [
    "CommitUnknown",
    "FlushTimeout",
    "MissingDriver",
    "NotMigrated",
    "SinkFull",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreUnavailable",
    "WriteFailed",
]


class StoreError(SzalError):
    """A store could not do what was asked of it.

    >>> issubclass(WriteFailed, StoreError)
    True
    """


@attrs.define(repr=False, slots=False)
class StoreUnavailable(StoreError):
    """A store that cannot serve just now: locked, out of space, read-only, unreachable. It may get better.

    Cause: the database is locked, full, read-only, restarting or not reached. szal tries what it writes again, for as
        long as it takes.
    Next: `szal doctor --store URL` tells which of these it is, and what to do.

    >>> print(StoreUnavailable("runs.db", "database is locked"))
    runs.db: database is locked
    """

    store: str
    problem: str

    def __str__(self) -> str:
        return f"{self.store}: {self.problem}"


@attrs.define(repr=False, slots=False)
class CommitUnknown(StoreUnavailable):
    """A COMMIT was sent, its answer was lost, and nobody could be asked for as long as `commit_timeout` says.

    Cause: the database went away in that moment, and stayed away.
    Next: once it is back, `szal resume ID`: it goes by what is committed. Nothing is done twice, and nothing is lost.

    >>> print(CommitUnknown("postgresql://db/app", "nobody knows whether a handler's transaction is committed"))
    postgresql://db/app: nobody knows whether a handler's transaction is committed
    """


@attrs.define(repr=False, slots=False)
class StoreFailed(StoreError):
    """What trying again cannot cure: a file that is no database, a value over a limit, a refused statement.

    Cause: the database refuses for good: the file is none, the password or the database is wrong, or a value is too
        large.
    Next: `szal doctor --store URL`; mend what it names.

    >>> print(StoreFailed("runs.db", "file is not a database"))
    runs.db: file is not a database
    """

    store: str
    problem: str

    def __str__(self) -> str:
        return f"{self.store}: {self.problem}"


@attrs.define(repr=False, slots=False)
class NotMigrated(StoreError):
    """A store was used before its tables were made, after some of it was dropped, or after a newer szal changed it.

    Cause: the tables were not made yet, some were dropped, or a newer szal has changed them.
    Next: call `store.migrate()` once, or any command, as `szal list --store URL`; where a newer szal has been there,
        `pip install -U szal`.

    >>> print(NotMigrated("runs.db"))
    runs.db: table szal_executions is missing: call store.migrate() once
    """

    store: str
    missing: str = "table szal_executions"
    newer: tuple[str, ...] = ()
    """The migrations of a newer szal, where that is what is wrong."""

    def __str__(self) -> str:
        if self.newer:
            return (
                f"{self.store}: a newer version of szal has changed the tables ({', '.join(self.newer)}): update szal"
            )
        return f"{self.store}: {self.missing} is missing: call store.migrate() once"


@attrs.define(repr=False, slots=False)
class MissingDriver(StoreError, ImportError):
    """The driver of a database cannot be loaded, or not the system library that it needs.

    Cause: psycopg, or the system's libpq, is not there.
    Next: run the `pip install` of the message, in the same environment as szal.

    >>> print(MissingDriver("PostgreSQL", "psycopg[binary,pool]", "no pq wrapper available."))
    PostgreSQL needs psycopg[binary,pool]: pip install "psycopg[binary,pool]" (no pq wrapper available.)
    """

    database: str
    requirement: str
    problem: str

    def __str__(self) -> str:
        return f'{self.database} needs {self.requirement}: pip install "{self.requirement}" ({self.problem})'


@attrs.define(repr=False, slots=False)
class StoreClosed(StoreError):
    """A store or a sink was used after `close`.

    Cause: the `with` block of the store or the sink has ended, or `close` was called, before the engine was done with
        it.
    Next: close the engine first, then the sink, then the store; nest the `with` blocks in the order store, sink,
        engine.

    >>> print(StoreClosed("runs.db"))
    runs.db is closed
    """

    store: str

    def __str__(self) -> str:
        return f"{self.store} is closed"


@attrs.define(repr=False, slots=False)
class SinkFull(StoreError):
    """A save found no room behind the writer for `waited` seconds; nothing was queued. The database is too slow.

    Cause: the database takes writes more slowly than they come, or not at all.
    Next: `engine.healthy()` tells for how long it is behind, `szal doctor --store URL` whether it works. Run fewer at a
        time, or raise `max_pending`.

    >>> print(SinkFull("runs.db", 10_000, 30.0))
    runs.db: 10000 writes are pending, and none was committed within 30s
    """

    store: str
    pending: int
    waited: float

    def __str__(self) -> str:
        return f"{self.store}: {self.pending} writes are pending, and none was committed within {self.waited:g}s"


@attrs.define(repr=False, slots=False)
class FlushTimeout(StoreError):
    """Some writes were not committed in time. They are still queued, and will be written when they can be.

    `problem` is what keeps them from it, where the database has said so.

    Cause: the database is slow, or away, for longer than `EngineConfig.commit_timeout`.
    Next: wait, and leave the process running: what is queued is in its memory. `szal doctor --store URL` tells what is
        wrong.

    >>> print(FlushTimeout("runs.db", ("order-42",), 5.0, "database is locked"))
    runs.db: not written after 5s: order-42 (database is locked)
    """

    store: str
    execution_ids: tuple[str, ...]
    timeout: float
    problem: str | None = None

    def __str__(self) -> str:
        why = "" if self.problem is None else f" ({self.problem})"
        return f"{self.store}: not written after {self.timeout:g}s: {_some(self.execution_ids)}{why}"


@attrs.define(repr=False, slots=False)
class WriteFailed(StoreError):
    """Some writes are lost for good; `errors` says why, in the order of `execution_ids`.

    Cause: the database has refused these writes for good.
    Next: read the reason in the message. What is recorded is older than what has happened: `szal show ID`, then `szal
        resume ID` runs the lost steps again.

    >>> print(WriteFailed("runs.db", ("order-42",), (StoreFailed("runs.db", "string or blob too big"),)))
    runs.db: could not write order-42 (StoreFailed: runs.db: string or blob too big)
    """

    store: str
    execution_ids: tuple[str, ...]
    errors: tuple[Exception, ...] = ()

    def __str__(self) -> str:
        why = f" ({describe(self.errors[0])})" if self.errors else ""
        return f"{self.store}: could not write {_some(self.execution_ids)}{why}"


def _some(execution_ids: Sequence[str]) -> str:
    more = f" and {len(execution_ids) - 20} more" if len(execution_ids) > 20 else ""
    return ", ".join(execution_ids[:20]) + more
