"""Running a flow again as it is corrected, and a part of a flow: what is kept, what runs, what is told."""

import logging

import attrs
import pytest

from szal import (
    CannotReuse,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    Part,
    StepDef,
    TriggerMode,
    WorkflowState,
)


@pytest.fixture
def ran():
    """What was run, in order: the text of each step's config."""
    return []


@pytest.fixture
def handlers(ran):
    handlers = Handlers()

    def do(ctx):
        ran.append(ctx.config)
        if ctx.config == "typo":
            raise ValueError("not found")
        return {"did": ctx.config, "saw": sorted(ctx.outputs)}

    handlers.step_type("do")(do)
    return handlers


@pytest.fixture
def engine(new_engine, handlers, ran):
    return new_engine(handlers, rollback_handler=lambda ctx: ran.append(f"undo {ctx.step.name}"))


def step(name, does=None, **options):
    return StepDef(name, step_type="do", config=does or name, **options)


def dag(*steps, **options):
    """A flow of (name, what it does, *names of what it needs)."""
    made = {}
    for name, does, *needs in steps:
        made[name] = step(name, does, depends_on=[made[need] for need in needs])
    return FlowDef("etl", FlowMode.DAG, steps=made.values(), **options)


def line(*steps, **options):
    return FlowDef("etl", steps=steps, **options)


class TestACorrectedFlow:
    def test_keeps_what_completed_and_did_not_change(self, engine, ran):
        failed = engine.run(line(step("extract"), step("load", "typo"), step("report")))
        ran.clear()
        again = engine.rerun(failed.execution_id, flow=line(step("extract"), step("load", "psql"), step("report")))
        assert ran == ["psql", "report"]
        assert again.success
        assert again["load"].output == {"did": "psql", "saw": ["extract"]}

    def test_runs_what_changed_though_it_had_completed_and_what_depends_on_it(self, engine, ran):
        before = dag(("a", "a"), ("b", "b", "a"), ("c", "c", "b"), ("beside", "beside", "a"))
        after = dag(("a", "a"), ("b", "B", "a"), ("c", "c", "b"), ("beside", "beside", "a"))
        done = engine.run(before)
        ran.clear()
        engine.rerun(done.execution_id, flow=after)
        assert ran == ["B", "c"]

    def test_drops_what_was_removed_and_runs_what_is_new(self, engine, ran):
        done = engine.run(dag(("a", "a"), ("old", "old"), ("z", "z")))
        ran.clear()
        again = engine.rerun(done.execution_id, flow=dag(("a", "a"), ("new", "new", "a"), ("z", "z")))
        assert ran == ["new"]
        assert [each.step_name for each in again.steps] == ["a", "new", "z"]

    def test_runs_what_comes_after_another_step_than_before(self, engine, ran):
        done = engine.run(line(step("a"), step("b"), step("c"), step("d")))
        ran.clear()
        engine.rerun(done.execution_id, flow=line(step("a"), step("c"), step("d")))
        assert ran == ["c", "d"]

    def test_how_a_step_is_tried_limited_and_undone_is_no_change_of_what_it_did(self, engine, ran):
        done = engine.run(line(step("a"), step("b")))
        ran.clear()
        same = {"timeout": 9, "max_retries": 3, "description": "new", "rollbackable": True}
        assert engine.rerun(done.execution_id, flow=line(step("a", **same), step("b"))).success
        assert ran == []

    def test_a_step_that_any_dependency_lets_run_runs_again_where_one_of_them_changed(self, engine, ran):
        def flow(does):
            first, second = step("first"), step("second", does)
            after = step("after", depends_on=[first, second], trigger_mode=TriggerMode.ANY)
            return FlowDef("etl", FlowMode.DAG, steps=[first, second, after])

        done = engine.run(flow("second"))
        ran.clear()
        engine.rerun(done.execution_id, flow=flow("other"))
        assert ran == ["other", "after"]

    def test_takes_the_new_defaults_of_inputs_but_not_over_what_was_given(self, engine, store):
        failed = engine.run(line(step("a", "typo"), inputs={"n": 1, "m": 1}), {"m": 2})
        again = engine.rerun(failed.execution_id, flow=line(step("a"), inputs={"n": 7, "m": 7, "k": 7}))
        assert store.get(again.execution_id).inputs == {"n": 7, "m": 2, "k": 7}

    def test_with_a_step_to_begin_from_and_inputs(self, engine, ran):
        done = engine.run(line(step("a"), step("b", "{{inputs.n}}"), step("c")), {"n": "one"})
        ran.clear()
        flow = line(step("a"), step("b", "{{inputs.n}}"), step("c", "C"))
        engine.rerun(done.execution_id, "b", {"n": "two"}, flow=flow)
        assert ran == ["two", "C"]

    def test_what_it_keeps_is_undone_as_the_corrected_flow_says(self, engine, ran):
        failed = engine.run(line(step("a", rollbackable=True), step("b", "typo")))
        ran.clear()
        flow = line(step("a", rollbackable=True), step("b", "typo", timeout=9), rollback_on_failure=True)
        assert engine.rerun(failed.execution_id, flow=flow).rolled_back
        assert ran == ["typo", "undo a"]

    def test_goes_on_after_a_crash_as_it_was_corrected(self, engine, new_engine, handlers, ran):
        wait = StepDef("wait", step_type="wait", config={"signal": "go"})
        failed = engine.run(line(step("a"), step("b", "typo")))
        again = engine.rerun(failed.execution_id, flow=line(step("a"), wait, step("b")))
        assert again.state is WorkflowState.PAUSED
        ran.clear()
        other = new_engine(handlers)
        other.signal(again.execution_id, "go")
        assert other.resume(again.execution_id).success
        assert ran == ["b"]

    def test_of_another_name_is_refused(self, engine):
        done = engine.run(line(step("a")))
        with pytest.raises(ValueError, match=f"execution {done.execution_id} is of the flow 'etl', not of 'other'"):
            engine.rerun(done.execution_id, flow=FlowDef("other", steps=[step("a")]))

    def test_the_differences_are_logged(self, engine, caplog):
        done = engine.run(line(step("a")))
        with caplog.at_level(logging.INFO, "szal"):
            engine.rerun(done.execution_id, flow=line(step("a", "A")))
        assert "step 'a': config 'a' -> 'A'" in caplog.text

    def test_an_id_of_its_own_is_an_idempotent_start(self, engine, ran):
        failed = engine.run(line(step("a", "typo")))
        ran.clear()
        first, second = (engine.rerun(failed.execution_id, flow=line(step("a")), new_id="again") for _ in "12")
        assert ran == ["a"]
        assert (first.execution_id, second.outputs) == ("again", first.outputs)


