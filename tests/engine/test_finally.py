"""Finally steps: they run when everything else is over, whatever the end was."""

import threading

import pytest
from helper_flows import COMPLETED, FAILED, ROLLED_BACK, SKIPPED, Gate, outcomes, run_flow, scripted

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowEnd,
    FlowMode,
    InMemoryStorage,
    InvalidFlow,
    StepDef,
    TriggerMode,
    WorkflowState,
)

BROKEN = ValueError("broken")
DONE = (COMPLETED, None)
BROKE = (FAILED, "ValueError: broken")
CHAIN = (FlowMode.SEQUENTIAL, FlowMode.HIERARCHICAL)


def last(name="tell", **options):
    return StepDef(name, finally_=True, **options)


def told(flow, script, **config):
    """Run *flow*; return its result, and what its step "tell" was told of its end."""
    ends = []
    result = run_flow(flow, {"tell": lambda ctx: ends.append(ctx.flow), **script}, **config)
    assert len(ends) == 1
    return result, ends[0]


def hang(ctx):
    while ctx.sleep(20.0):
        pass


# -- when it runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FlowMode, ids=str)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_it_runs_last_wherever_it_stands_and_has_its_result_there(mode, at):
    steps = [StepDef("a"), StepDef("b")]
    steps.insert(at, last())
    order = []
    result = run_flow(FlowDef("flow", mode, steps=steps), lambda ctx: order.append(ctx.step.name))
    assert order[-1] == "tell"
    assert [step.step_name for step in result.steps] == [step.name for step in steps]
    assert set(outcomes(result).values()) == {DONE}
    assert result.success


@pytest.mark.parametrize("mode", FlowMode, ids=str)
def test_after_a_failure(mode):
    flow = FlowDef("flow", mode, steps=[StepDef("a"), last(), StepDef("b")])
    result, end = told(flow, {"a": BROKEN})
    assert outcomes(result)["tell"] == DONE
    assert (result.state, result.error) == (WorkflowState.FAILED, "step 'a' failed: ValueError: broken")
    assert end == FlowEnd(WorkflowState.FAILED, "step 'a' failed: ValueError: broken", ("a",))


def test_after_success():
    result, end = told(FlowDef("flow", steps=[StepDef("a"), last()]), {})
    assert result.state is WorkflowState.COMPLETED
    assert end == FlowEnd(WorkflowState.COMPLETED, None, ())


def test_after_a_cancellation_which_its_handler_does_not_see():
    token, seen = CancellationToken(), []

    def cancel(ctx):
        token.cancel()
        ctx.check()

    def tell(ctx):
        seen.append((ctx.cancelled, ctx.sleep(0.001), ctx.flow))

    flow = FlowDef("flow", steps=[StepDef("a"), StepDef("b"), last()])
    result = run_flow(flow, {"a": cancel, "tell": tell}, cancel=token)
    assert seen == [(False, True, FlowEnd(WorkflowState.CANCELLED, "cancelled", ("a",)))]
    assert outcomes(result)["b"] == (SKIPPED, "cancelled")
    assert (result.state, outcomes(result)["tell"]) == (WorkflowState.CANCELLED, DONE)


def test_after_a_cancellation_before_the_start():
    token = CancellationToken()
    token.cancel()
    result = run_flow(FlowDef("flow", steps=[StepDef("a"), last()]), {}, cancel=token)
    assert outcomes(result) == {"a": (SKIPPED, "cancelled"), "tell": DONE}


def test_after_the_time_of_the_flow_which_does_not_reach_it():
    seen = []
    flow = FlowDef("flow", steps=[StepDef("a"), StepDef("b"), last()], timeout=0.02)
    result = run_flow(flow, {"a": hang, "tell": lambda ctx: seen.append((ctx.remaining(), ctx.sleep(0.03)))})
    assert seen == [(None, True)]
    assert outcomes(result)["b"] == (SKIPPED, "flow timeout exceeded")
    assert (result.state, outcomes(result)["tell"]) == (WorkflowState.FAILED, DONE)


def test_a_cancellation_that_comes_while_it_runs_changes_nothing():
    token = CancellationToken()
    flow = FlowDef("flow", steps=[StepDef("a"), last(), last("after")])
    result = run_flow(flow, {"tell": lambda ctx: token.cancel()}, cancel=token, max_concurrency=1)
    assert (result.state, set(outcomes(result).values())) == (WorkflowState.COMPLETED, {DONE})


def test_it_runs_after_the_undo_and_sees_what_that_came_to():
    order, seen = [], {}
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), StepDef("b"), last()], rollback_on_failure=True)

    def tell(ctx):
        order.append("tell")
        seen.update({name: step.status for name, step in ctx.steps.items()})
        return ctx.flow.state

    result = run_flow(
        flow, {"b": BROKEN, "tell": tell}, rollback_handler=lambda ctx: order.append(f"undo {ctx.step.name}")
    )
    assert order == ["undo a", "tell"]
    assert seen == {"a": ROLLED_BACK, "b": FAILED}
    assert (result.state, result["tell"].output) == (WorkflowState.ROLLED_BACK, WorkflowState.ROLLED_BACK)


