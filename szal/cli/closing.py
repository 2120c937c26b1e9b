"""What is shown when a run is over."""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from szal.cli.rows import (
    DIM,
    failure_of,
    headline,
    note_of,
    step_cells,
    step_table,
    took,
    what_was_cut,
)
from szal.cli.text import one_line
from szal.engine.status import ExecutionStatus
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.pictures.standing import states_of_steps

__all__ = ["closing"]

_MOST_ROWS: Final = 200
_MOST_FAILURES: Final = 3
_NOT_GOOD: Final = (StepStatus.FAILED, StepStatus.ROLLED_BACK)


def closing(
    console: Console,
    result: FlowResult,
    *,
    recorded: bool,
    record: ExecutionRecord | None = None,
    state: str | None = None,
    standing: ExecutionStatus | None = None,
) -> RenderableType:
    """Return what is shown when a run is over: a row for each step, the first failures, and the execution's id.

    *recorded*: it is kept. *state* says better than the result's own how it stands, and *standing* that of its steps,
    where it could go on.
    """
    states = {} if standing is None else states_of_steps(result.execution_id, standing)
    steps = _rows(result.steps)
    table = step_table(console, steps)
    table.add_column("note", no_wrap=True, overflow="ellipsis", ratio=1, header_style=DIM)
    for step in steps:
        table.add_row(*step_cells(console, step, states.get(step.step_name)), note_of(step))
    seconds = None if record is None else took(record.started_at, record.finished_at)
    parts: list[RenderableType] = [headline(console, result.flow_name, result, state, seconds)]
    if steps:
        parts.append(table)
    if left_out := len(result.steps) - len(steps):
        more = "; szal show lists all of them" if recorded else ""
        parts.append(Text(f"  … and {left_out} more steps{more}", style=DIM))
    parts += _what_went_wrong(console, result)
    parts += what_was_cut(result.steps)
    hint = "" if recorded else "  (not recorded: no --store)"
    parts.append(Text.assemble(("execution ", DIM), one_line(result.execution_id or ""), (hint, DIM)))
    return Group(*parts)


def _rows(steps: Sequence[StepResult]) -> list[StepResult]:
    """Return those that are listed, in order: all, or what failed or was undone, and the first others."""
    if len(steps) <= _MOST_ROWS:
        return list(steps)
    listed = list(islice((step for step in steps if step.status in _NOT_GOOD), _MOST_ROWS))
    listed += islice((step for step in steps if step.status not in _NOT_GOOD), _MOST_ROWS - len(listed))
    chosen = set(map(id, listed))
    return [step for step in steps if id(step) in chosen]


def _what_went_wrong(console: Console, result: FlowResult) -> list[RenderableType]:
    """Return the first failures, and the flow's own error where that says more than the first of them."""
    failures = list(result.failures())
    parts = [part for step in failures[:_MOST_FAILURES] for part in failure_of(console, step)]
    known = [f"step {step.step_name!r} failed: {step.error}" for step in failures]
    told = result.state in (WorkflowState.PAUSED, WorkflowState.CANCELLED)  # by what it waits for, or the headline
    if result.error and result.error not in known and not (told and not failures):
        parts.append(Text(f"\n{one_line(result.error)}", style="red"))
    return [*parts, Text("")] if parts else []
