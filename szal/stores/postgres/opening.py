"""Opening what leads to a server: one connection first, where what is wrong with it shows, then a pool of them."""

from collections.abc import Callable
from typing import TypeAlias

import psycopg
from psycopg_pool import ConnectionPool

from szal.errors import StoreFailed, StoreUnavailable
from szal.stores.postgres.connection import PostgresConnection
from szal.stores.postgres.server import Server
from szal.stores.postgres.sqlstate import may_pass, one_line, refusal

__all__ = ["Connections", "connect", "new_pool"]

Connections: TypeAlias = ConnectionPool[PostgresConnection]

_OLDEST = 13_00_00
_PREPARE_THRESHOLD = 5  # psycopg's own


def connect(server: Server, *, is_known: bool) -> PostgresConnection:
    """Return a connection of no pool, to the first host that answers; *is_known*: it has let us in before.

    Raises `StoreFailed` where it will not let us in however often we ask, else `StoreUnavailable`.
    """
    try:
        connection: PostgresConnection = psycopg.connect(server.conninfo(), autocommit=True)
    except psycopg.OperationalError as error:
        # One that has let us in before will do so again, whatever it says meanwhile.
        kind = StoreFailed if not is_known and _is_refused(server, error) else StoreUnavailable
        raise kind(server.name, one_line(error)) from error
    if connection.info.server_version < _OLDEST:
        connection.close()
        raise StoreFailed(server.name, f"PostgreSQL {_OLDEST // 10_000} or newer is needed")
    return connection


def _is_refused(server: Server, error: psycopg.OperationalError) -> bool:
    if error.pgconn is None:
        return False
    if error.pgconn.needs_password:
        return True
    state = refusal(server.conninfo_of(error.pgconn), server.connect_timeout)
    return state is not None and not may_pass(state)


def new_pool(
    server: Server,
    sizes: tuple[int, int],
    first: PostgresConnection,
    made: Callable[[PostgresConnection], None],
    failed: Callable[[Connections], None],
) -> Connections:
    """Return a pool, not yet open, of connections to the host that *first* leads to.

    *made* is called with each of them, *failed* with the pool when it could not make one: it does not try again then.
    """
    threshold = server.prepare_threshold
    return ConnectionPool(
        server.conninfo_of(first.pgconn),
        kwargs={"autocommit": True, "prepare_threshold": _PREPARE_THRESHOLD if threshold == "auto" else threshold},
        min_size=sizes[0],
        max_size=sizes[1],
        name="szal",
        reconnect_timeout=0.0,  # the next use tries again; the pool itself would wait longer each time
        reconnect_failed=failed,
        configure=made,
        open=False,
    )
