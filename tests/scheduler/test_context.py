"""What a handler is given."""

import logging
import threading

import pytest
from helper_engine import LONG, bounded, waited
from helper_flows import run_flow

from szal import (
    CancellationToken,
    Cancelled,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    SkipStep,
    StepDef,
    StepTimeout,
    TriggerMode,
)


def run(handler, *steps, mode=FlowMode.SEQUENTIAL, inputs=None, cancel=None, config=None, execution_id=None, **flow):
    with Engine(handler, config) as engine:
        return bounded(
            engine.run, FlowDef("f", mode, steps=steps, **flow), inputs, cancel=cancel, execution_id=execution_id
        )


def seen_by(step, *others, look, **options):
    """Return what *look*, the handler of *step*, returns or raises."""
    result = run(lambda ctx: look(ctx) if ctx.step is step else ctx.step.name, *others, step, **options)
    if result[step.name].exception is not None:
        raise result[step.name].exception
    return result[step.name].output


class TestWhoAndWhere:
    def test_names_the_step_the_flow_and_the_execution(self):
        step = StepDef("a", description="first")
        seen = seen_by(step, look=lambda ctx: (ctx.step, ctx.flow_name, ctx.execution_id), execution_id="order-42")
        assert seen == (step, "f", "order-42")

    def test_counts_attempts_from_one(self):
        attempts = []

        def handler(ctx):
            attempts.append(ctx.attempt)
            if ctx.attempt < 3:
                raise ValueError

        run(handler, StepDef("a", max_retries=3, retry_delay=0))
        assert attempts == [1, 2, 3]

    def test_output_is_none_but_for_undoing(self):
        assert seen_by(StepDef("a"), look=lambda ctx: ctx.output) is None


class TestIdempotencyKey:
    def test_is_the_same_for_every_attempt(self):
        keys = []

        def handler(ctx):
            keys.append(ctx.idempotency_key)
            if ctx.attempt < 3:
                raise ValueError

        run(handler, StepDef("a", max_retries=3, retry_delay=0))
        assert len(keys) == 3
        assert len(set(keys)) == 1

    def test_is_the_same_for_the_same_step_of_the_same_execution(self):
        one, two = (run(lambda ctx: ctx.idempotency_key, StepDef("a"), execution_id="order-42") for _ in range(2))
        assert one["a"].output == two["a"].output

    def test_differs_between_steps_and_executions(self):
        steps = [StepDef("a"), StepDef("b")]
        keys = [
            step.output
            for execution_id in ("order-42", "order-43")
            for step in run(lambda ctx: ctx.idempotency_key, *steps, execution_id=execution_id).steps
        ]
        assert len(set(keys)) == 4

    def test_differs_where_names_hold_its_separator(self):
        def keys(execution_id, *names):
            undone = []
            config = EngineConfig(rollback_handler=lambda ctx: undone.append(ctx.idempotency_key))
            steps = [StepDef(name, rollbackable=True) for name in names]
            flow = FlowDef("f", steps=[*steps, StepDef("fails")], rollback_on_failure=True)
            done = []

            def handler(ctx):
                if ctx.step.name == "fails":
                    raise ValueError
                done.append(ctx.idempotency_key)

            with Engine(handler, config) as engine:
                bounded(engine.run, flow, execution_id=execution_id)
            return done + undone

        found = keys("a", "pay", "pay:rollback", "1:b") + keys("a:1", "b")
        assert len(set(found)) == len(found) == 8


class TestInputs:
    def test_are_what_the_run_was_given(self):
        assert seen_by(StepDef("a"), look=lambda ctx: dict(ctx.inputs), inputs={"n": 7}) == {"n": 7}

    def test_are_laid_over_the_flows_defaults(self):
        seen = seen_by(StepDef("a"), look=lambda ctx: dict(ctx.inputs), inputs={"n": 7}, timeout=60)
        assert seen == {"n": 7}
        flow = FlowDef("f", steps=[StepDef("a")], inputs={"n": 1, "m": 2})
        with Engine(lambda ctx: dict(ctx.inputs)) as engine:
            assert bounded(engine.run, flow, {"n": 7})["a"].output == {"n": 7, "m": 2}
            assert bounded(engine.run, flow)["a"].output == {"n": 1, "m": 2}
        assert flow.inputs == {"n": 1, "m": 2}

    def test_are_empty_by_default(self):
        assert seen_by(StepDef("a"), look=lambda ctx: dict(ctx.inputs)) == {}


