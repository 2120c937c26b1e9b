"""Flows that one engine submits and another one runs, each with a store of its own, as two processes have."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import attrs

from benchmarks.floors.drivers import DATABASES, Database
from benchmarks.szal_cases.durable import engine_at, store_at
from szal import CancellationToken, Engine, EngineConfig, FlowDef, StepContext, StepDef, WorkflowEvent

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

AT_A_TIME = 8


@attrs.frozen
class Working:
    """An engine that submits, and what is heard of the one that works: when steps begin, and that flows end."""

    shop: Engine
    began: SimpleQueue[float]
    ended: SimpleQueue[str]


@contextmanager
def working(place: str) -> Iterator[Working]:
    """Have an engine work meanwhile."""
    began: SimpleQueue[float] = SimpleQueue()
    ended: SimpleQueue[str] = SimpleQueue()
    stop = CancellationToken()

    def step(_: StepContext) -> int:
        began.put(time.perf_counter())
        return 1

    def heard(event: WorkflowEvent) -> None:
        if event.event_type == "flow_completed":
            ended.put(event.execution_id or "")

    with (
        engine_at(place) as shop,
        store_at(place) as store,
        store.engine_sink() as sink,
        Engine(step, EngineConfig(execution_store=sink, event_sink=heard)) as engine,
    ):
        thread = threading.Thread(target=lambda: engine.work(max_executions=AT_A_TIME, stop=stop))
        thread.start()
        yield Working(shop, began, ended)
        stop.cancel()
        thread.join()


def flows(database: Database, job: "Job") -> "Iterator[Repetition]":
    """All are submitted while the other engine works; until all have ended."""
    flow = FlowDef("small", steps=[StepDef("one")])
    with database.place(job) as place, working(place) as found:

        def repetition() -> None:
            for _ in range(job.size):
                found.shop.submit(flow)
            for _ in range(job.size):
                found.ended.get(timeout=60)

        yield repetition


def latency(database: Database, job: "Job") -> "Iterator[Repetition]":
    """Each is submitted once the one before has ended: from then until its step begins."""
    flow = FlowDef("small", steps=[StepDef("one")])
    with database.place(job) as place, working(place) as found:

        def repetition() -> float:
            while not found.began.empty():
                found.began.get()
            took = 0.0
            for _ in range(job.size):
                submitted = time.perf_counter()
                found.shop.submit(flow)
                took += found.began.get(timeout=60) - submitted
                found.ended.get(timeout=60)
            return took

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    f"{case}-{name}": {"szal": partial(subject, database)}
    for name, database in DATABASES.items()
    for case, subject in (("queue", flows), ("queue-latency", latency))
}
