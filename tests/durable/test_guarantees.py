"""What docs/semantics.md promises of executions that outlive a process, and no other file tests."""

import contextlib
import itertools
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from durable.children import killed
from helper_engine import LONG, bounded, statuses, waited
from in_front import InFront
from processes import wait_until

from szal import Engine, EngineConfig, ExecutionOwned, FlowDef, FlowMode, StepDef, WorkflowState
from szal.stores.sink.sink import Sink


def chain(*names, **options):
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


# -- what begins anew ---------------------------------------------------------------------------------


def test_after_a_crash_the_attempts_of_a_step_are_counted_anew(store_url, new_engine, log):
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.attempt)
        if ctx.attempt == 2:
            die()
        raise ValueError("broken")

    step = StepDef("flaky", max_retries=1, retry_delay=0.0)
    new_engine(handler).run(FlowDef("flaky", steps=[step]), execution_id="e")
    """
    killed(code, store_url, log.path)

    def handler(ctx):
        log.add(ctx.attempt)
        raise ValueError("broken")

    [result] = new_engine(handler).recover()
    assert log.lines == ["1", "2", "1", "2"]
    assert result["flaky"].error == "retry exhausted: flaky after 2 attempts: ValueError: broken"


def test_the_time_limit_of_a_flow_begins_anew_when_it_goes_on(new_engine):
    ends = {}

    def handler(ctx):
        ends[ctx.step.name] = time.monotonic() + ctx.remaining()

    ask = StepDef("ask", step_type="wait", config={"signal": "approve"})
    flow = FlowDef("asking", steps=[StepDef("before"), ask, StepDef("after")], timeout=1000)
    engine = new_engine(handler)
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    engine.signal("e", "approve")
    resumed = time.monotonic()
    assert bounded(engine.resume, "e").success
    assert ends["before"] < resumed + 1000 <= ends["after"]


@pytest.mark.parametrize("ended", [True, False])
def test_a_start_of_a_known_id_goes_on_with_the_inputs_that_it_began_with(new_engine, ended):
    engine = new_engine(lambda ctx: ctx.inputs["n"])
    ask = StepDef("ask", step_type="wait", config={"signal": "approve"})
    flow = chain("a") if ended else FlowDef("asking", steps=[ask, StepDef("a")])
    engine.run(flow, {"n": 1}, execution_id="order-42")
    engine.signal("order-42", "approve")
    assert engine.run(flow, {"n": 2}, execution_id="order-42").outputs["a"] == 1


def test_what_is_given_up_is_not_undone(store_url, new_engine, log):
    code = """
    steps = [StepDef("a", rollbackable=True), StepDef("b")]
    flow = FlowDef("undone", steps=steps, rollback_on_failure=True)
    handler = lambda ctx: die() if ctx.step.name == "b" else "done"
    new_engine(handler, rollback_handler=lambda ctx: None).run(flow, execution_id="e")
    """
    killed(code, store_url)
    engine = new_engine(max_recoveries=0, rollback_handler=lambda ctx: log.add(ctx.step.name))
    [result] = engine.recover()
    assert (result.state, result.error) == (WorkflowState.FAILED, "gave up after 0 recoveries")
    assert statuses(result) == {"a": "completed", "b": "pending"}
    assert log.lines == []


# -- leases -------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_every_third_of_its_time(new_engine, store, monkeypatch):
    beats, begun, go, renew = [], threading.Event(), threading.Event(), type(store.ledger).renew

    def noting(ledger, renewal):
        beats.append(time.monotonic())
        return renew(ledger, renewal)

    monkeypatch.setattr(type(store.ledger), "renew", noting)
    engine = new_engine(lambda ctx: (begun.set(), waited(go))[1], lease_ttl=0.3)
    execution = engine.start(chain("a"), execution_id="e")
    waited(begun)
    wait_until(lambda: len(beats) > 5, timeout=20)
    go.set()
    assert execution.result(timeout=20).success
    shortest = min(after - before for before, after in itertools.pairwise(beats))
    assert 0.09 < shortest < 0.2  # the machine may make any of them late, and none of them early


# -- what is waited for -------------------------------------------------------------------------------


class Lease:
    """A store that writes nothing behind a sink until it may."""

    def __init__(self, store):
        self._store = store
        self.ledger = InFront(store.ledger, apply=self.apply)
        self.may_write = threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def apply(self, writes, *, once=False):
        waited(self.may_write)
        self._store.ledger.apply(writes, once=once)


@pytest.fixture
def held(store):
    return Lease(store)


@pytest.fixture
def engine_that_waits_for(held):
    """Make the engine of a given durability, whose steps are noted when they begin."""
    with Sink(held) as sink:
        begun = {"a": threading.Event(), "b": threading.Event()}

        def make(durability):
            config = EngineConfig(execution_store=sink, durability=durability)
            return Engine(lambda ctx: begun[ctx.step.name].set(), config), begun, sink

        yield make
        held.may_write.set()


def test_none_waits_for_no_commit(engine_that_waits_for, held, store):
    engine, _, sink = engine_that_waits_for("none")
    with engine:
        assert bounded(engine.run, chain("a", "b"), execution_id="e").success
    assert store.get("e").state is WorkflowState.RUNNING  # which was written before all else
    assert store.ledger.read("e").steps == []
    held.may_write.set()
    sink.flush()
    assert store.get("e").state is WorkflowState.COMPLETED


def test_flow_is_the_default_and_waits_for_a_commit_before_run_returns_only(engine_that_waits_for, held, store):
    engine, begun, _ = engine_that_waits_for(EngineConfig().durability)
    with engine:
        execution = engine.start(chain("a", "b"), execution_id="e")
        waited(begun["b"])
        assert not execution.wait(0.1)
        held.may_write.set()
        assert execution.result(timeout=20).success
    assert store.get("e").state is WorkflowState.COMPLETED


def test_step_waits_for_a_commit_before_what_depends_on_a_step_begins(engine_that_waits_for, held):
    engine, begun, _ = engine_that_waits_for("step")
    with engine:
        execution = engine.start(chain("a", "b"), execution_id="e")
        waited(begun["a"])
        assert not begun["b"].wait(0.1)
        held.may_write.set()
        assert execution.result(timeout=20).success


@contextlib.contextmanager
def locked(url):
    """Keep everybody from writing to the database."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE szal_leases, szal_steps IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_steps_that_end_together_share_a_commit(store_url, new_engine):
    count = 40
    running, ended = threading.Barrier(count + 1), threading.Barrier(count + 1)

    def handler(ctx):
        running.wait(20)
        ended.wait(20)

    engine = new_engine(handler, durability="step", max_concurrency=count)
    sink = engine.config.execution_store
    flow = FlowDef("wide", FlowMode.PARALLEL, steps=[StepDef(f"s{number}") for number in range(count)])
    execution = engine.start(flow)
    running.wait(20)
    sink.flush()
    before = sink.stats().batches
    with locked(store_url):
        ended.wait(20)
        wait_until(lambda: sink.stats().pending == count, timeout=20)
    assert execution.result(timeout=20).success
    assert sink.stats().batches - before <= 6  # what the writer had begun with, all others, and the end of the run


