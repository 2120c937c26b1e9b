"""A handler that does not know whether it was done: somebody decides, as after a crash with `idempotent=False`."""

from collections.abc import Callable
from typing import Any

import pytest

from szal import Engine, FlowDef, FlowMode, InMemoryStorage, StepContext, StepDef, UnknownOutcome, WorkflowState
from szal.stores import Store

NewEngine = Callable[..., Engine]


class Gateway:
    """Does not answer, or does."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers = False

    def __call__(self, ctx: StepContext) -> Any:
        self.calls.append(ctx.step.name if ctx.index is None else f"{ctx.step.name}[{ctx.index}]")
        if ctx.step.name == "charge" and not self.answers and ctx.item in (None, "b"):
            raise UnknownOutcome("the gateway did not answer")
        return ctx.outputs.get("charge", "done")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def order(**options: Any) -> FlowDef:
    return FlowDef("order", steps=[StepDef("charge", retry_delay=0, **options), StepDef("ship")])


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_it_is_neither_retried_nor_failed_and_the_execution_pauses(
    new_engine: NewEngine, gateway: Gateway, durability: str
) -> None:
    engine = new_engine(gateway, durability=durability)
    result = engine.run(order(max_retries=3), execution_id="o")
    assert (result.state, result.error, gateway.calls) == (WorkflowState.PAUSED, "needs a decision: charge", ["charge"])
    engine.config.execution_store.flush()
    status = engine.look("o")
    assert [(wait.step, wait.signal) for wait in status.waits] == [("charge", None)]
    assert status.steps["charge"].error == "the gateway did not answer"


@pytest.mark.parametrize("resumes", ["the same engine", "another"])
@pytest.mark.parametrize(
    ("decision", "state", "calls"),
    [
        ("completed", WorkflowState.COMPLETED, ["charge", "ship"]),
        ("failed", WorkflowState.FAILED, ["charge"]),
        ("retry", WorkflowState.COMPLETED, ["charge", "charge", "ship"]),
    ],
)
def test_a_decision_lets_it_go_on(
    new_engine: NewEngine, decision: Any, state: WorkflowState, calls: list[str], resumes: str
) -> None:
    gateway = Gateway()
    engine = new_engine(gateway)
    engine.run(order(), execution_id="o")
    gateway.answers = True
    if resumes == "another":
        engine = new_engine(gateway)
    assert engine.resume("o").state is WorkflowState.PAUSED
    engine.resolve("o", "charge", decision, output="a receipt" if decision == "completed" else None)
    result = engine.resume("o")
    assert (result.state, gateway.calls) == (state, calls)
    assert result["charge"].error == ("resolved as failed" if decision == "failed" else None)
    if decision == "completed":
        assert result["ship"].output == "a receipt"


def test_what_does_not_depend_on_it_runs_meanwhile(new_engine: NewEngine, gateway: Gateway) -> None:
    steps = [StepDef("charge"), StepDef("mail"), StepDef("log")]
    result = new_engine(gateway).run(FlowDef("order", FlowMode.PARALLEL, steps=steps))
    assert result.state is WorkflowState.PAUSED
    assert sorted(gateway.calls) == ["charge", "log", "mail"]


def test_an_item_is_decided_on_by_its_name(new_engine: NewEngine, gateway: Gateway) -> None:
    engine = new_engine(gateway)
    result = engine.run(order(foreach="inputs.list", max_parallel=1), {"list": ["a", "b", "c"]}, execution_id="o")
    assert result.error == "needs a decision: charge[1]"
    assert [str(item.status) for item in result["charge"].items or ()] == ["completed", "pending", "completed"]
    assert gateway.calls == ["charge[0]", "charge[1]", "charge[2]"]
    assert [wait.step for wait in engine.look("o").waits] == ["charge[1]"]
    engine.resolve("o", "charge[1]", "completed", output="paid")
    result = engine.resume("o")
    assert (result.state, result["charge"].output) == (WorkflowState.COMPLETED, ["done", "paid", "done"])


def test_one_of_a_sub_flow_is_named_by_the_execution(new_engine: NewEngine, gateway: Gateway) -> None:
    flow = FlowDef("shop", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "order"})])
    engine = new_engine(gateway, storage=InMemoryStorage([order()]))
    result = engine.run(flow, execution_id="s")
    assert result.state is WorkflowState.PAUSED
    assert "needs a decision: charge" in (result.error or "")


def test_who_decides_on_something_else_is_told_what_is_to_be_decided(new_engine: NewEngine, gateway: Gateway) -> None:
    engine = new_engine(gateway)
    engine.run(order(foreach=["a", "b"]), execution_id="o")
    with pytest.raises(ValueError, match=r"nothing is to be decided on step 'charge'; needs a decision: charge\[1\]"):
        engine.resolve("o", "charge", "completed")
    outer = FlowDef("outer", steps=[StepDef("buy", step_type="sub_flow", config={"flow_name": "order"})])
    outer.sub_flows = (order(),)
    engine.run(outer, execution_id="p")
    with pytest.raises(ValueError, match=r"on step 'charge'; sub-flow .* needs a decision: charge"):
        engine.resolve("p", "charge", "completed")


def test_one_that_is_cancelled_has_failed(new_engine: NewEngine, gateway: Gateway) -> None:
    engine = new_engine(gateway)
    engine.run(order(), execution_id="o")
    engine.cancel("o")
    result = engine.resume("o")
    assert (result.state, str(result["charge"].status)) == (WorkflowState.CANCELLED, "failed")


def test_a_rerun_asks_for_the_decision_first(new_engine: NewEngine, gateway: Gateway, store: Store) -> None:
    engine = new_engine(gateway)
    engine.run(order(), execution_id="o")
    with pytest.raises(ValueError, match="resolve it first"):
        engine.rerun("o")
    gateway.answers = True
    assert engine.rerun("o", from_step="charge").success


def test_an_undo_and_a_finally_step_fail(new_engine: NewEngine, gateway: Gateway) -> None:
    def handler(ctx: StepContext) -> None:
        if ctx.step.name == "boom":
            raise ValueError("no")
        if ctx.step.name == "tell":
            raise UnknownOutcome("was it sent?")

    def undo(ctx: StepContext) -> None:
        raise UnknownOutcome("was it refunded?")

    steps = [
        StepDef("pay", rollbackable=True, max_retries=2, retry_delay=0),
        StepDef("boom"),
        StepDef("tell", finally_=True),
    ]
    result = new_engine(handler, rollback_handler=undo).run(FlowDef("f", rollback_on_failure=True, steps=steps))
    assert (result.state, result["tell"].error) == (WorkflowState.FAILED, "UnknownOutcome: was it sent?")
    assert "was it refunded?" in (result.error or "")


def test_without_a_store_it_fails_and_is_not_tried_again(gateway: Gateway) -> None:
    with Engine(gateway) as engine:
        result = engine.run(order(max_retries=3))
    assert result["charge"].error == "UnknownOutcome: the gateway did not answer"
    assert gateway.calls == ["charge"]
