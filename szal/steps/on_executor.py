"""Attempts that an executor makes: given to it, and waited for."""

from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Final

import attrs

from szal.errors import Cancelled, describe
from szal.scheduler.attempt import NotTaken
from szal.scheduler.call import Where
from szal.scheduler.context import StepContext
from szal.steps.pickling import Packed
from szal.steps.remote import perform
from szal.steps.sending import ON_EXECUTOR

__all__ = ["OnExecutor"]

_LOOKS_AGAIN: Final = 0.005
"""Seconds after which it is asked whether an executor has begun an attempt that has a limit: it tells nobody."""


@attrs.frozen(eq=False, repr=False)
class OnExecutor:
    """Has attempts made by an executor of the program's."""

    executor: Executor

    words = ON_EXECUTOR

    def make(self, data: Packed, ctx: StepContext) -> Packed:
        """Send it, wait for what comes back, and return that. Raises `NotTaken` where it takes nothing any more."""
        return self._result(self._submit(data, ctx), ctx)

    def _submit(self, data: Packed, ctx: StepContext) -> "Future[Packed]":
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
