"""The graph of a flow, as it stands in a page."""

from collections.abc import Callable
from typing import Final

from markupsafe import Markup

from szal.engine.status import ExecutionStatus
from szal.errors import InvalidFlow
from szal.model.flow import FlowDef
from szal.pictures.graph import graph_svg

__all__ = ["MOST", "MOST_AT_ONCE", "graph_of"]

MOST_AT_ONCE: Final = 60
"""A graph with more steps takes longer than the rest of a page: it has a page of its own."""
MOST: Final = 500
"""Of more, nobody would find anything in it."""


def graph_of(
    flow: FlowDef | None,
    status: ExecutionStatus | None = None,
    *,
    most: int = MOST_AT_ONCE,
    link: Callable[[str], str] | None = None,
) -> Markup | None:
    """Return a drawing of *flow*, with how its steps stand; None of one with more steps than *most*, or with one."""
    if flow is None or len(flow.steps) > most or not 1 < sum(1 for _ in flow.walk()) <= most:
        return None
    try:
        return Markup(graph_svg(flow, status, styled=False, link=link))  # noqa: S704 (what it says is escaped there)
    except InvalidFlow:  # somebody else wrote it
        return None
