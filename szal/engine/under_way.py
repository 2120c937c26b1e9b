"""The steps of an execution that have begun and not ended, as its own process sees them, and as others are told.

No write is made for a step's start. So it goes with what is written anyway: with the lease, whenever that is renewed,
and with what steps report, where that is shared. Only steps that have run for a while are told, and those that have
waited so long for a capacity or a rate that no store knows of.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Call, Where
from szal.scheduler.loop import Scheduler
from szal.scheduler.plan import Node
from szal.scheduler.run import Run
from szal.scheduler.stage import CALLED, FAN_OUT, PENDING, SETTLED, BackingOff

if TYPE_CHECKING:
    from szal.stores.limits import WaitingStep

__all__ = ["StepUnderWay", "Told", "as_running", "read_under_way", "read_waiting", "under_way", "with_steps"]

_MOST: Final = 200
"""Of so many steps and items it is told."""
_LEAST: Final = 0.5
"""Seconds that a step has run before others are told of it: what is quick is not worth a write."""


class StepUnderWay(NamedTuple):
    """A step that has begun, or an item, by its key in rows; at which attempt it is, and at which poll."""

    key: str
    attempt: int
    poll: int
    started: float
    """When its first attempt began (Unix time)."""


def under_way(run: Run, scheduler: Scheduler, delegated: Mapping[int, Call]) -> Iterator[StepUnderWay]:
    """Yield the steps of *run* that have begun and not ended, and their items. From any thread.

    *delegated* has by their places the calls of those that the engine does itself: waits, and sub-flows.
    """
    nodes, ahead = run.plan.nodes, scheduler.ahead
    # Of very many steps few are under way: they are looked for in the quickest way there is.
    found = [(place, at) for place, at in enumerate(run.stages) if at is not SETTLED and at is not PENDING]
    for place, stage in found:
        if run.results[place] is not None:
            continue
        node = nodes[place]
        if isinstance(stage, Attempt):
            if stage.call.begun and stage.call.where is not Where.QUEUED:
                yield _of_call(run, node, stage.call, ahead)
        elif stage is CALLED:
            yield from _of_inline(run, node, scheduler, ahead)
        elif stage is FAN_OUT and (items := run.fan_outs.get(place)) is not None:
            yield from _of_items(node, items, scheduler)
        elif isinstance(stage, BackingOff):
            yield from _between_attempts(run, node, ahead)
        elif place in delegated:
            yield _of_call(run, node, delegated[place], ahead)


def _of_call(run: Run, node: Node, call: Call, ahead: float) -> StepUnderWay:
    history = run.history.get(node.place)
    started = call.started if history is None else history.started
    return StepUnderWay(node.key, call.number, call.poll, ahead + started)


def _of_inline(run: Run, node: Node, scheduler: Scheduler, ahead: float) -> Iterator[StepUnderWay]:
    """Yield a step that the coordinating thread is in, where it has said since when."""
    called = scheduler.called(run)
    if called is None:
        return
    context, started = called
    if context.step is node.step and context.index == (None if node.item is None else node.item.index):
        history = run.history.get(node.place)
        poll, started = (1, started) if history is None else (history.polls + 1, history.started)
        yield StepUnderWay(node.key, context.attempt, poll, ahead + started)


def _between_attempts(run: Run, node: Node, ahead: float) -> Iterator[StepUnderWay]:
    history = run.history.get(node.place)
    if history is not None:
        yield StepUnderWay(node.key, max(history.attempt, 1), history.polls, ahead + history.started)


def _of_items(node: Node, items: Run, scheduler: Scheduler) -> Iterator[StepUnderWay]:
    """Yield a step over a list, since its first item began, and those of them that are under way."""
    of_items = [*under_way(items, scheduler, {})]
    ended = (result.started_at for result in [*items.results] if result is not None)
    began = [item.started for item in of_items] + [each.timestamp() for each in ended if each is not None]
    if began:
        yield StepUnderWay(node.key, 1, 1, min(began))
    yield from of_items


def as_running(result: StepResult, step: StepUnderWay) -> StepResult:
    """Return *result* as it is while its step is under way: at which attempt, and since when."""
    return attrs.evolve(result, status=StepStatus.RUNNING, attempts=step.attempt, started_at=step.started)


def with_steps(result: StepResult, steps: Mapping[str, StepUnderWay]) -> StepResult:
    """Return *result* of a step that runs, and its items that do, with what is known of these by their keys."""
    if not steps or result.status is not StepStatus.RUNNING:
        return result
    name = result.step_name
    for index, item in enumerate(result.items or ()):
        if item.status is StepStatus.RUNNING and (step := steps.get(item_key(name, index))) is not None:
            assert result.items is not None
            result.items[index] = as_running(item, step)
    return as_running(result, steps[name]) if name in steps else result


class Told:
    """What others are told of the steps of one execution: under one lease, as JSON. From any thread."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._last: str | None = None

    def text(self, steps: Iterator[StepUnderWay], waits: "Sequence[WaitingStep]", now: float) -> str | None:
        """Return what is to be told of *steps* and *waits* (Unix time *now*); None: nothing is, and nothing was."""
        told = [step for step in steps if step.started <= now - _LEAST]
        waiting = [wait.as_json() for wait in waits if wait.since and wait.since.timestamp() <= now - _LEAST]
        if not (told or waiting or self._last):
            return None
        more = {"waits": waiting[:_MOST]} if waiting else {}
        text = json.dumps({"epoch": self._epoch, "steps": told[:_MOST], **more}, ensure_ascii=False)
        self._last = text if told or waiting else None
        return text

    def news(self, steps: Iterator[StepUnderWay], waits: "Sequence[WaitingStep]", now: float) -> str | None:
        """Return the same; None, also where that is what was told last."""
        before = self._last
        text = self.text(steps, waits, now)
        return None if text == before else text

    def forget(self) -> None:
        """Take note that what was told last has not come through."""
        self._last = None


def read_under_way(text: str | None, epoch: int | None) -> Mapping[str, StepUnderWay]:
    """Return by their keys the steps that *text* tells of; what an earlier owner told counts no more.

    >>> told = '{"epoch":2,"steps":[["load",1,1,1781049600.5]]}'
    >>> read_under_way(told, 2)["load"].started, read_under_way(told, 3)
    (1781049600.5, {})
    """
    try:
        found = _told_under(text, epoch)
        steps = [StepUnderWay(str(key), int(tries), int(poll), float(at)) for key, tries, poll, at in found["steps"]]
        return {step.key: step for step in steps}
    except (ValueError, TypeError, KeyError):  # a later version of szal may tell it otherwise
        return {}


def read_waiting(text: str | None, epoch: int | None) -> "list[WaitingStep]":
    """Return the steps that *text* tells to wait, likewise.

    >>> from szal.stores.limits import WaitingStep
    >>> wait = WaitingStep("load", "gpu", 1, 1, 1, since=1781049600.0, in_engine=True)
    >>> told = Told(2).text(iter(()), [wait], 1781049700.0)
    >>> read_waiting(told, 2) == [wait], read_waiting(told, 3)
    (True, [])
    """
    from szal.stores.limits import WaitingStep  # runs without a store have no use for it

    try:
        waits = _told_under(text, epoch).get("waits", ())
        return [WaitingStep(**{**each, "since": datetime.fromisoformat(each["since"])}) for each in waits]
    except (ValueError, TypeError, KeyError):
        return []


def _told_under(text: str | None, epoch: int | None) -> Any:
    found = json.loads(text) if text else None
    return found if isinstance(found, dict) and found["epoch"] == epoch else {"steps": ()}
