"""What a handler is given where an executor calls it: what can be read of its step, sent along with the attempt."""

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final, NoReturn

import attrs

from szal.clock import monotonic
from szal.errors import FailedElsewhere, NotSupportedHere, OutputMasked, describe
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model.luggage import Luggage
from szal.model.redaction import Redaction
from szal.model.results import FlowEnd, StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.ancestors import Outputs, Results
from szal.scheduler.context import StepContext
from szal.scheduler.step_logger import StepLogger

__all__ = ["RemoteContext"]

_WHY: Final = "an executor calls this handler, and nothing crosses until it has ended"
_INLINE: Final = "; give the step inline='always', or run it on an engine without an executor"


@attrs.frozen(eq=False, repr=False)
class Found:
    """A value, or what came up when it was looked for: that is raised for who asks for it, and for nobody else."""

    value: Json = None
    problem: Luggage | None = None
    told: str = ""

    @classmethod
    def of(cls, find: Callable[[], Json]) -> "Found":
        """Return what *find* finds."""
        try:
            return cls(find())
        except Exception as error:  # noqa: BLE001 (what templates read may be the program's own)
            return cls(None, Luggage(error), describe(error))

    def get(self) -> Json:
        """Return or raise it."""
        if self.problem is None:
            return self.value
        raise self.problem.exception or FailedElsewhere(self.told)


@attrs.define(eq=False, repr=False, slots=False, kw_only=True)
class RemoteContext:
    """What can be read of a `StepContext`, as a value that is pickled. The rest raises `NotSupportedHere`.

    It has the outputs of all ancestors: who needs few of them names these as parameters of a step's function.
    """

    step: StepDef
    """Its definition, without its sub-steps and its `done_when`."""
    flow_name: str
    execution_id: str
    attempt: int
    poll: int
    inputs: dict[str, Json]
    found_config: "Found"
    item: Json
    index: int | None
    idempotency_key: str
    cwd: str | None
    found_output: "Found"
    reason: str | None
    seconds: float | None
    """How many were left to it when it was sent."""
    results: dict[str, StepResult]
    end: FlowEnd | None
    redaction: Redaction
    _begun: float = attrs.field(default=0.0, init=False)

    @classmethod
    def of(cls, ctx: StepContext) -> "RemoteContext":
        """Return what is sent of *ctx*."""
        step = ctx.step
        is_bare = not step.sub_steps and step.done_when is None
        return cls(
            step=step if is_bare else attrs.evolve(step, sub_steps=(), done_when=None),
            flow_name=ctx.flow_name,
            execution_id=ctx.execution_id,
            attempt=ctx.attempt,
            poll=ctx.poll,
            inputs=ctx.inputs,
            found_config=Found.of(lambda: ctx.config),
            item=ctx.item,
            index=ctx.index,
            idempotency_key=ctx.idempotency_key,
            cwd=ctx.cwd,
            found_output=Found.of(lambda: ctx.output),
            reason=ctx.reason,
            seconds=ctx.remaining(),
            results={result.step_name: _bare(result) for result in ctx.results()},
            end=ctx.end,
            redaction=ctx.redaction,
        )

    def begin(self) -> None:
        """Take note that the handler is about to be called, where it is."""
        self._begun = monotonic()

    @property
    def config(self) -> Json:
        """The config of the step with its templates rendered; raises where one of them finds nothing."""
        return self.found_config.get()

    @property
    def output(self) -> Json:
        """In a rollback handler: what the step came to when it completed. Raises `OutputMasked`."""
        return self.found_output.get()

    @property
    def outputs(self) -> Outputs:
        """The outputs of the completed ancestors of this step, by step name: a read-only mapping."""
        return Outputs(self._known)

    @property
    def steps(self) -> Results:
        """The results of the ancestors of this step that had ended, by step name."""
        return Results(self._known)

    @cached_property
    def _known(self) -> "_Known":
        return _Known(self.execution_id, self.results)

    @property
    def flow(self) -> FlowEnd:
        """In a finally step: what the flow has come to. Raises AttributeError in any other."""
        if self.end is None:
            raise AttributeError("ctx.flow is there in finally steps only: before, nobody knows how the flow ends")
        return self.end

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger (``szal.step``) of the process that this runs in, whose lines begin with the flow and the step."""
        return StepLogger.of(self.flow_name, self.step.name, self.index, self.execution_id, self.redaction)

    def remaining(self) -> float | None:
        """Return the seconds left to this attempt, counted from when it began here; None where it has no limit."""
        return None if self.seconds is None else max(0.0, self.seconds - (monotonic() - self._begun))

    @property
    def cancelled(self) -> NoReturn:
        """Raise: nobody tells it."""
        raise NotSupportedHere("ctx.cancelled", _WHY + _INLINE)

    def check(self) -> NoReturn:
        """Raise: nobody tells it whether it is cancelled."""
        raise NotSupportedHere("ctx.check()", _WHY + _INLINE)

    def sleep(self, seconds: float) -> NoReturn:  # noqa: ARG002
        """Raise: nobody could wake it."""
        raise NotSupportedHere("ctx.sleep()", f"{_WHY}: nobody could wake it; time.sleep() does not wait for that")

    def ends_within(self, seconds: float) -> NoReturn:  # noqa: ARG002
        """Raise: nobody tells it to end."""
        raise NotSupportedHere("ctx.ends_within()", _WHY + _INLINE)

    def once(self, key: str, *_: Any, **__: Any) -> NoReturn:
        """Raise: what it would keep is in the engine's store."""
        raise NotSupportedHere(f"ctx.once({key!r}, …)", _WHY + _INLINE)

    def report(self, data: Json) -> NoReturn:  # noqa: ARG002
        """Raise: whom it would tell is in the engine's process."""
        raise NotSupportedHere("ctx.report()", _WHY + _INLINE)

    def transaction(self, *_: Any, **__: Any) -> NoReturn:
        """Raise: its connection would be in the engine's process."""
        raise NotSupportedHere("ctx.transaction()", _WHY + _INLINE)

    def render(self, *_: Any) -> NoReturn:
        """Raise: it is the engine that renders."""
        raise NotSupportedHere("ctx.render()", f"{_WHY}; what stands in the step's config is rendered: ctx.config")


def _bare(result: StepResult) -> StepResult:
    """Return a result as it is sent: its output once, and no exception."""
    return attrs.evolve(result, exception=None, encoded_output=None)


@attrs.frozen(eq=False)
class _Known:
    """The results that were sent, as `Outputs` and `Results` ask for them."""

    execution_id: str
    results: dict[str, StepResult]

    def all(self) -> Iterable[StepResult]:
        return self.results.values()

    def output(self, name: str) -> Json:
        result = self.results[name]
        if result.status is not StepStatus.COMPLETED:
            raise KeyError(name)
        return self._seen(result).output

    def copy(self, name: str) -> StepResult:
        result = self.results[name]
        if result.status is StepStatus.COMPLETED:
            self._seen(result)
        return attrs.evolve(result, output=None if result.is_masked else own_copy(result.output))

    def _seen(self, result: StepResult) -> StepResult:
        if result.is_masked:
            raise OutputMasked(result.step_name, self.execution_id)
        return result
