"""How an execution gets on, shown while somebody watches: in a notebook as one table, elsewhere as lines."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from szal.model.state import WorkflowState
from szal.model.table import head_of

if TYPE_CHECKING:
    from szal.engine.status import ExecutionStatus

__all__ = ["Show", "screen"]

Show: TypeAlias = "Callable[[ExecutionStatus], object]"
"""Shows how it stands; called again and again."""


_UNDER_WAY: Final = (WorkflowState.CREATED, WorkflowState.RUNNING, WorkflowState.ROLLING_BACK)


def screen() -> Show:
    """Return what shows it where this is called."""
    ipython: Any = sys.modules.get("IPython")  # it is there where anybody would see a table
    shell = None if ipython is None else ipython.get_ipython()
    return _lines() if getattr(shell, "kernel", None) is None else _table()


def _table() -> Show:
    """Return what shows a table in the cell of a notebook, and changes it."""
    display: Any = import_module("IPython.display").display
    shown: list[tuple[Any, str]] = []  # the cell's table, and what is in it

    def show(status: "ExecutionStatus") -> None:
        page = status._repr_html_()
        if not shown:
            shown.append((display(status, display_id=True), page))
        elif shown[0][1] != page:
            handle = shown[0][0]
            handle.update(status)
            shown[0] = handle, page

    return show


def _lines() -> Show:
    """Return what prints a line for each step whose status has changed, and how it all ended."""
    before: dict[str, str] = {}

    def show(status: "ExecutionStatus") -> None:
        for name, step in status.steps.items():
            now = str(step.status)
            if now != before.get(name, "pending"):
                before[name] = now
                print(f"{name}: {now}{f': {step.error}' if step.error else ''}")  # noqa: T201 (what it is for)
        end = head_of(status.flow_name, status.state, status.execution_id, status.error)
        if status.state not in _UNDER_WAY and before.get("") != end:
            before[""] = end  # no step is called so
            print(end)  # noqa: T201 (likewise)

    return show
