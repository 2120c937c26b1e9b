"""A run in the background: what whoever started it has of it, and the thread that it gets."""

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from szal.errors import ExecutionNotFound, describe
from szal.logs import SafeLogger
from szal.model.redaction import Redaction
from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.waiters import Flag, get_within

if TYPE_CHECKING:
    from szal.engine.status import ExecutionStatus

__all__ = ["Execution", "RunThread"]

logger = SafeLogger(logging.getLogger(__name__))


_EVERY: Final = 0.1
"""Seconds between two looks of whoever follows one."""


class Execution:
    """A run in the background, as `Engine.start` returns it. Its methods may be called from any thread.

    >>> from szal import Engine, FlowDef, StepDef
    >>> with Engine(lambda ctx: ctx.sleep(60)) as engine:
    ...     execution = engine.start(FlowDef("night", steps=[StepDef("sleep"), StepDef("breakfast")]))
    ...     execution.cancel()
    ...     str(execution.result(timeout=10).state), execution.done
    ('cancelled', True)
    """

    def __init__(self, execution_id: str, token: CancellationToken, look: "Callable[[str], ExecutionStatus]") -> None:
        self.execution_id = execution_id
        self.last: ExecutionStatus | None = None
        """How it stood when it ended here; set by whoever runs it."""
        self.redaction = Redaction()
        """What must not be seen of it; set before it runs."""
        self._token = token
        self._look = look
        self._result: FlowResult | None = None
        self._error: BaseException | None = None
        self._over = Flag()

    @property
    def done(self) -> bool:
        """Whether the run has ended and is recorded."""
        return self._over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most *timeout* seconds; return whether it has."""
        return self._over.wait(timeout)

    def result(self, timeout: float | None = None) -> FlowResult:
        """Block for the result, at most *timeout* seconds (then TimeoutError); raise what `Engine.run` would have."""
        if not self.wait(timeout):
            raise TimeoutError(f"execution {self.execution_id} has not ended within {timeout:g}s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def progress(self) -> "ExecutionStatus":
        """Return how far it is: what `Engine.look` tells, also without a store, and after its end. Waits for nothing.

        Where the run ended by an error before it came to an end, that is what `Engine.look` finds, or raises.

        >>> from szal import Engine, FlowDef, StepDef
        >>> with Engine(lambda ctx: "done") as engine:
        ...     execution = engine.start(FlowDef("night", steps=[StepDef("sleep")]))
        ...     _ = execution.wait(timeout=10)
        >>> {name: str(step.status) for name, step in execution.progress().steps.items()}
        {'sleep': 'completed'}
        """
        last = self.last
        return self._look(self.execution_id) if last is None else last

    def follow(self) -> FlowResult:
        """Show how it gets on until it ends, and return the result, or raise as `result` does.

        In a cell of a notebook that is a table, which changes; elsewhere a line on stdout for each step that begins or
        ends. Ctrl-C, or interrupting the kernel, ends the showing; the run goes on, and can be followed again.

        >>> from szal import Engine, FlowDef, StepDef
        >>> with Engine(lambda ctx: "done") as engine:
        ...     result = engine.start(FlowDef("night", steps=[StepDef("sleep")]), execution_id="e1").follow()
        sleep: completed
        flow 'night' completed (execution e1)
        """
        from szal.engine.following import screen  # people only

        show = screen()
        while True:
            is_over = self.wait(_EVERY)
            with suppress(ExecutionNotFound):  # it is just being begun, or nothing is recorded of how it broke
                show(self.progress())
            if is_over:
                return self.result()

    def cancel(self) -> None:
        """Cancel the run. Returns at once; `result` then has the state CANCELLED, or ROLLED_BACK."""
        self._token.cancel()

    def finish(self, result: FlowResult | None, error: BaseException | None = None) -> None:
        """Take note of how the run ended, once. By whoever runs it."""
        if self._over.is_set():
            return
        self._result, self._error = result, error
        if error is not None:  # nobody may ever ask
            shown = self.redaction.exception(error)
            told = "" if shown is error else f": {describe(error, self.redaction.mask)}"
            logger.error("execution %s ended by an error%s", self.execution_id, told, exc_info=shown)
        self._over.set()


class RunThread:
    """A thread that is there before anything is recorded, and runs what it is then given, or ends.

    The interpreter waits for it at exit, unless it is a *daemon*, or the thread that makes it is one.
    """

    def __init__(self, name: str, *, daemon: bool = False) -> None:
        self._given: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        arguments = (weakref.ref(self), self._given)
        work = contextvars.copy_context().run
        given = (_run_what_is_given, *arguments)
        threading.Thread(target=work, args=given, name=name, daemon=daemon or None).start()  # RuntimeError: none

    def give(self, work: Callable[[], object] | None) -> None:
        """Have it call *work*, which must not raise; None: there is nothing to do. The first one counts."""
        self._given.put(work)


def _run_what_is_given(owner: "weakref.ref[RunThread]", given: "SimpleQueue[Callable[[], object] | None]") -> None:
    """Wait for work and do it; who would give it may be gone, where an interruption came in between."""
    while True:
        try:
            work = get_within(given, 0.5)
            break
        except Empty:
            if owner() is None:
                return
    if work is not None:
        work()
