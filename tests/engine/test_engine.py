"""The engine as a program meets it: run, start, close, who runs what, and what a call can raise."""

import contextvars
import logging
import math
import os
import threading
from decimal import Decimal

import pytest
from helper_engine import LONG, ForeignStore, bounded, statuses, waited
from stores.samples import run_python

import szal
from szal import (
    CancellationToken,
    EncodeError,
    Engine,
    EngineConfig,
    ExecutionNotFound,
    ExecutionOwned,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    HandlerNotFound,
    Handlers,
    InvalidFlow,
    StepDef,
    StepTimeout,
    SzalError,
    WorkflowState,
)
from szal.stores import open_store

NUMBERS = [
    "max_concurrency",
    "timeout",
    "cancel_grace",
    "commit_timeout",
    "lease_ttl",
    "max_recoveries",
    "max_recovering",
    "idle_timeout",
    "max_depth",
    "max_sub_flows",
]

variable = contextvars.ContextVar("variable", default="unset")


def echo(ctx):
    return ctx.step.name


def steps(*names, **fields):
    return [StepDef(name, **fields) for name in names]


def alive(prefix):
    return {thread for thread in threading.enumerate() if thread.name.startswith(prefix)}


class TestRun:
    @pytest.mark.parametrize("mode", FlowMode)
    def test_returns_a_result_for_every_step_in_the_flows_order(self, mode):
        with Engine(echo) as engine:
            result = bounded(engine.run, FlowDef("f", mode, steps=steps("c", "a", "b")))
        assert [(step.step_name, step.output, step.attempts) for step in result.steps] == [
            ("c", "c", 1),
            ("a", "a", 1),
            ("b", "b", 1),
        ]
        assert (result.state, result.success, result.error) == (WorkflowState.COMPLETED, True, None)
        assert result.total_duration >= 0
        assert all(step.started_at is not None and step.duration >= 0 for step in result.steps)

    @pytest.mark.parametrize("mode", FlowMode)
    def test_a_flow_without_steps_succeeds(self, mode):
        with Engine(echo) as engine:
            assert bounded(engine.run, FlowDef("f", mode)).success

    def test_a_flow_that_fails_returns(self):
        def handler(ctx):
            raise ValueError("no")

        with Engine(handler) as engine:
            result = bounded(engine.run, FlowDef("f", steps=steps("a", "b")))
        assert (result.state, result.success) == (WorkflowState.FAILED, False)
        assert result.error == "step 'a' failed: ValueError: no"

    def test_a_flow_changed_between_runs_is_run_as_it_is_now(self):
        flow = FlowDef("f", steps=steps("a"))
        with Engine(echo) as engine:
            bounded(engine.run, flow)
            flow.add_step(StepDef("b"))
            assert bounded(engine.run, flow).outputs == {"a": "a", "b": "b"}
            flow.steps[0] = StepDef("c", condition="false")
            assert statuses(bounded(engine.run, flow)) == {"c": "skipped", "b": "completed"}

    def test_without_a_store_outputs_may_be_anything(self):
        value = object()
        with Engine(lambda ctx: value) as engine:
            assert bounded(engine.run, FlowDef("f", steps=steps("a")))["a"].output is value

    @pytest.mark.parametrize("inline", ["auto", "never"])
    def test_a_coroutine_that_something_plain_returns_is_no_output(self, inline):
        async def fetch():
            return 1

        with Engine(lambda ctx: fetch(), EngineConfig(inline=inline)) as engine:
            [step] = bounded(engine.run, FlowDef("f", steps=steps("a", max_retries=3))).steps
        error = "OutputNotSerializable: output: coroutine, which nobody runs: szal calls plain functions"
        assert (str(step.status), step.error, step.attempts) == ("failed", error, 1)

    def test_with_a_store_an_output_that_json_cannot_hold_fails_its_step(self):
        def handler(ctx):
            return {"when": object()} if ctx.step.name == "a" else float("nan")

        with Engine(handler, EngineConfig(execution_store=ForeignStore())) as engine:
            result = bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b", max_retries=3)))
        assert statuses(result) == {"a": "failed", "b": "failed"}
        assert 'output["when"]' in result["a"].error
        assert (result["a"].error_type, result["a"].attempts) == ("OutputNotSerializable", 1)


