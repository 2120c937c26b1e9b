"""Rollback: what is undone, in which order, and what is said of it."""

import threading

import pytest
from helper_engine import ForeignStore, bounded, errors, statuses, waited

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    HandlerNotFound,
    Handlers,
    InMemoryStorage,
    SkipStep,
    StepDef,
    WorkflowState,
)


class Undone:
    """A rollback handler that notes which steps it undid."""

    def __init__(self):
        self.names = []

    def __call__(self, ctx):
        self.names.append(ctx.step.name)


@pytest.fixture
def undone():
    return Undone()


def undoable(name, **fields):
    return StepDef(name, rollbackable=True, **fields)


def fails_at_the_end(ctx):
    if ctx.step.name == "last":
        raise ValueError("no")
    return f"made by {ctx.step.name}"


def run(handler, steps, undo=None, mode=FlowMode.SEQUENTIAL, *, cancel=None, flow_timeout=None, **config):
    flow = FlowDef("f", mode, steps=steps, rollback_on_failure=True, timeout=flow_timeout)
    config = EngineConfig(rollback_handler=undo, cancel_grace=1e6, **config)  # so it shows if it is waited for
    with Engine(handler, config) as engine:
        return bounded(engine.run, flow, cancel=cancel)


class TestWhatIsUndone:
    def test_completed_steps_in_reverse_order(self, undone):
        result = run(fails_at_the_end, [undoable("a"), undoable("b"), undoable("c"), StepDef("last")], undone)
        assert undone.names == ["c", "b", "a"]
        assert statuses(result) == {"a": "rolled_back", "b": "rolled_back", "c": "rolled_back", "last": "failed"}
        assert (result.state, result.rolled_back, result.success) == (WorkflowState.ROLLED_BACK, True, False)
        assert result.error == "step 'last' failed: ValueError: no"

    def test_the_reverse_of_the_order_of_completion_not_of_definition(self, undone):
        first, second = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.step.name == "a":
                waited(first)
            elif ctx.step.name == "c":
                waited(second)
            elif ctx.step.name == "last":
                raise ValueError

        def sink(event):
            if event.event_type == "step_completed":
                {"b": first, "a": second}.get(event.step_name, threading.Event()).set()

        steps = [undoable("a"), undoable("b"), undoable("c")]
        steps.append(StepDef("last", depends_on=steps))
        result = run(handler, steps, undone, FlowMode.DAG, event_sink=sink)
        assert undone.names == ["c", "a", "b"]
        assert result.rolled_back

    def test_only_rollbackable_steps(self, undone):
        result = run(fails_at_the_end, [undoable("a"), StepDef("b"), StepDef("last")], undone)
        assert undone.names == ["a"]
        assert statuses(result) == {"a": "rolled_back", "b": "completed", "last": "failed"}
        assert result.outputs == {"b": "made by b"}

    def test_also_steps_that_an_undo_is_registered_for(self):
        handlers, undone = Handlers(default=fails_at_the_end), []
        handlers.rollback("a")(lambda ctx: undone.append(ctx.output))
        result = run(handlers, [StepDef("a"), StepDef("b"), StepDef("last")])
        assert undone == ["made by a"]
        assert statuses(result) == {"a": "rolled_back", "b": "completed", "last": "failed"}

    def test_not_the_failed_nor_the_skipped(self, undone):
        def handler(ctx):
            if ctx.step.name == "skips itself":
                raise SkipStep("nothing to do")
            if ctx.step.name == "fails":
                raise ValueError

        steps = [
            undoable("skips itself"),
            undoable("condition", condition="false"),
            undoable("fails"),
            undoable("after"),
        ]
        result = run(handler, steps, undone)
        assert undone.names == []
        assert statuses(result) == {
            "skips itself": "skipped",
            "condition": "skipped",
            "fails": "failed",
            "after": "skipped",
        }
        assert result.state is WorkflowState.ROLLED_BACK

    def test_sub_steps_included(self, undone):
        tree = [
            undoable("parent", sub_steps=[undoable("child", sub_steps=[undoable("grandchild")]), undoable("sibling")]),
            StepDef("last"),
        ]
        result = run(fails_at_the_end, tree, undone, FlowMode.HIERARCHICAL)
        assert undone.names == ["sibling", "grandchild", "child", "parent"]
        assert result.rolled_back

    def test_steps_that_completed_while_another_one_failed(self, undone):
        failed = threading.Event()

        def handler(ctx):
            if ctx.step.name == "fails":
                raise ValueError
            waited(failed)

        def sink(event):
            if event.event_type == "step_failed":
                failed.set()

        run(handler, [undoable("slow"), StepDef("fails")], undone, FlowMode.PARALLEL, event_sink=sink)
        assert undone.names == ["slow"]

    def test_nothing_after_success(self, undone):
        result = run(lambda ctx: None, [undoable("a"), undoable("b")], undone)
        assert undone.names == []
        assert (result.state, result.rolled_back) == (WorkflowState.COMPLETED, False)

    def test_nothing_where_the_flow_does_not_ask_for_it(self, undone):
        flow = FlowDef("f", steps=[undoable("a"), StepDef("last")])
        with Engine(fails_at_the_end, EngineConfig(rollback_handler=undone)) as engine:
            result = bounded(engine.run, flow)
        assert undone.names == []
        assert (result.state, statuses(result)["a"]) == (WorkflowState.FAILED, "completed")

    def test_a_flow_with_nothing_to_undo_is_rolled_back_all_the_same(self):
        result = run(fails_at_the_end, [StepDef("last")])
        assert (result.state, result.rolled_back) == (WorkflowState.ROLLED_BACK, True)


