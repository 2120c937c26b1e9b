"""How steps end: their one result, at once or when it is committed; and with the last of them their run."""

import logging
from functools import partial

import attrs

from szal.errors import Cancelled, cut, describe, partial_output_of, text_of
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.results import StepResult
from szal.model.state import StepStatus, Stop
from szal.raised import name_of
from szal.scheduler.before import History
from szal.scheduler.call import Call
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.stage import COMMITTING, READY, SETTLED
from szal.storable import storable

__all__ = ["end", "end_between", "finish_if_done", "refuse", "settle", "settle_now"]

logger = SafeLogger(logging.getLogger(__name__))


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
    end(c, call, error, outcome)


def end(
    c: Coordinator,
    call: Call,
    error: BaseException,
    outcome: Outcome,
    *,
    kind: type[BaseException] | None = None,
) -> None:
    """Settle a step whose last attempt raised *error*, or something else, of that *kind*, that *error* tells of.

    What *error* has of an output is the step's; else that is what the last poll came to.
    """
    node, started = call.node, call.started
    history = call.run.history.pop(node.place, None)
    if history is not None:
        started = history.started
    skipped = outcome is not Outcome.FAILED and outcome is not Outcome.CAUGHT
    mask = call.run.info.redaction.mask
    output, encoded = (None, None) if skipped else _partial_output(call.run, node, error, history)
    result = StepResult(
        node.step.id,
        node.step.name,
        StepStatus.SKIPPED if skipped else StepStatus.FAILED,
        output,
        duration=max(0.0, call.ended - started),
        attempts=call.number,
        error=text_of(error, mask) if skipped else describe(error, mask),
        error_type=cut(storable(name_of(kind or type(error)))),
        started_at=c.ahead + started,
        exception=error,
        encoded_output=encoded,
        is_caught=outcome is Outcome.CAUGHT,
    )
    call.run.raised.append(node.place)
    settle(c, call.run, node, result, outcome)


def _partial_output(run: Run, node: Node, error: BaseException, history: History | None) -> tuple[Json, str | None]:
    """Return what a step has come to although it failed, and its JSON text where it is recorded."""
    output = partial_output_of(error)
    if output is None and history is not None:
        output = history.output
    if output is None or run.encode is None:
        return output, None
    try:
        encoded, output = run.encode(output)
    except Exception as refused:  # noqa: BLE001 (as an output of a handler's)
        execution_id = run.info.execution_id
        why = describe(refused, run.info.redaction.mask)
        logger.warning("what step %s of %s came to is left out: %s", node.step.name, execution_id, why)
        return None, None
    return output, encoded


def settle(c: Coordinator, run: Run, node: Node, result: StepResult, outcome: Outcome) -> None:
    """Settle a step, at once or when its outcome is committed: steps that end together share a commit."""
    if not run.commit_first or run.log is None:
        settle_now(c, run, node, result, outcome)
        return
    if c.leaving is not None and c.leaving.breaks:
        return  # nothing more is recorded, and so nothing more is told

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


def settle_now(c: Coordinator, run: Run, node: Node, result: StepResult, outcome: Outcome) -> None:
    """Settle a step that waits for no commit."""
    if c.leaving is not None and c.leaving.breaks:
        return
    run.settle(node, result, outcome)
    if not run.unsettled:
        finish_if_done(c, run)
    elif run.held:
        run.release_next()


def refuse(c: Coordinator, run: Run, node: Node, error: Exception, result: StepResult | None = None) -> None:
    """Fail a step of which the store refuses what is to be recorded: its *result*, or that it begins.

    Where it had settled before that was known, its result is changed: the caller has to end the run.
    """
    failed = StepResult(node.step.id, node.step.name, StepStatus.FAILED)
    if result is not None:
        failed = attrs.evolve(result, status=StepStatus.FAILED, output=None, encoded_output=None)
    told, is_caught = describe(error, run.info.redaction.mask), node.failure is Outcome.CAUGHT
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
    if c.leaving is Stop.PAUSED and len(c.runs) == 1:
        c.leaving = None  # no step is left that could be put off: it ends, or is undone, as it would have
    del c.runs[run]
    if run.timer is not None:
        c.timers.cancel(run.timer)
    run.is_over = True
    run.on_done(run)
    if c.runs:  # its undoing
        c.inbox.reopen(takes_ends=not all(run.is_final for run in c.runs))
