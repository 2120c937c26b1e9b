"""``inline="always"`` in executions that others can stop, take over and undo."""

import threading

import pytest
from helper_engine import LONG, bounded, statuses, until_cancelled, waited

from szal import FlowDef, FlowMode, Handlers, StepDef

ALWAYS = {"inline": "always"}


def test_it_hears_of_a_cancellation_and_nobody_takes_over_for_it(new_engine):
    begun, threads = threading.Event(), []
    flow = FlowDef("f", rollback_on_failure=True, steps=[StepDef("a", rollbackable=True), StepDef("b")])
    handlers = Handlers(until_cancelled(begun))
    handlers.rollback("a")(lambda ctx: threads.append(threading.current_thread().name))
    engine = new_engine(handlers, inline="always", cancel_grace=0.0)
    execution = engine.start(flow, execution_id="x")
    waited(begun)
    engine.cancel("x")
    result = execution.result(LONG)
    assert (str(result.state), statuses(result)) == ("rolled_back", {"a": "rolled_back", "b": "skipped"})
    assert threads == ["szal-run-x"]
    assert engine.abandoned == 0


def test_another_step_of_such_a_run_is_called_where_it_can_be_left_behind(new_engine):
    """Else the thread that undoes it would not be the one that it began on."""
    begun, let_go, threads = threading.Event(), threading.Event(), []
    steps = [StepDef("a", rollbackable=True, **ALWAYS), StepDef("hangs")]
    flow = FlowDef("f", rollback_on_failure=True, steps=steps)

    def handler(ctx):
        threads.append(threading.current_thread().name)
        if ctx.step.name == "hangs":
            begun.set()
            waited(let_go)

    handlers = Handlers(handler)
    handlers.rollback("a")(handler)
    engine = new_engine(handlers, cancel_grace=0.0)
    execution = engine.start(flow, execution_id="x")
    waited(begun)
    engine.cancel("x")
    assert str(execution.result(LONG).state) == "rolled_back"
    let_go.set()
    assert (threads[0], threads[2]) == ("szal-run-x", "szal-run-x")
    assert threads[1].startswith("szal-worker")


def test_the_undo_of_a_sub_flow_whose_thread_is_held_up_is_told_as_left(new_engine):
    """It ran in another process, and here nobody knew that one of its steps stays on the thread of the run."""
    begun, let_go = threading.Event(), threading.Event()
    child = FlowDef("child", steps=[StepDef("a", rollbackable=True, **ALWAYS)])
    steps = [
        StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
        StepDef("ok", step_type="wait", config={"signal": "go"}),
        StepDef("hangs"),
    ]
    flow = FlowDef("f", rollback_on_failure=True, steps=steps, sub_flows=[child])

    def handler(ctx):
        if ctx.step.name == "hangs":
            begun.set()
            waited(let_go)

    handlers = Handlers(handler)
    handlers.rollback("a")(handler)
    new_engine(handlers).run(flow, execution_id="x")
    engine = new_engine(handlers, cancel_grace=0.0)
    engine.signal("x", "go")
    going_on = threading.Thread(target=engine.resume, args=("x",))
    going_on.start()
    waited(begun)
    engine.cancel("x")
    result = bounded(engine.result, "x", LONG)
    let_go.set()
    going_on.join(LONG)
    assert str(result.state) == "failed"
    assert "a is done on the thread of its run only" in result.error


def test_an_interruption_pauses_what_it_comes_up_in(new_engine):
    def handler(ctx):
        if ctx.step.name == "b" and "x" not in interrupted:
            interrupted.append("x")
            raise KeyboardInterrupt
        return ctx.step.name

    interrupted = []
    flow = FlowDef("f", FlowMode.SEQUENTIAL, steps=[StepDef("a"), StepDef("b")])
    engine = new_engine(handler, inline="always")
    with pytest.raises(KeyboardInterrupt):
        engine.run(flow, execution_id="x")
    assert str(engine.look("x").state) == "paused"
    assert engine.resume("x").outputs == {"a": "a", "b": "b"}