class TestTheHandler:
    def test_is_given_what_the_step_recorded(self):
        outputs = {}

        def undo(ctx):
            outputs[ctx.step.name] = ctx.output

        run(fails_at_the_end, [undoable("a"), undoable("b"), StepDef("last")], undo)
        assert outputs == {"a": "made by a", "b": "made by b"}

    def test_sees_inputs_config_and_the_outputs_before_its_step(self):
        seen = {}

        def undo(ctx):
            seen.update(inputs=ctx.inputs, config=ctx.config, outputs=dict(ctx.outputs), attempt=ctx.attempt)

        flow = FlowDef(
            "f",
            steps=[StepDef("a"), undoable("b", config={"of": "{{inputs.n}} {{steps.a.output}}"}), StepDef("last")],
            rollback_on_failure=True,
        )
        with Engine(fails_at_the_end, EngineConfig(rollback_handler=undo)) as engine:
            bounded(engine.run, flow, {"n": 7})
        assert seen == {
            "inputs": {"n": 7},
            "config": {"of": "7 made by a"},
            "outputs": {"a": "made by a"},
            "attempt": 1,
        }

    def test_has_an_idempotency_key_of_its_own(self):
        keys = {"do": set(), "undo": set()}

        def handler(ctx):
            keys["do"].add(ctx.idempotency_key)
            fails_at_the_end(ctx)

        def undo(ctx):
            keys["undo"].add(ctx.idempotency_key)
            if ctx.attempt == 1:
                raise ValueError

        run(handler, [undoable("a", max_retries=1, retry_delay=0), StepDef("last")], undo)
        assert len(keys["undo"]) == 1
        assert not keys["undo"] & keys["do"]

    def test_of_a_step_comes_before_that_of_its_type_and_the_engines(self):
        handlers, calls = Handlers(default=fails_at_the_end), []
        handlers.rollback("a")(lambda ctx: calls.append(f"a's own: {ctx.step.name}"))
        handlers.type_rollback("db")(lambda ctx: calls.append(f"db's: {ctx.step.name}"))
        steps = [undoable("a", step_type="db"), undoable("b", step_type="db"), undoable("c"), StepDef("last")]
        run(handlers, steps, lambda ctx: calls.append(f"the engine's: {ctx.step.name}"))
        assert calls == ["the engine's: c", "db's: b", "a's own: a"]

    def test_may_skip_what_needs_no_undoing(self):
        def undo(ctx):
            raise SkipStep("gone already")

        result = run(fails_at_the_end, [undoable("a"), StepDef("last")], undo)
        assert (result.rolled_back, statuses(result)["a"]) == (True, "rolled_back")

    def test_that_is_missing_is_an_error_before_anything_runs(self):
        ran, store = [], ForeignStore()
        with pytest.raises(HandlerNotFound, match=r"^no rollback handler for steps: a, c$") as caught:
            run(lambda ctx: ran.append(1), [undoable("a"), StepDef("b"), undoable("c")], execution_store=store)
        assert caught.value.steps == ("a", "c")
        assert ran == []
        assert store.saves == []

    def test_is_not_asked_for_where_the_flow_does_not_roll_back(self):
        with Engine(lambda ctx: None) as engine:
            assert engine.run(FlowDef("f", steps=[undoable("a")])).success


