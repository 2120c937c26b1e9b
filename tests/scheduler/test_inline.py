"""`inline`: whether handlers are called on the thread that coordinates their run."""

import sqlite3
import threading

import attrs
import pytest
from helper_engine import LONG, bounded, statuses, until_cancelled, waited

from szal import (
    CancellationToken,
    DecodeError,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    Handlers,
    InvalidFlow,
    LoadError,
    StepDef,
    load_flow,
)
from szal.model.json import decode_flow, encode_flow


def threads_of(flow, inputs=None, **config):
    """Run *flow*; return name -> whether its handler was called on this thread."""
    here, found = threading.get_ident(), {}

    def handler(ctx):
        found.setdefault(ctx.step.name, set()).add(threading.get_ident() == here)
        return ctx.item

    with Engine(handler, EngineConfig(**config)) as engine:
        assert engine.run(flow, inputs).success
    assert all(len(each) == 1 for each in found.values())
    return {name: each.pop() for name, each in found.items()}


def dag(*steps, **fields):
    return FlowDef("f", FlowMode.DAG, steps=steps, **fields)


class TestWhereAHandlerRuns:
    @pytest.mark.parametrize(
        ("inline", "chain", "side_by_side"), [("auto", True, False), ("never", False, False), ("always", True, True)]
    )
    def test_as_the_engine_says(self, inline, chain, side_by_side):
        line = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        assert threads_of(line, inline=inline) == {"a": chain, "b": chain}
        both = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
        assert threads_of(both, inline=inline) == {"a": side_by_side, "b": side_by_side}

    def test_as_the_step_says_whatever_the_engine_does(self):
        steps = [StepDef(name, inline=name) for name in ("never", "auto", "always")]
        flow = FlowDef("f", steps=[*steps, StepDef("none")])
        for engine_says, none in (("auto", True), ("never", False), ("always", True)):
            found = threads_of(flow, inline=engine_says)
            assert found == {"never": False, "auto": True, "always": True, "none": none}

    def test_always_also_where_a_token_or_a_limit_of_the_flow_might_stop_it(self):
        with Engine(lambda ctx: threading.get_ident(), EngineConfig(inline="always")) as engine:
            flow = FlowDef("f", steps=[StepDef("a")], timeout=LONG)
            assert engine.run(flow, cancel=CancellationToken()).outputs == {"a": threading.get_ident()}

    def test_retries_items_finally_steps_sub_flows_and_undos_too(self):
        here, calls, handlers = threading.get_ident(), [], Handlers()

        @handlers.step_type("work")
        def work(ctx):
            calls.append((ctx.step.name, threading.get_ident() == here))
            if ctx.step.name == "again" and ctx.attempt == 1:
                raise OSError("not yet")
            if ctx.step.name == "fail":
                raise ValueError("no")

        handlers.rollback("again")(work)

        def step(name, **fields):
            return StepDef(name, step_type="work", **fields)

        child = FlowDef("child", FlowMode.PARALLEL, steps=[step("inner"), step("other")])
        flow = FlowDef(
            "f",
            rollback_on_failure=True,
            sub_flows=[child],
            steps=[
                step("again", max_retries=1, retry_delay=0.01, rollbackable=True),
                step("each", foreach=[1, 2, 3]),
                StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
                step("fail"),
                step("last", finally_=True),
            ],
        )
        with Engine(handlers, EngineConfig(inline="always")) as engine:
            assert engine.run(flow).rolled_back
        assert [name for name, _ in calls] == [
            *("again", "again", "each", "each", "each", "inner", "other", "fail", "again", "again", "last")
        ]
        assert all(on_this_thread for _, on_this_thread in calls)

    def test_of_what_is_started_on_the_thread_of_its_run(self):
        with Engine(lambda ctx: threading.current_thread().name, EngineConfig(inline="always")) as engine:
            flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
            result = engine.start(flow, execution_id="x").result(LONG)
            assert set(result.outputs.values()) == {"szal-run-x"}

    def test_an_object_of_one_thread_is_usable(self):
        database = sqlite3.connect(":memory:")  # refuses every other thread
        database.execute("CREATE TABLE t (n)")

        def handler(ctx):
            database.execute("INSERT INTO t VALUES (?)", [ctx.item])

        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name, foreach=[1, 2]) for name in "ab"])
        with Engine(handler, EngineConfig(inline="always")) as engine:
            engine.run(flow).raise_for_failure()
        assert database.execute("SELECT sum(n) FROM t").fetchone() == (6,)
        database.close()


