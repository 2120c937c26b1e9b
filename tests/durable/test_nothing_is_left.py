"""What engines, stores and runs leave behind once nobody has them any more: nothing."""

import gc
import threading
import weakref
from pathlib import Path

import pytest
from helper_engine import bounded
from pairs import beside
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepDef
from szal.stores import open_store

FLOWS = {
    "a chain": FlowDef("f", steps=[StepDef("a"), StepDef("b")]),
    "parallel steps": FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(f"s{i}", timeout=30) for i in range(3)]),
    "a sub-flow": FlowDef("f", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"})]),
    "a wait": FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})]),
    "a failure": FlowDef("f", steps=[StepDef("a"), StepDef("fails")]),
}


class Thing:
    """What can be referred to weakly."""


def szal_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("szal-")}


def files():
    """Return how many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def handler_with(thing):
    def handler(ctx):
        if ctx.step.name == "fails":
            raise ValueError("no")
        return ctx.step.name and thing is None

    return handler


def config(sink, **settings):
    return EngineConfig(
        execution_store=sink, storage=InMemoryStorage([FlowDef("inner", steps=[StepDef("in")])]), **settings
    )


@pytest.mark.parametrize(("flow", "kind"), beside([*FLOWS], ["memory", "postgres", "sqlite"]))
@pytest.mark.usefixtures("no_collector")
def test_the_last_run_of_a_store_that_goes_on_is_freed(store, flow):
    """Its engine, its handler and its result are dropped; the store and its sink are open, and idle."""

    def once():
        thing = Thing()
        engine = Engine(handler_with(thing), config(sink))
        result = engine.run(FLOWS[flow])
        assert result.execution_id
        refs = [weakref.ref(each) for each in (thing, engine, result)]
        del thing, engine, result  # a traceback of a handler leads to this frame, and keeps what it still holds
        return refs

    with store.engine_sink() as sink:
        refs = bounded(once)
        wait_until(lambda: all(ref() is None for ref in refs), timeout=20)


@pytest.mark.parametrize(("durability", "kind"), beside(["none", "flow", "step"], ["sqlite", "memory", "postgres"]))
@pytest.mark.usefixtures("no_collector")
def test_a_result_is_freed_under_every_durability_while_the_engine_goes_on(store, durability):
    def once():
        result = engine.run(FLOWS["parallel steps"])
        assert result.success
        return weakref.ref(result)

    with store.engine_sink() as sink, Engine(handler_with(None), config(sink, durability=durability)) as engine:
        ref = bounded(once)
        wait_until(lambda: ref() is None, timeout=20)


@pytest.mark.usefixtures("no_collector")
def test_engines_that_are_dropped_with_their_stores_leave_no_file_and_no_thread(open_one):
    """Nobody closes anything."""

    def once():
        sink = open_one().engine_sink()
        engine = Engine(handler_with(None), config(sink))
        assert engine.run(FLOWS["parallel steps"]).success
        return weakref.ref(engine)

    bounded(once)  # what is opened once and for all
    gc.collect()
    threads, open_files = szal_threads(), files()
    refs = [bounded(once) for _ in range(5)]
    wait_until(lambda: all(ref() is None for ref in refs), timeout=20)
    wait_until(lambda: szal_threads() <= threads, timeout=20)
    wait_until(lambda: files() <= open_files, timeout=20)


def test_engines_and_stores_that_are_closed_leave_no_file_and_no_thread(open_one, kind):
    if kind == "memory":
        store = open_one()
        store.close()

        def open_one():
            return open_store("memory:")

    def once():
        with open_one() as opened, opened.engine_sink() as sink, Engine(handler_with(None), config(sink)) as engine:
            assert engine.run(FLOWS["parallel steps"]).success

    bounded(once)
    gc.collect()
    threads, open_files = szal_threads(), files()
    for _ in range(3):
        bounded(once)
    gc.collect()
    wait_until(lambda: szal_threads() <= threads, timeout=20)
    wait_until(lambda: files() <= open_files, timeout=20)


@pytest.mark.usefixtures("no_collector")
def test_the_heartbeat_of_an_engine_that_is_dropped_ends_while_its_store_goes_on(store):
    def once():
        engine = Engine(handler_with(None), config(sink))
        assert engine.run(FLOWS["a chain"]).success

    def heartbeats():
        return {thread for thread in szal_threads() if thread.name.startswith("szal-heartbeat")}

    with store.engine_sink() as sink:
        before = heartbeats()
        bounded(once)
        wait_until(lambda: heartbeats() <= before, timeout=20)


def test_an_engine_that_was_idle_long_enough_has_no_workers_and_goes_on_with_others(store):
    def workers():
        names = ("szal-writer", "szal-heartbeat")
        return {thread for thread in szal_threads() if not thread.name.startswith(names)}

    before = workers()
    with store.engine_sink() as sink, Engine(handler_with(None), config(sink, idle_timeout=0.2)) as engine:
        for _ in range(2):
            for execution in [engine.start(FLOWS["parallel steps"]) for _ in range(6)]:
                assert execution.result(timeout=20).success
            wait_until(lambda: workers() <= before, timeout=20)