def test_an_undo_that_fails_is_told():
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), StepDef("b"), last()], rollback_on_failure=True)

    def undo(ctx):
        raise BROKEN

    result, end = told(flow, {"b": BROKEN}, rollback_handler=undo)
    error = "step 'b' failed: ValueError: broken; not rolled back: a (ValueError: broken)"
    assert (end, result.error) == (FlowEnd(WorkflowState.FAILED, error, ("b",)), error)


def test_a_flow_of_nothing_else():
    result, end = told(FlowDef("flow", steps=[last()]), {})
    assert (result.success, end.state) == (True, WorkflowState.COMPLETED)


# -- several -----------------------------------------------------------------------------------------


def test_several_run_at_once():
    meeting = threading.Barrier(3)
    steps = [StepDef("a"), *(last(f"tell {number}") for number in range(3))]
    handle = scripted({f"tell {number}": lambda ctx: meeting.wait(20) and None for number in range(3)})
    assert run_flow(FlowDef("flow", steps=steps), handle).success


def test_they_run_in_the_order_that_depends_on_says_whatever_becomes_of_them():
    order, flow = [], FlowDef("flow", FlowMode.DAG)
    main = flow.add_step(StepDef("main"))
    first = last("first", depends_on=main)
    second = flow.add_step(last("second", depends_on=[first, main]))
    flow.add_step(last("third", depends_on=second))
    flow.add_step(first)

    def handle(ctx):
        order.append((ctx.step.name, sorted(ctx.steps)))
        if ctx.step.name in ("main", "first"):
            raise BROKEN

    result = run_flow(flow, handle)
    assert order == [
        ("main", []),
        ("first", ["main"]),
        ("second", ["first", "main"]),
        ("third", ["first", "main", "second"]),
    ]
    assert (result.state, result["first"].is_caught, result["second"].status) == (WorkflowState.FAILED, True, COMPLETED)


def test_its_condition_and_its_config_see_all_steps_before_and_nothing_that_runs_beside_it():
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
    flow.add_step(last("sad", condition="steps.a.status == 'failed'", config={"why": "{{steps.a.error}}"}))
    flow.add_step(last("glad", condition="steps.a.status == 'completed'"))
    result = run_flow(flow, {"a": BROKEN, "sad": lambda ctx: [ctx.config["why"], sorted(ctx.steps)]})
    assert result["sad"].output == ["ValueError: broken", ["a", "b"]]
    assert outcomes(result)["glad"] == (SKIPPED, "condition not met")


# -- what its own end is -----------------------------------------------------------------------------


def test_its_failure_is_told_and_changes_nothing():
    events = []
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), last()], rollback_on_failure=True)
    config = {"event_sink": events.append, "rollback_handler": lambda ctx: pytest.fail("nothing is undone")}
    result = run_flow(flow, {"tell": BROKEN}, **config)
    assert (result.success, result.state, result.error) == (True, WorkflowState.COMPLETED, None)
    assert (outcomes(result)["tell"], result["tell"].is_caught) == (BROKE, True)
    assert ("step_failed", "tell") in [(event.event_type, event.step_name) for event in events]
    assert result.raise_for_failure() is result


def test_its_own_limit_and_retries_are_its_own():
    flow = FlowDef("flow", steps=[StepDef("a"), last(timeout=0.02, max_retries=1, retry_delay=0)])
    result = run_flow(flow, {"tell": hang})
    assert result["tell"].error == "retry exhausted: tell after 2 attempts: step timeout: tell after 20ms"
    assert result.success


def test_the_end_of_the_flow_is_told_after_it():
    events = []
    run_flow(FlowDef("flow", steps=[StepDef("a"), last()]), {}, event_sink=events.append)
    seen = [(event.event_type, event.step_name) for event in events]
    assert seen[-3:] == [("step_started", "tell"), ("step_completed", "tell"), ("flow_completed", None)]


def test_only_a_finally_step_is_told_how_the_flow_ends():
    def handle(ctx):
        with pytest.raises(AttributeError, match="finally steps only"):
            ctx.flow  # noqa: B018

    assert run_flow(FlowDef("flow", steps=[StepDef("a")]), handle).success


# -- sub-flows ---------------------------------------------------------------------------------------


def outer(inner, *steps, **options):
    flow = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": inner.name}), *steps])
    return flow, {"storage": InMemoryStorage([inner]), **options}


