"""Steps that are flows: executions of their own, which hold no worker while they run."""

import threading

import pytest
from helper_engine import ForeignStore, bounded, errors, statuses, waited

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    StepDef,
    SubFlowError,
    WorkflowState,
)
from szal.errors import InvalidFlow


def sub(name, flow=None, inputs=None, **fields):
    config = {"flow_name": flow or name}
    if inputs is not None:
        config["inputs"] = inputs
    return StepDef(name, step_type="sub_flow", config=config, **fields)


def run(handler, flow, *children, inputs=None, cancel=None, **config):
    with Engine(handler, EngineConfig(storage=InMemoryStorage(children), **config)) as engine:
        return bounded(engine.run, flow, inputs, cancel=cancel)


def echo(ctx):
    return ctx.step.name


def fails_on(*names):
    def handler(ctx):
        if ctx.step.name in names:
            raise ValueError("no")
        return ctx.step.name

    return handler


class TestSuccess:
    def test_its_output_is_the_outputs_of_the_child(self):
        child = FlowDef("child", steps=[StepDef("a"), StepDef("b", condition="false")])
        result = run(echo, FlowDef("parent", steps=[sub("child"), StepDef("after")]), child)
        assert result.success
        assert result["child"].output == {"a": "a"}
        assert result["child"].attempts == 1

    def test_later_steps_see_its_output(self):
        child = FlowDef("child", steps=[StepDef("a")])
        flow = FlowDef("parent", steps=[sub("child"), StepDef("after", condition="steps.child.output.a == 'a'")])
        assert run(echo, flow, child)["after"].output == "after"

    def test_its_inputs_are_laid_over_the_childs_own_and_may_be_templates(self):
        child = FlowDef("child", steps=[StepDef("a")], inputs={"x": "default", "y": "default", "z": None})
        steps = [StepDef("before"), sub("child", inputs={"x": "{{inputs.n}}", "z": "{{steps.before.output}}"})]
        result = run(
            lambda ctx: dict(ctx.inputs) if ctx.flow_name == "child" else [1],
            FlowDef("parent", steps=steps),
            child,
            inputs={"n": 7, "secret": 1},
        )
        assert result["child"].output == {"a": {"x": 7, "y": "default", "z": [1]}}

    def test_its_name_may_be_a_template(self):
        child = FlowDef("child-7", steps=[StepDef("a")])
        assert run(echo, FlowDef("p", steps=[sub("s", "child-{{inputs.n}}")]), child, inputs={"n": 7}).success

    def test_a_flow_brings_its_own_which_come_before_those_of_a_storage(self):
        child = FlowDef("child", steps=[sub("grandchild")])
        grandchild = FlowDef("grandchild", steps=[StepDef("own")])
        flow = FlowDef("parent", steps=[sub("child")], sub_flows=[child, grandchild])
        result = run(echo, flow, FlowDef("grandchild", steps=[StepDef("stored")]))
        assert result["child"].output == {"grandchild": {"own": "own"}}

    def test_an_empty_child_completes(self):
        assert run(echo, FlowDef("p", steps=[sub("child")]), FlowDef("child"))["child"].output == {}

    def test_a_handler_by_name_does_not_replace_it(self):
        handlers = Handlers(default=echo)
        handlers.step("child")(lambda ctx: "mine")
        child = FlowDef("child", steps=[StepDef("a")])
        assert run(handlers, FlowDef("p", steps=[sub("child")]), child)["child"].output == {"a": "a"}

    def test_a_handler_may_run_a_flow_itself(self):
        inner = FlowDef("inner", FlowMode.PARALLEL, steps=[StepDef("x"), StepDef("y")])

        def handler(ctx):
            return engine.run(inner).outputs if ctx.flow_name == "outer" else ctx.step.name

        with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
            flow = FlowDef("outer", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
            assert bounded(engine.run, flow).outputs == {"a": {"x": "x", "y": "y"}, "b": {"x": "x", "y": "y"}}


class TestWorkers:
    def test_nested_flows_finish_with_one_worker(self):
        depth = 20
        flows = [
            FlowDef(f"f{i}", FlowMode.PARALLEL, steps=[sub("next", f"f{i + 1}"), StepDef("own")]) for i in range(depth)
        ]
        flows.append(FlowDef(f"f{depth}", FlowMode.PARALLEL, steps=[StepDef("own"), StepDef("other")]))
        output = run(echo, flows[0], *flows[1:], max_concurrency=1)["next"].output
        for _ in range(depth - 1):
            assert output["own"] == "own"
            output = output["next"]
        assert output == {"own": "own", "other": "other"}

    def test_many_at_once_finish_with_one_worker(self):
        child = FlowDef("child", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
        flow = FlowDef("p", FlowMode.PARALLEL, steps=[sub(f"s{i}", "child") for i in range(50)])
        result = run(echo, flow, child, max_concurrency=1)
        assert result.success
        assert result.completed_count == 50

    def test_siblings_run_at_the_same_time(self):
        together = threading.Barrier(3)

        def handler(ctx):
            together.wait(30)

        child = FlowDef("child", steps=[StepDef("a")])
        flow = FlowDef("p", FlowMode.PARALLEL, steps=[sub("s1", "child"), sub("s2", "child"), StepDef("own")])
        assert run(handler, flow, child).success

    def test_children_share_the_limit_of_their_parents_run(self):
        lock, now, most = threading.Lock(), [0], [0]

        def handler(ctx):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            ctx.sleep(0.002)
            with lock:
                now[0] -= 1

        child = FlowDef("child", FlowMode.PARALLEL, steps=[StepDef(f"c{i}") for i in range(10)])
        steps = [*(sub(f"s{i}", "child") for i in range(3)), *(StepDef(f"p{i}") for i in range(10))]
        assert run(handler, FlowDef("p", FlowMode.PARALLEL, steps=steps), child, max_concurrency=3).success
        assert most[0] == 3


class TestItsExecution:
    def test_is_recorded_under_an_id_of_its_own_with_its_parent(self):
        store = ForeignStore()
        child = FlowDef("child", steps=[StepDef("a")], version=3)
        result = run(echo, FlowDef("p", steps=[sub("s", "child", {"n": 1})]), child, execution_store=store)
        (child_id,) = store.list("child")
        record = store.get(child_id)
        assert child_id != result.execution_id
        assert record.parent_execution_id == result.execution_id
        assert store.get(result.execution_id).parent_execution_id is None
        assert (record.state, record.inputs, record.flow_id, record.flow_version) == (
            WorkflowState.COMPLETED,
            {"n": 1},
            child.id,
            3,
        )
        assert record.result.outputs == {"a": "a"}

    def test_is_what_its_handlers_see(self):
        store = ForeignStore()

        def handler(ctx):
            return [ctx.execution_id, ctx.flow_name, ctx.idempotency_key]

        child = FlowDef("child", steps=[StepDef("a")])
        result = run(
            handler, FlowDef("p", steps=[sub("s1", "child"), sub("s2", "child")]), child, execution_store=store
        )
        seen = [result[name].output["a"] for name in ("s1", "s2")]
        assert sorted(one[0] for one in seen) == sorted(store.list("child"))
        assert {one[1] for one in seen} == {"child"}
        assert seen[0][2] != seen[1][2]

    def test_each_has_its_own_flow_events(self):
        events = []
        child = FlowDef("child", steps=[StepDef("a")])
        result = run(echo, FlowDef("p", steps=[sub("s", "child")]), child, event_sink=events.append)
        told = [(event.flow_name, event.event_type, event.step_name) for event in events]
        assert told == [
            ("p", "flow_started", None),
            ("p", "step_started", "s"),
            ("child", "flow_started", None),
            ("child", "step_started", "a"),
            ("child", "step_completed", "a"),
            ("child", "flow_completed", None),
            ("p", "step_completed", "s"),
            ("p", "flow_completed", None),
        ]
        assert {event.execution_id for event in events if event.flow_name == "p"} == {result.execution_id}
        assert result.execution_id not in {event.execution_id for event in events if event.flow_name == "child"}


class TestErrors:
    @pytest.mark.parametrize(
        "config", [None, {}, {"flow_name": ""}, {"flow_name": None}, {"inputs": {}}, "child", ["child"]]
    )
    def test_no_name(self, config):
        flow = FlowDef("p", steps=[StepDef("s", step_type="sub_flow", config=config)])
        for refuse in (flow.validate, lambda: run(echo, flow)):
            with pytest.raises(InvalidFlow, match=r"step 's': (sub_flow step requires )?config\.flow_name"):
                refuse()

    @pytest.mark.parametrize("name", ["", None, 7, ["child"]])
    def test_no_name_once_it_is_known(self, name):
        result = run(echo, FlowDef("p", steps=[sub("s", "{{inputs.name}}")]), inputs={"name": name})
        assert "config.flow_name" in result["s"].error
        assert (result.state, result["s"].error_type) == (WorkflowState.FAILED, "SubFlowError")

    def test_unknown_name(self):
        assert run(echo, FlowDef("p", steps=[sub("x")]))["x"].error == "sub-flow 'x' not found in storage"

    def test_no_storage_at_all(self):
        with Engine(echo) as engine:
            result = bounded(engine.run, FlowDef("p", steps=[sub("x")]))
        assert result["x"].error == "sub-flow 'x' not found in storage"

    def test_storage_that_raises(self):
        class Broken(InMemoryStorage):
            def get_by_name(self, name):
                raise ConnectionError("gone")

        with Engine(echo, EngineConfig(storage=Broken())) as engine:
            result = bounded(engine.run, FlowDef("p", steps=[sub("x"), StepDef("after")]))
        assert errors(result) == {"x": "ConnectionError: gone", "after": "prior step failed"}

    @pytest.mark.parametrize("found", ["child", 5, FlowDef], ids=repr)
    def test_storage_that_has_no_flow_under_a_flows_name_is_not_asked_again(self, found):
        class Odd(InMemoryStorage):
            def get_by_name(self, name):
                return found

        with Engine(echo, EngineConfig(storage=Odd())) as engine:
            result = bounded(engine.run, FlowDef("p", steps=[sub("x", max_retries=3, retry_delay=0)]))
        kind = type(found).__name__
        assert errors(result) == {"x": f"what the storage has as sub-flow 'x' is no FlowDef, but a {kind}"}
        assert result["x"].attempts == 1

    @pytest.mark.parametrize("inputs", [5, "text", [1, 2], [], "", 0, False])
    def test_inputs_that_are_no_object(self, inputs):
        child = FlowDef("child", steps=[StepDef("a")])
        with pytest.raises(InvalidFlow, match=r"step 'child': config\.inputs must be an object"):
            run(echo, FlowDef("p", steps=[sub("child", inputs=inputs)]), child)
        filled_in = FlowDef("p", steps=[sub("child", inputs="{{inputs.x}}")])
        assert statuses(run(echo, filled_in, child, inputs={"x": inputs})) == {"child": "failed"}

    def test_missing_handlers_in_the_child_name_its_steps(self):
        handlers = Handlers()
        handlers.step("before")(echo)
        child = FlowDef("child", steps=[StepDef("a"), StepDef("b")])
        result = run(handlers, FlowDef("p", steps=[StepDef("before"), sub("child")]), child)
        assert result["child"].error == "sub-flow 'child': no handler for steps: a, b"
        assert isinstance(result["child"].exception, SubFlowError)

    def test_a_child_that_is_no_valid_flow_says_why(self):
        child = FlowDef("child", steps=[StepDef("a"), StepDef("a")])
        result = run(echo, FlowDef("p", steps=[sub("child")]), child)
        assert "sub-flow 'child': invalid flow 'child': step 'a': duplicate step name" in result["child"].error
        assert isinstance(result["child"].exception.__cause__, InvalidFlow)

    def test_a_failing_child_fails_its_step_with_what_went_wrong(self):
        child = FlowDef("child", steps=[StepDef("a"), StepDef("b")])
        result = run(fails_on("b"), FlowDef("p", steps=[sub("s", "child"), StepDef("after")]), child)
        assert errors(result) == {
            "s": "sub-flow 'child' failed: step 'b' failed: ValueError: no",
            "after": "prior step failed",
        }
        assert result.state is WorkflowState.FAILED

    def test_a_child_that_cannot_be_recorded_stops_the_run(self):
        class Full(ForeignStore):
            def save(self, record):
                if record.flow_name == "child":
                    raise OSError("disk full")
                super().save(record)

        store = Full()
        with Engine(echo, EngineConfig(storage=InMemoryStorage([FlowDef("child")]), execution_store=store)) as engine:
            flow = FlowDef("p", steps=[sub("child")])
            with pytest.raises(OSError, match="disk full"):
                bounded(engine.run, flow)
        record = store.get(flow.id)
        assert (record.state, record.error) == (WorkflowState.FAILED, "OSError: disk full")


class TestRecursion:
    def test_a_flow_that_contains_itself_ends(self):
        flow = FlowDef("loop", steps=[sub("again", "loop")])
        result = run(echo, flow, flow)
        assert result.state is WorkflowState.FAILED
        assert "'loop' is nested more than 32 deep" in result["again"].error

    def test_so_does_one_that_contains_itself_twice(self):
        flow = FlowDef("loop", steps=[sub("one", "other"), sub("two", "other")])
        other = FlowDef("other", steps=[sub("three", "loop")])
        result = run(echo, flow, flow, other, max_concurrency=1)
        assert statuses(result) == {"one": "failed", "two": "skipped"}

    @pytest.mark.parametrize("retries", [0, 3])
    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
    def test_one_that_is_too_deep_ends_the_whole_run_at_once(self, mode, retries):
        begun = []
        flow = FlowDef("loop", mode, steps=[sub("one", "loop", max_retries=retries, retry_delay=0), StepDef("own")])
        result = run(echo, flow, flow, event_sink=lambda event: begun.append(event.event_type), max_depth=10)
        problem = "sub-flow 'loop' is nested more than 10 deep (max_depth)"
        assert (result.state, result.error) == (WorkflowState.FAILED, problem)
        assert result["one"].error == f"sub-flow 'loop' failed: {problem}"
        assert result["one"].attempts == 1
        assert begun.count("flow_started") == 11

    def test_a_run_has_a_limit_of_sub_flows(self):
        begun, undone = [], []
        flow = FlowDef(
            "loop", FlowMode.PARALLEL, steps=[StepDef("own", rollbackable=True), sub("l", "loop"), sub("r", "loop")]
        )
        flow.rollback_on_failure = True
        result = run(
            echo,
            flow,
            flow,
            event_sink=lambda event: begun.append(event.event_type),
            rollback_handler=lambda ctx: undone.append(ctx.execution_id),
            max_sub_flows=20,
        )
        assert result.state is WorkflowState.ROLLED_BACK
        assert result.error == "sub-flow 'loop' is one too many: the run has had 20 (max_sub_flows)"
        assert begun.count("flow_started") == 21
        assert result.execution_id in undone

    def test_attempts_count_and_another_run_begins_to_count_anew(self):
        child = FlowDef("child", steps=[StepDef("bad")])
        flow = FlowDef("p", steps=[sub("s", "child", max_retries=9, retry_delay=0)])
        with Engine(fails_on("bad"), EngineConfig(storage=InMemoryStorage([child]), max_sub_flows=3)) as engine:
            for _ in range(2):
                result = bounded(engine.run, flow)
                assert "is one too many: the run has had 3" in result.error
                assert result["s"].attempts == 4

    def test_none_may_be_allowed(self):
        child = FlowDef("child", steps=[StepDef("a")])
        for limit in ("max_depth", "max_sub_flows"):
            assert limit in run(echo, FlowDef("p", steps=[sub("s", "child")]), child, **{limit: 0}).error

    def test_what_runs_beside_it_is_told(self):
        told, began = [], threading.Event()

        def handler(ctx):
            if ctx.step.name == "slow":
                began.set()
                told.append(ctx.sleep(60))
            else:
                waited(began)

        flow = FlowDef("loop", steps=[sub("again", "loop")])
        steps = [StepDef("slow"), StepDef("gate"), sub("loop")]
        outer = FlowDef("p", FlowMode.DAG, steps=[steps[0], steps[1]])
        outer.add_step(sub("loop", depends_on=[steps[1]]))
        result = run(handler, outer, flow)
        assert told == [False]
        assert result.state is WorkflowState.FAILED

    @pytest.mark.parametrize("how", ["a time-out", "a cancellation"])
    def test_a_run_that_begins_ever_more_of_them_hears_of(self, how):
        many, token = threading.Event(), CancellationToken()
        flow = FlowDef("loop", FlowMode.PARALLEL, steps=[sub("one", "loop"), sub("two", "loop")])
        count = []

        def sink(event):
            count.append(None)
            if len(count) == 300:
                many.set()

        if how == "a time-out":
            flow.timeout = 0.1
        with Engine(echo, EngineConfig(storage=InMemoryStorage([flow]), event_sink=sink)) as engine:
            execution = engine.start(flow, cancel=token)
            if how == "a cancellation":
                waited(many)
                token.cancel()
            result = execution.result(timeout=20)
        assert result.error == ("flow timeout exceeded" if how == "a time-out" else "cancelled")

    def test_recursion_that_ends_by_a_condition_is_fine(self):
        flow = FlowDef(
            "down",
            steps=[StepDef("less"), sub("again", "down", {"n": "{{steps.less.output}}"}, condition="inputs.n > 0")],
        )
        result = run(lambda ctx: ctx.inputs["n"] - 1, flow, flow, inputs={"n": 20})
        assert result.success


class TestWhatWouldFailAgain:
    @pytest.mark.parametrize(
        ("step_type", "config", "problem"),
        [
            ("sub_flow", {"flow_name": "nope"}, "sub-flow 'nope' not found in storage"),
            ("sub_flow", {"flow_name": "{{inputs.x}}"}, "config.flow_name must be the name of a flow, not [1]"),
            ("sub_flow", {"flow_name": "c", "inputs": "{{inputs.x}}"}, "config.inputs must be an object, not [1]"),
            (
                "sub_flow",
                {"flow_name": "bad"},
                "sub-flow 'bad': invalid flow 'bad': step 'a': timeout is negative (-1)",
            ),
            ("sleep", {"seconds": "{{inputs.x}}"}, "config.seconds must be a number of seconds, not [1]"),
            ("wait", {"signal": "{{inputs.x}}"}, "config.signal must be the name of a signal, not [1]"),
            ("wait", {"signal": "go"}, "a wait step needs one of szal's own stores, where signals are kept"),
        ],
    )
    def test_is_the_steps_error_and_is_not_tried_again(self, step_type, config, problem):
        children = [FlowDef("c", steps=[StepDef("a")]), FlowDef("bad", steps=[StepDef("a", timeout=-1)])]
        step = StepDef("s", step_type=step_type, config=config, max_retries=3, retry_delay=0)
        result = run(echo, FlowDef("p", steps=[step]), *children, inputs={"x": [1]})
        assert (result["s"].error, result["s"].attempts) == (problem, 1)

    @pytest.mark.parametrize(
        ("step_type", "config", "problem"),
        [
            ("sub_flow", {"flow_name": 7}, "config.flow_name must be the name of a flow, not 7"),
            ("sub_flow", {"flow_name": "c", "inputs": [1]}, "config.inputs must be an object, not [1]"),
            ("sleep", {}, "sleep step requires config.seconds"),
            ("sleep", {"seconds": "5"}, "config.seconds must be a number of seconds, not '5'"),
            ("sleep", {"seconds": -1}, "config.seconds must be a number of seconds, not -1"),
            ("wait", {}, "wait step requires config.signal"),
            ("wait", {"signal": "go", "timeout": "soon"}, "config.timeout must be a number of seconds, not 'soon'"),
        ],
    )
    def test_is_refused_before_anything_runs_where_it_is_known(self, step_type, config, problem):
        ran = []
        flow = FlowDef("p", steps=[StepDef("first"), StepDef("s", step_type=step_type, config=config)])
        for refuse in (flow.validate, lambda: run(ran.append, flow)):
            with pytest.raises(InvalidFlow) as caught:
                refuse()
            assert caught.value.problems == (f"step 's': {problem}",)
        assert ran == []

    def test_what_a_catalogue_raises_may_pass(self):
        class Flaky(InMemoryStorage):
            calls = 0

            def get_by_name(self, name):
                self.calls += 1
                if self.calls < 3:
                    raise ConnectionError("gone")
                return super().get_by_name(name)

        storage = Flaky([FlowDef("c", steps=[StepDef("a")])])
        with Engine(echo, EngineConfig(storage=storage)) as engine:
            result = bounded(engine.run, FlowDef("p", steps=[sub("c", max_retries=3, retry_delay=0)]))
        assert result["c"].attempts == 3


class TestRetries:
    def test_each_attempt_is_a_new_execution(self):
        store, calls = ForeignStore(), []

        def handler(ctx):
            calls.append(ctx.execution_id)
            if len(calls) < 3:
                raise ValueError

        child = FlowDef("child", steps=[StepDef("a")])
        flow = FlowDef("p", steps=[sub("s", "child", max_retries=5, retry_delay=0)])
        result = run(handler, flow, child, execution_store=store)
        assert (result.success, result["s"].attempts) == (True, 3)
        assert len(set(calls)) == 3
        assert sorted(str(store.get(one).state) for one in calls) == ["completed", "failed", "failed"]

    def test_exhausted(self):
        child = FlowDef("child", steps=[StepDef("a")])
        result = run(fails_on("a"), FlowDef("p", steps=[sub("s", "child", max_retries=1, retry_delay=0)]), child)
        assert result["s"].error == (
            "retry exhausted: s after 2 attempts: sub-flow 'child' failed: step 'a' failed: ValueError: no"
        )

    def test_may_be_given_up_by_name(self):
        child = FlowDef("child", steps=[StepDef("a")])
        flow = FlowDef("p", steps=[sub("s", "child", max_retries=5, retry_delay=0, give_up_on="szal.SubFlowError")])
        assert run(fails_on("a"), flow, child)["s"].attempts == 1


class TestCancellation:
    def test_is_inherited_at_every_depth(self):
        token, seen = CancellationToken(), []

        def handler(ctx):
            token.cancel()
            seen.append(ctx.sleep(60))
            seen.append(ctx.cancelled)

        store = ForeignStore()
        inner = FlowDef("inner", steps=[StepDef("a"), StepDef("never")])
        outer = FlowDef("outer", steps=[sub("inner"), StepDef("never")])
        flow = FlowDef("p", steps=[sub("outer"), StepDef("never")])
        result = run(handler, flow, outer, inner, cancel=token, execution_store=store)
        assert seen == [False, True]
        assert result.state is WorkflowState.CANCELLED
        assert errors(result)["never"] == "cancelled"
        for name in ("outer", "inner"):
            (execution,) = store.list(name)
            assert store.get(execution).state is WorkflowState.CANCELLED
            assert errors(store.get(execution).result)["never"] == "cancelled"

    def test_ends_waits_for_attempts_in_children(self):
        token = CancellationToken()

        def sink(event):
            if event.event_type == "step_retry":
                token.cancel()

        child = FlowDef("child", steps=[StepDef("a", max_retries=1, retry_delay=1e6)])
        result = run(fails_on("a"), FlowDef("p", steps=[sub("child")]), child, cancel=token, event_sink=sink)
        assert result.state is WorkflowState.CANCELLED


class TestDeadlines:
    def test_the_parents_timeout_bounds_the_child(self):
        store = ForeignStore()
        child = FlowDef("child", steps=[StepDef("slow"), StepDef("never")])
        flow = FlowDef("p", steps=[sub("s", "child"), StepDef("never")], timeout=1)
        result = run(lambda ctx: ctx.sleep(60), flow, child, execution_store=store)
        assert (result.state, result.error) == (WorkflowState.FAILED, "flow timeout exceeded")
        assert errors(result)["never"] == "flow timeout exceeded"
        record = store.get(store.list("child")[0])
        assert record.state is WorkflowState.FAILED
        assert record.result["slow"].error_type == "StepTimeout"
        assert errors(record.result)["never"] == "flow timeout exceeded"

    @pytest.mark.parametrize("limit", [None, 1000])
    def test_at_the_parents_timeout_its_step_fails_with_step_timeout(self, limit):
        child = FlowDef("child", steps=[StepDef("slow")])
        flow = FlowDef("p", steps=[sub("s", "child", timeout=limit)], timeout=1)
        result = run(lambda ctx: ctx.sleep(60), flow, child)
        assert result["s"].error_type == "StepTimeout"
        assert "1000000ms" not in result["s"].error

    def test_the_timeout_of_its_step_bounds_the_child(self):
        child = FlowDef("child", steps=[StepDef("slow"), StepDef("never")])
        flow = FlowDef("p", FlowMode.PARALLEL, steps=[sub("s", "child", timeout=0.1), StepDef("fine")])
        result = run(lambda ctx: ctx.sleep(60) if ctx.step.name == "slow" else None, flow, child)
        assert errors(result) == {"s": "step timeout: s after 100ms"}
        assert result["s"].error_type == "StepTimeout"
        assert statuses(result)["fine"] == "completed"

    def test_a_timed_out_sub_flow_is_retried(self):
        def handler(ctx):
            if next(calls) == 0:
                ctx.sleep(60)
            return "in time"

        calls = iter(range(10))
        child = FlowDef("child", steps=[StepDef("slow")])
        flow = FlowDef("p", steps=[sub("s", "child", timeout=1, max_retries=1, retry_delay=0)])
        result = run(handler, flow, child)
        assert (result["s"].output, result["s"].attempts) == ({"slow": "in time"}, 2)

    def test_the_childs_own_timeout_is_the_childs_failure(self):
        child = FlowDef("child", steps=[StepDef("slow")], timeout=0.1)
        flow = FlowDef("p", FlowMode.PARALLEL, steps=[sub("s", "child", timeout=1000), StepDef("fine")], timeout=1000)
        result = run(lambda ctx: ctx.sleep(60) if ctx.step.name == "slow" else None, flow, child)
        assert errors(result) == {"s": "sub-flow 'child' failed: flow timeout exceeded"}

    def test_a_hung_child_does_not_hold_its_parent(self):
        release = threading.Event()
        child = FlowDef("child", steps=[StepDef("hangs")])
        flow = FlowDef("p", steps=[sub("s", "child", timeout=0.1)])
        try:
            result = run(lambda ctx: waited(release), flow, child)
        finally:
            release.set()
        assert result["s"].error == "step timeout: s after 100ms"


def test_what_the_child_recorded_is_there_even_where_outputs_are_deep():
    deep = []
    for _ in range(100):
        deep = [deep]
    store = ForeignStore()
    child = FlowDef("child", steps=[StepDef("a")])
    result = run(lambda ctx: deep, FlowDef("p", steps=[sub("child")]), child, execution_store=store)
    assert result["child"].output == {"a": deep}
