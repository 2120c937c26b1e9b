"""What becomes of a run whose coordinating thread is held up in a handler that was told to end, and does not.

The thread cannot be stopped, and nobody else can end its run for it, as long as it coordinates. So whoever asks for the
stop starts a thread that stands by. It waits for the call to end, as long as a handler on a thread of its own would be
waited for; then it abandons the call, and coordinates in that thread's place. The other, whenever its handler returns,
finds that its word counts no more.
"""

import logging
import threading
import time
from collections.abc import Callable

from szal.logs import SafeLogger
from szal.model.state import Stop
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call
from szal.scheduler.coordinator import Coordinator, Relief
from szal.scheduler.run import Run

__all__ = ["Relieved", "check", "stand_by", "take_over"]

logger = SafeLogger(logging.getLogger(__name__))


class Relieved(BaseException):
    """Another thread coordinates now: this one has to return from wherever it is, touching nothing."""


def check(c: Coordinator, call: Call, interruption: BaseException | None = None) -> None:
    """Go on after an inline call; raises `Relieved` where it was abandoned. Coordinator only.

    *interruption* came up in it, and is not to be lost.
    """
    if not call.report():
        c.interruption = c.interruption or interruption
        raise Relieved
    if c.relief is not None:
        c.relief.woken.set()
        c.relief = None


def stand_by(c: Coordinator, stop: Stop, go_on: Callable[[], None]) -> None:
    """Tell the handler that the coordinating thread is in, and have *go_on* called if it does not end in time.

    From any thread, after the request for the stop is in the inbox; *go_on* is called on a thread of its own.
    """
    if not c.in_handler or c.inline is None:
        return
    call = c.inline
    run: Run = call.run
    if run.stoppable or not stop.ends:
        run.info.stop = run.info.stop or stop
    c.told_at = c.told_at or time.monotonic()
    run.info.wake(call)
    if c.relief is not None or not (run.stoppable or not stop.ends):
        return
    relief = c.relief = Relief(call)

    def watch() -> None:
        if not relief.woken.wait(c.grace):
            relief.give_up()
        if relief.is_due:
            go_on()

    try:
        threading.Thread(target=watch, name=f"szal-relief-{run.info.execution_id}", daemon=True).start()
    except RuntimeError:  # no thread to be had: then the run ends when its handler does
        logger.warning("execution %s ends only when its running step does", run.info.execution_id)


def take_over(c: Coordinator) -> Attempt:
    """Return the call that the thread before is held up in, as an attempt that was left behind. The new thread only."""
    assert c.inline is not None
    call = c.inline
    run: Run = call.run
    c.in_handler = False
    c.relief = None
    call.withdraw()  # it has begun: nobody is to take it back any more
    handler = run.handlers[call.node.place]
    assert handler is not None
    attempt = Attempt(call, run.call_context(call), handler, c.variables, encodes=run.encode)
    run.enter(call.node.place, attempt)
    return attempt
