"""`FlowDef.fail_fast`: the first failure that ends a flow stops what still runs, and skips the rest."""

import threading

import pytest
from helper_flows import COMPLETED, FAILED, ROLLED_BACK, SKIPPED, Gate, outcomes, run_flow, until_told

from szal import FlowDef, FlowMode, InMemoryStorage, StepDef, TriggerMode, WorkflowState
from szal.model.state import Stop

BROKEN = ValueError("broken")
DONE = (COMPLETED, None)
BROKE = (FAILED, "ValueError: broken")
STOPPED = (FAILED, "Cancelled: flow failed")
NOT_BEGUN = (SKIPPED, "flow failed")
ERROR = "step 'broken' failed: ValueError: broken"


def breaking(*started):
    """Return a handler that fails once the others have started."""

    def handle(ctx):
        for gate in started:
            gate.pass_through()
        raise BROKEN

    return handle


def fail(ctx):
    raise KeyError("late")


@pytest.mark.parametrize("then", [lambda ctx: "done", fail, lambda ctx: ctx.check()], ids=["returns", "raises", "ends"])
def test_what_runs_is_told_and_fails_whatever_it_returns(then):
    flow, gate = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("slow"), StepDef("broken")], fail_fast=True), Gate()
    result = run_flow(flow, {"slow": until_told(gate, then), "broken": breaking(gate)})
    assert outcomes(result) == {"slow": STOPPED, "broken": BROKE}
    assert (result["slow"].output, result["slow"].error_type) == (None, "Cancelled")
    assert (result.state, result.error) == (WorkflowState.FAILED, ERROR)


def test_without_it_what_runs_comes_to_its_end():
    flow, failed = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("slow"), StepDef("broken")]), Gate()
    watch = lambda event: failed.set() if event.event_type == "step_failed" else None  # noqa: E731
    result = run_flow(flow, {"slow": lambda ctx: failed.pass_through(), "broken": BROKEN}, event_sink=watch)
    assert outcomes(result) == {"slow": DONE, "broken": BROKE}


@pytest.mark.parametrize("mode", FlowMode, ids=str)
def test_what_has_not_begun_is_skipped_in_every_mode(mode):
    steps = [StepDef("broken"), StepDef("a"), StepDef("b")]
    if mode is FlowMode.DAG:
        steps = [first := StepDef("broken"), StepDef("a", depends_on=first), StepDef("b", depends_on=first)]
    result = run_flow(FlowDef("flow", mode, steps=steps, fail_fast=True), {"broken": BROKEN}, max_concurrency=1)
    assert outcomes(result)["broken"] == BROKE
    if mode is not FlowMode.PARALLEL:  # there they may have begun
        assert outcomes(result) == {"broken": BROKE, "a": NOT_BEGUN, "b": NOT_BEGUN}
    assert result.error == ERROR


@pytest.mark.parametrize("trigger", [TriggerMode.ALL_DONE, TriggerMode.ONE_FAILED, TriggerMode.ONE_DONE], ids=str)
def test_what_the_failure_would_have_triggered_is_skipped_too(trigger):
    flow = FlowDef("flow", FlowMode.DAG, fail_fast=True)
    flow.add_step(StepDef("next", depends_on=flow.add_step(StepDef("broken")), trigger_mode=trigger))
    assert outcomes(run_flow(flow, {"broken": BROKEN})) == {"broken": BROKE, "next": NOT_BEGUN}


def test_between_two_attempts_a_step_has_failed():
    waits = Gate()
    steps = [StepDef("flaky", max_retries=1, retry_delay=3600), StepDef("broken")]
    watch = lambda event: waits.set() if event.event_type == "step_retry" else None  # noqa: E731
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=steps, fail_fast=True)
    result = run_flow(flow, {"flaky": KeyError("first"), "broken": breaking(waits)}, event_sink=watch)
    assert outcomes(result) == {"flaky": (FAILED, "KeyError: 'first'"), "broken": BROKE}


