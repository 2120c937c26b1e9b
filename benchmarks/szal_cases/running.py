"""Flows that run without a store."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from benchmarks.szal_cases.flows import RETRIES, WORKERS, chain_of, doze, independent, items_of, layers_of
from szal import Engine, EngineConfig, EventBus, FlowDef, StepContext, WorkflowEvent

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


def one(_: StepContext) -> int:
    """Do a step's work."""
    return 1


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


def chain_new(job: "Job") -> "Iterator[Repetition]":
    """A flow that is defined before the time is taken, and planned within."""
    with Engine(one) as engine:

        def repetition() -> float:
            flow = chain_of(job.size)
            began = time.perf_counter()
            run(engine, flow)
            return time.perf_counter() - began

        yield repetition


def chain_timeouts(job: "Job") -> "Iterator[Repetition]":
    """Each step on a thread that can be left behind."""
    yield from runs(chain_of(job.size, timeout=60.0))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent steps."""
    yield from runs(independent(job.size), EngineConfig(max_concurrency=WORKERS))


def items(job: "Job") -> "Iterator[Repetition]":
    """One step over a list."""
    yield from runs(items_of(job.size), EngineConfig(max_concurrency=WORKERS))


def fan_out_new(job: "Job") -> "Iterator[Repetition]":
    """Independent steps that are made of a list in the run's time, as items are."""
    with Engine(one, EngineConfig(max_concurrency=WORKERS)) as engine:
        yield lambda: run(engine, independent(job.size))


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies a step."""
    yield from runs(layers_of(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from runs(layers_of(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    flow = independent(job.size)
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
    yield from runs(chain_of(job.size, **RETRIES))


def events(job: "Job") -> "Iterator[Repetition]":
    """Every step's start and end are told to one listener, which keeps none: that would be its own cost."""
    heard = 0

    def hear(_: WorkflowEvent) -> None:
        nonlocal heard
        heard += 1

    bus = EventBus()
    bus.subscribe("szal/step/#", callback=hear)
    for repetition in runs(chain_of(job.size), EngineConfig(event_sink=bus)):

        def checked(repetition: "Repetition" = repetition) -> None:
            before = heard
            repetition()
            if heard - before != 2 * job.size:
                raise RuntimeError(f"{heard - before} events")

        yield checked


def subscribed(readers: int, stuck: int, job: "Job") -> "Iterator[Repetition]":
    """So many threads read what happens on a bus, and so many subscriptions are full, and nobody reads them."""
    bus = EventBus()
    read = [bus.subscribe(capacity=100) for _ in range(readers)]
    full = [bus.subscribe(capacity=100) for _ in range(stuck)]
    threads = [Thread(target=deque, args=(each, 0), daemon=True) for each in read]
    for thread in threads:
        thread.start()
    try:
        yield from runs(chain_of(job.size), EngineConfig(event_sink=bus))
    finally:
        for each in [*read, *full]:
            each.close()
        for thread in threads:
            thread.join()
    if any(each.lagged == 0 for each in full) and job.size > 100:
        raise RuntimeError("nothing was dropped")


def events_made(job: "Job") -> "Iterator[Repetition]":
    """The run that nobody listens to; then, for each step, two events and the calls of the listener."""
    heard = 0

    def hear(_: WorkflowEvent) -> None:
        nonlocal heard
        heard += 1

    flow = chain_of(job.size)

    def repetition() -> None:
        result = engine.run(flow)
        name, execution = result.flow_name, result.execution_id
        for step in result.steps:
            told = name, step.step_name, step.step_id, 1
            hear(WorkflowEvent("step_started", *told, None, None, 0.0, execution, None))
            hear(WorkflowEvent("step_completed", *told, step.duration, None, 0.0, execution, None))

    with Engine(one) as engine:
        yield repetition


def told_to(config: "Callable[[], EngineConfig]", job: "Job") -> "Iterator[Repetition]":
    """Whoever is told is made before the time is taken."""
    yield from runs(chain_of(job.size), config())


def nobody() -> EngineConfig:
    """Return the config of an engine that could tell several sinks, and there are none."""
    return EngineConfig(event_sink=[])


def metrics() -> EngineConfig:
    """Return the config of an engine that counts in a registry of its own."""
    from prometheus_client import CollectorRegistry

    from szal.contrib.prometheus import PrometheusSink

    return EngineConfig(event_sink=PrometheusSink(CollectorRegistry()))


def traces() -> EngineConfig:
    """Return the config of an engine whose spans are made by the SDK, and go nowhere."""
    from opentelemetry.sdk.trace import TracerProvider

    from szal.contrib.otel import OpenTelemetrySink

    tracing = OpenTelemetrySink(TracerProvider(shutdown_on_exit=False))
    return EngineConfig(event_sink=tracing, around=[tracing.around])


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"szal": chain},
    "chain-new": {"szal": chain_new},
    "chain-timeouts": {"szal": chain_timeouts},
    "fan-out": {"szal": fan_out},
    "items": {"szal": items, "szal, as many steps": fan_out_new, "szal, as many steps, made before": fan_out},
    "layers-2": {"szal": layers_2},
    "layers-50": {"szal": layers_50},
    "sleeps": {"szal": sleeps},
    "flows": {"szal": flows},
    "flows-8": {"szal": flows_8},
    "retry": {"szal": retry, "szal, no policy": chain},
    "subscribers": {
        "szal": partial(subscribed, 50, 0),
        "szal, one of 50 stuck": partial(subscribed, 49, 1),
        "szal, 1 subscriber": partial(subscribed, 1, 0),
        "szal, no subscriber": partial(subscribed, 0, 0),
    },
    "observed": {
        "szal": partial(told_to, nobody),
        "szal, no listener": chain,
        "szal, metrics": partial(told_to, metrics),
        "szal, traces": partial(told_to, traces),
    },
    "events": {"szal": events, "szal, no listener": chain, "the same, then events made": events_made},
}
