"""Cancelling runs: by a token, by Ctrl-C, before, during and after; what is told, waited for and recorded."""

import signal
import threading

import pytest
from helper_engine import LONG, ForeignStore, bounded, errors, statuses, waited
from stores.samples import run_python

from szal import (
    CancellationToken,
    Cancelled,
    Engine,
    EngineConfig,
    FlowDef,
    FlowFailed,
    FlowMode,
    InMemoryStorage,
    StepDef,
    TriggerMode,
    WorkflowState,
)


@pytest.fixture
def token():
    return CancellationToken()


def run(handler, *steps, mode=FlowMode.SEQUENTIAL, cancel=None, rollback=False, **config):
    with Engine(handler, EngineConfig(**{"cancel_grace": 1e6, **config})) as engine:  # so it shows if it is waited for
        return bounded(engine.run, FlowDef("f", mode, steps=steps, rollback_on_failure=rollback), cancel=cancel)


class TestWhatTheHandlerSees:
    @pytest.mark.parametrize("inline", [None, "always"])
    def test_what_it_returns_for_that_is_no_success(self, token, inline):
        """Also where the run hears of it only later: callbacks come one after the other, and one may take its time."""
        begun, has_ended = threading.Event(), threading.Event()
        token.subscribe(lambda: has_ended.wait(LONG))

        def handler(ctx):
            begun.set()
            assert token.wait(LONG)
            assert ctx.cancelled
            return "half of it"

        canceller = threading.Thread(target=lambda: (begun.wait(LONG), token.cancel()))
        canceller.start()
        try:
            result = run(handler, StepDef("a", inline=inline), cancel=token)
        finally:
            has_ended.set()
            canceller.join(LONG)
        assert (result.state, result["a"].output) == (WorkflowState.CANCELLED, "half of it")


class TestBeforeTheStart:
    def test_nothing_runs(self, token):
        ran, store, events = [], ForeignStore(), []
        token.cancel()
        result = run(
            lambda ctx: ran.append(1),
            StepDef("a"),
            StepDef("b"),
            cancel=token,
            execution_store=store,
            event_sink=events.append,
        )
        assert ran == []
        assert errors(result) == {"a": "cancelled", "b": "cancelled"}
        assert (result.state, result.success, result.rolled_back) == (WorkflowState.CANCELLED, False, False)
        assert store.get(result.execution_id).state is WorkflowState.CANCELLED
        assert [event.event_type for event in events] == [
            "flow_started",
            "step_skipped",
            "step_skipped",
            "flow_cancelled",
        ]

    @pytest.mark.parametrize("mode", [FlowMode.PARALLEL, FlowMode.DAG, FlowMode.HIERARCHICAL])
    def test_in_every_mode(self, token, mode):
        token.cancel()
        assert errors(run(lambda ctx: None, StepDef("a"), StepDef("b"), mode=mode, cancel=token)) == {
            "a": "cancelled",
            "b": "cancelled",
        }

    def test_an_empty_flow_has_completed_before_anybody_could_cancel_it(self, token):
        token.cancel()
        assert run(lambda ctx: None, cancel=token).state in (WorkflowState.COMPLETED, WorkflowState.CANCELLED)


