""" "can't start new thread": the caller is told that nothing runs, and then nothing does, now or later."""

import threading
import time
from contextlib import suppress

import pytest
from helper_engine import bounded, waited
from pairs import beside
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepDef, WorkflowState
from szal.engine import shared_limits

LEASE = 0.6  # seconds
UNDER_WAY = (WorkflowState.CREATED, WorkflowState.RUNNING, WorkflowState.PAUSED, WorkflowState.ROLLING_BACK)


def charge():
    return FlowDef("f", steps=[StepDef("charge")])


def under_way(store):
    return [name for name in store.list() if store.get(name).state in UNDER_WAY]


def call(engine, how, flow, **kwargs):
    """Run a flow in one of the two ways."""
    return engine.run(flow, **kwargs) if how == "run" else engine.start(flow, **kwargs).result(timeout=20)


KINDS = ["sqlite", "memory", "postgres"]
WAYS = [("start", "szal-run"), ("start", "szal-heartbeat"), ("run", "szal-heartbeat")]


@pytest.mark.parametrize(("how", "thread", "kind"), beside(WAYS, KINDS))
def test_what_could_not_be_started_runs_neither_now_nor_later(new_engine, store, refuse, how, thread):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name), lease_ttl=LEASE)
    refuse(thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bounded(call, engine, how, charge())
    refuse()
    engine.config.execution_store.flush(5)
    assert under_way(store) == []
    end = time.monotonic() + 2 * LEASE  # until a lease that nobody renews would have run out
    other = new_engine(lambda ctx: ran.append(ctx.step.name))
    while time.monotonic() < end:
        assert bounded(other.recover) == []
        time.sleep(0.05)
    assert ran == []


@pytest.mark.parametrize(("how", "thread", "kind"), beside(WAYS, KINDS[1:] + KINDS[:1]))
def test_what_could_not_be_started_can_be_started_again_under_its_id(new_engine, store, refuse, how, thread):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name))
    refuse(thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bounded(call, engine, how, charge(), execution_id="order-42")
    refuse()
    assert bounded(call, engine, how, charge(), execution_id="order-42").success
    assert ran == ["charge"]
    assert store.get("order-42").state is WorkflowState.COMPLETED


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_after_one_refused_heartbeat_the_next_run_has_one(store, refuse, renewals):
    begun, go = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        waited(go)

    with Engine(handler, EngineConfig(execution_store=store, lease_ttl=1.5)) as engine:
        refuse("szal-heartbeat")
        with suppress(RuntimeError):
            bounded(engine.run, FlowDef("nothing", steps=[]))
        refuse()
        execution = engine.start(charge(), execution_id="e")
        try:
            waited(begun)
            renewals.await_another("e")
        finally:
            go.set()
        assert execution.result(timeout=20).success


@pytest.mark.parametrize("thread", ["szal-heartbeat"])
def test_what_could_not_be_resumed_for_want_of_a_thread_is_left_as_it_was(new_engine, store, refuse, thread):
    ran = []
    first = new_engine(lambda ctx: ran.append(ctx.step.name))
    flow = FlowDef("f", steps=[StepDef("ok", step_type="wait", config={"signal": "ok"}), StepDef("charge")])
    assert first.run(flow, execution_id="e").state is WorkflowState.PAUSED
    first.signal("e", "ok")
    engine = new_engine(lambda ctx: ran.append(ctx.step.name))
    refuse(thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bounded(engine.resume, "e")
    refuse()
    assert ran == []
    assert bounded(new_engine(lambda ctx: ran.append(ctx.step.name)).resume, "e").success
    assert ran == ["charge"]


def test_a_recovery_that_could_not_be_started_can_be_started_again(new_engine, store, refuse):
    engine = new_engine()
    refuse("szal-recovery")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine.start_recovery(0.05)
    refuse()
    flow = FlowDef("f", steps=[StepDef("ok", step_type="wait", config={"signal": "ok"}), StepDef("charge")])
    engine.run(flow, execution_id="e")
    engine.signal("e", "ok")
    engine.start_recovery(0.05)
    wait_until(lambda: store.get("e").state is WorkflowState.COMPLETED, timeout=20)


@pytest.mark.parametrize("timeout", [None, 30])
def test_without_a_thread_for_workers_or_the_writer_a_run_is_done_and_recorded_all_the_same(
    new_engine, store, refuse, timeout
):
    engine = new_engine()
    for prefix in ("szal-w", "szal-limited", None):
        refuse(*filter(None, [prefix]))
        steps = [StepDef(f"s{i}", timeout=timeout) for i in range(4)]
        result = bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps), execution_id=f"{prefix}")
        assert result.completed_count == 4
        assert store.get(f"{prefix}").state is WorkflowState.COMPLETED


def test_a_refused_heartbeat_keeps_a_flow_with_sub_flows_from_starting_at_all(new_engine, store, refuse):
    ran = []
    storage = InMemoryStorage([FlowDef("inner", steps=[StepDef("in")])])
    engine = new_engine(lambda ctx: ran.append(ctx.step.name), storage=storage)
    refuse("szal-heartbeat")
    flow = FlowDef("outer", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"})])
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bounded(engine.run, flow)
    refuse()
    engine.config.execution_store.flush(5)
    assert under_way(store) == []
    assert ran == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_without_a_thread_that_listens_a_step_has_its_share_all_the_same(new_engine, store, refuse):
    store.set_capacity("api", 1)
    go = threading.Event()
    first, second = new_engine(lambda ctx: waited(go)), new_engine()
    step = StepDef("call", resources={"api": 1})
    refused = refuse("szal-listener")
    holds = first.start(FlowDef("f", steps=[step]), execution_id="holds")
    wait_until(lambda: store.ledger.limits.uses()[0].used == 1)
    waits = second.start(FlowDef("f", steps=[step]), execution_id="waits")
    wait_until(lambda: refused)
    go.set()
    assert holds.result(timeout=20).success
    assert waits.result(timeout=20).success


NEEDS = [StepDef("call", resources={"api": 1}), StepDef("call", rate={"mail": "100/s"})]


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("step", NEEDS, ids=["share", "time"])
def test_what_could_not_be_asked_for_among_all_engines_is_held_by_nobody(new_engine, store, refuse, step):
    store.set_capacity("api", 1)
    engine = new_engine()
    refuse("szal-limits")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bounded(engine.run, FlowDef("f", steps=[step]))
    refuse()
    assert bounded(engine.run, FlowDef("f", steps=[step])).success


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_asked_for_as_another_run_gives_it_back_is_told_to_who_waits(
    new_engine, store, refuse, monkeypatch
):
    """Who gives it back ends as ever. No thread asks the store by then, as nobody has asked for anything for long."""
    monkeypatch.setattr(shared_limits, "_IDLE", 0.0)
    store.set_capacity("api", 9)
    go, begun = threading.Event(), threading.Event()

    def call(ctx):
        begun.set()
        waited(go)

    engine = new_engine(call, capacities={"api": 1})
    flow = FlowDef("f", steps=[StepDef("call", resources={"api": 1})])
    holds = engine.start(flow, execution_id="holds")
    waited(begun)
    waits = engine.start(flow, execution_id="waits")
    wait_until(lambda: engine.look("waits").queued)
    wait_until(lambda: engine._beyond._thread is None)
    refuse("szal-limits")
    go.set()
    assert holds.result(timeout=20).success
    with pytest.raises(RuntimeError, match="can't start new thread"):
        waits.result(timeout=20)
    refuse()
    assert bounded(engine.run, flow).success