class TestBesideOtherSteps:
    def test_workers_have_begun_before_it_holds_up_the_thread(self):
        begun = threading.Event()
        both = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("here", inline="always"), StepDef("worker")])

        def handler(ctx):
            if ctx.step.name == "here":
                waited(begun)
            begun.set()

        with Engine(handler) as engine:
            assert bounded(engine.run, both).success

    def test_what_a_worker_has_done_is_taken_before_the_next_one_is_called(self):
        done, order = threading.Event(), []
        a, b = StepDef("a", inline="always"), StepDef("b", inline="always")
        worker = StepDef("worker")
        after = StepDef("after", depends_on=[worker])

        def handler(ctx):
            name = ctx.step.name
            order.append(name)
            if name == "a":
                waited(done)
            elif name == "b":
                waited(after_ran)
            elif name == "worker":
                done.set()
            else:
                after_ran.set()

        after_ran = threading.Event()
        with Engine(handler) as engine:
            assert bounded(engine.run, dag(a, b, worker, after)).success
        assert set(order[:2]) == {"a", "worker"}
        assert order[3] == "after" or order[2] == "after"

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_no_more_than_the_limit_are_at_work(self, limit):
        at_work, most, lock = set(), [0], threading.Lock()

        def handler(ctx):
            with lock:
                at_work.add(ctx.step.name)
                most[0] = max(most[0], len(at_work))
            ctx.sleep(0.002)
            with lock:
                at_work.discard(ctx.step.name)

        steps = [StepDef(f"{n}", inline="always" if n % 3 == 0 else None) for n in range(24)]
        with Engine(handler, EngineConfig(max_concurrency=limit)) as engine:
            assert engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps)).success
        assert most[0] <= limit

    def test_they_go_by_priority(self):
        order = []
        steps = [StepDef(f"{n}", priority=n, inline="always") for n in (1, 3, 2)]
        with Engine(lambda ctx: order.append(ctx.step.name)) as engine:
            engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps))
        assert order == ["3", "2", "1"]

    def test_a_step_that_must_not_run_twice_is_one_too(self):
        flow = FlowDef("f", steps=[StepDef("a", idempotent=False), StepDef("b")])
        assert threads_of(flow, inline="always") == {"a": True, "b": True}


class TestStops:
    """Nobody can stop waiting for it: it is told, and what became of the run follows when it ends."""

    def test_a_token_wakes_it(self):
        begun, token = threading.Event(), CancellationToken()
        threading.Thread(target=lambda: (begun.wait(), token.cancel())).start()
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        with Engine(until_cancelled(begun), EngineConfig(inline="always")) as engine:
            result = engine.run(flow, cancel=token)
        assert (str(result.state), statuses(result)) == ("cancelled", {"a": "completed", "b": "skipped"})
        assert result["a"].output is True

    def test_so_does_the_cancelling_of_what_was_started(self):
        begun = threading.Event()
        with Engine(until_cancelled(begun), EngineConfig(inline="always")) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("a")]))
            waited(begun)
            execution.cancel()
            assert str(execution.result(LONG).state) == "cancelled"

    def test_the_time_of_its_flow_is_over_when_it_ends(self):
        def handler(ctx):
            assert ctx.remaining() is not None
            while not ctx.cancelled:
                ctx.sleep(0.01)
            return "late"

        flow = FlowDef("f", FlowMode.PARALLEL, timeout=1, steps=[StepDef("a"), StepDef("b")])
        with Engine(handler, EngineConfig(inline="always")) as engine:
            result = engine.run(flow)
            assert engine.abandoned == 0
        assert str(result.state) == "failed"
        assert result["a"].error.startswith("step timeout: a after ")
        assert result["b"].error == "flow timeout exceeded"

    def test_its_start_is_told_before_it_is_called(self):
        told, seen = [], []
        config = EngineConfig(inline="always", event_sink=lambda event: told.append(event.event_type))
        with Engine(lambda ctx: seen.append(list(told)), config) as engine:
            engine.run(FlowDef("f", steps=[StepDef("a")]))
        assert seen == [["flow_started", "step_started"]]

    def test_an_interruption_comes_up_in_it(self):
        def handler(ctx):
            raise KeyboardInterrupt

        flow, ends = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")]), []
        config = EngineConfig(inline="always", event_sink=lambda event: ends.append((event.topic, event.error)))
        with Engine(handler, config) as engine, pytest.raises(KeyboardInterrupt):
            engine.run(flow)
        assert ends[1:] == [
            ("szal/step/a/step_started", None),
            ("szal/step/b/step_skipped", "cancelled"),
            ("szal/step/a/step_failed", "KeyboardInterrupt"),
            ("szal/flow/f/flow_cancelled", "cancelled"),
        ]


