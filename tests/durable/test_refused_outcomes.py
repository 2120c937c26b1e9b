"""An outcome that only the database knows it will not take: a constraint of the user's, a trigger."""

import contextlib

import pytest
from helper_engine import bounded
from locking import Lock
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepDef, WorkflowState
from szal.errors import WriteFailed
from szal.model.state import Stop

KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgres"])
SINKS = pytest.mark.parametrize("behind", ["sink", "store"])


@pytest.fixture
def refuse(store_url):
    """Have the database refuse rows of steps whose JSON holds a text."""

    def refuse(text):
        if store_url.startswith("sqlite"):
            body = f"WHEN NEW.result LIKE '%{text}%' BEGIN SELECT RAISE(ABORT, 'the user says no'); END"
            lock.execute(f"CREATE TRIGGER no_insert BEFORE INSERT ON szal_steps {body}")
            lock.execute(f"CREATE TRIGGER no_update BEFORE UPDATE ON szal_steps {body}")
        else:
            lock.execute(
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE check_violation USING MESSAGE = 'the user says no'; END $$"
            )
            lock.execute(
                "CREATE TRIGGER no BEFORE INSERT OR UPDATE ON szal_steps FOR EACH ROW "
                f"WHEN (NEW.result::text LIKE '%{text}%') EXECUTE FUNCTION no()"
            )

    with contextlib.closing(Lock(store_url)) as lock:
        yield refuse


@pytest.fixture
def engine(request, behind, open_one, new_engine):
    """Make an engine that writes to a sink, or to the store itself."""

    def make(handler, **config):
        if behind == "sink":
            return new_engine(handler, **config)
        store = open_one()
        request.addfinalizer(store.close)
        made = Engine(handler, EngineConfig(execution_store=store, **config))
        request.addfinalizer(made.close)
        return made

    return make


def committed(engine):
    """Wait for what a sink has queued."""
    getattr(engine.config.execution_store, "flush", lambda seconds: None)(10)


def statuses(result):
    return {step.step_name: str(step.status) for step in result.steps}


class Held:
    """Steps of which "held" goes on until it is told to end."""

    def __call__(self, ctx):
        if ctx.step.name == "held":
            assert ctx.sleep(20)
        return ctx.step.name


class Handler:
    """Returns a poison for "bad"; counts its calls."""

    def __init__(self, output="poison"):
        self.calls, self.undone = [], []
        self._output = output

    def __call__(self, ctx):
        self.calls.append(ctx.step.name)
        if ctx.step.name == "bad":
            return self._output
        return ctx.step.name

    def undo(self, ctx):
        self.undone.append(ctx.step.name)


@KINDS
@SINKS
def test_with_each_step_committed_it_is_the_failure_of_that_step_alone(engine, store, store_url, refuse):
    refuse("poison")
    handler = Handler()
    made = engine(handler, durability="step")
    flow = FlowDef(
        "f", FlowMode.DAG, steps=[StepDef("a"), bad := StepDef("bad"), StepDef("b"), StepDef("after", depends_on=bad)]
    )
    result = bounded(made.run, flow, execution_id="e")
    assert result.state is WorkflowState.FAILED
    assert statuses(result) == {"a": "completed", "bad": "failed", "b": "completed", "after": "skipped"}
    assert result["bad"].error_type == "StoreFailed"
    assert "the user says no" in result["bad"].error
    assert store.get("e") is not None
    assert store.get("e").result == result
    assert made.recover() == []
    assert sorted(handler.calls) == ["a", "b", "bad"]


@KINDS
@SINKS
@pytest.mark.parametrize("durability", ["none", "flow"])
@pytest.mark.parametrize("rolls_back", [False, True])
def test_else_it_ends_the_run_and_what_had_completed_is_undone(engine, store, refuse, durability, rolls_back):
    refuse("poison")
    handler, held = Handler(), Held()

    def both(ctx):
        held(ctx)
        return handler(ctx)

    made = engine(both, durability=durability, rollback_handler=handler.undo)
    steps = [StepDef(name, rollbackable=True) for name in ("a", "bad", "held")]
    flow = FlowDef("f", steps=[*steps, StepDef("never")], rollback_on_failure=rolls_back)
    result = bounded(made.run, flow, execution_id="e", timeout=20)
    assert result.state is (WorkflowState.ROLLED_BACK if rolls_back else WorkflowState.FAILED)
    assert statuses(result)["bad"] == "failed"
    assert statuses(result)["never"] == "skipped"
    assert result.error.startswith("step 'bad' failed: StoreFailed: ")
    assert "the user says no" in result.error
    assert "bad" not in handler.undone
    assert ("a" in handler.undone) is rolls_back
    committed(made)
    record = store.get("e")
    assert (record.state, record.stop) == (result.state, Stop.REFUSED)
    assert handler.calls.count("bad") == 1


@KINDS
@SINKS
def test_a_step_that_must_not_run_twice_and_whose_beginning_is_refused_fails_uncalled(engine, store, refuse):
    refuse('"Running"')
    handler = Handler()
    made = engine(handler)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("bad", idempotent=False), StepDef("a")])
    result = bounded(made.run, flow, execution_id="e")
    assert result.state is WorkflowState.FAILED
    assert statuses(result) == {"bad": "failed", "a": "completed"}
    assert handler.calls == ["a"]
    assert store.get("e").state is WorkflowState.FAILED


@KINDS
@SINKS
@pytest.mark.parametrize("durability", ["flow", "step"])
def test_one_of_a_sub_flow_ends_all_of_it_or_fails_its_step(engine, store, refuse, durability):
    refuse("poison")
    child = FlowDef("child", steps=[StepDef("bad"), StepDef("held")])
    flow = FlowDef("f", steps=[StepDef("s", step_type="sub_flow", config={"flow_name": "child"}), StepDef("never")])
    held, handler = Held(), Handler()
    made = engine(lambda ctx: held(ctx) and handler(ctx), durability=durability, storage=InMemoryStorage([child]))
    result = bounded(made.run, flow, execution_id="e", timeout=25)
    assert result.state is WorkflowState.FAILED
    assert statuses(result) == {"s": "failed", "never": "skipped"}
    assert {str(found.state) for found in store.find()} == {"failed"}


@KINDS
@SINKS
@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_where_not_even_the_failure_is_taken_the_run_ends_all_the_same(engine, store, refuse, durability):
    refuse('"bad"')  # its name, and no part of an address in another's error
    made = engine(Held(), durability=durability)
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("bad"), StepDef("held"), StepDef("never")])
    result = bounded(made.run, flow, execution_id="e", timeout=25)
    assert result.state is WorkflowState.FAILED
    assert statuses(result)["bad"] == "failed"
    assert "the user says no" in result["bad"].error
    committed(made)
    assert store.get("e").state is WorkflowState.FAILED


@KINDS
def test_what_is_refused_as_the_run_ends_is_told_by_run_and_is_in_its_record(store, store_url, refuse):
    """Nothing of it is lost but what a rerun would keep."""
    refuse("poison")
    with store.engine_sink() as sink, contextlib.closing(Lock(store_url)) as lock:

        def handler(ctx):
            lock.take()  # so that it is all written together, when the run has ended
            return "poison"

        with Engine(handler, EngineConfig(execution_store=sink)) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("bad")]), execution_id="e")
            wait_until(lambda: sink.stats().pending >= 3)
            lock.leave()
            with pytest.raises(WriteFailed, match="the user says no"):
                execution.result(timeout=20)
    assert store.get("e").state is WorkflowState.COMPLETED
    assert store.get("e").result["bad"].output == "poison"
