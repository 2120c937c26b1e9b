"""When each undo was, as it is kept with the row of the step that was undone."""

from datetime import timedelta

import pytest
from durable.children import killed
from helper_engine import bounded

from szal import FlowDef, InMemoryStorage, StepDef, StepStatus, WorkflowState
from szal.engine.inspection import checkpoints_of
from szal.model.json import MOST_ATTEMPTS


def undos(store, execution_id="e"):
    """Return by key what is kept of undos: the error of each attempt; each began when the one before had ended."""
    found = {}
    for key, kept in checkpoints_of(store, execution_id).items():
        times = [time for end in kept.undos for time in (end.started_at, end.ended_at)]
        assert times == sorted(times)
        found[key] = [end.error for end in kept.undos]
    return found


def fails_at(name):
    def handler(ctx):
        if ctx.step.name == name:
            raise ValueError("broken")
        return ["x", "y"]

    return handler


def rolls_back(*steps):
    return FlowDef("f", steps=[*steps, StepDef("boom")], rollback_on_failure=True)


def test_each_attempt_to_undo_a_step_is_told_with_its_times_and_its_error(new_engine, store):
    def undo(ctx):
        if ctx.step.name == "b" and ctx.attempt < 3:
            raise OSError(f"no: s3cret {ctx.attempt}")
        if ctx.step.name == "c":
            raise KeyError("c")

    retried = StepDef("b", rollbackable=True, max_retries=2, retry_delay=0.0)
    flow = rolls_back(StepDef("a", rollbackable=True), retried, StepDef("c", rollbackable=True), StepDef("plain"))
    engine = new_engine(fails_at("boom"), rollback_handler=undo, redact=["pass"])
    result = bounded(engine.run, flow, {"pass": "s3cret"}, execution_id="e")
    assert (result.state, str(result["b"].status)) == (WorkflowState.FAILED, "rolled_back")
    told = undos(store)
    assert told["b"] == ["OSError: no: *** 1", "OSError: no: *** 2", None]
    assert {name: told[name] for name in ("a", "c", "plain", "boom")} == {
        "a": [None],
        "c": ["KeyError: 'c'"],
        "plain": [],
        "boom": [],
    }
    kept = checkpoints_of(store, "e")
    forward = kept["boom"].result
    assert kept["a"].undos[0].started_at >= forward.started_at + timedelta(seconds=forward.duration)
    assert kept["a"].undos[0].started_at >= kept["b"].undos[-1].ended_at >= kept["c"].undos[-1].ended_at


def test_of_a_step_over_a_list_each_item_tells_it_and_of_a_sub_flow_both_do(new_engine, store):
    inner = FlowDef("inner", steps=[StepDef("in", rollbackable=True)])
    listed = StepDef("list")
    each = StepDef("each", rollbackable=True, foreach="steps.list.output")
    below = StepDef("below", step_type="sub_flow", config={"flow_name": "inner"}, rollbackable=True)
    storage = InMemoryStorage()
    storage.insert(inner)
    engine = new_engine(fails_at("boom"), rollback_handler=lambda ctx: None, storage=storage)
    bounded(engine.run, rolls_back(listed, each, below), execution_id="e")
    told = undos(store)
    assert [told["each[0]"], told["each[1]"], told["each"]] == [[None], [None], []]
    assert told["below"] == [None, None]  # by its handler, and its sub-flow, which took so long
    (child,) = store.find(parent="e")
    assert undos(store, child.execution_id) == {"in": [None]}
    inside = checkpoints_of(store, child.execution_id)["in"].undos[0]
    own, whole = checkpoints_of(store, "e")["below"].undos
    assert own.ended_at <= whole.started_at <= inside.started_at <= inside.ended_at <= whole.ended_at


def test_a_step_that_failed_keeps_its_attempts_and_traceback_where_it_is_undone(new_engine, store):
    def handler(ctx):
        raise ValueError(f"attempt {ctx.attempt}")

    flow = FlowDef(
        "f", steps=[StepDef("a", max_retries=1, retry_delay=0.0, undo_on_failure=True)], rollback_on_failure=True
    )
    bounded(new_engine(handler, rollback_handler=lambda ctx: None).run, flow, execution_id="e")
    kept = checkpoints_of(store, "e")["a"]
    assert kept.result.status is StepStatus.ROLLED_BACK
    assert [end.error for end in kept.attempts] == ["ValueError: attempt 1", "ValueError: attempt 2"]
    assert kept.traceback.splitlines()[-1].endswith("ValueError: attempt 2")
    assert undos(store)["a"] == [None]


def test_of_very_many_attempts_the_last_are_told(new_engine, store):
    def undo(ctx):
        if ctx.attempt <= 24:
            raise OSError(str(ctx.attempt))

    step = StepDef("a", rollbackable=True, max_retries=24, retry_delay=0.0)
    bounded(new_engine(fails_at("boom"), rollback_handler=undo).run, rolls_back(step), execution_id="e")
    errors = undos(store)["a"]
    assert errors == [*(f"OSError: {number}" for number in range(26 - MOST_ATTEMPTS, 25)), None]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_undo_in_a_transaction_is_told_too(new_engine, store):
    def undo(ctx):
        with ctx.transaction():
            if ctx.attempt == 1:
                raise OSError("once")

    steps = StepDef("a", rollbackable=True), StepDef("b", rollbackable=True, max_retries=1, retry_delay=0.0)

    def undo_of_each(ctx):
        if ctx.step.name == "b":
            return undo(ctx)
        with ctx.transaction():
            return None

    engine = new_engine(fails_at("boom"), rollback_handler=undo_of_each)
    bounded(engine.run, rolls_back(*steps), execution_id="e")
    assert undos(store) == {"a": [None], "b": ["OSError: once", None], "boom": []}


CODE = """
    steps = [StepDef(name, rollbackable=True, max_retries=1, retry_delay=0.0) for name in "abc"]
    flow = FlowDef("f", steps=[*steps, StepDef("boom")], rollback_on_failure=True)

    def handler(ctx):
        if ctx.step.name == "boom":
            raise ValueError("broken")
        if ctx.step.name == "b" and ctx.attempt == 1:
            raise OSError("busy")

    def undo(ctx):
        if ctx.step.name == "b":
            if ctx.attempt == 2:
                die()
            raise OSError("no route")

    new_engine(handler, rollback_handler=undo).run(flow, execution_id="e")
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_it_is_kept_over_a_crash_in_the_middle_of_the_undoing(store_url, store, new_engine):
    killed(CODE, store_url)
    assert undos(store) == {"a": [], "b": ["OSError: no route"], "c": [None], "boom": []}
    before = checkpoints_of(store, "e")["c"].undos
    (result,) = bounded(new_engine(rollback_handler=lambda ctx: None).recover)
    assert result.state is WorkflowState.ROLLED_BACK
    assert undos(store) == {"a": [None], "b": ["OSError: no route", None], "c": [None], "boom": []}
    kept = checkpoints_of(store, "e")
    assert kept["c"].undos == before
    assert [end.error for end in kept["b"].attempts] == ["OSError: busy", None]  # of the run before
