"""Whether an execution could go on, asked without taking it over; and an engine that lets go of what it runs."""

import threading

import pytest
from helper_engine import bounded, waited

from szal import (
    CancellationToken,
    DefinitionMismatch,
    EngineClosed,
    ExecutionNotFound,
    FlowDef,
    HandlerNotFound,
    Handlers,
    MigrationRegistry,
    StepDef,
    WorkflowState,
    WorkingDirectoryGone,
)

WAITS = FlowDef("shop", steps=[StepDef("reserve"), StepDef("ok", step_type="wait", config={"signal": "go"})])


class TestCheck:
    def test_raises_nothing_where_it_could_go_on_or_has_ended(self, new_engine):
        engine = new_engine()
        engine.run(WAITS, execution_id="a")
        engine.run(FlowDef("short", steps=[StepDef("only")]), execution_id="b")
        engine.check("a")
        new_engine(Handlers()).check("b")

    def test_raises_what_resume_would_and_takes_nothing_over(self, new_engine, store):
        new_engine().run(WAITS, execution_id="a")
        before = store.ledger.read("a")
        without = new_engine(Handlers())
        for go_on in (without.check, without.resume):
            with pytest.raises(HandlerNotFound, match="no handler for step: reserve"):
                go_on("a")
        assert store.ledger.read("a") == before

    def test_a_step_that_has_run_and_that_a_migration_drops(self, new_engine):
        registry = MigrationRegistry()
        registry.register(1, 2, lambda flow: FlowDef("shop", steps=flow.steps[1:]))
        new_engine().run(WAITS, execution_id="a")
        with pytest.raises(DefinitionMismatch, match="step 'reserve' was removed"):
            new_engine(migrations={"shop": registry}).check("a")

    def test_an_execution_that_is_not_there(self, new_engine):
        with pytest.raises(ExecutionNotFound):
            new_engine().check("a")

    def test_whoever_runs_it_now_is_of_no_account(self, new_engine):
        checked, other = [], new_engine()
        new_engine(lambda ctx: checked.append(other.check("a"))).run(WAITS, execution_id="a")
        assert checked == [None]

    def test_elsewhere_a_directory_is_not_looked_for(self, new_engine, tmp_path):
        place = tmp_path / "place"
        place.mkdir()
        command = StepDef("say", step_type="shell", config={"run": "echo"})
        flow = FlowDef("says", steps=[StepDef("ok", step_type="wait", config={"signal": "go"}), command])
        new_engine(cwd=place).run(flow, execution_id="a")
        place.rmdir()
        with pytest.raises(WorkingDirectoryGone):
            new_engine().check("a")
        new_engine().check("a", elsewhere=True)


class TestRelease:
    def test_what_runs_is_told_and_another_engine_goes_on_at_once(self, new_engine, store):
        begun = threading.Event()

        def work(ctx):
            if ctx.step.name == "long":
                begun.set()
                ctx.sleep(60)
                ctx.check()

        engine = new_engine(work)
        flow = FlowDef("night", steps=[StepDef("first"), StepDef("long"), StepDef("last")])
        execution = engine.start(flow, execution_id="a", cancel=CancellationToken())
        waited(begun)
        engine.release()
        with pytest.raises(EngineClosed):
            bounded(execution.result)
        assert store.get("a").state is WorkflowState.RUNNING
        assert bounded(new_engine().resume, "a").outputs == {"first": None, "long": "long", "last": "last"}

    def test_nothing_new_is_run(self, new_engine):
        engine = new_engine()
        engine.release()
        with pytest.raises(EngineClosed):
            engine.run(WAITS)
