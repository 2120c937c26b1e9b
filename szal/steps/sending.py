"""Attempts that an executor makes: what is sent to it, and waiting for what comes back.

An attempt has a thread here too, which waits for the executor's future. So time-outs, cancellations and what becomes
of what is left behind are as ever: that thread is woken for them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Final, Protocol, runtime_checkable

import attrs

from szal.errors import Cancelled, describe
from szal.expressions.path import Json
from szal.model.config import undo_of
from szal.model.step import Inline, StepDef
from szal.scheduler.attempt import NotTaken
from szal.scheduler.call import Where
from szal.scheduler.context import Handler, StepContext
from szal.steps.around import Surrounding, within
from szal.steps.errand import Errand, Hole
from szal.steps.handlers import call_named, call_python, do_shell, named_call, undo_as_configured
from szal.steps.pickling import Packed, problem_of_pickling
from szal.steps.remote import Parcel, packed, perform, unpacked
from szal.steps.remote_context import RemoteContext
from szal.steps.up_to_date import Unless, is_up_to_date

__all__ = ["is_sent", "problems_of_sending", "sent"]

_LOOKS_AGAIN: Final = 0.005
"""Seconds after which it is asked whether an executor has begun an attempt that has a limit: it tells nobody."""


@runtime_checkable
class RunsErrands(Protocol):
    """A handler that is a function of something else than the context."""

    def errand(self, ctx: StepContext) -> Errand: ...
    @property
    def function(self) -> Callable[..., object]: ...


def is_sent(handler: Handler | None, step: StepDef, inline: Inline) -> bool:
    """Whether an executor does *step*, or undoes it, by *handler*; *inline* is the engine's."""
    if handler is None or (step.inline or inline) == "always":
        return False
    inner = handler.handler if isinstance(handler, Unless) else handler
    if inner is undo_as_configured:
        return undo_of(step.config)[0] == "python"
    return inner is not do_shell and getattr(inner, "__module__", None) != "szal.steps.shell"


def sent(
    executor: Executor,
    around: Sequence[Surrounding],
    handlers: Sequence[Handler | None],
    steps: Sequence[StepDef],
    inline: Inline,
) -> list[Handler | None]:
    """Return what does each of *steps*: on *executor*, but for what stays in this process; each within *around*."""
    here = within(around, handlers)
    return [
        Sends(executor, around, handler) if handler is not None and is_sent(handler, step, inline) else at_home
        for handler, step, at_home in zip(handlers, steps, here, strict=True)
    ]


def problems_of_sending(handlers: Sequence[Handler | None], steps: Sequence[StepDef], inline: Inline) -> Iterator[str]:
    """Yield what cannot be sent: a function that is not found by import, of which step."""
    for handler, step in zip(handlers, steps, strict=False):
        if handler is None or not is_sent(handler, step, inline):
            continue
        for function in _functions_of(handler):
            if (problem := problem_of_pickling(function)) is not None:
                name = getattr(function, "__qualname__", type(function).__name__)
                yield (
                    f"step {step.name!r}: {name} cannot be sent to the executor ({problem}): "
                    "put it at the top level of a module, or give the step inline='always'"
                )


def _functions_of(handler: Handler) -> Iterator[object]:
    if isinstance(handler, Unless):
        yield handler.is_done
        yield from _functions_of(handler.handler)
    else:
        errands = _as_errands(handler)
        yield handler if errands is None else errands.function


def _as_errands(handler: object) -> RunsErrands | None:
    return handler if isinstance(handler, RunsErrands) else None


@attrs.frozen(eq=False, repr=False)
class Sends:
    """What has a step done by an executor."""

    executor: Executor
    around: Sequence[Surrounding]
    handler: Handler

    def __call__(self, ctx: StepContext) -> Json:
        """Send it, wait for what comes back, and return or raise that."""
        handler, is_done = self.handler, None
        if isinstance(self.handler, Unless):
            handler, is_done = self.handler.handler, self.handler.is_done
            if is_done is is_up_to_date:  # it looks at files of this machine, as commands do
                return Unless(is_done, attrs.evolve(self, handler=handler))(ctx)
        errand = _errand(handler, ctx)
        needs_context = self.around or is_done is not None or errand.takes_context
        context = RemoteContext.of(ctx) if needs_context else None
        name = ctx.step.name
        future = self._submit(packed(Parcel(errand, context, self.around, is_done), name), ctx)
        return unpacked(self._result(future, ctx), name).outcome(name)

    def _submit(self, data: Packed, ctx: StepContext) -> "Future[Packed]":
        """Give it to the executor; raise `NotTaken` where that takes nothing any more."""
        if self._tells_when_it_begins:
            ctx.call.queue()
        try:
            return self.executor.submit(perform, data)
        except (BrokenExecutor, RuntimeError) as error:  # it is broken, or was shut down
            raise NotTaken(describe(error)) from error

    def _result(self, future: "Future[Packed]", ctx: StepContext) -> Packed:
        """Wait for the executor, also where nobody waits for this attempt: what it shares with others is in use there.

        Raises `Cancelled` or `StepTimeout` where it was to end and had not begun, and `NotTaken`.
        """
        call = ctx.call
        with ctx.woken() as waiter:
            future.add_done_callback(lambda _: _release(waiter))
            while not future.done():
                if call.where is Where.HERE or (call.where is Where.QUEUED and future.running()):
                    call.leave()
                if ctx.cancelled and future.cancel():
                    ctx.check()
                    raise Cancelled("nobody waits for this attempt any more")
                waiter.acquire(timeout=_LOOKS_AGAIN if call.where is Where.QUEUED else -1)
        try:
            return future.result()
        except CancelledError as error:  # by whoever has shut down the executor: it has not begun
            raise NotTaken("it was shut down") from error

    @property
    def _tells_when_it_begins(self) -> bool:
        """Whether futures of this executor are `running` from when a worker has them: not all say so."""
        from concurrent.futures import ProcessPoolExecutor  # whoever has one has imported it

        return isinstance(self.executor, ThreadPoolExecutor | ProcessPoolExecutor)


def _release(waiter: Lock) -> None:
    with suppress(RuntimeError):  # it was woken by something else
        waiter.release()


def _errand(handler: Handler, ctx: StepContext) -> Errand:
    """Return what is to be called elsewhere in the place of *handler*: with arguments, where these are known here."""
    errands = _as_errands(handler)
    if errands is not None:
        return errands.errand(ctx)
    if handler is call_python or handler is undo_as_configured:
        config = ctx.step.config if handler is call_python else undo_of(ctx.step.config)[1]
        name, positional, named = named_call(ctx, config)
        return Errand(call_named, (ctx.step.name, name, Hole.CONTEXT, positional, named))
    return Errand(handler, (Hole.CONTEXT,))
