"""Every exception szal raises, in one tree under `SzalError`.

An exception carries its facts as fields and prints itself from them, so it survives pickling and a
caller never has to parse a message. Its repr is the one that every exception has: attrs' own would double
the time that importing this module takes.
"""

import signal
from collections.abc import Sequence
from typing import Final

import attrs

from szal.interruption import is_interruption
from szal.number import check
from szal.raised import name_of
from szal.storable import storable

__all__ = [
    "Cancelled",
    "CannotReuse",
    "CommandOutputUnusable",
    "ConditionError",
    "CycleDetected",
    "DecodeError",
    "DefinitionMismatch",
    "EncodeError",
    "EngineClosed",
    "ExecutionNotFound",
    "ExecutionOwned",
    "ExitStatusUnknown",
    "FlowFailed",
    "FlushTimeout",
    "GiveUp",
    "HandlerNotFound",
    "InvalidFlow",
    "InvalidInputs",
    "LeaseLost",
    "LoadError",
    "MigrationFailed",
    "MissingExtra",
    "MissingValue",
    "NotComparable",
    "NotMigrated",
    "OutputNotSerializable",
    "RetryAfter",
    "RetryExhausted",
    "ShellFailed",
    "ShellNotSupported",
    "SinkFull",
    "SkipStep",
    "StepError",
    "StepFailed",
    "StepTimeout",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreUnavailable",
    "SubFlowError",
    "SzalError",
    "ValueNotJson",
    "WorkingDirectoryGone",
    "WriteFailed",
    "describe",
]

MAX_TEXT: Final = 16_384
"""How many characters are left of an exception's text that is cut: one of more than twice as many."""

UNPRINTABLE: Final = "<unprintable>"
"""What stands for an exception whose own text cannot be had."""


class SzalError(Exception):
    """The root of every error that szal raises on purpose.

    >>> issubclass(StepTimeout, SzalError), issubclass(SinkFull, SzalError)
    (True, True)
    """


# -- the call was wrong ------------------------------------------------------------------------------


@attrs.define(repr=False, slots=False)
class InvalidFlow(SzalError):
    """A flow that cannot be run. Lists every problem found, each naming its step.

    >>> print(InvalidFlow("ci", ("step 'test': max_retries is negative (-1)",)))
    invalid flow 'ci': step 'test': max_retries is negative (-1)
    """

    flow: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return _with_problems(f"invalid flow {self.flow!r}", self.problems)