class TestWhatDoesNotGoWithIt:
    @pytest.mark.parametrize("field", ["timeout", "total_timeout"])
    def test_a_limit_is_refused(self, field):
        step = StepDef("a", inline="always", **{field: 1})
        with pytest.raises(InvalidFlow, match=f"step 'a': {field} and inline='always': nobody can stop waiting"):
            FlowDef("f", steps=[step]).validate()
        step = StepDef("a", **{field: 1})
        with (
            Engine(lambda ctx: None, EngineConfig(inline="always")) as engine,
            pytest.raises(InvalidFlow, match=f"step 'a': {field} and inline='always' of the engine: .*inline='auto'"),
        ):
            engine.run(FlowDef("f", steps=[step]))

    @pytest.mark.parametrize("inline", ["auto", "never"])
    def test_a_step_may_have_one_that_says_so(self, inline):
        flow = FlowDef("f", steps=[StepDef("a", timeout=LONG, inline=inline)])
        assert threads_of(flow, inline="always") == {"a": False}

    def test_polls_may_have_one_which_ends_them_once_the_handler_has(self):
        here, threads = threading.get_ident(), []
        step = StepDef("a", until="output > 2", delay=0.01, until_timeout=LONG, inline="always")
        with Engine(lambda ctx: threads.append(threading.get_ident()) or ctx.poll) as engine:
            assert engine.run(FlowDef("f", steps=[step])).outputs == {"a": 3}
        assert threads == [here] * 3

    def test_what_the_engine_does_itself_has_none(self):
        step = StepDef("a", step_type="sleep", config={"seconds": 0}, inline="never")
        with pytest.raises(InvalidFlow, match="inline of a step of type 'sleep': it is for steps that a handler does"):
            FlowDef("f", steps=[step]).validate()
        flow = FlowDef("f", steps=[attrs.evolve(step, inline=None, timeout=LONG)])
        with Engine(lambda ctx: None, EngineConfig(inline="always")) as engine:
            assert engine.run(flow).success

    @pytest.mark.parametrize("value", ["sometimes", True, 3])
    def test_no_other_word_is_known(self, value):
        with pytest.raises(InvalidFlow, match="inline is none of auto, never, always"):
            FlowDef("f", steps=[StepDef("a", inline=value)]).validate()
        with pytest.raises(ValueError, match="inline is one of auto, never, always, not"):
            EngineConfig(inline=value)


def test_it_is_recorded_and_said_in_files(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text("name: f\nsteps:\n  - {name: a, call: 'os:getcwd', inline: always}\n")
    flow = load_flow(path)
    assert decode_flow(encode_flow(flow)).steps[0].inline == flow.steps[0].inline == "always"
    path.write_text("name: f\nsteps:\n  - {name: a, call: 'os:getcwd', inline: allways}\n")
    with pytest.raises(LoadError, match=r"3:.*'inline' in step 'a' must be one of auto, never, always.*'always'"):
        load_flow(path)
    with pytest.raises(DecodeError, match=r"steps\[0\].inline: expected one of auto, never, always, found 'x'"):
        decode_flow(encode_flow(flow).replace('"always"', '"x"'))