def test_what_does_not_end_is_left_behind_after_the_grace():
    gate, release = Gate(), threading.Event()

    def stubborn(ctx):
        gate.set()
        release.wait(20)

    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("slow"), StepDef("broken")], fail_fast=True)
    try:
        result = run_flow(flow, {"slow": stubborn, "broken": breaking(gate)}, cancel_grace=0.05)
    finally:
        release.set()
    assert (result["slow"].status, result["slow"].error_type) == (FAILED, "Cancelled")
    assert result.error == ERROR


def test_a_failure_that_is_caught_ends_nothing():
    steps = [
        StepDef("a", continue_on_error=True),
        StepDef("b"),
        StepDef("c", finally_=True),
        StepDef("d", finally_=True),
    ]
    result = run_flow(FlowDef("flow", steps=steps, fail_fast=True), {"a": BROKEN, "c": BROKEN})
    assert outcomes(result) == {"a": BROKE, "b": DONE, "c": BROKE, "d": DONE}
    assert result.success


def test_a_retry_that_succeeds_ends_nothing():
    flow = FlowDef("flow", steps=[StepDef("a", max_retries=1, retry_delay=0), StepDef("b")], fail_fast=True)

    def handle(ctx):
        if ctx.step.name == "a" and ctx.attempt == 1:
            raise BROKEN

    assert run_flow(flow, handle).success


def test_finally_steps_run():
    steps = [StepDef("broken"), StepDef("a"), StepDef("tell", finally_=True)]
    result = run_flow(
        FlowDef("flow", steps=steps, fail_fast=True), {"broken": BROKEN, "tell": lambda ctx: ctx.flow.error}
    )
    assert (result["tell"].output, outcomes(result)["a"]) == (ERROR, NOT_BEGUN)


def test_it_rolls_back_at_once():
    gate, undone = Gate(), []
    flow = FlowDef("flow", FlowMode.DAG, fail_fast=True, rollback_on_failure=True)
    done = flow.add_step(StepDef("done", rollbackable=True))
    flow.add_step(StepDef("slow", depends_on=done, rollbackable=True))
    flow.add_step(StepDef("broken", depends_on=done))
    script = {"slow": until_told(gate), "broken": breaking(gate)}
    result = run_flow(flow, script, rollback_handler=lambda ctx: undone.append(ctx.step.name))
    assert outcomes(result) == {"done": (ROLLED_BACK, None), "slow": STOPPED, "broken": BROKE}
    assert (result.state, undone) == (WorkflowState.ROLLED_BACK, ["done"])


def test_a_sub_flow_under_way_is_stopped_with_it():
    gate = Gate()
    inner = FlowDef("inner", steps=[StepDef("slow"), StepDef("after"), StepDef("tidy", finally_=True)])
    steps = [StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("broken")]
    flow, ran = FlowDef("flow", FlowMode.PARALLEL, steps=steps, fail_fast=True), []

    def handle(ctx):
        ran.append(ctx.step.name)
        if ctx.step.name == "slow":
            return until_told(gate)(ctx)
        return breaking(gate)(ctx) if ctx.step.name == "broken" else None

    result = run_flow(flow, handle, storage=InMemoryStorage([inner]))
    assert outcomes(result) == {"in": STOPPED, "broken": BROKE}
    assert sorted(ran) == ["broken", "slow", "tidy"]


def test_that_of_a_sub_flow_is_its_own():
    inner = FlowDef("inner", steps=[StepDef("broken"), StepDef("after")], fail_fast=True)
    step = StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}, continue_on_error=True)
    result = run_flow(
        FlowDef("flow", steps=[step, StepDef("next")]), {"broken": BROKEN}, storage=InMemoryStorage([inner])
    )
    assert result.success
    assert result["in"].error == f"sub-flow 'inner' failed: {ERROR}"


def test_items_that_run_are_stopped_too():
    gate = Gate()
    steps = [StepDef("each", foreach=[1, 2]), StepDef("broken")]
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=steps, fail_fast=True)
    result = run_flow(flow, {"each": until_told(gate), "broken": breaking(gate)})
    assert {item.status for item in result["each"].items} <= {FAILED, SKIPPED}
    assert (result["each"].status, result.error) == (FAILED, ERROR)


def test_the_stop_says_so():
    assert (Stop.FAILED_FAST.ends, Stop.FAILED_FAST.reason) == (True, "flow failed")
