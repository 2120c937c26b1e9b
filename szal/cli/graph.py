"""A flow as a drawing: the text that Mermaid or Graphviz draws it from.

The edges are the plan's, so that what is drawn is what is run. A condition stands in its step, a trigger other than
"all" at the edges that it weighs. In hierarchical mode a dotted edge leads from a step to what is under it.
"""

import json
import re
from collections.abc import Iterator, Sequence

import attrs

from szal.cli.text import clean, one_line
from szal.files.vocabulary import name_of_trigger
from szal.model.flow import FlowDef
from szal.model.step import StepDef, TriggerMode
from szal.scheduler.plan import EdgeKind, Plan

__all__ = ["to_dot", "to_mermaid"]


@attrs.frozen
class _Edge:
    source: int
    target: int
    label: str
    dotted: bool


def _edges(plan: Plan) -> Iterator[_Edge]:
    for node in plan.nodes:
        for target, kind in plan.successors(node.place):
            trigger = plan.nodes[target].step.trigger_mode
            label = "" if trigger is TriggerMode.ALL else name_of_trigger(trigger).replace("_", " ")
            yield _Edge(node.place, target, label, kind is EdgeKind.PARENT and target != node.place + 1)


def _lines(step: StepDef) -> list[str]:
    """Return what is written into a step's box."""
    lines = [one_line(step.name)]
    if isinstance(step.foreach, str):
        lines.append(f"for each of {' '.join(clean(step.foreach).split())}")
    elif step.foreach is not None:
        lines.append(f"for each of {len(step.foreach)}")
    if step.condition is not None:
        lines.append(f"if {' '.join(clean(step.condition).split())}")
    if step.until is not None:
        lines.append(f"until {' '.join(clean(step.until).split())}")
    return [*lines, "finally"] if step.finally_ else lines


# -- Mermaid ------------------------------------------------------------------------------------------

# Its labels are read as Markdown, HTML, formulas and icons: what means something there is written as an entity.
_ENTITIES = {ord(char): f"#{ord(char)};" for char in '"#&;<>`\\*~|[]{}%:$@'}
_AT_THE_BEGINNING = re.compile(r"^([0-9]*)([-+=.)])")  # of a list, or a line
_AT_THE_EDGE_OF_A_WORD = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")  # inside one it means nothing


def _label(lines: Sequence[str]) -> str:
    """Return the label of a box; Mermaid takes no empty one."""
    return "<br/>".join(map(_escaped, lines)) or " "


def _escaped(line: str) -> str:
    text = line.translate(_ENTITIES)
    text = _AT_THE_BEGINNING.sub(lambda found: f"{found[1]}#{ord(found[2])};", text)
    return _AT_THE_EDGE_OF_A_WORD.sub(lambda found: "#95;" * len(found[0]), text).replace("www.", "www#46;")


def to_mermaid(flow: FlowDef) -> str:
    """Return *flow* as a Mermaid flowchart; raises `InvalidFlow`.

    >>> print(to_mermaid(FlowDef("ci", steps=[StepDef("build"), StepDef("test", condition="inputs.n > 1")])))
    ---
    title: "ci"
    ---
    flowchart TD
        s0["build"]
        s1["test<br/>if inputs.n #62; 1"]
        s0 --> s1
    """
    plan = Plan.of(flow)
    lines = ["---", f"title: {json.dumps(one_line(flow.name), ensure_ascii=False)}", "---", "flowchart TD"]
    lines += [f'    s{node.place}["{_label(_lines(node.step))}"]' for node in plan.nodes]
    for edge in _edges(plan):
        arrow = "-.->" if edge.dotted else "-->"
        label = f'|"{edge.label}"|' if edge.label else ""
        lines.append(f"    s{edge.source} {arrow}{label} s{edge.target}")
    return "\n".join(lines)


# -- Graphviz -----------------------------------------------------------------------------------------


def to_dot(flow: FlowDef) -> str:
    r"""Return *flow* in Graphviz's DOT language; raises `InvalidFlow`.

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
        label = "\\n".join(_quoted(line) for line in _lines(node.step))
        lines.append(f'    s{node.place} [label="{label}"];')
    for edge in _edges(plan):
        attributes = [f'label="{edge.label}"'] if edge.label else []
        attributes += ["style=dotted"] if edge.dotted else []
        suffix = f" [{', '.join(attributes)}]" if attributes else ""
        lines.append(f"    s{edge.source} -> s{edge.target}{suffix};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    """Return *text* for a string in which Graphviz reads escapes and the entities of HTML."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