class TestOutputs:
    def test_are_those_of_all_ancestors_in_the_flows_order(self):
        a = StepDef("a")
        b = StepDef("b", depends_on=a)
        other = StepDef("other")
        c = StepDef("c", depends_on=b)
        seen = seen_by(
            c, a, b, other, mode=FlowMode.DAG, look=lambda ctx: (list(ctx.outputs.items()), len(ctx.outputs))
        )
        assert seen == ([("a", "a"), ("b", "b")], 2)

    def test_are_those_of_all_steps_before_in_a_sequence(self):
        assert seen_by(StepDef("c"), StepDef("a"), StepDef("b"), look=lambda ctx: dict(ctx.outputs)) == {
            "a": "a",
            "b": "b",
        }

    def test_are_none_among_parallel_steps(self):
        steps = [StepDef("a"), StepDef("b")]
        result = run(lambda ctx: dict(ctx.outputs), *steps, mode=FlowMode.PARALLEL)
        assert result.outputs == {"a": {}, "b": {}}

    def test_include_the_parents_in_a_hierarchy(self):
        flow = [StepDef("a", sub_steps=[StepDef("b", sub_steps=[StepDef("c")])]), StepDef("d")]
        result = run(lambda ctx: sorted(ctx.outputs), *flow, mode=FlowMode.HIERARCHICAL)
        assert result.outputs == {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["a", "b", "c"]}

    @pytest.mark.parametrize("name", ["skipped", "skips", "failed", "later", "nowhere", "me"])
    def test_lack_what_did_not_complete_before(self, name):
        def handler(ctx):
            if ctx.step.name == "failed":
                raise ValueError
            if ctx.step.name == "skips":
                raise SkipStep("no")
            if ctx.step.name == "me":
                return [name in ctx.outputs, ctx.outputs.get(name, "nothing"), sorted(ctx.outputs)]
            return None

        before = [StepDef("skipped", condition="false"), StepDef("skips"), StepDef("failed"), StepDef("fine")]
        me = StepDef("me", depends_on=before, trigger_mode=TriggerMode.ALL_DONE)
        result = run(handler, *before, me, StepDef("later", depends_on=me), mode=FlowMode.DAG)
        assert result["me"].output == [False, "nothing", ["fine"]]

    def test_is_read_only_and_shows_itself(self):
        def look(ctx):
            with pytest.raises(TypeError):
                ctx.outputs["a"] = 1
            with pytest.raises(KeyError):
                ctx.outputs["nowhere"]
            return repr(ctx.outputs)

        assert seen_by(StepDef("b"), StepDef("a"), look=look) == "{'a': 'a'}"

    def test_of_none_is_an_output_all_the_same(self):
        result = run(lambda ctx: None if ctx.step.name == "a" else dict(ctx.outputs), StepDef("a"), StepDef("b"))
        assert result["b"].output == {"a": None}

    def test_of_an_any_step_are_those_that_had_completed_when_it_started(self):
        started, released = threading.Event(), threading.Event()
        views = []

        def handler(ctx):
            if ctx.step.name == "slow":
                waited(started)
            elif ctx.step.name == "any":
                views.append(dict(ctx.outputs))
                started.set()
                waited(released)  # until slow has completed, too
                views.append(dict(ctx.outputs))
            return ctx.step.name

        def sink(event):
            if (event.step_name, event.event_type) == ("slow", "step_completed"):
                released.set()

        quick, slow = StepDef("quick"), StepDef("slow")
        either = StepDef("any", depends_on=[quick, slow], trigger_mode=TriggerMode.ANY)
        result = run(handler, quick, slow, either, mode=FlowMode.DAG, config=EngineConfig(event_sink=sink))
        assert result.success
        assert views == [{"quick": "quick"}, {"quick": "quick"}]

    def test_of_an_any_step_are_the_same_at_every_attempt(self):
        done, views = threading.Event(), []

        def handler(ctx):
            if ctx.step.name == "slow":
                waited(done)
            elif ctx.step.name == "any":
                views.append(sorted(ctx.outputs))
                done.set()
                if not released.is_set():
                    raise ValueError

        def sink(event):
            if (event.step_name, event.event_type) == ("slow", "step_completed"):
                released.set()

        released = threading.Event()
        quick, slow = StepDef("quick"), StepDef("slow")
        either = StepDef(
            "any", depends_on=[quick, slow], trigger_mode=TriggerMode.ANY, max_retries=10**6, retry_delay=0.002
        )
        assert run(handler, quick, slow, either, mode=FlowMode.DAG, config=EngineConfig(event_sink=sink)).success
        assert len(views) >= 2
        assert set(map(tuple, views)) == {("quick",)}

    def test_may_be_read_from_a_thread_that_the_handler_starts(self):
        def look(ctx):
            return bounded(lambda: dict(ctx.outputs))

        assert seen_by(StepDef("b"), StepDef("a"), look=look) == {"a": "a"}


