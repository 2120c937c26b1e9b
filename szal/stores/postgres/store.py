"""Executions in PostgreSQL, in the table that szal-rs keeps: either can use the other's."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs

from szal.errors import MissingDriver, StoreFailed, StoreUnavailable
from szal.stores.dialect import Dialect
from szal.stores.operation import Operation, SaveStep, merged
from szal.stores.postgres.nul import nul_in
from szal.stores.sql import Given, Made, Row, Rows, SqlExecutionStore, Transaction

try:
    import psycopg
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from szal.stores.postgres.connection import Connection, pipeline
    from szal.stores.postgres.pool import Pool
    from szal.stores.postgres.schema import dialect, execute, migrate, save_few_steps
    from szal.stores.postgres.server import PrepareThreshold, Server, among
except ImportError as error:  # psycopg is there, but libpq is not
    raise MissingDriver("PostgreSQL", "psycopg[binary,pool]", str(error).partition("\n")[0]) from error

__all__ = ["PostgresExecutionStore"]

_FEW = 32  # of more rows each costs less in arrays
_STEP = ("execution_id", "step_name", "seq", "result", "signal_id")


@attrs.define
class _PostgresTransaction:
    """What stands between BEGIN and COMMIT."""

    _store: str
    _connection: Connection

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return execute(self._connection, statement, parameters).fetchall()

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            _check(self._store, columns)
            execute(self._connection, statement, columns)


def _check(store: str, groups: Sequence[Sequence[object]]) -> None:
    """Raise `StoreFailed` for what PostgreSQL cannot store, among values in *groups*: columns, or few rows."""
    for group in groups:
        texts = [value for value in group if isinstance(value, str)]
        together = "".join(texts)  # looked through once: hardly ever is there anything
        if "\x00" in together or "\\u0000" in together:
            for text in texts:
                if problem := nul_in(text):
                    raise StoreFailed(store, f"{problem}, which PostgreSQL cannot store")


@attrs.frozen
class _Doubt:
    """A COMMIT that was sent; it goes when the answer comes."""

    given: object
    transaction: str
    made: object


class _Doubts(threading.local):
    last: _Doubt | None = None


@attrs.define(eq=False, init=False)
class PostgresExecutionStore(SqlExecutionStore):
    """Executions in one PostgreSQL database (13 or newer), shared with other threads, other processes and szal-rs.

    Make one with `connect` or `from_pool`, and call `migrate` once. Nothing is opened before it is needed. Each method
    takes a connection from the pool, for one transaction; where there is none, it waits up to *retry_timeout* seconds.

    **Faults.** Where the connection failed and not the statement (the server restarts, or an administrator
    ends the session), and where a transaction lost to another (serialisation, deadlock), it is tried again for up to
    *retry_timeout* seconds; then that is `StoreUnavailable`. Not so on the very first use: a wrong host, user,
    password or database is told at once. A COMMIT whose answer was lost is looked up by the transaction's number
    when the server is back: what is committed is never done again, what is not is.

    **What can be lost.** A write is committed when its method returns. What the server then keeps through a crash is
    its own matter (``synchronous_commit``, ``fsync``, replication): with its defaults, everything.

    A fork is safe at any time: the pool is closed before it, and opened again when it is needed, by each process
    for itself. What other threads are in the middle of goes on, in the parent. The child lets go of their
    connections without a word.

    Needs psycopg with libpq: ``pip install "psycopg[binary]"`` brings one, where the system has none.

    >>> store = PostgresExecutionStore.connect("postgresql://me:secret@db.example/app", schema="jobs")
    >>> store
    PostgresExecutionStore(name='postgresql://db.example/app, schema jobs')
    """

    name: str
    dialect: Dialect = attrs.field(repr=False)
    _schema: str | None = attrs.field(repr=False)
    _save_few_steps: str = attrs.field(repr=False)
    _pool: Pool = attrs.field(repr=False)
    _doubts: _Doubts = attrs.field(repr=False)  # of each thread: its own

    def __init__(self, pool: Pool, schema: str | None) -> None:
        self.name = pool.name
        self.dialect = dialect(schema)
        self._save_few_steps = save_few_steps(schema)
        self._schema = schema
        self._pool = pool
        self._doubts = _Doubts()

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        schema: str | None = None,
        min_size: int = 1,
        max_size: int = 10,
        retry_timeout: float = 5.0,
        prepare_threshold: PrepareThreshold = "auto",
    ) -> "PostgresExecutionStore":
        """Return the store in the database at *url*: ``postgresql://user:password@host:5432/database``.

        libpq reads it: its parameters, environment and password file work, also ``key=value`` text, and so does a URL
        of SQLAlchemy's (``postgresql+psycopg://…``). Tables are in *schema*, or in the first of the search path. The
        pool holds *min_size* to *max_size* connections, and is opened at first use. Raises ValueError; never blocks.

        *How long connecting takes.* Each host of the URL, and each address of a host, has ``connect_timeout`` seconds
        (10, if you do not say; never less than 2, and 130 for 0). The first that answers is taken, for all connections
        of the pool; the next is looked for when one is lost. So whoever needs a connection has it, or
        `StoreUnavailable`, within one round of the hosts, ``connect_timeout`` once more, and twice *retry_timeout*,
        also where another thread forks meanwhile. A network that goes silent is noticed in 30 seconds: say
        ``keepalives_idle``, ``keepalives_interval``, ``keepalives_count`` and ``tcp_user_timeout`` in the URL for
        another limit.

        *prepare_threshold*: how often a statement is run before it is prepared; None is never. "auto" is 5 where the
        server itself is connected to, and None behind a proxy (PgBouncer). ``?prepare_threshold=none`` in the URL
        says it too, and goes before.
        """
        server = Server.of(url, schema, prepare_threshold)
        if not 0 <= min_size <= max_size or max_size < 1 or retry_timeout < 0:
            raise ValueError(f"need 0 <= min_size <= max_size, and some ({min_size=}, {max_size=}, {retry_timeout=})")
        return cls(Pool.to(server, (min_size, max_size), retry_timeout), schema)

    @classmethod
    def from_pool(
        cls, pool: "ConnectionPool[Any]", *, schema: str | None = None, retry_timeout: float = 5.0
    ) -> "PostgresExecutionStore":
        """Return a store that takes its connections from *pool*, and leaves opening and closing it to its owner.

        It needs one that is free, now and then; a sink's writer is one more thread that does. The connections' own
        settings stay as they are. After a fork only the parent may go on. Raises TypeError for what is no
        `psycopg_pool.ConnectionPool`.
        """
        if not isinstance(pool, ConnectionPool):
            raise TypeError(f"from_pool needs a psycopg_pool.ConnectionPool, {_instead(pool)}")
        name = f"the PostgreSQL pool {pool.name!r}{among(schema)}"
        return cls(Pool.borrowed(name, pool, retry_timeout), schema)

    def migrate(self) -> None:
        """Create the schema and its tables, or bring them up to date; a database of szal-rs is upgraded in place.

        Does nothing where there is nothing to do. Any number of processes and threads may do it at once: the first
        does it, the others wait. While indexes are made on a table with rows, nobody can write to it. All of it
        happens, or nothing does. Needs the right to create in the schema (and a schema, if it is to be made).
        """
        self._pool.retry(self._migrate)

    def close(self) -> None:
        """Close the connections; using the store afterwards raises `StoreClosed`. A second call does nothing.

        What a sink has not written yet is lost to it: close that first.
        """
        self._pool.close()

    def _migrate(self) -> None:
        self._pool.use(lambda connection: migrate(connection, self._schema))

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out *operations*, in order, in one transaction; on return it is committed, after an error undone."""
        if not (_are_few_steps(operations) and self._pool.retry(self._save_steps, merged(operations))):
            super().apply(operations)

    def _save_steps(self, steps: Sequence[Operation]) -> bool:
        """Write steps by one statement that looks after their leases too, which waits for the network once.

        Return whether all leases are held; where one is not, nothing is written. Whoever holds a lease can say this
        again where the answer was lost: nobody else has written since.
        """
        rows = [step.row() for step in steps]
        _check(self.name, rows)
        given = [
            {**dict(zip(_STEP, row, strict=True)), "epoch": step.epoch} for step, row in zip(steps, rows, strict=True)
        ]
        text = json.dumps(given, ensure_ascii=False)
        written = self._pool.use(lambda connection: execute(connection, self._save_few_steps, [text]).rowcount)
        return written == len(steps)

    # -- transactions ---------------------------------------------------------------------------------

    def _read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self._pool.retry(self._fetch, statement, parameters)

    def _fetch(self, statement: str, parameters: Sequence[object]) -> Rows:
        return self._pool.use(lambda connection: execute(connection, statement, parameters).fetchall())

    def _transact(self, work: Callable[[Transaction, Given], Made], given: Given) -> Made:
        try:
            return self._pool.retry(self._attempt, work, given)
        except StoreUnavailable:
            raise  # whoever asks again with the same *given* is told what became of the COMMIT
        except BaseException:
            self._doubts.last = None
            raise

    def _attempt(self, work: Callable[[Transaction, Given], Made], given: Given) -> Made:
        doubt = self._doubts.last
        if doubt is not None and doubt.given is given and self._has_committed(doubt.transaction):
            self._doubts.last = None
            return cast(Made, doubt.made)

        def transaction(connection: Connection) -> Made:
            # What is in a pipeline waits for the network together.
            with pipeline(connection):
                connection.execute(b"BEGIN")
                number = execute(connection, "SELECT pg_current_xact_id()::text")
                made = work(_PostgresTransaction(self.name, connection), given)
            self._doubts.last = _Doubt(given, number.fetchall()[0][0], made)
            connection.execute(b"COMMIT")
            self._doubts.last = None
            return made

        return self._pool.use(transaction)

    def _has_committed(self, transaction: str) -> bool:
        """Return how a transaction has ended; raises `StoreUnavailable` if it has not."""
        try:
            ((status,),) = self._fetch("SELECT pg_xact_status(%s::text::xid8)", [transaction])
        except StoreFailed as error:
            if getattr(error.__cause__, "sqlstate", None) != "22023":
                raise
            return False  # a transaction that this server has yet to begin: it is another server, or an older state
        if status == "in progress":
            raise StoreUnavailable(self.name, "a transaction of a lost connection has not ended yet")
        return bool(status == "committed")


def _are_few_steps(operations: Sequence[Operation]) -> bool:
    """Return whether that is all there is to write, under leases."""
    return len(operations) <= _FEW and all(
        type(each) is SaveStep and each.epoch is not None and each.progress_of is None for each in operations
    )


def _instead(given: object) -> str:
    """Return what to do with *given*, which is no pool, as the end of a sentence. It may be text with a password."""
    if isinstance(given, str):
        return "not text: give a URL to connect"
    if isinstance(given, psycopg.Connection):
        return "not a single connection: threads could not share it"
    if isinstance(given, AsyncConnectionPool | psycopg.AsyncConnection):
        return f"not an {type(given).__name__}: szal works in threads, and has no event loop"
    return f"not {type(given).__module__}.{type(given).__qualname__}: or give a URL to connect"
