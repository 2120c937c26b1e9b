"""Handlers that the coordinating thread calls itself, those of a chain one after another."""

from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.process_events import HERE, end_fork
from szal.scheduler import relief, stopping
from szal.scheduler.again import new_call
from szal.scheduler.attempt import without_engine_frames
from szal.scheduler.call import Call
from szal.scheduler.context import StepContext
from szal.scheduler.coordinator import Baton, Coordinator
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.settling import decide, settle_recorded
from szal.scheduler.stage import CALLED, PENDING, READY, SETTLED

__all__ = ["call_inline"]

_COMPLETED, _DONE = Outcome.COMPLETED, StepStatus.COMPLETED


def call_inline(c: Coordinator, run: Run, node: Node) -> None:  # noqa: PLR0915 (what it would call out of it shows)
    """Call the handler on this thread, and as long as it completes that of the step which waits for it alone.

    All that a step of a chain costs is in this loop, so what others call is written out here.
    """
    results, stages, done, handlers = run.results, run.stages, run.completed, run.handlers
    watch, log, encode, monotonic = run.watch, run.log, run.encode, c.clock.monotonic
    ahead, new_context, copy_variables, inbox = c.ahead, run.new_context, c.variables.copy, c.inbox
    straight = not (run.commit_first or run.plan.starts_early or run.history)
    call = None if straight else new_call(run, node)
    baton: Baton | None = [] if run.relievable else None
    here = run if baton is None else baton  # says in whose handler the coordinator is: another may have taken over
    c.baton, c.inline_run, before, process = baton, run, stages[node.place], HERE.process
    while True:
        stages[place := node.place] = CALLED
        context = new_context(node, 1 if call is None else call.number, call)
        started, encoded = monotonic(), None
        if baton is not None:
            baton.append((context, started))
        try:
            c.in_handler = here
            if inbox.has_calls:  # asked after it is said: whoever asks for a stop later sees it
                break
            if watch is not None and (call is None or call.is_first):
                watch.started(node, ahead + started)
            output = copy_variables().run(handlers[place], context)  # type: ignore[arg-type]
            if encode is not None:
                encoded, output = encode(output)
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its step's failure)
            end_fork(process, node.step.name, error)
            relief.come_back(c, here, error)
            _failed(c, context, _ended_call(call or Call(run, node, 1), started, monotonic()), error)
            return
        ended = monotonic()
        if HERE.process is not process:  # asked here: the call costs 5 % of a step
            end_fork(process, node.step.name)
        if baton is None:
            c.in_handler = None
        else:
            relief.come_back(c, baton)
        follower = node.next_in_chain if straight and context.work is None else None
        if follower is None or stages[follower.place] is not PENDING:
            _ended(c, context, _ended_call(call or Call(run, node, 1), started, ended), output, encoded)
            return
        step = node.step
        result = StepResult(
            step.id, step.name, _DONE, output, ended - started, 1, None, None, ahead + started, None, encoded
        )
        if log is not None:
            log.settled(node, result, _COMPLETED)
        results[place], stages[place] = result, SETTLED
        done.append(place)
        run.unsettled -= 1
        if watch is not None:
            watch.settled(node, result)
        node, before = follower, READY
    relief.come_back(c, here)
    stages[place] = before
    c.ready.append((run, node))


def _ended_call(call: Call, started: float, ended: float) -> Call:
    """Return *call*, with its times."""
    call.started, call.ended = started, ended
    return call


def _ended(c: Coordinator, context: StepContext, call: Call, output: Json, encoded: str | None) -> None:
    """Take note of what a handler on this thread has come to; its transaction, if it has had one, is ended first."""
    error = None
    if (work := context.work) is not None:
        recorded, error = work.conclude(call, output, encoded, None, c.ahead)
        if recorded is not None:
            settle_recorded(c, call, work, recorded)
            return
        if c.inbox.has_calls:  # what it failed for may be a stop that is on its way
            c.inbox.make_calls()
    decide(c, call, output, encoded, error)


def _failed(c: Coordinator, context: StepContext, call: Call, error: BaseException) -> None:
    """Take note of what came up in a handler on this thread: its failure, or what interrupts all of it."""
    interrupted = is_interruption(error)
    if interrupted:
        stopping.interrupt(c, error)
    if (work := context.work) is not None:
        recorded, failure = work.conclude(call, None, None, error, c.ahead)
        if recorded is not None:
            settle_recorded(c, call, work, recorded)
            return
        assert failure is not None
        error = failure
    if c.inbox.has_calls:  # what it failed for may be a stop that is on its way
        c.inbox.make_calls()
    decide(c, call, None, None, without_engine_frames(error), last=interrupted)
