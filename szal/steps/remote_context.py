"""What a handler is given where it is called elsewhere: what can be read of its step, sent along with the attempt.

On an executor that is all. A child process has a `Link` to the engine, over which the rest is asked for.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, Final, NoReturn

import attrs

from szal.clock import monotonic
from szal.errors import (
    Cancelled,
    FailedElsewhere,
    NotAHandler,
    NotSupportedHere,
    OutputMasked,
    StepTimeout,
    describe,
)
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.function import does_nothing_yet
from szal.model.luggage import Luggage
from szal.model.redaction import Redaction
from szal.model.results import FlowEnd, StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.ancestors import Outputs, Results
from szal.scheduler.context import StepContext
from szal.scheduler.step_logger import StepLogger
from szal.steps.link import Link
from szal.waiters import waitable

__all__ = ["RemoteContext"]

_WHY: Final = "an executor calls this handler, and nothing crosses until it has ended"
_INLINE: Final = "; give the step isolation='process' or inline='always'"


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
    _link: Link | None = attrs.field(default=None, init=False)

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

    def begin(self, link: Link | None) -> None:
        """Take note that the handler is about to be called, where it is; *link* leads back to the engine."""
        self._begun = monotonic()
        self._link = link

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
    def cancelled(self) -> bool:
        """Whether this attempt should end; in a child process only: an executor tells nobody."""
        return self._linked("ctx.cancelled").is_told() or self.remaining() == 0.0

    def check(self) -> None:
        """Raise `StepTimeout` past this attempt's deadline, `Cancelled` where it is `cancelled`; else do nothing."""
        is_told = self._linked("ctx.check()").is_told()
        if self.remaining() == 0.0:
            raise StepTimeout(self.step.name, self.step.timeout or 0.0)
        if is_told:
            raise Cancelled("cancelled")

    def sleep(self, seconds: float) -> bool:
        """Block for *seconds*, or until the attempt is cancelled or its deadline passes: then return False."""
        link = self._linked("ctx.sleep()", "; time.sleep() does not wait to be woken")
        left, seconds = self.remaining(), waitable(seconds)
        cut = left is not None and left < seconds
        link.wait(left if cut else seconds)
        return not (cut or link.is_told())

    def ends_within(self, seconds: float) -> AbstractContextManager[None]:
        """Promise, for a block, that this attempt ends at most *seconds* after it is `cancelled`; it has so long then.

        `EngineConfig.cancel_grace` at least. Raises as `check` does.
        """
        link = self._linked("ctx.ends_within()")
        self.check()
        return link.ends_within(seconds)

    def once(self, key: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `StepContext.once`: *function* is called here, and what it returns kept by the engine, as a copy."""
        link = self._linked(f"ctx.once({key!r}, …)")
        if (problem := does_nothing_yet(function)) is not None:
            raise NotAHandler(f"what ctx.once({key!r}, …) is to call", problem)
        return link.once(key, partial(function, *args, **kwargs))

    def report(self, data: Json) -> None:
        """Hand *data*, as a copy, to the engine's progress sink. Blocks while that has very much to do."""
        self._linked("ctx.report()").report(data)

    def transaction(self, *_: Any, **__: Any) -> NoReturn:
        """Raise: its connection would be in the engine's process."""
        why = "its connection would be in the engine's process; give the step isolation='thread'"
        raise NotSupportedHere("ctx.transaction()", _WHY + _INLINE if self._link is None else why)

    def render(self, *_: Any) -> NoReturn:
        """Raise: it is the engine that renders."""
        why = "what stands in the step's config is rendered: ctx.config"
        raise NotSupportedHere("ctx.render()", f"{_WHY}; {why}" if self._link is None else why)

    def _linked(self, what: str, hint: str = "") -> Link:
        if self._link is None:
            raise NotSupportedHere(what, _WHY + _INLINE + hint)
        return self._link


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
