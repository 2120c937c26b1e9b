"""Hearing of what others tell through a server: a connection of its own that listens."""

import logging
from collections.abc import Callable, Collection
from typing import Final

import psycopg

from szal.clock import monotonic
from szal.errors import StoreError
from szal.logs import SafeLogger
from szal.stores.listening import ChangeListener, Listener
from szal.stores.postgres.connection import PostgresConnection, is_behind_a_proxy, shut
from szal.stores.postgres.pool import Pool
from szal.waiters import Flag

__all__ = ["PostgresChanges", "PostgresListener"]

logger = SafeLogger(logging.getLogger(__name__))

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks where nobody can listen: through a proxy, or where there is no connection to be had."""

_NOTICE: Final = 0.5
"""Seconds after which a thread that listens notices that it is to end."""


class _BehindAProxy(StoreError):
    """Nobody can listen there."""

    def __str__(self) -> str:
        return "the server is behind a proxy, where notifications get lost"


class _Ear:
    """Listens to *channel* on a connection that *pool* does not have; where that is lost, it tries again."""

    def __init__(self, pool: Pool, channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._connection: PostgresConnection | None = None
        self._has_told = False
        self._is_proxied = False
        self._is_closed = Flag()

    def hear(self, timeout: float) -> set[str] | None:
        """Return what was told; None: something may have been, as it has not listened, or does not."""
        try:
            if self._is_proxied:
                raise _BehindAProxy
            if self._connection is None:
                self._connection = self._listening()
                return None  # what came before it listened is to be found
            seconds = min(timeout, _NOTICE)
            return {notice.payload for notice in self._connection.notifies(timeout=seconds, stop_after=1)}
        except (StoreError, psycopg.Error, OSError) as error:
            if not self._has_told:
                told = f"nobody tells of news here ({self._channel}), so they are looked for"
                logger.info("%s: %s: %s", self._pool.name, told, error)
            self._has_told = True
            self._drop()
            self._is_closed.wait(min(timeout, _LOOK_EVERY))
            return None
        finally:
            if self._is_closed.is_set():
                self._drop()

    def _listening(self) -> PostgresConnection:
        connection = self._pool.own_connection()
        try:
            self._is_proxied = is_behind_a_proxy(connection)  # and stays so: it is not connected to again
            if self._is_proxied:
                raise _BehindAProxy
            connection.execute(f"LISTEN {self._channel}".encode())
        except BaseException:
            shut(connection)
            raise
        self._has_told = False
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            shut(connection)

    def close(self) -> None:
        """Have the connection closed by whoever listens, the next time."""
        self._is_closed.set()


class PostgresListener(Listener):
    """Hears of submissions, or of what is given back."""

    def __init__(self, pool: Pool, channel: str) -> None:
        self._ear = _Ear(pool, channel)

    def wait(self, timeout: float) -> None:
        self._ear.hear(timeout)

    def close(self) -> None:
        self._ear.close()


class PostgresChanges(ChangeListener):
    """Hears of executions that change, those that *attend* is called for, with for how many seconds."""

    def __init__(self, pool: Pool, attend: Callable[[str, float], object]) -> None:
        self._ear = _Ear(pool, "szal_changes")
        self._attend = attend
        self._attended: dict[str, float] = {}  # until when; changed by atomic operations only

    def attend(self, execution_id: str) -> None:
        now = monotonic()
        if self._attended.get(execution_id, 0.0) > now:
            return
        self._attended = {each: until for each, until in self._attended.copy().items() if until > now}
        self._attended[execution_id] = now + _ATTEND / 3
        try:
            self._attend(execution_id, _ATTEND)
        except StoreError as error:  # a role that may only read, say: then it is looked for
            logger.debug("%s", error)

    def wait(self, timeout: float) -> Collection[str] | None:
        return self._ear.hear(timeout)

    def close(self) -> None:
        self._ear.close()


_ATTEND: Final = 60.0
"""Seconds for which whoever writes to an execution is asked to tell."""
