"""A step that runs once for each element of a list: that is a run of its own, whose steps are the items.

So an item is what a step is to the scheduler: it has attempts, retries, limits, a row, and is stopped as a step is.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from szal.collector import without_collector
from szal.errors import Cancelled, ItemsFailed, NoList, TooManyItems, describe
from szal.expressions.comparison import Kind, kind_of
from szal.expressions.missing import there_is
from szal.expressions.path import Json, Path, outcome_values
from szal.interruption import is_interruption
from szal.model.json.text import dumps
from szal.model.results import StepResult, outputs_of
from szal.model.state import StepStatus, Stop
from szal.raised import set_cause
from szal.scheduler import again, beginning, ending, settling, stopping
from szal.scheduler.ancestors import Ancestors
from szal.scheduler.before import OrderOfItems
from szal.scheduler.call import Call
from szal.scheduler.context import StepContext
from szal.scheduler.coordinator import Coordinator
from szal.scheduler.plan import Item, Node, Outcome, Plan
from szal.scheduler.run import Run
from szal.scheduler.seen import MaskedOutcome
from szal.scheduler.stage import FAN_OUT, READY, UNDECIDED

__all__ = ["begin", "elements_of", "items_of", "take_up"]

_NOTHING: Final = object()
_ENDED: Final = {
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "was skipped",
    StepStatus.ROLLED_BACK: "was undone",
}
_MOST_TOLD: Final = 3  # failures, in the error of the step


def begin(c: Coordinator, run: Run, node: Node) -> None:
    """Begin the items of *node*, which is ready: with the last of them the step ends. It fails where there is no list.

    What is known of items from before stands, where they are of the same elements.
    """
    call = Call(run, node, 1, run.deadline, run.info.settled)
    call.started = c.clock.monotonic()
    settling.announce(c, call)
    try:
        items, polled = _run_of(c, run, node, call)
    except BaseException as error:
        if is_interruption(error):
            raise
        call.ended = c.clock.monotonic()
        ending.end(c, call, error, node.failure)
        return
    run.items_before.pop(node.place, None)
    run.fan_outs[node.place] = items
    run.enter(node.place, FAN_OUT)
    if items.failed and items.unsettled and items.fail_fast is not None:  # a crash came before it could end the flow
        items.fail_fast(items, _first_failed(items))
    beginning.begin(c, items)
    for index, due in polled:
        if not items.is_over and items.stages[index] is READY:
            again.back_off(c, items, items.plan.nodes[index], max(0.0, due - c.clock.monotonic()))


def take_up(c: Coordinator, run: Run) -> None:
    """Begin the items of all steps of *run* that had begun theirs: it is being stopped, and no step is to begin.

    So what these items did is known, and can be undone.
    """
    for place in list(run.items_before):
        if run.stages[place] is READY and not all(kept.age for kept in run.items_before[place].values()):
            begin(c, run, run.plan.nodes[place])


def elements_of(run: Run, node: Node) -> Sequence[Json]:
    """Return the list that *node* runs over. Raises `NoList`, `TooManyItems`."""
    foreach, step = node.foreach, node.step
    if isinstance(foreach, list):
        elements: Sequence[Json] = foreach
    else:
        assert foreach is not None
        found, there_is = _look_up(run, node, foreach)
        if not isinstance(found, list | tuple):
            raise NoList(step.name, foreach.text, there_is)
        elements = found
    if len(elements) > step.max_items:
        raise TooManyItems(step.name, len(elements), step.max_items)
    return elements


def _look_up(run: Run, node: Node, path: Path) -> tuple[Json, str]:
    """Return what *path* finds, as handlers see it, and what that is; a step that did not complete hands on nothing."""
    steps = {}
    if path.step is not None:
        result = Ancestors(run.info, node.place, run.info.settled).find(path.step)
        if result is not None and result.status is not StepStatus.COMPLETED:
            return None, f"step {path.step!r} {_ENDED[result.status]}"
        steps = {} if result is None else {path.step: _as_seen(run, result)}
    context = {"inputs": run.info.inputs, "steps": steps}
    found = path.resolve(context, _NOTHING)
    if found is _NOTHING:
        return None, there_is(path, context)
    kind = kind_of(found)
    return found, f"it is a {type(found).__name__}" if kind is Kind.OTHER else f"it is {kind.value}"


def _as_seen(run: Run, result: StepResult) -> Mapping[str, Json]:
    return MaskedOutcome(result, run.info.execution_id) if result.is_masked else outcome_values(result)


def items_of(run: Run, node: Node) -> list[Item]:
    """Return the items of *node*. Raises as `elements_of` does."""
    elements, digest = elements_of(run, node), _no_digest if run.log is None else _digest
    count = len(elements)

    def listed() -> list[Item]:
        return [Item(index, count, value, digest(value)) for index, value in enumerate(elements)]

    return without_collector(listed, count)


def _run_of(c: Coordinator, run: Run, node: Node, call: Call) -> tuple[Run, list[tuple[int, float]]]:
    """Return the run of the items of *node*, with what is known of them from before, and when which poll next."""
    listed = items_of(run, node)
    count = len(listed)
    plan = without_collector(partial(Plan.of_items, node, listed), count)
    items = Run(
        plan=plan,
        handlers=[run.handlers[node.place]] * count,
        results=[None] * count,
        info=run.info,
        on_done=partial(_ended, c, call),
        new_context=partial(_context, run, node),
        watch=run.watch,
        on_stop=partial(_stop_all_of_it, c, run),
        fail_fast=run.fail_fast if node.failure is Outcome.FAILED else None,
        on_undecided=run.on_undecided,
        log=run.log,
        commit_first=run.commit_first,
        encode=run.encode,
        deadline=run.deadline,
        inline=run.inline and not run.relievable,
        inline_as=run.inline_as,
        at_once=node.step.max_parallel,
        urgency=None if run.urgency is None else [run.urgency[node.place]] * count,
        stoppable=run.stoppable,
        stop=run.stop,
        completed=OrderOfItems(run.completed, node.place),
    )
    polled: list[tuple[int, float]] = []
    for index, kept in run.items_before.get(node.place, {}).items():
        if index >= count or kept.digest != listed[index].digest or run.is_outdated(node, kept.age):
            continue
        if kept.age and kept.outcome is not Outcome.COMPLETED:  # where the step runs again, so does what was skipped
            continue
        if kept.polled is not None:
            items.history[index], items.stages[index] = kept.polled, READY
            polled.append((index, kept.due))
        elif kept.outcome is None:
            items.stages[index] = UNDECIDED
        else:
            items.stand(index, kept.result, kept.outcome)
    if items.at_once is not None:
        items.at_once = max(0, items.at_once - len(polled))
    return items, polled


def _context(run: Run, node: Node, of_item: Node, attempt: int, call: Call | None) -> StepContext:
    return StepContext.of_item(run.info, node, attempt, call, of_item)


def _no_digest(_: Json) -> None:
    """Return nothing: it would be compared with nothing."""


def _digest(value: Json) -> str:
    import hashlib  # it loads OpenSSL

    return hashlib.blake2b(dumps(value).encode(), digest_size=8).hexdigest()


def _stop_all_of_it(c: Coordinator, run: Run, items: Run, stop: Stop) -> None:
    """Stop the run that the step of these items is in: they alone are never stopped."""
    stopping.stop_run(c, run, stop, items.why)


def _ended(c: Coordinator, call: Call, items: Run) -> None:
    """End the step, as all of its items have ended."""
    run, node = call.run, call.node
    call.ended = c.clock.monotonic()
    results: list[StepResult] = [result for result in items.results if result is not None]
    error: Exception | None = _failure_of(items, results)
    outcome = Outcome.COMPLETED if error is None else node.failure
    if node.place in run.overruled:
        error, outcome = run.overruled.pop(node.place)
    is_done = error is None
    result = StepResult(
        node.step.id,
        node.step.name,
        StepStatus.COMPLETED if is_done else StepStatus.FAILED,
        outputs_of(results) if is_done else None,
        call.ended - call.started,
        1,
        error=None if error is None else describe(error, run.info.redaction.mask),
        error_type=None if error is None else type(error).__name__,
        started_at=c.ahead + call.started,
        exception=error,
        is_caught=outcome is Outcome.CAUGHT,
        items=results,
        is_masked=is_done and any(item.is_masked for item in results),
    )
    if not is_done:
        run.raised.append(node.place)
    run.enter(node.place, READY)
    ending.settle(c, run, node, result, outcome)


def _first_failed(items: Run) -> Node:
    has_failed = (result is not None and result.status is StepStatus.FAILED for result in items.results)
    return next(node for node, failed in zip(items.plan.nodes, has_failed, strict=True) if failed)


def _failure_of(items: Run, results: Sequence[StepResult]) -> ItemsFailed | None:
    """Return what the end of its items is to a step that does not complete with them: first, those not stopped."""
    failed = [index for index, result in enumerate(results) if result.status is StepStatus.FAILED]
    failed.sort(key=lambda index: results[index].error_type == Cancelled.__name__)
    is_unrun = [result.status is StepStatus.SKIPPED and not result.attempts for result in results]
    not_run = is_unrun.count(True)
    if not failed and not not_run:
        return None
    first = tuple((index, results[index].error or "") for index in failed[:_MOST_TOLD])
    reason = results[is_unrun.index(True)].error or "" if not_run else ""
    error = ItemsFailed(items.plan.steps[0].name, len(results), len(failed), first, not_run, reason)
    if failed:
        set_cause(error, results[failed[0]].exception)
    return error