class TestASubFlowThatWasCorrected:
    @pytest.fixture
    def outer(self):
        sub = StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"})
        return FlowDef("outer", steps=[step("a"), sub, step("z")])

    def test_runs_as_it_is_now(self, new_engine, handlers, ran, outer):
        def engine(*steps):
            return new_engine(handlers, storage=InMemoryStorage([FlowDef("inner", steps=steps)]))

        failed = engine(step("one"), step("two", "typo")).run(outer)
        ran.clear()
        assert engine(step("one"), step("two")).rerun(failed.execution_id, flow=outer).success
        assert ran == ["one", "two", "z"]

    @pytest.mark.parametrize("nested", [False, True])
    def test_that_its_flow_brings_runs_as_it_is_now_though_it_had_completed(self, new_engine, handlers, ran, nested):
        def outer(inner, last):
            flows = [FlowDef("inner", steps=[step("one", inner)])]
            if nested:
                call = StepDef("between", step_type="sub_flow", config={"flow_name": "inner"})
                flows.append(FlowDef("middle", steps=[call]))
            sub = StepDef("sub", step_type="sub_flow", config={"flow_name": flows[-1].name})
            return FlowDef("outer", steps=[step("a"), sub, step("z", last)], sub_flows=flows)

        engine = new_engine(handlers)
        failed = engine.run(outer("before", "typo"))
        ran.clear()
        assert engine.rerun(failed.execution_id, flow=outer("after", "z")).success
        assert ran == ["after", "z"]

    def test_that_its_flow_brings_is_told_once(self, new_engine, handlers, outer, caplog):
        def flow(does):
            return attrs.evolve(outer, sub_flows=[FlowDef("inner", steps=[step("one", does)])])

        done = new_engine(handlers).run(flow("before"))
        engine = new_engine(handlers, storage=InMemoryStorage(flow("after").sub_flows))
        with caplog.at_level(logging.INFO, "szal"):
            engine.rerun(done.execution_id, flow=flow("after"))
        assert [line.count("'before' -> 'after'") for line in caplog.messages if "differs" in line] == [1]

    def test_is_kept_where_it_completed_and_did_not_change(self, new_engine, handlers, ran, outer):
        engine = new_engine(handlers, storage=InMemoryStorage([FlowDef("inner", steps=[step("one")])]))
        done = engine.run(outer)
        ran.clear()
        engine.rerun(done.execution_id, "z", flow=outer)
        assert ran == ["z"]


