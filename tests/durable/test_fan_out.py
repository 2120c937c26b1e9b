"""Items of a step that runs over a list, across crashes, pauses, reruns and undoing, on every kind of store."""

import signal
import threading
import uuid
from collections import Counter
from contextlib import suppress

import pytest
from durable.children import killed
from helper_engine import bounded, waited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import run_command_line

from szal import (
    CancellationToken,
    Engine,
    FlowDef,
    FlowMode,
    SkipStep,
    StepDef,
    StepStatus,
    WorkflowState,
)
from szal.model.json import decode_checkpoint

DONE, FAILED, SKIPPED, UNDONE = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.ROLLED_BACK


DYING = """
    log, durability, last = sys.argv[2], sys.argv[3], int(sys.argv[4])

    def act(ctx):
        if ctx.step.name == "list":
            return list("abcdef")
        add(log, f"item {ctx.index}")
        if ctx.index == last:
            die()
        return {"file": ctx.item}

    make = StepDef("list")
    each = StepDef("each", foreach=make, depends_on=[make], max_parallel=1, idempotent=last != 0)
    flow = FlowDef("fan", FlowMode.DAG, steps=[make, each])
    new_engine(act, durability=durability).run(flow, execution_id="e")
"""
"""A process that dies in an item; with the first as the last, that must not run twice."""


def fan_out(*more, **options):
    """A step that makes a list, one that runs over it, and more after that."""
    make = StepDef("list")
    each = StepDef("each", **{"foreach": make, "depends_on": [make], "retry_delay": 0.0, **options})
    steps = [make, each]
    for name in more:
        steps.append(StepDef(name, depends_on=steps[-1:]))
    return FlowDef("fan", FlowMode.DAG, steps=steps)


class Acts:
    """Does the steps, and notes for which items; `bad` ones fail."""

    def __init__(self, *bad, files=("a", "b", "c", "d")):
        self.bad, self.files = set(bad), list(files)
        self.ran, self.undone = [], []

    def __call__(self, ctx):
        if ctx.step.name == "list":
            return self.files
        self.ran.append(ctx.step.name if ctx.index is None else ctx.index)
        if (ctx.item or ctx.step.name) in self.bad:
            raise ValueError(f"{ctx.item or ctx.step.name} is bad")
        return ctx.outputs["each"] if ctx.index is None else {"file": ctx.item}

    def undo(self, ctx):
        self.undone.append((ctx.index, ctx.item, ctx.output))


def rows(store, execution_id):
    """What the store has of each step and item: the name of the row, and what is in it."""
    return {name: data for name, _, data in store.ledger.read(execution_id).steps}


def outputs(files):
    return [{"file": file} for file in files]


def test_the_record_has_the_items(new_engine, store):
    engine = new_engine(Acts("c"))
    result = engine.run(fan_out(), execution_id="e")
    recorded = store.get("e").result
    assert recorded == result
    assert [item.status for item in recorded["each"].items] == [DONE, DONE, FAILED, DONE]
    assert recorded["each"].error == "1 of 4 items failed; [2]: ValueError: c is bad"


def test_each_item_has_a_row_of_its_own_and_the_step_does_not_have_them_again(new_engine, store):
    engine = new_engine(Acts(files=["x" * 1000] * 50))
    engine.run(fan_out(), execution_id="e")
    found = rows(store, "e")
    assert set(found) == {"list", "each", *(f"each[{index}]" for index in range(50))}
    assert len(found["each"]) < 400
    assert max(len(found[f"each[{index}]"]) for index in range(50)) < 1400


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_after_a_crash_only_the_missing_items_run(store_url, new_engine, log, durability):
    """The process dies in the fourth of six items, which run one after the other."""
    killed(DYING, store_url, log.path, durability, "3")
    ran_before = [line for line in log.lines if line.startswith("item")]
    assert ran_before == [f"item {index}" for index in range(4)]
    acts = Acts(files="abcdef")
    [result] = new_engine(acts).recover()
    assert result.state is WorkflowState.COMPLETED
    assert result["each"].output == outputs("abcdef")
    assert sorted(acts.ran) == [3, 4, 5]


def test_decided_items_stay_decided(new_engine, store):
    """One that failed before an interruption is not tried again, and the step fails for it."""
    acts = Acts("a")
    interrupted(new_engine, acts, fan_out(max_parallel=1))
    assert store.get("e").state is WorkflowState.PAUSED
    assert acts.ran == [0, 1]
    acts.bad.clear()
    result = bounded(new_engine(acts).resume, "e")
    assert acts.ran == [0, 1, 2, 3]
    assert result["each"].error == "1 of 4 items failed; [0]: ValueError: a is bad"


