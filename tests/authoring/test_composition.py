"""Flows made of flows: their steps included, or run as sub-flows; and their migrations."""

import attrs
import pytest

import szal
from szal import Engine, EngineConfig, Flow, FlowDef, FlowMode, InvalidFlow, InvalidInputs, StepDef, WorkflowState


@pytest.fixture
def table():
    """A flow of two steps that name each other in every way."""
    flow = Flow("table")

    @flow.step
    def extract(day):
        return {"rows": [day, day], "ok": True}

    @flow.step(condition="steps.extract.output.ok", config={"n": "{{steps.extract.output.rows}} of {{inputs.day}}"})
    def load(ctx, extract):
        return [len(extract["rows"]), ctx.config["n"]]

    return flow


# -- included ----------------------------------------------------------------------------------------------


def test_what_included_steps_name_is_what_it_was(table):
    etl = Flow("etl")
    etl.include(table, prefix="eu_")
    etl.include(table, prefix="us-")

    @etl.step(needs="us-load")
    def report(eu_load):
        return eu_load

    assert etl.run({"day": "d"}).outputs == {
        "eu_extract": {"rows": ["d", "d"], "ok": True},
        "eu_load": [2, '["d","d"] of d'],
        "us-extract": {"rows": ["d", "d"], "ok": True},
        "us-load": [2, '["d","d"] of d'],
        "report": [2, '["d","d"] of d'],
    }
    assert table.run({"day": "d"})["load"].output == [2, '["d","d"] of d']


def test_undos_are_included_and_a_step_is_undone_once_for_each_prefix(table):
    undone = []
    etl = Flow("etl", rollback_on_failure=True)
    extract = table.definition.steps[0]
    assert extract.name == "extract"
    loads = table.step(lambda load: "done", name="publish")
    loads.rollback(lambda ctx, publish, extract: undone.append((ctx.step.name, publish, extract["ok"])))
    etl.include(table, prefix="a_")
    etl.include(table, prefix="b_")
    etl.step(lambda a_publish, b_publish: 1 / 0, name="fail")
    assert etl.run({"day": "d"}).state is WorkflowState.ROLLED_BACK
    assert sorted(undone) == [("a_publish", "done", True), ("b_publish", "done", True)]


def test_a_name_that_is_a_step_here_is_still_the_input_that_it_was(table):
    etl = Flow("etl")
    etl.step(lambda: "not the day", name="day")
    etl.include(table)
    assert etl.run({"day": "d"})["load"].output[1] == '["d","d"] of d'


def test_includes_of_includes_keep_their_names(table):
    inner, outer = Flow("inner"), Flow("outer")
    inner.include(table, prefix="a_")
    outer.include(inner, prefix="b_")
    assert outer.run({"day": "d"})["b_a_load"].output == [2, '["d","d"] of d']


def test_declared_inputs_come_along():
    part = Flow("part", inputs={"size": {"type": "integer", "default": 3}, "note": {"type": "string"}})
    part.step(lambda size, note="none": [size, note], name="a")
    whole = Flow("whole")
    whole.include(part)
    whole.step(lambda a, day: [*a, day], name="b")
    assert whole.run({"day": 1})["b"].output == [3, "none", 1]
    with pytest.raises(InvalidInputs) as caught:
        whole.run({"size": "x", "nothing": 1})
    assert len(caught.value.problems) == 3
    closed = Flow("closed", inputs={"day": 1})
    closed.include(part)
    assert closed.definition.inputs == {"day": 1, **part.definition.inputs}
    with pytest.raises(InvalidFlow, match="input 'size': flow 'part', which it includes, declares it otherwise"):
        Flow("other", inputs={"size": 1}).include(part)


def test_a_name_that_is_taken_and_another_mode_are_refused(table):
    etl = Flow("etl")
    etl.step(lambda ctx: None, name="load")
    with pytest.raises(InvalidFlow, match="step 'load': duplicate step name"):
        etl.include(table)
    assert [step.name for step in etl.definition.steps] == ["load"]
    with pytest.raises(InvalidFlow, match="it is of mode sequential, and cannot include flow 'table', of dag"):
        Flow("line", FlowMode.SEQUENTIAL).include(table)


