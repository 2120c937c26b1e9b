"""The page of one flow: its definitions and how they differ, how its executions went, and what takes long in them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import attrs

from szal.collector import without_collector
from szal.contrib.web.listing import LATEST, Line, lines_of
from szal.contrib.web.statistics import Rates, percentile, seconds_of
from szal.engine.inspection import holdings
from szal.engine.recorded_flows import recorded_flow
from szal.engine.status import interrupted_among
from szal.errors import DecodeError, ExecutionNotFound
from szal.model.definition import differences
from szal.model.flow import FlowDef
from szal.model.state import StepStatus, WorkflowState
from szal.stores.filters import LIVE, ExecutionSummary
from szal.stores.ledger import ledger_of
from szal.stores.store import Store

__all__ = ["FlowPage", "StepTimes", "Version"]

_VERSIONS: Final = 10
_STEPS: Final = 2000
"""So many steps of executions are looked at for the slowest."""
_SLOWEST: Final = 10
_RECENT: Final = 10
_SUCCESS: Final = (WorkflowState.COMPLETED,)
_FAILURE: Final = (WorkflowState.FAILED, WorkflowState.ROLLED_BACK)


@attrs.frozen(kw_only=True)
class Version:
    """One definition of a flow, and how many executions are of it."""

    content_id: str
    flow: FlowDef
    count: int
    live: int
    newest: ExecutionSummary
    changes: Sequence[str]
    """How it differs from the one before it."""


@attrs.frozen
class StepTimes:
    """How long a step took, in seconds, in those executions that were looked at."""

    name: str
    times: Sequence[float]
    failures: int
    retries: int

    @property
    def half(self) -> float:
        """Half of the times are no longer."""
        return percentile(self.times, 50) or 0.0

    @property
    def most(self) -> float:
        """95 of 100 are no longer."""
        return percentile(self.times, 95) or 0.0


@attrs.frozen(kw_only=True)
class FlowPage:
    """What the page shows, of the newest executions of a flow."""

    name: str
    total: int
    looked_at: int
    states: dict[str, int]
    success: float | None
    """Of those that ended, cancelled ones aside."""
    half: float | None
    most: float | None
    rates: Rates
    versions: Sequence[Version]
    slowest: Sequence[StepTimes]
    recent: Sequence[Line]

    @classmethod
    def of(cls, store: Store, name: str) -> "FlowPage | None":
        """Look at a flow; None: there is no execution of it."""
        found = store.find(flow_name=name, limit=LATEST)
        if not found:
            return None
        states = Counter("unknown" if each.state is None else str(each.state) for each in found)
        good, bad = (sum(states[str(state)] for state in group) for group in (_SUCCESS, _FAILURE))
        seconds = [took for each in found if (took := seconds_of(each)) is not None]
        recent = found[:_RECENT]
        return cls(
            name=name,
            total=store.count(flow_name=name),
            looked_at=len(found),
            states=dict(states),
            success=good / (good + bad) if good + bad else None,
            half=percentile(seconds, 50),
            most=percentile(seconds, 95),
            rates=Rates.of(found),
            versions=[*_versions(store, name, found)],
            slowest=_slowest(store, found),
            recent=lines_of(recent, interrupted_among(store, recent)),
        )


def _versions(store: Store, name: str, found: Sequence[ExecutionSummary]) -> Iterator[Version]:
    """Yield the definitions that executions are of, the newest first."""
    ledger = ledger_of(store)
    if ledger is None:
        return
    live = store.find(flow_name=name, states=LIVE, limit=LATEST)
    by_id = {each.execution_id: each for each in (*found, *live)}
    held = holdings(store, [*by_id])
    of_content: dict[str, list[ExecutionSummary]] = defaultdict(list)
    for summary in sorted(by_id.values(), key=lambda each: each.position, reverse=True):
        if summary.execution_id in held:
            of_content[held[summary.execution_id].content_id].append(summary)
    definitions: list[tuple[str, FlowDef, list[ExecutionSummary]]] = []
    for content_id, group in [*of_content.items()][: _VERSIONS + 1]:
        flow = _definition(store, group[0].execution_id)
        if flow is not None:
            definitions.append((content_id, flow, group))
    for place, (content_id, flow, group) in enumerate(definitions[:_VERSIONS]):
        before = definitions[place + 1][1] if place + 1 < len(definitions) else None
        yield Version(
            content_id=content_id,
            flow=flow,
            count=len(group),
            live=sum(each.state in LIVE for each in group),
            newest=group[0],
            changes=() if before is None else differences(before, flow),
        )


def _definition(store: Store, execution_id: str) -> FlowDef | None:
    ledger = ledger_of(store)
    assert ledger is not None
    try:
        text = without_collector(partial(ledger.read, execution_id, steps=False)).flow
    except ExecutionNotFound:
        return None
    return None if text is None else recorded_flow(text)


def _slowest(store: Store, found: Sequence[ExecutionSummary]) -> list[StepTimes]:
    """Return the steps that took longest, of the newest executions that have ended."""
    times: dict[str, list[float]] = defaultdict(list)
    failures: Counter[str] = Counter()
    retries: Counter[str] = Counter()
    seen = 0
    for summary in found:
        if summary.state not in (*_SUCCESS, *_FAILURE) or seen >= _STEPS:
            continue
        try:
            record = without_collector(partial(store.get, summary.execution_id))
        except DecodeError:  # somebody else wrote it
            continue
        steps = () if record is None or record.result is None else record.result.steps
        seen += max(len(steps), _STEPS // 50)  # of short ones no more than so many
        for step in steps:
            name = step.step_name or step.step_id
            if step.attempts:
                times[name].append(step.duration)
                failures[name] += step.status is StepStatus.FAILED
                retries[name] += step.attempts > 1
    made = [StepTimes(name, sorted(each), failures[name], retries[name]) for name, each in times.items()]
    return sorted(made, key=lambda each: (-each.half, each.name))[:_SLOWEST]
