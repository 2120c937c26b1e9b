"""DBOS: a durable workflow whose every step is a row, in SQLite and in PostgreSQL."""

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

_SCHEMA = f"dbos_{os.getpid()}"
_databases: list[str] = []  # a process has one, for all its sizes


def workflow(database: str, job: "Job") -> "Iterator[Repetition]":
    """Yield a repetition that runs a workflow of *job*'s size."""
    from dbos import DBOS

    url = job.given["postgres"] if database == "postgres" else f"sqlite:///{job.folder / 'dbos.sqlite'}"
    if not _databases:
        _databases.append(url)
        DBOS(
            config={
                "name": "benchmark",
                "system_database_url": url,
                "dbos_system_schema": _SCHEMA,
                "run_admin_server": False,
                "log_level": "CRITICAL",
            }
        )

    @DBOS.step(name=f"one-{job.size}")
    def one() -> dict[str, object]:
        return {"rows": 12, "file": "part-0001.parquet"}

    @DBOS.workflow(name=f"chain-{job.size}")
    def chained() -> int:
        for _ in range(job.size):
            one()
        return job.size

    DBOS.launch()
    yield chained
    DBOS.destroy()
    if database == "postgres":
        import psycopg

        with psycopg.connect(job.given["postgres"], autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import dbos")


CASES: "dict[str, dict[str, Subject]]" = {
    "import": {"dbos": imported},
    **{
        f"chain-{database}{when}": {"dbos": partial(workflow, database)}
        for database in ("sqlite", "postgres")
        for when in ("", "-step")
    },
}
LARGEST = {"chain-sqlite": 100, "chain-postgres": 100}
