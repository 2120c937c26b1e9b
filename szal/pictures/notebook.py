"""What a notebook shows of a flow: its picture, or without what draws that, the text that Mermaid draws it from."""

from szal.errors import InvalidFlow
from szal.model.flow import Defined, FlowDef, definition_of
from szal.pictures.graph import graph_svg
from szal.pictures.markup import said, tag
from szal.pictures.mermaid import to_mermaid
from szal.pictures.skeleton import can_draw

__all__ = ["html_of", "svg_of"]


def svg_of(flow: "FlowDef | Defined") -> str | None:
    """Return the picture; None where the flow is none that could run, or what draws it is not installed."""
    if not can_draw():
        return None
    try:
        return graph_svg(flow)
    except InvalidFlow:
        return None


def html_of(flow: "FlowDef | Defined") -> str | None:
    """Return the text for Mermaid; None where there is a picture, or the flow is none that could run."""
    if can_draw():
        return None
    try:
        return tag("pre", said(to_mermaid(definition_of(flow))))
    except InvalidFlow:
        return None
