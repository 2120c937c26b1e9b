"""What follows an attempt: the step's result, another attempt, or, where the run is being left, nothing."""

import logging
from functools import partial
from types import CoroutineType

from szal.errors import (
    Cancelled,
    EngineClosed,
    ExecutorBroken,
    LeaseLost,
    OutputNotSerializable,
    SkipStep,
    StepTimeout,
    StoreError,
    UnknownOutcome,
    cut,
    describe,
    partial_output_of,
    text_of,
)
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.results import StepResult
from szal.model.state import StepStatus, Stop
from szal.raised import cause_of, is_a, set_cause
from szal.scheduler import retry
from szal.scheduler.again import back_off, end_unmade, history_of, polls_on, too_late_for
from szal.scheduler.attempt import Attempt, Lost, NotTaken
from szal.scheduler.call import Call
from szal.scheduler.coordinator import MOST_IN_A_HURRY, Coordinator
from szal.scheduler.ending import end, settle, settle_now
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.spent import is_meant, spent
from szal.scheduler.stage import CALLED, READY, SETTLED, UNDECIDED
from szal.scheduler.transaction import Work
from szal.storable import storable

__all__ = [
    "abandon",
    "announce",
    "attempt_ended",
    "decide",
    "delegated_ended",
    "forget",
    "give_up",
    "left_behind",
    "settle_recorded",
]

logger = SafeLogger(logging.getLogger(__name__))

_COMPLETED = Outcome.COMPLETED  # a look-up in an enum costs as much as a call


def announce(c: Coordinator, call: Call) -> None:
    """Tell that the first attempt of a step has begun."""
    watch = call.run.watch
    if watch is not None and call.is_first:
        watch.started(call.node, c.ahead + call.started)


def announce_attempt(c: Coordinator, attempt: Attempt) -> None:
    """Tell that an attempt has begun, once: at its own word, or when it ends before that is heard."""
    if attempt.announce is not None:
        attempt.announce = None
        announce(c, attempt.call)


def forget(c: Coordinator, attempt: Attempt, *, abandoned: bool = False) -> None:
    """Take note that an attempt is under way no more. Its step is READY until what follows is decided."""
    call = attempt.call
    call.run.attempt_ends(call.node.place)
    pool = attempt.pool
    if pool is not None:
        pool.load -= 1
        if abandoned:
            pool.lose_worker()
    if attempt.permit is not None and not abandoned:
        attempt.permit.release()
    if attempt.timer is not None:
        c.timers.cancel(attempt.timer)


def attempt_ended(c: Coordinator, attempt: Attempt) -> None:
    """Take note of what an attempt reports."""
    if attempt.error is not None and c.inbox.has_calls:
        _hear(c, attempt)
    call = attempt.call
    run = call.run
    if run.is_over or run.stages[call.node.place] is not attempt:
        return  # taken note of before
    if attempt.announce is not None:
        announce_attempt(c, attempt)
    forget(c, attempt)
    error, attempt.error = attempt.error, None  # whose traceback leads to the attempt
    if type(error) is NotTaken or type(error) is Lost:
        _hand_back(c, call, error)
        return
    if attempt.recorded is not None and attempt.context.work is not None:
        settle_recorded(c, call, attempt.context.work, attempt.recorded)
        return
    if run.overruled and _end_overruled(c, call, error):
        return
    decide(c, call, attempt.output, attempt.encoded, error, last=attempt.is_last)


def _hand_back(c: Coordinator, call: Call, error: NotTaken | Lost) -> None:
    """Leave a step as it was before an attempt that nobody was there to make; raise `ExecutorBroken`, once.

    One that may have begun stays as a crash would leave it.
    """
    run, node, was_lost = call.run, call.node, type(error) is Lost
    if run.log is not None and not node.step.idempotent and not was_lost:
        run.log.withdrawn(node)
    if c.leaving is None:
        raise ExecutorBroken(node.step.name, str(error), was_lost) from cause_of(error)


def settle_recorded(c: Coordinator, call: Call, work: Work, result: StepResult) -> None:
    """Settle a step whose outcome its transaction has committed: whatever was to stop it has come too late."""
    run, node = call.run, call.node
    run.overruled.pop(node.place, None)
    run.history.pop(node.place, None)
    if work.is_written:
        settle_now(c, run, node, result, _COMPLETED)
    else:
        settle(c, run, node, result, _COMPLETED)


def _hear(c: Coordinator, attempt: Attempt) -> None:
    """Make the calls that have come before the end of a failed attempt: what it failed for may be a stop among them."""
    try:
        c.inbox.make_calls()
    except BaseException:
        c.inbox.finished.put(attempt)  # it has ended all the same
        raise


