"""Runs that are recorded in SQLite, and the store by itself."""

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from szal import Engine, EngineConfig, FlowDef, SqliteExecutionStore, StepContext, StepDef, WorkflowState
from szal.execution import ExecutionRecord, FlowResult, StepResult
from szal.state import StepStatus
from szal.stores.operation import Save
from szal.stores.sqlite import SAVE

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

STEPS = (
    "CREATE TABLE steps (execution_id TEXT NOT NULL, place INTEGER NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY (execution_id, place)) WITHOUT ROWID"
)
BATCH = 1000


def rows_of_step(_: StepContext) -> dict[str, object]:
    """Do a step's work: something small to be recorded."""
    return {"rows": 12, "file": "part-0001.parquet"}


def chain_of(size: int) -> FlowDef:
    """Return a sequential flow."""
    return FlowDef("chain", steps=[StepDef(f"step {place}") for place in range(size)])


def new_store(path: Path) -> SqliteExecutionStore:
    """Return a store in a new file, ready."""
    store = SqliteExecutionStore.connect(path, synchronous="FULL")
    store.migrate()
    return store


def raw(path: Path) -> sqlite3.Connection:
    """Return a connection as szal sets its own up."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def chain(job: "Job") -> "Iterator[Repetition]":
    """A run with a sink, committed when it returns; opening and closing are not counted."""
    flow = chain_of(job.size)

    def repetition() -> float:
        path = job.new_file()
        with new_store(path) as store, store.engine_sink() as sink:
            sink.save(ExecutionRecord("first", "warm"))  # the writer's thread and connection are there
            sink.flush()
            with Engine(rows_of_step, EngineConfig(execution_store=sink)) as engine:
                began = time.perf_counter()
                result = engine.run(flow)
                sink.flush()
                took = time.perf_counter() - began
            if not result.success:
                raise RuntimeError(result.error)
        _remove(path)
        return took

    yield repetition


def bare_chain(job: "Job") -> "Iterator[Repetition]":
    """The same run without a store; then the outputs to JSON, and ready rows to a table in batches."""
    flow = chain_of(job.size)
    with Engine(rows_of_step) as engine:

        def repetition() -> float:
            path = job.new_file()
            with closing(raw(path)) as connection:
                connection.execute(STEPS)
                began = time.perf_counter()
                result = engine.run(flow)
                rows = [("e1", place, json.dumps(step.output)) for place, step in enumerate(result.steps)]
                for start in range(0, len(rows), BATCH):
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany("INSERT INTO steps VALUES (?, ?, ?)", rows[start : start + BATCH])
                    connection.execute("COMMIT")
                took = time.perf_counter() - began
            _remove(path)
            return took

        yield repetition


def small_record(place: int, started: datetime) -> ExecutionRecord:
    """Return the record of a run of two steps."""
    execution_id = str(uuid.UUID(int=place))
    steps = [StepResult(f"{step:032x}", f"step {step}", StepStatus.COMPLETED, {"rows": place}) for step in range(2)]
    flow_name, state = f"flow {place % 10}", (WorkflowState.COMPLETED, WorkflowState.FAILED)[place % 20 >= 18]
    result = FlowResult(flow_name, steps, 0.5, execution_id=execution_id, state=state)
    return ExecutionRecord(execution_id, flow_name, state, result, started + timedelta(seconds=place), started)


def small_records(size: int) -> list[ExecutionRecord]:
    """Return so many records of small runs."""
    return [small_record(place, datetime(2026, 1, 1, tzinfo=UTC)) for place in range(size)]


def saves(job: "Job") -> "Iterator[Repetition]":
    """Records through the sink, encoded here, committed by the flush at the end."""
    records = small_records(job.size)

    def repetition() -> float:
        path = job.new_file()
        with new_store(path) as store, store.engine_sink() as sink:
            sink.save(ExecutionRecord("first", "warm"))
            sink.flush()
            began = time.perf_counter()
            for record in records:
                sink.save(record)
            sink.flush()
            took = time.perf_counter() - began
        _remove(path)
        return took

    yield repetition


def ready_rows(job: "Job", batch: int) -> "Iterator[Repetition]":
    """Rows that are encoded already, into szal's own table with its indexes, *batch* in a transaction."""
    rows = [Save.of(record).row() for record in small_records(job.size)]

    def repetition() -> float:
        path = job.new_file()
        new_store(path).close()
        with closing(raw(path)) as connection:
            began = time.perf_counter()
            for start in range(0, len(rows), batch):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(SAVE, rows[start : start + batch])
                connection.execute("COMMIT")
            took = time.perf_counter() - began
        _remove(path)
        return took

    yield repetition


def ready_rows_by_100(job: "Job") -> "Iterator[Repetition]":
    """A hundred in a transaction."""
    yield from ready_rows(job, 100)


def ready_rows_singly(job: "Job") -> "Iterator[Repetition]":
    """A transaction for each."""
    yield from ready_rows(job, 1)


def find(job: "Job") -> "Iterator[Repetition]":
    """A page of `find` as a list of runs shows it."""
    path = job.new_file()
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with new_store(path) as store:
        with closing(raw(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = (Save.of(small_record(place, started)).row() for place in range(job.size))
            connection.executemany(SAVE, rows)
            connection.execute("COMMIT")

        def repetition() -> None:
            if not store.find(flow_name="flow 8", states=WorkflowState.FAILED, limit=100):
                raise RuntimeError("nothing found")

        yield repetition
    _remove(path)


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


CASES: "dict[str, dict[str, Subject]]" = {
    "chain-sqlite": {"szal": chain, "no store, JSON, executemany": bare_chain},
    "saves": {
        "szal": saves,
        "executemany by 100, same table": ready_rows_by_100,
        "a transaction each, same table": ready_rows_singly,
    },
    "find": {"szal": find},
}
