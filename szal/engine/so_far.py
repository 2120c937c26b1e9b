"""How the steps of a run stand that have not ended, with the items of those that run over a list."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from szal.expressions.copies import own_copy
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.stage import KEPT, PENDING, READY, SETTLED, Queued

if TYPE_CHECKING:
    from szal.stores.limits import WaitingStep

__all__ = ["as_it_is_left", "as_it_stands", "waiting_here"]

_NOT_UNDER_WAY = (PENDING, KEPT, READY, SETTLED)


def as_it_stands(run: Run, node: Node) -> StepResult:
    """Return what a step has come to, or that it is under way. From any thread."""
    result = run.results[node.place]
    if result is not None:
        return result
    stages, kept, before = run.stages, run.kept.get(node.place), run.history.get(node.place)
    stage = stages[node.place] if node.place < len(stages) else SETTLED  # one that is over has none any more
    if stage is KEPT and kept is not None:
        return kept.result
    result = run.results[node.place]
    if result is not None:  # it has settled in between, and not become PENDING again
        return result
    waits = stage in _NOT_UNDER_WAY or isinstance(stage, Queued)
    status = StepStatus.PENDING if waits else StepStatus.RUNNING
    found = StepResult(node.step.id, node.step.name, status)
    if before is not None:
        found.attempts, found.output = before.attempt or 1, own_copy(before.output)
    found.items = _items(run, node, as_it_stands)
    return found


def waiting_here(run: Run) -> "list[WaitingStep]":
    """Return what steps wait for, as far as their engine knows, and of items the first. From any thread.

    How much is used of what all engines share is left to the store.
    """
    from szal.stores.limits import WaitingStep  # few ask

    found: dict[tuple[str, str], WaitingStep] = {}
    for node, stage in _queued(run):
        for lack in stage.permit.lacks():
            capacity = None if lack.capacity is None else int(lack.capacity)
            found.setdefault(
                (node.step.name, lack.name),
                WaitingStep(
                    node.step.name,
                    lack.name,
                    lack.units,
                    capacity,
                    lack.used or 0,
                    since=stage.since,
                    rate=lack.rate,
                    in_engine=lack.rate is None and lack.used is not None,
                ),
            )
    return [*found.values()]


def _queued(run: Run) -> Iterator[tuple[Node, Queued]]:
    if not run.plan.sharers:
        return
    for node, stage in zip(run.plan.nodes, [*run.stages], strict=False):  # one that is over has no stages any more
        if isinstance(stage, Queued):
            yield node, stage
        elif (items := run.fan_outs.get(node.place)) is not None:
            yield from _queued(items)


def as_it_is_left(run: Run, node: Node) -> StepResult:
    """Return what a step has come to where its run pauses, or is left: without an outcome, it is PENDING.

    One that an earlier run left is there also where its step still waits for others.
    """
    result, kept = run.results[node.place], run.kept.get(node.place)
    if result is not None:
        return result
    if kept is not None and kept.outcome is not None:
        return kept.result
    found = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
    found.items = _items(run, node, as_it_is_left)
    return found


def _items(run: Run, node: Node, look: Callable[[Run, Node], StepResult]) -> list[StepResult] | None:
    """Return the items of a step as *look* has them, in order; None: none of them is known."""
    items = run.fan_outs.get(node.place)
    if items is not None:
        return [look(items, item) for item in items.plan.nodes]
    before = run.items_before.get(node.place)
    if before is None:
        return None
    known = {index: kept for index, kept in before.copy().items() if kept.outcome is not None or kept.polled}
    missing = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
    last = max(known, default=-1)
    return [known[index].result if index in known else missing for index in range(last + 1)] or None
