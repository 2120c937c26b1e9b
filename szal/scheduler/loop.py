"""Drives runs: starts what is ready, waits for what is under way, settles what has ended, from one thread.

That thread owns everything here, so nothing is locked. Other threads reach it only through the queue of
finished things: attempts that ended, and plain functions to be called here.
"""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from szal.errors import Cancelled, RetryExhausted, SkipStep, StepTimeout, describe, text_of
from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler import retry
from szal.scheduler.attempt import Attempt, encode_output
from szal.scheduler.context import StepContext
from szal.scheduler.interrupts import Interrupts
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import CANCELLED, FLOW_TIMEOUT, Ready, Run, Tried
from szal.scheduler.timers import Timer, Timers
from szal.scheduler.workers import Threads, WorkerPool

__all__ = ["Scheduler"]

_COMPLETED, _DONE = Outcome.COMPLETED, StepStatus.COMPLETED  # a look-up in an enum costs as much as a call
_LONGEST_WAIT = 3600.0  # seconds: queues refuse some longer ones
# A signal that another thread received does not end a wait of the main thread, which alone may act on it.
_LONGEST_WAIT_OF_MAIN = 0.2


class Scheduler:
    """Drives runs, a flow's and those of its sub-flows, on the thread that calls `drive`.

    `limit` bounds the handlers at work at one time; a sub-flow, a wait between attempts and an abandoned
    handler count for nothing. After a cancellation, running handlers have `grace` seconds.
    """

    def __init__(self, threads: Threads, limit: int, grace: float, on_abandoned: Callable[[Attempt], None]) -> None:
        self._finished: SimpleQueue[Attempt | Callable[[], None]] = SimpleQueue()
        self._timers = Timers()
        self._pooled = WorkerPool((threads.pooled, threads.daemon), limit, self._finished)
        self._limited = WorkerPool((threads.daemon,), limit, self._finished)
        self._limit = limit
        self._grace = grace
        self._on_abandoned = on_abandoned
        self._ready: deque[Ready] = deque()
        self._runs: list[Run] = []
        self._variables = contextvars.copy_context()
        self._clock = time.time() - monotonic()
        on_main = threading.current_thread() is threading.main_thread()
        self._longest_wait = _LONGEST_WAIT_OF_MAIN if on_main else _LONGEST_WAIT
        self._called = False  # something besides attempts may be on the queue
        self._interrupted = False
        self._cancelled = False  # `cancel` was called
        self._direct: StepContext | None = None  # of the handler that this thread itself is in; read by any thread
        self._committing = 0
        self._error: Exception | None = None
        self.on_idle: Callable[[], None] | None = None
        """Called when nothing is under way, and nothing will come but from outside."""
        self.interrupts = Interrupts(lambda: self.call(self._take_interrupt), lambda: self._direct is not None)
        """To be entered around `drive`, by the thread that calls it."""

    # -- from outside --------------------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Begin *run*; its `on_done` is called, on this thread, when every step has its result."""
        self._runs.append(run)
        run.begin(self._ready)
        if run.deadline is not None:
            run.timer = self._timers.add(run.deadline, partial(self._stop, run, FLOW_TIMEOUT), soft=True)
        if not run.left:
            self._finish(run)
        elif run.stop_reason is not None:  # its process died in the midst of stopping it
            self._wind_up(run, run.stop_reason)
        elif run.stoppable and run.scope.token is not None and run.scope.token.cancelled:
            self._stop(run, CANCELLED)
        elif run.deadline is not None and run.deadline <= monotonic():
            self._stop(run, FLOW_TIMEOUT)

    def launch(self, run: Run, node: Node, attempt: int | None = None) -> None:
        """Begin a sub-flow or a wait, which inherits what is left of the step's and the flow's time.

        On the coordinating thread. With *attempt* it is that one, which a crash has interrupted.
        """
        context = self._context(run, node)
        if attempt is not None:
            context.attempt = attempt
        context._started = monotonic()
        own = None if node.step.timeout is None else context._started + node.step.timeout
        context._deadline = min((end for end in (own, run.deadline) if end is not None), default=None)
        if run.watch is not None:
            self._announce(run, node, context)
        run.running[node.place] = None
        assert run.launch is not None
        run.launch(run, node, context)

    def call(self, function: Callable[[], None]) -> None:
        """Have *function* called by the coordinating thread. From any thread."""
        self._finished.put(function)
        self._called = True  # in this order: a flag without an item costs a look, an item without a flag would wait

    def end(self, function: Callable[[], None]) -> None:
        """As `call`, of a function that stops the runs: a handler that holds up the thread is told. From any thread."""
        self.call(function)
        context = self._direct
        if context is not None:
            context._scope.stop_reason = context._scope.stop_reason or CANCELLED
            context._interrupt()

    def cancel(self) -> None:
        """Stop every run that can be stopped. On the coordinating thread."""
        self._cancelled = True
        for run in [run for run in self._runs if run.stoppable]:
            self._stop(run, CANCELLED)

    def hurry(self) -> None:
        """Give up on every handler that still runs, if this was cancelled. On the coordinating thread."""
        if self._cancelled or any(run.stop_reason == CANCELLED for run in self._runs):
            for run in list(self._runs):
                self._give_up(run)

    def drive(self) -> None:
        """Work until every run is done; then raise KeyboardInterrupt, if there was one: it has cancelled the runs."""
        try:
            while self._runs and self._error is None:
                try:
                    self._start_ready()
                    if self.on_idle is not None and self.is_idle():
                        self.on_idle()
                    elif self._runs:
                        self._wait()
                except KeyboardInterrupt:
                    self._on_interrupt()
        finally:
            self._pooled.close()
            self._limited.close()
        if self._error is not None:
            raise self._error
        if self._interrupted:
            raise KeyboardInterrupt

    def fail(self, error: Exception) -> None:
        """End `drive` with *error*: nothing more is started, recorded or waited for. On the coordinating thread."""
        self._error = self._error or error
        for run in self._runs:
            run.scope.stop_reason = CANCELLED
            for attempt in run.running.values():
                if attempt is not None and not attempt.withdraw():
                    attempt.context._interrupt()

    def drop(self, run: Run) -> None:
        """Drive *run* no further, if it is being driven; it is told nothing."""
        if run in self._runs:
            self._runs.remove(run)
        if run.timer is not None:
            self._timers.cancel(run.timer)

    def after(self, seconds: float, action: Callable[[], None], *, soft: bool = False) -> Timer:
        """Have *action* called by this thread in so many seconds; *soft*: it is no work to come."""
        return self._timers.add(monotonic() + seconds, action, soft=soft)

    def cancel_timer(self, timer: Timer) -> None:
        """Forget *timer*."""
        self._timers.cancel(timer)

    def is_idle(self) -> bool:
        """Whether nothing is under way: what is left waits for something from outside."""
        busy = self._ready or self._called or self._committing or self._pooled.load or self._limited.load
        return bool(self._runs) and not busy and self._timers.pending == self._timers.soft

    def _take_interrupt(self) -> None:
        self.interrupts.pending = False
        self._on_interrupt()

    def _on_interrupt(self) -> None:
        again = self._interrupted or any(run.stop_reason == CANCELLED for run in self._runs)
        self._interrupted = True
        self.cancel()
        if again:  # one after a cancellation ends the grace
            self.hurry()

    # -- starting ------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        """Start what is ready, in order, as far as the limit allows."""
        ready, pooled, limited, timers = self._ready, self._pooled, self._limited, self._timers
        while ready and not self._called:
            run, node = ready.popleft()
            place = node.place
            if run.results[place] is not None:  # settled meanwhile, by `_stop`
                continue
            if (run.marks[node.gate] or not node.plain) and self._is_seen_to(run, node):
                continue
            if (
                run.direct
                and node.step.timeout is None
                and not (ready or pooled.load or limited.load or timers.pending)
            ):  # nothing is under way and nothing can come due: a handler may hold up this thread
                self._call(run, node)
            elif self._has_room(run, node):
                self._dispatch(run, node)
            else:
                ready.appendleft((run, node))
                return

    def _is_seen_to(self, run: Run, node: Node) -> bool:
        """Do what there is to do before a handler is called, or instead; return whether that is all, for now."""
        if node.place in run.running:  # it was begun before a crash, and somebody has to decide on it
            return True
        if node.place not in run.tried and (run.marks[node.gate] or node.guarded) and self._is_skipped(run, node):
            return True
        if run.handlers[node.place] is None:
            self.launch(run, node)
        elif not node.step.idempotent and run.log is not None and node.place not in run.cleared:
            self._clear(run, node)
        else:
            return False
        return True

    def _is_skipped(self, run: Run, node: Node) -> bool:
        """Settle *node* where its edges or its condition keep it from running."""
        try:
            skip = run.why_skip(node)
        except Exception as error:  # noqa: BLE001 (foreign objects in outputs may not even compare)
            context = run.new_context(node, 0)
            context._started = context._ended = monotonic()
            self._end(run, node, context, error, Outcome.FAILED)
            return True
        if skip is None:
            return False
        run.skip(node, *skip)
        self._finish_if_done(run)
        return True

    def _clear(self, run: Run, node: Node) -> None:
        """Have it committed that a step which must not run twice begins, before it does."""

        def cleared() -> None:
            self._committing -= 1
            if run.running.pop(node.place, 0) is None:
                run.cleared.add(node.place)
                self._ready.append((run, node))

        run.running[node.place] = None
        self._committing += 1
        assert run.log is not None
        begun = StepResult(node.step.id, node.step.name, StepStatus.RUNNING)
        run.log.begun(node, begun, None, lambda: self.call(cleared))

    def _context(self, run: Run, node: Node) -> StepContext:
        tried = run.tried.get(node.place)
        if tried is None:
            context = run.new_context(node, 1)
            context._settled_before = run.scope.settled
        else:
            context = run.new_context(node, tried.context.attempt + 1)
            context._settled_before = tried.context._settled_before
        return context

    def _call(self, run: Run, node: Node) -> None:
        """Call the handler on this thread, and as long as it completes that of the step which waits for it alone.

        All that a step of a chain costs is in this loop, so what others call is written out here.
        """
        results, completed, handlers, watch, log = run.results, run.completed, run.handlers, run.watch, run.log
        clock, new_context, copy_variables = self._clock, run.new_context, self._variables.copy
        straight = not (run.commit_first or run.plan.loose or run.tried)
        context = new_context(node, 1) if straight else self._context(run, node)
        while True:
            started = context._started = monotonic()
            if watch is not None and context.attempt == 1:
                watch.started(node, clock + started)
            encoded = None
            self._direct = context
            try:
                output = copy_variables().run(handlers[node.place], context)  # type: ignore[arg-type]
                self._direct = None
                if run.encode:
                    encoded = encode_output(output)
            except BaseException as error:
                self._direct = None
                context._ended = monotonic()
                self._failed(run, node, context, error)
                if isinstance(error, KeyboardInterrupt):  # the user's, in the calling thread
                    raise
                return
            ended = monotonic()
            next_in_chain = node.next_in_chain if straight else None
            if next_in_chain is None or results[next_in_chain.place] is not None:
                context._ended = ended
                self._completed(run, node, context, output, encoded)
                return
            step, place = node.step, node.place
            result = results[place] = StepResult(
                step.id, step.name, _DONE, output, ended - started, 1, None, None, clock + started, None, encoded
            )
            completed.append(place)
            run.left -= 1
            if log is not None:
                log.settled(node, result, _COMPLETED)
            if watch is not None:
                watch.settled(node, result)
            if self._called:
                self._ready.append((run, next_in_chain))
                return
            node = next_in_chain
            context = new_context(node, 1)

    def _is_limited(self, run: Run, node: Node) -> bool:
        return node.step.timeout is not None or run.deadline is not None

    def _has_room(self, run: Run, node: Node) -> bool:
        """Whether another attempt may be queued.

        More than the limit is queued ahead, so that workers need not wait for this thread; with both kinds of
        worker at once that would let more than the limit run, so then it is not.
        """
        pool, other = self._pooled, self._limited
        if self._is_limited(run, node):
            pool, other = other, pool
        return pool.load + other.load < (self._limit if other.load else self._limit * 4)

    def _dispatch(self, run: Run, node: Node) -> None:
        """Give an attempt to a worker."""
        context = self._context(run, node)
        context._deadline = run.deadline
        handler = run.handlers[node.place]
        attempt = Attempt(run, node, context, handler, self._variables.copy())  # type: ignore[arg-type]
        attempt.encode = run.encode
        if run.watch is not None and context.attempt == 1:
            attempt.announce = partial(self._announce_attempt, attempt)
        if attempt.limit is not None:
            attempt.timer = self._timers.add(monotonic() + attempt.limit, partial(self._due, attempt))
        run.running[node.place] = attempt
        (self._limited if self._is_limited(run, node) else self._pooled).put(attempt)

    def _announce(self, run: Run, node: Node, context: StepContext) -> None:
        if context.attempt == 1 and run.watch is not None:
            run.watch.started(node, self._clock + context._started)

    def _announce_attempt(self, attempt: Attempt) -> None:
        """Tell that an attempt has begun, once: at its own word, or when it is given up on before that is heard."""
        if attempt.announce is not None:
            attempt.announce = None
            self._announce(attempt.run, attempt.node, attempt.context)

    # -- waiting -------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for something to end or to come due, and take note of all that has."""
        called, self._called = self._called, False
        due = self._timers.next_due()
        item: Attempt | Callable[[], None] | None
        if called:  # what was put may have been taken before: then there is nothing, and no more may come
            item = None if self._finished.empty() else self._finished.get()
        elif due is None and not self._finished.empty():
            item = self._finished.get()
        else:
            left = self._longest_wait if due is None else max(0.0, due - monotonic())
            try:
                item = self._finished.get(timeout=min(left, self._longest_wait))
            except Empty:
                item = None
        while item is not None:
            if isinstance(item, Attempt):
                self._ended(item)
            else:
                item()
            item = None if self._finished.empty() else self._finished.get()
        if due is not None:
            self._timers.fire(monotonic())

    def _due(self, attempt: Attempt) -> None:
        """Look after an attempt's limit, which counts from its start: it may have been queued for long."""
        now, deadline = monotonic(), attempt.context._deadline
        if not attempt.begun:
            assert attempt.limit is not None
            attempt.timer = self._timers.add(now + attempt.limit, partial(self._due, attempt))
        elif deadline is not None and deadline > now:
            attempt.timer = self._timers.add(deadline, partial(self._due, attempt))
        else:
            self._abandon(attempt, attempt.context._timed_out())

    def _again(self, run: Run, node: Node, tried: Tried) -> None:
        tried.timer = None
        self._ready.append((run, node))

    # -- ending --------------------------------------------------------------------------------------

    def _forget(self, attempt: Attempt, *, abandoned: bool = False) -> None:
        del attempt.run.running[attempt.node.place]
        attempt.pool.leave(abandoned=abandoned)
        if attempt.timer is not None:
            self._timers.cancel(attempt.timer)

    def _ended(self, attempt: Attempt) -> None:
        run, node = attempt.run, attempt.node
        if run.deadline is not None and attempt.context._ended >= run.deadline:
            self._stop(run, FLOW_TIMEOUT)  # first of all, since its own timer has not fired yet
        if run.running.get(node.place) is not attempt:
            return  # taken note of before
        self._forget(attempt)
        if attempt.error is None:
            self._completed(run, node, attempt.context, attempt.output, attempt.encoded)
        else:
            self._failed(run, node, attempt.context, attempt.error)

    def _abandon(self, attempt: Attempt, error: BaseException) -> None:
        """Stop waiting for a running attempt: it failed with *error*, unless it has just ended."""
        if not attempt.abandon():
            self._ended(attempt)
            return
        self._announce_attempt(attempt)
        self._forget(attempt, abandoned=True)
        self._on_abandoned(attempt)
        attempt.context._ended = monotonic()
        self._failed(attempt.run, attempt.node, attempt.context, error)

    def sub_flow_ended(
        self, run: Run, node: Node, context: StepContext, output: Json, error: BaseException | None
    ) -> None:
        """Take note that the run which `Run.launch` began has ended."""
        run.running.pop(node.place, None)
        context._ended = monotonic()
        if error is None:
            self._completed(run, node, context, output, encode_output(output) if run.encode else None)
        else:
            self._failed(run, node, context, error)

    def _completed(self, run: Run, node: Node, context: StepContext, output: Json, encoded: str | None) -> None:
        started = context._started if context.attempt == 1 else _first_start(run, node, context)
        step = node.step
        result = StepResult(  # positional: a tenth of the cost of a step
            step.id,
            step.name,
            _DONE,
            output,
            context._ended - started,
            context.attempt,
            None,
            None,
            self._clock + started,
            None,
            encoded,
        )
        if run.commit_first:
            self._commit(run, node, result, _COMPLETED)
        else:
            run.settle(node, result, _COMPLETED)
            if not run.left:
                self._finish(run)

    def _failed(self, run: Run, node: Node, context: StepContext, error: BaseException) -> None:
        """Follow a failed attempt with another one, or with the step's end."""
        if isinstance(error, SkipStep):
            self._end(run, node, context, error, Outcome.PASSED)
            return
        if isinstance(error, StepTimeout) and run.watch is not None:
            run.watch.timed_out(node, context.attempt, str(error))
        decision = retry.decide(node.step, context.attempt, error)
        if run.stop_reason is not None and decision.delay is not None:
            decision = retry.Decision(None, error)
        if decision.delay is None:
            self._end(run, node, context, decision.error, Outcome.FAILED)
            return
        if run.watch is not None:
            run.watch.retrying(node, context.attempt, decision.delay, describe(error))
        before = run.tried.get(node.place)
        tried = Tried(context._started if before is None else before.started, context, error)
        tried.timer = self._timers.add(monotonic() + decision.delay, partial(self._again, run, node, tried))
        run.tried[node.place] = tried

    def _end(self, run: Run, node: Node, context: StepContext, error: BaseException, outcome: Outcome) -> None:
        """Settle a step whose last attempt raised *error*."""
        started = _first_start(run, node, context)
        skipped = outcome is Outcome.PASSED
        cause = error.__cause__ if isinstance(error, RetryExhausted) and error.__cause__ else error
        result = StepResult(
            node.step.id,
            node.step.name,
            StepStatus.SKIPPED if skipped else StepStatus.FAILED,
            duration=context._ended - started,
            attempts=context.attempt,
            error=text_of(error) if skipped else describe(error),
            error_type=type(cause).__name__,
            started_at=self._clock + started,
            exception=error,
        )
        if run.commit_first:
            self._commit(run, node, result, outcome)
        else:
            run.settle(node, result, outcome)
            self._finish_if_done(run)

    def _commit(self, run: Run, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Settle a step once its outcome is committed: steps that end together share a commit."""

        def committed() -> None:
            self._committing -= 1
            run.running.pop(node.place, None)
            run.settle(node, result, outcome)
            self._finish_if_done(run)

        run.running[node.place] = None
        self._committing += 1
        assert run.log is not None
        run.log.commit(node, result, outcome, lambda: self.call(committed))

    def _finish_if_done(self, run: Run) -> None:
        if not run.left:
            self._finish(run)

    def _finish(self, run: Run) -> None:
        self._runs.remove(run)
        if run.timer is not None:
            self._timers.cancel(run.timer)
        run.on_done(run)

    # -- stopping ------------------------------------------------------------------------------------

    def _stop(self, run: Run, reason: str) -> None:
        """End *run* early: what has not begun is skipped with *reason*.

        At a flow's time-out, what runs fails at once; at a cancellation it is given the grace to end by itself.
        """
        if run.stop_reason is not None or not run.left:
            return
        run.stop_reason = run.scope.stop_reason = reason
        for attempt in [attempt for attempt in run.running.values() if attempt is not None]:
            if attempt.withdraw():
                self._forget(attempt)
            elif reason == FLOW_TIMEOUT:
                self._abandon(attempt, attempt.context._timed_out())
            else:
                attempt.context._interrupt()
        if reason == CANCELLED and any(run.running.values()):
            self._timers.add(monotonic() + self._grace, partial(self._give_up, run))
        self._wind_up(run, reason)

    def _wind_up(self, run: Run, reason: str) -> None:
        """End what `launch` began, and settle what has not begun."""
        if run.on_stop is not None:
            run.on_stop(run, reason)
        self._sweep(run, reason)

    def _sweep(self, run: Run, reason: str) -> None:
        """Settle every step that is not running: between two attempts it has failed, otherwise it is skipped."""
        for node in run.plan.nodes:
            if run.results[node.place] is not None or node.place in run.running:
                continue
            tried = run.tried.get(node.place)
            if tried is None:
                run.skip(node, reason, Outcome.PASSED)
                self._finish_if_done(run)
                continue
            if tried.timer is not None:
                self._timers.cancel(tried.timer)
            self._end(run, node, tried.context, tried.error, Outcome.FAILED)

    def _give_up(self, run: Run) -> None:
        for attempt in [attempt for attempt in run.running.values() if attempt is not None]:
            self._abandon(attempt, Cancelled(f"still running {self._grace:g}s after the cancellation"))


def _first_start(run: Run, node: Node, context: StepContext) -> float:
    """Return when the first attempt of *node*, which has ended, was started; attempts before a crash do not count."""
    tried = run.tried.pop(node.place, None)
    return context._started if tried is None else tried.started
