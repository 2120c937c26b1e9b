"""How runs end before their time. Stops that *end* a run skip the rest of it; the others *leave* all of it as it is."""

from functools import partial

from szal.errors import Cancelled, Undecided, describe
from szal.model.state import StepStatus, Stop
from szal.model.step import WAIT_TYPES
from szal.scheduler import ending, settling
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import FLOW_FAILED, Run
from szal.scheduler.stage import (
    CALLED,
    COMMITTING,
    FAN_OUT,
    KEPT,
    READY,
    SETTLED,
    STARTED,
    STARTING,
    SUB_FLOW,
    UNDECIDED,
    BackingOff,
    Queued,
    Waiting,
)

__all__ = [
    "end_early",
    "end_grace",
    "end_waits",
    "interrupt",
    "is_done_before",
    "leave",
    "leave_open",
    "let_go",
    "overtake",
    "pause",
    "refused",
    "still_running",
    "stop_all",
    "stop_run",
    "take_back_done",
    "take_back_start",
    "wind_up",
]


_GOING_ON = (SETTLED, CALLED, SUB_FLOW, FAN_OUT, COMMITTING)
"""What a stop that ends a run lets be."""


def interrupt(c: Coordinator, error: BaseException, *, can_end: bool = True) -> None:
    """Stop everything for what a signal handler raised; the second one, or one after a cancellation, ends the grace.

    Unless it *can_end*, it came in the midst of something: what it would end is left.
    """
    again = c.interruption is not None or c.is_breaking_off or c.is_cancelled
    c.interruption = c.interruption or error
    stop = c.stop_for(error)
    if again:
        end_grace(c, hurry=True)
    elif not stop.ends:
        leave(c, stop)
    elif can_end:
        stop_all(c, stop)
    else:
        leave(c, Stop.LOST)


def stop_all(c: Coordinator, stop: Stop, why: str | None = None) -> None:
    """End every run that can be stopped."""
    c.is_cancelled = True
    c.told_at = c.told_at or c.clock.monotonic()
    for run in [run for run in c.runs if run.stoppable]:
        stop_run(c, run, stop, why)


def refused(c: Coordinator, run: Run, key: str, error: Exception) -> None:
    """End every run, as the store takes everything but what was to be recorded of a step, which fails for that.

    It may be an item of one: *key* says which. Nothing follows for a run that has ended: its record has it all.
    """
    if run.is_over:
        return
    why = f"step {key!r} failed: {describe(error, run.info.redaction.mask)}"
    run, node = run.find(key)
    result = run.results[node.place]
    if result is not None and result.status is StepStatus.COMPLETED:
        ending.refuse(c, run, node, error, result)
    stop_all(c, Stop.REFUSED, why)


def stop_run(c: Coordinator, run: Run, stop: Stop, why: str | None = None) -> None:
    """End *run* early: what has not begun is skipped. *why* says more than *stop* does.

    At a flow's time-out, what runs fails as it does at its own; else it is given the grace to end by itself.
    """
    if run.stop is not None or run.is_over or c.is_breaking_off:
        return
    if stop is Stop.TIMED_OUT and all(stage is SETTLED or stage is COMMITTING for stage in run.stages):
        return  # all was done in time: that it takes long to be written is no time-out
    run.stop = run.info.stop = stop
    run.why = why
    if run.on_stop is not None:
        run.on_stop(run, stop)
    if stop is Stop.FAILED_FAST:
        _overrule(run, stop)
    attempts = [stage for _, stage in run.under_way() if isinstance(stage, Attempt)]
    for attempt in attempts:
        if run not in c.runs:  # ended by the one before
            return
        if attempt.call.withdraw():
            run.overruled.pop(attempt.call.node.place, None)
            settling.forget(c, attempt)
        elif stop is Stop.TIMED_OUT:
            settling.give_up(c, attempt, attempt.call.timed_out())
        else:
            run.info.wake(attempt.call)
    for items in list(run.fan_outs.values()):
        stop_run(c, items, stop, why)
    if stop is not Stop.TIMED_OUT and any(isinstance(stage, Attempt) for _, stage in run.under_way()):
        c.timers.add(c.clock.monotonic() + c.grace, partial(_give_up_on, c, run))
    wind_up(c, run, stop)


def _overrule(run: Run, stop: Stop) -> None:
    """Have what is under way fail, whatever it comes to."""
    for node, stage in run.under_way():
        if isinstance(stage, Attempt) or stage is SUB_FLOW:
            run.overruled[node.place] = Cancelled(stop.reason), node.failure


def wind_up(c: Coordinator, run: Run, stop: Stop) -> None:
    """Settle every step but those that run or are being committed: between two attempts it has failed, else skipped."""
    if run.items_before:
        c.take_up(c, run)
    for node in run.plan.nodes:
        if run.is_over:
            return
        stage = run.stages[node.place]
        if stage in _GOING_ON or isinstance(stage, Attempt):
            continue
        if isinstance(stage, Waiting) and stop is Stop.TIMED_OUT:
            stage.time_out()
        elif is_done_before(run, node):
            take_back_done(c, run, node)
        elif stage is UNDECIDED:
            leave_open(c, run, node)
        else:
            end_early(c, run, node, stop.reason, Outcome.PASSED)


def end_waits(c: Coordinator, run: Run) -> None:
    """Have *run* wait for nothing any more, as it has failed and is to be undone, or what it belongs to is."""
    run.ends_waits = True
    if c.leaving is not None:
        return  # whoever goes on with it does so
    for node, _ in run.under_way():
        if run.is_over:
            return
        stage = run.stages[node.place]
        is_wait = node.until is not None or node.step.step_type in WAIT_TYPES
        if is_wait and isinstance(stage, Waiting | BackingOff):
            overtake(c, run, node)
    for items in list(run.fan_outs.values()):
        end_waits(c, items)


