"""A step, or a flow, did not succeed."""

import attrs

from szal.errors.root import SzalError, partial_output_of
from szal.errors.tail import tails_of, with_tails
from szal.errors.value import EncodeError

__all__ = [
    "AroundFailed",
    "FlowFailed",
    "MissingValue",
    "NotComparable",
    "OutputMasked",
    "OutputNotSerializable",
    "ResourceHeld",
    "RetryExhausted",
    "StepError",
    "StepFailed",
    "StepTimeout",
    "SubFlowError",
    "ThreadHeldUp",
    "Undecided",
    "ValueNotJson",
]


class StepError(SzalError):
    """A step did not complete. Its text is a complete message, and goes into records as it is.

    >>> describe(StepFailed("build", "ValueError: no"))
    'step failed: build: ValueError: no'
    """


@attrs.define(repr=False, slots=False)
class StepTimeout(StepError):
    """An attempt ran past its limit (or past its flow's). Of a command, the text ends with what it printed last.

    Cause: the handler took longer than the step's `timeout`, or than what was left of the flow's, or its attempts took
        longer together than its `total_timeout`, or what it polls for (`until`) did not come within `until_timeout`.
    Next: raise `timeout`, have the handler look at `ctx.cancelled` so that it ends in time, or retry it
        (`max_retries`).

    >>> print(StepTimeout("build", 2.5))
    step timeout: build after 2500ms
    """

    step: str
    timeout: float
    in_all: bool = False
    """Whether that is the limit of all attempts together (`StepDef.total_timeout`)."""
    error: str | None = None
    """What the last attempt failed with, where it was before the limit that no other may follow."""
    polls: int | None = None
    """After how many polls, where that is the limit of all of them together (`StepDef.until_timeout`)."""

    def __str__(self) -> str:
        how = f"step timeout: {self.step} after {self.timeout * 1000:.0f}ms"
        if self.polls is not None:
            how += f" and {self.polls} {'poll' if self.polls == 1 else 'polls'}"
        how += ", all attempts together" * self.in_all + (f": {self.error}" if self.error else "")
        return with_tails(how, *tails_of(partial_output_of(self)))


@attrs.define(repr=False, slots=False)
class ResourceHeld(StepError):
    """A step of a flow that a handler runs needs what the step of that handler has (`StepDef.resources`).

    Cause: a handler called `Engine.run`, and both its own step and one of that flow need the same resource.
    Next: have one of the two steps need it; or allow more of it: `EngineConfig.capacities`.

    >>> print(ResourceHeld("load", "db", 1))
    load needs 1 of 'db', which the step holds whose handler runs this flow: it would wait for itself
    """

    step: str
    resource: str
    needs: int

    def __str__(self) -> str:
        held = "which the step holds whose handler runs this flow: it would wait for itself"
        return f"{self.step} needs {self.needs} of {self.resource!r}, {held}"


@attrs.define(repr=False, slots=False)
class RetryExhausted(StepError):
    """The last allowed attempt failed; `__cause__` is its exception.

    Cause: each attempt that was allowed has failed; the text tells of the last.
    Next: mend what the text names, then `szal rerun ID`; what completed is kept.

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

    Cause: the step's handler raised.
    Next: `szal show ID` has the error in full; mend it, then `szal rerun ID`: what completed is kept.

    >>> print(StepFailed("build", "ValueError: no such file"))
    step failed: build: ValueError: no such file
    """

    step: str
    error: str

    def __str__(self) -> str:
        return f"step failed: {self.step}: {self.error}"


@attrs.define(repr=False, slots=False)
class AroundFailed(StepError):
    """What is entered around every attempt raised, on entering or on leaving; `__cause__` is its exception.

    Cause: a function of `EngineConfig.around`, or the context manager that it returned, raised.
    Next: mend what the text names. `retry_on` and `give_up_on` of the step are asked about the cause.

    >>> print(AroundFailed(0, "session", "leaving", "OSError: connection reset"))
    around[0] (session), leaving: OSError: connection reset
    """

    place: int
    """Of the function in `EngineConfig.around`."""
    name: str
    when: str
    """"entering" or "leaving"."""
    error: str
    after: str | None = None
    """What the attempt had failed with before, where it had."""

    def __str__(self) -> str:
        before = f", after {self.after}" if self.after else ""
        return f"around[{self.place}] ({self.name}), {self.when}: {self.error}{before}"