def hit(ctx):
    """Interrupt the run that the handler is in, and end as that asks for."""
    signal.raise_signal(signal.SIGINT)
    ctx.sleep(20)
    ctx.check()


def interrupted(new_engine, acts, flow, at=2):
    """Run *flow* until item number *at* is interrupted."""
    engine = new_engine(lambda ctx: hit(ctx) if ctx.index == at else acts(ctx), rollback_handler=acts.undo)
    with pytest.raises(KeyboardInterrupt):
        engine.run(flow, execution_id="e")


class TestRerun:
    def test_of_a_step_that_failed_the_items_that_completed_are_kept(self, new_engine):
        acts = Acts("b")
        engine = new_engine(acts)
        engine.run(fan_out("after"), execution_id="e")
        acts.bad.clear()
        acts.ran.clear()
        result = engine.rerun("e")
        assert acts.ran == [1, "after"]
        assert result["each"].output == result["after"].output == outputs("abcd")

    def test_a_rerun_of_a_rerun_keeps_them_too(self, new_engine):
        acts = Acts("b", "c")
        engine = new_engine(acts)
        first = engine.run(fan_out())
        acts.bad = {"c"}
        second = engine.rerun(first.execution_id)
        acts.bad.clear()
        acts.ran.clear()
        assert engine.rerun(second.execution_id)["each"].output == outputs("abcd")
        assert acts.ran == [2]

    @pytest.mark.parametrize("how", ["rerun", "retry_failed"])
    def test_an_item_that_was_skipped_stays_so_with_its_step_and_runs_where_that_runs_again(self, new_engine, how):
        ran, bad = [], [True]

        def handler(ctx):
            ran.append(ctx.index)
            if ctx.index == 1 and bad:
                raise SkipStep("not today")
            if ctx.step.name == "after" and bad:
                raise ValueError
            return ctx.index

        engine, flow = new_engine(handler), FlowDef("fan", steps=[StepDef("each", foreach=[*"abc"]), StepDef("after")])
        engine.run(flow, execution_id="e")
        assert (sorted(ran[:3]), ran[3:]) == ([0, 1, 2], [None])
        bad.clear()
        ran.clear()
        again = engine.rerun("e") if how == "rerun" else engine.run(flow, execution_id="e", retry_failed=True)
        assert (again["each"].output, ran) == ([0, None, 2], [None])
        assert [(item.status, item.error) for item in again["each"].items] == [
            (DONE, None),
            (SKIPPED, "not today"),
            (DONE, None),
        ]
        assert engine.rerun("e", "each")["each"].output == [0, 1, 2]

    def test_a_step_that_completed_is_kept_with_its_items(self, new_engine, store):
        acts = Acts("after")
        engine = new_engine(acts)
        first = engine.run(fan_out("after"))
        acts.bad.clear()
        acts.ran.clear()
        result = engine.rerun(first.execution_id)
        assert acts.ran == ["after"]
        assert result["after"].output == outputs("abcd")
        assert [item.output for item in result["each"].items] == outputs("abcd")
        assert store.get(result.execution_id).result == result

    def test_from_the_step_itself_every_item_runs(self, new_engine):
        acts = Acts("b")
        engine = new_engine(acts)
        first = engine.run(fan_out())
        acts.bad.clear()
        acts.ran.clear()
        engine.rerun(first.execution_id, from_step="each")
        assert sorted(acts.ran) == [0, 1, 2, 3]

    def test_what_is_kept_of_an_item_is_of_the_same_element(self, new_engine):
        flow = FlowDef("fan", steps=[StepDef("each", foreach="inputs.files")])
        acts = Acts("b")

        def act(ctx):
            acts.ran.append(ctx.index)
            if ctx.item in acts.bad:
                raise ValueError
            return ctx.item

        engine = new_engine(act)
        first = engine.run(flow, {"files": ["a", "b", "c"]})
        acts.bad.clear()
        acts.ran.clear()
        result = engine.rerun(first.execution_id, inputs={"files": ["a", "b", "C", "d"]})
        assert result["each"].output == ["a", "b", "C", "d"]
        assert sorted(acts.ran) == [1, 2, 3]

    def test_a_corrected_step_runs_for_every_element(self, new_engine):
        acts = Acts("b")
        engine = new_engine(acts)
        first = engine.run(fan_out(config={"size": 1}))
        acts.bad.clear()
        acts.ran.clear()
        result = engine.rerun(first.execution_id, flow=fan_out(config={"size": 2}))
        assert sorted(acts.ran) == [0, 1, 2, 3]
        assert result.success

    def test_one_that_is_only_tried_otherwise_keeps_its_items(self, new_engine):
        acts = Acts("b")
        engine = new_engine(acts)
        first = engine.run(fan_out())
        acts.bad.clear()
        acts.ran.clear()
        assert engine.rerun(first.execution_id, flow=fan_out(max_parallel=1, max_items=7)).success
        assert acts.ran == [1]


