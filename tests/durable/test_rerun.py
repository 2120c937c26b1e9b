"""Running a flow again as a new execution that keeps what completed."""

import signal
import threading
from functools import partial

import pytest
from durable.children import killed
from helper_engine import statuses, waited

from szal import (
    ExecutionNotFound,
    ExecutionOwned,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    MigrationRegistry,
    StepDef,
    TriggerMode,
    WorkflowState,
)
from szal.engine.leased_store import LeasedStore
from szal.engine.lineage import child_id
from szal.model.definition import content_id
from szal.model.json import encode_flow
from szal.stores.ledger import NewExecution, TakeOver


def chain(*names, **options):
    """A flow of such steps, one after the other."""
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


class Handler:
    """Fails the steps in `broken`; `ran` names those it was called for."""

    def __init__(self, *broken):
        self.broken = set(broken)
        self.ran = []
        self.before = {}

    def __call__(self, ctx):
        self.before.get(ctx.step.name, int)()
        self.ran.append(ctx.step.name)
        if ctx.step.name in self.broken:
            raise ValueError("broken")
        return [ctx.step.name, ctx.inputs.get("n"), dict(ctx.outputs)]

    def mend(self):
        self.broken.clear()
        self.ran.clear()


@pytest.fixture
def handler():
    return Handler("b")


@pytest.fixture
def engine(new_engine, handler):
    return new_engine(handler)


def test_what_failed_and_what_that_skipped_runs(engine, handler, store):
    failed = engine.run(chain("a", "b", "c"), {"n": 1})
    handler.mend()
    again = engine.rerun(failed.execution_id)
    assert handler.ran == ["b", "c"]
    assert again.state is WorkflowState.COMPLETED
    assert again.outputs["c"][2]["a"] == failed.outputs["a"]
    assert again.execution_id != failed.execution_id


def test_the_new_execution_names_the_old_one_which_stays_as_it_was(engine, handler, store):
    failed = engine.run(chain("a", "b"), {"n": 1}, labels={"who": "me"})
    before = store.get(failed.execution_id)
    handler.mend()
    record = store.get(engine.rerun(failed.execution_id).execution_id)
    assert record.parent_execution_id == failed.execution_id
    assert (record.labels, record.inputs) == ({"who": "me"}, {"n": 1})
    assert store.get(failed.execution_id) == before


class TestWhatAnEarlierRerunHasUndone:
    """Of an execution that completed; a rerun from its last step fails, and undoes what it kept."""

    @pytest.fixture
    def engine(self, new_engine, handler):
        handler.mend()
        flow = FlowDef("book", steps=[StepDef("hotel", rollbackable=True)])
        undone = lambda ctx: handler.ran.append(f"undo {ctx.step.name}")  # noqa: E731
        return new_engine(handler, rollback_handler=undone, storage=InMemoryStorage([flow]))

    @pytest.fixture
    def completed(self, engine, handler):
        book = StepDef("book", step_type="sub_flow", config={"flow_name": "book"})
        steps = [StepDef("a", rollbackable=True), book, StepDef("c")]
        done = engine.run(FlowDef("f", steps=steps, rollback_on_failure=True)).execution_id
        handler.broken.add("c")
        handler.ran.clear()
        return done

    def test_is_done_again_by_the_next_one(self, engine, handler, completed, store):
        before = store.get(completed)
        assert engine.rerun(completed, "c").state is WorkflowState.ROLLED_BACK
        assert handler.ran == ["c", "undo hotel", "undo a"]
        handler.mend()
        assert engine.rerun(completed, "c").success
        assert handler.ran == ["a", "hotel", "c"]
        assert store.get(completed) == before

    def test_is_done_again_whichever_of_those_that_kept_it_is_run_again(self, engine, handler, completed):
        handler.mend()
        first = engine.rerun(completed, "c")
        second = engine.rerun(first.execution_id, "c")
        handler.broken.add("c")
        assert engine.rerun(second.execution_id, "c").rolled_back
        handler.mend()
        for each in (completed, first.execution_id, second.execution_id):
            assert engine.rerun(each, "c").outputs.keys() == {"a", "book", "c"}
        assert handler.ran == ["a", "hotel", "c"] * 3

    def test_is_not_recorded_where_that_was_removed(self, engine, handler, completed, store):
        first = engine.rerun(completed, "c")
        handler.mend()
        second = engine.rerun(completed, "c")
        handler.broken.add("c")
        handler.before["c"] = lambda: store.remove(second.execution_id)
        assert engine.rerun(second.execution_id, "c").rolled_back
        assert first.rolled_back
        with pytest.raises(ExecutionNotFound):
            store.ledger.read(second.execution_id)
        store.save(ExecutionRecord(second.execution_id, "f"))
        assert not store.ledger.read(second.execution_id).steps


