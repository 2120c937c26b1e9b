"""Steps that are undone though they failed, in executions that outlive a process."""

import pytest
from durable.children import killed
from helper_flows import ROLLED_BACK, outcomes

from szal import FlowDef, StepDef, WorkflowState

CODE = """
    a, pay = StepDef("a", rollbackable=True), StepDef("pay", undo_on_failure=True)
    flow = FlowDef("flow", steps=[a, pay], rollback_on_failure=True)

    def handler(ctx):
        if ctx.step.name == "pay":
            raise ValueError("broken")

    def undo(ctx):
        add(sys.argv[2], f"{ctx.step.name} {ctx.reason}")
        if ctx.step.name == "a":
            die()
        return {"refund": 7}

    new_engine(handler, rollback_handler=undo, durability="step").run(flow, execution_id="e")
"""
ERROR = "step 'pay' failed: ValueError: broken"


def test_after_a_crash_it_is_not_undone_again_and_has_what_that_returned(store_url, store, new_engine, log):
    killed(CODE, store_url, log.path)
    assert log.lines == [f"pay {ERROR}", f"a {ERROR}"]
    [result] = new_engine(rollback_handler=lambda ctx: log.add(f"{ctx.step.name} again, {ctx.reason}")).recover()
    assert log.lines[2:] == [f"a again, {ERROR}"]
    assert (result.state, result.error) == (WorkflowState.ROLLED_BACK, ERROR)
    kept = store.get("e").result
    assert outcomes(kept) == {"a": (ROLLED_BACK, None), "pay": (ROLLED_BACK, "ValueError: broken")}
    assert kept["pay"].undo_output == {"refund": 7}


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_what_an_undo_returns_is_in_the_record_or_left_out_where_it_cannot_be(store, new_engine, durability):
    given = {"a": {"n": [1]}, "b": object()}
    flow = FlowDef("flow", steps=[*(StepDef(name, rollbackable=True) for name in given), StepDef("c")])
    flow.rollback_on_failure = True

    def handle(ctx):
        if ctx.step.name == "c":
            raise ValueError("broken")

    engine = new_engine(handle, durability=durability, rollback_handler=lambda ctx: given[ctx.step.name])
    result = engine.run(flow, execution_id="e")
    engine.close()
    assert result.state is WorkflowState.ROLLED_BACK
    assert [result[name].undo_output for name in given] == [{"n": [1]}, None]


def test_a_sub_flow_that_completed_with_a_caught_failure_is_undone_with_it(new_engine):
    undone = []
    pay = StepDef("pay", undo_on_failure=True, continue_on_error=True)
    inner = FlowDef("inner", steps=[pay])
    steps = [StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("boom")]
    flow = FlowDef("flow", steps=steps, sub_flows=[inner], rollback_on_failure=True)

    def handle(ctx):
        raise ValueError("broken")

    engine = new_engine(handle, rollback_handler=lambda ctx: undone.append((ctx.step.name, ctx.reason)))
    assert engine.run(flow, execution_id="e").state is WorkflowState.ROLLED_BACK
    assert undone == [("pay", ERROR)]