class TestUndo:
    def undone(self, *more, **options):
        flow = fan_out(*more, rollbackable=True, **options)
        flow.rollback_on_failure = True
        return flow

    def test_each_undo_is_in_the_row_of_its_item(self, new_engine, store):
        acts = Acts("boom")
        engine = new_engine(acts, rollback_handler=acts.undo)
        result = engine.run(self.undone("boom", max_parallel=1), execution_id="e")
        assert result.state is WorkflowState.ROLLED_BACK
        assert acts.undone == [(index, file, {"file": file}) for index, file in reversed(list(enumerate("abcd")))]
        found = {name: decode_checkpoint(data, name).result.status for name, data in rows(store, "e").items()}
        assert found["each"] is UNDONE
        assert {found[f"each[{index}]"] for index in range(4)} == {UNDONE}
        assert store.get("e").result["each"].items[1].status is UNDONE

    def test_an_undoing_that_was_interrupted_goes_on_with_the_next_item(self, new_engine):
        acts, released = Acts("boom"), threading.Event()

        def undo(ctx):
            if ctx.index == 1:
                signal.raise_signal(signal.SIGINT)
                waited(released)  # it is left behind, and what it does does not count
            else:
                acts.undo(ctx)

        engine = new_engine(acts, rollback_handler=undo, cancel_grace=0.05)
        with pytest.raises(KeyboardInterrupt):
            engine.run(self.undone("boom", max_parallel=1), execution_id="e")
        released.set()
        assert [index for index, *_ in acts.undone] == [3, 2]
        result = bounded(new_engine(acts, rollback_handler=acts.undo).resume, "e")
        assert [index for index, *_ in acts.undone] == [3, 2, 1, 0]
        assert result.state is WorkflowState.ROLLED_BACK
        assert (result["each"].status, {item.status for item in result["each"].items}) == (UNDONE, {UNDONE})

    def test_what_completed_of_a_step_under_way_is_undone_after_a_cancellation_in_another_process(self, new_engine):
        acts = Acts()
        interrupted(new_engine, acts, self.undone(max_parallel=1))
        engine = new_engine(acts, rollback_handler=acts.undo)
        engine.cancel("e")
        result = bounded(engine.resume, "e")
        assert result.state is WorkflowState.ROLLED_BACK
        assert [index for index, *_ in acts.undone] == [1, 0]
        assert [item.status for item in result["each"].items] == [UNDONE, UNDONE, SKIPPED, SKIPPED]
        assert result["each"].error == "2 of 4 items not run: cancelled"

    def test_what_was_undone_runs_again_in_a_rerun(self, new_engine):
        acts = Acts("boom")
        engine = new_engine(acts, rollback_handler=acts.undo)
        first = engine.run(self.undone("boom"))
        acts.bad.clear()
        acts.ran.clear()
        result = engine.rerun(first.execution_id)
        assert sorted(acts.ran[:-1]) == [0, 1, 2, 3]
        assert result["boom"].output == outputs("abcd")

    def test_a_rerun_undoes_the_items_that_it_kept(self, new_engine):
        acts = Acts("b")
        engine = new_engine(acts, rollback_handler=acts.undo)
        first = engine.run(fan_out("boom", rollbackable=True, max_parallel=1))
        acts.bad = {"boom"}
        result = engine.rerun(first.execution_id, flow=self.undone("boom", max_parallel=1))
        assert result.state is WorkflowState.ROLLED_BACK
        assert sorted(index for index, *_ in acts.undone) == [0, 1, 2, 3]