class TestWhatIsWrongWithTheCall:
    @pytest.mark.parametrize("call", ["run", "start"])
    def test_an_invalid_flow(self, call):
        store = ForeignStore()
        with (
            Engine(echo, EngineConfig(execution_store=store)) as engine,
            pytest.raises(InvalidFlow, match="duplicate step name"),
        ):
            getattr(engine, call)(FlowDef("f", steps=steps("a", "a")))
        assert store.saves == []

    @pytest.mark.parametrize("call", ["run", "start"])
    def test_steps_that_nobody_handles_are_named_before_anything_runs(self, call):
        handlers, ran, store = Handlers(), [], ForeignStore()
        handlers.step("known")(lambda ctx: ran.append(1))
        flow = FlowDef("f", steps=[*steps("known", "x"), StepDef("y", step_type="nowhere")])
        with (
            Engine(handlers, EngineConfig(execution_store=store)) as engine,
            pytest.raises(
                HandlerNotFound, match=r"^no handler for steps: x, y \(there is no step type 'nowhere'\)$"
            ) as caught,
        ):
            getattr(engine, call)(flow)
        assert caught.value.steps == ("x", "y")
        assert (ran, store.saves) == ([], [])

    @pytest.mark.parametrize("given", [{"inputs": {"a": object()}}, {"labels": {"a": {1, 2}}}])
    def test_what_json_cannot_hold_where_there_is_a_store(self, given):
        store = ForeignStore()
        with Engine(echo, EngineConfig(execution_store=store)) as engine, pytest.raises(EncodeError):
            engine.run(FlowDef("f", steps=steps("a")), **given)
        assert store.saves == []

    def test_a_closed_engine(self):
        engine = Engine(echo)
        engine.close()
        for call in (engine.run, engine.start):
            with pytest.raises(SzalError, match="closed"):
                call(FlowDef("f"))

    @pytest.mark.parametrize(
        "settings", [{"max_concurrency": 0}, {"timeout": -1}, {"cancel_grace": -0.1}, {"max_recoveries": -1}]
    )
    def test_a_setting_that_makes_no_sense(self, settings):
        with pytest.raises(ValueError, match=next(iter(settings))):
            EngineConfig(**settings)

    @pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, 10**5000], ids=["nan", "inf", "big", "bigger"])
    @pytest.mark.parametrize("name", NUMBERS)
    def test_a_setting_that_is_no_use_as_a_number(self, name, value):
        with pytest.raises(ValueError, match=f"{name} is too large, or no number at all"):
            EngineConfig(**{name: value})

    @pytest.mark.parametrize("value", ["5", True, Decimal(5), [5]], ids=repr)
    @pytest.mark.parametrize("name", NUMBERS)
    def test_a_setting_that_is_no_number(self, name, value):
        with pytest.raises(TypeError, match=f"{name} is not a number"):
            EngineConfig(**{name: value})

    @pytest.mark.parametrize("name", [name for name in NUMBERS if name.startswith("max_")])
    def test_a_setting_that_is_no_whole_number(self, name):
        with pytest.raises(ValueError, match=f"{name} is not a whole number"):
            EngineConfig(**{name: 2.5})

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("event_sink", 3, "event_sink is no function, but of type int"),
            ("event_sink", lambda: None, r"event_sink is called with \(event\), and takes \(\)"),
            ("progress_sink", "x", "progress_sink is no function"),
            (
                "step_type_metrics",
                lambda status: 1,
                r"is called with \(step_type, status, seconds\), and takes \(status",
            ),
            ("storage", {}, "storage must be a WorkflowStorage, not dict"),
            ("migrations", [1], "migrations must be a mapping of flow names to MigrationRegistry"),
            ("migrations", {"f": 1}, "migrations must be a mapping of flow names to MigrationRegistry"),
        ],
    )
    def test_a_setting_that_could_not_be_used(self, name, value, problem):
        with pytest.raises(TypeError, match=problem):
            EngineConfig(**{name: value})

    def test_an_event_sink_that_would_never_be_awaited(self):
        async def publish(event): ...

        with pytest.raises(TypeError, match=r"event_sink is .*publish, an async function"):
            EngineConfig(event_sink=publish)

    def test_settings_that_are_none(self):
        with pytest.raises(TypeError, match=r"config must be an EngineConfig, not dict: Engine\(flow, EngineConfig"):
            Engine(echo, {"max_concurrency": 3})
        with Engine(echo) as engine, pytest.raises(TypeError, match="cancel must be a CancellationToken, not bool"):
            engine.run(FlowDef("f"), cancel=True)

    def test_a_depth_that_no_stack_would_hold(self):
        with pytest.raises(ValueError, match="max_depth must be from 0 to 64, not 65"):
            EngineConfig(max_depth=65)

    @pytest.mark.parametrize("name", ["timeout", "cancel_grace", "lease_ttl", "idle_timeout"])
    def test_a_time_that_no_thread_can_wait_for_is_a_long_time(self, name):
        began, token = threading.Event(), CancellationToken()

        def handler(ctx):
            began.set()
            ctx.sleep(10**400)

        with Engine(handler, EngineConfig(execution_store=open_store("memory:"), **{name: 1e300})) as engine:
            execution = engine.start(FlowDef("f", steps=steps("a", "b")), cancel=token)
            waited(began)
            token.cancel()
            assert execution.result(timeout=LONG).state is WorkflowState.CANCELLED

    def test_a_handler_that_is_falsy_is_a_handler(self):
        class Recorder(list):
            def __call__(self, ctx):
                self.append(ctx.step.name)

        do, undo, handlers = Recorder(), Recorder(), Handlers()
        handlers.step("a")(do)
        handlers.step("last")(lambda ctx: 1 / 0)
        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("last")], rollback_on_failure=True)
        with Engine(handlers, EngineConfig(rollback_handler=undo)) as engine:
            bounded(engine.run, flow)
        assert (do, undo) == (["a"], ["a"])


