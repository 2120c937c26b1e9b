"""Executions in PostgreSQL, in the table that szal-rs keeps: either can use the other's."""

from typing import Any

from szal.errors import MissingDriver
from szal.stores.sql_store import SqlExecutionStore

try:
    import psycopg
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from szal.stores.postgres.database import PostgresDatabase
    from szal.stores.postgres.ledger import PostgresLedger
    from szal.stores.postgres.pool import Pool
    from szal.stores.postgres.server import PrepareThreshold, Server, among
except ImportError as error:  # psycopg is there, but libpq is not
    raise MissingDriver("PostgreSQL", "psycopg[binary,pool]", str(error).partition("\n")[0]) from error

__all__ = ["PostgresExecutionStore"]


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

    _database: PostgresDatabase

    def __init__(self, pool: Pool, schema: str | None) -> None:
        database = PostgresDatabase(pool, schema)
        super().__init__(database, PostgresLedger(database))

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
        of SQLAlchemy's (``postgresql+psycopg://…``). Tables are in *schema*, or where they are found in
        the search path, or else made in the first schema of that. The pool holds *min_size* to *max_size* connections,
        and is opened at first use. Raises ValueError; never blocks.

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
        self._database.migrate()

    def close(self) -> None:
        """Close the connections; using the store afterwards raises `StoreClosed`. A second call does nothing.

        What a sink has not written yet is lost to it: close that first.
        """
        self._database.close()

    @property
    def pool(self) -> "ConnectionPool[Any] | None":
        """psycopg's pool, where it is open: None before the first use, and when a connection was lost.

        Borrow connections for statements of your own, and give them back; the store opens and closes it.
        """
        return self._database.pool.opened


def _instead(given: object) -> str:
    """Return what to do with *given*, which is no pool, as the end of a sentence. It may be text with a password."""
    if isinstance(given, str):
        return "not text: give a URL to connect"
    if isinstance(given, psycopg.Connection):
        return "not a single connection: threads could not share it"
    if isinstance(given, AsyncConnectionPool | psycopg.AsyncConnection):
        return f"not an {type(given).__name__}: szal works in threads, and has no event loop"
    return f"not {type(given).__module__}.{type(given).__qualname__}: or give a URL to connect"
