"""The one loop that drives runs: starts what is ready, waits for what is under way, settles what has ended.

It goes round on one thread, which owns all there is (`Coordinator`). What anything that it calls raises does not end
it: that becomes the stop of its runs.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from szal.errors import ExecutorBroken, LeaseLost, StoreError, describe
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.interrupts import Interrupts
from szal.logs import SafeLogger
from szal.model.state import Stop
from szal.raised import is_a
from szal.scheduler import again, beginning, ending, fan_out, pinned, racing, relief, settling, starting, stopping
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call
from szal.scheduler.clock import REAL, Clock
from szal.scheduler.context import StepContext
from szal.scheduler.coordinator import Coordinator, Inbox
from szal.scheduler.permits import Permits
from szal.scheduler.plan import Node
from szal.scheduler.resources import Resources
from szal.scheduler.run import Run
from szal.scheduler.stage import BackingOff, Queued, Waiting
from szal.scheduler.timers import Timer
from szal.scheduler.workers import Threads, WorkerPool

__all__ = ["Relieved", "Scheduler"]

Relieved = relief.Relieved

logger = SafeLogger(logging.getLogger(__name__))

_LONGEST_WAIT = 3600.0  # seconds
# A signal that another thread received does not end a wait of the main thread, which alone may act on it.
_LONGEST_WAIT_OF_MAIN = 0.2
_LEAVING = (ExecutorBroken, LeaseLost, StoreError)
_MOST_ERRORS = 100  # in a row while runs are being left: a loop that goes round and does nothing else must end


class Scheduler:
    """Drives runs, a flow's and those of its sub-flows, on the thread that calls `drive`.

    `limit` bounds the handlers at work at one time; a sub-flow, a wait between attempts and an abandoned
    handler count for nothing. A handler that is told to stop has `grace` seconds. `stop_for` says which stop an
    interruption is. With *background*, no handler keeps the interpreter from exiting. Limits and back-offs go by
    *clock*. *permits* are of what steps of this and other runs share.
    """

    def __init__(
        self,
        threads: Threads,
        limit: int,
        grace: float,
        on_abandoned: Callable[[Attempt], None],
        stop_for: Callable[[BaseException], Stop] = lambda _: Stop.CANCELLED,
        *,
        background: bool = False,
        clock: Clock = REAL,
        permits: Permits | None = None,
    ) -> None:
        inbox = Inbox()
        submits = (threads.daemon,) if background else (threads.pooled, threads.daemon)
        pooled = WorkerPool(submits, limit, inbox.finished)
        limited = WorkerPool((threads.daemon,), limit, inbox.finished)
        permits = Permits(Resources({})) if permits is None else permits
        self._c = Coordinator(pooled, limited, limit, grace, on_abandoned, inbox, stop_for, clock, permits)
        self._c.take_up = fan_out.take_up
        self.variables = self._c.variables
        """Every handler is called with a copy of this context."""
        self.on_idle: Callable[[], None] | None = None
        """Called when nothing is under way, and nothing will come but from outside."""
        self.on_relieved: Callable[[], None] | None = None
        """Called on a thread that has to go on in the place of the one that called `drive`: it calls `go_on`."""
        self.is_whole: Callable[[], bool] = lambda: True
        """Whether all that is under way is driven here: then it can be ended in order."""

    # -- from any thread -----------------------------------------------------------------------------

    def call(self, function: Callable[[], None]) -> None:
        """Have *function* called by the coordinating thread."""
        self._c.inbox.call(function)

    @property
    def is_decided(self) -> bool:
        """Whether nothing is left but finally steps."""
        return not self._c.inbox.takes_ends

    def workers(self) -> tuple[int, int]:
        """Return how many threads make attempts, and how many attempts these are at, or wait for one."""
        pools = (self._c.pooled, self._c.limited)
        return sum(pool.workers for pool in pools), sum(pool.load for pool in pools)

    def request_stop(self, stop: Stop, error: BaseException | None = None) -> bool:
        """Have every run stopped; False where all of them have ended. A handler that holds up the thread is told.

        Also False for a cancellation once nothing is left but finally steps: how the execution ends is decided then.
        """
        c = self._c
        act = partial(stopping.stop_all, c, stop) if stop.ends else partial(stopping.leave, c, stop, error)
        return self._ask_for(stop, act)

    def request_pause(self) -> bool:
        """Have nothing new started, and every run left once what runs has ended; not where one ends, or is undone.

        False where all of them have ended, or only finally steps are left.
        """
        return self._ask_for(Stop.PAUSED, partial(stopping.pause, self._c))

    def refused(self, run: Run, key: str, error: Exception) -> bool:
        """As `request_stop`, as the store refuses for good what was to be recorded of the step or item called *key*."""
        return self._ask_for(Stop.REFUSED, partial(stopping.refused, self._c, run, key, error))

    def _ask_for(self, stop: Stop, act: Callable[[], None]) -> bool:
        is_heard = self._c.inbox.offer(act, is_end=stop is Stop.CANCELLED or stop is Stop.PAUSED)
        if is_heard and not stop.is_patient:
            relief.stand_by(self._c, stop, self._relieve)
        return is_heard

    def end_grace(self) -> None:
        """Give up on every handler that still runs, where it was told to end: what can be ended by force, is."""
        c = self._c
        c.inbox.call(partial(stopping.end_grace, c, hurry=True))
        relief.hurry(c)

    # -- on the coordinating thread ------------------------------------------------------------------

    def interrupts(self) -> Interrupts:
        """Return the context to be entered around `drive`, by the thread that calls it."""
        c = self._c

        def deliver(interrupts: Interrupts) -> None:
            c.inbox.call(partial(self._take_interrupt, interrupts))

        return Interrupts(deliver, lambda: c.in_handler is not None or c.is_relieved)

    def add(self, run: Run) -> None:
        """Start *run*; its `on_done` is called, on this thread, when every step has its result."""
        beginning.begin(self._c, run)

    def launch(self, run: Run, node: Node, attempt: int) -> None:
        """Take up attempt number *attempt* of a sub-flow step, which a crash has interrupted; now, or in its turn."""
        self._c.taking_up.call(partial(starting.launch, self._c, run, node, attempt))

    def back_off(self, run: Run, node: Node, delay: float) -> None:
        """Have the next attempt of *node* follow in *delay* seconds: a crash came between two."""
        again.back_off(self._c, run, node, delay)

    def ended(
        self, call: Call, output: Json, error: BaseException | None, *, last: bool = False, masked: bool = False
    ) -> None:
        """Take note that what `Run.launch` began has ended. *last*: trying again would not help.

        *masked*: the output was recorded masked, and is not what it was.
        """
        settling.delegated_ended(self._c, call, output, error, last=last, masked=masked)

    def end_all(self, stop: Stop, why: str | None = None) -> None:
        """End every run that can be stopped; *why* says more than *stop* does."""
        stopping.stop_all(self._c, stop, why)

    def end_waits(self, run: Run) -> None:
        """Have *run* wait for nothing any more: waits are skipped, as the flow has failed and is to be undone."""
        stopping.end_waits(self._c, run)

    def leave_open(self, run: Run, key: str) -> None:
        """Fail the step, or item, of *run* called *key*, of which nobody has said whether it was done."""
        stopping.leave_open(self._c, *run.find(key))

    def end(self, run: Run, stop: Stop, why: str | None = None) -> None:
        """End *run*, and the items of its steps; *why* says more than *stop* does."""
        stopping.stop_run(self._c, run, stop, why)

    def end_losers(self, run: Run) -> None:
        """End what only steps of *run* waited for that have started before: a crash came in between."""
        racing.end_all_losers(self._c, run)

    def afterwards(self, function: Callable[[], None]) -> None:
        """Have *function* called once what is ready has been started."""
        self._c.afterwards.append(function)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Have *action* called by this thread in so many seconds."""
        return self._c.timers.add(self._c.clock.monotonic() + seconds, action)

    def cancel_timer(self, timer: Timer) -> None:
        """Forget *timer*."""
        self._c.timers.cancel(timer)

    def drives(self, run: Run) -> bool:
        """Whether *run* has begun and not ended."""
        return run in self._c.runs

    def drop(self, run: Run) -> None:
        """Drive *run* no further, nor the items of its steps, if it is being driven; it is told nothing."""
        for items in run.fan_outs.values():
            self.drop(items)
        self._c.runs.pop(run, None)
        run.is_over = True
        if run.timer is not None:
            self._c.timers.cancel(run.timer)

    def now(self) -> float:
        """Return the time as Unix time, by a clock that nobody sets while this goes round."""
        return self._c.ahead + self._c.clock.monotonic()

    @property
    def ahead(self) -> float:
        """What makes Unix time of the times of calls."""
        return self._c.ahead

    @property
    def clock(self) -> Clock:
        """The clock that all of it goes by."""
        return self._c.clock

    @property
    def leaving(self) -> Stop | None:
        """Why all that is left was left as it is."""
        return self._c.leaving

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has asked for the end of all of it."""
        return self._c.is_cancelled

    @property
    def interruption(self) -> BaseException | None:
        """What interrupted it, if anything did."""
        return self._c.interruption

    def called(self, run: Run) -> tuple[StepContext, float] | None:
        """Return in which handler of *run* the coordinating thread is, and since when (monotonic). From any thread.

        None, too, where it has not said so: nobody could take its place there.
        """
        baton = self._c.baton if self._c.inline_run is run else None
        with suppress(IndexError):  # it has come back
            return None if baton is None else baton[0]
        return None

    def is_idle(self) -> bool:
        """Whether nothing is under way: what is left waits for something from outside."""
        return self._c.is_idle()

    def under_way(self, *, listens: bool) -> int:
        """Return for how much is waited that is neither a time nor a signal: handlers at work, and commits.

        With *listens* the coordinating thread waits, and an attempt counts until that thread has taken note of its end;
        else that thread is in a handler, and an attempt counts until it has reported.
        """
        stages = [stage for run in self._c.runs for stage in run.stages if stage.work]
        calls = [stage.call for stage in stages if isinstance(stage, Attempt)]
        begun = sum(call.begun and not (call.abandoned if listens else call.has_ended) for call in calls)
        queued = sum(not call.begun for call in calls)
        others = sum(not isinstance(stage, Attempt | BackingOff | Queued | Waiting) for stage in stages)
        others += sum(stage.permit.is_being_asked for stage in stages if isinstance(stage, Queued))
        return others + begun + min(queued, max(0, self._c.limit - begun))  # the rest begins only once something ends

    def drive(self) -> None:
        """Drive until every run is done or left; then raise the interruption, or the error that they were left for."""
        c, errors = self._c, 0
        on_main = threading.get_ident() == threading.main_thread().ident
        longest = _LONGEST_WAIT_OF_MAIN if on_main else _LONGEST_WAIT
        while c.runs and not (c.leaving is not None and not c.tally.work) and errors < _MOST_ERRORS:
            try:
                self._turn(longest)
                errors = 0
            except relief.Relieved:
                raise
            except BaseException as error:  # noqa: BLE001 (whatever it is, the runs have to be stopped for it)
                errors += 1
                self._caught(error)
        self._close()
        if c.interruption is not None:
            raise c.interruption from c.error
        if c.error is not None:
            raise c.error

    def go_on(self) -> None:
        """As `drive`, in the place of a thread that is held up in a handler. Called by `on_relieved`."""
        c = self._c
        try:
            attempt = relief.take_over(c)
            c.inbox.make_calls()
            if attempt.call.run.stages[attempt.call.node.place] is attempt:
                settling.left_behind(c, attempt, stopping.still_running(c), last=True)
        except BaseException as error:  # noqa: BLE001 (as in `drive`)
            self._caught(error)
        self.drive()

    # -- one round -----------------------------------------------------------------------------------

    def _turn(self, longest: float) -> None:
        c = self._c
        if c.inbox.has_calls:
            c.inbox.make_calls()
        starting.start_ready(c)
        while c.afterwards:
            c.afterwards.pop()()
        if c.ready:  # by that, or more than could be started before something came due
            if c.timers.is_due(c.clock.monotonic()) and not c.inbox.has_calls:
                self._take_note(due=True)
            return
        if c.pins and c.pinned and pinned.call_next(c):
            self._take_note(due=c.timers.is_due(c.clock.monotonic()))
            return
        if c.is_idle():
            if self.on_idle is None:  # without a store nothing can come from outside: a step was lost sight of
                raise RuntimeError("nothing is under way, and steps are left")
            self.on_idle()
        elif c.runs and not c.inbox.has_calls and (c.leaving is None or c.tally.work):
            self._wait(longest)

    def _wait(self, longest: float) -> None:
        """Wait for something to end or to come due, and take note of all that has."""
        c = self._c
        due = c.timers.next_due()
        self._take(c.clock.wait(c.inbox, due, longest))
        self._take_note(due=due is not None)

    def _take_note(self, *, due: bool) -> None:
        """Take note of all that has ended, and then, with *due*, of what has come due."""
        c = self._c
        while not c.inbox.finished.empty():
            self._take(c.inbox.finished.get())
        if due:
            c.timers.fire(c.clock.monotonic())

    def _take(self, item: Attempt | Callable[[], None] | None) -> None:
        if isinstance(item, Attempt):
            run = item.call.run
            if run.deadline is not None or run.info.token is not None:
                self._look_for_stop(item)
            settling.attempt_ended(self._c, item)
        elif item is not None:
            item()

    def _look_for_stop(self, attempt: Attempt) -> None:
        """Stop first of all what *attempt* knows to be stopped, and this thread has not been told of.

        It has passed the deadline of its run, whose timer has not fired yet; or the token is cancelled, which handlers
        see, while whoever cancels it has not come to telling the run.
        """
        run, c = attempt.call.run, self._c
        token = run.info.token
        try:
            if run.deadline is not None and attempt.call.ended >= run.deadline:
                stopping.stop_run(c, run, Stop.TIMED_OUT)
            if token is not None and run.stoppable and not c.is_cancelled and token.cancelled:
                stopping.stop_all(c, Stop.CANCELLED)
        except BaseException:
            c.inbox.finished.put(attempt)  # it has ended all the same
            raise

    def _caught(self, error: BaseException) -> None:
        """Stop all of it for what came up in a round: end it where that can be done in order, else leave it."""
        c = self._c
        c.in_handler = None
        while True:
            try:
                self._repair()
                if is_interruption(error):
                    stopping.interrupt(c, error, can_end=self.is_whole())
                elif self._can_end(error):
                    c.error = error
                    mask = next((run.info.redaction.mask for run in c.runs), None)
                    stopping.stop_all(c, Stop.BROKEN, describe(error, mask))
                else:
                    stopping.leave(c, self._stop_for(error), error)
                for run in list(c.runs):
                    ending.finish_if_done(c, run)
                return
            except BaseException as another:  # noqa: BLE001 (a second Ctrl-C, or a store that fails again)
                if c.leaving is not None and c.leaving.breaks:
                    return
                error = another

    def _can_end(self, error: BaseException) -> bool:
        """Whether the runs can be ended in order, undone and recorded, for what came up: nobody has tried to before."""
        c = self._c
        is_first = all(run.stoppable and run.stop is None for run in c.runs)
        return is_first and c.leaving is None and not is_a(error, *_LEAVING) and self.is_whole()

    def _stop_for(self, error: BaseException) -> Stop:
        if is_a(error, LeaseLost):
            return Stop.LEASE_LOST
        if is_a(error, ExecutorBroken) and not self._c.stop_for(error).ends:
            return Stop.RELEASED
        return Stop.FAILED_BY_STORE if is_a(error, StoreError) else Stop.LOST

    def _repair(self) -> None:
        tally = self._c.tally
        for run in self._c.runs:
            run.repair()
        stages = [stage for run in self._c.runs for stage in run.stages]
        tally.work = sum(stage.work for stage in stages)
        tally.waits = sum(stage.waits for stage in stages)

    def _take_interrupt(self, interrupts: Interrupts) -> None:
        if (error := interrupts.take()) is not None:
            stopping.interrupt(self._c, error)

    def _relieve(self) -> None:
        if self.on_relieved is not None:
            self.on_relieved()

    def _close(self) -> None:
        """Send the workers home, and let go of whom this would tell: it is over."""
        c = self._c
        c.pooled.close()
        c.limited.close()
        for run in c.runs:
            run.hush()
        c.inline_run = c.relief = c.baton = None
        c.afterwards.clear()
        c.timers.clear()
        self.on_idle = self.on_relieved = None
        self.is_whole = lambda: True
