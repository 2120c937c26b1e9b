"""Handlers that must stay on the coordinating thread: called by it one at a time, once all else has been started.

As it is in one of them, it takes note of nothing: what workers report, and what comes due, waits until it has ended. So
such a handler is an attempt as one of a worker's, and what became of it meanwhile is seen in the same order; but
nobody can leave it behind. It is told of a stop by whoever asks for that (`relief.stand_by`).
"""

from szal.errors import ThreadHeldUp
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.scheduler import settling, stopping
from szal.scheduler.again import new_call
from szal.scheduler.attempt import without_engine_frames
from szal.scheduler.context import StepContext
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.starting import is_startable, new_attempt

__all__ = ["call_next"]


def call_next(c: Coordinator) -> bool:
    """Call the next of them, if there is room for it; what it reports is in the inbox. False: none was called."""
    while c.pinned and c.pooled.load + c.limited.load < c.limit:
        entry = c.pinned.pop()
        _, _, run, node = entry
        if not is_startable(run, node):
            continue
        if c.is_relieved:
            _refuse(c, run, node)
        elif not _call(c, run, node):
            c.pinned.put_back(entry)
            return False
        return True
    return False


def _call(c: Coordinator, run: Run, node: Node) -> bool:
    """Make an attempt on this thread; False where there is something to be done before."""
    attempt = new_attempt(c, run, node)
    handler, baton = attempt.handler, [(attempt.context, c.clock.monotonic())]

    def here(ctx: StepContext) -> Json:
        settling.announce(c, attempt.call)
        c.in_handler = baton  # what a signal handler raises from here on comes up here
        try:
            return handler(ctx)
        finally:
            c.in_handler = None

    attempt.handler, attempt.announce = here, None
    c.inline_run, c.baton, c.is_pinned = run, baton, True
    try:
        if c.inbox.has_calls:  # asked after it is said: whoever asks for a stop later tells the handler
            if attempt.permit is not None:
                run.permits[node.place] = attempt.permit
            return False
        run.attempt_begins(node.place, attempt)
        attempt.execute(c.inbox.finished)
    finally:
        c.is_pinned, c.baton = False, None
    if attempt.error is not None:
        attempt.error = without_engine_frames(attempt.error)  # `here`
        if is_interruption(attempt.error):
            attempt.is_last = True
            stopping.interrupt(c, attempt.error)
    return True


def _refuse(c: Coordinator, run: Run, node: Node) -> None:
    """Fail a step whose thread is in another handler that does not end, and so cannot come to this one."""
    call = new_call(run, node)
    call.started = call.ended = c.clock.monotonic()
    settling.decide(c, call, None, None, ThreadHeldUp(node.step.name), last=True)
