"""What the database cannot hold, as far as encoding can tell: its step fails, named, and nothing else is harmed."""

import contextlib
import random
import sqlite3

import attrs
import pytest

from szal import (
    EncodeError,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    InvalidFlow,
    StepDef,
    StepStatus,
    WorkflowState,
)

DURABILITIES = ["none", "flow", "step"]
LONG = "".join(random.Random(1).choices("0123456789abcdef", k=3000))
COMPLETED, FAILED = StepStatus.COMPLETED, StepStatus.FAILED


def statuses(result):
    return [step.status for step in result.steps]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("output", ["a\0b", {"x.y": ["\0"]}, {"\0": 1}], ids=ascii)
def test_an_output_with_a_nul_fails_its_step_whatever_the_database(new_engine, store, durability, output):
    calls = []

    def handler(ctx):
        calls.append(ctx.step.name)
        return output if ctx.step.name == "bad" else 1

    engine = new_engine(handler, durability=durability)
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("bad"), StepDef("b")])
    result = engine.run(flow, execution_id="e")
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


@pytest.mark.parametrize("kind", ["postgres"])
def test_an_id_that_no_index_takes_is_refused_before_anything_runs(new_engine, store):
    calls = []
    with pytest.raises(ValueError, match=r"^execution_id is 3000 bytes long"):
        new_engine(calls.append).run(FlowDef("f", steps=[StepDef("a")]), execution_id=LONG)
    assert (calls, list(store.list())) == ([], [])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"execution_id": "a\0b"}, "^execution_id holds a NUL"),
        ({"execution_id": "a\ud800b"}, "^execution_id holds a lone surrogate"),
        ({"inputs": {"rows": [{"x": "\0"}]}}, r'^inputs\["rows"\]\[0\]\["x"\]: a string with a NUL'),
        ({"inputs": {"\0": 1}}, "^inputs: a key with a NUL"),
        ({"inputs": {7: "a", "7": "b"}}, "^inputs: a key of type int"),
        ({"inputs": {"of": {7: "a"}}}, r'^inputs\["of"\]: a key of type int'),
        ({"labels": {"team": "\0"}}, r'^labels\["team"\]: a string with a NUL'),
        ({"labels": {"\0": "core"}}, "^labels: a key with a NUL"),
        ({"labels": {7: "core"}}, "^labels: a key of type int"),
    ],
    ids=ascii,
)
def test_what_a_run_is_given_and_no_database_could_hold_is_refused_by_path(new_engine, store, given, problem):
    calls = []
    with pytest.raises((ValueError, EncodeError), match=problem):
        new_engine(calls.append).run(FlowDef("f", steps=[StepDef("a")]), **given)
    assert (calls, list(store.list())) == ([], [])


@pytest.mark.parametrize("flow", [FlowDef("a\0b"), FlowDef("f", steps=[StepDef("a\0b")])], ids=["flow", "step"])
def test_a_name_with_a_nul_does_not_validate(new_engine, store, flow):
    with pytest.raises(InvalidFlow, match="name holds a NUL character"):
        new_engine().run(flow)
    assert list(store.list()) == []


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        ({"name": "go", "value": {"x": "\0"}}, r'^value\["x"\]: a string with a NUL'),
        ({"name": "go", "value": {7: 1, "7": 2}}, "^value: a key of type int"),
        ({"name": "g\0", "value": 1}, "^name: holds a NUL"),
        ({"name": 7, "value": 1}, "^name: is not a string"),
        ({"name": "go", "value": 1, "signal_id": "\0"}, "^signal_id: holds a NUL"),
    ],
    ids=ascii,
)
def test_a_signal_that_no_database_could_hold_is_refused_by_path_and_the_next_one_is_delivered(
    new_engine, store, signal, problem
):
    engine = new_engine()
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})])
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    with pytest.raises(EncodeError, match=problem):
        engine.signal("e", **signal)
    engine.signal("e", "go", {"ok": (1, 2)})
    assert engine.resume("e").outputs == {"ask": {"ok": [1, 2]}}


