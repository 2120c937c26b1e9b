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