class TestAPart:
    @pytest.fixture
    def flow(self):
        return dag(("build", "build"), ("test", "test", "build"), ("beside", "beside"), ("deploy", "deploy", "test"))

    @pytest.fixture
    def done(self, engine, flow, ran):
        name = engine.run(flow).execution_id
        ran.clear()
        return name

    def test_from_a_step_on_takes_what_is_before_it_and_leaves_out_the_rest(self, engine, flow, done, ran):
        result = engine.rerun(done, flow=Part.from_step(flow, "test"))
        assert ran == ["test", "deploy"]
        assert [each.step_name for each in result.steps] == ["build", "test", "deploy"]
        assert result["test"].output["saw"] == ["build"]

    def test_one_step_only(self, engine, flow, done, ran):
        result = engine.rerun(done, flow=Part.only(flow, "test"))
        assert (ran, list(result.outputs)) == (["test"], ["build", "test"])

    def test_of_a_line_all_before_it_is_taken(self, engine, ran):
        flow = line(step("a"), step("b"), step("c"))
        done = engine.run(flow).execution_id
        ran.clear()
        assert list(engine.rerun(done, flow=Part.only(flow, "b")).outputs) == ["a", "b"]
        assert ran == ["b"]

    def test_runs_the_step_as_the_flow_says_now_and_takes_what_changed_before_it_all_the_same(self, engine, done, ran):
        flow = dag(("build", "BUILD"), ("test", "TEST", "build"))
        assert engine.rerun(done, flow=Part.only(flow, "test")).success
        assert ran == ["TEST"]

    def test_what_did_not_complete_there_is_refused_by_name(self, engine, ran, store):
        flow = line(step("a"), step("b", "typo"), step("c"), step("d"))
        failed = engine.run(flow).execution_id
        with pytest.raises(CannotReuse, match=r"'d' needs what .* has not completed: b \(failed\), c \(skipped\)"):
            engine.rerun(failed, flow=Part.only(flow, "d"))
        assert store.list() == [failed]

    def test_what_was_skipped_by_its_condition_is_taken_as_that(self, engine, ran):
        flow = line(step("a"), step("b", condition="inputs.n == 1"), step("c"))
        done = engine.run(flow).execution_id
        ran.clear()
        result = engine.rerun(done, inputs={"n": 1}, flow=Part.only(flow, "c"))
        assert ran == ["c"]
        assert str(result["b"].status) == "skipped"

    def test_what_it_takes_is_not_undone_with_it(self, engine, ran):
        flow = line(step("a", rollbackable=True), step("b", rollbackable=True), step("c"), rollback_on_failure=True)
        done = engine.run(flow).execution_id
        ran.clear()
        broken = line(
            step("a", rollbackable=True), step("b", rollbackable=True), step("c", "typo"), rollback_on_failure=True
        )
        failed = engine.rerun(done, flow=Part.from_step(broken, "b"))
        assert failed.rolled_back
        assert ran == ["b", "typo", "undo b"]
        ran.clear()
        assert engine.rerun(failed.execution_id).rolled_back  # nor with a rerun of it
        assert ran == ["b", "typo", "undo b"]

    def test_a_rerun_of_it_runs_nothing_else(self, engine, flow, done, ran):
        part = engine.rerun(done, flow=Part.only(flow, "test"))
        ran.clear()
        engine.rerun(part.execution_id, "test")
        assert ran == ["test"]

    def test_goes_on_after_a_crash_as_that_part(self, engine, new_engine, handlers, ran):
        wait = StepDef("wait", step_type="wait", config={"signal": "go"})
        flow = line(step("a"), wait, step("b"))
        first = engine.run(flow).execution_id
        engine.signal(first, "go")
        engine.resume(first)
        part = engine.rerun(first, flow=Part.from_step(flow, "wait"))
        ran.clear()
        other = new_engine(handlers)
        other.signal(part.execution_id, "go")
        assert other.resume(part.execution_id).success
        assert ran == ["b"]

    def test_that_needs_nothing_can_be_run_by_itself(self, engine, flow, ran):
        part = Part.only(flow, "beside")
        assert part.needs == ()
        assert engine.run(part.flow).success
        assert ran == ["beside"]

    def test_begins_where_it_says_itself(self, engine, flow, done):
        with pytest.raises(ValueError, match="from_step does not go with a part of a flow"):
            engine.rerun(done, "test", flow=Part.only(flow, "test"))

    def test_of_no_such_step(self, flow):
        with pytest.raises(ValueError, match="no step 'tests' in the flow 'etl'; did you mean 'test'"):
            Part.only(flow, "tests")

    def test_under_a_step_what_is_above_it_is_needed(self):
        deep = step("top", sub_steps=[step("left"), step("right", sub_steps=[step("leaf")])])
        flow = FlowDef("etl", FlowMode.HIERARCHICAL, steps=[deep, step("next")])
        part = Part.only(flow, "leaf")
        assert part.needs == ("top", "left", "right")
        assert [each.name for each in part.flow.walk()] == ["top", "left", "right", "leaf"]
        assert [each.name for each in Part.only(flow, "top").flow.walk()] == ["top"]
