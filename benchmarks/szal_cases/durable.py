"""Runs that are recorded, in each database and with each durability; what they write; taking them up again."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from operator import methodcaller
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.floors.drivers import BATCH, DATABASES, Batch, Database, Driver, Row
from benchmarks.szal_cases.flows import RETRIES, chain_of, doze, independent, layers_of
from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    PostgresExecutionStore,
    SqliteExecutionStore,
    StepContext,
    StepDef,
    WorkflowState,
)
from szal.engine.config import Durability
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.stores.sink.sink import Sink

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

Store: TypeAlias = SqliteExecutionStore | PostgresExecutionStore
Handler: TypeAlias = Callable[[StepContext], object]

CALLERS = 16
WARM = ExecutionRecord("first", "warm", WorkflowState.COMPLETED)


def rows_of_step(_: StepContext) -> dict[str, object]:
    """Do a step's work: something small to be recorded."""
    return {"rows": 12, "file": "part-0001.parquet"}


def store_at(place: str) -> Store:
    """Return the store at *place*, ready."""
    if place.startswith("postgresql:"):
        store: Store = PostgresExecutionStore.connect(place)
    else:
        store = SqliteExecutionStore.connect(place, synchronous="FULL")
    store.migrate()
    return store


@contextmanager
def engine_at(place: str, durability: Durability = "flow", handler: Handler = rows_of_step) -> Iterator[Engine]:
    """Give an engine whose writer has its thread and connection already."""
    with store_at(place) as store, store.engine_sink() as sink:
        sink.save(WARM)
        sink.flush()
        with Engine(handler, EngineConfig(execution_store=sink, durability=durability)) as engine:
            yield engine


def timed(work: Callable[[], object], engine: Engine) -> float:
    """Return how long *work* took; what the writer has not written by then is not left to the next repetition."""
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    sink = engine.config.execution_store
    assert isinstance(sink, Sink)
    sink.flush()
    return took


def succeeded(result: FlowResult) -> FlowResult:
    """Return *result*, which must be a success."""
    if not result.success:
        raise RuntimeError(f"{result.flow_name}: {result.error}")
    return result


# -- runs -------------------------------------------------------------------------------------------


def run(
    flow_of: Callable[[int], FlowDef], handler: Handler, database: Database, durability: Durability, job: "Job"
) -> "Iterator[Repetition]":
    """One run, until it returns. All have one engine, as in an application; the warm-up writes the definition."""
    flow = flow_of(job.size)
    with database.place(job) as place, engine_at(place, durability, handler) as engine:
        yield lambda: timed(lambda: succeeded(engine.run(flow)), engine)


def row(execution_id: str, number: int, step: StepResult) -> Row:
    """Return what has to be known of *step*, its output as JSON, its start as the engine has it."""
    return (
        execution_id,
        number,
        step.step_name,
        step.status.value,
        step.attempts,
        step._started_at,
        step.duration,
        step.error,
        json.dumps(step.output),
    )


def bare_run(database: Database, batch: Batch, flow_of: Callable[[int], FlowDef], job: "Job") -> "Iterator[Repetition]":
    """The same run without a store; then the outputs to JSON, and ready rows to a table in batches."""
    flow, names = flow_of(job.size), map("e{}".format, count())
    with database.place(job) as place, Engine(rows_of_step) as engine, database.connect(place) as driver:
        driver.make_steps()

        def repetition() -> None:
            result, name = engine.run(flow), next(names)
            rows = [row(name, number, step) for number, step in enumerate(result.steps)]
            for start in range(0, len(rows), BATCH):
                batch(driver, rows[start : start + BATCH])

        yield repetition


def small_flows(callers: int, database: Database, durability: Durability, job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, by so many threads."""
    yield from together([chain_of(3) for _ in range(job.size)], callers, database, durability, job)


def chains(callers: int, database: Database, job: "Job") -> "Iterator[Repetition]":
    """As many chains at once as there are callers, which have the steps of *job* among them."""
    flows = [chain_of(max(1, job.size // callers)) for _ in range(callers)]
    yield from together(flows, callers, database, "step", job)


def together(
    flows: Sequence[FlowDef], callers: int, database: Database, durability: Durability, job: "Job"
) -> "Iterator[Repetition]":
    """Run *flows* by so many threads."""
    with (
        database.place(job) as place,
        engine_at(place, durability) as engine,
        ThreadPoolExecutor(callers) as pool,
    ):
        yield lambda: timed(lambda: [succeeded(result) for result in pool.map(engine.run, flows)], engine)


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
    flow = chain_of(job.size)
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


Recorded: TypeAlias = Callable[[Database, Durability, "Job"], "Iterator[Repetition]"]

RUNS: dict[str, Recorded] = {
    "chain": partial(run, chain_of, rows_of_step),
    "chain-timeouts": partial(run, partial(chain_of, timeout=60.0), rows_of_step),
    "retry": partial(run, partial(chain_of, **RETRIES), rows_of_step),
    "fan-out": partial(run, independent, rows_of_step),
    "layers-2": partial(run, partial(layers_of, dependencies=2), rows_of_step),
    "layers-50": partial(run, partial(layers_of, dependencies=50), rows_of_step),
    "sleeps": partial(run, independent, doze),
    "flows": partial(small_flows, 1),
    "flows-8": partial(small_flows, 8),
}


def _cases(name: str, database: Database) -> "dict[str, dict[str, Subject]]":
    cases: dict[str, dict[str, Subject]] = {
        f"{case}-{name}": {
            "szal": partial(recorded, database, "flow"),
            'szal, "none"': partial(recorded, database, "none"),
            'szal, "step"': partial(recorded, database, "step"),
        }
        for case, recorded in RUNS.items()
    }
    # At the size of this one each step by itself would take minutes: it has a case of its own.
    cases[f"chain-{name}-step"] = {"szal": cases[f"chain-{name}"].pop('szal, "step"')}
    for case, flow_of in (("chain", chain_of), ("fan-out", independent)):
        for way, batch in database.batches.items():
            cases[f"{case}-{name}"][f"no store, JSON, {way}"] = partial(bare_run, database, batch, flow_of)
    return cases | {
        f"chains-{name}-step": {
            "szal": partial(chains, CALLERS, database),
            "szal, one chain": partial(chains, 1, database),
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
