"""OpenStack's TaskFlow: the serial engine and the parallel one, in memory and with its persistence in SQLite."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def task(name: str, *, seconds: float = 0.0, requires: tuple[str, ...] = (), provides: str | None = None) -> Any:
    """Return a task that does a step's work."""
    from taskflow.task import FunctorTask

    def one(**_: object) -> int:
        if seconds:
            time.sleep(seconds)
        return 1

    return FunctorTask(one, name=name, requires=requires, provides=provides, auto_extract=False)


def chain_of(size: int) -> Any:
    """Return a linear flow."""
    from taskflow.patterns import linear_flow

    return linear_flow.Flow("chain").add(*(task(f"step {place}") for place in range(size)))


def independent(size: int, seconds: float = 0.0) -> Any:
    """Return an unordered flow."""
    from taskflow.patterns import unordered_flow

    return unordered_flow.Flow("fan-out").add(*(task(f"step {place}", seconds=seconds) for place in range(size)))


def layers_of(size: int, dependencies: int) -> Any:
    """Return a graph flow, wired by what its tasks require and provide."""
    from taskflow.patterns import graph_flow

    width = max(1, min(50, size // 2))
    tasks = []
    for place in range(size):
        start = place // width * width - width
        before = [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        needs = tuple(f"r{source}" for source in before)
        tasks.append(task(f"step {place}", requires=needs, provides=f"r{place}"))
    return graph_flow.Flow("layers").add(*tasks)


def runs(flow: Any, listener: Any = None, **options: Any) -> "Iterator[Repetition]":
    """Yield a repetition that runs *flow* on a fresh engine; compiling and preparing are not counted.

    *listener* is told of every change of a task's state: RUNNING and SUCCESS.
    """
    from taskflow import engines

    def repetition() -> float:
        engine = engines.load(flow, **options)
        engine.compile()
        engine.prepare()
        engine.validate()
        if listener is not None:
            engine.atom_notifier.register("*", listener)
        began = time.perf_counter()
        engine.run()
        return time.perf_counter() - began

    yield repetition


def parallel(flow: Any) -> "Iterator[Repetition]":
    """Yield a repetition on the engine that runs tasks on a pool of threads."""
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from runs(flow, engine="parallel", executor=pool)


def chain(job: "Job") -> "Iterator[Repetition]":
    """On this thread."""
    yield from runs(chain_of(job.size), engine="serial")


def events(job: "Job") -> "Iterator[Repetition]":
    """Two notifications a task."""
    heard = itertools.count()
    yield from runs(chain_of(job.size), lambda *_: next(heard), engine="serial")


def chain_parallel(job: "Job") -> "Iterator[Repetition]":
    """On a pool."""
    yield from parallel(chain_of(job.size))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent tasks."""
    yield from parallel(independent(job.size))


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two requirements a task."""
    yield from parallel(layers_of(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from parallel(layers_of(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    yield from parallel(independent(job.size, SLEEP))


def flows(job: "Job") -> "Iterator[Repetition]":
    """Small flows, one after another; loading an engine for each is what its users do."""
    from taskflow import engines

    flow = chain_of(3)

    def repetition() -> None:
        for _ in range(job.size):
            engines.run(flow, engine="serial")

    yield repetition


def flows_8(job: "Job") -> "Iterator[Repetition]":
    """The same, from eight threads, which have flows of their own: an engine locks the tasks of its flow."""
    from taskflow import engines

    def run(number: int) -> None:
        engines.run(some[number], engine="serial")

    some = [chain_of(3) for _ in range(job.size)]
    with ThreadPoolExecutor(8) as callers:
        yield lambda: list(callers.map(run, range(job.size)))


def chain_sqlite(job: "Job") -> "Iterator[Repetition]":
    """Every change of every task is written, with SQLAlchemy's settings."""
    from taskflow.persistence import backends

    flow = chain_of(job.size)

    def repetition() -> float:
        path = job.new_file()
        backend = backends.fetch({"connection": f"sqlite:///{path}"})
        backend.get_connection().upgrade()
        for inner in runs(flow, engine="serial", backend=backend):
            took = inner()
        backend.close()
        _remove(path)
        assert isinstance(took, float)
        return took

    yield repetition


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import taskflow.engines")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"taskflow, serial": chain, "taskflow, parallel": chain_parallel},
    "fan-out": {"taskflow, parallel": fan_out},
    "layers-2": {"taskflow, parallel": layers_2},
    "layers-50": {"taskflow, parallel": layers_50},
    "sleeps": {"taskflow, parallel": sleeps},
    "flows": {"taskflow, serial": flows},
    "flows-8": {"taskflow, serial": flows_8},
    "events": {"taskflow, serial": events},
    "chain-sqlite": {"taskflow, serial": chain_sqlite},
    "chain-sqlite-step": {"taskflow, serial": chain_sqlite},
    "import": {"taskflow": imported},
}
LARGEST = {"chain": 1000, "fan-out": 1000, "events": 1000, "chain-sqlite": 100, "chain-sqlite-step": 100}
