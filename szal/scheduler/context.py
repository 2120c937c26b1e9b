"""What a handler is given: its step, its inputs, the outputs before it, and word of what is going on."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import attrs

from szal.errors import Cancelled, StepTimeout
from szal.events.progress import StepProgress
from szal.expressions.path import Json, outcome_values
from szal.expressions.template import CompiledTemplate
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Node, Plan

__all__ = ["Handler", "Outputs", "RunScope", "StepContext"]

logger = logging.getLogger(__name__)


@attrs.define(eq=False, repr=False)
class RunScope:
    """What all the steps of one run share. Written by the coordinating thread alone, read by any."""

    flow_name: str
    execution_id: str
    inputs: dict[str, Json]
    plan: Plan
    results: list[StepResult | None]
    settled_as: list[int]  # by place: how many steps had settled before it; kept for loose plans only
    token: CancellationToken | None = None
    progress: Callable[[StepProgress], object] | None = None
    stop_reason: str | None = None
    settled: int = 0


class StepContext:
    """The one argument of a handler. Its members may be used from any thread that the handler starts.

    >>> from szal import Engine, FlowDef, StepDef
    >>> def handler(ctx):
    ...     return f"{ctx.step.name} {ctx.attempt} {ctx.inputs['n']} {dict(ctx.outputs)}"
    >>> flow = FlowDef("demo", steps=[StepDef("a"), StepDef("b")])
    >>> with Engine(handler) as engine:
    ...     engine.run(flow, {"n": 7})["b"].output
    "b 1 7 {'a': 'a 1 7 {}'}"
    """

    # Class attributes are the defaults, so that the thousands of contexts that never need them cost nothing.
    output: Json = None
    """In a rollback handler: what the step recorded when it completed."""
    _deadline: float | None = None
    _abandoned = False
    _wake: threading.Event | None = None
    _settled_before = 0  # how many steps had settled when this one was first started; see RunScope.settled_as
    _started = 0.0  # time.monotonic(), as written by whoever calls the handler
    _ended = 0.0
    _is_undo = False

    def __init__(self, scope: RunScope, node: Node, attempt: int) -> None:
        self._scope = scope
        self._node = node
        self.attempt = attempt
        """The number of this call, from 1."""

    @property
    def step(self) -> StepDef:
        """The definition of the step."""
        return self._node.step

    @property
    def flow_name(self) -> str:
        """The name of the flow."""
        return self._scope.flow_name

    @property
    def execution_id(self) -> str:
        """The id of this run of the flow."""
        return self._scope.execution_id

    @property
    def inputs(self) -> dict[str, Json]:
        """The inputs of the run, shared by all its steps: not to be changed."""
        return self._scope.inputs

    @property
    def outputs(self) -> "Outputs":
        """The outputs of the completed ancestors of this step, by step name: a read-only mapping.

        A step triggered by ANY sees those of its dependencies that had completed when it started.
        """
        return Outputs(self)

    @property
    def config(self) -> Json:
        """The step's `config` with its templates rendered; a value of its own only where it has templates."""
        try:
            return self._config
        except AttributeError:
            template = self._node.template
            self._config: Json = self._node.step.config if template is None else template.render(self._values())
            return self._config

    def render(self, text: Json, quote: Callable[[str], str] | None = None) -> Json:
        """Return *text* with its templates rendered as in `config`, each value passed through *quote*.

        Raises `ConditionError` where a template does not parse.
        """
        return CompiledTemplate.compile(text).render(self._values(), quote)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and every resume of this step of this execution; its undo has another."""
        return f"{self.execution_id}:{self.step.name}" + (":rollback" if self._is_undo else "")

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should end: its run was cancelled or timed out, or nobody waits for it any more."""
        if self._abandoned:
            return True
        if self._is_undo:
            return False
        scope = self._scope
        return scope.stop_reason is not None or (scope.token is not None and scope.token.cancelled)

    def remaining(self) -> float | None:
        """Return the seconds left to this attempt (0.0 when it is over), or None where it has no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        """Raise `StepTimeout` past this attempt's deadline, `Cancelled` where it is `cancelled`; else do nothing."""
        if self.remaining() == 0.0:
            raise self._timed_out()
        if self.cancelled:
            raise Cancelled(self._scope.stop_reason or "cancelled")

    def sleep(self, seconds: float) -> bool:
        """Block for *seconds*, or until the attempt is cancelled or its deadline passes: then return False."""
        wake = self._wake
        if wake is None:
            wake = self._wake = threading.Event()
        if self.cancelled:  # asked after _wake is in place: whoever cancels later will find it
            return False
        left = self.remaining()
        wake.wait(seconds if left is None else min(seconds, left))
        slept = left is None or left >= seconds
        return slept and not self.cancelled

    def report(self, data: Json) -> None:
        """Hand *data* to the engine's progress sink, on this thread. A sink that raises is logged."""
        sink = self._scope.progress
        if sink is None:
            return
        try:
            sink(StepProgress(self.step.name, self.step.id, self.execution_id, data))
        except Exception:
            logger.exception("progress sink failed: step %s of %s", self.step.name, self.execution_id)

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger (``szal.step``) whose lines begin with the flow and the step."""
        extra = {"flow": self.flow_name, "step": self.step.name, "execution_id": self.execution_id}
        return _StepLog(logging.getLogger("szal.step"), extra)

    def _timed_out(self) -> StepTimeout:
        """Return the error of this attempt for having passed its deadline: its own limit, or what its flow left it."""
        seconds = 0.0 if self._deadline is None else max(0.0, self._deadline - self._started)
        own = self._node.step.timeout
        return StepTimeout(self.step.name, own if own is not None and abs(seconds - own) < 1e-6 else seconds)

    def _values(self) -> Mapping[str, Json]:
        return {"inputs": self._scope.inputs, "steps": _Outcomes(self)}

    def _visible(self, name: str) -> StepResult | None:
        """Return the result of the ancestor called *name*, if it had ended when this step started."""
        scope, plan = self._scope, self._scope.plan
        place = plan.places.get(name)
        if place is None or not plan.is_before(place, self._node.place):
            return None
        result = scope.results[place]
        if plan.loose and scope.settled_as[place] >= self._settled_before:
            return None  # settled since: what a step sees does not change under its hands
        return result

    def _ancestors(self) -> Iterator[StepResult]:
        plan = self._scope.plan
        for place in plan.all_before(self._node.place):
            result = self._visible(plan.nodes[place].step.name)
            if result is not None:
                yield result

    def _interrupt(self, *, abandon: bool = False) -> None:
        """Wake the handler if it sleeps; with *abandon*, tell it that nobody waits for it any more."""
        self._abandoned = self._abandoned or abandon
        if self._wake is not None:
            self._wake.set()


class Outputs(Mapping[str, Json]):
    """The outputs that a step may see; a look-up finds its step without copying any other."""

    __slots__ = ("_context",)

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Json:
        result = self._context._visible(name)
        if result is None or result.status is not StepStatus.COMPLETED:
            raise KeyError(name)
        return result.output

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._context._ancestors() if result.status is StepStatus.COMPLETED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class _Outcomes(Mapping[str, Json]):
    """What templates see under ``steps``: every ancestor that has ended."""

    __slots__ = ("_context",)

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Json:
        result = self._context._visible(name)
        if result is None:
            raise KeyError(name)
        return outcome_values(result)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._context._ancestors())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _StepLog(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        extra = self.extra or {}
        prefix = f"[{extra.get('flow')}/{extra.get('step')}]"
        if args:  # only then does logging look for % in the message
            prefix = prefix.replace("%", "%%")
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, f"{prefix} {msg}", *args, **kwargs)


Handler = Callable[[StepContext], Json]