class TestDecisions:
    @pytest.mark.parametrize("decision", ["completed", "failed", "retry"])
    def test_an_item_that_must_not_run_twice_needs_a_decision(self, store_url, new_engine, log, decision):
        killed(DYING, store_url, log.path, "step", "0")
        acts = Acts(files="abcdef")
        engine = new_engine(acts)
        [result] = engine.recover()
        assert (result.state, result.error) == (WorkflowState.PAUSED, "needs a decision: each[0]")
        assert sorted(acts.ran) == [1, 2, 3, 4, 5]
        engine.resolve("e", "each[0]", decision, "decided" if decision == "completed" else None)
        result = bounded(engine.resume, "e")
        if decision == "failed":
            assert result["each"].error == "1 of 6 items failed; [0]: resolved as failed"
        else:
            first = "decided" if decision == "completed" else {"file": "a"}
            assert result["each"].output == [first, *outputs("bcdef")]
        assert acts.ran[5:] == ([0] if decision == "retry" else [])


def test_a_cancellation_from_anywhere_ends_the_items(new_engine, store):
    begun = threading.Event()

    def act(ctx):
        if ctx.step.name == "list":
            return [1, 2, 3]
        begun.set()
        ctx.sleep(20)
        ctx.check()
        return None

    engine = new_engine(act, lease_ttl=0.5)
    execution = engine.start(fan_out(max_parallel=1), cancel=CancellationToken())
    waited(begun)
    engine.cancel(execution.execution_id)
    result = execution.result(20)
    assert result.state is WorkflowState.CANCELLED
    assert store.get(execution.execution_id).result["each"].items[2].error == "cancelled"


class TestFinally:
    def flow(self):
        finish = StepDef("each", foreach=["a", "b", "c"], finally_=True, max_parallel=1)
        return FlowDef("fan", FlowMode.DAG, steps=[StepDef("boom"), finish])

    def test_a_finally_step_may_run_over_a_list(self, new_engine):
        result = new_engine(Acts("boom")).run(self.flow())
        assert (result.state, result["each"].status) == (WorkflowState.FAILED, DONE)
        assert [item.output for item in result["each"].items] == outputs("abc")

    def test_one_that_was_interrupted_goes_on_with_the_missing_items(self, new_engine):
        acts = Acts("boom")
        interrupted(new_engine, acts, self.flow())
        assert acts.ran == ["boom", 0, 1]
        result = bounded(new_engine(acts).resume, "e")
        assert acts.ran == ["boom", 0, 1, 2]
        assert [item.output for item in result["each"].items] == outputs("abc")


def test_engine_look_has_the_items_of_a_step_under_way(new_engine):
    acts = Acts("a")
    interrupted(new_engine, acts, fan_out(max_parallel=1))
    step = new_engine(acts).look("e").steps["each"]
    assert step.status is StepStatus.PENDING
    assert [item.status for item in step.items] == [FAILED, DONE]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["ok", "bad", "skip", "flaky"]), min_size=1, max_size=7),
    max_parallel=st.none() | st.integers(1, 3),
    breaks=st.lists(st.integers(0, 6), max_size=2),
    durability=st.sampled_from(["flow", "step"]),
)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_random_lists_interrupted_anywhere_end_as_a_loop_over_them_would(
    new_engine, kinds, max_parallel, breaks, durability
):
    """What a run of one process does: each item is decided once, whatever comes in between, and tried as often."""
    flow = FlowDef(
        "loop", steps=[StepDef("each", foreach=kinds, max_retries=1, retry_delay=0.0, max_parallel=max_parallel)]
    )
    decided, lock, left = Counter(), threading.Lock(), [at for at in breaks if at < len(kinds)]

    def act(ctx):
        with lock:
            is_hit = ctx.index in left
            if is_hit:
                left.remove(ctx.index)
        if is_hit:
            hit(ctx)
        if ctx.item == "flaky" and ctx.attempt == 1:
            raise ValueError("again")
        with lock:
            decided[ctx.index] += ctx.item != "bad" or ctx.attempt == 2
        if ctx.item == "skip":
            raise SkipStep("nothing to do")
        if ctx.item == "bad":
            raise ValueError("bad")
        return ctx.index

    execution_id, result = str(uuid.uuid4()), None
    engine = new_engine(act, durability=durability, cancel_grace=20.0)
    for _ in range(len(left) + 1):
        with suppress(KeyboardInterrupt):
            result = engine.run(flow, execution_id=execution_id)
    good = {"ok": DONE, "flaky": DONE, "skip": SKIPPED, "bad": FAILED}
    assert [item.status for item in result["each"].items] == [good[kind] for kind in kinds]
    assert decided == Counter(range(len(kinds)))
    failed = kinds.count("bad")
    assert (result["each"].status is FAILED) == bool(failed)
    assert (result["each"].error or "").startswith(f"{failed} of {len(kinds)} items failed; " if failed else "")


