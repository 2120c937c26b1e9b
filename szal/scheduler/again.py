"""How steps are called again: in another attempt, or in another poll, when that is due."""

from functools import partial

from szal.errors import StepTimeout, describe, partial_output_of
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.scheduler.before import History
from szal.scheduler.call import Call
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.ending import end, end_between
from szal.scheduler.holding import is_come_to
from szal.scheduler.plan import Node
from szal.scheduler.run import FLOW_FAILED, Run
from szal.scheduler.stage import READY, BackingOff

__all__ = ["back_off", "end_unmade", "history_of", "new_call", "polls_on", "too_late_for"]


def polls_on(c: Coordinator, call: Call, output: Json, encoded: str | None, *, last: bool) -> bool:
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
        history_of(call).output = output
        end(c, call, problem, node.failure)
        return True
    if c.leaving is not None and c.leaving.breaks:
        return True  # whoever goes on makes this poll again
    history = history_of(call)
    history.polls, history.error, history.output = call.poll, None, output
    if run.stop is not None or run.ends_waits or last:
        end_between(c, run, node, FLOW_FAILED if run.stop is None else run.stop.reason)
    elif (late := too_late_for(call, step.delay, None)) is not None:
        end(c, call, late, node.failure)
    else:
        if run.log is not None:
            run.log.polled(node, call.so_far(output, encoded, c.ahead), call.next_poll())
        if c.leaving is None:
            back_off(c, run, node, step.delay)
    return True


def history_of(call: Call) -> History:
    """Return what is kept of the step of *call*, which has ended, and is not its last one."""
    run: Run = call.run
    history = run.history.get(call.node.place)
    if history is None:
        history = History(call.started, call.ended, 0, call.settled_before, None)
        run.history[call.node.place] = history
    history.ended, history.until_by = call.ended, call.until_by
    return history


def too_late_for(call: Call, delay: float, error: BaseException | None) -> StepTimeout | None:
    """Return what a step fails with whose limit for all calls is over before another one could begin."""
    before = call.run.history.get(call.node.place)
    first = call.started if before is None else before.started
    return _late(call, call.run.info.clock.monotonic() + delay, first, error, call.poll)


def end_unmade(c: Coordinator, call: Call) -> None:
    """End a step that a call is too late for: it waited too long for a worker, or for somebody who goes on with it."""
    run, node, history = call.run, call.node, call.run.history[call.node.place]
    polls = history.polls + (history.error is not None)
    late = _late(call, call.started, history.started, history.error, polls)
    end_between(c, run, node, FLOW_FAILED, None if late is None else (late, node.failure))


def _late(call: Call, begins: float, first: float, error: BaseException | None, polls: int) -> StepTimeout | None:
    """Return what tells that no call may begin then, after *polls*, the last of which may have failed with *error*."""
    step = call.node.step
    told = None if error is None else describe(error, call.run.info.redaction.mask)
    if step.total_timeout is not None and begins >= first + step.total_timeout:
        is_it = isinstance(error, StepTimeout) and error.in_all
        late = StepTimeout(step.name, step.total_timeout, in_all=True, error=None if is_it else told)
    elif call.until_by is not None and begins >= call.until_by:
        is_it = isinstance(error, StepTimeout) and error.polls is not None
        late = StepTimeout(step.name, step.until_timeout, error=None if is_it else told, polls=polls)
    else:
        return None
    late.partial_output = None if error is None else partial_output_of(error)
    return late


def back_off(c: Coordinator, run: Run, node: Node, delay: float) -> None:
    """Have another attempt follow in *delay* seconds."""
    timer = c.timers.add(c.clock.monotonic() + delay, partial(_again, c, run, node))
    run.enter(node.place, BackingOff(timer))


def _again(c: Coordinator, run: Run, node: Node) -> None:
    run.enter(node.place, READY)
    c.ready.append((run, node))


def new_call(run: Run, node: Node) -> Call:
    """Return the call of the next attempt."""
    history = run.history.get(node.place)
    if history is None:
        return Call(run, node, 1, run.deadline, run.info.settled)  # names of arguments would cost a fifth of it
    call = Call(run, node, history.attempt + 1, run.deadline, history.settled_before)
    if node.step.total_timeout is not None:
        call.first, end = history.started, history.started + node.step.total_timeout
        call.deadline = end if call.deadline is None else min(call.deadline, end)
    if node.until is not None:
        call.poll, call.until_by = history.polls + 1, history.until_by
        if call.until_by is not None:
            call.deadline = call.until_by if call.deadline is None else min(call.deadline, call.until_by)
    return call
