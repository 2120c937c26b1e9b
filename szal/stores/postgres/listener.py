"""Hearing of submissions to a server: a connection of its own that listens."""

import logging
from typing import Final

import psycopg

from szal.errors import StoreError
from szal.logs import SafeLogger
from szal.stores.listening import Listener
from szal.stores.postgres.connection import PostgresConnection, is_behind_a_proxy, shut
from szal.stores.postgres.pool import Pool
from szal.waiters import Flag

__all__ = ["PostgresListener"]

logger = SafeLogger(logging.getLogger(__name__))

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks where nobody can listen: through a proxy, or where there is no connection to be had."""

_NOTICE: Final = 0.5
"""Seconds after which a thread that listens notices that it is to end."""


class PostgresListener(Listener):
    """Listens on a connection that *pool* does not have. Where that is lost, it looks now and then, and tries again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: PostgresConnection | None = None
        self._has_told = False
        self._is_closed = Flag()

    def wait(self, timeout: float) -> None:
        try:
            if self._connection is None:
                self._connection = self._listening()
                return  # what was queued before it listened is to be found
            for _ in self._connection.notifies(timeout=min(timeout, _NOTICE), stop_after=1):
                return
        except (StoreError, psycopg.Error, OSError) as error:
            if not self._has_told:
                logger.info("%s: nobody tells of submissions here, so they are looked for: %s", self._pool.name, error)
            self._has_told = True
            self._drop()
            self._is_closed.wait(min(timeout, _LOOK_EVERY))
        finally:
            if self._is_closed.is_set():
                self._drop()

    def _listening(self) -> PostgresConnection:
        connection = self._pool.own_connection()
        try:
            if is_behind_a_proxy(connection):
                raise psycopg.OperationalError("the server is behind a proxy, where notifications get lost")
            connection.execute("LISTEN szal_queue")
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
        self._is_closed.set()
