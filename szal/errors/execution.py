"""An execution cannot be begun, gone on with, or run again."""

import re

import attrs

from szal.errors.root import SzalError

__all__ = [
    "CannotRetry",
    "CannotReuse",
    "ConcurrencyKeyTaken",
    "DefinitionMismatch",
    "EngineClosed",
    "ExecutionNotFound",
    "ExecutionOwned",
    "ExecutorBroken",
    "LeaseLost",
    "SecretMissing",
    "WorkingDirectoryGone",
    "secret_variable",
]


@attrs.define(repr=False, slots=False)
class ExecutionOwned(SzalError):
    """Somebody is running this execution now.

    Cause: another process runs the execution, or another thread of this one; or it died within the last `lease_ttl`
        seconds (30), on a machine that cannot be looked at from here.
    Next: wait for it; `szal doctor` tells which process that is, and until when it holds the lease.

    >>> print(ExecutionOwned("order-42"))
    execution order-42 is being run already
    """

    execution_id: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} is being run already"


@attrs.define(repr=False, slots=False)
class ConcurrencyKeyTaken(SzalError):
    """Another execution has the same `concurrency_key`, and has not ended.

    Cause: it runs, or waits for a signal or a time, or was paused; or its process died within the last `lease_ttl`
        seconds.
    Next: wait for it (`run` with `if_running="wait"`), or `submit` what is to come after it; `szal show` with its id
        tells how far it is, `szal resume` and `szal cancel` end one that waits.

    >>> print(ConcurrencyKeyTaken("order-43", "customer-7", "order-42"))
    execution order-43 has to wait: 'customer-7' is taken by execution order-42
    """

    execution_id: str
    key: str
    holder: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} has to wait: {self.key!r} is taken by execution {self.holder}"


@attrs.define(repr=False, slots=False)
class EngineClosed(SzalError):
    """The engine is closed: it runs nothing any more; what it ran and has not ended goes on elsewhere.

    Cause: `close` or `release` was called, or the `with` block of the engine has ended.
    Next: make a new `Engine`; what this one has left goes on there with `recover`.

    >>> print(EngineClosed())
    this engine is closed
    """

    def __str__(self) -> str:
        return "this engine is closed"


@attrs.define(repr=False, slots=False)
class ExecutionNotFound(SzalError):
    """The store knows no execution with this id, or none that it could continue.

    Cause: the id is another one, the store is another one, or the execution was pruned.
    Next: `szal list` shows those that there are; compare the URL of the store (`--store`, `SZAL_STORE`).

    >>> print(ExecutionNotFound("order-42"))
    no execution order-42
    """

    execution_id: str

    def __str__(self) -> str:
        return f"no execution {self.execution_id}"


@attrs.define(repr=False, slots=False)
class ExecutorBroken(SzalError):
    """The engine's executor takes no more attempts: what it was to run is left as it stands, and can be gone on with.

    Cause: a process of the pool died (killed for its memory, a crash, `os._exit`), which breaks a
        `ProcessPoolExecutor` for good; or the executor was shut down before the run had ended; or the scheduler of a
        dask cluster is out of reach. Where it is unknown how far a step came, `was_lost` is true.
    Next: make an engine with another executor, and `resume`: what completed is kept. Without a store, run it again.

    >>> print(ExecutorBroken("load", "BrokenProcessPool: a child process terminated abruptly"))
    the executor took step load no more: BrokenProcessPool: a child process terminated abruptly
    """

    step: str
    error: str
    was_lost: bool = False

    def __str__(self) -> str:
        what = f"was lost in the middle of step {self.step}" if self.was_lost else f"took step {self.step} no more"
        return f"the executor {what}: {self.error}"


@attrs.define(repr=False, slots=False)
class LeaseLost(SzalError):
    """Another process has taken this execution over: what this one does for it is no longer recorded.

    Cause: this process did not renew its lease in time, as it was suspended, starved or cut off from the database;
        another one goes on.
    Next: nothing: what was committed is kept, and the other process has it. If that happens often, raise
        `EngineConfig.lease_ttl`, and see whether the database is slow: `szal doctor`.

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

    Cause: the id was used for another flow, or the code has changed; or a migration drops a step that has run.
    Next: `szal show ID` shows what it began with. Go on as it was recorded (`szal resume ID`), run what changed again
        (`szal rerun ID FILE`), or use another id.

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

    Cause: a part of a flow was to be run, and what comes before it has not completed in the execution that was named.
    Next: name an execution in which it has (`--reuse ID`), or begin further up (`--from STEP`).

    >>> print(CannotReuse("day1", "load", ("extract (failed)",)))
    step 'load' needs what execution day1 has not completed: extract (failed)
    """

    execution_id: str
    step: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return f"step {self.step!r} needs what execution {self.execution_id} has not completed: {', '.join(self.steps)}"


@attrs.define(repr=False, slots=False)
class CannotRetry(SzalError):
    """The failed steps of an execution cannot be run again under its own id: it is left as it is.

    Cause: it was undone or cancelled, so that what completed does not stand any more; or it is a sub-flow.
    Next: `szal rerun ID` runs it as a new execution.

    >>> print(CannotRetry("order-42", "is rolled_back, and not failed"))
    execution order-42 is rolled_back, and not failed
    """

    execution_id: str
    problem: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} {self.problem}"


@attrs.define(repr=False, slots=False)
class WorkingDirectoryGone(SzalError):
    """The directory that an execution's commands run in is not there. It is left as it is.

    `directory` is None where it is the process's own, and there is no other yet.

    Cause: the folder was moved or deleted, or the execution began on another machine.
    Next: make it again, or say where it is now: `szal resume ID --cwd DIR`.

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


@attrs.define(repr=False, slots=False)
class SecretMissing(SzalError):
    """An execution cannot go on without inputs that were not recorded, as they must not be seen. It is left as it is.

    Cause: an input is declared `secret`, or `EngineConfig.redact` masks it: whoever goes on has to have it again.
    Next: set the environment variable that the message names, or give it: `szal resume ID -i NAME=…`,
        `engine.resume(id, inputs={…})`; in a program, `EngineConfig.secrets` says where secrets are.

    >>> print(SecretMissing("order-42", ("api-key",)))
    execution order-42: the input 'api-key' was not recorded, as it is secret: set SZAL_SECRET_API_KEY, or give it
    """

    execution_id: str
    inputs: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(map(repr, self.inputs))
        is_one = len(self.inputs) == 1
        what = f"the input {names} was" if is_one else f"the inputs {names} were"
        why, each = ("it is secret", "it") if is_one else ("they are secret", "them")
        variables = ", ".join(secret_variable(name) for name in self.inputs)
        return f"execution {self.execution_id}: {what} not recorded, as {why}: set {variables}, or give {each}"


_OTHER = re.compile(r"[^A-Za-z0-9]")


def secret_variable(name: str) -> str:
    """Return the environment variable that the secret input called *name* is taken from where it is not given.

    >>> secret_variable("api-key")
    'SZAL_SECRET_API_KEY'
    """
    return f"SZAL_SECRET_{_OTHER.sub('_', name).upper()}"
