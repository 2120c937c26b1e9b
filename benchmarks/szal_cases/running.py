"""Flows that run without a store."""

import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from szal import Engine, EngineConfig, EventBus, FlowDef, FlowMode, StepContext, StepDef, WorkflowEvent

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def one(_: StepContext) -> int:
    """Do a step's work."""
    return 1


def doze(_: StepContext) -> None:
    """Do the work of a step of `sleeps`."""
    time.sleep(SLEEP)


def chain_of(size: int, **options: object) -> FlowDef:
    """Return a sequential flow."""
    return FlowDef("chain", steps=[StepDef(f"step {place}", **options) for place in range(size)])  # type: ignore[arg-type]


def layers_of(size: int, dependencies: int) -> FlowDef:
    """Return a DAG of layers of 50 steps."""
    flow = FlowDef("layers", FlowMode.DAG)
    width = max(1, min(50, size // 2))
    above: list[StepDef] = []
    for start in range(0, size, width):
        layer = []
        for place in range(start, min(start + width, size)):
            chosen = [above[(place + more) % len(above)] for more in range(min(dependencies, len(above)))]
            layer.append(flow.add_step(StepDef(f"step {place}", depends_on=chosen)))
        above = layer
    return flow


def run(engine: Engine, flow: FlowDef) -> None:
    """Run *flow*, which must succeed."""
    if not engine.run(flow).success:
        raise RuntimeError(f"{flow.name} failed")


def runs(flow: FlowDef, config: EngineConfig | None = None) -> "Iterator[Repetition]":
    """Yield a repetition that runs *flow* on an engine that is kept."""
    with Engine(one, config) as engine:
        yield partial(run, engine, flow)


def chain(job: "Job") -> "Iterator[Repetition]":
    """No limits: the coordinating thread calls the handlers."""
    yield from runs(chain_of(job.size))


def chain_timeouts(job: "Job") -> "Iterator[Repetition]":
    """Each step on a thread that can be left behind."""
    yield from runs(chain_of(job.size, timeout=60.0))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent steps."""
    flow = FlowDef("fan-out", FlowMode.PARALLEL, steps=[StepDef(f"step {place}") for place in range(job.size)])
    yield from runs(flow, EngineConfig(max_concurrency=WORKERS))


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies a step."""
    yield from runs(layers_of(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from runs(layers_of(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    flow = FlowDef("sleeps", FlowMode.PARALLEL, steps=[StepDef(f"step {place}") for place in range(job.size)])
    with Engine(doze, EngineConfig(max_concurrency=WORKERS)) as engine:
        yield partial(run, engine, flow)


def flows(job: "Job") -> "Iterator[Repetition]":
    """Small flows, each defined once, one after another."""
    some = [chain_of(3) for _ in range(job.size)]

    def repetition() -> None:
        for flow in some:
            run(engine, flow)

    with Engine(one) as engine:
        yield repetition


def flows_8(job: "Job") -> "Iterator[Repetition]":
    """The same, from eight threads of the caller."""
    some = [chain_of(3) for _ in range(job.size)]
    with Engine(one) as engine, ThreadPoolExecutor(8) as callers:
        yield lambda: list(callers.map(partial(run, engine), some, chunksize=1))


def retry(job: "Job") -> "Iterator[Repetition]":
    """A policy for each step."""
    yield from runs(chain_of(job.size, max_retries=3, retry_delay=0.5, retry_on=(OSError,), retry_jitter=0.1))


def events(job: "Job") -> "Iterator[Repetition]":
    """Every step's start and end are told to one listener."""
    heard: list[WorkflowEvent] = []
    bus = EventBus()
    bus.subscribe("szal/step/#", callback=heard.append)
    for repetition in runs(chain_of(job.size), EngineConfig(event_sink=bus)):

        def checked(repetition: "Repetition" = repetition) -> None:
            heard.clear()
            repetition()
            if len(heard) != 2 * job.size:
                raise RuntimeError(f"{len(heard)} events")

        yield checked


def memory(job: "Job") -> "Iterator[Repetition]":
    """The peak during one run, results included, definition excluded."""
    for repetition in runs(chain_of(job.size)):

        def peak(repetition: "Repetition" = repetition) -> float:
            tracemalloc.start()
            try:
                repetition()
                return float(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()

        yield peak


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"szal": chain},
    "chain-timeouts": {"szal": chain_timeouts},
    "fan-out": {"szal": fan_out},
    "layers-2": {"szal": layers_2},
    "layers-50": {"szal": layers_50},
    "sleeps": {"szal": sleeps},
    "flows": {"szal": flows},
    "flows-8": {"szal": flows_8},
    "retry": {"szal": retry, "szal, no policy": chain},
    "events": {"szal": events, "szal, no listener": chain},
    "memory": {"szal": memory},
}