class TestUndoingThatFails:
    def test_does_not_stop_the_rest_and_is_named(self, undone):
        def undo(ctx):
            undone(ctx)
            if ctx.step.name in ("b", "d"):
                raise OSError(f"{ctx.step.name} is locked")

        result = run(fails_at_the_end, [*map(undoable, "abcd"), StepDef("last")], undo)
        assert undone.names == ["d", "c", "b", "a"]
        assert (result.state, result.rolled_back, result.success) == (WorkflowState.FAILED, False, False)
        assert statuses(result) == {
            "a": "rolled_back",
            "b": "completed",
            "c": "rolled_back",
            "d": "completed",
            "last": "failed",
        }
        assert result.error == (
            "step 'last' failed: ValueError: no; not rolled back: b (OSError: b is locked), d (OSError: d is locked)"
        )

    def test_is_logged_with_the_steps_name(self, caplog):
        def undo(ctx):
            raise OSError("locked")

        result = run(fails_at_the_end, [undoable("a"), StepDef("last")], undo)
        record = next(record for record in caplog.records if record.levelname == "ERROR")
        assert "step a" in record.getMessage()
        assert result.execution_id in record.getMessage()

    def test_has_the_steps_own_retries(self):
        attempts = []

        def undo(ctx):
            attempts.append(ctx.attempt)
            if ctx.attempt < 3:
                raise OSError

        result = run(fails_at_the_end, [undoable("a", max_retries=2, retry_delay=0), StepDef("last")], undo)
        assert attempts == [1, 2, 3]
        assert result.rolled_back

    def test_says_so_when_retries_are_exhausted(self):
        def undo(ctx):
            raise OSError("locked")

        result = run(fails_at_the_end, [undoable("a", max_retries=1, retry_delay=0), StepDef("last")], undo)
        assert "not rolled back: a (retry exhausted: a after 2 attempts: OSError: locked)" in result.error

    def test_has_the_steps_own_timeout(self, undone):
        release, ended = threading.Event(), threading.Event()

        def undo(ctx):
            undone(ctx)
            if ctx.step.name == "hangs":
                waited(release)
                ended.set()

        try:
            result = run(fails_at_the_end, [undoable("a"), undoable("hangs", timeout=0.1), StepDef("last")], undo)
        finally:
            release.set()
        waited(ended)
        assert undone.names == ["hangs", "a"]
        assert result.state is WorkflowState.FAILED
        assert "not rolled back: hangs (step timeout: hangs after 100ms)" in result.error

    def test_may_even_exit(self, undone):
        def undo(ctx):
            undone(ctx)
            if ctx.step.name == "b":
                raise SystemExit(3)

        result = run(fails_at_the_end, [undoable("a"), undoable("b"), StepDef("last")], undo)
        assert undone.names == ["b", "a"]
        assert "not rolled back: b (SystemExit: 3)" in result.error


