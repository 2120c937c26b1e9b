"""Thousands of runs through one engine: its memory, threads and open files level off.

300 runs on each store; SZAL_TEST_FULL=1: 100 000 in all.
"""

import faulthandler
import gc
import os
import threading
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helper_engine import bounded
from helper_stress import ending
from injection import untraced
from pairs import FULL, beside

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepContext,
    StepDef,
    WorkflowEvent,
    WorkflowState,
)
from szal.stores import Store, open_store

pytestmark = pytest.mark.slow

RUNS = 50_000 if FULL else 300
PRUNE = 200  # runs after which the store forgets those that have ended: it is not what is measured
BURST = 8  # runs that are started at once
GROWTH = 200_000  # bytes that Python may hold more than after the warm-up: caches that fill, and no more


# -- what is run -------------------------------------------------------------------------------------------


def flows() -> list[tuple[FlowDef, WorkflowState]]:
    """Return flows that between them use every way to run a step, and how each ends."""
    chain = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    wide = FlowDef("wide", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    limited = FlowDef("limited", steps=[StepDef("a", timeout=60.0), StepDef("b", idempotent=False)], timeout=60.0)
    retried = FlowDef("retried", steps=[StepDef("flaky", max_retries=1, retry_delay=0.0), StepDef("a")])
    undone = FlowDef("undone", steps=[StepDef("a", rollbackable=True), StepDef("bad")], rollback_on_failure=True)
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("a")])
    good = [(flow, WorkflowState.COMPLETED) for flow in (chain, wide, limited, retried, outer)]
    return [*good, (undone, WorkflowState.ROLLED_BACK)]


FLOWS = flows()
INNER = FlowDef("inner", steps=[StepDef("i")])


def handle(ctx: StepContext) -> Any:
    """Do a step."""
    if ctx.step.name == "bad" or (ctx.step.name == "flaky" and ctx.attempt == 1):
        raise ValueError("bad")
    return {"step": ctx.step.name, "inputs": len(ctx.inputs)}


class Work:
    """Runs flows, in one way after another, through one engine."""

    def __init__(self, engine: Engine, sink: Any) -> None:
        self._engine = engine
        self._sink = sink
        self._done = 0

    def run(self, runs: int) -> None:
        """Run so many; then nothing is left to do or to write."""
        end = self._done + runs
        while self._done < end:
            flow, state = FLOWS[self._done // 2 % len(FLOWS)]
            if self._done % 10 == 0:
                self._burst(flow, state)
            else:
                token = CancellationToken() if self._done % 2 else None  # without one, chains need no thread
                name = f"run-{self._done}" if self._done % 3 else None
                result = self._engine.run(flow, {"n": self._done}, execution_id=name, cancel=token)
                assert result.state is state, result
                self._count()
        self._sink.flush(20)
        self._sink.prune(keep=0)

    def _burst(self, flow: FlowDef, state: WorkflowState) -> None:
        started = [self._engine.start(flow, {"n": each}) for each in range(BURST)]
        for execution in started:
            result = execution.result(20)
            assert result.state is state, result
            self._count()

    def _count(self) -> None:
        self._done += 1
        if self._done % PRUNE == 0:
            self._sink.prune(keep=0)


# -- what it takes -----------------------------------------------------------------------------------------


@attrs.frozen
class Level:
    """What the process holds."""

    traced: int
    resident: int
    threads: int
    files: int

    @classmethod
    def now(cls, others: set[threading.Thread]) -> "Level":
        """Measure it, once there is no garbage; but for the threads of *others*, which other tests left."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            tracemalloc.get_traced_memory()[0],
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(set(threading.enumerate()) - others),
            len(os.listdir("/proc/self/fd")),  # noqa: PTH208 (which opens one file, as this does)
        )


@pytest.fixture
def traced() -> Iterator[None]:
    """Have Python count the memory that it holds, and coverage add nothing to it."""
    with untraced():
        tracemalloc.start()
        yield
        tracemalloc.stop()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, fast_path: Path) -> Iterator[Store]:
    """An empty store."""
    with open_store("memory:" if request.param == "memory" else f"sqlite:///{fast_path}/szal.db") as opened:
        yield opened


@pytest.fixture
def work(store: Store) -> Iterator[Work]:
    """What is run through one engine."""
    heard: deque[WorkflowEvent] = deque(maxlen=100)
    with store.engine_sink() as sink:
        config = EngineConfig(
            execution_store=sink,
            storage=InMemoryStorage([INNER]),
            rollback_handler=handle,
            event_sink=heard.append,
        )
        with Engine(handle, config) as engine:
            yield Work(engine, sink)


@pytest.mark.timeout(3600 if FULL else 120)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.usefixtures("traced")
def test_memory_threads_and_files_level_off(work, pytestconfig):
    if FULL:
        faulthandler.cancel_dump_traceback_later()  # the watchdog of the suite: this takes minutes, and has a limit
    others = set(threading.enumerate())
    with ending(pytestconfig):
        work.run(RUNS // 4)
        warm = Level.now(others)
        work.run(RUNS - RUNS // 4)
        level = Level.now(others)
    assert level.traced - warm.traced < GROWTH, (warm, level)
    assert level.resident - warm.resident < 24_000_000, (warm, level)
    assert level.threads <= 6 * BURST, (warm, level)  # how many are at work at once is chance: no more than so many
    assert level.files <= warm.files + 2, (warm, level)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "store"), beside([flow.name for flow, _ in FLOWS], ["memory", "sqlite"]), indirect=["store"]
)
def test_a_run_that_has_ended_leaves_nothing_to_the_garbage_collector(name, store):
    """It is gone by reference count."""
    [flow] = [flow for flow, _ in FLOWS if flow.name == name]
    config = EngineConfig(storage=InMemoryStorage([INNER]), rollback_handler=handle)
    with store.engine_sink() as sink, Engine(handle, attrs.evolve(config, execution_store=sink)) as engine:
        bounded(engine.run, flow)
        sink.flush(20)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                bounded(engine.run, flow)
            sink.flush(20)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 50, f"{found} objects after 50 runs"