def give_up(c: Coordinator, attempt: Attempt, error: BaseException, *, last: bool = False, hurry: bool = False) -> None:
    """Tell an attempt to end, and wait no longer than it has promised: without a promise, it is abandoned at once.

    With *hurry* it has no grace any more either. *error* and *last* are as for `abandon`.
    """
    attempt.is_last = attempt.is_last or last
    seconds = attempt.context.tell_to_end(hurry=hurry)
    if seconds is None:
        abandon(c, attempt, error, last=last)
        return
    if attempt.timer is not None:
        c.timers.cancel(attempt.timer)
    left = min(seconds, MOST_IN_A_HURRY) if hurry else seconds
    attempt.timer = c.timers.add(c.clock.monotonic() + left, partial(abandon, c, attempt, error, last=last))


def abandon(c: Coordinator, attempt: Attempt, error: BaseException, *, last: bool = False) -> None:
    """Stop waiting for an attempt: it failed with *error*, unless it has just ended. *last*: none follows it."""
    call = attempt.call
    if call.withdraw():
        call.started = c.clock.monotonic()
        _given_up(c, attempt, error, last=last, runs=False)
    elif attempt.is_concluding and not call.abandoned:
        attempt.timer = c.timers.add(
            c.clock.monotonic() + MOST_IN_A_HURRY, partial(abandon, c, attempt, error, last=last)
        )
    elif call.abandoned or call.abandon():  # `relief` has done so before
        left_behind(c, attempt, error, last=last)
    else:
        attempt_ended(c, attempt)


def left_behind(c: Coordinator, attempt: Attempt, error: BaseException, *, last: bool = False) -> None:
    """Go on without an attempt that has just been abandoned, and whose thread is on its own from here on."""
    attempt.call.run.info.wake(attempt.call)
    if attempt.context.work is not None:
        attempt.context.work.abandon()
    c.on_abandoned(attempt)
    _given_up(c, attempt, error, last=last, runs=True)


def _given_up(c: Coordinator, attempt: Attempt, error: BaseException, *, last: bool, runs: bool) -> None:
    announce_attempt(c, attempt)
    forget(c, attempt, abandoned=runs)
    attempt.call.ended = c.clock.monotonic()
    if attempt.call.run.overruled and _end_overruled(c, attempt.call, error, given_up=True):
        return
    decide(c, attempt.call, None, None, error, last=last)


def delegated_ended(
    c: Coordinator,
    call: Call,
    output: Json,
    error: BaseException | None,
    *,
    last: bool = False,
    masked: bool = False,
) -> None:
    """Take note that what `Run.launch` began for a step has ended. *last*: no other attempt follows its failure.

    *masked*: the output is not what it was.
    """
    run: Run = call.run
    if run.is_over:
        return
    run.enter(call.node.place, READY)
    call.ended = c.clock.monotonic()
    if run.overruled and _end_overruled(c, call, error):
        return
    encoded = None
    if error is None and run.encode is not None:
        try:
            encoded, output = run.encode(output)
        except Exception as refused:  # noqa: BLE001 (as an output of a handler's)
            error, last = refused, True  # what it is of has completed
    decide(c, call, output, encoded, error, last=last, masked=masked)


def decide(
    c: Coordinator,
    call: Call,
    output: Json,
    encoded: str | None,
    error: BaseException | None,
    *,
    last: bool = False,
    masked: bool = False,
) -> None:
    """Follow an attempt, which failed if there is an *error*, with another one or with the step's end.

    *last*: with its end. If it comes to nothing, because of what a handler's exception or output does when it is looked
    at, that is the step's failure.
    """
    try:
        if type(output) is CoroutineType:  # not even an `async def` that something plain hides is done unawaited
            output.close()
            error = error or OutputNotSerializable("output", "coroutine, which nobody runs: szal calls plain functions")
        if error is None:
            run, node = call.run, call.node
            if node.until is not None and polls_on(c, call, output, encoded, last=last):
                return
            history = run.history.get(node.place)
            if history is not None and history.attempt:
                _note_attempt(c, call, None)
            result = call.completed(output, encoded, c.ahead)
            if masked:
                result.is_masked = True
            run.history.pop(node.place, None)
            settle(c, run, node, result, _COMPLETED)
        else:
            _failed(c, call, error, last=last)
    except BaseException as problem:
        stage = SETTLED if call.run.is_over else call.run.stages[call.node.place]
        is_decided = stage is not READY and stage is not CALLED
        if is_decided or is_a(problem, StoreError, LeaseLost) or is_interruption(problem):
            raise
        execution_id = call.run.info.execution_id
        shown = call.run.info.redaction.exception(problem)
        logger.error("cannot tell what became of step %s of %s", call.node.step.name, execution_id, exc_info=shown)
        end(c, call, problem, call.node.failure)


