"""Time-outs are honest: the engine stops waiting, goes on, and lets nothing that comes too late count."""

import ctypes
import subprocess
import sys
import threading
import time

import pytest
from helper_engine import LONG, ForeignStore, bounded, errors, statuses, waited
from stores.samples import run_python

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    StepDef,
    StepTimeout,
    TriggerMode,
    WorkflowState,
)


class Hung:
    """A handler whose steps called "hung…" block until `release`."""

    def __init__(self):
        self.gate = threading.Event()
        self.contexts = []
        self.threads = []

    def __call__(self, ctx):
        if not ctx.step.name.startswith("hung"):
            return f"{ctx.step.name} done"
        self.contexts.append(ctx)
        self.threads.append(threading.current_thread())
        self.gate.wait(60)
        return "late"

    def release(self):
        """Let all of them end."""
        self.gate.set()


@pytest.fixture
def hung():
    handler = Hung()
    yield handler
    handler.release()


def run(handler, *steps, mode=FlowMode.SEQUENTIAL, flow_timeout=None, **config):
    with Engine(handler, EngineConfig(**config)) as engine:
        return bounded(engine.run, FlowDef("f", mode, steps=steps, timeout=flow_timeout))


class TestAStepsLimit:
    def test_fails_the_attempt_and_the_flow_goes_on(self, hung):
        result = run(hung, StepDef("hung", timeout=0.05), StepDef("other"), mode=FlowMode.PARALLEL)
        assert statuses(result) == {"hung": "failed", "other": "completed"}
        assert (result["hung"].error, result["hung"].error_type) == ("step timeout: hung after 50ms", "StepTimeout")
        assert isinstance(result["hung"].exception, StepTimeout)
        assert (result["hung"].attempts, result["hung"].output) == (1, None)
        assert (result.state, result.error) == (
            WorkflowState.FAILED,
            "step 'hung' failed: step timeout: hung after 50ms",
        )

    def test_does_not_wait_for_the_handler(self, hung):
        result = run(hung, StepDef("hung", timeout=0.05))
        assert not hung.gate.is_set()
        assert result["hung"].duration >= 0.05

    def test_lets_a_handler_that_is_in_time_pass(self):
        result = run(lambda ctx: ctx.remaining(), StepDef("quick", timeout=60))
        assert result.success
        assert 0 < result["quick"].output <= 60

    def test_of_nothing_is_passed_at_once(self, hung):
        result = run(hung, StepDef("hung", timeout=0), StepDef("after"))
        assert errors(result) == {"hung": "step timeout: hung after 0ms", "after": "prior step failed"}

    def test_counts_from_the_start_of_the_attempt_not_from_its_submission(self):
        first = threading.Event()

        def handler(ctx):
            if ctx.step.name == "first":
                first.wait(2.2)  # longer than the limit of what is queued behind it
                return None
            return ctx.remaining()

        result = run(
            handler,
            StepDef("first", timeout=60),
            *(StepDef(f"queued{i}", timeout=2) for i in range(3)),
            mode=FlowMode.PARALLEL,
            max_concurrency=1,
        )
        assert result.success
        assert all(0.2 < result[f"queued{i}"].output <= 2 for i in range(3))

    def test_bounds_each_attempt_by_itself(self):
        def handler(ctx):
            if ctx.attempt < 3:
                ctx.sleep(60)
            return ctx.attempt

        result = run(handler, StepDef("slow", timeout=1, max_retries=5, retry_delay=0))
        assert (result["slow"].output, result["slow"].attempts) == (3, 3)

    def test_gives_a_hung_attempt_up_and_tries_again(self, hung):
        def handler(ctx):
            return hung(ctx) if ctx.attempt == 1 else "second"

        result = run(handler, StepDef("hung", timeout=1, max_retries=1, retry_delay=0), max_concurrency=1)
        assert (result["hung"].output, result["hung"].attempts) == ("second", 2)

    def test_that_is_passed_each_time_exhausts_the_retries(self, hung):
        result = run(hung, StepDef("hung", timeout=0.5, max_retries=2, retry_delay=0), max_concurrency=1)
        assert result["hung"].error == "retry exhausted: hung after 3 attempts: step timeout: hung after 500ms"
        assert (result["hung"].attempts, result["hung"].error_type) == (3, "StepTimeout")
        assert len(hung.threads) == 3

    def test_is_not_retried_where_retry_on_does_not_name_it(self, hung):
        result = run(hung, StepDef("hung", timeout=0.05, max_retries=2, retry_delay=0, retry_on=ValueError))
        assert (result["hung"].error, result["hung"].attempts) == ("step timeout: hung after 50ms", 1)

    def test_that_the_handler_notices_itself_is_the_same_time_out(self):
        def handler(ctx):
            ctx.sleep(60)
            ctx.check()

        result = run(handler, StepDef("polite", timeout=0.05))
        assert errors(result) == {"polite": "step timeout: polite after 50ms"}

    def test_that_is_passed_while_the_handler_holds_the_interpreter_lock_is_a_time_out_all_the_same(self):
        usleep = ctypes.PyDLL(None).usleep  # does not let go of the lock

        def handler(ctx):
            usleep(400_000)
            return "much too late"

        result = run(handler, StepDef("greedy", timeout=0.1), StepDef("after"))
        assert errors(result) == {"greedy": "step timeout: greedy after 100ms", "after": "prior step failed"}
        assert result["greedy"].output is None

    def test_that_is_passed_hides_whatever_the_handler_raised_after_it(self):
        usleep = ctypes.PyDLL(None).usleep

        def handler(ctx):
            usleep(300_000)
            raise ValueError("late as well")

        assert errors(run(handler, StepDef("greedy", timeout=0.1))) == {"greedy": "step timeout: greedy after 100ms"}

    def test_emits_step_timeout_then_step_failed(self, hung):
        events = []
        run(hung, StepDef("hung", timeout=0.05), event_sink=events.append)
        told = [event.event_type for event in events if event.step_name == "hung"]
        assert told == ["step_started", "step_timeout", "step_failed"]


