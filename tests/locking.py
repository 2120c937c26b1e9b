"""A database that nobody can write to for a while."""

import sqlite3

import psycopg


class Lock:
    """A connection that keeps everybody else from writing, from `take` to `leave`."""

    def __init__(self, url):
        if url.startswith("sqlite"):
            path = url.removeprefix("sqlite:///")
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._statements = ["BEGIN IMMEDIATE"]
        else:
            self._connection = psycopg.connect(url, autocommit=True)
            self._statements = ["BEGIN", "LOCK TABLE szal_steps, szal_executions IN EXCLUSIVE MODE"]

        self._is_taken = False

    def take(self):
        """Begin."""
        self._is_taken = True
        for statement in self._statements:
            self._connection.execute(statement)

    def execute(self, statement):
        """Carry out *statement*, over this connection."""
        self._connection.execute(statement)

    def leave(self):
        """End it; again: do nothing."""
        if self._is_taken:
            self._connection.execute("ROLLBACK")
        self._is_taken = False

    def close(self):
        """Leave, and close the connection."""
        self.leave()
        self._connection.close()
