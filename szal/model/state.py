"""The states of an execution and of a step, and which may follow which."""

import enum

__all__ = ["StepStatus", "WorkflowState"]


class NamedEnum(enum.Enum):
    """An enum whose value is its name in JSON ("RolledBack") and whose `str` is snake case ("rolled_back")."""

    def __str__(self) -> str:
        return self.name.lower()


class StepStatus(NamedEnum):
    """How far a step has come; every step of a finished run has one of the last four.

    >>> StepStatus.ROLLED_BACK.value, str(StepStatus.ROLLED_BACK)
    ('RolledBack', 'rolled_back')
    """

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    ROLLED_BACK = "RolledBack"


class WorkflowState(NamedEnum):
    """The state of one execution.

    >>> WorkflowState.CREATED.can_become(WorkflowState.RUNNING)
    True
    >>> WorkflowState.COMPLETED.can_become(WorkflowState.RUNNING)
    False
    """

    CREATED = "Created"
    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    CANCELLED = "Cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow. FAILED is not terminal: a failed execution can still be rolled back."""
        return not _NEXT[self]

    @property
    def is_live(self) -> bool:
        """Whether an engine may still be at work on it, or will be: its record must not be pruned."""
        return self in _LIVE

    def can_become(self, other: "WorkflowState") -> bool:
        """Whether the engine may take an execution from this state to *other*."""
        return other in _NEXT[self]


_S = WorkflowState
# The pairs that szal-rs allows; a state that is not its own row's target never repeats itself.
_NEXT: dict[WorkflowState, frozenset[WorkflowState]] = {
    _S.CREATED: frozenset({_S.RUNNING}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.ROLLING_BACK}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.CANCELLED}),
    _S.FAILED: frozenset({_S.ROLLING_BACK}),
    _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK, _S.FAILED}),
    _S.COMPLETED: frozenset(),
    _S.ROLLED_BACK: frozenset(),
    _S.CANCELLED: frozenset(),
}
_LIVE = frozenset({_S.CREATED, _S.RUNNING, _S.PAUSED, _S.ROLLING_BACK})
