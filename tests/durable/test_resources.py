"""What steps share, in executions that are left, and that others go on with."""

import threading

import pytest
from helper_engine import LONG, waited
from processes import wait_until

from szal import FlowDef, FlowMode, StepDef, WorkflowState

DB = {"db": 1}


class Holder:
    """Holds the resource in a run of its own until it is told to let go."""

    def __init__(self):
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.order = []

    def __call__(self, ctx):
        self.order.append(ctx.step.name)
        if ctx.step.name == "holds":
            self.begun.set()
            waited(self.may_end)
        return ctx.step.name

    def hold(self, engine):
        execution = engine.start(FlowDef("h", steps=[StepDef("holds", resources=DB)]))
        waited(self.begun)
        return execution


FLOW = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a", resources=DB, idempotent=False), StepDef("b")])


@pytest.mark.parametrize("how", ["pause", "drain"])
def test_what_waits_for_it_is_left_as_not_begun_and_whoever_goes_on_begins_it(new_engine, how):
    handler = Holder()
    engine = new_engine(handler)
    first = handler.hold(engine)
    second = engine.start(FLOW, execution_id="x")
    wait_until(lambda: "b" in handler.order and engine.look("x").steps["b"].output == "b")
    if how == "pause":
        engine.pause("x")
    else:
        engine.close(drain=0)
    assert second.result(LONG).state is (WorkflowState.PAUSED if how == "pause" else WorkflowState.RUNNING)
    assert handler.order == ["holds", "b"]
    other = new_engine(handler)  # with resources of its own
    assert other.resume("x").outputs == {"a": "a", "b": "b"}
    handler.may_end.set()
    assert first.result(LONG).success
    assert handler.order == ["holds", "b", "a"]


def test_what_was_cancelled_while_it_waited_leaves_it_to_others(new_engine):
    handler = Holder()
    engine = new_engine(handler)
    first = handler.hold(engine)
    second = engine.start(FLOW, execution_id="x")
    wait_until(lambda: "b" in handler.order)
    engine.cancel("x")
    assert second.result(LONG)["a"].error == "cancelled"
    third = engine.start(FlowDef("g", steps=[StepDef("c", resources=DB)]))
    handler.may_end.set()
    assert first.result(LONG).success
    assert third.result(LONG).success
    assert handler.order == ["holds", "b", "c"]
