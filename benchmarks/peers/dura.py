"""dura: a task in SQLite, whose every step is a checkpoint that the calling thread commits."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


class Died(BaseException):
    """What ends a task in the middle, as far as dura can tell."""


def one() -> dict[str, object]:
    """Do a step's work."""
    return {"rows": 12, "file": "part-0001.parquet"}


def chained(engine: Any, task: Any) -> int:
    """Do the steps of a task, one after another."""
    steps: int = task.params["steps"]
    for number in range(steps):
        engine.checkpoint(task_id=task.task_id, step_name=f"s{number}", fn=one)
    return steps


def dying(engine: Any, task: Any) -> int:
    """Do the same, but for the last step."""
    steps: int = task.params["steps"]
    for number in range(steps - 1):
        engine.checkpoint(task_id=task.task_id, step_name=f"s{number}", fn=one)
    raise Died


def engine_of(job: "Job", *, synchronous: str = "FULL") -> Any:
    """Return an engine with a new file. It lets nobody say what is synchronous: so this thread's connection is told."""
    from dura import DurableEngine

    engine = DurableEngine(job.new_file())
    if synchronous != "FULL":
        engine._conn().execute(f"PRAGMA synchronous={synchronous}")
    return engine


def work(engine: Any, handler: Any = chained, seconds: int = 120) -> None:
    """Claim the next task for so long, and do it, as dura's workers do."""
    from dura.workers import process_task

    task = None
    while task is None:  # a claim may be older than the task, where the file was locked meanwhile
        task = engine.claim_task(worker_id="worker", timeout_secs=seconds)
    process_task(engine, handlers={"chain": handler}, task=task)


def run(engine: Any, steps: int, *_: object) -> None:
    """Do a task of so many steps."""
    engine.spawn_task(name="chain", params={"steps": steps})
    work(engine)


def chain(job: "Job") -> "Iterator[Repetition]":
    """A task of many steps."""
    yield partial(run, engine_of(job), job.size)


def flows(synchronous: str, job: "Job") -> "Iterator[Repetition]":
    """Tasks of three steps, one after another."""
    engine = engine_of(job, synchronous=synchronous)

    def repetition() -> None:
        for _ in range(job.size):
            run(engine, 3)

    yield repetition


def flows_8(job: "Job") -> "Iterator[Repetition]":
    """The same by eight threads, each of which has a connection."""
    engine = engine_of(job)
    with ThreadPoolExecutor(8) as callers:
        yield lambda: list(callers.map(partial(run, engine, 3), range(job.size)))


def tails(what: str, job: "Job") -> "Iterator[Repetition]":
    """The same by as many threads as *job* is large."""
    engine = engine_of(job)
    yield from job.tails(what, lambda: run(engine, 3))


def resume_last(job: "Job") -> "Iterator[Repetition]":
    """A task that died before its last step, claimed again, once its claim has run out."""

    def repetition() -> float:
        engine = engine_of(job)
        engine.spawn_task(name="chain", params={"steps": job.size})
        with suppress(Died):
            work(engine, dying, seconds=0)
        began = time.perf_counter()
        work(engine)
        took = time.perf_counter() - began
        if engine.task_counts_by_state() != {"completed": 1}:
            raise RuntimeError("it did not go on")
        engine.close()
        return took

    yield repetition


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import dura")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain-sqlite": {"dura": chain},
    "chain-sqlite-step": {"dura": chain},
    "flows-sqlite": {"dura": partial(flows, "FULL")},
    "flows-sqlite-off": {"dura": partial(flows, "OFF")},
    "flows-8-sqlite": {"dura": flows_8},
    "callers-sqlite": {f"dura: {what}": partial(tails, what) for what in ("p50", "p99", "each")},
    "resume-last-sqlite": {"dura": resume_last},
    "import": {"dura": imported},
}
LARGEST = {"chain-sqlite": 10_000}