class TestExecutionIds:
    def test_default_to_the_flows_and_to_new_ones_after_that(self):
        store, flow = ForeignStore(), FlowDef("f", steps=steps("a"))
        with Engine(echo, EngineConfig(execution_store=store)) as engine:
            first, second, third = (bounded(engine.run, flow).execution_id for _ in range(3))
        assert first == flow.id
        assert len({first, second, third}) == 3
        assert set(store.list("f")) == {first, second, third}

    def test_of_runs_at_the_same_time_differ_without_a_store_too(self):
        together = threading.Barrier(3)
        flow = FlowDef("f", steps=steps("a"))
        with Engine(lambda ctx: together.wait(LONG)) as engine:
            runs = [engine.start(flow) for _ in range(3)]
            ids = {run.result(LONG).execution_id for run in runs}
        assert len(ids) == 3
        assert flow.id in ids

    def test_may_be_given(self):
        store = ForeignStore()
        with Engine(echo, EngineConfig(execution_store=store)) as engine:
            result = bounded(engine.run, FlowDef("f", steps=steps("a")), execution_id="order-42")
        assert result.execution_id == "order-42"
        assert store.get("order-42").result == result

    def test_given_again_return_the_stored_result_and_run_nothing(self):
        ran, store = [], ForeignStore()
        flow = FlowDef("f", steps=steps("a"))
        with Engine(lambda ctx: ran.append(1), EngineConfig(execution_store=store)) as engine:
            first = bounded(engine.run, flow, execution_id="order-42")
            again = bounded(engine.run, flow, execution_id="order-42")
            started = engine.start(flow, execution_id="order-42")
            assert (started.execution_id, started.result(LONG)) == ("order-42", first)
        assert again == first
        assert ran == [1]

    def test_of_a_run_under_way_are_taken(self):
        started, release = threading.Event(), threading.Event()

        def handler(ctx):
            started.set()
            waited(release)

        flow = FlowDef("f", steps=steps("a"))
        with Engine(handler) as engine:
            execution = engine.start(flow, execution_id="order-42")
            waited(started)
            with pytest.raises(ExecutionOwned, match="order-42"):
                engine.run(flow, execution_id="order-42")
            release.set()
            execution.result(LONG)
            assert bounded(engine.run, flow, execution_id="order-42").success  # without a store nothing is known of it

    def test_that_somebody_else_runs_are_taken(self):
        store = ForeignStore()
        store.save(ExecutionRecord("order-42", "f", WorkflowState.RUNNING))
        with Engine(echo, EngineConfig(execution_store=store)) as engine, pytest.raises(ExecutionOwned):
            engine.run(FlowDef("f", steps=steps("a")), execution_id="order-42")


