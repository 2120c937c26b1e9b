"""The states of an execution and of a step, and which may follow which."""

import enum
from typing import Any

__all__ = ["StepStatus", "Stop", "WorkflowState"]


class NamedEnum(enum.Enum):
    """An enum whose value is its name in JSON ("RolledBack") and whose `str` is snake case ("rolled_back")."""

    __hash__ = object.__hash__
    """By identity, as they are compared: that of `Enum` is a call of Python for each look-up in a dict."""

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def named(cls, name: Any) -> Any:
        """Return the member that a text names, as `str` or JSON do; anything else as it is.

        >>> StepStatus.named("rolled_back") is StepStatus.named("RolledBack") is StepStatus.ROLLED_BACK
        True
        >>> StepStatus.named("gone")
        'gone'
        """
        if not isinstance(name, str):
            return name
        return next((member for member in cls if name in (str(member), member.value)), name)


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

    @property
    def has_ended(self) -> bool:
        """Whether the step is over: it has neither to begin nor to end."""
        return self not in (StepStatus.PENDING, StepStatus.RUNNING)


class Stop(NamedEnum):
    """Why a run stops before all its steps have ended.

    The first six *end* the execution: what has not begun is skipped, and it may be undone. The others *leave* it:
    what has not begun stays as it is, for whoever goes on with it; after GAVE_UP, that is nobody. Those that end it,
    INTERRUPTED, PAUSED and GAVE_UP are stored with the execution (`ExecutionRecord.stop`).

    >>> Stop.TIMED_OUT.reason, Stop.TIMED_OUT.ends, Stop.INTERRUPTED.ends
    ('flow timeout exceeded', True, False)
    """

    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"
    FAILED_FAST = "FailedFast"
    """One of its steps has failed, and its flow says `fail_fast`."""
    OVER_LIMIT = "OverLimit"
    """It has more sub-flows than it may, or they are nested too deeply."""
    REFUSED = "Refused"
    """The store takes everything but the outcome of one of its steps."""
    BROKEN = "Broken"
    """Something that the engine called, or the engine itself, raised what nobody can take for a step's failure."""
    INTERRUPTED = "Interrupted"
    """By a person: it is PAUSED until a person goes on with it."""
    PAUSED = "Paused"
    """By `Engine.pause`: as INTERRUPTED, but what runs may take its time, and is told nothing."""
    RELEASED = "Released"
    """By a machine: it stays RUNNING with its lease given back, and any process may go on with it at once."""
    DRAINED = "Drained"
    """The engine is being closed: as RELEASED, but what runs may take its time, and is told nothing."""
    FAILED_BY_STORE = "FailedByStore"
    """The store refused a write or a read: nothing more is recorded."""
    LEASE_LOST = "LeaseLost"
    """Another process runs it now."""
    LOST = "Lost"
    """BROKEN, and broken again in the attempt to end it: nothing more is recorded."""
    GAVE_UP = "GaveUp"
    """Its process died too often."""

    @property
    def reason(self) -> str:
        """Why what has not begun is skipped, and what `Cancelled` says to a handler that is told to stop."""
        return _REASONS.get(self, "cancelled")

    @property
    def ends(self) -> bool:
        """Whether the execution ends by it; otherwise somebody else goes on with it."""
        return self in (
            *(Stop.CANCELLED, Stop.TIMED_OUT, Stop.FAILED_FAST),
            *(Stop.OVER_LIMIT, Stop.REFUSED, Stop.BROKEN),
        )

    @property
    def breaks(self) -> bool:
        """Whether nothing more may be recorded."""
        return self in (Stop.FAILED_BY_STORE, Stop.LEASE_LOST, Stop.LOST)

    @property
    def is_patient(self) -> bool:
        """Whether handlers come to their end undisturbed, and an execution that they were the last of with them."""
        return self in (Stop.DRAINED, Stop.PAUSED)

    @property
    def is_of_a_person(self) -> bool:
        """Whether a person has to go on with the execution: nobody recovers it."""
        return self in (Stop.INTERRUPTED, Stop.PAUSED)

    @property
    def hurries(self) -> bool:
        """Whether what can be ended by force is, at once: somebody else runs the same by now."""
        return self is Stop.LEASE_LOST

    def outranks(self, other: "Stop") -> bool:
        """Whether a run that is being left for *other* is left for this from now on."""
        return (self.breaks, not self.is_patient) > (other.breaks, not other.is_patient)


_REASONS = {
    Stop.TIMED_OUT: "flow timeout exceeded",
    Stop.FAILED_FAST: "flow failed",
    Stop.OVER_LIMIT: "flow failed",
    Stop.REFUSED: "flow failed",
    Stop.BROKEN: "flow failed",
    Stop.INTERRUPTED: "interrupted",
    Stop.RELEASED: "interrupted",
    Stop.DRAINED: "the engine was closed",
    Stop.PAUSED: "paused",
}


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
# The pairs that szal-rs allows. No state follows itself.
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
