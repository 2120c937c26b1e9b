"""The databases by themselves: a new place in each, and its driver at the settings that szal uses.

What a row is, is the same for both: an execution, a place in it, and JSON.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote

if TYPE_CHECKING:
    import psycopg

    from benchmarks.worker import Job

__all__ = ["DATABASES", "Batch", "Database", "Driver", "Psycopg"]

Row: TypeAlias = tuple[Any, ...]
INSERT = "INSERT INTO bench_steps VALUES (?, ?, ?)"
UPSERT = f"{INSERT} ON CONFLICT (execution_id, place) DO UPDATE SET data = excluded.data"


class Driver(Protocol):
    """A connection that says nothing but what it is told. In a statement a parameter is `?`."""

    def make_steps(self) -> None:
        """Make the table `bench_steps`."""
        ...

    def one(self, statement: str, row: Row) -> None:
        """Run *statement* in a transaction of its own."""
        ...

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run *statement* for all of *rows* in one transaction."""
        ...

    def rows(self, statement: str) -> list[Row]:
        """Return what *statement* selects."""
        ...

    def written(self) -> int:
        """Return a number of bytes that grows with what is written."""
        ...

    def kept(self) -> int:
        """Return how many bytes the database takes."""
        ...


Batch: TypeAlias = Callable[[Any, Sequence[Row]], None]
"""Writes rows to `bench_steps` in one transaction, putting them in the place of those with their key."""


class Database(Protocol):
    """Makes places, and connections to them."""

    batches: Mapping[str, Batch]
    """Ways to write a batch of rows that are ready, by name."""

    def place(self, job: "Job") -> AbstractContextManager[str]:
        """Give the address of a new, empty place, which goes afterwards."""
        ...

    def connect(self, place: str) -> AbstractContextManager[Driver]:
        """Give a connection."""
        ...


class Sqlite3:
    """The standard library's driver."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def make_steps(self) -> None:
        self._connection.execute(
            "CREATE TABLE bench_steps (execution_id TEXT NOT NULL, place INTEGER NOT NULL, data TEXT NOT NULL,"
            " PRIMARY KEY (execution_id, place)) WITHOUT ROWID"
        )

    def one(self, statement: str, row: Row) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(statement, row)
        self._connection.execute("COMMIT")

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")

    def rows(self, statement: str) -> list[Row]:
        return self._connection.execute(statement).fetchall()

    def written(self) -> int:
        """Return what this process has written to files, with what is on its way from the log to the database."""
        self.rows("PRAGMA wal_checkpoint")
        fields = Path("/proc/self/io").read_text().splitlines()
        return next(int(field.split()[1]) for field in fields if field.startswith("wchar"))

    def kept(self) -> int:
        ((pages,),) = self.rows("PRAGMA page_count")
        ((size,),) = self.rows("PRAGMA page_size")
        return int(pages) * int(size)


class Sqlite:
    """A file for each place."""

    batches: Mapping[str, Batch] = {"executemany": lambda driver, rows: driver.many(UPSERT, rows)}

    @contextmanager
    def place(self, job: "Job") -> Iterator[str]:
        path = job.new_file()
        yield str(path)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    @contextmanager
    def connect(self, place: str) -> Iterator[Sqlite3]:
        connection = sqlite3.connect(place, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        yield Sqlite3(connection)
        connection.close()


class Psycopg:
    """psycopg, with autocommit where a transaction is one statement."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection

    def make_steps(self) -> None:
        self.connection.execute(
            "CREATE TABLE bench_steps (execution_id TEXT NOT NULL, place BIGINT NOT NULL, data TEXT NOT NULL,"
            " PRIMARY KEY (execution_id, place))"
        )

    def one(self, statement: str, row: Row) -> None:
        self.connection.execute(statement.replace("?", "%s"), row)

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s"), rows)  # psycopg sends them as a pipeline

    def rows(self, statement: str) -> list[Row]:
        return self.connection.execute(statement).fetchall()

    def written(self) -> int:
        """Return how long the server's log of changes is."""
        ((length,),) = self.rows("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
        return int(length)

    def kept(self) -> int:
        tables = "SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        ((size,),) = self.rows(f"SELECT sum(pg_total_relation_size(oid))::bigint FROM ({tables})")  # noqa: S608
        return int(size)


_INTO = "INSERT INTO bench_steps (execution_id, place, data)"
_OVER = "ON CONFLICT (execution_id, place) DO UPDATE SET data = excluded.data"


def by_unnest(driver: Psycopg, rows: Sequence[Row]) -> None:
    """One statement over arrays, sent as text and not prepared anew."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    source = "SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[])"
    driver.connection.execute(f"{_INTO} {source} {_OVER}", columns)


def by_unnest_binary(driver: Psycopg, rows: Sequence[Row]) -> None:
    """The same, arrays sent in PostgreSQL's binary format."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    source = "SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[])"
    driver.connection.execute(f"{_INTO} {source} {_OVER}", columns)


def by_json(driver: Psycopg, rows: Sequence[Row]) -> None:
    """One statement over one JSON text."""
    import json

    source = "SELECT r->>0, (r->>1)::bigint, r->>2 FROM json_array_elements(%s::json) AS r"
    driver.connection.execute(f"{_INTO} {source} {_OVER}", [json.dumps(rows)])


def by_copy(driver: Psycopg, rows: Sequence[Row]) -> None:
    """COPY into a temporary table, and from there."""
    with driver.connection.transaction(), driver.connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS bench_new (LIKE bench_steps) ON COMMIT DELETE ROWS")
        with cursor.copy("COPY bench_new FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(f"{_INTO} SELECT * FROM bench_new {_OVER}")  # noqa: S608


class Postgres:
    """A schema for each place, on the server that the suite has started."""

    batches: Mapping[str, Batch] = {
        "executemany": lambda driver, rows: driver.many(UPSERT, rows),
        "unnest": by_unnest,
        "unnest, binary": by_unnest_binary,
        "json": by_json,
        "COPY": by_copy,
    }
    _numbers = count()

    @contextmanager
    def place(self, job: "Job") -> Iterator[str]:
        import psycopg

        url = job.given["postgres"]
        schema = f"bench_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{url}{'&' if '?' in url else '?'}options={quote(f'-c search_path={schema}')}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(f"DROP SCHEMA {schema} CASCADE")

    @contextmanager
    def connect(self, place: str) -> Iterator[Psycopg]:
        import psycopg

        with psycopg.connect(place, autocommit=True) as connection:
            yield Psycopg(connection)


DATABASES: Mapping[str, Database] = {"sqlite": Sqlite(), "postgres": Postgres()}
