"""Races: what becomes of what only an ANY step waits for, once that has started (`StepDef.cancel_losers`)."""

from functools import partial
from typing import Final

from szal.errors import Cancelled, Undecided
from szal.scheduler import ending, settling, stopping
from szal.scheduler.attempt import Attempt
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.stage import (
    CALLED,
    COMMITTING,
    FAN_OUT,
    SETTLED,
    STARTED,
    STARTING,
    SUB_FLOW,
    UNDECIDED,
)

__all__ = ["ANOTHER_WON", "end_all_losers", "end_losers"]

ANOTHER_WON: Final = "another won"


def end_all_losers(c: Coordinator, run: Run) -> None:
    """End what only steps of *run* waited for that have started before: a crash came in between."""
    for node in run.plan.races:
        result = run.results[node.place]
        if result is not None and result.attempts:
            end_losers(c, run, node)


def end_losers(c: Coordinator, run: Run, winner: Node) -> None:
    """End what only *winner* waits for, which starts, or has: it is skipped, or where it runs, told to end, and fails.

    That is no failure of the flow: it is caught.
    """
    for place in winner.losers:
        if run.is_over:
            return
        _lose(c, run, run.plan.nodes[place])


def _lose(c: Coordinator, run: Run, node: Node) -> None:
    stage, place = run.stages[node.place], node.place
    if stage in (SETTLED, COMMITTING, CALLED) or place in run.overruled:
        return
    if stage is SUB_FLOW:
        run.overruled[place] = _lost()
        if run.end_sub_flow is not None:
            run.end_sub_flow(node)
    elif stage is FAN_OUT:
        run.overruled[place] = _lost()
        items = run.fan_outs[place]
        for item in items.plan.nodes:
            if not items.is_over:
                _lose(c, items, item)
    elif stopping.is_done_before(run, node):
        stopping.take_back_done(c, run, node)
    elif isinstance(stage, Attempt) and not stage.call.withdraw():
        _tell(c, run, node, stage)
    else:
        _end_at_once(c, run, node)


def _lost() -> tuple[Cancelled, Outcome]:
    return Cancelled(ANOTHER_WON), Outcome.CAUGHT


def _tell(c: Coordinator, run: Run, node: Node, attempt: Attempt) -> None:
    """Have an attempt see that it is to end; it has the grace for that."""
    run.overruled[node.place] = _lost()
    attempt.context.tell_to_end()
    c.timers.add(c.clock.monotonic() + c.grace, partial(_give_up, c, run, node, attempt))


def _give_up(c: Coordinator, run: Run, node: Node, attempt: Attempt) -> None:
    if not run.is_over and run.stages[node.place] is attempt:
        error = Cancelled(f"still running {c.grace:g}s after {ANOTHER_WON}")
        settling.give_up(c, attempt, error, last=True)


def _end_at_once(c: Coordinator, run: Run, node: Node) -> None:
    """End what is not under way: between two attempts it fails, and where it may have been done; else it is skipped."""
    stage = run.stages[node.place]
    if stage is STARTING or stage is STARTED:
        stopping.take_back_start(run, node)
    if stage is UNDECIDED:
        stopping.let_go(c, run, node)
        ending.end_between(c, run, node, ANOTHER_WON, (Undecided(node.step.name), Outcome.CAUGHT))
    else:
        stopping.end_early(c, run, node, ANOTHER_WON, Outcome.PASSED, failure=_lost())
