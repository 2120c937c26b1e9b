"""Drawings: the edges are the plan's, and no name can become syntax."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.cli.graph import to_dot, to_mermaid


def edges(text):
    """Return the edges of a drawing by the numbers of the steps; dotted ones with a star."""
    found = re.findall(r"^\s+s(\d+) (-->|-\.->|->)(?:\|\"([a-z ]*)\"\|)? s(\d+)(?: \[(.*)\])?;?$", text, re.MULTILINE)
    return {
        f"{source}>{target}" + ("*" if arrow == "-.->" or "dotted" in attributes else "")
        for source, arrow, _, target, attributes in found
    }


def steps(*names, **more):
    return [StepDef(name, **more) for name in names]


@pytest.mark.parametrize("draw", [to_mermaid, to_dot])
class TestModes:
    def test_sequential(self, draw):
        assert edges(draw(FlowDef("f", steps=steps("a", "b", "c")))) == {"0>1", "1>2"}

    def test_parallel(self, draw):
        assert edges(draw(FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b", "c")))) == set()

    def test_dag(self, draw):
        a, b = steps("a", "b")
        flow = FlowDef("f", FlowMode.DAG, steps=[a, b, StepDef("c", depends_on=[a, b])])
        assert edges(draw(flow)) == {"0>2", "1>2"}

    def test_hierarchical(self, draw):
        flow = FlowDef("f", FlowMode.HIERARCHICAL, steps=[StepDef("a", sub_steps=steps("b", "c")), StepDef("d")])
        assert edges(draw(flow)) == {"0>1", "1>2", "0>2*", "2>3"}

    def test_no_steps(self, draw):
        assert edges(draw(FlowDef("f"))) == set()

    def test_a_long_chain(self, draw):
        assert len(edges(draw(FlowDef("f", steps=steps(*map(str, range(3000))))))) == 2999

    def test_an_invalid_flow(self, draw):
        with pytest.raises(InvalidFlow):
            draw(FlowDef("f", steps=steps("a", "a")))

    def test_a_trigger_stands_at_the_edges(self, draw):
        a, b = steps("a", "b")
        flow = FlowDef(
            "f", FlowMode.DAG, steps=[a, b, StepDef("c", depends_on=[a, b], trigger_mode=TriggerMode.ALL_DONE)]
        )
        assert draw(flow).count('"all done"') == 2


def test_a_condition_stands_in_its_step():
    flow = FlowDef("f", steps=steps("deploy", condition="inputs.env\n == 'prod' && inputs.n < 3"))
    assert "deploy\\nif inputs.env == 'prod' && inputs.n < 3" in to_dot(flow)
    assert "deploy<br/>if inputs.env == 'prod' #38;#38; inputs.n #60; 3" in to_mermaid(flow)


NAMES = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    | st.text('"\\`<>[](){};|#&\n\r\x1b-%\u2028 ', min_size=1)
).filter(lambda name: "{{" not in name)


@settings(max_examples=50)
@given(NAMES, NAMES)
def test_no_name_breaks_out_of_its_label_in_mermaid(flow_name, step_name):
    *_, node = to_mermaid(FlowDef(flow_name, steps=steps(step_name))).split("\n")
    label = re.fullmatch(r' {4}s0\["(.*)"\]', node)
    assert label
    assert not set(label[1]) & set('"<>`[]\\\n')


@settings(max_examples=50)
@given(NAMES, NAMES)
def test_no_name_breaks_out_of_its_label_in_dot(flow_name, step_name):
    text = to_dot(FlowDef(flow_name, steps=steps(step_name)))
    first, _, node, last = text.split("\n")
    string = r'"(?:[^"\\\n]|\\["\\n])*"'
    assert re.fullmatch(rf"digraph {string} {{", first)
    assert re.fullmatch(rf"    s0 \[label={string}\];", node)
    assert last == "}"
