"""Races: what only an ANY step with `cancel_losers` waits for ends when that starts."""

import threading

import pytest
from helper_flows import COMPLETED, FAILED, SKIPPED, Gate, outcomes, run_flow, until_told

from szal import FlowDef, FlowMode, InMemoryStorage, InvalidFlow, StepDef, TriggerMode

ANY = TriggerMode.ANY
DONE = (COMPLETED, None)
LOST = (FAILED, "Cancelled: another won")
NOT_BEGUN = (SKIPPED, "another won")


def race(*runners, **options):
    """Return a flow of those steps, and of one that runs after the first of them."""
    flow = FlowDef("race", FlowMode.DAG, steps=list(runners))
    flow.add_step(StepDef("first", depends_on=runners, trigger_mode=ANY, cancel_losers=True, **options))
    return flow


def fast(gate):
    return lambda ctx: gate.pass_through()


def broken(ctx):
    raise KeyError("late")


@pytest.mark.parametrize(
    "then", [lambda ctx: "late", broken, lambda ctx: ctx.check()], ids=["returns", "raises", "ends"]
)
def test_one_that_runs_fails_whatever_it_comes_to_and_the_flow_succeeds(then):
    gate = Gate()
    flow = race(StepDef("fast"), StepDef("slow"))
    result = run_flow(flow, {"fast": fast(gate), "slow": until_told(gate, then)})
    assert outcomes(result) == {"fast": DONE, "slow": LOST, "first": DONE}
    assert (result.success, result["slow"].is_caught, result["slow"].output) == (True, True, None)


def test_one_that_has_not_begun_is_skipped_and_so_is_what_leads_to_it():
    flow = FlowDef("race", FlowMode.DAG)
    gate = Gate()
    held = flow.add_step(StepDef("held"))
    later = flow.add_step(StepDef("later", depends_on=held))
    quick = flow.add_step(StepDef("fast"))
    flow.add_step(StepDef("first", depends_on=[later, quick], trigger_mode=ANY, cancel_losers=True))
    result = run_flow(flow, {"held": until_told(gate), "fast": fast(gate)})
    assert outcomes(result) == {"held": LOST, "later": NOT_BEGUN, "fast": DONE, "first": DONE}
    assert result.success


def test_what_something_else_waits_for_too_goes_on():
    gate, won = Gate(), Gate()
    flow = race(StepDef("fast"), shared := StepDef("shared"))
    flow.add_step(StepDef("other", depends_on=shared))

    def hold(ctx):
        gate.set()
        won.pass_through()

    result = run_flow(flow, {"fast": fast(gate), "shared": hold, "first": lambda ctx: won.set()})
    assert set(outcomes(result).values()) == {DONE}


def test_without_it_nothing_is_stopped():
    won, flow = Gate(), FlowDef("race", FlowMode.DAG, steps=[StepDef("fast"), StepDef("slow")])
    flow.add_step(StepDef("first", depends_on=flow.steps, trigger_mode=ANY))
    result = run_flow(flow, {"slow": lambda ctx: won.pass_through(), "first": lambda ctx: won.set()})
    assert set(outcomes(result).values()) == {DONE}


def test_between_two_attempts_a_loser_has_failed():
    waits = Gate()
    flow = race(StepDef("fast"), StepDef("flaky", max_retries=1, retry_delay=3600))
    watch = lambda event: waits.set() if event.event_type == "step_retry" else None  # noqa: E731
    result = run_flow(flow, {"fast": fast(waits), "flaky": KeyError("first")}, event_sink=watch)
    assert (outcomes(result)["flaky"], result.success) == (LOST, True)


def test_one_that_does_not_end_is_left_behind_after_the_grace():
    gate, release = Gate(), threading.Event()

    def stubborn(ctx):
        gate.set()
        release.wait(20)

    flow = race(StepDef("fast"), StepDef("slow"))
    try:
        result = run_flow(flow, {"fast": fast(gate), "slow": stubborn}, cancel_grace=0.05)
    finally:
        release.set()
    assert (result["slow"].error, result.success) == ("Cancelled: still running 0.05s after another won", True)


def test_a_step_whose_condition_is_not_met_has_not_won():
    won = Gate()
    flow = race(StepDef("fast"), StepDef("slow"), condition="false")
    watch = lambda event: won.set() if event.event_type == "step_skipped" else None  # noqa: E731
    result = run_flow(flow, {"slow": lambda ctx: won.pass_through()}, event_sink=watch)
    assert outcomes(result) == {"fast": DONE, "slow": DONE, "first": (SKIPPED, "condition not met")}


def test_a_sub_flow_that_runs_is_stopped():
    gate, ran = Gate(), []
    inner = FlowDef("inner", steps=[StepDef("deep"), StepDef("after"), StepDef("tidy", finally_=True)])
    flow = race(StepDef("fast"), StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}))
    script = {"fast": fast(gate), "deep": until_told(gate), "after": lambda ctx: ran.append("after")}
    script["tidy"] = lambda ctx: ran.append(str(ctx.flow.state))
    result = run_flow(flow, script, storage=InMemoryStorage([inner]))
    assert (outcomes(result)["in"], result.success, ran) == (LOST, True, ["cancelled"])


def test_a_step_over_a_list_ends_with_all_of_its_items():
    gate = Gate()
    flow = race(StepDef("fast"), StepDef("each", foreach=[1, 2, 3], max_parallel=1))
    result = run_flow(flow, {"fast": fast(gate), "each": until_told(gate)})
    assert (outcomes(result)["each"], result.success) == (LOST, True)
    assert [(item.status, item.error) for item in result["each"].items] == [LOST, NOT_BEGUN, NOT_BEGUN]


def test_a_sleep_that_loses_is_skipped():
    flow = race(StepDef("fast"), StepDef("nap", step_type="sleep", config={"seconds": 3600}))
    assert outcomes(run_flow(flow, {})) == {"fast": DONE, "nap": NOT_BEGUN, "first": DONE}


def test_it_is_for_a_race():
    flow = FlowDef("flow", FlowMode.DAG, steps=[a := StepDef("a"), StepDef("b", depends_on=a, cancel_losers=True)])
    with pytest.raises(InvalidFlow, match="step 'b': cancel_losers without trigger mode any"):
        flow.validate()