# -- sub-flows ---------------------------------------------------------------------------------------------


def test_a_sub_flow_brings_its_own_functions_to_every_engine_that_knows_the_parent(table):
    etl = Flow("etl")
    etl.step(lambda: "d", name="day")
    etl.sub_flow("table", table, inputs={"day": etl_day(etl)}, needs="day", timeout="1m")
    etl.step(lambda table: table["load"], name="load")
    with Engine(etl, EngineConfig(execution_store=szal.open_store("memory:"))) as engine:
        result = engine.run(etl)
        assert result["load"].output == [2, '["d","d"] of d']
        assert engine.resume(result.execution_id).outputs == result.outputs
    assert etl.definition.steps[1].timeout == 60.0


def etl_day(etl):
    return "{{steps.day.output}}"


def test_an_input_that_is_a_step_is_its_output_and_comes_first(table):
    etl = Flow("etl")
    first = etl.step(lambda: {"d": 1}, name="first step")
    etl.sub_flow("table", table, inputs={"day": first})
    assert etl.run()["table"].output["extract"]["rows"] == [{"d": 1}, {"d": 1}]


def test_the_fields_of_a_sub_flow_take_steps_as_those_of_other_steps_do(table):
    etl = Flow("etl")
    first = etl.step(lambda: "d", name="first")
    etl.sub_flow("table", table, inputs={"day": "d"}, depends_on=[first])
    assert etl.definition.steps[1].depends_on == (etl.definition.steps[0].id,)
    etl.sub_flow("each", table, inputs={"day": "d"}, foreach=first)
    with pytest.raises(InvalidFlow) as caught:
        etl.run()
    assert caught.value.problems == (
        "step 'each': foreach with step type 'sub_flow': only what a handler does runs over a list",
    )


def test_sub_flows_of_sub_flows_are_found_and_each_has_its_functions(table):
    middle, top = Flow("middle"), Flow("top")
    middle.sub_flow("table", table, inputs={"day": "{{inputs.day}}"})
    middle.step(lambda table: "middle", name="load")
    top.sub_flow("middle", middle, inputs={"day": "d"})
    top.sub_flow("table", table, inputs={"day": "e"})
    result = top.run()
    assert result["middle"].output["load"] == "middle"
    assert result["table"].output["load"] == [2, '["e","e"] of e']
    assert [flow.name for flow in top.definition.sub_flows] == ["middle", "table"]


def test_what_a_sub_flow_did_is_undone_with_its_parent():
    undone = []
    part, whole = Flow("part"), Flow("whole", rollback_on_failure=True)
    part.step(lambda: 7, name="pay").rollback(lambda pay, ctx: undone.append([pay, ctx.output]))
    whole.sub_flow("part", part)
    whole.step(lambda part: 1 / 0, name="fail")
    assert whole.run().state is WorkflowState.ROLLED_BACK
    assert undone == [[7, 7]]


def test_a_flow_def_is_a_sub_flow_too():
    whole = Flow("whole")
    whole.sub_flow("sleep", FlowDef("sleeps", steps=[StepDef("s", step_type="sleep", config={"seconds": 0})]))
    assert whole.run().success


def test_a_flow_cannot_be_its_own_sub_flow():
    one, two = Flow("one"), Flow("two")
    one.sub_flow("two", two)
    with pytest.raises(InvalidFlow, match="step 'one': a flow cannot be its own sub-flow"):
        two.sub_flow("one", one)
    with pytest.raises(InvalidFlow, match="a flow cannot be its own sub-flow"):
        one.sub_flow("one", one)


def test_an_input_that_a_sub_flow_does_not_take_fails_its_step(table):
    etl = Flow("etl")
    etl.sub_flow("table", table, inputs={"dya": 1})
    assert "unknown input 'dya'; did you mean 'day'?" in etl.run()["table"].error


# -- wherever a flow is taken ------------------------------------------------------------------------------


