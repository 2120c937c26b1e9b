"""What follows an attempt: the step's result, another attempt, or, where the run is being left, nothing."""

import logging
from functools import partial

import attrs

from szal.errors import (
    Cancelled,
    EngineClosed,
    LeaseLost,
    SkipStep,
    StepTimeout,
    StoreError,
    SzalError,
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
from szal.raised import is_a, name_of, set_cause
from szal.scheduler import retry
from szal.scheduler.attempt import Attempt
from szal.scheduler.before import History
from szal.scheduler.call import Call
from szal.scheduler.coordinator import MOST_IN_A_HURRY, Coordinator
from szal.scheduler.holding import is_come_to
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import FLOW_FAILED, Run
from szal.scheduler.spent import is_meant, spent
from szal.scheduler.stage import CALLED, COMMITTING, READY, SETTLED, UNDECIDED, BackingOff
from szal.storable import storable

__all__ = [
    "abandon",
    "announce",
    "attempt_ended",
    "back_off",
    "decide",
    "delegated_ended",
    "end",
    "end_between",
    "finish_if_done",
    "forget",
    "give_up",
    "left_behind",
    "refuse",
    "settle",
]

logger = SafeLogger(logging.getLogger(__name__))

_COMPLETED, _DONE = Outcome.COMPLETED, StepStatus.COMPLETED  # a look-up in an enum costs as much as a call


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
    if run.overruled and _end_overruled(c, call, error):
        return
    decide(c, call, attempt.output, attempt.encoded, error, last=attempt.is_last)


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
    elif call.abandoned or call.abandon():  # `relief` has done so before
        left_behind(c, attempt, error, last=last)
    else:
        attempt_ended(c, attempt)


def left_behind(c: Coordinator, attempt: Attempt, error: BaseException, *, last: bool = False) -> None:
    """Go on without an attempt that has just been abandoned, and whose thread is on its own from here on."""
    attempt.call.run.info.wake(attempt.call)
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
    c: Coordinator, call: Call, output: Json, error: BaseException | None, *, last: bool = False
) -> None:
    """Take note that what `Run.launch` began for a step has ended. *last*: no other attempt follows its failure."""
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
    decide(c, call, output, encoded, error, last=last)


def decide(
    c: Coordinator,
    call: Call,
    output: Json,
    encoded: str | None,
    error: BaseException | None,
    *,
    last: bool = False,
) -> None:
    """Follow an attempt, which failed if there is an *error*, with another one or with the step's end.

    *last*: with its end. If it comes to nothing, because of what a handler's exception or output does when it is looked
    at, that is the step's failure.
    """
    try:
        if error is None:
            run, node, started = call.run, call.node, call.started
            if node.until is not None and _polls_on(c, call, output, encoded, last=last):
                return
            history = run.history.pop(node.place, None)
            if history is not None:
                started = history.started
                if history.attempt:
                    _note_attempt(c, call, None)
            step, spent, moment = node.step, call.ended - started, c.ahead + started
            result = StepResult(  # positional: a tenth of the cost of a step
                step.id, step.name, _DONE, output, spent, call.number, None, None, moment, None, encoded
            )
            settle(c, run, node, result, _COMPLETED)
        else:
            _failed(c, call, error, last=last)
    except BaseException as problem:
        stage = SETTLED if call.run.is_over else call.run.stages[call.node.place]
        is_decided = stage is not READY and stage is not CALLED
        if is_decided or is_a(problem, StoreError, LeaseLost) or is_interruption(problem):
            raise
        execution_id = call.run.info.execution_id
        logger.exception("cannot tell what became of step %s of %s", call.node.step.name, execution_id)
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
    _note_attempt(c, call, error)
    can_be_decided = run.on_undecided is not None and run.stop is None and not last
    if can_be_decided and is_meant(error, UnknownOutcome):
        _leave_undecided(run, node, call.number, error)
        return
    if run.watch is not None and _is_time_out(call, error):
        run.watch.timed_out(node, call.number, describe(error))
    decision, kept = retry.decide(node.step, call.number, error), spent(error)
    if decision.error is not error:  # it says that the attempts are exhausted
        set_cause(decision.error, kept)
        end(c, call, decision.error, node.failure, kind=type(error))
    elif decision.delay is not None and (late := _too_late_for(call, decision.delay, error)) is not None:
        set_cause(late, kept)
        end(c, call, late, node.failure)
    elif decision.delay is None or last or run.stop is not None:
        end(c, call, kept, node.failure)
    elif c.leaving is None:
        if run.watch is not None:
            run.watch.retrying(node, call.number, decision.delay, describe(error))
        history = _history(call)
        history.attempt, history.error = call.number, kept
        if run.log is not None and run.handlers[node.place] is None:
            run.log.backing_off(node, call.number, decision.delay)
        back_off(c, run, node, decision.delay)


