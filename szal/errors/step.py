"""A step, or a flow, did not succeed."""

import attrs

from szal.errors.root import SzalError, partial_output_of
from szal.errors.tail import tails_of, with_tails
from szal.errors.value import EncodeError

__all__ = [
    "FlowFailed",
    "MissingValue",
    "NotComparable",
    "OutputNotSerializable",
    "RetryExhausted",
    "StepError",
    "StepFailed",
    "StepTimeout",
    "SubFlowError",
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

    >>> print(StepTimeout("build", 2.5))
    step timeout: build after 2500ms
    """

    step: str
    timeout: float

    def __str__(self) -> str:
        how = f"step timeout: {self.step} after {self.timeout * 1000:.0f}ms"
        return with_tails(how, *tails_of(partial_output_of(self)))


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
class SubFlowError(StepError):
    """A sub_flow step that names no flow, names an unknown one, or whose flow did not succeed.

    >>> print(SubFlowError("sub-flow 'deploy' not found in storage"))
    sub-flow 'deploy' not found in storage
    """

    problem: str

    def __str__(self) -> str:
        return self.problem


@attrs.define(repr=False, slots=False)
class Undecided(StepError):
    """A step that must not run twice may or may not have been done when its process died, and nobody has said."""

    step: str

    def __str__(self) -> str:
        return f"{self.step} ended before it was decided whether it had been done"