@pytest.mark.parametrize("output", ["a\0b", {7: 1, "7": 2}], ids=ascii)
def test_an_output_that_is_resolved_and_no_database_could_hold_is_refused_by_path(new_engine, store, output):
    with pytest.raises(EncodeError, match=r"^output: a (string with a NUL|key of type int)"):
        new_engine().resolve("e", "a", "completed", output)


def test_inputs_of_a_sub_flow_that_no_database_could_hold_fail_its_step(new_engine, store):
    child = StepDef("child", step_type="sub_flow", config={"flow_name": "child", "inputs": {"x": {"y": "\0"}}})
    flow = FlowDef("parent", FlowMode.PARALLEL, steps=[StepDef("a"), child])
    storage = InMemoryStorage([FlowDef("child", steps=[StepDef("inner")])])
    result = new_engine(storage=storage).run(flow, execution_id="e")
    assert statuses(result) == [COMPLETED, FAILED]
    assert 'inputs["x"]["y"]: a string with a NUL character' in result["child"].error
    assert store.get("e").state is WorkflowState.FAILED


def test_a_default_of_a_wait_that_no_database_could_hold_fails_its_step(new_engine, store):
    ask = StepDef("ask", step_type="wait", config={"signal": "go", "timeout": 0, "default": "\0"})
    result = new_engine().run(FlowDef("f", steps=[ask]), execution_id="e")
    assert (
        result["ask"].error
        == "OutputNotSerializable: output: a string with a NUL character, which not every store can hold"
    )
    assert store.get("e").state is WorkflowState.FAILED


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("script", [r"printf 'a\0b\377'", r"printf 'a\0b\377' >&2; exit 3"], ids=["ends well", "fails"])
def test_what_a_command_prints_can_be_recorded(new_engine, store, durability, script):
    flow = FlowDef("f", steps=[StepDef("a", step_type="shell", config={"run": script})])
    engine = new_engine(Handlers(), durability=durability)
    result = engine.run(flow, execution_id="e")
    told = result["a"].output["stdout"] if result.success else result["a"].error
    assert told in ("a\ufffdb\ufffd", "command failed with exit status 3: a\ufffdb\ufffd")
    engine.recover()  # which waits for what is still to be written
    assert store.get("e").result["a"] == result["a"]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_the_text_of_an_exception_is_the_same_in_the_result_and_in_the_record(new_engine, store, durability):
    def handler(ctx):
        raise ValueError("device said: \0\1\ud800")

    engine = new_engine(handler, durability=durability)
    result = engine.run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    engine.recover()  # which waits for what is still to be written
    assert result["a"].error == "ValueError: device said: \ufffd\1\ufffd"
    recorded = store.get("e").result
    assert (recorded["a"].error, recorded.error) == (result["a"].error, result.error)


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


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_recorded_condition_that_would_be_refused_today_goes_on(new_engine, store, store_url):
    """Earlier versions let a condition name one of several that its step waits for; it sees nothing there."""
    steps = [root := StepDef("root"), a := StepDef("a", depends_on=root), b := StepDef("b", depends_on=root)]
    ask = StepDef("ask", depends_on=root, step_type="wait", config={"signal": "go"})
    options = {"depends_on": [a, b, ask], "trigger_mode": "any"}
    first = StepDef("first", depends_on=[ask], condition="steps.root.status == 'completed'", trigger_mode="any")
    flow = FlowDef("f", FlowMode.DAG, steps=[*steps, ask, first])
    assert new_engine().run(flow, execution_id="e").state is WorkflowState.PAUSED
    with contextlib.closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)) as db:
        for old, new in (
            (f'"depends_on":["{ask.id}"]', f'"depends_on":["{ask.id}","{a.id}"]'),
            ("steps.root", "steps.a"),
        ):
            db.execute("UPDATE szal_flows SET data = replace(data, ?, ?)", (old, new))
        assert "steps.a.status" in db.execute("SELECT data FROM szal_flows").fetchone()[0]
    engine = new_engine()
    result = engine.resume("e")
    assert result["first"].error == "condition not met"
    flow = FlowDef("f", FlowMode.DAG, steps=[*steps, ask, attrs.evolve(first, condition="steps.a.output", **options)])
    with pytest.raises(InvalidFlow, match="may not have ended by then"):
        engine.run(flow, execution_id="another")