def _polls_on(c: Coordinator, call: Call, output: Json, encoded: str | None, *, last: bool) -> bool:
    """Have a step called again that has come to something else than what it polls for; False where it is over.

    *last*: it is not called again, and fails.
    """
    run, node, step = call.run, call.node, call.node.step
    try:
        if is_come_to(run.info, node, output):
            return False
    except BaseException as problem:
        if is_interruption(problem):
            raise
        end(c, call, problem, node.failure)
        return True
    if c.leaving is not None and c.leaving.breaks:
        return True  # whoever goes on makes this poll again
    history = _history(call)
    history.polls, history.error, history.output = call.poll, None, output
    if run.stop is not None or run.ends_waits or last:
        end_between(c, run, node, FLOW_FAILED if run.stop is None else run.stop.reason)
    elif (late := _too_late_for(call, step.delay, None)) is not None:
        late.partial_output = output
        end(c, call, late, node.failure)
    else:
        if run.log is not None:
            moment = c.ahead + history.started
            so_far = StepResult(step.id, step.name, StepStatus.PENDING, output, attempts=call.number, started_at=moment)
            so_far.encoded_output = encoded
            left = None if history.until_by is None else history.until_by - c.clock.monotonic()
            run.log.polled(node, so_far, call.poll, step.delay, left)
        if c.leaving is None:
            back_off(c, run, node, step.delay)
    return True


def _history(call: Call) -> History:
    """Return what is kept of the step of *call*, which has ended, and is not its last one."""
    run: Run = call.run
    history = run.history.get(call.node.place)
    if history is None:
        history = History(call.started, call.ended, 0, call.settled_before, None)
        run.history[call.node.place] = history
    history.ended, history.until_by = call.ended, call.until_by
    return history


def _too_late_for(call: Call, delay: float, error: BaseException | None) -> StepTimeout | None:
    """Return what a step fails with whose limit for all calls is over before another one could begin."""
    step, begins = call.node.step, call.run.info.clock.monotonic() + delay
    before = call.run.history.get(call.node.place)
    first = call.started if before is None else before.started
    told = None if error is None else describe(error)
    if step.total_timeout is not None and begins >= first + step.total_timeout:
        is_it = isinstance(error, StepTimeout) and error.in_all
        late = StepTimeout(step.name, step.total_timeout, in_all=True, error=None if is_it else told)
    elif call.until_by is not None and begins >= call.until_by:
        is_it = isinstance(error, StepTimeout) and error.polls is not None
        late = StepTimeout(step.name, step.until_timeout, error=None if is_it else told, polls=call.poll)
    else:
        return None
    late.partial_output = None if error is None else partial_output_of(error)
    return late


def _leave_undecided(run: Run, node: Node, attempt: int, error: BaseException) -> None:
    """Have somebody decide on a step, of which its handler does not know whether it was done."""
    assert run.log is not None
    assert run.on_undecided is not None
    run.history.pop(node.place, None)
    step, why = node.step, cut(storable(text_of(error)))
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


def back_off(c: Coordinator, run: Run, node: Node, delay: float) -> None:
    """Have another attempt follow in *delay* seconds."""
    timer = c.timers.add(c.clock.monotonic() + delay, partial(_again, c, run, node))
    run.enter(node.place, BackingOff(timer))


def _again(c: Coordinator, run: Run, node: Node) -> None:
    run.enter(node.place, READY)
    c.ready.append((run, node))


def end_between(
    c: Coordinator, run: Run, node: Node, reason: str, how: tuple[Exception, Outcome] | None = None
) -> None:
    """End a step between two attempts with the failure of the last one; of one before a crash that is not known.

    Between two polls it fails for *reason*. With *how* it ends so, be it that it is known of no attempt.
    """
    history = run.history.get(node.place)
    call = Call(run, node, 1 if history is None else history.attempt or 1)
    call.started = call.ended = c.clock.monotonic()
    error, outcome = how or (Cancelled("cancelled between two attempts"), node.failure)
    if history is not None:
        call.started, call.ended = history.started, history.ended
        if how is None and history.error is not None:
            end(c, call, history.error, outcome)
            return
        if how is None and history.polls:
            error = Cancelled(f"{reason} between two polls")
        if history.polls and isinstance(error, SzalError):
            error.partial_output = history.output
    end(c, call, error, outcome)


