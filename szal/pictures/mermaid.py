"""A flow as the text that Mermaid draws it from."""

import json
import re
from collections.abc import Sequence

from szal.legible import one_line
from szal.model.flow import FlowDef
from szal.pictures.wording import edges_of, lines_of
from szal.scheduler.plan import Plan

__all__ = ["to_mermaid"]

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

    >>> from szal import FlowDef, StepDef
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
    lines += [f'    s{node.place}["{_label(lines_of(node.step))}"]' for node in plan.nodes]
    for edge in edges_of(plan):
        arrow = "-.->" if edge.dotted else "-->"
        label = f'|"{edge.label}"|' if edge.label else ""
        lines.append(f"    s{edge.source} {arrow}{label} s{edge.target}")
    return "\n".join(lines)