class TestDuring:
    def test_nothing_new_starts_and_what_runs_is_heard_out(self, token):
        ran = []

        def handler(ctx):
            ran.append(ctx.step.name)
            if ctx.step.name == "b":
                token.cancel()
            return ctx.step.name

        result = run(handler, StepDef("a"), StepDef("b"), StepDef("c"), cancel=token)
        assert ran == ["a", "b"]
        assert statuses(result) == {"a": "completed", "b": "completed", "c": "skipped"}
        assert errors(result) == {"c": "cancelled"}
        assert (result.state, result.error) == (WorkflowState.CANCELLED, "cancelled")
        assert result.outputs == {"a": "a", "b": "b"}

    def test_after_the_last_step_has_begun_it_is_cancelled_all_the_same(self, token):
        result = run(lambda ctx: token.cancel(), StepDef("only"), cancel=token)
        assert (statuses(result), result.state, result.success) == (
            {"only": "completed"},
            WorkflowState.CANCELLED,
            False,
        )
        with pytest.raises(FlowFailed, match="cancelled"):
            result.raise_for_failure()

    def test_from_another_thread_wakes_what_sleeps(self, token):
        asleep = threading.Barrier(3)
        woken = []

        def handler(ctx):
            asleep.wait(LONG)
            woken.append(ctx.sleep(600))
            ctx.check()

        def cancel():
            asleep.wait(LONG)
            token.cancel()

        threading.Thread(target=cancel).start()
        result = run(handler, StepDef("a"), StepDef("b"), mode=FlowMode.PARALLEL, cancel=token)
        assert woken == [False, False]
        assert result.state is WorkflowState.CANCELLED
        assert errors(result) == {
            "a": "Cancelled: cancelled",
            "b": "Cancelled: cancelled",
        }

    def test_handlers_see_it(self, token):
        seen = []

        def handler(ctx):
            seen.append(ctx.cancelled)
            ctx.check()
            token.cancel()
            seen.append(ctx.cancelled)
            seen.append(ctx.sleep(600))
            with pytest.raises(Cancelled):
                ctx.check()

        result = run(handler, StepDef("a"), cancel=token)
        assert seen == [False, True, False]
        assert statuses(result) == {"a": "completed"}

    def test_a_failure_is_not_retried_any_more(self, token):
        calls = []

        def handler(ctx):
            calls.append(ctx.attempt)
            token.cancel()
            ctx.sleep(600)  # until the engine knows
            raise ValueError("no")

        result = run(handler, StepDef("a", max_retries=5, retry_delay=0), cancel=token)
        assert calls == [1]
        assert errors(result) == {"a": "ValueError: no"}

    def test_clean_up_steps_are_skipped_too(self, token):
        work = StepDef("work")
        result = run(
            lambda ctx: token.cancel(),
            work,
            StepDef("cleanup", depends_on=work, trigger_mode=TriggerMode.ALL_DONE),
            mode=FlowMode.DAG,
            cancel=token,
        )
        assert errors(result) == {"cleanup": "cancelled"}

    def test_what_is_queued_for_a_worker_never_begins(self, token):
        ran = []

        def handler(ctx):
            ran.append(ctx.step.name)
            token.cancel()
            ctx.sleep(600)

        steps = [StepDef(f"s{i}") for i in range(10)]
        result = run(handler, *steps, mode=FlowMode.PARALLEL, cancel=token, max_concurrency=1)
        assert ran == ["s0"]
        assert errors(result) == {f"s{i}": "cancelled" for i in range(1, 10)}

    def test_after_the_end_changes_nothing(self, token):
        result = run(lambda ctx: None, StepDef("a"), cancel=token)
        token.cancel()
        assert (result.state, result.success) == (WorkflowState.COMPLETED, True)

    def test_leaves_nothing_behind_in_the_token(self, token):
        for _ in range(5):
            run(lambda ctx: None, StepDef("a"), cancel=token)
        assert not token._callbacks

    def test_of_one_run_leaves_others_alone(self, token):
        started, release = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.inputs.get("slow"):
                started.set()
                waited(release)
                return ctx.cancelled
            return None

        with Engine(handler) as engine:
            other = engine.start(FlowDef("other", steps=[StepDef("a")]), {"slow": True})
            waited(started)
            token.cancel()
            assert (
                bounded(engine.run, FlowDef("f", steps=[StepDef("a")]), cancel=token).state is WorkflowState.CANCELLED
            )
            release.set()
            result = other.result(LONG)
        assert (result.success, result.outputs) == (True, {"a": False})


class TestChildTokens:
    def test_a_run_is_cancelled_through_the_tokens_parent(self, token):
        child = token.child()

        def handler(ctx):
            token.cancel()
            return ctx.cancelled

        result = run(handler, StepDef("a"), StepDef("b"), cancel=child)
        assert (result["a"].output, result.state) == (True, WorkflowState.CANCELLED)

    def test_cancelling_one_run_does_not_reach_its_siblings(self, token):
        one, two = token.child(), token.child()
        one.cancel()
        assert run(lambda ctx: None, StepDef("a"), cancel=one).state is WorkflowState.CANCELLED
        assert run(lambda ctx: None, StepDef("a"), cancel=two).success
        assert not token.cancelled


