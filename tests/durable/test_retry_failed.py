"""A failed execution, run again under its own id: a cron job whose file came late."""

import threading
from collections import Counter

import pytest
from durable.children import Child, killed
from helper_engine import statuses, waited

from szal import (
    CannotRetry,
    Engine,
    ExecutionOwned,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    TriggerMode,
    WorkflowState,
)

FLOW = FlowDef("night", steps=[StepDef("fetch"), StepDef("load"), StepDef("tell")])


class Job:
    """A handler of which the steps *broken* fail; what it has called is counted."""

    def __init__(self, *broken):
        self.broken, self.calls, self.keys = set(broken), [], {}

    def __call__(self, ctx):
        self.calls.append(ctx.step.name)
        self.keys.setdefault(ctx.step.name, set()).add(ctx.idempotency_key)
        if ctx.step.name in self.broken:
            raise FileNotFoundError("not there yet")
        return f"{ctx.step.name} of {ctx.inputs.get('day')}"

    def mended(self):
        self.broken, self.calls = set(), []


def test_what_failed_and_what_that_skipped_runs_again_and_the_rest_stands(new_engine, store):
    job = Job("load")
    with new_engine(job) as engine:
        first = engine.run(FLOW, {"day": 1}, execution_id="e", labels={"by": "cron"})
        assert first.state is WorkflowState.FAILED
        job.mended()
        assert engine.run(FLOW, execution_id="e").state is WorkflowState.FAILED  # as ever: the stored result
        assert job.calls == []
        result = engine.run(FLOW, {"day": 2}, execution_id="e", retry_failed=True)
    assert job.calls == ["load", "tell"]
    assert result.outputs == {name: f"{name} of 1" for name in ("fetch", "load", "tell")}
    record = store.get("e")
    assert (record.state, record.labels, record.reopened) == (WorkflowState.COMPLETED, {"by": "cron"}, 1)
    assert record.started_at <= record.finished_at
    assert len(job.keys["load"]) == 1
    assert store.list() == ["e"]


def test_it_may_fail_again_and_be_run_again(new_engine, store):
    job = Job("load")
    with new_engine(job) as engine:
        engine.run(FLOW, execution_id="e")
        for number in (1, 2):
            again = engine.run(FLOW, execution_id="e", retry_failed=True)
            assert (again.state, store.get("e").reopened) == (WorkflowState.FAILED, number)
        job.mended()
        assert engine.run(FLOW, execution_id="e", retry_failed=True).success
    assert job.calls == ["load", "tell"]


@pytest.mark.parametrize("state", ["none", "completed", "paused"])
def test_what_has_not_failed_is_as_without_it(new_engine, state):
    job = Job()
    steps = [StepDef("a"), StepDef("ask", step_type="wait", config={"signal": "go"})] if state == "paused" else None
    flow = FLOW if steps is None else FlowDef("asks", steps=steps)
    with new_engine(job) as engine:
        if state != "none":
            engine.run(flow, execution_id="e")
        before = Counter(job.calls)
        result = engine.run(flow, execution_id="e", retry_failed=True)
    assert str(result.state) == {"none": "completed"}.get(state, state)
    assert Counter(job.calls) == before or state == "none"


@pytest.mark.parametrize("end", ["rolled_back", "cancelled"])
def test_what_was_undone_or_cancelled_is_refused_and_left_as_it_is(new_engine, store, end):
    flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=end == "rolled_back")

    def handler(ctx):
        if ctx.step.name == "b":
            if end == "cancelled":
                engine.cancel("e")
            raise ValueError("no")

    with new_engine(handler, rollback_handler=lambda ctx: None) as engine:
        engine.run(flow, execution_id="e")
        before = store.get("e")
        assert str(before.state) == end
        with pytest.raises(CannotRetry, match=f"execution e is {end}, and not failed"):
            engine.run(flow, execution_id="e", retry_failed=True)
    assert store.get("e") == before


def test_what_comes_after_what_runs_again_runs_again_too(new_engine):
    """A step that runs whatever happens has told of the failure: it tells again."""
    bad = StepDef("bad")
    flow = FlowDef(
        "f",
        FlowMode.DAG,
        steps=[bad, StepDef("tell", depends_on=[bad], trigger_mode=TriggerMode.ALL_DONE), StepDef("other")],
    )
    job = Job("bad")
    with new_engine(job) as engine:
        engine.run(flow, execution_id="e")
        job.mended()
        assert engine.run(flow, execution_id="e", retry_failed=True).success
    assert sorted(job.calls) == ["bad", "tell"]