@attrs.define(repr=False, slots=False)
class FlowFailed(SzalError):
    """What `FlowResult.raise_for_failure` raises where no step failed: a cancelled, timed out or paused flow.

    Cause: the flow was cancelled, ran out of time, or waits.
    Next: `szal show ID` tells why, and the command with which it goes on.

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

    Cause: a handler returned something that JSON has no form for; outputs are recorded, and read by conditions.
    Next: return text, numbers, lists and objects, as with `str(value)` or `value.isoformat()`.

    >>> print(OutputNotSerializable("output['when']", "datetime"))
    output['when']: datetime
    """


@attrs.define(repr=False, slots=False)
class ValueNotJson(EncodeError, StepError):
    """A condition or a template reads what has no JSON; `path` says where, as in ``steps.load.output["when"]``.

    Cause: a condition or template reads an output that JSON has no form for.
    Next: have that step return JSON, or read a part of it that is.

    >>> print(ValueNotJson('steps.load.output["when"]', "datetime"))
    steps.load.output["when"]: datetime (conditions and templates read nothing but JSON)
    """

    def __str__(self) -> str:
        return f"{self.path}: {self.problem} (conditions and templates read nothing but JSON)"


@attrs.define(repr=False, slots=False)
class MissingValue(StepError):
    """A template of a flow that found nothing. The step fails, and is not tried again.

    Cause: the name is misspelt, or what a step returned does not have it.
    Next: compare with what the message says there is; `szal show ID` prints outputs. Where it may be missing, write
        `{{path?}}` or `{{path | default('x')}}`.

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

    Cause: an input or output is of another type than the condition takes it for, as text that looks like a number.
    Next: declare the input's `type`, have the step return a number (in a file `output: json`), or compare with text.

    >>> print(NotComparable("steps.a.output > 3", "text", "a number", step="b"))
    condition of step 'b': steps.a.output > 3: text and a number have no order
    """

    comparison: str
    left: str
    right: str
    step: str | None = None
    field: str = "condition"
    """Which of the step's conditions: that one, or "until"."""

    def __str__(self) -> str:
        where = self.field if self.step is None else f"{self.field} of step {self.step!r}"
        return f"{where}: {self.comparison}: {self.left} and {self.right} have no order"


@attrs.define(repr=False, slots=False)
class ThreadHeldUp(StepError):
    """A step with ``inline="always"`` whose thread is held up in a handler that was told to end and does not.

    Cause: the execution was stopped, and the handler that its thread is in did not end; another thread ended it.
    Next: have that handler look at `ctx.cancelled`; undo by hand what the text names, if it was to be undone.

    >>> print(ThreadHeldUp("close"))
    close is done on the thread of its run only, and that does not come back from a handler that was told to end
    """

    step: str

    def __str__(self) -> str:
        held_up = "that does not come back from a handler that was told to end"
        return f"{self.step} is done on the thread of its run only, and {held_up}"


@attrs.define(repr=False, slots=False)
class OutputMasked(StepError):
    """A step asks for what was recorded masked, as it held a secret, before a crash or a pause. The step fails at once.

    `what` is what the earlier step came to, or what it keeps under a key of `ctx.once`.

    Cause: an earlier step returned what must not be recorded, so that only the run that it was in had the whole.
    Next: run that step again, as the message says. Better have no step return a secret: return what refers to it.

    >>> print(OutputMasked("login", "order-42"))
    the output of step 'login' held a secret, and is recorded masked: run it again (szal rerun order-42 --from login)
    """

    step: str
    execution_id: str
    what: str = "the output"

    def __str__(self) -> str:
        again = f"szal rerun {self.execution_id} --from {self.step}"
        return f"{self.what} of step {self.step!r} held a secret, and is recorded masked: run it again ({again})"


@attrs.define(repr=False, slots=False)
class SubFlowError(StepError):
    """A sub_flow step that names no flow, names an unknown one, or whose flow did not succeed.

    Cause: the step names no flow, or one that is not there; or that flow has failed.
    Next: bring the flow along (`FlowDef.sub_flows`, or the target's tuple), or see why it failed: `szal show` with the
        id of the sub-flow.

    >>> print(SubFlowError("sub-flow 'deploy' not found in storage"))
    sub-flow 'deploy' not found in storage
    """

    problem: str

    def __str__(self) -> str:
        return self.problem


@attrs.define(repr=False, slots=False)
class Undecided(StepError):
    """A step that must not run twice may or may not have been done when its process died, and nobody has said.

    Cause: a step with `idempotent=False` had begun when its process died, and the flow was cancelled before anybody
        said whether it had been done.
    Next: see for yourself whether it was done, and undo it by hand if it has to be.

    >>> print(Undecided("charge"))
    charge ended before it was decided whether it had been done
    """

    step: str

    def __str__(self) -> str:
        return f"{self.step} ended before it was decided whether it had been done"