def _with_problems(what: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{what}: {problems[0]}"
    lines = "".join(f"\n  - {problem}" for problem in problems)
    return f"{what}: {len(problems)} problems{lines}"


@attrs.define(repr=False, slots=False)
class CycleDetected(InvalidFlow):
    """The dependencies of a flow form a cycle; `path` names its steps, the first one again at the end.

    >>> print(CycleDetected("ci", ("dependency cycle: a -> b -> a",), ("a", "b", "a")))
    invalid flow 'ci': dependency cycle: a -> b -> a
    """

    path: tuple[str, ...] = ()


@attrs.define(repr=False, slots=False)
class InvalidInputs(SzalError, ValueError):
    """What a flow was given is not what it declares. Lists every problem found; raised before anything is recorded.

    `missing` are the names of required inputs that were not given.

    >>> print(InvalidInputs("ci", ("unknown input 'oot'; did you mean 'out'?",)))
    invalid inputs for flow 'ci': unknown input 'oot'; did you mean 'out'?
    """

    flow: str
    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _with_problems(f"invalid inputs for flow {self.flow!r}", self.problems)


@attrs.define(repr=False, slots=False)
class HandlerNotFound(SzalError):
    """Some steps have nothing to run (or undo) them. Raised before anything runs.

    >>> print(HandlerNotFound(("build", "test")))
    no handler for steps: build, test
    """

    steps: tuple[str, ...]
    kind: str = "handler"

    def __str__(self) -> str:
        return f"no {self.kind} for step{'s' * (len(self.steps) > 1)}: {', '.join(self.steps)}"


@attrs.define(repr=False, slots=False)
class ShellNotSupported(HandlerNotFound):
    """Some steps are commands, and this system cannot run them: it is not a POSIX one. Raised before anything runs.

    >>> print(ShellNotSupported(("build",), missing="os.killpg"))
    step build is a command: that needs a POSIX system, and this one has no os.killpg
    """

    missing: str = ""

    def __str__(self) -> str:
        which = (
            f"steps {', '.join(self.steps)} are commands"
            if len(self.steps) > 1
            else f"step {self.steps[0]} is a command"
        )
        return f"{which}: that needs a POSIX system, and this one has no {self.missing}"


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
class MigrationFailed(SzalError):
    """A definition that cannot be brought to another version, or a migration that cannot be registered.

    >>> print(MigrationFailed("ci", "no migration from version 2 is registered"))
    flow 'ci': no migration from version 2 is registered
    """

    flow: str
    problem: str

    def __str__(self) -> str:
        return f"flow {self.flow!r}: {self.problem}" if self.flow else self.problem


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


@attrs.define(repr=False, slots=False)
class MissingExtra(SzalError, ImportError):
    """An optional library is not installed; the message says which extra brings it.

    >>> print(MissingExtra("the command line", "cli"))
    the command line needs an optional part of szal: pip install "szal[cli]"
    """

    feature: str
    extra: str

    def __str__(self) -> str:
        return f'{self.feature} needs an optional part of szal: pip install "szal[{self.extra}]"'


# -- JSON and text ------------------------------------------------------------------------


@attrs.define(repr=False, slots=False)
class DecodeError(SzalError):
    """JSON that is not what it should be. `path` says where, as in ``result.steps[3].status``.

    >>> print(DecodeError("result.steps[3].status", "unknown status 'Done'"))
    result.steps[3].status: unknown status 'Done'
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


@attrs.define(repr=False, slots=False)
class EncodeError(SzalError):
    """A value that JSON cannot hold; `path` says where, `problem` what stands there.

    >>> print(EncodeError("inputs['when']", "datetime"))
    inputs['when']: datetime
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@attrs.define(repr=False, slots=False)
class ConditionError(SzalError):
    """A condition, path or template that does not parse; prints the text with a caret at `position`.

    >>> print(ConditionError("a = 1", 2, "use == to compare"))
    use == to compare at position 2
      a = 1
        ^
    """

    text: str
    position: int
    problem: str

    def __str__(self) -> str:
        start = max(0, self.position - 40)
        shown = self.text[start : self.position + 40].translate(_ONE_LINE)
        caret = " " * (self.position - start)
        return f"{self.problem} at position {self.position}\n  {shown}\n  {caret}^"


_ONE_LINE = dict.fromkeys((*range(32), 127, 133, 8232, 8233), " ")


@attrs.define(repr=False, slots=False)
class LoadError(SzalError):
    """A flow file that cannot be read; one line per problem, each with its place in the file.

    >>> print(LoadError("ci.yaml", (":3:5: step 'test' needs an unknown step",)))
    ci.yaml:3:5: step 'test' needs an unknown step
    """

    file: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.file}{problem}" for problem in self.problems)


# -- a step, or a flow, did not succeed --------------------------------------------------------------


class StepError(SzalError):
    """A step did not complete. Its text is a complete message, and goes into records as it is.

    >>> describe(StepFailed("build", "ValueError: no"))
    'step failed: build: ValueError: no'
    """


@attrs.define(repr=False, slots=False)
class StepTimeout(StepError):
    """An attempt ran past its limit (or past its flow's).

    >>> print(StepTimeout("build", 2.5))
    step timeout: build after 2500ms
    """

    step: str
    timeout: float

    def __str__(self) -> str:
        return f"step timeout: {self.step} after {self.timeout * 1000:.0f}ms"


@attrs.define(repr=False, slots=False)
class RetryExhausted(StepError):
    """The last allowed attempt failed; `__cause__` is its exception.

    >>> print(RetryExhausted("fetch", 3, "OSError: no route to host"))
    retry exhausted: fetch after 3 attempts: OSError: no route to host
    """

    step: str
    attempts: int
    error: str

    def __str__(self) -> str:
        return f"retry exhausted: {self.step} after {self.attempts} attempts: {self.error}"


@attrs.define(repr=False, slots=False)
class StepFailed(StepError):
    """What `FlowResult.raise_for_failure` raises for a step whose handler raised; `__cause__` is that exception.

    >>> print(StepFailed("build", "ValueError: no such file"))
    step failed: build: ValueError: no such file
    """

    step: str
    error: str

    def __str__(self) -> str:
        return f"step failed: {self.step}: {self.error}"


