"""An execution cannot be begun, gone on with, or run again."""

import attrs

from szal.errors.root import SzalError

__all__ = [
    "CannotReuse",
    "DefinitionMismatch",
    "EngineClosed",
    "ExecutionNotFound",
    "ExecutionOwned",
    "LeaseLost",
    "WorkingDirectoryGone",
]


@attrs.define(repr=False, slots=False)
class ExecutionOwned(SzalError):
    """Somebody is running this execution now.

    >>> print(ExecutionOwned("order-42"))
    execution order-42 is being run already
    """

    execution_id: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} is being run already"


@attrs.define(repr=False, slots=False)
class EngineClosed(SzalError):
    """The engine is closed: it runs nothing any more; what it ran and has not ended goes on elsewhere.

    >>> print(EngineClosed())
    this engine is closed
    """

    def __str__(self) -> str:
        return "this engine is closed"


@attrs.define(repr=False, slots=False)
class ExecutionNotFound(SzalError):
    """The store knows no execution with this id, or none that it could continue.

    >>> print(ExecutionNotFound("order-42"))
    no execution order-42
    """

    execution_id: str

    def __str__(self) -> str:
        return f"no execution {self.execution_id}"


@attrs.define(repr=False, slots=False)
class LeaseLost(SzalError):
    """Another process has taken this execution over: what this one does for it is no longer recorded.

    >>> print(LeaseLost("order-42"))
    execution order-42 was taken over by another process
    """

    execution_id: str
    leases: frozenset[tuple[str, int]] = attrs.field(default=frozenset(), eq=False)
    """All leases that were found to be lost together with that one: execution and epoch."""

    def __str__(self) -> str:
        return f"execution {self.execution_id} was taken over by another process"


@attrs.define(repr=False, slots=False)
class DefinitionMismatch(SzalError):
    """An execution has another definition than the flow it was to go on with; a line for each difference.

    >>> print(DefinitionMismatch("order-42", ("step 'pay' was removed", "step 'ship' is new")))
    execution order-42 was started with a different definition: 2 differences
      - step 'pay' was removed
      - step 'ship' is new
    """

    execution_id: str
    differences: tuple[str, ...]

    def __str__(self) -> str:
        what = f"execution {self.execution_id} was started with a different definition"
        if len(self.differences) == 1:
            return f"{what}: {self.differences[0]}"
        lines = "".join(f"\n  - {difference}" for difference in self.differences[:20])
        more = f"\n  and {len(self.differences) - 20} more" if len(self.differences) > 20 else ""
        return f"{what}: {len(self.differences)} differences{lines}{more}"


@attrs.define(repr=False, slots=False)
class CannotReuse(SzalError):
    """A part of a flow needs steps that the execution has not completed whose outcomes it was to take.

    >>> print(CannotReuse("day1", "load", ("extract (failed)",)))
    step 'load' needs what execution day1 has not completed: extract (failed)
    """

    execution_id: str
    step: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return f"step {self.step!r} needs what execution {self.execution_id} has not completed: {', '.join(self.steps)}"


@attrs.define(repr=False, slots=False)
class WorkingDirectoryGone(SzalError):
    """The directory that an execution's commands run in is not there. It is left as it is.

    `directory` is None where it is the process's own, and there is no other yet.

    >>> print(WorkingDirectoryGone("o42", "/srv/shop"))
    execution o42: its commands ran in /srv/shop, which is not there: say where that is (--cwd DIR, EngineConfig.cwd)
    """

    execution_id: str
    directory: str | None

    def __str__(self) -> str:
        what, where = "the working directory of this process", "change to one that is, or give one"
        if self.directory is not None:
            what, where = f"its commands ran in {self.directory}, which", "say where that is"
        return f"execution {self.execution_id}: {what} is not there: {where} (--cwd DIR, EngineConfig.cwd)"