def end(
    c: Coordinator,
    call: Call,
    error: BaseException,
    outcome: Outcome,
    *,
    kind: type[BaseException] | None = None,
) -> None:
    """Settle a step whose last attempt raised *error*, or something else, of that *kind*, that *error* tells of."""
    node, started = call.node, call.started
    history = call.run.history.pop(node.place, None)
    if history is not None:
        started = history.started
    skipped = outcome is not Outcome.FAILED and outcome is not Outcome.CAUGHT
    output, encoded = (None, None) if skipped else _partial_output(call.run, node, error)
    result = StepResult(
        node.step.id,
        node.step.name,
        StepStatus.SKIPPED if skipped else StepStatus.FAILED,
        output,
        duration=max(0.0, call.ended - started),
        attempts=call.number,
        error=text_of(error) if skipped else describe(error),
        error_type=cut(storable(name_of(kind or type(error)))),
        started_at=c.ahead + started,
        exception=error,
        encoded_output=encoded,
        is_caught=outcome is Outcome.CAUGHT,
    )
    call.run.raised.append(node.place)
    settle(c, call.run, node, result, outcome)


def _partial_output(run: Run, node: Node, error: BaseException) -> tuple[Json, str | None]:
    """Return what a step has come to although it failed, and its JSON text where it is recorded."""
    output = partial_output_of(error)
    if output is None or run.encode is None:
        return output, None
    try:
        encoded, output = run.encode(output)
    except Exception as refused:  # noqa: BLE001 (as an output of a handler's)
        execution_id = run.info.execution_id
        logger.warning("what step %s of %s came to is left out: %s", node.step.name, execution_id, describe(refused))
        return None, None
    return output, encoded


def settle(c: Coordinator, run: Run, node: Node, result: StepResult, outcome: Outcome) -> None:
    """Settle a step, at once or when its outcome is committed: steps that end together share a commit."""
    if c.leaving is not None and c.leaving.breaks:
        return  # nothing more is recorded, and so nothing more is told
    if not run.commit_first or run.log is None:
        run.settle(node, result, outcome)
        if not run.unsettled:
            finish_if_done(c, run)
        elif run.held:
            run.release_next()
        return

    def committed(error: Exception | None) -> None:
        if run.is_over or run.stages[node.place] is not COMMITTING:
            return
        if error is not None:
            refuse(c, run, node, error, result)
            return
        run.enter(node.place, READY)
        run.settle(node, result, outcome)
        run.release_next()
        finish_if_done(c, run)

    run.enter(node.place, COMMITTING)
    run.log.commit(node, result, outcome, lambda error: c.inbox.call(partial(committed, error)))


def refuse(c: Coordinator, run: Run, node: Node, error: Exception, result: StepResult | None = None) -> None:
    """Fail a step of which the store refuses what is to be recorded: its *result*, or that it begins.

    Where it had settled before that was known, its result is changed: the caller has to end the run.
    """
    failed = StepResult(node.step.id, node.step.name, StepStatus.FAILED)
    if result is not None:
        failed = attrs.evolve(result, status=StepStatus.FAILED, output=None, encoded_output=None)
    told, is_caught = describe(error), node.failure is Outcome.CAUGHT
    failed = attrs.evolve(failed, error=told, error_type=name_of(type(error)), exception=error, is_caught=is_caught)
    run.raised.append(node.place)
    if run.stages[node.place] is SETTLED:
        run.fail_settled(node, failed)
        return
    run.enter(node.place, READY)
    run.settle(node, failed, node.failure)
    run.release_next()
    finish_if_done(c, run)


def finish_if_done(c: Coordinator, run: Run) -> None:
    """End a run of which every step has its result, and then what ends with it: a run whose last step it stands for."""
    if run.unsettled or run.is_over:
        return
    c.ending.call(partial(_finish, c, run))


def _finish(c: Coordinator, run: Run) -> None:
    """End *run*, unless that has been done. Who asked for a stop before that is heard first."""
    if run.is_over:
        return
    while c.inbox.has_calls or not (len(c.runs) > 1 or c.inbox.close()):
        c.inbox.make_calls()
    if run not in c.runs or c.is_breaking_off:
        return
    del c.runs[run]
    if run.timer is not None:
        c.timers.cancel(run.timer)
    run.is_over = True
    run.on_done(run)
    if c.runs:  # its undoing
        c.inbox.reopen()