class Behind:
    """A store whose writes wait until `go` is set, seen through a sink of its own."""

    def __init__(self, store):
        self.go = threading.Event()
        self.sink = Sink(InFront(store, ledger=InFront(store.ledger, apply=partial(self._apply, store.ledger))))

    def _apply(self, ledger, *writes, **options):
        waited(self.go)
        ledger.apply(*writes, **options)


@pytest.mark.parametrize("again", ["run", "rerun", "resume"])
def test_none_leaves_no_execution_to_another_engine_of_the_process_before_all_is_written(open_one, new_engine, again):
    """That one waits for it, whatever sink the first has: nobody runs it any more."""
    flow = FlowDef("f", steps=[StepDef("a")])
    behind = Behind(open_one())
    with Engine(lambda ctx: "done", EngineConfig(execution_store=behind.sink, durability="none")) as first:
        assert first.run(flow, execution_id="e").success
        other = new_engine()
        calls = {"run": lambda: other.run(flow, execution_id="e")}
        calls |= {"rerun": lambda: other.rerun("e"), "resume": lambda: other.resume("e")}
        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(calls[again])
            with contextlib.suppress(TimeoutError):  # it waits
                done.result(0.1)
            behind.go.set()
            assert done.result(LONG).outputs == {"a": "done"}
        behind.sink.close()


def test_what_another_engine_of_the_process_runs_is_owned(open_one, new_engine):
    flow, begun, go = FlowDef("f", steps=[StepDef("a")]), threading.Event(), threading.Event()
    execution = new_engine(lambda ctx: (begun.set(), waited(go))[1], durability="none").start(flow, execution_id="e")
    waited(begun)
    try:
        with pytest.raises(ExecutionOwned):
            new_engine().run(flow, execution_id="e")
    finally:
        go.set()
    execution.result(LONG)