class TestAHandlerThatPromisesToEnd:
    """Within a block of `ctx.ends_within`: what runs on until then, a process say, is not left behind."""

    def test_is_waited_for_before_another_attempt(self):
        told = []

        def handler(ctx):
            with ctx.ends_within(10):
                told.append(f"{ctx.attempt} begins")
                ctx.sleep(60)
                time.sleep(0.1)  # what it cleans up takes its time
                told.append(f"{ctx.attempt} has ended")

        result = run(handler, StepDef("polite", timeout=0.05, max_retries=1, retry_delay=0))
        assert result["polite"].error == "retry exhausted: polite after 2 attempts: step timeout: polite after 50ms"
        assert told == ["1 begins", "1 has ended", "2 begins", "2 has ended"]

    def test_is_left_behind_when_it_breaks_its_promise(self, hung):
        def handler(ctx):
            with ctx.ends_within(0.1):
                hung(ctx)

        with Engine(handler) as engine:
            result = bounded(engine.run, FlowDef("demo", steps=[StepDef("hung liar", timeout=0.05)]))
            assert engine.abandoned == 1
        assert errors(result) == {"hung liar": "step timeout: hung liar after 50ms"}

    def test_is_left_behind_at_once_where_the_promise_was_for_something_before(self, hung):
        def handler(ctx):
            with ctx.ends_within(60):
                pass
            hung(ctx)

        assert errors(run(handler, StepDef("hung", timeout=0.05))) == {"hung": "step timeout: hung after 50ms"}

    def test_keeps_the_longest_of_its_promises(self):
        ended = []

        def handler(ctx):
            with ctx.ends_within(10), ctx.ends_within(0.01):
                ctx.sleep(60)
                time.sleep(0.1)
                ended.append(True)

        run(handler, StepDef("polite", timeout=0.05))
        assert ended

    def test_begins_nothing_where_its_time_is_up(self):
        def handler(ctx):
            ctx.sleep(60)
            with ctx.ends_within(10):
                begun.append(True)

        begun = []
        assert errors(run(handler, StepDef("late", timeout=0.05))) == {"late": "step timeout: late after 50ms"}
        assert not begun

    def test_is_told_when_a_person_does_not_want_to_wait_for_that(self):
        def handler(ctx):
            with ctx.ends_within(60):
                entered.set()
                while not ctx.is_hurried:
                    time.sleep(0.01)
                hurried.append(ctx.cancelled)

        entered, hurried, token = threading.Event(), [], CancellationToken()
        with Engine(handler, EngineConfig(cancel_grace=0)) as engine:
            execution = engine.start(FlowDef("demo", steps=[StepDef("polite")]), cancel=token)
            waited(entered)
            token.cancel()
            assert not execution.wait(0.1)
            engine.end_grace()
            assert execution.result(timeout=20).state is WorkflowState.CANCELLED
            assert engine.abandoned == 0
        assert hurried == [True]


