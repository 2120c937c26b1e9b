"""Steps that are undone also where they failed; why an undo runs, and what it returns."""

import pytest
from helper_flows import FAILED, ROLLED_BACK, outcomes, run_flow

from szal import (
    CancellationToken,
    EngineConfig,
    FlowDef,
    FlowMode,
    HandlerNotFound,
    InvalidFlow,
    StepDef,
    StepFailed,
    WorkflowState,
)

BROKEN = ValueError("broken")
ERROR = "step 'pay' failed: ValueError: broken"


def pay(**options):
    return StepDef("pay", undo_on_failure=True, **options)


def undoing(flow, script, **config):
    """Run *flow*; return its result, and for each undo its step, how that had ended, the reason and the output."""
    undone = []

    def undo(ctx):
        undone.append((ctx.step.name, str(ctx.steps[ctx.step.name].status), ctx.reason, ctx.output))
        return f"{ctx.step.name} is undone"

    flow.rollback_on_failure = True
    return run_flow(flow, script, rollback_handler=undo, **config), undone


def test_a_step_that_failed_is_undone_and_keeps_its_error():
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), pay(), StepDef("c")])
    result, undone = undoing(flow, {"pay": BROKEN})
    assert undone == [("pay", "failed", ERROR, None), ("a", "completed", ERROR, "a")]
    assert (result.state, result.error, result.rolled_back) == (WorkflowState.ROLLED_BACK, ERROR, True)
    assert outcomes(result)["pay"] == (ROLLED_BACK, "ValueError: broken")
    assert (result["pay"].undo_output, result["a"].undo_output) == ("pay is undone", "a is undone")
    assert [step.step_name for step in result.failures()] == ["pay"]
    with pytest.raises(StepFailed, match="pay"):
        result.raise_for_failure()


def test_one_that_completed_is_undone_as_any_for_what_ended_the_flow():
    flow = FlowDef("flow", steps=[pay(), StepDef("c")])
    result, undone = undoing(flow, {"c": BROKEN})
    assert undone == [("pay", "completed", "step 'c' failed: ValueError: broken", "pay")]
    assert outcomes(result)["pay"] == (ROLLED_BACK, None)


def test_so_is_one_that_ran_out_of_time():
    def hang(ctx):
        while ctx.sleep(20):
            pass

    _, undone = undoing(FlowDef("flow", steps=[pay(timeout=0.02)]), {"pay": hang})
    assert undone == [("pay", "failed", "step 'pay' failed: step timeout: pay after 20ms", None)]


def test_so_is_one_that_a_cancellation_ended_and_the_others_are_told_that():
    token = CancellationToken()

    def cancel(ctx):
        token.cancel()
        ctx.check()

    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), pay()])
    _, undone = undoing(flow, {"pay": cancel}, cancel=token)
    assert undone == [
        ("pay", "failed", "step 'pay' failed: Cancelled: cancelled", None),
        ("a", "completed", "cancelled", "a"),
    ]


def test_one_whose_failure_is_caught_is_undone_with_the_rest_and_only_then():
    flow = FlowDef("flow", steps=[pay(continue_on_error=True), StepDef("c")])
    assert undoing(flow, {"pay": BROKEN})[1] == []
    result, undone = undoing(flow, {"pay": BROKEN, "c": KeyError("c")})
    assert undone == [("pay", "failed", ERROR, None)]
    assert (outcomes(result)["pay"], result.error) == (
        (ROLLED_BACK, "ValueError: broken"),
        "step 'c' failed: KeyError: 'c'",
    )


def test_one_that_was_skipped_is_not():
    flow = FlowDef("flow", steps=[StepDef("a"), pay()])
    assert undoing(flow, {"a": BROKEN})[1] == []


def test_they_are_undone_in_reverse_order_of_their_ends():
    flow = FlowDef("flow", FlowMode.DAG)
    first = flow.add_step(StepDef("first", rollbackable=True))
    paid = flow.add_step(pay(depends_on=first, continue_on_error=True))
    flow.add_step(StepDef("last", rollbackable=True, depends_on=paid, undo_on_failure=True))
    _, undone = undoing(flow, {"pay": BROKEN, "last": BROKEN})
    assert [name for name, *_ in undone] == ["last", "pay", "first"]


def test_an_undo_of_it_that_fails_is_told():
    def undo(ctx):
        raise KeyError("stuck")

    flow = FlowDef("flow", steps=[pay()], rollback_on_failure=True)
    result = run_flow(flow, {"pay": BROKEN}, rollback_handler=undo)
    assert (result.state, outcomes(result)["pay"][0]) == (WorkflowState.FAILED, FAILED)
    assert result.error == f"{ERROR}; not rolled back: pay (KeyError: 'stuck')"
    assert result["pay"].undo_output is None


def test_a_flow_that_does_not_roll_back_undoes_nothing():
    result = run_flow(FlowDef("flow", steps=[pay()]), {"pay": BROKEN}, rollback_handler=lambda ctx: pytest.fail("no"))
    assert outcomes(result)["pay"] == (FAILED, "ValueError: broken")


def test_of_a_step_over_a_list_the_items_that_failed_are_undone_too():
    def handle(ctx):
        if ctx.item == 2:
            raise BROKEN
        return ctx.item

    undone = []
    flow = FlowDef("flow", steps=[pay(foreach=[1, 2, 3])], rollback_on_failure=True)
    undo = lambda ctx: undone.append((ctx.item, ctx.output, ctx.reason))  # noqa: E731
    result = run_flow(flow, handle, rollback_handler=undo, max_concurrency=1)
    error = "step 'pay' failed: 1 of 3 items failed; [1]: ValueError: broken"
    assert sorted(undone, key=str) == [
        (1, 1, error),
        (2, None, "step 'pay[1]' failed: ValueError: broken"),
        (3, 3, error),
    ]
    assert (result.state, result["pay"].status) == (WorkflowState.ROLLED_BACK, ROLLED_BACK)
    assert {item.status for item in result["pay"].items} == {ROLLED_BACK}


def test_it_says_that_something_undoes_the_step():
    flow = FlowDef("flow", steps=[pay()], rollback_on_failure=True)
    with pytest.raises(HandlerNotFound, match="pay"):
        run_flow(flow, {})


@pytest.mark.parametrize("step_type", ["sub_flow", "wait", "sleep"])
def test_what_the_engine_does_itself_has_nothing_to_undo_of_a_failure(step_type):
    config = {"sub_flow": {"flow_name": "x"}, "wait": {"signal": "x"}, "sleep": {"seconds": 1}}[step_type]
    with pytest.raises(InvalidFlow, match="undo_on_failure of a step of type"):
        FlowDef("flow", steps=[pay(step_type=step_type, config=config)]).validate()


def test_what_an_undo_returns_may_be_anything_without_a_store():
    given = object()
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
    result = run_flow(flow, {"b": BROKEN}, rollback_handler=lambda ctx: given)
    assert result["a"].undo_output is given
    assert EngineConfig().rollback_handler is None