@attrs.define(repr=False, slots=False)
class FlowFailed(SzalError):
    """What `FlowResult.raise_for_failure` raises where no step failed: a cancelled, timed out or paused flow.

    >>> print(FlowFailed("ci", "cancelled"))
    flow 'ci' did not succeed: cancelled
    """

    flow: str
    error: str

    def __str__(self) -> str:
        return f"flow {self.flow!r} did not succeed: {self.error}"


@attrs.define(repr=False, slots=False)
class OutputNotSerializable(EncodeError, StepError):
    """A handler returned something that JSON cannot hold; `path` says where, as in ``output["when"]``.

    >>> print(OutputNotSerializable("output['when']", "datetime"))
    output['when']: datetime
    """


@attrs.define(repr=False, slots=False)
class ValueNotJson(EncodeError, StepError):
    """A condition or a template reads what has no JSON; `path` says where, as in ``steps.load.output["when"]``.

    >>> print(ValueNotJson('steps.load.output["when"]', "datetime"))
    steps.load.output["when"]: datetime (conditions and templates read nothing but JSON)
    """

    def __str__(self) -> str:
        return f"{self.path}: {self.problem} (conditions and templates read nothing but JSON)"


@attrs.define(repr=False, slots=False)
class MissingValue(StepError):
    """A template of a flow that found nothing. The step fails, and is not tried again.

    >>> print(MissingValue("inputs.oot", "inputs has 'out'"))
    nothing at inputs.oot: inputs has 'out' (where it may be missing, write {{inputs.oot?}})
    """

    path: str
    there_is: str
    """What there is, as far as the path leads."""

    def __str__(self) -> str:
        return f"nothing at {self.path}: {self.there_is} (where it may be missing, write {{{{{self.path}?}}}})"


@attrs.define(repr=False, slots=False)
class NotComparable(StepError):
    """A condition of a flow that asks which of two values comes first, where they have no order. The step fails.

    >>> print(NotComparable("steps.a.output > 3", "text", "a number", step="b"))
    condition of step 'b': steps.a.output > 3: text and a number have no order
    """

    comparison: str
    left: str
    right: str
    step: str | None = None

    def __str__(self) -> str:
        where = "condition" if self.step is None else f"condition of step {self.step!r}"
        return f"{where}: {self.comparison}: {self.left} and {self.right} have no order"


@attrs.define(repr=False, slots=False)
class ShellFailed(StepError):
    """A command ended with an exit code other than 0; a negative one is the signal that killed its shell.

    >>> print(ShellFailed("make", 2, "cc: hello.c: No such file\\n"))
    command failed with exit status 2: cc: hello.c: No such file
    """

    command: str
    exit_code: int
    stderr: str

    def __str__(self) -> str:
        number = -self.exit_code if self.exit_code < 0 else self.exit_code - 128  # a shell's way to say so
        killed = f"killed by {signal.Signals(number).name}" if number in set(signal.Signals) else ""
        if self.exit_code < 0:
            how = f"command was {killed or f'killed by signal {number}'}"
        else:
            how = f"command failed with exit status {self.exit_code}{killed and f' ({killed})'}"
        lines = self.stderr[-4000:].rstrip().splitlines()[-10:]
        if len(lines) > 1:
            return how + ":" + "".join(f"\n  {line}" for line in lines)
        return f"{how}: {lines[0]}" if lines else how


@attrs.define(repr=False, slots=False)
class CommandOutputUnusable(StepError):
    """A command that succeeded, and printed what its ``output`` cannot be made of.

    >>> print(CommandOutputUnusable("json", "line 1, column 1: expecting value"))
    the command's stdout is not what output: json takes: line 1, column 1: expecting value
    """

    output: str
    problem: str

    def __str__(self) -> str:
        return f"the command's stdout is not what output: {self.output} takes: {self.problem}"


@attrs.define(repr=False, slots=False)
class ExitStatusUnknown(StepError):
    """A command has ended, and nobody can tell how: it may have failed.

    >>> print(ExitStatusUnknown("this process ignores SIGCHLD"))
    the command has ended, but its exit status is not known: this process ignores SIGCHLD
    """

    reason: str

    def __str__(self) -> str:
        return f"the command has ended, but its exit status is not known: {self.reason}"


