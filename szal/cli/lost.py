"""Runs that did not come to their end, as something of theirs was lost in the middle."""

import attrs

from szal.errors import SzalError

__all__ = ["ExecutorGone", "RecordLost"]


@attrs.define
class RecordLost(SzalError):
    """The flow has run, or has begun to, but its store failed."""

    execution_id: str | None
    problem: str

    def __str__(self) -> str:
        what = "what has run" if self.execution_id is None else f"execution {self.execution_id}"
        return f"{what} could not be recorded: {self.problem}"


@attrs.define
class ExecutorGone(SzalError):
    """What made the attempts of a flow is gone. *execution_id*: of what is recorded, and can be gone on with."""

    execution_id: str | None
    problem: str

    def __str__(self) -> str:
        if self.execution_id is None:
            return self.problem
        return f"{self.problem}\nto go on: szal resume {self.execution_id}, on an executor that is there"
