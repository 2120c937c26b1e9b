"""How far an execution is, from the process that runs it, from another, and without a store."""

import sqlite3
import threading

import pytest
from durable.children import killed
from helper_engine import bounded, waited
from processes import wait_until

from szal import ExecutionNotFound, FlowDef, FlowMode, StepDef, WorkflowState

ASKING = FlowDef("shop", steps=[StepDef("order"), StepDef("ask", step_type="wait", config={"signal": "paid"})])


DIES = """
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b", idempotent=False), StepDef("c")])
    new_engine(lambda ctx: die() if ctx.step.name == "b" else 1).run(flow, execution_id="e")
"""


def statuses(status):
    return {name: str(step.status) for name, step in status.steps.items()}


def test_what_waits_is_told_with_what_it_waits_for(new_engine):
    with new_engine(lambda ctx: 42) as engine:
        engine.run(ASKING, {"n": 1}, execution_id="e", labels={"of": "me"})
    status = new_engine().look("e")
    assert (status.execution_id, status.flow_name, status.state) == ("e", "shop", WorkflowState.PAUSED)
    assert (status.inputs, status.labels, status.error, status.finished_at) == ({"n": 1}, {"of": "me"}, None, None)
    assert statuses(status) == {"order": "completed", "ask": "pending"}
    assert status.steps["order"].output == 42
    assert [(wait.step, wait.signal, wait.until) for wait in status.waits] == [("ask", "paid", None)]
    assert (status.is_running, status.is_interrupted) == (False, False)


def test_what_it_waits_for_is_told_as_soon_as_it_is_paused(new_engine):
    """Its run is still there then, in this engine."""
    told = []
    engine = new_engine(event_sink=lambda event: event.event_type == "flow_paused" and told.append(engine.look("e")))
    engine.run(FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})]), execution_id="e")
    assert [(str(status.state), [wait.signal for wait in status.waits]) for status in told] == [("paused", ["go"])]


def test_so_it_is_where_the_run_has_waited_for_no_commit(new_engine):
    told = []
    with new_engine(lambda ctx: 42, durability="none") as engine:
        for number in range(20):  # what is queued may be written as soon
            engine.run(ASKING, execution_id=f"e{number}")
            told.append(engine.look(f"e{number}"))
    assert [statuses(status) for status in told] == [{"order": "completed", "ask": "pending"}] * 20
    assert [(wait.step, wait.signal) for status in told for wait in status.waits] == [("ask", "paid")] * 20


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.usefixtures("patient")
def test_whoever_looks_may_hold_the_lock_that_a_pause_is_written_under(store_url, new_engine):
    lock = sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    engine = new_engine(lambda ctx: str(lock.execute("BEGIN IMMEDIATE").rowcount))
    execution = engine.start(ASKING, execution_id="e")
    wait_until(lambda: statuses(engine.look("e"))["order"] == "completed")
    for _ in range(50):
        status = bounded(engine.look, "e")
        assert (str(status.state), statuses(status)["order"]) == ("running", "completed")
    lock.execute("COMMIT")
    lock.close()
    assert str(execution.result(timeout=20).state) == "paused"
    assert [wait.signal for wait in engine.look("e").waits] == ["paid"]


@pytest.mark.parametrize("before", ["paused", "died"])
def test_what_goes_on_is_told_with_what_it_has_from_before(store_url, new_engine, before):
    if before == "paused":
        with new_engine(lambda ctx: 1) as engine:
            engine.run(ASKING, execution_id="e")
            engine.signal("e", "paid")
    else:
        killed(DIES, store_url)
    first = "order" if before == "paused" else "a"
    told = []
    second = new_engine(lambda ctx: 2, event_sink=lambda event: told.append(second.look("e")))
    second.resume("e")
    assert {(str(status.steps[first].status), status.steps[first].output) for status in told} == {("completed", 1)}


def test_what_has_ended_is_told_with_its_steps(new_engine, store):
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("good"), StepDef("bad")])
    with new_engine(lambda ctx: 1 / (ctx.step.name == "good")) as engine:
        engine.run(flow, execution_id="e")
    status = new_engine().look("e")
    assert (status.state, statuses(status)) == (WorkflowState.FAILED, {"good": "completed", "bad": "failed"})
    assert (status.record, status.finished_at) == (store.get("e"), store.get("e").finished_at)
    assert not status.is_running


@pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
def test_what_runs_here_is_told_as_it_stands(new_engine, mode):
    begun, go = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "b":
            begun.set()
            waited(go)
        return ctx.step.name

    flow = FlowDef("f", mode, steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    with new_engine(handler, max_concurrency=2) as engine:
        execution = engine.start(flow, execution_id="e")
        try:
            waited(begun)
            status = engine.look("e")
            assert (status.is_running, statuses(status)["b"]) == (True, "running")
            assert statuses(execution.progress())["b"] == "running"
            elsewhere = new_engine().look("e")
            assert (elsewhere.is_running, elsewhere.is_interrupted) == (True, False)
            assert statuses(elsewhere)["b"] == "pending"
        finally:
            go.set()
        execution.result(timeout=20)
        assert statuses(engine.look("e")) == statuses(execution.progress()) == dict.fromkeys("abc", "completed")


def test_what_died_is_told_as_interrupted(store_url, new_engine):
    killed(
        DIES,
        store_url,
    )
    status = new_engine().look("e")
    assert (status.state, status.is_running, status.is_interrupted) == (WorkflowState.RUNNING, False, True)
    assert statuses(status) == {"a": "completed", "b": "running", "c": "pending"}


def test_a_cancellation_that_was_asked_for_is_told(new_engine):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        engine.cancel("e")
        assert engine.look("e").is_cancelling
        engine.resume("e")
        status = engine.look("e")
        assert (status.state, status.is_cancelling) == (WorkflowState.CANCELLED, False)


def test_what_is_not_there_is_not_found(new_engine):
    with new_engine() as engine, pytest.raises(ExecutionNotFound, match="none"):
        engine.look("none")


ASKED = {
    "look": lambda engine, id_: engine.look(id_),
    "result": lambda engine, id_: engine.result(id_, timeout=0),
    "check": lambda engine, id_: engine.check(id_),
    "resume": lambda engine, id_: engine.resume(id_),
    "rerun": lambda engine, id_: engine.rerun(id_),
    "signal": lambda engine, id_: engine.signal(id_, "go"),
    "pause": lambda engine, id_: engine.pause(id_),
    "cancel": lambda engine, id_: engine.cancel(id_),
    "resolve": lambda engine, id_: engine.resolve(id_, "a", "failed"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_what_no_execution_is_called_is_told_by_every_store_alike(new_engine, ask):
    engine = new_engine()
    for given in (3, None, b"e", ["e"]):
        with pytest.raises(TypeError, match=f"execution_id must be a string, not {type(given).__name__}"):
            ask(engine, given)
    for given in ("", "a\0b", "\ud800"):
        with pytest.raises(ExecutionNotFound):
            ask(engine, given)