class TestAnAbandonedHandler:
    def test_sees_that_it_is_cancelled(self, hung):
        run(hung, StepDef("hung", timeout=0.05), StepDef("other"), mode=FlowMode.PARALLEL)
        (context,) = hung.contexts
        assert context.cancelled
        assert context.remaining() == 0.0
        with pytest.raises(StepTimeout, match="step timeout: hung after 50ms"):
            context.check()

    def test_wakes_where_it_sleeps(self):
        woken = threading.Event()

        def handler(ctx):
            entered.set()
            if not ctx.sleep(60):
                woken.set()

        entered = threading.Event()
        run(handler, StepDef("sleepy", timeout=0.1))
        waited(entered)
        waited(woken)

    def test_is_counted_and_logged_with_its_steps_name(self, hung, caplog):
        flow = FlowDef("the flow", FlowMode.PARALLEL, steps=[StepDef(f"hung {i}", timeout=0.05) for i in range(3)])
        with Engine(hung) as engine:
            assert engine.abandoned == 0
            result = bounded(engine.run, flow)
            assert engine.abandoned == 3
        messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        for i in range(3):
            (message,) = [message for message in messages if f"hung {i}" in message]
            assert "the flow" in message
            assert result.execution_id in message

    def test_that_ended_in_time_is_not_counted(self):
        with Engine(lambda ctx: None) as engine:
            bounded(engine.run, FlowDef("f", steps=[StepDef("quick", timeout=60)]))
            assert engine.abandoned == 0

    def test_cannot_change_the_result_any_more(self, hung):
        store = ForeignStore()
        config = EngineConfig(execution_store=store, max_concurrency=1)
        with Engine(hung, config) as engine:
            result = bounded(engine.run, FlowDef("f", steps=[StepDef("hung", timeout=0.05)]))
            before = len(store.saves)
            hung.release()
            again = bounded(engine.run, FlowDef("g", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")]))
        for thread in hung.threads:
            thread.join(LONG)  # they end, as the engine is closed
            assert not thread.is_alive()
        assert again.success
        assert len([record for record in store.saves if record.flow_name == "f"]) == before
        for kept in (result, store.get(result.execution_id).result):
            assert (statuses(kept), kept["hung"].output) == ({"hung": "failed"}, None)

    def test_that_ends_while_its_run_goes_on_is_not_heard(self, hung):
        timed_out = threading.Event()

        def handler(ctx):
            if ctx.step.name == "watcher":
                waited(timed_out)
                hung.release()
                hung.threads[0].join(0.3)
                return "watched"
            return hung(ctx)

        def sink(event):
            if event.event_type == "step_failed":
                timed_out.set()

        result = run(
            handler, StepDef("hung", timeout=0.05), StepDef("watcher"), mode=FlowMode.PARALLEL, event_sink=sink
        )
        assert errors(result) == {"hung": "step timeout: hung after 50ms"}
        assert result["watcher"].output == "watched"

    def test_does_not_count_against_max_concurrency(self, hung):
        steps = [StepDef(f"hung{i}", timeout=0.1) for i in range(16)]
        result = run(hung, *steps, StepDef("seventeenth"), StepDef("eighteenth", timeout=60), mode=FlowMode.PARALLEL)
        assert statuses(result) == {
            **{f"hung{i}": "failed" for i in range(16)},
            "seventeenth": "completed",
            "eighteenth": "completed",
        }

    def test_gives_its_place_to_the_next_however_many_there_are(self, hung):
        steps = [StepDef(f"hung{i}", timeout=0.02) for i in range(10)]
        last = StepDef("last", timeout=60)
        result = run(hung, *steps, last, mode=FlowMode.PARALLEL, max_concurrency=1)
        assert result["last"].output == "last done"
        assert result.failed_count == 10

    def test_of_one_run_does_not_disturb_another_run(self, hung):
        with Engine(hung, EngineConfig(max_concurrency=1)) as engine:
            bounded(engine.run, FlowDef("f", steps=[StepDef("hung", timeout=0.05)]))
            flow = FlowDef("g", FlowMode.PARALLEL, steps=[StepDef("a", timeout=60), StepDef("b")])
            assert bounded(engine.run, flow).success


class TestTheFlowsLimit:
    def test_fails_what_runs_and_skips_the_rest(self, hung):
        quick = StepDef("quick")
        result = run(
            hung,
            quick,
            StepDef("hung 1", depends_on=quick),
            StepDef("hung 2", depends_on=quick),
            waiting := StepDef("waiting", depends_on=quick, condition="false"),
            after := StepDef("after", depends_on=[waiting, quick]),
            StepDef("never", depends_on=[after], condition="true"),
            mode=FlowMode.DAG,
            flow_timeout=1,
        )
        assert statuses(result) == {
            "quick": "completed",
            "hung 1": "failed",
            "hung 2": "failed",
            "waiting": "skipped",
            "after": "completed",
            "never": "completed",
        }
        assert (result.state, result.success, result.error) == (WorkflowState.FAILED, False, "flow timeout exceeded")
        assert {result[f"hung {i}"].error_type for i in (1, 2)} == {"StepTimeout"}
        assert result["hung 1"].error.startswith("step timeout: hung 1 after ")

    def test_skips_what_has_not_begun(self, hung):
        result = run(hung, StepDef("hung"), StepDef("next"), StepDef("last"), flow_timeout=1)
        assert statuses(result) == {"hung": "failed", "next": "skipped", "last": "skipped"}
        assert {errors(result)[name] for name in ("next", "last")} == {"flow timeout exceeded"}

    def test_skips_what_is_queued_for_a_worker(self, hung):
        result = run(
            hung,
            StepDef("hung"),
            StepDef("a"),
            StepDef("b"),
            mode=FlowMode.PARALLEL,
            flow_timeout=1,
            max_concurrency=1,
        )
        assert statuses(result) == {"hung": "failed", "a": "skipped", "b": "skipped"}
        assert {errors(result)[name] for name in ("a", "b")} == {"flow timeout exceeded"}

    def test_starts_nothing_in_the_place_of_what_it_leaves_behind(self, hung):
        begun = threading.Event()

        def handler(ctx):
            if ctx.step.name == "queued":
                begun.set()
            return hung(ctx)

        def sink(event):
            if event.event_type == "step_timeout":
                begun.wait(0.3)  # time enough for a worker to take what is queued

        steps = [StepDef("hung"), StepDef("queued")]
        result = run(handler, *steps, mode=FlowMode.PARALLEL, flow_timeout=1, max_concurrency=1, event_sink=sink)
        assert errors(result)["queued"] == "flow timeout exceeded"
        assert not begun.is_set()

    def test_bounds_a_chain_of_handlers_that_never_look(self, hung):
        result = run(hung, StepDef("a"), StepDef("hung"), flow_timeout=1)
        assert statuses(result) == {"a": "completed", "hung": "failed"}

    def test_comes_before_a_longer_limit_of_the_step(self, hung):
        result = run(hung, StepDef("hung", timeout=1000), flow_timeout=1)
        assert result["hung"].error_type == "StepTimeout"
        assert "1000000ms" not in result["hung"].error
        assert result.error == "flow timeout exceeded"

    def test_of_the_last_running_step_is_the_flows_however_quickly_it_ends(self):
        for _ in range(3):
            result = run(lambda ctx: ctx.sleep(60), StepDef("polite"), flow_timeout=1)
            assert result["polite"].error_type == "StepTimeout"
            assert result.error == "flow timeout exceeded"

    def test_comes_after_a_shorter_limit_of_a_step(self, hung):
        result = run(hung, StepDef("hung", timeout=0.05), StepDef("a"), mode=FlowMode.PARALLEL, flow_timeout=60)
        assert errors(result) == {"hung": "step timeout: hung after 50ms"}
        assert result.error == "step 'hung' failed: step timeout: hung after 50ms"

    def test_is_not_retried(self):
        calls = []

        def handler(ctx):
            calls.append(ctx.attempt)
            ctx.sleep(60)

        result = run(handler, StepDef("slow", max_retries=5, retry_delay=0), StepDef("next"), flow_timeout=1)
        assert calls == [1]
        assert (result["slow"].attempts, result["slow"].error_type) == (1, "StepTimeout")

    def test_makes_every_running_handler_see_it(self, hung):
        run(hung, StepDef("hung 1"), StepDef("hung 2"), mode=FlowMode.PARALLEL, flow_timeout=1)
        assert [context.cancelled for context in hung.contexts] == [True, True]

    def test_that_is_not_reached_changes_nothing(self):
        result = run(lambda ctx: ctx.remaining(), StepDef("a"), StepDef("b", timeout=5), flow_timeout=60)
        assert result.success
        assert 5 < result["a"].output <= 60
        assert result["b"].output <= 5

    def test_of_the_engine_takes_its_place(self, hung):
        assert run(hung, StepDef("hung"), flow_timeout=1000, timeout=0.1).error == "flow timeout exceeded"
        gate = threading.Event()
        threading.Timer(0.3, gate.set).start()
        assert run(lambda ctx: waited(gate), StepDef("slow"), flow_timeout=0.1, timeout=1000).success

    def test_runs_cleanup_steps_no_more(self, hung):
        slow = StepDef("hung")
        cleanup = StepDef("cleanup", depends_on=slow, trigger_mode=TriggerMode.ALL_DONE)
        result = run(hung, slow, cleanup, mode=FlowMode.DAG, flow_timeout=1)
        assert errors(result)["cleanup"] == "flow timeout exceeded"

    def test_at_the_moment_a_step_begins_leaves_each_step_one_result_and_its_events_in_order(self):
        """A slow sink lets the flow's limit come due together with that of a step whose place goes to the next."""
        begun, release, events = threading.Event(), threading.Event(), []

        def handler(ctx):
            if ctx.step.name == "b":
                begun.set()
            release.wait(LONG)

        def sink(event):
            events.append((event.step_name, event.event_type))
            if events[-1] == ("a", "step_started"):
                time.sleep(0.3)  # past both limits
            elif events[-1] == ("a", "step_timeout"):
                begun.wait(1)

        try:
            result = run(
                handler,
                StepDef("a", timeout=0.1),
                StepDef("b"),
                mode=FlowMode.PARALLEL,
                flow_timeout=0.2,
                max_concurrency=1,
                event_sink=sink,
            )
        finally:
            release.set()
        assert [step.step_name for step in result.steps] == ["a", "b"]
        told = [kind for name, kind in events if name == "b"]
        assert told in (["step_skipped"], ["step_started", "step_timeout", "step_failed"])

    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
    def test_of_nothing_is_exceeded_at_once(self, mode):
        result = run(lambda ctx: ctx.sleep(60), StepDef("a"), StepDef("b"), mode=mode, flow_timeout=0)
        assert (result.state, result.error) == (WorkflowState.FAILED, "flow timeout exceeded")

    def test_is_recorded(self, hung):
        store = ForeignStore()
        result = run(hung, StepDef("hung"), StepDef("next"), flow_timeout=1, execution_store=store)
        record = store.get(result.execution_id)
        assert (record.state, record.error, record.result) == (WorkflowState.FAILED, "flow timeout exceeded", result)


def test_sixteen_handlers_that_hang_for_ever_stop_neither_the_flow_nor_the_exit_of_the_process():
    try:
        done = run_python(
            """
            import threading
            from szal import Engine, FlowDef, FlowMode, StepDef

            def handler(ctx):
                if ctx.step.name.startswith("hung"):
                    threading.Event().wait()

            steps = [StepDef(f"hung{i}", timeout=0.1) for i in range(16)] + [StepDef(f"fine{i}") for i in range(16)]
            with Engine(handler) as engine:
                result = engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps))
            print(result.completed_count, result.failed_count, engine.abandoned)
            """,
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        pytest.fail("the process does not end")
    assert (done.returncode, done.stdout.split()) == (0, ["16", "16", "16"]), done.stderr


@pytest.mark.parametrize("limits", ["step", "flow"])
def test_a_limit_that_passes_while_attempts_are_just_beginning_is_harmless(limits):
    """The claim to begin and the note of when are two operations of the worker: a limit may pass between them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Engine(lambda ctx: None, EngineConfig(max_concurrency=4)) as engine:
            for i in range(60):
                limit = 0.0005 + i * 0.0001
                steps = [StepDef(f"s{n}", timeout=limit if limits == "step" else None) for n in range(12)]
                flow = FlowDef("f", FlowMode.PARALLEL, steps=steps, timeout=limit if limits == "flow" else None)
                result = bounded(engine.run, flow)
                assert len(result.steps) == 12
                assert all(step.error is None or "timeout" in step.error for step in result.steps)
    finally:
        sys.setswitchinterval(interval)