class TestGrace:
    def test_a_handler_that_does_not_end_is_left_behind(self, token, caplog):
        release = threading.Event()

        def handler(ctx):
            token.cancel()
            contexts.append(ctx)
            release.wait(60)
            return "late"

        contexts, store = [], ForeignStore()
        config = EngineConfig(cancel_grace=0.1, execution_store=store)
        try:
            with Engine(handler, config) as engine:
                result = bounded(engine.run, FlowDef("f", steps=[StepDef("deaf"), StepDef("next")]), cancel=token)
                assert engine.abandoned == 1
        finally:
            release.set()
        assert errors(result) == {"deaf": "Cancelled: still running 0.1s after the cancellation", "next": "cancelled"}
        assert (statuses(result)["deaf"], result.state) == ("failed", WorkflowState.CANCELLED)
        assert any("deaf" in record.getMessage() for record in caplog.records)
        assert contexts[0].cancelled
        assert store.get(result.execution_id).result["deaf"].output is None

    def test_is_given_to_a_handler_that_needs_a_moment(self, token):
        skipped = threading.Event()

        def sink(event):
            if event.event_type == "step_skipped":
                skipped.set()

        def handler(ctx):
            token.cancel()
            waited(skipped)  # the cancellation has been dealt with
            return "tidied up"

        result = run(handler, StepDef("a"), StepDef("b"), cancel=token, event_sink=sink, cancel_grace=60)
        assert result["a"].output == "tidied up"

    def test_of_nothing_waits_for_nobody(self, token):
        release = threading.Event()

        def handler(ctx):
            token.cancel()
            release.wait(60)

        try:
            result = run(handler, StepDef("deaf"), cancel=token, cancel_grace=0)
        finally:
            release.set()
        assert "Cancelled" in result["deaf"].error

    def test_does_not_outlast_the_limit_of_a_step(self, token):
        release = threading.Event()

        def handler(ctx):
            token.cancel()
            release.wait(60)

        try:
            result = run(handler, StepDef("deaf", timeout=0.1), cancel=token, cancel_grace=1000)
        finally:
            release.set()
        assert (errors(result), result.state) == ({"deaf": "step timeout: deaf after 100ms"}, WorkflowState.CANCELLED)

    def test_is_over_as_soon_as_everything_has_ended(self, token):
        def handler(ctx):
            token.cancel()
            ctx.sleep(600)

        result = run(handler, StepDef("a"), StepDef("b"), mode=FlowMode.PARALLEL, cancel=token, cancel_grace=1e6)
        assert result.total_duration < LONG


class TestABaseExceptionOfAHandler:
    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
    @pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseException("odd")])
    def test_is_that_steps_failure(self, mode, error):
        def handler(ctx):
            if ctx.step.name == "a":
                raise error

        result = run(handler, StepDef("a"), StepDef("b"), mode=mode)
        assert statuses(result)["a"] == "failed"
        assert result["a"].error_type == type(error).__name__
        assert result.state is WorkflowState.FAILED

    def test_keyboard_interrupt_on_a_worker_is_nobodys_ctrl_c(self):
        def handler(ctx):
            if ctx.step.name == "a":
                raise KeyboardInterrupt

        result = run(handler, StepDef("a"), StepDef("b"), mode=FlowMode.PARALLEL)
        assert statuses(result) == {"a": "failed", "b": "completed"}
        assert (result["a"].error, result.state) == ("KeyboardInterrupt", WorkflowState.FAILED)

    def test_keyboard_interrupt_in_a_run_of_its_own_thread_cancels_that(self):
        def handler(ctx):
            raise KeyboardInterrupt

        with Engine(handler) as engine:
            result = engine.start(FlowDef("f", steps=[StepDef("a"), StepDef("b")])).result(LONG)
        assert str(result.state) in ("cancelled", "failed")


