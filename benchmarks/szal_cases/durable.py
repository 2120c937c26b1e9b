"""Runs that are recorded, in each database and with each durability; what they write; taking them up again."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from operator import methodcaller
from typing import TYPE_CHECKING

from benchmarks.floors.drivers import DATABASES, Batch, Database, Driver
from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    PostgresExecutionStore,
    SqliteExecutionStore,
    StepContext,
    StepDef,
    WorkflowState,
)
from szal.config import Durability
from szal.execution import ExecutionRecord, FlowResult

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

Store = SqliteExecutionStore | PostgresExecutionStore

BATCH = 1000
CALLERS = 16
WARM = ExecutionRecord("first", "warm", WorkflowState.COMPLETED)


def rows_of_step(_: StepContext) -> dict[str, object]:
    """Do a step's work: something small to be recorded."""
    return {"rows": 12, "file": "part-0001.parquet"}


def chain_of(size: int) -> FlowDef:
    """Return a sequential flow."""
    return FlowDef("chain", steps=[StepDef(f"step {place}") for place in range(size)])


def independent(size: int) -> FlowDef:
    """Return a flow whose steps may all run at once."""
    return FlowDef("fan-out", FlowMode.PARALLEL, steps=[StepDef(f"step {place}") for place in range(size)])


def store_at(place: str) -> Store:
    """Return the store at *place*, ready."""
    if place.startswith("postgresql:"):
        store: Store = PostgresExecutionStore.connect(place)
    else:
        store = SqliteExecutionStore.connect(place, synchronous="FULL")
    store.migrate()
    return store


@contextmanager
def engine_at(place: str, durability: Durability = "flow") -> Iterator[Engine]:
    """Give an engine whose writer has its thread and connection already."""
    with store_at(place) as store, store.engine_sink() as sink:
        sink.save(WARM)
        sink.flush()
        with Engine(rows_of_step, EngineConfig(execution_store=sink, durability=durability)) as engine:
            yield engine


def succeeded(result: FlowResult) -> FlowResult:
    """Return *result*, which must be a success."""
    if not result.success:
        raise RuntimeError(f"{result.flow_name}: {result.error}")
    return result


# -- runs -------------------------------------------------------------------------------------------


def run(
    database: Database, durability: Durability, flow_of: Callable[[int], FlowDef], job: "Job"
) -> "Iterator[Repetition]":
    """One run, until it returns; opening and closing are not counted, nor the definition, which the warm-up writes."""
    flow = flow_of(job.size)
    with database.place(job) as place:

        def repetition() -> float:
            with engine_at(place, durability) as engine:
                began = time.perf_counter()
                result = engine.run(flow)
                took = time.perf_counter() - began
                succeeded(result)
            return took

        yield repetition


def bare_run(database: Database, batch: Batch, flow_of: Callable[[int], FlowDef], job: "Job") -> "Iterator[Repetition]":
    """The same run without a store; then the outputs to JSON, and ready rows to a table in batches."""
    flow, names = flow_of(job.size), map("e{}".format, count())
    with database.place(job) as place, Engine(rows_of_step) as engine:
        with database.connect(place) as driver:
            driver.make_steps()

        def repetition() -> float:
            name = next(names)
            with database.connect(place) as driver:
                began = time.perf_counter()
                result = engine.run(flow)
                rows = [(name, number, json.dumps(step.output)) for number, step in enumerate(result.steps)]
                for start in range(0, len(rows), BATCH):
                    batch(driver, rows[start : start + BATCH])
                return time.perf_counter() - began

        yield repetition


def small_flows(database: Database, callers: int, job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, each committed when its run returns."""
    flows = [chain_of(3) for _ in range(job.size)]

    def repetition() -> float:
        with (
            database.place(job) as place,
            engine_at(place) as engine,
            ThreadPoolExecutor(callers) as pool,
        ):
            began = time.perf_counter()
            results = list(pool.map(engine.run, flows))
            took = time.perf_counter() - began
            for result in results:
                succeeded(result)
        return took

    yield repetition


def chains(database: Database, callers: int, job: "Job") -> "Iterator[Repetition]":
    """As many chains at once as there are callers, which have the steps of *job* among them."""
    flows = [chain_of(max(1, job.size // callers)) for _ in range(callers)]

    def repetition() -> float:
        with (
            database.place(job) as place,
            engine_at(place, "step") as engine,
            ThreadPoolExecutor(callers) as pool,
        ):
            began = time.perf_counter()
            results = list(pool.map(engine.run, flows))
            took = time.perf_counter() - began
            for result in results:
                succeeded(result)
        return took

    yield repetition


# -- what is written --------------------------------------------------------------------------------


def grown(database: Database, measured: Callable[[Driver], int], job: "Job") -> "Iterator[Repetition]":
    """By how much a measure of bytes has grown after one run in a new database, the definition included."""
    flow = chain_of(job.size)

    def repetition() -> float:
        with database.place(job) as place, engine_at(place) as engine, database.connect(place) as driver:
            before = measured(driver)
            succeeded(engine.run(flow))
            return float(measured(driver) - before)

    yield repetition


# -- going on ---------------------------------------------------------------------------------------


def resume(database: Database, job: "Job") -> "Iterator[Repetition]":
    """An execution that waits, with so many steps done: taken up by a new engine, found waiting, let go."""
    flow = FlowDef("chain", steps=[StepDef(f"step {place}") for place in range(job.size)])
    flow.add_step(StepDef("approval", step_type="wait", config={"signal": "approve"}))
    with database.place(job) as place:
        with engine_at(place) as engine:
            execution_id = engine.run(flow).execution_id
        assert execution_id is not None

        def repetition() -> float:
            with engine_at(place) as engine:
                began = time.perf_counter()
                result = engine.resume(execution_id)
                took = time.perf_counter() - began
            if result.state is not WorkflowState.PAUSED or result.completed_count != job.size:
                raise RuntimeError(f"{result.state}: {result.error}")
            return took

        yield repetition


def _cases(name: str, database: Database) -> "dict[str, dict[str, Subject]]":
    def runs(flow_of: Callable[[int], FlowDef]) -> "dict[str, Subject]":
        return {
            "szal": partial(run, database, "flow", flow_of),
            'szal, "none"': partial(run, database, "none", flow_of),
            **{
                f"no store, JSON, {way}": partial(bare_run, database, batch, flow_of)
                for way, batch in database.batches.items()
            },
        }

    return {
        f"chain-{name}": runs(chain_of),
        f"chain-{name}-step": {"szal": partial(run, database, "step", chain_of)},
        f"chains-{name}-step": {
            "szal": partial(chains, database, CALLERS),
            "szal, one chain": partial(chains, database, 1),
        },
        f"fan-out-{name}": {**runs(independent), 'szal, "step"': partial(run, database, "step", independent)},
        f"flows-{name}": {
            "szal": partial(small_flows, database, 1),
            "szal, 8 threads": partial(small_flows, database, 8),
        },
        f"written-{name}": {
            "szal": partial(grown, database, methodcaller("written")),
            "szal, kept": partial(grown, database, methodcaller("kept")),
        },
        f"resume-{name}": {"szal": partial(resume, database)},
    }


CASES: "dict[str, dict[str, Subject]]" = {
    case: subjects for name, database in DATABASES.items() for case, subjects in _cases(name, database).items()
}