def test_that_of_a_sub_flow_runs_before_what_follows_the_sub_flow():
    order = []
    inner = FlowDef("inner", steps=[StepDef("a"), last("inner tell")])
    flow, config = outer(inner, StepDef("b"), last())
    result = run_flow(flow, lambda ctx: order.append(ctx.step.name), **config)
    assert (order, result.success) == (["a", "inner tell", "b", "tell"], True)


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_that_of_a_sub_flow_runs_although_its_parent_is_stopped(how):
    token, order = CancellationToken(), []
    inner = FlowDef("inner", steps=[StepDef("a"), StepDef("b"), last("inner tell")])
    flow, config = outer(inner, StepDef("c"), last())

    def handle(ctx):
        order.append(ctx.step.name)
        if ctx.step.name == "a":
            if how == "cancelled":
                token.cancel()
            hang(ctx)

    config["timeout"] = 0.03 if how == "out of time" else None
    result = run_flow(flow, handle, cancel=token if how == "cancelled" else None, **config)
    assert order == ["a", "inner tell", "tell"]
    assert result.state is (WorkflowState.CANCELLED if how == "cancelled" else WorkflowState.FAILED)


def test_it_may_be_a_sub_flow_which_nothing_of_the_flow_stops():
    token, seen = CancellationToken(), []
    inner = FlowDef("inner", FlowMode.PARALLEL, steps=[StepDef("x"), StepDef("y")])
    flow = FlowDef("outer", steps=[StepDef("a"), last(step_type="sub_flow", config={"flow_name": "inner"})])

    def handle(ctx):
        if ctx.step.name == "a":
            token.cancel()
        else:
            seen.append((ctx.step.name, ctx.cancelled))

    result = run_flow(flow, handle, cancel=token, storage=InMemoryStorage([inner]))
    assert sorted(seen) == [("x", False), ("y", False)]
    assert outcomes(result)["tell"] == DONE


def test_that_of_a_sub_flow_does_not_run_again_when_that_is_undone_later():
    order = []
    inner = FlowDef("inner", steps=[StepDef("a", rollbackable=True), last("inner tell")])
    flow, config = outer(
        inner, StepDef("b"), last(), rollback_handler=lambda ctx: order.append(f"undo {ctx.step.name}")
    )
    flow.rollback_on_failure = True

    def handle(ctx):
        order.append(ctx.step.name)
        if ctx.step.name == "b":
            raise BROKEN

    assert run_flow(flow, handle, **config).state is WorkflowState.ROLLED_BACK
    assert order == ["a", "inner tell", "b", "undo a", "tell"]


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"trigger_mode": TriggerMode.ALL_DONE}, "trigger mode all_done of a finally step"),
        ({"sub_steps": [StepDef("below")]}, "sub_steps of a finally step"),
        ({"rollbackable": True}, "rollbackable and finally_"),
        ({"idempotent": False}, "idempotent=False of a finally step"),
        ({"step_type": "wait", "config": {"signal": "go"}}, "a finally step cannot wait"),
        ({"finally_": 1}, "finally_ is neither True nor False"),
        ({"condition": "steps.other.status == 'failed'"}, "condition refers to step 'other', which cannot have run"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options, problem):
    flow = FlowDef(
        "flow", FlowMode.DAG, steps=[StepDef("a"), StepDef("x", **{"finally_": True, **options}), last("other")]
    )
    with pytest.raises(InvalidFlow, match=problem):
        flow.validate()


def test_other_steps_may_not_depend_on_one_nor_name_it():
    tell = last()
    flow = FlowDef("flow", FlowMode.DAG, steps=[tell, StepDef("a", depends_on=tell)])
    with pytest.raises(InvalidFlow, match="step 'a': depends on the finally step 'tell'"):
        flow.validate()
    for mode in FlowMode:
        named = StepDef("a", condition="steps.tell.status == 'completed'")
        with pytest.raises(InvalidFlow, match="refers to step 'tell', which cannot have run before it"):
            FlowDef("flow", mode, steps=[tell, named]).validate()


def test_one_below_another_step_is_refused():
    flow = FlowDef("flow", FlowMode.HIERARCHICAL, steps=[StepDef("a", sub_steps=[last()])])
    with pytest.raises(InvalidFlow, match="step 'tell': a finally step below another"):
        flow.validate()


def test_the_first_interruption_does_not_stop_it_the_second_does():
    started = Gate()
    flow = FlowDef("flow", steps=[StepDef("a"), last()])

    def handle(ctx):
        if ctx.step.name == "tell":
            started.set()
            return "told"
        raise KeyboardInterrupt

    with Engine(handle, EngineConfig()) as engine, pytest.raises(KeyboardInterrupt):
        engine.run(flow)
    assert started.is_set()


def test_it_may_run_over_a_list():
    flow = FlowDef("flow", steps=[StepDef("a"), last(foreach="inputs.whom")])

    def handle(ctx):
        if ctx.step.name == "a":
            raise BROKEN
        return [ctx.item, str(ctx.flow.state)]

    result = run_flow(flow, handle, {"whom": ["x", "y"]})
    assert result["tell"].output == [["x", "failed"], ["y", "failed"]]
    assert [item.output[0] for item in result["tell"].items] == ["x", "y"]
