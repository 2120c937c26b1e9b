"""SQLite through the standard library alone."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

STEPS = (
    "CREATE TABLE steps (execution_id TEXT NOT NULL, place INTEGER NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY (execution_id, place)) WITHOUT ROWID"
)
PLAIN = "CREATE TABLE executions (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
UPSERT = (
    "INSERT INTO executions VALUES (?, ?, ?)"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection with the settings of szal's."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def chain(job: "Job") -> "Iterator[Repetition]":
    """Call a function, record its output, commit; then the next."""

    def repetition() -> float:
        path = job.new_file()
        with closing(connect(path)) as connection:
            connection.execute(STEPS)
            began = time.perf_counter()
            for place in range(job.size):
                output = {"rows": 12, "file": "part-0001.parquet"}
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO steps VALUES ('e1', ?, ?)", (place, json.dumps(output)))
                connection.execute("COMMIT")
            took = time.perf_counter() - began
        _remove(path)
        return took

    yield repetition


def saves(job: "Job") -> "Iterator[Repetition]":
    """Ready rows into a table that has no index but its key, a hundred in a transaction."""
    step = {"status": "Completed", "output": {"rows": 1}, "duration_ms": 0, "attempts": 0, "error": None}
    results = [{"step_id": f"{number:032x}", **step, "step_name": f"step {number}"} for number in range(2)]
    result = {"flow_name": "flow 1", "steps": results, "total_duration_ms": 500, "success": True, "rolled_back": False}
    times = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:00:00+00:00"}
    data = json.dumps({"execution_id": "e", "flow_name": "flow 1", "state": "Completed", "result": result, **times})
    rows = [(f"{place:032x}", f"flow {place % 10}", data) for place in range(job.size)]

    def repetition() -> float:
        path = job.new_file()
        with closing(connect(path)) as connection:
            connection.execute(PLAIN)
            began = time.perf_counter()
            for start in range(0, len(rows), 100):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(UPSERT, rows[start : start + 100])
                connection.execute("COMMIT")
            took = time.perf_counter() - began
        _remove(path)
        return took

    yield repetition


def find(job: "Job") -> "Iterator[Repetition]":
    """A page by an index of real columns, newest first."""
    path = job.new_file()
    with closing(connect(path)) as connection:
        connection.execute(
            "CREATE TABLE executions"
            " (execution_id TEXT PRIMARY KEY, flow_name TEXT, state TEXT, started TEXT, data TEXT)"
        )
        connection.execute("CREATE INDEX by_start ON executions (flow_name, state, started, execution_id)")
        connection.execute("BEGIN IMMEDIATE")
        rows = (
            (
                f"{place:032x}",
                f"flow {place % 10}",
                "Failed" if place % 20 >= 18 else "Completed",
                f"{place:012}",
                "x" * 400,
            )
            for place in range(job.size)
        )
        connection.executemany("INSERT INTO executions VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        page = (
            "SELECT execution_id, flow_name, state, started, data FROM executions WHERE flow_name = ? AND state = ?"
            " ORDER BY started DESC, execution_id DESC LIMIT 100"
        )
        yield lambda: connection.execute(page, ("flow 8", "Failed")).fetchall()
    _remove(path)


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


CASES: "dict[str, dict[str, Subject]]" = {
    "chain-sqlite": {"sqlite3, a transaction a step": chain},
    "saves": {"executemany by 100, no indexes": saves},
    "find": {"sqlite3, real columns": find},
}
