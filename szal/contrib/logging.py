"""In which execution, flow and step a log record was made, also where a library made it that knows nothing of szal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from szal.model.key import item_key
from szal.scheduler.context import StepContext

__all__ = ["ContextFilter"]

_NOTHING: Final = "-"
_current: Final[ContextVar[StepContext | None]] = ContextVar("szal_step", default=None)


class ContextFilter(logging.Filter):
    """Gives each record `execution_id`, `flow`, `step` and `attempt`: those of the step it was made in, else "-".

    Add it to the *handlers* of logging: the filter of a logger does not see what other loggers pass up. And give
    `EngineConfig` its `around`, which says on each attempt's thread which one that is; an undo is told of as its step.
    Threads that a handler starts itself have no step, unless it copies the context (`contextvars.copy_context().run`).

    >>> import sys
    >>> from szal import Engine, EngineConfig, FlowDef, StepDef
    >>> from szal.contrib.logging import ContextFilter
    >>> filter = ContextFilter()
    >>> console = logging.StreamHandler(sys.stdout)
    >>> console.addFilter(filter)
    >>> console.setFormatter(logging.Formatter("%(flow)s/%(step)s #%(attempt)s: %(message)s"))
    >>> library = logging.getLogger("some.library")
    >>> library.addHandler(console)
    >>> with Engine(lambda ctx: library.warning("connection lost"), EngineConfig(around=[filter.around])) as engine:
    ...     _ = engine.run(FlowDef("shop", steps=[StepDef("pay")]))
    shop/pay #1: connection lost
    >>> library.warning("nothing runs")
    -/- #-: nothing runs
    >>> library.removeHandler(console)
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Give it what it was made in; every record passes."""
        ctx = _current.get()
        if ctx is None:
            found: dict[str, object] = dict.fromkeys(("execution_id", "flow", "step", "attempt"), _NOTHING)
        else:
            step = ctx.step.name if ctx.index is None else item_key(ctx.step.name, ctx.index)
            names = {"execution_id": ctx.execution_id, "flow": ctx.flow_name}
            found = {**names, "step": step, "attempt": ctx.attempt}
        for name, value in found.items():
            if name not in record.__dict__:  # `ctx.log` says so itself
                setattr(record, name, value)
        return True

    @staticmethod
    @contextmanager
    def around(ctx: StepContext) -> Iterator[None]:
        """For `EngineConfig.around`: within it, records are of the attempt *ctx*. One within another one is its own."""
        token = _current.set(ctx)
        try:
            yield
        finally:
            _current.reset(token)