class TestKeyboardInterrupt:
    def test_in_an_inline_handler_cancels_is_recorded_and_propagates(self):
        def handler(ctx):
            if ctx.step.name == "b":
                signal.raise_signal(signal.SIGINT)

        store, events = ForeignStore(), []
        config = EngineConfig(execution_store=store, event_sink=events.append)
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b", max_retries=3, retry_delay=0), StepDef("c")])
        with Engine(handler, config) as engine, pytest.raises(KeyboardInterrupt):
            engine.run(flow)
        record = store.get(flow.id)
        assert (record.state, record.error) == (WorkflowState.CANCELLED, "cancelled")
        assert statuses(record.result) == {"a": "completed", "b": "failed", "c": "skipped"}
        assert errors(record.result) == {"b": "KeyboardInterrupt", "c": "cancelled"}
        assert record.finished_at is not None
        assert events[-1].event_type == "flow_cancelled"

    def test_rolls_back_where_the_flow_does(self):
        undone, store = [], ForeignStore()

        def handler(ctx):
            if ctx.step.name == "b":
                raise KeyboardInterrupt

        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
        config = EngineConfig(execution_store=store, rollback_handler=lambda ctx: undone.append(ctx.step.name))
        with Engine(handler, config) as engine, pytest.raises(KeyboardInterrupt):
            engine.run(flow)
        assert undone == ["a"]
        assert store.get(flow.id).state is WorkflowState.ROLLED_BACK

    def test_while_undoing_fails_that_undo_and_not_the_rest(self):
        undone, store = [], ForeignStore()

        def handler(ctx):
            if ctx.step.name == "last":
                raise ValueError

        def undo(ctx):
            undone.append(ctx.step.name)
            if ctx.step.name == "b":
                raise KeyboardInterrupt

        steps = [StepDef("a", rollbackable=True), StepDef("b", rollbackable=True), StepDef("last")]
        flow = FlowDef("f", steps=steps, rollback_on_failure=True)
        config = EngineConfig(execution_store=store, rollback_handler=undo)
        with Engine(handler, config) as engine, pytest.raises(KeyboardInterrupt):
            engine.run(flow)
        assert undone == ["b", "a"]
        record = store.get(flow.id)
        assert (record.state, statuses(record.result)["a"]) == (WorkflowState.FAILED, "rolled_back")
        assert "not rolled back: b" in record.error

    def test_the_engine_serves_on(self):
        def handler(ctx):
            if ctx.inputs.get("stop"):
                raise KeyboardInterrupt

        flow = FlowDef("f", steps=[StepDef("a")])
        with Engine(handler) as engine:
            with pytest.raises(KeyboardInterrupt):
                engine.run(flow, {"stop": True})
            assert engine.run(flow).execution_id == flow.id  # the id is free again


class Interrupting:
    """Presses Ctrl-C, once, at each of the *moments*. For the main thread, where signals are handled."""

    def __init__(self, *moments):
        self.moments = list(moments)

    def __call__(self, moment):
        if moment in self.moments:
            self.moments.remove(moment)
            signal.raise_signal(signal.SIGINT)


def interrupted_run(flow, store, sink=None):
    def handler(ctx):
        if ctx.step.name == "fails":
            raise ValueError("no")
        if ctx.step.name == "flaky" and ctx.attempt == 1:
            raise ValueError("again")
        if ctx.step.name == "interrupts":
            raise KeyboardInterrupt

    child = FlowDef("child", steps=[StepDef("in child")])
    undone = []
    config = EngineConfig(
        execution_store=store,
        event_sink=sink,
        storage=InMemoryStorage([child]),
        rollback_handler=lambda ctx: undone.append(ctx.step.name),
    )
    with Engine(handler, config) as engine, pytest.raises(KeyboardInterrupt):
        engine.run(flow)
    return undone


