"""What became of one execution of many."""

from enum import Enum
from typing import Final

import attrs

from szal.cli.standing import PAUSED
from szal.errors import SzalError
from szal.model.state import WorkflowState

__all__ = ["Already", "Done", "Fate"]


class Fate(Enum):
    """What became of one execution."""

    COMPLETED = "completed"
    ASKED = "asked to cancel"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    TAKEN = "taken by another process"
    ALREADY = "done already"
    CANNOT = "cannot go on"
    STOPPED = "stopped"

    @classmethod
    def of(cls, state: WorkflowState | None) -> "Fate":
        """Return what it is to end in that state, or to be left in it."""
        return _FATES.get(state, cls.STOPPED)

    @property
    def status(self) -> int:
        """The exit status that it comes to."""
        if self is Fate.PAUSED:
            return PAUSED
        return 1 if self in (Fate.FAILED, Fate.ROLLED_BACK, Fate.CANCELLED, Fate.CANNOT) else 0


@attrs.frozen(kw_only=True)
class Done:
    """What became of one, and `became`, the execution that it went on as, if that is another."""

    fate: Fate
    seconds: float
    detail: str = ""
    became: str | None = None


class Already(SzalError):
    """There is nothing to do for an execution any more; its text says why."""


_FATES: Final[dict[WorkflowState | None, Fate]] = {
    WorkflowState.COMPLETED: Fate.COMPLETED,
    WorkflowState.FAILED: Fate.FAILED,
    WorkflowState.ROLLED_BACK: Fate.ROLLED_BACK,
    WorkflowState.CANCELLED: Fate.CANCELLED,
    WorkflowState.PAUSED: Fate.PAUSED,
}
