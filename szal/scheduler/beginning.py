"""How runs begin: a flow's, a sub-flow's, an undoing, the items of a step."""

from functools import partial

from szal.model.state import Stop
from szal.scheduler import ending, stopping
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.run import Run

__all__ = ["begin"]


def begin(c: Coordinator, run: Run) -> None:
    """Start *run*; its `on_done` is called, on this thread, when every step has its result."""
    c.runs[run] = None
    run.start(c.ready, c.tally)
    c.pins = c.pins or run.pins
    c.shares = c.shares or bool(run.plan.sharers)
    if run.deadline is not None:
        run.timer = c.timers.add(run.deadline, partial(stopping.stop_run, c, run, Stop.TIMED_OUT))
    if not run.unsettled:
        ending.finish_if_done(c, run)
    elif run.stop is not None:  # its process died in the midst of stopping it
        stopping.wind_up(c, run, run.stop)
    elif run.stoppable and run.info.token is not None and run.info.token.cancelled:
        stopping.stop_run(c, run, Stop.CANCELLED)
    elif run.deadline is not None and run.deadline <= c.clock.monotonic():
        stopping.stop_run(c, run, Stop.TIMED_OUT)
