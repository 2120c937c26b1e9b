"""How things look: a sign and a colour for each outcome."""

from collections.abc import Mapping

from rich.console import Console

from szal.model.state import StepStatus, WorkflowState

__all__ = ["Look", "look_of"]

Look = tuple[str, str, str]
"""A sign, the same in ASCII, and a colour."""

_DONE: Look = ("✓", "+", "green")
_FAILED: Look = ("✗", "x", "red")
_SKIPPED: Look = ("\N{EN DASH}", "-", "dim")
_UNDONE: Look = ("↶", "<", "yellow")
_BUSY: Look = ("●", "*", "cyan")
_WAITING: Look = ("·", ".", "dim")

_LOOKS: Mapping[str, Look] = {
    "completed": _DONE,
    "failed": _FAILED,
    "skipped": _SKIPPED,
    "cancelled": _UNDONE,
    "rolled_back": _UNDONE,
    "rolling_back": _UNDONE,
    "running": _BUSY,
    "retrying": ("↻", "r", "yellow"),
    "paused": ("‖", "=", "yellow"),
    "interrupted": ("!", "!", "yellow"),
    "undecided": ("?", "?", "yellow"),
}


def look_of(console: Console, state: StepStatus | WorkflowState | str) -> tuple[str, str]:
    """Return the sign, as far as *console* can show it, and the colour of a state."""
    sign, plain, colour = _LOOKS.get(str(state), _WAITING)
    return (plain if console.options.ascii_only else sign), colour
