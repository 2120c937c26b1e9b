"""What the database cannot hold, as far as encoding can tell: its step fails, named, and nothing else is harmed."""

import contextlib
import random
import sqlite3

import pytest

from szal import FlowDef, FlowMode, StepDef, StepStatus, WorkflowState

pytestmark = pytest.mark.timeout(30)

DURABILITIES = ["none", "flow", "step"]
LONG = "".join(random.Random(1).choices("0123456789abcdef", k=3000))
COMPLETED, FAILED = StepStatus.COMPLETED, StepStatus.FAILED


def statuses(result):
    return [step.status for step in result.steps]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("output", ["a\0b", {"x.y": ["\0"]}, {"\0": 1}], ids=ascii)
def test_an_output_with_a_nul_fails_its_step_where_the_database_cannot_hold_it(
    new_engine, store, kind, durability, output
):
    calls = []

    def handler(ctx):
        calls.append(ctx.step.name)
        return output if ctx.step.name == "bad" else 1

    engine = new_engine(handler, durability=durability)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("bad"), StepDef("b")])
    result = engine.run(flow, execution_id="e")
    if kind != "postgres":
        assert result["bad"].output == output
        return
    assert statuses(result) == [COMPLETED, FAILED, COMPLETED]
    assert result["bad"].error_type == "OutputNotSerializable"
    assert "output" in result["bad"].error
    assert "NUL" in result["bad"].error
    assert engine.recover() == []
    assert sorted(calls) == ["a", "b", "bad"]


@pytest.mark.parametrize("length", [1, 40_000])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_definition_may_hold_a_nul(new_engine, store, durability, length):
    """It is kept as JSON, in a column of texts, which says so with an escape. As a claim, and queued."""
    engine = new_engine(lambda ctx: ctx.step.config["separator"] == "\0", durability=durability)
    flow = FlowDef("f", steps=[StepDef("a", config={"separator": "\0", "more": "m" * length})])
    results = [engine.run(flow), engine.run(flow)]
    assert [result["a"].output for result in results] == [True, True]
    for result in results:
        assert engine.rerun(result.execution_id, "a").success


@pytest.mark.parametrize("kind", ["postgres"])
def test_what_was_done_before_is_undone(new_engine, store):
    engine = new_engine(lambda ctx: "\0" if ctx.step.name == "bad" else 1, rollback_handler=lambda ctx: None)
    flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("bad")], rollback_on_failure=True)
    assert engine.run(flow, execution_id="e").state is WorkflowState.ROLLED_BACK
    assert store.get("e").state is WorkflowState.ROLLED_BACK


@pytest.mark.parametrize("what", [{}, {"idempotent": False}, {"step_type": "sleep"}], ids=str)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_step_whose_name_no_index_takes_fails_and_its_siblings_do_not(new_engine, store, kind, durability, what):
    calls = []

    def handler(ctx):
        calls.append(ctx.step.name)
        return ctx.step.name[:3]

    long = StepDef(LONG, config={"seconds": 0}, max_retries=3, **what)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), long, StepDef("b")])
    result = new_engine(handler, durability=durability).run(flow, execution_id="e")
    if kind != "postgres":
        assert result.success
        return
    assert statuses(result) == [COMPLETED, FAILED, COMPLETED]
    assert "the name of this step is 3000 bytes long: an index of this store takes 1300" in result[LONG].error
    assert sorted(calls) == ["a", "b"]
    assert new_engine(handler).run(flow, execution_id="e").state is WorkflowState.FAILED


@pytest.mark.parametrize(("execution_id", "problem"), [(LONG, "is 3000 bytes long"), ("a\0b", "holds a NUL")])
@pytest.mark.parametrize("kind", ["postgres"])
def test_an_id_that_no_index_takes_is_refused_before_anything_runs(new_engine, store, execution_id, problem):
    calls = []
    with pytest.raises(ValueError, match=f"^execution_id {problem}"):
        new_engine(calls.append).run(FlowDef("f", steps=[StepDef("a")]), execution_id=execution_id)
    assert (calls, list(store.list())) == ([], [])


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_nul_in_the_text_of_an_exception_is_shown(new_engine, store, durability):
    def handler(ctx):
        raise ValueError("device said: \0\1")

    result = new_engine(handler, durability=durability).run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    assert result["a"].error == "ValueError: device said: \\x00\1"


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_definition_that_is_changed_in_place_runs_and_is_recorded_as_it_is_now(new_engine, store, durability):
    engine = new_engine(lambda ctx: ctx.config, durability=durability)
    config = {"text": "{{inputs.a}} old", "n": 1}
    flow = FlowDef("f", steps=[StepDef("a", config=config)])
    first = engine.run(flow, {"a": 1}, execution_id="first")
    config.update(text="{{inputs.a}} new", n=True)
    second = engine.run(flow, {"a": 1}, execution_id="second")
    assert first["a"].output == {"text": "1 old", "n": 1}
    assert second["a"].output == {"text": "1 new", "n": True}
    again = engine.rerun("second", from_step="a")
    assert again["a"].output == {"text": "1 new", "n": True}
    assert engine.rerun("first", from_step="a")["a"].output == {"text": "1 old", "n": 1}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_recorded_definition_whose_ids_are_no_uuids_goes_on(new_engine, store, store_url):
    """Earlier versions took any text."""
    first = StepDef("first")
    second = StepDef("second", depends_on=first, step_type="wait", config={"signal": "go"})
    flow = FlowDef("f", FlowMode.DAG, steps=[first, second, StepDef("third", depends_on=second)])
    assert new_engine().run(flow, execution_id="e").state is WorkflowState.PAUSED
    with contextlib.closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)) as db:
        for id_, name in ((flow.id, "f"), (first.id, "one"), (second.id, "two")):
            db.execute("UPDATE szal_flows SET data = replace(data, ?, ?)", (id_, name))
        assert '"depends_on":["two"]' in db.execute("SELECT data FROM szal_flows").fetchone()[0]
    engine = new_engine()
    engine.signal("e", "go", 1)
    assert engine.resume("e").outputs == {"first": "first", "second": 1, "third": "third"}
    assert new_engine().run(flow, execution_id="e").state is WorkflowState.COMPLETED
    assert engine.rerun("e", from_step="third").success