class TestRecords:
    def test_tell_all_of_a_run(self):
        store = ForeignStore()
        flow = FlowDef("f", steps=steps("a"), version=3, inputs={"m": 2, "n": None})
        with Engine(echo, EngineConfig(execution_store=store)) as engine:
            result = bounded(engine.run, flow, {"n": 1}, labels={"team": "red"})
        record = store.get(flow.id)
        assert (record.flow_name, record.state, record.result, record.error) == (
            "f",
            WorkflowState.COMPLETED,
            result,
            None,
        )
        assert (dict(record.inputs), dict(record.labels)) == ({"n": 1, "m": 2}, {"team": "red"})
        assert (record.flow_id, record.flow_version, record.parent_execution_id) == (flow.id, 3, None)
        assert record.started_at <= record.finished_at

    def test_begin_with_running_before_the_first_step(self):
        store = ForeignStore()
        with Engine(lambda ctx: store.states(), EngineConfig(execution_store=store)) as engine:
            result = bounded(engine.run, FlowDef("f", steps=steps("a")))
        assert result["a"].output == ["running"]
        assert store.states() == ["running", "completed"]

    def test_are_flushed_before_run_returns_where_the_store_can_flush(self):
        class Behind(ForeignStore):
            flushed = None

            def flush(self):
                self.flushed = self.states()

        store = Behind()
        with Engine(echo, EngineConfig(execution_store=store)) as engine:
            bounded(engine.run, FlowDef("f", steps=steps("a")))
        assert store.flushed == ["running", "completed"]

    @pytest.mark.parametrize("broken", [1, 2])
    def test_that_cannot_be_written_raise_what_the_store_raised(self, broken):
        ran = []

        class Failing(ForeignStore):
            calls = 0

            def save(self, record):
                self.calls += 1
                if self.calls == broken:
                    raise OSError("disk full")
                super().save(record)

        flow = FlowDef("f", steps=steps("a"))
        with Engine(lambda ctx: ran.append(1), EngineConfig(execution_store=Failing())) as engine:
            with pytest.raises(OSError, match="disk full"):
                bounded(engine.run, flow)
            assert ran == [1] * (broken - 1)
            assert bounded(engine.run, flow).success  # and the engine serves on

    def test_a_store_that_cannot_even_be_read_fails_the_call_and_frees_the_id(self):
        class Unreadable(ForeignStore):
            broken = True

            def get(self, execution_id):
                if self.broken:
                    raise OSError("gone")
                return super().get(execution_id)

        store, flow = Unreadable(), FlowDef("f", steps=steps("a"))
        with Engine(echo, EngineConfig(execution_store=store)) as engine:
            with pytest.raises(OSError, match="gone"):
                bounded(engine.run, flow, execution_id="order-42")
            store.broken = False
            assert bounded(engine.run, flow, execution_id="order-42").success