class TestCtrlCWhileTheEngineWorks:
    """Ctrl-C strikes the calling thread wherever it is: in a sink, in the store, between two steps."""

    @pytest.mark.parametrize(
        "moment",
        [
            ("flow_started", None),
            ("step_started", "a"),
            ("step_completed", "a"),
            ("step_retry", "flaky"),
            ("step_skipped", "skipped"),
            ("step_started", "sub"),
            ("flow_started", "child"),
            ("step_completed", "in child"),
            ("flow_completed", "child"),
            ("step_completed", "sub"),
            ("step_failed", "fails"),
            ("step_rollback", "a"),
            ("flow_rolled_back", None),
        ],
        ids=lambda moment: " ".join(filter(None, moment)),
    )
    def test_in_a_sink_ends_the_run_recorded_and_rolled_back(self, moment):
        interrupt, store = Interrupting(moment), ForeignStore()

        def sink(event):
            interrupt((event.event_type, event.step_name or ("child" if event.flow_name == "child" else None)))

        steps = [
            StepDef("a", rollbackable=True),
            StepDef("flaky", max_retries=1, retry_delay=0),
            StepDef("skipped", condition="false"),
            StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
            StepDef("fails"),
        ]
        flow = FlowDef("f", steps=steps, rollback_on_failure=True)
        undone = interrupted_run(flow, store, sink)
        assert interrupt.moments == []
        record = store.get(flow.id)
        assert record.state is WorkflowState.ROLLED_BACK
        assert len(record.result.steps) == len(steps)
        assert undone == (["a"] if statuses(record.result)["a"] == "rolled_back" else [])

    @pytest.mark.parametrize("moment", ["save 2", "save 3", "flush 1", "flush 2"])
    def test_in_the_store_ends_the_run_recorded_and_rolled_back(self, moment):
        interrupt = Interrupting(moment)

        class Slow(ForeignStore):
            flushed = 0

            def save(self, record):
                interrupt(f"save {len(self.saves) + 1}")
                super().save(record)

            def flush(self):
                self.flushed += 1
                interrupt(f"flush {self.flushed}")

        store = Slow()
        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("fails")], rollback_on_failure=True)
        undone = interrupted_run(flow, store)
        assert interrupt.moments == []
        assert undone == ["a"]
        assert store.get(flow.id).state is WorkflowState.ROLLED_BACK

    def test_pressed_again_while_the_first_is_being_dealt_with(self):
        interrupt, store = Interrupting(("step_skipped", "c")), ForeignStore()
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("interrupts"), StepDef("b"), StepDef("c"), StepDef("d")])
        interrupted_run(flow, store, lambda event: interrupt((event.event_type, event.step_name)))
        assert interrupt.moments == []
        record = store.get(flow.id)
        assert record.state is WorkflowState.CANCELLED
        assert statuses(record.result) == {
            "a": "completed",
            "interrupts": "failed",
            "b": "skipped",
            "c": "skipped",
            "d": "skipped",
        }


SCRIPT = """
import os, signal, threading, time
from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef

class Store(dict):
    def save(self, record): self[record.execution_id] = record
    def list(self, flow_name=None): return [*self]
    def remove(self, key): return self.pop(key, None)

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_real_ctrl_c_cancels_a_parallel_stage_and_propagates_once_it_is_recorded():
    done = run_python(
        SCRIPT
        + """
together = threading.Barrier(2)
def handler(ctx):
    together.wait(30)
    if ctx.step.name == "a":
        time.sleep(0.3)  # a signal does not wake a main thread that is just about to wait: let it wait
        ctrl_c()
    return ctx.sleep(60)

store = Store()
flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")], rollback_on_failure=False)
engine = Engine(handler, EngineConfig(execution_store=store, max_concurrency=2))
try:
    engine.run(flow)
except KeyboardInterrupt:
    record = store[flow.id]
    print(record.state, [(str(step.status), step.output) for step in record.result.steps])
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "cancelled [('completed', False), ('completed', False)]"


def test_a_second_ctrl_c_ends_the_grace():
    done = run_python(
        SCRIPT
        + """
heard, release = threading.Event(), threading.Event()
def handler(ctx):
    ctrl_c()
    heard.wait(20)  # the first one has been dealt with
    ctrl_c()
    release.wait(60)

def sink(event):
    if event.event_type == "step_skipped":
        heard.set()

store = Store()
flow = FlowDef("f", FlowMode.DAG, steps=[a := StepDef("deaf", timeout=1000), StepDef("b", depends_on=a)])
engine = Engine(handler, EngineConfig(execution_store=store, event_sink=sink, cancel_grace=1000))
try:
    engine.run(flow)
except KeyboardInterrupt:
    record = store[flow.id]
    print(record.state, [(str(step.status), step.error) for step in record.result.steps], engine.abandoned)
    release.set()
""",
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cancelled [('failed', 'Cancelled: still running")
    assert done.stdout.strip().endswith("('skipped', 'cancelled')] 1")