@attrs.define(repr=False, slots=False)
class SubFlowError(StepError):
    """A sub_flow step that names no flow, names an unknown one, or whose flow did not succeed.

    >>> print(SubFlowError("sub-flow 'deploy' not found in storage"))
    sub-flow 'deploy' not found in storage
    """

    problem: str

    def __str__(self) -> str:
        return self.problem


# -- what handlers may raise, or see raised ----------------------------------------------------------


@attrs.define(repr=False, slots=False)
class GiveUp(SzalError):
    """Raised by a handler: fail now, whatever retries are left.

    >>> raise GiveUp("the licence has expired")
    Traceback (most recent call last):
    szal.errors.GiveUp: the licence has expired
    """

    reason: str = "gave up"

    def __str__(self) -> str:
        return str(self.reason)


@attrs.define(repr=False, slots=False)
class RetryAfter(SzalError):
    """Raised by a handler: this attempt failed, try again in `seconds` (if attempts are left).

    Takes the place of the step's own backoff, and is not capped by ``max_retry_delay``. A time that is past, a negative
    number, is at once. Raises TypeError or ValueError for what is no number of seconds.

    >>> raise RetryAfter(30)
    Traceback (most recent call last):
    szal.errors.RetryAfter: retry after 30s
    """

    seconds: float = attrs.field()

    @seconds.validator
    def _is_number(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        check(f"{attribute.name} of RetryAfter", value)

    def __str__(self) -> str:
        return f"retry after {self.seconds:g}s"


@attrs.define(repr=False, slots=False)
class SkipStep(SzalError):
    """Raised by a handler: there is nothing to do. The step is skipped with this reason, not failed.

    >>> raise SkipStep("nothing has changed")
    Traceback (most recent call last):
    szal.errors.SkipStep: nothing has changed
    """

    reason: str = attrs.field(default="skipped by its handler")

    @reason.validator
    def _is_text(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{attribute.name} of SkipStep is not a string ({value!r})")

    def __str__(self) -> str:
        return self.reason


@attrs.define(repr=False, slots=False)
class Undecided(StepError):
    """A step that must not run twice may or may not have been done when its process died, and nobody has said."""

    step: str

    def __str__(self) -> str:
        return f"{self.step} ended before it was decided whether it had been done"


@attrs.define(repr=False, slots=False)
class Cancelled(SzalError):
    """Raised by `StepContext.check` in a handler that is to end: its run is stopped, or nobody waits for it any more.

    >>> print(Cancelled("flow timeout exceeded"))
    flow timeout exceeded
    """

    reason: str = "cancelled"

    def __str__(self) -> str:
        return self.reason


# -- stores ------------------------------------------------------------------------------------------


class StoreError(SzalError):
    """A store could not do what was asked of it.

    >>> issubclass(WriteFailed, StoreError)
    True
    """


@attrs.define(repr=False, slots=False)
class StoreUnavailable(StoreError):
    """A store that cannot serve just now: locked, out of space, read-only, unreachable. It may get better."""

    store: str
    problem: str

    def __str__(self) -> str:
        return f"{self.store}: {self.problem}"


@attrs.define(repr=False, slots=False)
class StoreFailed(StoreError):
    """What trying again cannot cure: a file that is no database, a value over a limit, a refused statement."""

    store: str
    problem: str

    def __str__(self) -> str:
        return f"{self.store}: {self.problem}"


@attrs.define(repr=False, slots=False)
class NotMigrated(StoreError):
    """A store was used before its tables were made, after some of it was dropped, or after a newer szal changed it."""

    store: str
    missing: str = "table szal_executions"
    newer: tuple[str, ...] = ()
    """The migrations of a newer szal, where that is what is wrong."""

    def __str__(self) -> str:
        if self.newer:
            return (
                f"{self.store}: a newer version of szal has changed the tables ({', '.join(self.newer)}): update szal"
            )
        return f"{self.store}: {self.missing} is missing: call store.migrate() once"


@attrs.define(repr=False, slots=False)
class MissingDriver(StoreError, ImportError):
    """The driver of a database cannot be loaded, or not the system library that it needs."""

    database: str
    requirement: str
    problem: str

    def __str__(self) -> str:
        return f'{self.database} needs {self.requirement}: pip install "{self.requirement}" ({self.problem})'


@attrs.define(repr=False, slots=False)
class StoreClosed(StoreError):
    """A store or a sink was used after `close`."""

    store: str

    def __str__(self) -> str:
        return f"{self.store} is closed"


@attrs.define(repr=False, slots=False)
class SinkFull(StoreError):
    """A save found no room behind the writer for `waited` seconds; nothing was queued. The database is too slow.

    >>> print(SinkFull("runs.db", 10_000, 30.0))
    runs.db: 10000 writes are pending, and none was committed within 30s
    """

    store: str
    pending: int
    waited: float

    def __str__(self) -> str:
        return f"{self.store}: {self.pending} writes are pending, and none was committed within {self.waited:g}s"


@attrs.define(repr=False, slots=False)
class FlushTimeout(StoreError):
    """Some writes were not committed in time. They are still queued, and will be written when they can be.

    `problem` is what keeps them from it, where the database has said so.

    >>> print(FlushTimeout("runs.db", ("order-42",), 5.0, "database is locked"))
    runs.db: not written after 5s: order-42 (database is locked)
    """

    store: str
    execution_ids: tuple[str, ...]
    timeout: float
    problem: str | None = None

    def __str__(self) -> str:
        why = "" if self.problem is None else f" ({self.problem})"
        return f"{self.store}: not written after {self.timeout:g}s: {_some(self.execution_ids)}{why}"


@attrs.define(repr=False, slots=False)
class WriteFailed(StoreError):
    """Some writes are lost for good; `errors` says why, in the order of `execution_ids`.

    >>> print(WriteFailed("runs.db", ("order-42",), (StoreFailed("runs.db", "string or blob too big"),)))
    runs.db: could not write order-42 (StoreFailed: runs.db: string or blob too big)
    """

    store: str
    execution_ids: tuple[str, ...]
    errors: tuple[Exception, ...] = ()

    def __str__(self) -> str:
        why = f" ({describe(self.errors[0])})" if self.errors else ""
        return f"{self.store}: could not write {_some(self.execution_ids)}{why}"


def _some(execution_ids: Sequence[str]) -> str:
    more = f" and {len(execution_ids) - 20} more" if len(execution_ids) > 20 else ""
    return ", ".join(execution_ids[:20]) + more


def describe(error: BaseException) -> str:
    """Return *error* as it is written into results: a step's own errors as they are, others with their type.

    Raises nothing but interruptions, whatever *error* is.

    >>> describe(ValueError("no such file"))
    'ValueError: no such file'
    >>> describe(StepTimeout("build", 2.5))
    'step timeout: build after 2500ms'
    """
    kind = type(error)
    text = _say(error)
    if text is None:
        text = UNPRINTABLE
    elif issubclass(kind, StepError) and not issubclass(kind, OutputNotSerializable):
        return text
    name = storable(name_of(kind))
    return cut(f"{name}: {text}" if text else name)


def text_of(error: BaseException) -> str:
    """Return what *error* says of itself, cut where that is very long. Raises nothing but interruptions."""
    text = _say(error)
    return UNPRINTABLE if text is None else text


def _say(error: BaseException) -> str | None:
    """Return what *error* says of itself, cut; None where it cannot: its ``__str__`` is foreign code."""
    try:
        text = "".join((str(error),))  # no class of its own, which may have methods of its own
    except BaseException as broken:
        if is_interruption(broken):
            raise
        return None
    return cut(storable(text))


def cut(text: str) -> str:
    """Return the beginning and the end of a very long text, and how long it was; another one as it is.

    A text may be as long again as it is after that, so that one that was cut, and put into another, stays whole.

    >>> shown = cut("x" * 1_000_000)
    >>> len(shown) == MAX_TEXT, "[... cut: 1000000 characters in all ...]" in shown
    (True, True)
    """
    if len(text) <= 2 * MAX_TEXT:
        return text
    mark = f"[... cut: {len(text)} characters in all ...]"
    end = MAX_TEXT // 4
    return f"{text[: MAX_TEXT - end - len(mark)]}{mark}{text[-end:]}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word closest to *word*, or nothing."""
    close = closest(word, known)
    return "" if close is None else f"; did you mean {close!r}?"


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word closest to *word*, be it in capitals or not; None where none is close."""
    from difflib import get_close_matches  # slow to import, and only needed for an error

    folded = {each.casefold(): each for each in reversed(known)}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None