def test_a_sub_flow_keeps_what_completed_in_it(new_engine):
    inner = FlowDef("inner", steps=[StepDef("a"), StepDef("b")])
    before = StepDef("before", step_type="sub_flow", config={"flow_name": "inner"})
    flow = FlowDef(
        "outer",
        steps=[
            before,
            StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}, max_retries=1, retry_delay=0),
        ],
    )
    seen = []

    def handler(ctx):
        seen.append(ctx.step.name)
        if len(seen) in (4, 6):  # b of the second sub-flow, in both attempts
            raise ValueError("no")

    with new_engine(handler, storage=InMemoryStorage([inner])) as engine:
        assert engine.run(flow, execution_id="e").state is WorkflowState.FAILED
        assert seen == ["a", "b", "a", "b", "a", "b"]
        seen[:] = [None] * 10
        assert engine.run(flow, execution_id="e", retry_failed=True).success
    assert seen[10:] == ["b"]


def test_of_what_could_not_be_undone_what_was_undone_runs_again_and_what_is_left_stands(new_engine):
    steps = [StepDef(name, rollbackable=True) for name in ("kept", "undone")]
    flow = FlowDef("f", steps=[*steps, StepDef("bad")], rollback_on_failure=True)
    job, undoings = Job("bad"), []

    def undo(ctx):
        undoings.append(ctx.step.name)
        if ctx.step.name == "kept" and len(undoings) == 2:
            raise ValueError("no")

    with new_engine(job, rollback_handler=undo) as engine:
        assert engine.run(flow, execution_id="e").state is WorkflowState.FAILED
        job.calls.clear()
        assert engine.run(flow, execution_id="e", retry_failed=True).state is WorkflowState.ROLLED_BACK
    assert job.calls == ["undone", "bad"]
    assert undoings == ["undone", "kept"] * 2


def test_two_at_once_run_it_once(new_engine):
    begun, go = threading.Event(), threading.Event()
    job = Job("load")
    with new_engine(job) as engine:
        engine.run(FLOW, execution_id="e")
    job.mended()

    def held(ctx):
        begun.set()
        waited(go)
        return job(ctx)

    engine, other = new_engine(held), new_engine(held)
    thread = threading.Thread(target=engine.run, args=[FLOW], kwargs={"execution_id": "e", "retry_failed": True})
    thread.start()
    waited(begun)
    try:
        for each in (engine, other):
            with pytest.raises(ExecutionOwned):
                each.run(FLOW, execution_id="e", retry_failed=True)
    finally:
        go.set()
        thread.join(20)
    assert job.calls == ["load", "tell"]


def test_signals_that_came_stay_and_none_comes_twice(new_engine):
    asks = [StepDef(name, step_type="wait", config={"signal": name[:2]}) for name in ("go", "go again", "up")]
    flow = FlowDef("f", steps=[asks[0], StepDef("bad"), *asks[1:]])
    job = Job("bad")
    with new_engine(job) as engine:
        engine.run(flow, execution_id="e")
        engine.signal("e", "go", 1)
        engine.signal("e", "up", 2)  # before anything waits for it
        assert engine.resume("e").state is WorkflowState.FAILED
        job.mended()
        assert engine.run(flow, execution_id="e", retry_failed=True).state is WorkflowState.PAUSED
        assert [wait.step for wait in engine.look("e").waits] == ["go again"]
        engine.signal("e", "go", 3)
        assert engine.resume("e").outputs == {"go": 1, "bad": "bad of None", "go again": 3, "up": 2}


AGAIN = """
    flow = FlowDef("night", steps=[StepDef("fetch"), StepDef("load"), StepDef("tell")])
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if sys.argv[3] == "fail" and ctx.step.name == "load":
            raise FileNotFoundError("not there yet")
        if sys.argv[3] == ctx.step.name:
            die()
        return ctx.step.name
    result = new_engine(handler).run(flow, execution_id="e", retry_failed=True)
    tell(result.state)
"""


def test_killed_in_the_middle_it_goes_on_as_if_nothing_had_happened(store_url, log, new_engine, store):
    with Child(AGAIN, store_url, log.path, "fail") as child:
        assert child.end() == "failed"
    for dies in ("load", "tell"):
        killed(AGAIN, store_url, log.path, dies)
    assert store.get("e").state is WorkflowState.RUNNING
    with new_engine() as engine:
        (result,) = engine.recover()
    assert statuses(result) == dict.fromkeys(("fetch", "load", "tell"), "completed")
    assert log.lines == ["fetch", "load", "load", "load", "tell"]


def test_it_needs_an_id_and_a_store():
    with Engine(lambda ctx: None) as engine, pytest.raises(ValueError, match="needs an execution_id"):
        engine.run(FLOW, execution_id="e", retry_failed=True)