def test_wherever_a_flow_is_taken_a_flow_of_functions_is_too(table):
    whole = FlowDef("whole", sub_flows=[table], steps=[sub("table")])
    with Engine([table]) as engine:
        assert engine.run(whole).success
    with Engine([table], EngineConfig(storage=szal.InMemoryStorage([table]))) as engine:
        assert engine.run(FlowDef("whole", steps=[sub("table")])).success
    with Engine([table], EngineConfig(storage=Storage(table))) as engine:
        assert engine.run(FlowDef("whole", steps=[sub("table")])).success
    assert szal.Part.only(table, "load").needs == ("extract",)
    with Engine(table, EngineConfig(execution_store=szal.open_store("memory:"))) as engine:
        first = engine.run(table, {"day": "d"})
        assert engine.rerun(first.execution_id, "load", flow=table).success
        assert engine.rerun(first.execution_id, flow=szal.Part.only(table, "load")).success


class Storage:
    """One of the program's own, that has flows of functions."""

    def __init__(self, flow):
        self.flow = flow

    def get_by_name(self, name):
        return self.flow if name == self.flow.name else None

    def get_by_id(self, flow_id):
        return None

    def list(self):
        return [self.flow]


def sub(name):
    return StepDef(name, step_type="sub_flow", config={"flow_name": name, "inputs": {"day": 1}})


# -- migrations --------------------------------------------------------------------------------------------


def test_a_migration_brings_what_was_recorded_forward():
    store = szal.open_store("memory:")
    old = Flow("ci")
    old.step(lambda ctx: "built", name="build")
    old.add_step(StepDef("ask", step_type="wait", config={"signal": "go"}), needs="build")
    old.step(lambda build: "old test", name="test", needs="ask")
    with Engine(old, EngineConfig(execution_store=store)) as engine:
        assert engine.run(old, execution_id="e").state is WorkflowState.PAUSED

    new = Flow("ci", version=2)
    new.step(lambda ctx: "built", name="build")
    new.add_step(StepDef("ask", step_type="wait", config={"signal": "go"}), needs="build")
    new.step(lambda build: f"checks what was {build}", name="check", needs="ask")

    @new.migration(1, 2)
    def test_became_check(flow):
        flow.steps = [attrs.evolve(step, name="check") if step.name == "test" else step for step in flow.steps]
        return flow

    with Engine(new, EngineConfig(execution_store=store)) as engine:
        engine.signal("e", "go")
        assert engine.run(new, execution_id="e")["check"].output == "checks what was built"


def test_a_migration_to_a_version_that_the_flow_is_not_yet_is_refused():
    flow = Flow("ci")
    flow.step(lambda ctx: None, name="build")
    flow.migration(1, 2)(lambda flow: flow)
    with pytest.raises(InvalidFlow, match=r"to version 2, and this is version 1: write Flow\('ci', version=2"):
        flow.run()


def test_what_is_no_flow_is_neither_included_nor_a_sub_flow(table):
    flow = Flow("etl")
    for other in (FlowDef("f"), "table"):
        with pytest.raises(TypeError, match=r"flow\.include takes a szal.Flow, not "):
            flow.include(other)
    with pytest.raises(TypeError, match="prefix takes a text, not 3"):
        flow.include(table, prefix=3)
    with pytest.raises(TypeError, match=r"flow\.sub_flow takes a szal\.Flow or a FlowDef, not 'table'"):
        flow.sub_flow("part", "table")
    with pytest.raises(TypeError, match=r"step 'part': inputs takes a mapping of names to values, not \[1\]"):
        flow.sub_flow("part", table, inputs=[1])


def test_a_step_within_an_input_of_a_sub_flow_is_its_output():
    part, whole = Flow("part"), Flow("whole")
    part.step(lambda rows: rows, name="load")
    one = whole.step(lambda: {"n": 1}, name="one")
    whole.sub_flow("part", part, inputs={"rows": [one, {"again": one}, "text"]})
    assert whole.run(store="memory:")["part"].output == {"load": [{"n": 1}, {"again": {"n": 1}}, "text"]}
