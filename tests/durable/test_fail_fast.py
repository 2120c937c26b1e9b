"""Flows that end with their first failure, and outlive a process."""

import pytest
from durable.children import killed
from helper_flows import FAILED, SKIPPED, outcomes

from szal import FlowDef, FlowMode, StepDef, WorkflowState
from szal.model.state import Stop

CODE = """
    flow = FlowDef("flow", FlowMode.DAG, fail_fast=True)
    slow = StepDef("slow")
    flow.steps += [slow, StepDef("broken"), StepDef("other", depends_on=slow)]
    started = threading.Event()

    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "slow":
            started.set()
            while ctx.sleep(20):
                pass
            die()
        started.wait(20)
        raise ValueError("broken")

    new_engine(handler, max_concurrency=2, durability=sys.argv[3]).run(flow, execution_id="e")
"""


@pytest.mark.parametrize("durability", ["flow", "step"])
def test_after_a_crash_it_ends_as_it_would_have(store_url, store, new_engine, log, durability):
    killed(CODE, store_url, log.path, durability)
    assert sorted(log.lines) == ["broken", "slow"]
    assert store.get("e").stop is Stop.FAILED_FAST
    [result] = new_engine(lambda ctx: log.add(f"again {ctx.step.name}")).recover()
    error = "step 'broken' failed: ValueError: broken"
    assert (result.state, result.error) == (WorkflowState.FAILED, error)
    assert outcomes(result) == {
        "slow": (SKIPPED, "flow failed"),
        "broken": (FAILED, "ValueError: broken"),
        "other": (SKIPPED, "flow failed"),
    }
    assert sorted(log.lines) == ["broken", "slow"]


def test_a_wait_is_skipped(store, new_engine):
    steps = [StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("broken")]
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=steps, fail_fast=True)

    def handle(ctx):
        raise ValueError("broken")

    result = new_engine(handle).run(flow, execution_id="e")
    assert outcomes(result)["ask"] == (SKIPPED, "flow failed")
    assert store.get("e").state is WorkflowState.FAILED


ITEMS = """
    def handler(ctx):
        add(sys.argv[2], ctx.index)
        if ctx.index == 1:
            raise ValueError("bad")

    def watch(event):
        if event.event_type == sys.argv[3] and event.step_name == sys.argv[4]:
            die()

    each = StepDef("each", foreach=[0, 1, 2, 3], max_parallel=1)
    flow = FlowDef("flow", steps=[each, StepDef("other")], fail_fast=True)
    new_engine(handler, event_sink=watch).run(flow, execution_id="e")
"""


@pytest.mark.parametrize("at", [("step_failed", "each"), ("step_skipped", "other")], ids=["an item has", "it is said"])
def test_an_item_that_has_failed_ends_it_after_a_crash_too(store_url, store, new_engine, log, at):
    """Also where the crash came between the failure and the record of what it means."""
    killed(ITEMS, store_url, log.path, *at)
    assert store.get("e").stop is (None if at[0] == "step_failed" else Stop.FAILED_FAST)
    [result] = new_engine(lambda ctx: log.add(f"again {ctx.index}")).recover()
    assert (result.state, result.error) == (WorkflowState.FAILED, "step 'each[1]' failed: ValueError: bad")
    assert [item.error for item in result["each"].items] == [None, "ValueError: bad", "flow failed", "flow failed"]
    assert outcomes(result)["other"] == (SKIPPED, "flow failed")
    assert log.lines == ["0", "1"]
