"""What becomes of a run whose coordinating thread is held up in a handler that was told to end, and does not.

The thread cannot be stopped, and nobody else can end its run for it, as long as it coordinates. So whoever asks for the
stop starts a thread that stands by. It waits for the handler to end, as long as one on a thread of its own would be
waited for, which is longer where it has promised to end. Then it takes the baton, which the other has laid down
meanwhile, and coordinates in its place. The other, whenever its handler returns, finds no baton: its word counts no
more.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.state import Stop
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call
from szal.scheduler.coordinator import Coordinator, Relief

__all__ = ["Relieved", "come_back", "hurry", "stand_by", "take_over"]

logger = SafeLogger(logging.getLogger(__name__))


class Relieved(BaseException):
    """Another thread coordinates now: this one has to return from wherever it is, touching nothing."""


def come_back(c: Coordinator, here: object, error: BaseException | None = None) -> None:
    """Go on after a handler, whose baton is *here*, if it has one; raises `Relieved` where another thread has taken it.

    Where *error*, which came up in the handler, is an interruption, it is not lost by that.
    """
    if isinstance(here, list):
        try:
            here.pop()
        except IndexError:
            if error is not None and is_interruption(error):
                c.interruption = c.interruption or error
            raise Relieved from None
    c.in_handler = None
    if c.relief is not None:
        c.relief.end()
        c.relief = None


def stand_by(c: Coordinator, stop: Stop, go_on: Callable[[], None]) -> None:
    """Tell the handler that the coordinating thread is in, and have *go_on* called if it does not end in time.

    From any thread, after the request for the stop is in the inbox; *go_on* is called on a thread of its own.
    """
    run, baton = c.inline_run, c.baton
    if not (c.in_handler is not None or c.is_pinned) or run is None or not (run.stoppable or not stop.ends):
        return
    run.info.stop = run.info.stop or stop
    if baton is None or c.relief is not None:
        return
    c.told_at = c.told_at or c.clock.monotonic()
    with suppress(IndexError):  # it has ended meanwhile
        baton[0][0].hear_of(stop)
    if c.is_pinned:
        return
    relief = c.relief = Relief(baton)

    def watch() -> None:
        if not relief.outwait(c.grace):
            go_on()

    try:
        threading.Thread(target=watch, name=f"szal-relief-{run.info.execution_id}", daemon=True).start()
    except RuntimeError:  # no thread to be had: then the run ends when its handler does
        logger.warning("execution %s ends only when its running step does", run.info.execution_id)


def hurry(c: Coordinator) -> None:
    """End the grace of the handler that the coordinating thread is in, if it was told to end. From any thread."""
    relief, baton = c.relief, c.baton
    if relief is not None:
        relief.hurry()
    elif c.is_pinned and baton is not None:
        with suppress(IndexError):
            baton[0][0].tell_to_end(hurry=True)


def take_over(c: Coordinator) -> Attempt:
    """Return the call that the thread before is held up in, as an attempt that was left behind. The new thread only."""
    run, relief = c.inline_run, c.relief
    assert run is not None
    assert relief is not None
    assert relief.given_up is not None
    context, started = relief.given_up
    c.in_handler = None
    c.is_relieved = True
    c.relief = None
    node = run.plan.nodes[run.plan.places[context.step.name]]
    handler = run.handlers[node.place]
    assert handler is not None
    call = Call(run, node, context.attempt)
    call.begin()
    call.started = started
    call.abandon()
    context.give_up(call)
    attempt = Attempt(call, context, handler, c.variables, run.encode)
    run.enter(node.place, attempt)
    return attempt