def _failed(c: Coordinator, call: Call, error: BaseException, *, last: bool) -> None:
    """Follow a failed attempt with another one, or with the step's end. *last*: with its end."""
    run, node = call.run, call.node
    if c.leaving is not None and (c.leaving.breaks or _is_broken_off(c.leaving, run, error)):
        return  # it did not get to its end, and is run again by whoever goes on
    if is_meant(error, SkipStep):
        is_overtaken = node.place in run.overtaken
        end(c, call, spent(error), Outcome.OVERTAKEN if is_overtaken else Outcome.PASSED)
        return
    if call.begun and call.is_too_late:
        end_unmade(c, call)
        return
    _note_attempt(c, call, error)
    can_be_decided = run.on_undecided is not None and run.stop is None and not last
    if can_be_decided and is_meant(error, UnknownOutcome):
        _leave_undecided(run, node, call.number, error)
        return
    if run.watch is not None and _is_time_out(call, error):
        run.watch.timed_out(node, call.number, describe(error, run.info.redaction.mask))
    decision, kept = retry.decide(node.step, call.number, error, run.info.redaction.mask), spent(error)
    if decision.error is not error:  # it says that the attempts are exhausted
        set_cause(decision.error, kept)
        end(c, call, decision.error, node.failure, kind=type(error))
    elif decision.delay is not None and (late := too_late_for(call, decision.delay, error)) is not None:
        set_cause(late, kept)
        end(c, call, late, node.failure)
    elif decision.delay is None or last or run.stop is not None:
        end(c, call, kept, node.failure)
    elif c.leaving is None:
        if run.watch is not None:
            run.watch.retrying(node, call.number, decision.delay, describe(error, run.info.redaction.mask))
        history = history_of(call)
        history.attempt, history.error = call.number, kept
        if run.log is not None and run.handlers[node.place] is None:
            run.log.backing_off(node, call.number, decision.delay)
        back_off(c, run, node, decision.delay)


def _leave_undecided(run: Run, node: Node, attempt: int, error: BaseException) -> None:
    """Have somebody decide on a step, of which its handler does not know whether it was done."""
    assert run.log is not None
    assert run.on_undecided is not None
    run.history.pop(node.place, None)
    step, why = node.step, cut(storable(text_of(error, run.info.redaction.mask)))
    begun = StepResult(step.id, step.name, StepStatus.RUNNING, attempts=attempt, error=why)
    run.log.undecided(node, begun)
    run.on_undecided(node)
    run.enter(node.place, UNDECIDED)
    if run.held:
        run.release_next()


def _end_overruled(c: Coordinator, call: Call, error: BaseException | None, *, given_up: bool = False) -> bool:
    """End a step that was stopped as that says, whatever it has come to; False where it was not.

    Where it was *given_up* on, its error says so.
    """
    end_of_it = call.run.overruled.pop(call.node.place, None)
    if end_of_it is None:
        return False
    cancelled, outcome = end_of_it
    ended: BaseException = cancelled
    if error is not None and is_a(error, Cancelled):
        cancelled.partial_output = partial_output_of(error)  # of a command: what it had printed
        ended = error if given_up else cancelled
    _note_attempt(c, call, ended)
    end(c, call, ended, outcome)
    return True


def _note_attempt(c: Coordinator, call: Call, error: BaseException | None) -> None:
    """Have it noted how an attempt ended: one that failed, or that followed one."""
    if call.run.log is not None:
        call.run.log.attempt_ended(call.node, c.ahead + call.started, c.ahead + call.ended, error)


def _is_broken_off(leaving: Stop, run: Run, error: BaseException) -> bool:
    """Whether a handler raised that because its run, or one that it was in itself, is being left."""
    if leaving.is_patient and run.stop is not None:
        return False  # it was told to end for that
    return is_meant(error, Cancelled) or is_a(error, EngineClosed) or is_interruption(error)


def _is_time_out(call: Call, error: BaseException) -> bool:
    """Whether the engine has ended the attempt for its limit: one that a handler raised before that is its own."""
    return is_a(error, StepTimeout) and (call.is_late or call.run.handlers[call.node.place] is None)