def overtake(c: Coordinator, run: Run, node: Node) -> None:
    """End a wait, as its run waits for nothing any more."""
    end_early(c, run, node, FLOW_FAILED, Outcome.OVERTAKEN)


def is_done_before(run: Run, node: Node) -> bool:
    """Whether a step has an outcome from before, in this very execution, that has not been taken back yet."""
    return run.stages[node.place] is KEPT and not run.kept[node.place].age


def take_back_done(c: Coordinator, run: Run, node: Node) -> None:
    """Settle such a step as it did before."""
    run.take_back(node)
    ending.finish_if_done(c, run)


def let_go(c: Coordinator, run: Run, node: Node) -> None:
    """Have nothing go on for a step that is not being done: it is READY after that. An attempt has been withdrawn."""
    stage = run.stages[node.place]
    if isinstance(stage, Attempt):
        settling.forget(c, stage)
    elif isinstance(stage, Waiting):
        stage.withdraw()
    elif isinstance(stage, BackingOff):
        c.timers.cancel(stage.timer)
    elif isinstance(stage, Queued):
        if stage.permit.timer is not None:
            c.timers.cancel(stage.permit.timer)
        stage.permit.release()
    elif run.permits:
        run.give_back(node.place)
    run.enter(node.place, READY)


def end_early(
    c: Coordinator,
    run: Run,
    node: Node,
    reason: str,
    outcome: Outcome,
    *,
    failure: tuple[Exception, Outcome] | None = None,
) -> None:
    """End a step that is not being done: between two attempts it has failed, else it is skipped for *reason*.

    *failure* says how it fails; None: as its last attempt did.
    """
    let_go(c, run, node)
    if node.place in run.history:
        ending.end_between(c, run, node, reason, failure)
        return
    run.skip(node, reason, outcome)
    ending.finish_if_done(c, run)


def leave_open(c: Coordinator, run: Run, node: Node) -> None:
    """End a step of which nobody has said whether it was done."""
    call = Call(run, node, 1)
    call.started = call.ended = c.clock.monotonic()
    run.enter(node.place, READY)
    ending.end(c, call, Undecided(node.step.name), node.failure)


def leave(c: Coordinator, stop: Stop, error: BaseException | None = None) -> None:
    """Leave every run as it is: nothing starts any more; what runs is told, and has the grace to end by itself.

    What ends until then is recorded, unless the stop is one that breaks. *error* is what `Scheduler.drive` raises. A
    stop that is patient tells nobody, and waits for as long as it takes.
    """
    if c.leaving is None or stop.outranks(c.leaving):
        c.error = error or c.error
        c.leaving = stop
    else:
        c.error = c.error or error
    c.ready.clear()
    c.backlog.clear()
    c.pinned.clear()
    c.granted.clear()
    for run in list(c.runs):
        _leave_run(c, run, c.leaving)
    if c.leaving.is_patient:
        return
    c.told_at = c.told_at or c.clock.monotonic()
    if c.tally.work:
        c.timers.add(c.clock.monotonic() + c.grace, partial(end_grace, c))


def pause(c: Coordinator) -> None:
    """Leave every run once what runs has ended, unless they are about to end by themselves, or are undone."""
    if all(run.stoppable and run.stop is None for run in c.runs):
        leave(c, Stop.PAUSED)


def _leave_run(c: Coordinator, run: Run, stop: Stop) -> None:
    if not stop.is_patient:
        run.info.stop = run.info.stop or stop
        if run.timer is not None:
            c.timers.cancel(run.timer)
    if stop.breaks:
        run.log = run.on_stop = None
    run.give_back_all()
    for node, stage in run.under_way():
        if isinstance(stage, Attempt) and not stage.call.withdraw():
            if not stop.is_patient:
                stage.context.hear_of(stop)
        elif isinstance(stage, Waiting | Queued):
            let_go(c, run, node)
        elif isinstance(stage, Attempt | BackingOff) or stage is STARTING or stage is STARTED:
            let_go(c, run, node)
            take_back_start(run, node)
        elif stage is COMMITTING and stop.breaks:
            run.enter(node.place, READY)


def take_back_start(run: Run, node: Node) -> None:
    """Record that a step which must not run twice has not begun, where it was said to have."""
    if run.log is not None and not node.step.idempotent:
        run.log.withdrawn(node)


def end_grace(c: Coordinator, *, hurry: bool = False) -> None:
    """Give up on every handler that still runs, where it was told to end.

    With *hurry* also what it has promised to end in is cut short: a person asks for it.
    """
    if not (c.is_breaking_off or c.is_cancelled):
        return
    for run in list(c.runs):
        _give_up_on(c, run, hurry=hurry)


def _give_up_on(c: Coordinator, run: Run, *, hurry: bool = False) -> None:
    for node, stage in run.under_way():
        if run.is_over:  # by the one before
            return
        if isinstance(stage, Attempt):
            settling.give_up(c, stage, still_running(c), last=True, hurry=hurry)
        elif stage is COMMITTING and c.is_breaking_off:
            run.enter(node.place, READY)


def still_running(c: Coordinator) -> Cancelled:
    """Return the error of what had to be left behind, after the grace or when that was ended."""
    waited = c.clock.monotonic() - c.told_at
    after = f"{c.grace:g}" if waited >= c.grace else f"{waited:.2g}"
    return Cancelled(f"still running {after}s after the cancellation")
