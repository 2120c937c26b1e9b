"""A flow as the text that Graphviz draws it from."""

from szal.legible import one_line
from szal.model.flow import FlowDef
from szal.pictures.wording import edges_of, lines_of
from szal.scheduler.plan import Plan

__all__ = ["to_dot"]


def to_dot(flow: FlowDef) -> str:
    r"""Return *flow* in Graphviz's DOT language; raises `InvalidFlow`.

    >>> from szal import FlowDef, StepDef
    >>> print(to_dot(FlowDef("ci", steps=[StepDef('"build"'), StepDef("test", condition="inputs.n > 1")])))
    digraph "ci" {
        node [shape=box, style=rounded];
        s0 [label="\"build\""];
        s1 [label="test\nif inputs.n > 1"];
        s0 -> s1;
    }
    """
    plan = Plan.of(flow)
    lines = [f'digraph "{_quoted(one_line(flow.name))}" {{', "    node [shape=box, style=rounded];"]
    for node in plan.nodes:
        label = "\\n".join(_quoted(line) for line in lines_of(node.step))
        lines.append(f'    s{node.place} [label="{label}"];')
    for edge in edges_of(plan):
        attributes = [f'label="{edge.label}"'] if edge.label else []
        attributes += ["style=dotted"] if edge.dotted else []
        suffix = f" [{', '.join(attributes)}]" if attributes else ""
        lines.append(f"    s{edge.source} -> s{edge.target}{suffix};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    """Return *text* for a string in which Graphviz reads escapes and the entities of HTML."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
