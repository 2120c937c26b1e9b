"""Traces of executions by OpenTelemetry, with the extra ``szal[otel]``: see docs/observe.md."""

import functools
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from szal import clock, process_events
from szal.errors import SkipStep, describe
from szal.errors.description import cut
from szal.events.bus import WorkflowEvent
from szal.extra import optional
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.key import item_key
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.model.step import StepDef
from szal.raised import is_a
from szal.scheduler.context import StepContext
from szal.storable import storable

with optional("opentelemetry", extra="otel", feature="szal.contrib.otel"):
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Status, StatusCode, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["OpenTelemetrySink"]

logger = SafeLogger(logging.getLogger(__name__))

T = TypeVar("T")

_Key: TypeAlias = tuple[str, int | None, bool]
"""Of a step: its id, which item of it, and whether it is being undone."""
_W3C: Final = TraceContextTextMapPropagator()


class OpenTelemetrySink:
    """Traces what engines do: `EngineConfig(event_sink=tracing, around=[tracing.around])`. Several may share it.

    Each run of an execution is a span ``flow NAME``, in the context of the caller of `Engine.run` or `start`; in it is
    one ``step NAME`` for each step, and in that ``attempt NAME #1``, which is the current span of the handler. The
    spans of a sub-flow are in its step's. A run that goes on with an execution is linked to those before it, in
    whatever process they were: `ExecutionRecord.traceparents`. What must not be seen is masked.

    Without *tracer_provider* it is the global one. Whatever that is, its spans are ended on the threads of runs: let it
    export them on a thread of its own (`BatchSpanProcessor`).

    >>> from opentelemetry import trace
    >>> from szal import Engine, EngineConfig, FlowDef, StepDef
    >>> tracing = OpenTelemetrySink()
    >>> def handler(ctx):
    ...     trace.get_current_span().add_event("half way")
    >>> with Engine(handler, EngineConfig(event_sink=tracing, around=[tracing.around])) as engine:
    ...     engine.run(FlowDef("nightly", steps=[StepDef("fetch")])).success
    True
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = _tracer(tracer_provider)
        self._runs: dict[str, _Run] = {}
        process_events.enroll_renewal(self, OpenTelemetrySink._forget)

    def _forget(self) -> None:
        """Leave to the parent of a forked process what runs there."""
        self._runs = {}

    @property
    def around(self) -> "_Around":
        """For `EngineConfig.around`: a span for each attempt, and each undo, which is the current one within it."""
        return _Around(self)

    def run_submitted(self, record: ExecutionRecord) -> str | None:  # noqa: ARG002
        """Return the trace context of who submits an execution. Called by engines."""
        return _traceparent(contexts.get_current())

    def run_begins(self, record: ExecutionRecord, step: StepDef | None) -> str | None:
        """Begin the span of a run; return its trace context. Called by engines."""
        named = {"szal.execution.id": record.execution_id, "szal.flow.name": record.flow_name}
        told = {"szal.execution.parent_id": record.parent_execution_id, "szal.flow.version": record.flow_version}
        attributes = named | {name: value for name, value in told.items() if value is not None}
        above = self._runs.get(record.parent_execution_id or "")
        parent = contexts.get_current() if above is None or step is None else above.within(record.state, step)
        links = [Link(found) for text in record.traceparents if (found := _span_context(text)).is_valid]
        title = f"flow {record.flow_name}"
        span = self._tracer.start_span(title, parent, attributes=attributes, links=links, start_time=clock.wall_ns())
        context = trace.set_span_in_context(span, parent)
        self._runs[record.execution_id] = _Run(self._tracer, named, span, context)
        return _traceparent(context)

    def run_ends(self, execution_id: str) -> None:
        """End the span of a run that was left. Called by engines."""
        run = self._runs.pop(execution_id, None)
        if run is not None:
            run.span.set_attribute("szal.execution.left", True)
            run.end(None, clock.wall_ns())

    def __call__(self, event: WorkflowEvent) -> None:
        """Begin and end spans as *event* says. Called by engines."""
        execution_id, now = event.execution_id or "", int(event.timestamp.timestamp() * 1e9)
        what, _, happened = event.event_type.partition("_")
        run = self._runs.get(execution_id)
        if run is None or event.event_type == "flow_started":
            return
        if what == "step":
            run.hear(event, happened, now)
            return
        self._runs.pop(execution_id, None)
        run.span.set_attribute("szal.execution.state", happened)
        run.end(None if happened == "paused" else event.error, now)

    def begin_attempt(self, ctx: StepContext) -> "_Attempt":
        """Begin the span of an attempt, on its thread."""
        step = self._step_of(ctx)
        return _Attempt.begin(self._tracer, self._context_of(ctx, step), ctx, None if step is None else step.attempts)

    def traceparent_of(self, ctx: StepContext) -> str | None:
        """Return what the span of an attempt that another process makes is to be in."""
        return _traceparent(self._context_of(ctx, self._step_of(ctx)))

    def _step_of(self, ctx: StepContext) -> "_Step | None":
        run = self._runs.get(ctx.execution_id)
        return None if run is None else run.step_of(ctx)

    def _context_of(self, ctx: StepContext, step: "_Step | None") -> Context:
        if step is not None:
            return step.context
        run = self._runs.get(ctx.execution_id)
        return contexts.get_current() if run is None else run.context  # none: it is no sink of that engine


@attrs.define(eq=False)
class _Run:
    """The spans of one run of an execution that are under way. From any thread."""

    tracer: trace.Tracer
    named: dict[str, Any]
    """The attributes that each span has."""
    span: Span
    context: Context
    _steps: "dict[_Key, _Step]" = attrs.field(factory=dict, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    """Has a step begun once: by the thread of its first attempt, or by the coordinating one."""

    def step(self, key: _Key, name: str, step_type: str | None, began: int) -> "_Step":
        """Return the spans of a step, of one of its items, or of the undoing of either; begun, if it is not."""
        step = self._steps.get(key)
        if step is not None:
            return step
        step_id, index, is_undo = key
        parent = self.context
        if index is not None and not is_undo:
            parent = self.step((step_id, None, False), name, step_type, began).context
        told = {"szal.step.name": name, "szal.step.id": step_id, "szal.step.type": step_type, "szal.step.index": index}
        attributes = self.named | {key: value for key, value in told.items() if value is not None}
        title = f"{'undo' if is_undo else 'step'} {_title(name, index)}"
        with self._lock:
            step = self._steps.get(key)
            if step is None:
                span = self.tracer.start_span(title, parent, attributes=attributes, start_time=began)
                step = self._steps[key] = _Step(span, trace.set_span_in_context(span, parent))
        return step

    def within(self, state: WorkflowState, step: StepDef) -> Context:
        """Return the context for a sub-flow of *step*, which is in that state."""
        key = (step.id, None, state is WorkflowState.ROLLING_BACK and (step.id, None, False) not in self._steps)
        return self.step(key, step.name, step.step_type, clock.wall_ns()).context

    def hear(self, event: WorkflowEvent, happened: str, now: int) -> None:
        """Begin and end spans as the event of a step says."""
        step_id, name, index = event.step_id or "", event.step_name or "", event.index
        key = step_id, index, happened == "rollback"
        if happened in ("retry", "timeout") and key not in self._steps and (step_id, index, True) in self._steps:
            key = step_id, index, True  # an undo has attempts, too
        began = now - int((event.duration or 0.0) * 1e9) if happened in ("completed", "failed", "rollback") else now
        step = self.step(key, name, event.step_type, began)
        if happened == "timeout":
            step.leave_attempts(event.error, now)
        elif happened == "retry":
            told = {"szal.attempt.number": event.attempt or 0, "szal.retry.delay": event.duration or 0.0}
            step.span.add_event("retry", told, timestamp=now)
        elif happened != "started":
            self._steps.pop(key, None)
            step.end(happened, event, now)

    def step_of(self, ctx: StepContext) -> "_Step | None":
        """Return the spans of the step of an attempt; None where nobody waits for that any more."""
        key = ctx.step.id, ctx.index, ctx.reason is not None
        if ctx.cancelled and key not in self._steps:
            return None
        return self.step(key, ctx.step.name, ctx.step.step_type, clock.wall_ns())

    def end(self, error: str | None, now: int) -> None:
        """End the span of the run, and what was left of it."""
        for step in [*self._steps.values()]:
            step.leave_attempts(error, now)
            step.span.end(now)
        self._steps = {}
        if error is not None:
            self.span.set_status(Status(StatusCode.ERROR, error))
        self.span.end(now)


@attrs.define(eq=False)
class _Step:
    """The span of a step, and those of its attempts."""

    span: Span
    context: Context
    attempts: "dict[_Attempt, None]" = attrs.field(factory=dict, init=False)
    """Those that have not ended. Changed by atomic operations only."""

    def leave_attempts(self, error: str | None, now: int) -> None:
        """End the attempts that nobody waits for any more."""
        for attempt in self.attempts.copy():
            attempt.leave(error, now)

    def end(self, happened: str, event: WorkflowEvent, now: int) -> None:
        """End it as *event* says."""
        self.leave_attempts(event.error, now)
        has_failed = happened == "failed" or (happened == "rollback" and event.error is not None)
        status = "failed" if has_failed else "rolled_back" if happened == "rollback" else happened
        self.span.set_attribute("szal.step.status", status)
        self.span.set_attribute("szal.step.attempts", event.attempt or 0)
        if has_failed:
            self.span.set_status(Status(StatusCode.ERROR, event.error))
        elif happened == "skipped":
            self.span.set_attribute("szal.step.reason", event.error or "")
        self.span.end(now)


@attrs.define(eq=False)
class _Attempt:
    """The span of an attempt, which is ended once: by its own thread, or by who does not wait for it any more."""

    span: Span
    _open: "dict[_Attempt, None]"
    """Those of its step that have not ended: who takes it out ends it."""

    @classmethod
    def begin(
        cls, tracer: trace.Tracer, parent: Context, ctx: Any, open_ones: "dict[_Attempt, None] | None" = None
    ) -> "_Attempt":
        """Begin it now."""
        told: dict[str, Any] = {"szal.execution.id": ctx.execution_id, "szal.flow.name": ctx.flow_name}
        told |= {"szal.step.name": ctx.step.name, "szal.attempt.number": ctx.attempt}
        if ctx.index is not None:
            told["szal.step.index"] = ctx.index
        if ctx.poll > 1:
            told["szal.attempt.poll"] = ctx.poll
        title = f"attempt {_title(ctx.step.name, ctx.index)} #{ctx.attempt}"
        span = tracer.start_span(title, parent, attributes=told, start_time=clock.wall_ns())
        attempt = cls(span, {} if open_ones is None else open_ones)
        attempt._open[attempt] = None
        return attempt

    @contextmanager
    def entered(self, ctx: Any) -> Iterator[None]:
        """Have it the current span within the block, and end it with that."""
        token = contexts.attach(trace.set_span_in_context(self.span))
        try:
            yield
        except BaseException as error:
            _safely(ctx, self._fail, error, ctx.redaction.mask)
            raise
        finally:
            contexts.detach(token)
            if self._is_mine():
                _safely(ctx, self.span.end, clock.wall_ns())

    def _is_mine(self) -> bool:
        """Whether it is for the caller to end it, and for nobody else then."""
        return self._open.pop(self, True) is None

    def _fail(self, error: BaseException, mask: Callable[[str], str] | None) -> None:
        """Record what the handler has raised."""
        if is_a(error, SkipStep) or not self.span.is_recording():
            return
        kind, text = type(error), describe(error, mask)
        name = f"{kind.__module__}.{kind.__qualname__}"
        told = {"exception.type": name, "exception.message": text, "exception.stacktrace": _stack_of(error, mask)}
        self.span.add_event("exception", told)
        self.span.set_attribute("error.type", name)
        self.span.set_status(Status(StatusCode.ERROR, text))

    def leave(self, error: str | None, now: int) -> None:
        """End it, if it has not ended, though its handler goes on."""
        if self._is_mine():
            self.span.set_attribute("szal.attempt.abandoned", True)
            self.span.set_status(Status(StatusCode.ERROR, error))
            self.span.end(now)


@attrs.frozen(eq=False)
class _Around:
    """What is entered around an attempt: its span."""

    sink: OpenTelemetrySink

    def __call__(self, ctx: StepContext) -> AbstractContextManager[None]:
        attempt = _safely(ctx, self.sink.begin_attempt, ctx)
        return nullcontext() if attempt is None else attempt.entered(ctx)

    def as_sent(self, ctx: StepContext) -> "_Elsewhere":
        """Return what is entered where an executor makes the attempt."""
        return _Elsewhere(_safely(ctx, self.sink.traceparent_of, ctx))

    def __reduce__(self) -> Any:
        return _Elsewhere, (None,)


@attrs.frozen(eq=False)
class _Elsewhere:
    """What is entered around an attempt in a process of an executor: its span, by the global tracer provider there."""

    traceparent: str | None

    def __call__(self, ctx: Any) -> AbstractContextManager[None]:
        parent = Context() if self.traceparent is None else _W3C.extract({"traceparent": self.traceparent}, Context())
        attempt = _safely(ctx, _Attempt.begin, _tracer(None), parent, ctx)
        return nullcontext() if attempt is None else attempt.entered(ctx)


def _safely(ctx: Any, function: Callable[..., T], *arguments: Any) -> T | None:
    """Return what *function* does; what a provider of traces raises is logged, and fails no attempt."""
    try:
        return function(*arguments)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception("tracing failed: step %s, execution %s", ctx.step.name, ctx.execution_id)
        return None


def _traceparent(context: Context) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    return carrier.get("traceparent")


def _span_context(traceparent: str) -> trace.SpanContext:
    return trace.get_current_span(_W3C.extract({"traceparent": traceparent}, Context())).get_span_context()


def _title(name: str, index: int | None) -> str:
    return name if index is None else item_key(name, index)


@functools.cache
def _version() -> str | None:
    try:
        return version("szal")
    except PackageNotFoundError:  # it is used from where it was checked out
        return None


def _tracer(provider: TracerProvider | None) -> trace.Tracer:
    return trace.get_tracer("szal", _version(), provider)


def _stack_of(error: BaseException, mask: Callable[[str], str] | None) -> str:
    try:
        text = storable("".join(traceback.format_exception(error)))
    except BaseException as broken:  # the error's class is foreign code
        if is_interruption(broken):
            raise
        return ""
    return cut(text if mask is None else mask(text))