def test_a_failed_execution_that_runs_again_under_its_id_runs_the_items_that_failed(new_engine):
    acts = Acts("b")
    engine = new_engine(acts)
    assert engine.run(fan_out("after"), execution_id="e").state is WorkflowState.FAILED
    acts.bad.clear()
    acts.ran.clear()
    result = engine.run(fan_out("after"), execution_id="e", retry_failed=True)
    assert (acts.ran, result["after"].output) == ([1, "after"], outputs("abcd"))


PENDING, RUNNING = StepStatus.PENDING, StepStatus.RUNNING


class Held(Acts):
    """Does the steps, but waits in item 1 until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, ctx):
        if ctx.index == 1:
            self.begun.set()
            waited(self.go)
        return super().__call__(ctx)


def of_items(step):
    return [item.status for item in step.items]


@pytest.mark.parametrize("where", ["around", "finally"])
def test_a_step_under_way_is_told_with_the_items_decided_so_far(new_engine, where):
    acts = Held()
    engine = new_engine(acts, durability="step")
    flow = fan_out(max_parallel=1)
    if where == "finally":
        flow = FlowDef(
            "fan", steps=[StepDef("first"), StepDef("each", foreach=list("abcd"), max_parallel=1, finally_=True)]
        )
    with engine:
        execution = engine.start(flow, execution_id="e")
        try:
            waited(acts.begun)
            for status in (execution.progress(), engine.look("e")):
                step = status.steps["each"]
                assert (step.status, of_items(step)) == (RUNNING, [DONE, RUNNING, PENDING, PENDING])
                assert step.items[0].output == {"file": "a"}
            elsewhere = new_engine().look("e").steps["each"]
            assert (elsewhere.status, of_items(elsewhere)) == (PENDING, [DONE])
        finally:
            acts.go.set()
        assert of_items(execution.result(20)["each"]) == [DONE] * 4
        assert of_items(execution.progress().steps["each"]) == [DONE] * 4


def test_without_a_store_it_is_told_so_too():
    acts = Held()
    with Engine(acts) as engine:
        execution = engine.start(fan_out(max_parallel=1))
        try:
            waited(acts.begun)
            assert of_items(execution.progress().steps["each"]) == [DONE, RUNNING, PENDING, PENDING]
        finally:
            acts.go.set()
        execution.result(20)


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_a_paused_execution_has_the_items_decided_so_far_and_goes_on_with_the_others(new_engine, store, durability):
    acts = Held()
    engine = new_engine(acts, durability=durability)
    execution = engine.start(fan_out("after", max_parallel=1), execution_id="e")
    waited(acts.begun)
    engine.pause("e")
    acts.go.set()
    paused = execution.result(20)
    engine.config.execution_store.flush()
    for result in (paused, store.get("e").result, execution.progress().steps):
        assert (result["each"].status, of_items(result["each"])) == (PENDING, [DONE, DONE, PENDING, PENDING])
    other = new_engine(acts)
    assert of_items(other.look("e").steps["each"]) == [DONE, DONE]
    assert bounded(other.resume, "e")["after"].output == outputs("abcd")
    assert acts.ran == [0, 1, 2, 3, "after"]


def test_one_that_is_paused_again_before_anything_has_begun_still_has_them(new_engine):
    acts = Held()
    acts.go.set()
    engine = new_engine(lambda ctx: engine.pause("e") and acts(ctx) if ctx.index == 1 else acts(ctx))
    assert engine.run(fan_out(max_parallel=1), execution_id="e").state is WorkflowState.PAUSED
    again = new_engine(acts, event_sink=lambda event: again.pause("e"))
    paused = bounded(again.resume, "e")
    assert (paused.state, of_items(paused["each"])) == (WorkflowState.PAUSED, [DONE, DONE])
    assert acts.ran == [0, 1]


def test_szal_show_has_them(store_url, new_engine):
    engine = new_engine(lambda ctx: engine.pause("e") and ctx.item if ctx.index == 1 else ctx.item)
    engine.run(FlowDef("fan", steps=[StepDef("each", foreach=list("abcd"), max_parallel=1)]), execution_id="e")
    engine.config.execution_store.flush()
    assert "2 items: 2 completed" in run_command_line("show", "e", "--store", store_url).stdout