class TestStart:
    def test_runs_in_the_background(self):
        started, release = threading.Event(), threading.Event()

        def handler(ctx):
            started.set()
            waited(release)
            return ctx.inputs["n"]

        with Engine(handler) as engine:
            execution = engine.start(FlowDef("f", steps=steps("a")), {"n": 7})
            waited(started)
            assert not execution.done
            assert execution.wait(0.001) is False
            with pytest.raises(TimeoutError, match=execution.execution_id):
                execution.result(timeout=0.001)
            release.set()
            result = execution.result(timeout=LONG)
        assert (result.outputs, result.execution_id) == ({"a": 7}, execution.execution_id)
        assert (execution.done, execution.wait(0)) == (True, True)
        assert execution.result() is result

    def test_can_be_cancelled(self):
        started = threading.Event()

        def handler(ctx):
            started.set()
            return ctx.sleep(600)

        with Engine(handler) as engine:
            execution = engine.start(FlowDef("f", steps=steps("a", "b")))
            waited(started)
            execution.cancel()
            result = execution.result(LONG)
        assert (result.state, result["a"].output) == (WorkflowState.CANCELLED, False)

    def test_can_be_cancelled_through_a_token_which_its_own_cancellation_leaves_alone(self):
        token = CancellationToken()
        with Engine(lambda ctx: ctx.sleep(600)) as engine:
            one, two = (engine.start(FlowDef("f", steps=steps("a", "b")), cancel=token) for _ in range(2))
            one.cancel()
            assert one.result(LONG).state is WorkflowState.CANCELLED
            assert not token.cancelled
            assert not two.done
            token.cancel()
            assert two.result(LONG).state is WorkflowState.CANCELLED

    def test_gives_the_error_of_the_store_to_whoever_asks_for_the_result(self):
        class Failing(ForeignStore):
            def save(self, record):
                raise OSError("disk full")

        with Engine(echo, EngineConfig(execution_store=Failing())) as engine:
            execution = engine.start(FlowDef("f", steps=steps("a")))
            with pytest.raises(OSError, match="disk full"):
                execution.result(LONG)

    def test_its_handlers_see_the_context_variables_of_its_caller(self):
        def call():
            variable.set("of the caller")
            return engine.start(FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b"))).result(LONG)

        with Engine(lambda ctx: variable.get()) as engine:
            assert contextvars.copy_context().run(call).outputs == {"a": "of the caller", "b": "of the caller"}


class TestContextVariables:
    @pytest.mark.parametrize(
        ("mode", "limit"), [(FlowMode.SEQUENTIAL, None), (FlowMode.PARALLEL, None), (FlowMode.PARALLEL, 60)]
    )
    def test_of_the_caller_are_visible_and_those_of_a_handler_its_own(self, mode, limit):
        def handler(ctx):
            seen = variable.get()
            variable.set(f"changed by {ctx.step.name}")
            return [seen, variable.get()]

        def call():
            variable.set("of the caller")
            return engine.run(FlowDef("f", mode, steps=steps("a", "b", timeout=limit))), variable.get()

        with Engine(handler) as engine:
            result, after = bounded(contextvars.copy_context().run, call)
        assert result.outputs == {name: ["of the caller", f"changed by {name}"] for name in "ab"}
        assert after == "of the caller"

    def test_are_those_of_each_run(self):
        def call(value):
            variable.set(value)
            return engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b"))).outputs

        with Engine(lambda ctx: variable.get()) as engine:
            for value in ("one", "two"):
                assert bounded(contextvars.copy_context().run, call, value) == {"a": value, "b": value}

    def test_are_the_callers_for_each_attempt(self):
        def handler(ctx):
            seen.append(variable.get())
            variable.set("changed")
            if ctx.attempt == 1:
                raise ValueError

        seen = []
        with Engine(handler) as engine:
            bounded(engine.run, FlowDef("f", steps=steps("a", max_retries=1, retry_delay=0)))
        assert seen == ["unset", "unset"]


class TestThreads:
    def test_a_chain_runs_on_the_thread_that_calls(self):
        def call():
            return threading.current_thread(), engine.run(flow).outputs

        flow = FlowDef("f", steps=steps("a", "b", "c"))
        with Engine(lambda ctx: threading.current_thread()) as engine:
            thread, outputs = bounded(call)
        assert set(outputs.values()) == {thread}

    def test_so_does_a_step_of_a_dag_that_is_alone(self):
        first = StepDef("first")
        middle = [StepDef(name, depends_on=first) for name in ("left", "right")]
        flow = FlowDef("f", FlowMode.DAG, steps=[first, *middle, StepDef("last", depends_on=middle)])
        together = threading.Barrier(2)

        def handler(ctx):
            if ctx.step.name in ("left", "right"):
                together.wait(LONG)
            return threading.current_thread()

        def call():
            return threading.current_thread(), engine.run(flow).outputs

        with Engine(handler) as engine:
            thread, outputs = bounded(call)
        assert (outputs["first"], outputs["last"]) == (thread, thread)
        assert outputs["left"] is not outputs["right"]

    def test_steps_with_a_limit_run_on_daemon_threads_others_on_the_pools(self):
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[*steps("a", "b"), StepDef("limited", timeout=60)])
        with Engine(lambda ctx: (threading.current_thread().name, threading.current_thread().daemon)) as engine:
            outputs = bounded(engine.run, flow).outputs
        assert outputs["limited"][0].startswith("szal-limited")
        assert outputs["limited"][1] is True
        assert {outputs[name][0].rstrip("0123456789_-") for name in "ab"} == {"szal-worker"}

    def test_at_most_max_concurrency_handlers_are_at_work(self):
        lock, now, most = threading.Lock(), [0], [0]

        def handler(ctx):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            ctx.sleep(0.002)
            with lock:
                now[0] -= 1

        mixed = [StepDef(f"s{i}", timeout=60 if i % 3 else None) for i in range(40)]
        with Engine(handler, EngineConfig(max_concurrency=3)) as engine:
            assert bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=mixed)).success
        assert most[0] == 3

    def test_max_concurrency_handlers_really_are(self):
        together = threading.Barrier(8)
        mixed = [StepDef(f"s{i}", timeout=60 if i % 2 else None) for i in range(8)]
        with Engine(lambda ctx: together.wait(LONG), EngineConfig(max_concurrency=8)) as engine:
            assert bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=mixed)).success

    def test_a_step_starts_the_moment_its_own_dependencies_allow(self):
        done = threading.Event()

        def handler(ctx):
            if ctx.step.name == "slow":
                waited(done)
            elif ctx.step.name == "after quick":
                done.set()

        quick, slow = steps("quick", "slow")
        flow = FlowDef("f", FlowMode.DAG, steps=[quick, slow, StepDef("after quick", depends_on=quick)])
        with Engine(handler) as engine:
            assert bounded(engine.run, flow).success

    def test_one_engine_serves_many_threads_at_once(self):
        together = threading.Barrier(8)
        flow = FlowDef("f", FlowMode.PARALLEL, steps=steps(*"abcdefgh"))
        results, failures = {}, []

        def handler(ctx):
            return [ctx.inputs["n"], ctx.execution_id]

        def call(n):
            try:
                together.wait(LONG)
                results[n] = [engine.run(flow, {"n": n}) for _ in range(10)]
            except BaseException as error:
                failures.append(error)

        store = ForeignStore()
        with Engine(handler, EngineConfig(execution_store=store, max_concurrency=2)) as engine:
            threads = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
        assert failures == []
        for n, runs in results.items():
            for result in runs:
                assert set(map(tuple, result.outputs.values())) == {(n, result.execution_id)}
        assert len(store.list("f")) == 80

    def test_close_lets_them_end(self):
        before = alive("szal-")
        engine = Engine(echo)
        bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=[*steps("a", "b"), StepDef("limited", timeout=60)]))
        mine = alive("szal-") - before
        assert mine
        engine.close()
        engine.close()
        for thread in mine:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in mine)

    def test_close_does_not_disturb_a_run_under_way(self):
        started, release = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.step.name == "a":
                started.set()
                waited(release)
            return threading.current_thread()

        engine = Engine(handler)
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b", timeout=60), StepDef("c")])
        execution = engine.start(flow)
        waited(started)
        engine.close()
        release.set()
        result = execution.result(LONG)
        assert result.success
        result["b"].output.join(LONG)
        assert not result["b"].output.is_alive()

    def test_idle_threads_are_used_again(self):
        flow = FlowDef("f", steps=steps("a", timeout=60))
        with Engine(lambda ctx: threading.current_thread()) as engine:
            threads = {bounded(engine.run, flow)["a"].output for _ in range(20)}
        assert len(threads) <= 10  # the next run may begin before the thread of the last one is idle


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_one_engine_serves_the_child_of_a_fork_too():
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[*steps("a", "b", "c"), StepDef("limited", timeout=60)])
    with Engine(echo) as engine:
        assert bounded(engine.run, flow).success  # threads exist, and do not come along
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if bounded(engine.run, flow).success else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert bounded(engine.run, flow).success


