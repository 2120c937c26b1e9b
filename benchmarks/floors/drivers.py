"""The databases by themselves: a new place in each, and its driver at the settings that szal uses.

What a row is, is the same for both: what has to be known of a step that is done.
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

__all__ = ["BATCH", "DATABASES", "INSERT", "Batch", "Database", "Driver", "Psycopg", "Row"]

BATCH = 1000  # rows in a transaction where it may be as many as one likes: szal's sink takes that many at most
Row: TypeAlias = tuple[Any, ...]
COLUMNS = {
    "execution_id": "text",
    "place": "bigint",
    "name": "text",
    "status": "text",
    "attempts": "bigint",
    "started": "double precision",
    "duration": "double precision",
    "error": "text",
    "output": "text",  # JSON
}
TABLE = f"({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())}, PRIMARY KEY (execution_id, place))"
INSERT = f"INSERT INTO bench_steps VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_VALUES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in ("execution_id", "place"))
_OVER = f"ON CONFLICT (execution_id, place) DO UPDATE SET {_VALUES}"
UPSERT = f"{INSERT} {_OVER}"


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
        self._connection.execute(f"CREATE TABLE bench_steps {TABLE} WITHOUT ROWID")

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
        connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=60)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        yield Sqlite3(connection)
        connection.close()


class Psycopg:
    """psycopg, with autocommit where a transaction is one statement."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection

    def make_steps(self) -> None:
        self.connection.execute(f"CREATE TABLE bench_steps {TABLE}")

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


def _unnest(parameter: str) -> str:
    arrays = ", ".join(f"{parameter}::{kind}[]" for kind in COLUMNS.values())
    return f"INSERT INTO bench_steps SELECT * FROM unnest({arrays}) {_OVER}"  # noqa: S608


_UNNEST, _UNNEST_BINARY = _unnest("%s"), _unnest("%b")
_FIELDS = ", ".join(f"(r->>{place})::{kind}" for place, kind in enumerate(COLUMNS.values()))
_JSON = f"INSERT INTO bench_steps SELECT {_FIELDS} FROM json_array_elements(%s::json) AS r {_OVER}"  # noqa: S608


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def by_unnest(driver: Psycopg, rows: Sequence[Row]) -> None:
    """One statement over arrays, sent as text."""
    driver.connection.execute(_UNNEST, _columns(rows))


def by_unnest_binary(driver: Psycopg, rows: Sequence[Row]) -> None:
    """The same, arrays sent in PostgreSQL's binary format."""
    driver.connection.execute(_UNNEST_BINARY, _columns(rows))


def by_json(driver: Psycopg, rows: Sequence[Row]) -> None:
    """One statement over one JSON text."""
    import json

    driver.connection.execute(_JSON, [json.dumps(rows)])


def by_copy(driver: Psycopg, rows: Sequence[Row]) -> None:
    """COPY into a temporary table, and from there."""
    with driver.connection.transaction(), driver.connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS bench_new (LIKE bench_steps) ON COMMIT DELETE ROWS")
        with cursor.copy("COPY bench_new FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(f"INSERT INTO bench_steps SELECT * FROM bench_new {_OVER}")  # noqa: S608


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
