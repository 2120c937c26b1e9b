"""Runs that are recorded, in each database and with each durability; what they write; taking them up again."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing import get_context
from operator import methodcaller
from typing import TYPE_CHECKING, Literal, TypeAlias

from benchmarks.floors.drivers import BATCH, DATABASES, Batch, Database, Driver, Row
from benchmarks.szal_cases.flows import RETRIES, chain_of, doze, independent, items_of, layers_of
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
    from multiprocessing.connection import Connection

    from benchmarks.worker import Job, Repetition, Subject

Store: TypeAlias = SqliteExecutionStore | PostgresExecutionStore
Handler: TypeAlias = Callable[[StepContext], object]

CALLERS = 16
TAILS = ("p50", "p99", "each")
WARM = ExecutionRecord("first", "warm", WorkflowState.COMPLETED)


def rows_of_step(_: StepContext) -> dict[str, object]:
    """Do a step's work: something small to be recorded."""
    return {"rows": 12, "file": "part-0001.parquet"}


def store_at(place: str, synchronous: Literal["OFF", "FULL"] = "FULL") -> Store:
    """Return the store at *place*, ready; SQLite's is *synchronous*."""
    if place.startswith("postgresql:"):
        store: Store = PostgresExecutionStore.connect(place)
    else:
        store = SqliteExecutionStore.connect(place, synchronous=synchronous)
    store.migrate()
    return store


@contextmanager
def engine_at(
    place: str,
    durability: Durability = "flow",
    handler: Handler = rows_of_step,
    synchronous: Literal["OFF", "FULL"] = "FULL",
) -> Iterator[Engine]:
    """Give an engine whose writer has its thread and connection already."""
    with store_at(place, synchronous) as store, store.engine_sink() as sink:
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


def unsynchronized(job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, one after another, where SQLite waits for no disk: what is left is szal's own work."""
    flows = [chain_of(3) for _ in range(job.size)]
    with DATABASES["sqlite"].place(job) as place, engine_at(place, synchronous="OFF") as engine:
        yield lambda: timed(lambda: [succeeded(engine.run(flow)) for flow in flows], engine)


def tails(database: Database, durability: Durability, what: str, job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, by as many threads as *job* is large; see `Job.tails`."""
    flow = chain_of(3)
    with database.place(job) as place, engine_at(place, durability) as engine:
        yield from job.tails(what, lambda: succeeded(engine.run(flow)))


def in_processes(number: int, database: Database, job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, shared among so many processes, which have an engine each and begin together."""
    flow, context = chain_of(3), get_context("fork")

    def work(pipe: "Connection[object, object]") -> None:
        with engine_at(place) as engine:
            pipe.send("ready")
            while pipe.recv() == "go":
                for _ in range(job.size // number):
                    succeeded(engine.run(flow))
                pipe.send("done")

    def all_hear(word: str) -> None:
        for pipe, _ in pipes:
            pipe.send(word)

    def all_tell(word: str) -> None:
        for pipe, _ in pipes:
            if pipe.recv() != word:
                raise RuntimeError("a process did not do its part")

    def repetition() -> None:
        all_hear("go")
        all_tell("done")

    with database.place(job) as place:
        store_at(place).close()
        pipes = [context.Pipe() for _ in range(number)]
        processes = [context.Process(target=work, args=[theirs], daemon=True) for _, theirs in pipes]
        for process in processes:
            process.start()
        all_tell("ready")
        yield repetition
        all_hear("end")
        for process in processes:
            process.join()


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


def resume_last(database: Database, job: "Job") -> "Iterator[Repetition]":
    """An execution whose process died before its last step, each step committed: taken up, and brought to its end."""
    flow = chain_of(job.size)
    last = flow.steps[-1].name

    def dying(ctx: StepContext) -> dict[str, object]:
        if ctx.step.name == last:
            os._exit(0)
        return rows_of_step(ctx)

    def die(place: str) -> None:
        with engine_at(place, "step", dying) as engine:
            engine.run(flow, execution_id="e")

    def repetition() -> float:
        with database.place(job) as place:
            process = get_context("fork").Process(target=die, args=[place])
            process.start()
            process.join()
            with engine_at(place, "step") as engine:
                began = time.perf_counter()
                succeeded(engine.resume("e"))
                return time.perf_counter() - began

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
    cases[f"flows-8-{name}"]["szal, one thread"] = cases[f"flows-{name}"]["szal"]
    return cases | {
        f"chains-{name}-step": {
            "szal": partial(chains, CALLERS, database),
            "szal, one chain": partial(chains, 1, database),
        },
        f"items-{name}": {
            "szal": partial(run, items_of, rows_of_step, database, "flow"),
            "szal, as many steps": partial(run, independent, rows_of_step, database, "flow"),
        },
        f"written-{name}": {
            "szal": partial(grown, database, methodcaller("written")),
            "szal, kept": partial(grown, database, methodcaller("kept")),
        },
        f"resume-{name}": {"szal": partial(resume, database)},
        f"resume-last-{name}": {"szal": partial(resume_last, database)},
        f"callers-{name}": {
            f"{label}: {what}": partial(tails, database, durability, what)
            for label, durability in (("szal", "flow"), ('szal, "step"', "step"))
            for what in TAILS
        },
    }


CASES: "dict[str, dict[str, Subject]]" = {
    **{case: subjects for name, database in DATABASES.items() for case, subjects in _cases(name, database).items()},
    "flows-sqlite-off": {"szal": unsynchronized},
    "processes-postgres": {
        "szal": partial(in_processes, 4, DATABASES["postgres"]),
        "szal, one process": partial(in_processes, 1, DATABASES["postgres"]),
    },
}