def test_the_interpreter_waits_for_runs_and_not_for_idle_threads():
    done = run_python(
        """
        import sys
        from szal import Engine, FlowDef, FlowMode, StepDef
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b", timeout=60)])
        engine = Engine(lambda ctx: ctx.sleep(0.2) and sys.stdout.write(ctx.step.name + "\\n"))
        engine.run(flow)
        engine.start(flow)
        """,
    )
    assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (0, ["a", "a", "b", "b"], "")


class TestTheOneLineForm:
    def test_runs_with_an_engine_of_its_own(self):
        result = szal.run(FlowDef("f", steps=steps("a")), {"n": 7}, handler=lambda ctx: ctx.inputs["n"])
        assert (result.success, result.outputs) == (True, {"a": 7})

    def test_takes_a_registry(self):
        handlers = Handlers(default=echo)
        assert szal.run(FlowDef("f", steps=steps("a")), handler=handlers).outputs == {"a": "a"}

    def test_without_a_handler_does_what_needs_none(self):
        step = StepDef("a", step_type="python", config={"call": "math:gcd", "args": [12, "{{inputs.n}}"]})
        assert szal.run(FlowDef("f", steps=[step]), {"n": 18})["a"].output == 6

    def test_without_a_handler_misses_those_of_other_steps(self):
        with pytest.raises(HandlerNotFound, match="a"):
            szal.run(FlowDef("f", steps=steps("a")))

    def test_can_be_cancelled(self):
        token = CancellationToken()
        token.cancel()
        result = szal.run(FlowDef("f", steps=steps("a")), handler=echo, cancel=token)
        assert result.state is WorkflowState.CANCELLED