class TestWhatItFollows:
    def test_a_flow_timeout(self, undone):
        def handler(ctx):
            if ctx.step.name == "slow":
                ctx.sleep(60)

        result = run(handler, [undoable("a"), StepDef("slow"), undoable("never")], undone, flow_timeout=1)
        assert undone.names == ["a"]
        assert (result.state, result.rolled_back) == (WorkflowState.ROLLED_BACK, True)
        assert result.error == "flow timeout exceeded"
        assert errors(result)["never"] == "flow timeout exceeded"

    def test_the_flows_deadline_does_not_reach_the_undoing(self):
        seen = []

        def undo(ctx):
            seen.append((ctx.cancelled, ctx.remaining(), ctx.sleep(0.001)))
            ctx.check()

        def handler(ctx):
            if ctx.step.name == "slow":
                ctx.sleep(60)

        result = run(handler, [undoable("a"), StepDef("slow")], undo, flow_timeout=1)
        assert seen == [(False, None, True)]
        assert result.rolled_back

    def test_a_cancellation(self, undone):
        token = CancellationToken()

        def handler(ctx):
            if ctx.step.name == "b":
                token.cancel()

        result = run(handler, [undoable("a"), undoable("b"), undoable("never")], undone, cancel=token)
        assert undone.names == ["b", "a"]
        assert (result.state, result.rolled_back, result.error) == (WorkflowState.ROLLED_BACK, True, "cancelled")

    def test_a_cancellation_does_not_reach_the_undoing(self):
        token, seen = CancellationToken(), []

        def handler(ctx):
            token.cancel()

        def undo(ctx):
            seen.append((ctx.cancelled, ctx.sleep(0.001), ctx.attempt))
            ctx.check()
            if ctx.attempt == 1:
                raise ValueError

        result = run(handler, [undoable("a", max_retries=1, retry_delay=0)], undo, cancel=token)
        assert seen == [(False, True, 1), (False, True, 2)]
        assert result.rolled_back

    def test_a_cancellation_while_undoing_does_not_stop_it(self, undone):
        token = CancellationToken()

        def undo(ctx):
            token.cancel()
            undone(ctx)

        result = run(fails_at_the_end, [undoable("a"), undoable("b"), StepDef("last")], undo, cancel=token)
        assert undone.names == ["b", "a"]
        assert (result.state, result.error) == (WorkflowState.ROLLED_BACK, "step 'last' failed: ValueError: no")

    def test_the_failure_of_a_sub_flow_undoes_the_child_before_the_parent(self, undone):
        child = FlowDef("child", steps=[undoable("c1"), StepDef("last")], rollback_on_failure=True)
        steps = [undoable("p1"), StepDef("sub", step_type="sub_flow", config={"flow_name": "child"})]
        result = run(fails_at_the_end, steps, undone, storage=InMemoryStorage([child]))
        assert undone.names == ["c1", "p1"]
        assert result["sub"].error == "sub-flow 'child' rolled_back: step 'last' failed: ValueError: no"


class TestWhatIsRecorded:
    def test_the_states_pass_through_rolling_back(self, undone):
        store = ForeignStore()
        run(fails_at_the_end, [undoable("a"), StepDef("last")], undone, execution_store=store)
        assert [state for i, state in enumerate(store.states()) if state not in store.states()[:i]] == [
            "running",
            "rolling_back",
            "rolled_back",
        ]

    def test_rolling_back_is_recorded_before_anything_is_undone(self):
        store, seen = ForeignStore(), []
        run(
            fails_at_the_end,
            [undoable("a"), StepDef("last")],
            lambda ctx: seen.append(store.states()[-1]),
            execution_store=store,
        )
        assert seen == ["rolling_back"]

    def test_a_failed_rollback_ends_failed(self):
        def undo(ctx):
            raise ValueError("no")

        store = ForeignStore()
        result = run(fails_at_the_end, [undoable("a"), StepDef("last")], undo, execution_store=store)
        record = store.get(result.execution_id)
        assert record.state is WorkflowState.FAILED
        assert record.result == result
        assert "not rolled back: a" in record.error
        assert record.finished_at is not None

    def test_events_tell_of_each_undoing(self):
        events = []

        def undo(ctx):
            if ctx.step.name == "b":
                raise OSError("locked")

        run(fails_at_the_end, [undoable("a"), undoable("b"), StepDef("last")], undo, event_sink=events.append)
        told = [(event.step_name, event.error) for event in events if event.event_type == "step_rollback"]
        assert told == [("b", "OSError: locked"), ("a", None)]
        assert events[-1].event_type == "flow_failed"

    def test_events_end_with_flow_rolled_back(self, undone):
        events = []
        run(fails_at_the_end, [undoable("a"), StepDef("last")], undone, event_sink=events.append)
        assert [event.event_type for event in events][-2:] == ["step_rollback", "flow_rolled_back"]
