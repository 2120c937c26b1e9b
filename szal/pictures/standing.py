"""How the steps of an execution stand, in a word and in a line: what pictures of it say."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from szal.clock import utc_now
from szal.engine.status import ExecutionStatus, Wait
from szal.expressions.path import Json
from szal.legible import elapsed
from szal.model.results import FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState

__all__ = [
    "Seen",
    "Standing",
    "counts_of_items",
    "results_of",
    "seconds_of",
    "standings_of",
    "states_of",
    "states_of_steps",
]

Seen: TypeAlias = ExecutionStatus | FlowResult
"""An execution, as it is drawn: from a store, or what a run came to."""


@attrs.frozen
class Standing:
    """How a step stands: `word` is a key of `SIGNS`, `told` says more, in a line, `brief` the same beside the sign."""

    result: StepResult
    word: str
    told: str
    brief: str


def results_of(seen: Seen) -> Sequence[StepResult]:
    """Return how the steps of an execution stand, in the flow's order."""
    return seen.results if isinstance(seen, ExecutionStatus) else seen.steps


def standings_of(seen: Seen | None) -> dict[str, Standing]:
    """Return how each step stands, by its name; nothing, where there is no execution."""
    if seen is None:
        return {}
    waits: Mapping[str, Wait] = {}
    states: Mapping[str, str] = {}
    queued: Mapping[str, str] = {}
    if isinstance(seen, ExecutionStatus):
        waits = {wait.step: wait for wait in seen.waits if wait.execution_id == seen.execution_id}
        states = states_of(seen)
        queued = {each.step_name: str(each) for each in seen.queued}
    found = {}
    for result in results_of(seen):
        word = states.get(result.step_name, str(result.status))
        told = _told(result, word, waits.get(result.step_name))
        if word == "paused" and result.step_name in queued:
            told = (queued[result.step_name],) * 2
        found[result.step_name] = Standing(result, word, *told)
    return found


def states_of(status: ExecutionStatus) -> Mapping[str, str]:
    """Return, by name, how steps stand of which the status alone does not tell."""
    if status.state is WorkflowState.PAUSED or status.is_interrupted:
        return states_of_steps(status.execution_id, status)
    states, queued = {}, {each.step_name for each in status.queued}
    for step in status.results:
        if step.status is not StepStatus.PENDING:
            continue
        if step.step_name in queued and not step.items:
            states[step.step_name] = "paused"
        elif status.is_running and (step.attempts or step.items):
            states[step.step_name] = "running" if step.error is None else "retrying"
    return states


def states_of_steps(execution_id: str | None, standing: ExecutionStatus) -> Mapping[str, str]:
    """Return, by name, how steps stand that had begun, but that nobody works on."""
    states = {step.step_name: "interrupted" for step in standing.results if step.status is StepStatus.RUNNING}
    for wait in standing.waits:
        if wait.execution_id == execution_id:
            is_decision = wait.signal is None and wait.until is None
            states[wait.step] = "undecided" if is_decision else "paused"
    return states


def _told(result: StepResult, word: str, wait: Wait | None) -> tuple[str, str]:
    """Return how a step stands, and the same without what its sign says."""
    tries = f"{result.attempts} tries" if result.attempts > 1 else ""
    took = elapsed(result.duration) if result.attempts and word in ("completed", "failed", "rolled_back") else ""
    said = _TOLD.get(word, word)
    if word == "running" and result.report is not None:
        said = f"running: {_line_of(result.report.data)}"
    if word == "skipped" and result.error:
        return f"skipped: {result.error}", result.error
    if word == "paused" and wait is not None and wait.until is not None:
        said = f"until {wait.until:%Y-%m-%d %H:%M} UTC"
    brief = " · ".join(part for part in (took, tries) if part)
    return " · ".join(part for part in (said, brief) if part), brief or said


def seconds_of(result: StepResult) -> float | None:
    """Return how many seconds a step took, or has taken so far; None: it has not begun, or nobody knows when it did."""
    if result.status is StepStatus.RUNNING:
        return None if result.started_at is None else max(0.0, (utc_now() - result.started_at).total_seconds())
    return result.duration if result.attempts else None


def _line_of(report: Json) -> str:
    """Return what a step reported in a line: of a command the last one that it printed."""
    said = report["line"] if isinstance(report, dict) and "line" in report else report
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


_TOLD: Mapping[str, str] = {
    "pending": "",
    "rolled_back": "undone",
    "undecided": "needs a decision",
    "paused": "waiting",
}


def counts_of_items(items: Sequence[StepResult]) -> str:
    """Return how many items of a step are in each state, of how many.

    >>> done, failed = (StepResult("1", "each", status) for status in (StepStatus.COMPLETED, StepStatus.FAILED))
    >>> counts_of_items([done, done, failed])
    '3 items: 2 completed, 1 failed'
    """
    counts = Counter(item.status for item in items)
    told = ", ".join(f"{counts[status]} {status}" for status in StepStatus if counts[status])
    return f"{len(items)} item{'s' * (len(items) != 1)}: {told}"