def test_a_failure_of_a_worker_can_be_raised_in_the_caller():
    with Engine(lambda ctx: ctx.sleep(60)) as engine, pytest.raises(StepTimeout):
        bounded(engine.run, FlowDef("f", steps=steps("a", timeout=0.02))).raise_for_failure()


def test_nothing_is_logged_where_nothing_is_wrong(caplog):
    caplog.set_level(logging.INFO)
    with Engine(echo, EngineConfig(execution_store=ForeignStore(), event_sink=lambda event: None)) as engine:
        bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b", timeout=60)))
    assert [record for record in caplog.records if record.name.startswith("szal")] == []


class TestProgress:
    """Of an execution in the background, without a store."""

    def test_tells_each_step_as_it_stands_and_still_after_the_end(self):
        begun, go = threading.Event(), threading.Event()

        def handler(ctx):
            if ctx.step.name == "b":
                begun.set()
                waited(go)

        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
        with Engine(handler) as engine:
            execution = engine.start(flow, {"n": 1})
            waited(begun)
            before = execution.progress()
            go.set()
            execution.result(timeout=20)
            after = execution.progress()
            with pytest.raises(ExecutionNotFound):
                engine.look(execution.execution_id)
        assert [str(step.status) for step in before.steps.values()] == ["completed", "running", "pending"]
        assert (before.is_running, str(before.state), before.inputs) == (True, "running", {"n": 1})
        assert [str(step.status) for step in after.steps.values()] == ["completed"] * 3
        assert (after.is_running, str(after.state)) == (False, "completed")