class TestSteps:
    """The results of the ancestors, whatever became of them."""

    def test_are_those_that_had_ended_however_that_was(self):
        flow, seen = FlowDef("seen", FlowMode.DAG), {}
        root = flow.add_step(StepDef("root"))
        broken = flow.add_step(StepDef("broken", depends_on=root))
        skipped = flow.add_step(StepDef("skipped", depends_on=root, condition="false"))
        flow.add_step(StepDef("stranger"))
        last = StepDef("last", depends_on=[broken, skipped], trigger_mode=TriggerMode.ALL_DONE)
        flow.add_step(last)
        script = {"root": {"n": [1]}, "broken": ValueError("no"), "last": lambda ctx: seen.update(ctx.steps)}
        result = run_flow(flow, script)
        assert list(seen) == ["root", "broken", "skipped"]
        assert seen == {name: result[name] for name in seen}
        assert (str(seen["broken"].status), seen["broken"].error) == ("failed", "ValueError: no")

    def test_a_name_that_is_none_of_theirs_is_a_key_error(self):
        asked = []

        def handle(ctx):
            asked.append([name in ctx.steps for name in ("a", "b", "nobody")])
            with pytest.raises(KeyError):
                ctx.steps["b"]

        assert run_flow(FlowDef("line", steps=[StepDef("a"), StepDef("b")]), handle).success
        assert asked == [[False, False, False], [True, False, False]]

    def test_what_a_handler_does_to_one_nobody_else_sees(self):
        def change(ctx):
            ctx.steps["a"].output.append(2)
            return ctx.steps["a"].output

        result = run_flow(FlowDef("line", steps=[StepDef("a"), StepDef("b")]), {"a": [1], "b": change})
        assert (result["a"].output, result["b"].output) == ([1], [1])

    def test_in_an_undo_the_step_itself_is_among_them(self):
        seen = []
        flow = FlowDef("undone", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
        undo = lambda ctx: seen.append(ctx.steps["a"])  # noqa: E731
        run_flow(flow, {"b": ValueError("no")}, rollback_handler=undo)
        assert [(str(each.status), each.output) for each in seen] == [("completed", "a")]


class TestConfig:
    def test_without_templates_is_as_the_step_has_it_and_the_attempts_own(self):
        config = {"url": "https://example.org", "n": [1, 2]}
        found = seen_by(StepDef("a", config=config), look=lambda ctx: ctx.config)
        assert found == config
        assert found is not config

    def test_is_none_where_there_is_none(self):
        assert seen_by(StepDef("a"), look=lambda ctx: ctx.config) is None

    def test_has_its_templates_rendered(self):
        step = StepDef(
            "b",
            config={
                "text": "{{inputs.who}} made {{steps.a.output}}",
                "value": "{{inputs.list}}",
                "state": ["{{steps.a.status}}"],
                "missing": "<{{inputs.nowhere?}}>",
                "number": 5,
            },
        )
        seen = seen_by(step, StepDef("a"), look=lambda ctx: ctx.config, inputs={"who": "me", "list": [1, {"x": None}]})
        assert seen == {
            "text": "me made a",
            "value": [1, {"x": None}],
            "state": ["completed"],
            "missing": "<>",
            "number": 5,
        }
        assert step.config["text"] == "{{inputs.who}} made {{steps.a.output}}"

    def test_sees_how_a_step_failed(self):
        def handler(ctx):
            if ctx.step.name == "a":
                raise ValueError("no")
            return ctx.config

        a = StepDef("a")
        step = StepDef(
            "b", depends_on=a, trigger_mode=TriggerMode.ALL_DONE, config="{{steps.a.status}}: {{steps.a.error}}"
        )
        assert run(handler, a, step, mode=FlowMode.DAG)["b"].output == "failed: ValueError: no"

    def test_of_a_retried_step_is_rendered_for_each_attempt(self):
        def handler(ctx):
            ctx.config["list"].append(ctx.attempt)
            if ctx.attempt == 1:
                raise ValueError
            return ctx.config

        result = run(
            handler,
            StepDef("a", config={"n": "{{inputs.n}}", "list": []}, max_retries=1, retry_delay=0),
            inputs={"n": 1},
        )
        assert result["a"].output["n"] == 1

    def test_may_be_rendered_from_any_text(self):
        look = lambda ctx: (ctx.render("{{inputs.n}}"), ctx.render("<{{inputs.n}}>", quote=lambda text: f"'{text}'"))  # noqa: E731
        assert seen_by(StepDef("a"), look=look, inputs={"n": 7}) == (7, "<'7'>")


class TestTime:
    def test_remaining_is_none_without_a_limit(self):
        assert seen_by(StepDef("a"), look=lambda ctx: ctx.remaining()) is None

    def test_remaining_counts_down_the_nearest_limit(self):
        assert 0 < seen_by(StepDef("a", timeout=60), look=lambda ctx: ctx.remaining()) <= 60
        assert 0 < seen_by(StepDef("a", timeout=60), look=lambda ctx: ctx.remaining(), timeout=30) <= 30
        assert 0 < seen_by(StepDef("a", timeout=20), look=lambda ctx: ctx.remaining(), timeout=30) <= 20

    def test_sleep_returns_true_when_all_of_it_was_slept(self):
        assert seen_by(StepDef("a"), look=lambda ctx: ctx.sleep(0.001)) is True
        assert seen_by(StepDef("a", timeout=60), look=lambda ctx: ctx.sleep(0.001)) is True

    def test_sleep_of_nothing_or_less_returns_at_once(self):
        assert seen_by(StepDef("a"), look=lambda ctx: (ctx.sleep(0), ctx.sleep(-1))) == (True, True)

    def test_sleep_ends_at_the_deadline(self):
        slept = []
        with pytest.raises(StepTimeout):
            seen_by(StepDef("a", timeout=0.05), look=lambda ctx: slept.append(ctx.sleep(600)))

    def test_sleep_ends_when_cancelled(self):
        token, entered = CancellationToken(), threading.Event()

        def look(ctx):
            entered.set()
            return ctx.sleep(600)

        threading.Thread(target=lambda: (entered.wait(LONG), token.cancel())).start()
        assert seen_by(StepDef("a"), look=look, cancel=token) is False

    def test_several_threads_of_one_handler_may_sleep(self):
        token, entered = CancellationToken(), threading.Barrier(4)

        def look(ctx):
            def sleep():
                entered.wait(LONG)
                slept.append(ctx.sleep(600))

            slept = []
            threads = [threading.Thread(target=sleep, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            entered.wait(LONG)
            token.cancel()
            for thread in threads:
                thread.join(LONG)
            return slept

        assert seen_by(StepDef("a"), look=look, cancel=token) == [False, False, False]


class TestCancelled:
    def test_is_false_while_all_is_well(self):
        assert seen_by(StepDef("a", timeout=60), look=lambda ctx: (ctx.cancelled, ctx.check())) == (False, None)

    def test_is_true_from_the_moment_the_token_is_cancelled(self):
        token = CancellationToken()

        def look(ctx):
            token.cancel()
            return ctx.cancelled

        assert seen_by(StepDef("a"), look=look, cancel=token) is True

    def test_is_seen_in_sub_flows(self):
        token = CancellationToken()

        def handler(ctx):
            token.cancel()
            return ctx.cancelled

        child = FlowDef("child", steps=[StepDef("a")])
        step = StepDef("s", step_type="sub_flow", config={"flow_name": "child"})
        views = []
        config = EngineConfig(storage=InMemoryStorage([child]))
        run(lambda ctx: views.append(handler(ctx)), step, cancel=token, config=config)
        assert views == [True]

    def test_check_raises_it(self):
        token = CancellationToken()

        def look(ctx):
            token.cancel()
            ctx.check()

        with pytest.raises(Cancelled, match="cancelled"):
            seen_by(StepDef("a"), look=look, cancel=token)

    def test_check_raises_step_timeout_past_the_deadline(self):
        caught = []

        def handler(ctx):
            ctx.sleep(600)
            try:
                ctx.check()
            except StepTimeout as error:
                caught.append(str(error))
            finally:
                noticed.set()

        noticed = threading.Event()
        run(handler, StepDef("a", timeout=0.05))
        waited(noticed)
        assert caught == ["step timeout: a after 50ms"]

    def test_check_names_the_flows_limit_where_that_came_first(self):
        caught = []

        def handler(ctx):
            ctx.sleep(600)
            try:
                ctx.check()
            except StepTimeout as error:
                caught.append(error.timeout)
            finally:
                noticed.set()

        noticed = threading.Event()
        run(handler, StepDef("a", timeout=1000), timeout=1)
        waited(noticed)
        assert 0 < caught[0] <= 1


class TestLog:
    def test_lines_begin_with_the_flow_and_the_step(self, caplog):
        caplog.set_level(logging.INFO)
        result = run(lambda ctx: ctx.log.info("%d files", 3, extra={"mine": 1}), StepDef("a"))
        (record,) = [record for record in caplog.records if record.name == "szal.step"]
        assert record.getMessage() == "[f/a] 3 files"
        assert (record.flow, record.step, record.execution_id, record.mine) == ("f", "a", result.execution_id, 1)

    def test_names_with_percent_signs_do_no_harm(self, caplog):
        caplog.set_level(logging.INFO)
        run(lambda ctx: ctx.log.info("%d files", 3), StepDef("100%s"))
        (record,) = [record for record in caplog.records if record.name == "szal.step"]
        assert record.getMessage() == "[f/100%s] 3 files"
