"""psycopg's pool of connections: opened when it is first needed, carried over faults and forks, errors translated."""

import logging
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import attrs
import psycopg
from psycopg_pool import PoolClosed, PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from szal import process_events
from szal.clock import monotonic
from szal.errors import StoreClosed, StoreFailed, StoreUnavailable
from szal.interruption import interruption_in
from szal.logs import SafeLogger
from szal.stores.postgres.connection import (
    DRIVER_ERRORS,
    ORDERLY,
    InAutocommit,
    PostgresConnection,
    detach,
    is_behind_a_proxy,
    shut,
    without_jit,
)
from szal.stores.postgres.opening import Connections, connect, new_pool
from szal.stores.postgres.server import Server
from szal.stores.postgres.sqlstate import (
    is_of_a_prepared_statement,
    is_of_the_session,
    one_line,
    translated,
)

__all__ = ["Pool"]

logger = SafeLogger(logging.getLogger(__name__))

T = TypeVar("T")

_PATIENCE = 1.0  # for a pool's threads: they have nothing to do, or wait for a server that is away
_SOON = 0.001
_inherited: list[object] = []  # of the parent process: nobody may end what is in here


@attrs.define(eq=False)
class Pool:
    """Lends connections. A pool that has met a lost connection is thrown away: its others are lost too, or suspect.

    A new pool is made by connecting once without it: a pool tries in the background and keeps the reason to itself.
    All its connections are to the host that answered then. Behind a proxy nothing is prepared: whatever session the
    next transaction is given may not have that statement, or another one of that name.
    """

    name: str
    retry_timeout: float
    _server: Server | None = attrs.field(repr=False)
    """None: the pool is borrowed, and its owner's to open and close."""
    _sizes: tuple[int, int] = (1, 10)
    _pool: Connections | None = attrs.field(default=None, repr=False)
    _reached: bool = attrs.field(default=False, init=False)  # this server has let us in before
    _closed: bool = attrs.field(default=False, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)  # guards the three above
    _prepares: bool | None = attrs.field(default=None, init=False)
    """Whether statements are prepared; None until the first connection tells whether it goes through a proxy."""
    _spare: "deque[PostgresConnection]" = attrs.field(
        factory=deque, init=False, repr=False
    )  # in use where there is no pool
    _connections: "weakref.WeakSet[PostgresConnection]" = attrs.field(factory=weakref.WeakSet, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self._server is not None and self._server.prepare_threshold != "auto":
            self._prepares = self._server.prepare_threshold is not None
        process_events.enroll(self)

    @classmethod
    def to(cls, server: Server, sizes: tuple[int, int], retry_timeout: float) -> "Pool":
        """Return a pool of its own, of at least and at most so many connections; nothing is opened yet."""
        return cls(server.name, retry_timeout, server, sizes)

    @classmethod
    def borrowed(cls, name: str, pool: Connections, retry_timeout: float) -> "Pool":
        """Return one that lends what *pool* has."""
        return cls(name, retry_timeout, None, pool=pool)

    @property
    def opened(self) -> Connections | None:
        """psycopg's pool, if it is open."""
        return self._pool

    @property
    def size(self) -> int:
        """How many connections it has at most."""
        return self._sizes[1] if self._server is not None or self._pool is None else self._pool.max_size

    # -- lending --------------------------------------------------------------------------------------

    def retrying(self, spent: float) -> Retrying:
        """Repeat a call (`szal.stores.retrying`) for `retry_timeout` seconds, where the server was ever reached."""
        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, StoreUnavailable) and self._reached),
            wait=wait_exponential(multiplier=0.005, max=0.5) + wait_random(0, 0.01),
            stop=stop_after_delay(max(0.0, self.retry_timeout - spent)),
            reraise=True,
        )

    def use(self, work: Callable[[PostgresConnection], T]) -> T:
        """Return what *work* makes of a connection in autocommit mode; raise szal's errors for the driver's."""
        while True:
            try:
                pool = self._opened()
                return self._lend_spare(work) if pool is None else self._lend(pool, work)
            except PoolClosed as error:  # before *work* was called
                if self._server is None:
                    raise StoreClosed(self.name) from error
                # By a fork, or by a thread that has lost its connection: the next one is opened at once.
            except DRIVER_ERRORS as error:
                raise translated(self.name, error, is_lost=True) from error

    def _lend(self, pool: Connections, work: Callable[[PostgresConnection], T]) -> T:
        lent: PostgresConnection | None = None
        before = sys.exception()
        try:
            lent = self._take(pool)
            self._reached = True
            try:
                made = self._carry_out(lent, work)
            except ORDERLY:
                back, lent = lent, None
                self._give_back(pool, back)
                raise
            back, lent = lent, None
            self._give_back(pool, back)
            return made
        except ORDERLY:
            raise
        except BaseException as error:
            if lent is None:
                self._leave(pool)
            else:
                shut(lent)  # in the middle of whatever it was
                pool.putconn(lent)
            if (interruption := interruption_in(error, before)) is not None:
                raise interruption from None
            raise

    def _take(self, pool: Connections) -> PostgresConnection:
        """Return a connection that is free; where there is none at all, one is being made, which may take longer."""
        try:
            return pool.getconn(max(self.retry_timeout, 0.01))  # with 0 it does not even look
        except PoolTimeout:
            if self._server is None or self._has_connections():
                raise
        try:
            return pool.getconn(self._server.connect_timeout)
        except PoolTimeout:
            self._drop(pool)
            raise

    def _has_connections(self) -> bool:
        return any(not connection.closed for connection in [*self._connections])

    def _carry_out(self, connection: PostgresConnection, work: Callable[[PostgresConnection], T]) -> T:
        """Return what *work* makes of *connection*, which is closed where another session may do better."""
        try:
            if self._prepares is None:
                with InAutocommit(connection, prepares=False):
                    self._prepares = not is_behind_a_proxy(connection)
            with InAutocommit(connection, prepares=self._prepares):
                return work(connection)
        except DRIVER_ERRORS as error:
            if is_of_the_session(error):
                shut(connection)
            if is_of_a_prepared_statement(error):
                if self._prepares:
                    logger.warning("%s: %s; no statement is prepared any more", self.name, one_line(error))
                self._prepares = False
            raise translated(self.name, error, is_lost=connection.closed) from error

    def _lend_spare(self, work: Callable[[PostgresConnection], T]) -> T:
        connection = self._spare.pop() if self._spare else self._connect()
        try:
            return self._carry_out(connection, work)
        except ORDERLY:
            raise
        except BaseException:
            shut(connection)
            raise
        finally:
            if not connection.closed:
                self._spare.append(connection)

    def _give_back(self, pool: Connections, connection: PostgresConnection) -> None:
        lost = connection.closed
        pool.putconn(connection)
        if lost:
            self._drop(pool)

    def _opened(self) -> Connections | None:
        """Return the pool, or None: in the last moments of the interpreter it could not start its threads."""
        self._check_open()
        if (pool := self._pool) is not None or self._spare:
            return pool
        before = sys.exception()
        connection = self._connect()
        try:
            is_direct = not is_behind_a_proxy(connection)
            if self._own().prepare_threshold == "auto" and self._prepares is not False:
                self._prepares = is_direct
            with self._lock:
                self._check_open()
                if self._pool is not None:
                    return self._pool
                self._pool = pool = self._made(connection, is_direct=is_direct)
        except RuntimeError as error:
            if (interruption := interruption_in(error, before)) is not None:
                raise interruption from None
            self._spare.append(connection)
            return None
        finally:
            if connection not in self._spare:
                connection.close()
        self._await(pool)
        return pool

    def _await(self, pool: Connections) -> None:
        """Wait for the first connection of a new pool: to ask for one makes it open another beside it.

        Its own `wait` would not hear that another thread forks, and so closes it.
        """
        limit = self._own().connect_timeout
        until = monotonic() + limit
        while self._sizes[0] and not pool.closed and not pool.get_stats()["pool_available"]:
            if monotonic() > until:
                self._drop(pool)
                raise StoreUnavailable(self.name, f"the host that answered does not any more, for {limit:g} s")
            time.sleep(_SOON)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(self.name)

    def _made(self, first: PostgresConnection, *, is_direct: bool) -> Connections:
        server, enlist = self._own(), self._connections.add
        give_up = weakref.WeakMethod(self._give_up)  # a pool must not keep alive what it is for

        def failed(pool: Connections) -> None:
            if (alive := give_up()) is not None:
                alive(pool)

        def made(connection: PostgresConnection) -> None:
            if is_direct:
                without_jit(connection)
            enlist(connection)

        pool = new_pool(server, self._sizes, first, made, failed)
        try:
            pool.open()
        except BaseException:
            self._leave(pool)
            raise
        return pool

    def _connect(self) -> PostgresConnection:
        """Return a connection of no pool."""
        connection = connect(self._own(), is_known=self._reached)
        self._reached = True
        self._connections.add(connection)
        return connection

    def own_connection(self) -> PostgresConnection:
        """Return a connection that is the caller's to close, beside those that are lent. Raises as `use` does."""
        self._check_open()
        if self._server is not None:
            return self._connect()
        assert self._pool is not None
        given = self._pool.conninfo
        try:
            connection: PostgresConnection = psycopg.connect(given() if callable(given) else given, autocommit=True)
        except DRIVER_ERRORS as error:
            raise translated(self.name, error, is_lost=True) from error
        self._connections.add(connection)
        return connection

    def _own(self) -> Server:
        if self._server is None:
            raise StoreFailed(self.name, "the pool belongs to the parent process: make one after the fork")
        return self._server

    def _drop(self, pool: Connections) -> None:
        """Do without the connections that are left in *pool*, after one was lost."""
        if self._server is None:
            with suppress(psycopg.Error):
                pool.check()
            return
        self._forget(pool)
        pool.close(_PATIENCE)

    def _give_up(self, pool: Connections) -> None:
        """Do without *pool*, which has nothing and could not connect: who waits for it hears that at once."""
        if not self._has_connections():
            self._leave(pool)  # this is one of the threads that closing it waits for

    def _leave(self, pool: Connections) -> None:
        """Do without *pool*, in the middle of which a signal handler raised: nobody knows what it has lent.

        One of its locks may be locked for good, so a thread closes it that nobody waits for. A borrowed one stays.
        """
        if self._server is None:
            return
        self._forget(pool)
        with suppress(RuntimeError):
            threading.Thread(target=pool.close, args=[_PATIENCE], name="szal-pool-closer", daemon=True).start()

    def _forget(self, pool: Connections) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None

    # -- its life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close it for good. A connection that is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
        self._release()

    def _release(self) -> None:
        """Close what is open; the next use opens it again."""
        if self._server is None:
            return
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(_PATIENCE)
        while self._spare:
            self._spare.pop().close()

    def before_fork(self) -> None:
        self._lock.acquire()
        self._release()

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # it is not held: before_fork was interrupted
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        # Those that other threads of the parent are using, or all, if there was no before_fork.
        for connection in list(self._connections):
            detach(connection)
        _inherited.extend((self._pool, *self._connections))
        self._spare = deque()
        self._connections = weakref.WeakSet()
        self._pool = None

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:  # noqa: ARG002 - there is nothing to wait for
        self._release()
