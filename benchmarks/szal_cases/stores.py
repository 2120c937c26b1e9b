"""The stores by themselves: records saved through the sink, and `find`."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.floors.drivers import BATCH, DATABASES, Database
from benchmarks.szal_cases.durable import WARM, store_at
from szal import WorkflowState
from szal.model.json import encode_record
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

SAVE = (
    "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, ?, ?)"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def small_record(place: int) -> ExecutionRecord:
    """Return the record of a run of two steps."""
    execution_id = str(uuid.UUID(int=place))
    steps = [StepResult(f"{step:032x}", f"step {step}", StepStatus.COMPLETED, {"rows": place}) for step in range(2)]
    flow_name, state = f"flow {place % 10}", (WorkflowState.COMPLETED, WorkflowState.FAILED)[place % 20 >= 18]
    result = FlowResult(flow_name, steps, 0.5, execution_id=execution_id, state=state)
    return ExecutionRecord(execution_id, flow_name, state, result, START + timedelta(seconds=place), START)


def row_of(record: ExecutionRecord) -> tuple[str, str, str]:
    """Return what a store writes of *record*."""
    return record.execution_id, record.flow_name, encode_record(record)


def saves(database: Database, job: "Job") -> "Iterator[Repetition]":
    """Records through the sink, encoded here, committed by the flush at the end."""
    records = [small_record(place) for place in range(job.size)]

    def repetition() -> float:
        with database.place(job) as place, store_at(place) as store, store.engine_sink() as sink:
            sink.save(WARM)
            sink.flush()
            began = time.perf_counter()
            for record in records:
                sink.save(record)
            sink.flush()
            return time.perf_counter() - began

    yield repetition


def ready_rows(database: Database, batch: int, job: "Job") -> "Iterator[Repetition]":
    """Rows that are encoded already, into szal's own table with its indexes, *batch* in a transaction."""
    rows = [row_of(small_record(place)) for place in range(job.size)]

    def repetition() -> float:
        with database.place(job) as place:
            store_at(place).close()
            with database.connect(place) as driver:
                began = time.perf_counter()
                for start in range(0, len(rows), batch):
                    driver.many(SAVE, rows[start : start + batch])
                return time.perf_counter() - began

    yield repetition


def find(job: "Job") -> "Iterator[Repetition]":
    """A page of `find` as a list of runs shows it."""
    database = DATABASES["sqlite"]
    with database.place(job) as place, store_at(place) as store:
        with database.connect(place) as driver:
            for start in range(0, job.size, 100_000):
                places = range(start, min(start + 100_000, job.size))
                driver.many(SAVE, [row_of(small_record(place)) for place in places])

        def repetition() -> None:
            if not store.find(flow_name="flow 8", states=WorkflowState.FAILED, limit=100):
                raise RuntimeError("nothing found")

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    **{
        f"saves-{name}": {
            "szal": partial(saves, database),
            "executemany by 1000, same table": partial(ready_rows, database, BATCH),
            "a transaction each, same table": partial(ready_rows, database, 1),
        }
        for name, database in DATABASES.items()
    },
    "find": {"szal": find},
}
