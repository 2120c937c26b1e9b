"""Drawings: the edges are the plan's, and no name can become syntax."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.pictures.dot import to_dot
from szal.pictures.mermaid import to_mermaid


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
    assert "deploy\\nif inputs.env == 'prod' &amp;&amp; inputs.n < 3" in to_dot(flow)
    assert "deploy<br/>if inputs.env == 'prod' #38;#38; inputs.n #60; 3" in to_mermaid(flow)


NAMES = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    | st.text('"\\`<>[](){};|#&\n\r\x1b-%\u2028 ', min_size=1)
).filter(lambda name: "{{" not in name)


ODD = (
    *("end", "default", "graph", "subgraph", "click", "style", "class", "flowchart TD", "o", "x"),
    *('a"b', "it's", "[x]", "{x}", "(x)", "a|b", "a\nb", "a;b", "-->", "a--b", "---", "%% c", "%%{init: {}}%%", "#35;"),
    *("1. first", "2) x", "- item", "+ item", "* item", "# head", "> quote", "`code`", "**b**", "_i_", "__init__"),
    *("fa:fa-ban", "$$x^2$$", "https://x.y", "www.x.y", "me@x.y", "&amp;", "<script>", "@{shape: rect}", "title: 1"),
    *(" ", "\x1b[2J", "\u202e", "\\", "C:\\x", "広い 🚀", "\u2028"),
)
# A strict part of what Mermaid 11 reads, in which nothing is Markdown, HTML, a formula, an icon or a comment.
_PLAIN = r"(?:[A-Za-z0-9]|(?<=[^\W_])_+(?=[^\W_])|#[0-9]+;|[ ,.'()/!?=^+-]|[^\x00-\x7f])"
_LINE = rf"(?![0-9]*[-+.)=]){_PLAIN}*"
_TITLE = r'"(?:[^"\\\n]|\\["\\])*"'
MERMAID = re.compile(
    rf"---\ntitle: {_TITLE}\n---\nflowchart TD"
    rf'(?:\n    s[0-9]+\["(?!")(?:{_LINE}<br/>)?{_LINE}"\])*'
    rf'(?:\n    s[0-9]+ (?:-->|-\.->)(?:\|"[a-z ]+"\|)? s[0-9]+)*'
)


def test_mermaid_draws_odd_names():
    for name in ODD:
        text = to_mermaid(FlowDef(name, steps=[StepDef(name), StepDef(f"{name}2", condition="inputs.a == '- b'")]))
        assert MERMAID.fullmatch(text), text


@settings(max_examples=50)
@given(NAMES, NAMES)
def test_mermaid_draws_any_name(flow_name, step_name):
    assert MERMAID.fullmatch(to_mermaid(FlowDef(flow_name, steps=steps(step_name))))


def test_a_name_reads_as_it_is_in_mermaid():
    text = to_mermaid(FlowDef("f", steps=steps("unit_test", "Übung 1", "a-b.c")))
    assert re.findall(r'\["(.*)"\]', text) == ["unit_test", "Übung 1", "a-b.c"]


@settings(max_examples=50)
@given(NAMES, NAMES)
def test_no_name_breaks_out_of_its_label_in_dot(flow_name, step_name):
    text = to_dot(FlowDef(flow_name, steps=steps(step_name)))
    first, _, node, last = text.split("\n")
    string = r'"(?:[^"\\\n]|\\["\\n])*"'
    assert re.fullmatch(rf"digraph {string} {{", first)
    assert re.fullmatch(rf"    s0 \[label={string}\];", node)
    assert last == "}"