def test_from_a_step_on_all_that_comes_after_it_runs(engine, handler):
    flow = FlowDef("dag", FlowMode.DAG)
    a = flow.add_step(StepDef("a"))
    c = flow.add_step(StepDef("c", depends_on=[a]))
    flow.add_step(StepDef("d", depends_on=[c]))
    flow.add_step(StepDef("beside", depends_on=[a]))
    done = engine.run(flow)
    handler.mend()
    assert engine.rerun(done.execution_id, from_step="c").success
    assert sorted(handler.ran) == ["c", "d"]


def test_what_failed_runs_too_where_it_is_not_after_the_step(engine, handler):
    flow = FlowDef("parallel", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    failed = engine.run(flow)
    handler.mend()
    assert engine.rerun(failed.execution_id, from_step="a").success
    assert sorted(handler.ran) == ["a", "b"]


def test_if_a_step_runs_again_so_does_all_that_comes_after_it(engine, handler):
    flow = FlowDef("clean-up", FlowMode.DAG)
    flow.add_step(StepDef("beside"))
    above = [flow.add_step(StepDef("b"))]
    for name, trigger in (("c", TriggerMode.ALL_DONE), ("d", TriggerMode.ALL)):
        above = [flow.add_step(StepDef(name, depends_on=above, trigger_mode=trigger))]
    failed = engine.run(flow)
    assert statuses(failed) == {"beside": "completed", "b": "failed", "c": "completed", "d": "completed"}
    handler.mend()
    assert engine.rerun(failed.execution_id).success
    assert handler.ran == ["b", "c", "d"]


class TestAStepThatWasSkippedBeforeOneThatIsKept:
    """Sequential: a was skipped, b completed, c failed."""

    flow = FlowDef("asked", steps=[StepDef("a", condition="inputs.with_a"), StepDef("x"), StepDef("b")])

    @pytest.fixture
    def failed(self, engine, handler):
        failed = engine.run(self.flow, {"with_a": False})
        assert statuses(failed) == {"a": "skipped", "x": "completed", "b": "failed"}
        handler.mend()
        return failed

    def test_is_skipped_again_and_that_one_is_kept(self, engine, handler, failed):
        again = engine.rerun(failed.execution_id)
        assert statuses(again) == {"a": "skipped", "x": "completed", "b": "completed"}
        assert handler.ran == ["b"]

    def test_runs_now_and_so_does_all_after_it_each_after_the_one_before(self, new_engine, handler, failed):
        order = []
        engine = new_engine(handler, event_sink=lambda event: order.append((event.event_type, event.step_name)))
        again = engine.rerun(failed.execution_id, inputs={"with_a": True})
        assert statuses(again) == {"a": "completed", "x": "completed", "b": "completed"}
        assert list(again.outputs["b"][2]) == ["a", "x"]
        kinds = ("step_started", "step_completed")
        assert [each for each in order if each[0] in kinds] == [(kind, name) for name in "axb" for kind in kinds]

    def test_fails_now_and_nothing_follows(self, engine, handler, failed):
        handler.broken.add("a")
        again = engine.rerun(failed.execution_id, inputs={"with_a": True})
        assert statuses(again) == {"a": "failed", "x": "skipped", "b": "skipped"}
        assert handler.ran == ["a"]

    def test_runs_now_in_a_rerun_that_dies_and_who_recovers_it_runs_all_after_it(
        self, engine, handler, failed, new_engine
    ):
        again = die_before(engine, handler, failed, "x", inputs={"with_a": True})
        [result] = new_engine(handler).recover()
        assert (result.execution_id, result.success) == (again, True)
        assert handler.ran == ["x", "b"]

    def test_runs_now_in_a_rerun_that_dies_and_so_does_all_after_it_where_that_is_run_again(
        self, engine, handler, failed, new_engine
    ):
        again = die_before(engine, handler, failed, "x", inputs={"with_a": True})
        assert new_engine(handler).rerun(again).success
        assert handler.ran == ["x", "b"]

    def test_is_skipped_in_a_rerun_of_a_rerun_that_dies_too(self, engine, handler, failed, new_engine):
        again = die_before(engine, handler, failed, "b")
        [result] = new_engine(handler).recover()
        assert statuses(result) == {"a": "skipped", "x": "completed", "b": "completed"}
        assert statuses(engine.rerun(again, from_step="b")) == statuses(result)
        assert handler.ran == ["b", "b"]


class Signalled(Exception):
    """What a signal handler raises: it leaves an execution RUNNING, as the death of its process does."""


def die_before(engine, handler, failed, step, **options):
    """Rerun an execution until *step* is to begin, leave it there, and return its id."""

    def strike(number, frame):
        raise Signalled

    before = signal.signal(signal.SIGUSR1, strike)
    handler.before[step] = partial(signal.raise_signal, signal.SIGUSR1)
    try:
        with pytest.raises(Signalled):
            engine.rerun(failed.execution_id, **options)
    finally:
        signal.signal(signal.SIGUSR1, before)
        del handler.before[step]
    handler.ran.clear()
    store = engine.config.execution_store
    [again] = [each for each in store.list() if each != failed.execution_id]
    assert store.get(again).state is WorkflowState.RUNNING
    return again


def test_a_clean_up_step_is_not_kept_behind_a_step_that_runs_again(engine, handler):
    """It would open the gate of what asks how that one ended."""
    flow = FlowDef("dag", FlowMode.DAG)
    above = flow.add_step(StepDef("b"))
    clean_up = flow.add_step(StepDef("clean-up", depends_on=above, trigger_mode=TriggerMode.ALL_DONE))
    flow.add_step(StepDef("publish", depends_on=clean_up, condition="steps.b.status == 'completed'"))
    failed = engine.run(flow)
    assert statuses(failed) == {"b": "failed", "clean-up": "completed", "publish": "skipped"}
    handler.mend()
    assert statuses(engine.rerun(failed.execution_id)) == dict.fromkeys(("b", "clean-up", "publish"), "completed")
    assert handler.ran == ["b", "clean-up", "publish"]


def test_after_a_step_that_was_undone_nothing_is_kept(new_engine):
    """What could not be undone neither: it comes after one that runs again."""

    def undo(ctx):
        if ctx.step.name == "x":
            raise RuntimeError("stuck")

    handler = Handler("b")
    engine = new_engine(handler, rollback_handler=undo)
    steps = [StepDef("a", rollbackable=True), StepDef("x", rollbackable=True), StepDef("b")]
    failed = engine.run(FlowDef("saga", steps=steps, rollback_on_failure=True))
    assert statuses(failed) == {"a": "rolled_back", "x": "completed", "b": "failed"}
    handler.mend()
    assert engine.rerun(failed.execution_id).success
    assert handler.ran == ["a", "x", "b"]


def test_sub_steps_run_again_with_their_step(engine, handler):
    tree = [StepDef("a", sub_steps=[StepDef("b"), StepDef("c")]), StepDef("d")]
    done = FlowDef("tree", FlowMode.HIERARCHICAL, steps=tree)
    handler.mend()
    execution_id = engine.run(done).execution_id
    handler.mend()
    assert engine.rerun(execution_id, from_step="b").success
    assert handler.ran == ["b", "c", "d"]


def test_an_any_step_is_kept_where_one_that_it_waited_for_is(engine, handler):
    flow = FlowDef("any", FlowMode.DAG)
    needs = [flow.add_step(StepDef("a")), flow.add_step(StepDef("b"))]
    flow.add_step(StepDef("either", depends_on=needs, trigger_mode=TriggerMode.ANY))
    failed = engine.run(flow)
    assert statuses(failed) == {"a": "completed", "b": "failed", "either": "completed"}
    handler.mend()
    assert engine.rerun(failed.execution_id).success
    assert handler.ran == ["b"]


def joined(trigger):
    """A step that waits for a, which is kept, and b, which is not; and, behind both, one that fails."""
    flow = FlowDef("joined", FlowMode.DAG)
    needs = [flow.add_step(StepDef("a")), flow.add_step(StepDef("b"))]
    both = flow.add_step(StepDef("both", depends_on=needs, trigger_mode=trigger))
    flow.add_step(StepDef("end", depends_on=[both]))
    return flow


def test_so_it_is_in_the_rerun_of_a_rerun_that_had_kept_it(engine, handler):
    handler.broken = {"b", "end"}
    failed = engine.run(joined(TriggerMode.ANY))
    handler.broken = {"end"}
    again = engine.rerun(failed.execution_id)
    assert statuses(again) == {"a": "completed", "b": "completed", "both": "completed", "end": "failed"}
    handler.mend()
    assert engine.rerun(again.execution_id).success
    assert handler.ran == ["end"]


def test_a_step_is_not_kept_where_the_later_one_of_two_that_it_waits_for_ran_in_a_rerun_that_died(
    engine, handler, new_engine
):
    handler.broken = {"b", "end"}
    failed = engine.run(joined(TriggerMode.ALL_DONE))
    assert statuses(failed) == {"a": "completed", "b": "failed", "both": "completed", "end": "failed"}
    handler.mend()
    again = die_before(engine, handler, failed, "both")
    assert new_engine(handler).rerun(again).success
    assert handler.ran == ["both", "end"]


@pytest.mark.parametrize("skipped_again", [True, False])
def test_what_is_kept_is_undone_unless_it_was_to_run_again(new_engine, skipped_again):
    undone, handler = [], Handler("b")
    engine = new_engine(handler, rollback_handler=lambda ctx: undone.append(ctx.step.name))
    steps = [StepDef("a", condition="inputs.a"), StepDef("x", rollbackable=True), StepDef("b")]
    failed = engine.run(FlowDef("f", steps=steps), {"a": False})
    rolling_back = FlowDef("f", steps=steps, rollback_on_failure=True, version=2)
    registry = MigrationRegistry("f")
    registry.register(1, 2, lambda flow: rolling_back)
    engine = new_engine(handler, rollback_handler=engine.config.rollback_handler, migrations={"f": registry})
    handler.broken.add("a")
    again = engine.rerun(failed.execution_id, inputs={"a": not skipped_again})
    assert again.state is WorkflowState.ROLLED_BACK
    assert undone == (["x"] if skipped_again else [])


def test_inputs_are_laid_over_the_old_ones(engine, handler, store):
    failed = engine.run(chain("a", "b"), {"n": 1, "m": 1})
    handler.mend()
    again = engine.rerun(failed.execution_id, inputs={"n": 2})
    assert (again.outputs["a"][1], again.outputs["b"][1]) == (1, 2)
    assert store.get(again.execution_id).inputs == {"n": 2, "m": 1}


def test_of_a_completed_execution_nothing_runs(engine, handler):
    handler.mend()
    done = engine.run(chain("a", "b"))
    handler.mend()
    again = engine.rerun(done.execution_id)
    assert again.success
    assert again.outputs == done.outputs
    assert handler.ran == []


def test_a_condition_is_asked_again(engine, handler):
    flow = FlowDef("asked", steps=[StepDef("a"), StepDef("b", condition="inputs.n == 2")])
    handler.mend()
    assert statuses(done := engine.run(flow, {"n": 1}))["b"] == "skipped"
    assert statuses(engine.rerun(done.execution_id, inputs={"n": 2}))["b"] == "completed"


def test_what_was_undone_runs_again(new_engine):
    handler = Handler("b")
    engine = new_engine(handler, rollback_handler=lambda ctx: None)
    flow = FlowDef("undone", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
    undone = engine.run(flow)
    assert undone.state is WorkflowState.ROLLED_BACK
    handler.mend()
    assert engine.rerun(undone.execution_id).success
    assert handler.ran == ["a", "b"]


def test_a_rerun_can_be_rerun(engine, handler):
    failed = engine.run(chain("a", "b", "c"))
    again = engine.rerun(failed.execution_id)
    handler.mend()
    assert engine.rerun(again.execution_id).success
    assert handler.ran == ["b", "c"]


def test_an_unknown_step_or_execution_is_refused(engine, handler, store):
    failed = engine.run(chain("a", "b"))
    with pytest.raises(ValueError, match="no step 'nowhere'"):
        engine.rerun(failed.execution_id, from_step="nowhere")
    with pytest.raises(ExecutionNotFound):
        engine.rerun("nobody")
    assert store.list() == [failed.execution_id]


def test_one_that_dies_is_recovered(store_url, new_engine, store):
    code = """
    def handler(ctx):
        if ctx.step.name == "b" and state["again"]:
            die()
        if ctx.step.name == "b":
            raise ValueError("broken")
        return ctx.step.name

    state = {"again": False}
    with new_engine(handler) as engine:
        failed = engine.run(FlowDef("chain", steps=[StepDef("a"), StepDef("b")]))
        state["again"] = True
        engine.rerun(failed.execution_id)
    """
    killed(code, store_url)
    handler = Handler()
    [result] = new_engine(handler).recover()
    assert result.success
    assert handler.ran == ["b"]
    assert store.get(result.execution_id).parent_execution_id is not None


class Died(Exception):
    """Stands for the end of a process."""


def test_one_that_dies_as_it_begins_keeps_what_completed(engine, handler, new_engine, store, monkeypatch):
    failed = engine.run(chain("a", "b"))
    claim = LeasedStore.claim

    def claim_and_die(*arguments):
        claim(*arguments)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(LeasedStore, "claim", claim_and_die)
        with pytest.raises(Died):
            engine.rerun(failed.execution_id)
    handler.mend()
    [again] = [each for each in store.list() if each != failed.execution_id]
    store.ledger.take_over(TakeOver(execution_id=again, owner="somebody", ttl=-1.0, is_gone=lambda owner: True))
    [result] = new_engine(handler).recover()
    assert result.execution_id == again
    assert statuses(result) == {"a": "completed", "b": "completed"}
    assert handler.ran == ["b"]


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_what_is_running_is_not_run_again_beside_it(new_engine, store, whose):
    begun, go, ran = threading.Event(), threading.Event(), []

    def handler(ctx):
        ran.append(ctx.step.name)
        begun.set()
        waited(go)

    engine = new_engine(handler)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(begun)
    other = engine if whose == "its own" else new_engine(handler)
    for step in (None, "a"):
        with pytest.raises(ExecutionOwned):
            other.rerun("e", from_step=step)
    go.set()
    assert execution.result(timeout=20).success
    assert (ran, store.list()) == (["a", "b"], ["e"])
    assert other.rerun("e", from_step="b").success


@pytest.mark.parametrize(("parents", "childs"), [(30.0, 30.0), (30.0, -1.0), (-1.0, 30.0)])
def test_a_sub_flow_is_not_run_again_beside_what_it_belongs_to(new_engine, store, parents, childs):
    """Whoever goes on with its parent has that first, and the sub-flow only when it comes to it."""
    inner, child = chain("a", "b"), child_id("e", "in", 1)
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "chain"})])
    for flow, name, parent, ttl in ((outer, "e", None, parents), (inner, child, "e", childs)):
        record = ExecutionRecord(name, flow.name, WorkflowState.RUNNING, flow_id=flow.id, parent_execution_id=parent)
        store.ledger.create(
            NewExecution(
                record=record,
                content_id=content_id(flow),
                flow=encode_flow(flow),
                owner="elsewhere/boot/pid:[1]/1/2/x",
                ttl=ttl,
            )
        )
    with pytest.raises(ExecutionOwned):
        new_engine().rerun(child)
    with pytest.raises(ExecutionOwned):
        new_engine().run(inner, execution_id=child)


def test_what_waits_can_be_run_again(new_engine):
    engine = new_engine()
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("ok", step_type="wait", config={"signal": "ok"})])
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    assert engine.rerun("e").state is WorkflowState.PAUSED


def test_it_is_no_recovery(engine, handler, store):
    failed = engine.run(chain("a", "b"))
    again = engine.rerun(failed.execution_id)
    assert store.ledger.read(again.execution_id).recoveries == 0
