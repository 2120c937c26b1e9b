"""What is entered around every attempt and every undo: an application's context, a session, a span."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

import attrs

from szal.errors import AroundFailed, SkipStep, describe, partial_output_of
from szal.expressions.path import Json
from szal.function import does_nothing_yet
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.raised import is_a, trace_of
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.spent import is_telling

__all__ = ["Surrounding", "Within", "surrounding", "within"]

logger = SafeLogger(logging.getLogger(__name__))

Surrounding: TypeAlias = Callable[[StepContext], AbstractContextManager[Any]]
"""Returns what is entered around an attempt."""


def surrounding(functions: object) -> tuple[Surrounding, ...]:
    """Return *functions*, checked, as they are kept in the config of an engine. Raises TypeError."""
    if not isinstance(functions, Sequence):
        told = "a function" if callable(functions) else type(functions).__name__
        raise TypeError(f"around must be a sequence of functions, as around=(app_context,), not {told}")
    for place, function in enumerate(functions):
        problem = does_nothing_yet(function)
        if problem is not None:
            hint = ": decorate it with contextlib.contextmanager" if "generator" in problem else ""
            raise TypeError(f"around[{place}] {problem.split(', whose')[0]}{hint}")
    return tuple(functions)


def within(functions: Sequence[Surrounding], handlers: Sequence[Handler | None]) -> Sequence[Handler | None]:
    """Return *handlers*, each within what *functions* return; the first is entered first, and left last."""
    for place, function in reversed([*enumerate(functions)]):
        handlers = [None if handler is None else Within(place, function, handler) for handler in handlers]
    return handlers


@attrs.frozen(eq=False, repr=False)
class Within:
    """What does a step, within what a function of the engine's `around` returns."""

    place: int
    function: Surrounding
    handler: Handler

    def __call__(self, ctx: StepContext) -> Json:
        """Enter, do it, and leave. What the handler raises is raised again, also where leaving suppresses it."""
        manager = self._entered(ctx)
        try:
            output = self.handler(ctx)
        except BaseException as error:
            self._leave(manager, ctx, error)
            raise
        self._leave(manager, ctx, None)
        return output

    def _entered(self, ctx: StepContext) -> AbstractContextManager[Any]:
        try:
            manager = self.function(ctx)
            kind = type(manager)
            if not (hasattr(kind, "__enter__") and hasattr(kind, "__exit__")):
                raise TypeError(f"returned no context manager, but {kind.__name__}")
            kind.__enter__(manager)
        except Exception as error:
            if is_interruption(error) or is_telling(error):
                raise
            raise self._failed(ctx, "entering", error, None) from error
        return manager

    def _leave(self, manager: AbstractContextManager[Any], ctx: StepContext, before: BaseException | None) -> None:
        """Leave; *before* is what the handler raised. What it has told the engine by that holds, whatever comes up."""
        told = () if before is None else (type(before), before, trace_of(before))
        try:
            type(manager).__exit__(manager, *(told or (None, None, None)))
        except Exception as error:
            if error is before or is_interruption(error):
                raise
            if before is not None and (is_interruption(before) or _holds(before)):
                failed = self._failed(ctx, "leaving", error)
                shown = ctx.redaction.exception(error)
                logger.error("step %s of %s: %s", ctx.step.name, ctx.execution_id, failed, exc_info=shown)
                return
            if is_telling(error):
                raise
            raise self._failed(ctx, "leaving", error, before) from error

    def _failed(
        self, ctx: StepContext, when: str, error: Exception, before: BaseException | None = None
    ) -> AroundFailed:
        mask = ctx.redaction.mask
        after = None if before is None else describe(before, mask)
        failed = AroundFailed(self.place, _name_of(self.function), when, describe(error, mask), after)
        failed.partial_output = partial_output_of(error)
        if failed.partial_output is None and before is not None:
            failed.partial_output = partial_output_of(before)
        return failed


def _holds(error: BaseException) -> bool:
    """Whether the engine goes by *error* also where leaving fails: a step that is skipped fails then."""
    return is_telling(error) and not is_a(error, SkipStep)


def _name_of(function: object) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
