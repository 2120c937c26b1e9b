"""Attempts that an executor makes: given to it, and waited for."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final

import attrs

from szal.errors import Cancelled, describe
from szal.scheduler.attempt import NotTaken
from szal.scheduler.call import Where
from szal.scheduler.context import StepContext
from szal.steps.adapter import Again, KeepsData, tells_when_it_begins
from szal.steps.pickling import Apart, Packed
from szal.steps.remote import perform
from szal.steps.sending import ON_EXECUTOR
from szal.steps.sharing import Keep

__all__ = ["OnExecutor"]

_LOOKS_AGAIN: Final = 0.005
"""Seconds after which it is asked whether an executor has begun an attempt that has a limit: it tells nobody."""


@attrs.frozen(eq=False, repr=False)
class OnExecutor:
    """Has attempts made by an executor of the program's."""

    executor: Executor

    words = ON_EXECUTOR

    @property
    def keep(self) -> Keep | None:
        """What has it keep values that several attempts have in common, if it can."""
        return self.executor.keep if isinstance(self.executor, KeepsData) else None

    def make(self, sent: Apart, ctx: StepContext) -> Packed:
        """Send it, wait for what comes back, and return that.

        Raises `NotTaken` where the executor takes nothing any more, and `Lost` where it is gone.
        """
        if tells_when_it_begins(self.executor):
            ctx.call.queue()
        there: Callable[..., Packed] = perform  # with the bytes that *kept* stand for
        submit: Callable[[], Future[Packed]] = partial(self.executor.submit, there, sent.data, None, *sent.kept)
        while True:
            try:
                return self._result(_taken(submit), ctx)
            except Again as again:
                submit = again.submit

    def _result(self, future: "Future[Packed]", ctx: StepContext) -> Packed:
        """Wait for the executor, also where nobody waits for this attempt: what it shares with others is in use there.

        Raises `Cancelled` or `StepTimeout` where it was to end and had not begun, `NotTaken`, `Lost` and `Again`.
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


def _taken(submit: "Callable[[], Future[Packed]]") -> "Future[Packed]":
    """Return the future of what was submitted; raise `NotTaken` where the executor takes nothing any more."""
    try:
        return submit()
    except (BrokenExecutor, RuntimeError) as error:  # it is broken, or was shut down
        raise NotTaken(describe(error)) from error


def _release(waiter: Lock) -> None:
    with suppress(RuntimeError):  # it was woken by something else
        waiter.release()
