"""Failures that are caught (`continue_on_error`): what follows goes on, and the flow may succeed."""

import itertools

import pytest
from helper_flows import COMPLETED, FAILED, ROLLED_BACK, SKIPPED, outcomes, run_flow, scripted

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    StepFailed,
    TriggerMode,
    WorkflowState,
    open_store,
)
from szal.model.json import decode_record, encode_record

BROKEN = ValueError("broken")
DONE = (COMPLETED, None)
BROKE = (FAILED, "ValueError: broken")
FOLLOWED = {TriggerMode.ONE_FAILED: (SKIPPED, "no dependency failed")}


def lenient(name="lenient", **options):
    return StepDef(name, continue_on_error=True, **options)


@pytest.mark.parametrize("trigger", TriggerMode, ids=str)
def test_what_depends_on_it_runs_by_its_trigger_as_if_it_had_completed(trigger):
    flow = FlowDef("caught", FlowMode.DAG)
    need = flow.add_step(lenient())
    flow.add_step(StepDef("next", depends_on=need, trigger_mode=trigger))
    result = run_flow(flow, {"lenient": BROKEN})
    assert outcomes(result) == {"lenient": BROKE, "next": FOLLOWED.get(trigger, DONE)}
    assert (result.success, result.state, result.error) == (True, WorkflowState.COMPLETED, None)
    assert (result.failed_count, [step.step_name for step in result.failures()]) == (1, ["lenient"])
    assert result.raise_for_failure() is result


@pytest.mark.parametrize("other", [DONE, BROKE])
@pytest.mark.parametrize("trigger", TriggerMode, ids=str)
def test_beside_another_dependency(trigger, other):
    flow = FlowDef("two", FlowMode.DAG)
    needs = [flow.add_step(lenient()), flow.add_step(StepDef("other"))]
    flow.add_step(StepDef("next", depends_on=needs, trigger_mode=trigger))
    result = run_flow(flow, {"lenient": BROKEN, "other": "fine" if other == DONE else BROKEN})
    blocked = {
        TriggerMode.ALL: (SKIPPED, "dependency failed"),
        TriggerMode.ALL_COMPLETED: (SKIPPED, "dependency failed"),
    }
    expected = FOLLOWED.get(trigger, DONE) if other == DONE else blocked.get(trigger, DONE)
    assert outcomes(result)["next"] == expected
    assert result.success is (other == DONE)


def test_a_sequence_goes_on():
    flow = FlowDef("line", steps=[StepDef("a"), lenient(), StepDef("b")])
    assert outcomes(run_flow(flow, {"lenient": BROKEN})) == {"a": DONE, "lenient": BROKE, "b": DONE}


def test_in_a_hierarchy_the_steps_below_it_and_after_it_run():
    flow = FlowDef("tree", FlowMode.HIERARCHICAL, steps=[lenient(sub_steps=[StepDef("below")]), StepDef("next")])
    assert outcomes(run_flow(flow, {"lenient": BROKEN})) == {"lenient": BROKE, "below": DONE, "next": DONE}


def test_conditions_see_that_it_failed_and_handlers_no_output():
    flow, seen = FlowDef("seen", FlowMode.DAG), {}
    need = flow.add_step(lenient())
    told = "steps.lenient.status == 'failed' && steps.lenient.error contains 'broken'"
    flow.add_step(StepDef("told", depends_on=need, condition=told))
    flow.add_step(StepDef("next", depends_on=need))
    assert run_flow(flow, {"lenient": BROKEN, "next": lambda ctx: seen.update(ctx.outputs)})["told"].status is COMPLETED
    assert seen == {}


def test_it_is_caught_after_its_last_attempt_only():
    result = run_flow(FlowDef("retried", steps=[lenient(max_retries=2, retry_delay=0)]), {"lenient": BROKEN})
    assert (result.success, result["lenient"].attempts, result["lenient"].is_caught) == (True, 3, True)
    assert result["lenient"].error == "retry exhausted: lenient after 3 attempts: ValueError: broken"


def test_of_several_failures_the_flow_tells_one_that_is_not_caught():
    flow = FlowDef("both", FlowMode.PARALLEL, steps=[lenient(), StepDef("strict")])
    result = run_flow(flow, {"lenient": BROKEN, "strict": KeyError("no")})
    assert (result.success, result.error) == (False, "step 'strict' failed: KeyError: 'no'")
    with pytest.raises(StepFailed, match="strict"):
        result.raise_for_failure()


def test_a_flow_that_rolls_back_does_not_for_it():
    flow = FlowDef("kept", steps=[StepDef("a", rollbackable=True), lenient(rollbackable=True), StepDef("b")])
    flow.rollback_on_failure, undone = True, []
    config = EngineConfig(rollback_handler=lambda ctx: undone.append(ctx.step.name))
    with Engine(scripted({"lenient": BROKEN}), config) as engine:
        assert engine.run(flow).success
        assert undone == []
    with Engine(scripted({"lenient": BROKEN, "b": BROKEN}), config) as engine:
        result = engine.run(flow)
    assert (outcomes(result)["a"], outcomes(result)["lenient"]) == ((ROLLED_BACK, None), BROKE)
    assert undone == ["a"]  # not what failed, caught or not


def test_a_sub_flow_that_fails_may_be_caught():
    inner = FlowDef("inner", steps=[StepDef("boom")])
    step = lenient(step_type="sub_flow", config={"flow_name": "inner"})
    result = run_flow(
        FlowDef("outer", steps=[step, StepDef("next")]), {"boom": BROKEN}, storage=InMemoryStorage([inner])
    )
    assert result.success
    assert (result["lenient"].status, result["next"].status) == (FAILED, COMPLETED)


def test_a_cancellation_is_not_caught():
    token, flow = CancellationToken(), FlowDef("cancelled", steps=[lenient(), StepDef("next")])

    def handle(ctx):
        token.cancel()
        ctx.check()

    result = run_flow(flow, handle, cancel=token)
    assert (result.state, outcomes(result)["next"]) == (WorkflowState.CANCELLED, (SKIPPED, "cancelled"))


@pytest.mark.parametrize("durability", ["flow", "step"])
def test_the_record_has_it_and_an_execution_that_is_run_again_tries_it_again(durability):
    flow = FlowDef("kept", steps=[StepDef("a"), lenient(), StepDef("b")])
    script = {"lenient": BROKEN, "b": BROKEN}
    calls = itertools.count()

    def handle(ctx):
        next(calls)
        return scripted(script)(ctx)

    store = open_store("memory:")
    with Engine(handle, EngineConfig(execution_store=store, durability=durability)) as engine:
        failed = engine.run(flow, execution_id="one")
        record = store.get("one")
        assert record.result["lenient"].is_caught
        assert decode_record(encode_record(record)) == record
        del script["b"]
        again = engine.rerun(failed.execution_id)
    assert (failed.success, again.success, next(calls)) == (False, True, 5)
    assert again["lenient"].is_caught
