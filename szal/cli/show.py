"""All that a person wants to know of one execution."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from szal.cli.advice import Advice, command_line
from szal.cli.outputs import folded
from szal.cli.rows import (
    DIM,
    failure_of,
    headline,
    name_of,
    queued_lines,
    took,
    what_was_cut,
    width_of,
)
from szal.cli.standing import explained
from szal.cli.style import look_of
from szal.cli.text import moment, one_line, pairs
from szal.cli.timeline import timeline, undos_of
from szal.engine.inspection import checkpoints_of
from szal.engine.status import ExecutionStatus, is_left_by_a_person
from szal.engine.which import shown_state
from szal.model.json import Checkpoint
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.pictures.standing import counts_of_items, states_of_steps
from szal.stores.base import ExecutionStore

__all__ = ["full_record", "how_to_go_on", "kept_of_undone"]


def full_record(
    console: Console,
    record: ExecutionRecord,
    standing: ExecutionStatus | None = None,
    advice: Advice | None = None,
    *,
    kept: Mapping[str, Checkpoint] | None = None,
) -> RenderableType:
    """Return all that a person wants to know of an execution, the commands that go on with it last.

    *kept* tells when steps were undone (`kept_of_undone`). To be printed with crop=False: commands are not cut.
    """
    if standing is None:
        standing = ExecutionStatus(record=record, results=() if record.result is None else record.result.steps)
    advice = advice or Advice()
    steps = explained(standing.flow, standing.results)
    failures = [step for step in steps if step.status is StepStatus.FAILED]
    parts: list[RenderableType] = [_facts(console, record, standing, failures)]
    if any(step.status is not StepStatus.PENDING or _is_between(step) for step in steps):
        parts += [
            Text(""),
            timeline(console, record, steps, _record_states(record, standing), undos_of(steps, kept or {})),
        ]
    elif record.result is None:
        parts.append(Text("No step is recorded yet.", style=DIM))
    parts += _items(console, steps)
    parts += _outputs(console, record, steps, advice)
    parts += [part for step in failures for part in failure_of(console, step)]
    parts += what_was_cut(steps)
    if commands := [command_line(line) for line in how_to_go_on(standing, advice)]:
        parts += [Text(""), *commands]
    return Group(*parts)


def kept_of_undone(store: ExecutionStore, standing: ExecutionStatus) -> Mapping[str, Checkpoint]:
    """Return what *store* keeps of the steps of an execution, where some may have been undone."""
    may_be = standing.state in (WorkflowState.ROLLING_BACK, WorkflowState.ROLLED_BACK, WorkflowState.FAILED)
    return checkpoints_of(store, standing.execution_id) if may_be else {}


_MOST_ITEMS = 5  # that are shown of those which did not complete


def _items(console: Console, steps: Sequence[StepResult]) -> Iterator[RenderableType]:
    """Yield how the items of steps that ran over a list have ended, and of those that did not complete why."""
    for step in steps:
        if not step.items:
            continue
        yield Text(f"\n{name_of(step)}: {counts_of_items(step.items)}", style=DIM)
        open_ones = [
            (index, item)
            for index, item in enumerate(step.items)
            if item.status in (StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.RUNNING)
        ]
        for index, item in open_ones[:_MOST_ITEMS]:
            sign, colour = look_of(console, item.status)
            told = one_line(item.error or str(item.status))
            yield Text.assemble((f"  {sign} ", colour), f"[{index}] ", (told, DIM), overflow="fold")
        if len(open_ones) > _MOST_ITEMS:
            yield Text(f"  … and {len(open_ones) - _MOST_ITEMS} more", style=DIM)


def _outputs(
    console: Console, record: ExecutionRecord, steps: Sequence[StepResult], advice: Advice
) -> Iterator[RenderableType]:
    """Yield what steps returned, folded, and how to see all of it."""
    shown = [(step, *folded(step.output)) for step in steps if step.output is not None and step.error is None]
    shown = [(step, lines, is_more) for step, lines, is_more in shown if lines]
    if not shown:
        return
    names = min(width_of([name_of(step) for step, *_ in shown]), console.width // 3)
    room = max(1, console.width - names - 6)
    table = Table.grid(
        Column(width=names, no_wrap=True, overflow="ellipsis"),
        Column(max_width=room, no_wrap=True, overflow="ellipsis"),
    )
    table.padding = (0, 2, 0, 0)
    cut: StepResult | None = None
    for step, lines, is_more in shown:
        is_wide = any(cell_len(line) > room for line in lines)
        cut = step if cut is None and (is_more or is_wide) else cut
        for number, line in enumerate(lines):
            table.add_row(Text("" if number else name_of(step)), Text(line, style=DIM))
    yield Text("\noutputs", style=DIM)
    yield Padding(table, (0, 0, 0, 2))
    if cut is not None:
        yield command_line(f"all of {name_of(cut)}: {advice.output(record.execution_id, cut.step_name or cut.step_id)}")


def how_to_go_on(standing: ExecutionStatus, advice: Advice) -> Iterator[str]:
    """Yield why an execution that could go on does not, and the next command; of one that has not succeeded too."""
    record = standing.record
    command = advice.resume(record.execution_id, standing.flow)
    if standing.is_cancelling:
        end = f"nobody runs it; to end it: {command}" if standing.is_interrupted else "it ends soon"
        if standing.in_queue is not None:
            end = f"a worker ends it that takes it up; to end it: {command}"
        yield f"was asked to cancel: {end}"
        return
    if not record.state.is_live and record.state is not WorkflowState.COMPLETED:
        yield from advice.after_failure(record, standing.flow)
    elif is_left_by_a_person(record):
        yield from advice.after_interruption(record, standing.flow)
    elif standing.is_interrupted and record.state is not WorkflowState.PAUSED:
        yield f"interrupted: nobody runs it any more; to go on: {command}"
    elif standing.is_interrupted:
        yield f"it can go on now: {command}"
    yield from advice.waits(standing.waits)
    yield from queued_lines(standing)
    yield from advice.where_queued(standing)


def _record_states(record: ExecutionRecord, standing: ExecutionStatus) -> Mapping[str, str]:
    if record.state is WorkflowState.PAUSED or standing.is_interrupted:
        return states_of_steps(record.execution_id, standing)
    return {step.step_name: "running" for step in standing.results if standing.is_running and _is_between(step)}


def _is_between(step: StepResult) -> bool:
    """Whether a step is recorded as between two polls or attempts, or with some of its items."""
    return step.status is StepStatus.PENDING and bool(step.attempts or step.items)


def _facts(
    console: Console, record: ExecutionRecord, standing: ExecutionStatus, failures: Sequence[StepResult]
) -> RenderableType:
    state = shown_state(record.state, is_interrupted=standing.is_interrupted)
    if record.result is None:
        sign, colour = look_of(console, state)
        head = Text.assemble((f"{sign} ", colour), (one_line(record.flow_name), "bold"), " ", (state, colour))
    else:
        seconds = took(record.started_at, record.finished_at)
        head = headline(console, record.flow_name, record.result, state, seconds)
    end = f" to {moment(record.finished_at)}" if record.finished_at else ""
    is_told = record.state is WorkflowState.PAUSED and standing.flow is not None
    is_told = is_told or record.error in [f"step {step.step_name!r} failed: {step.error}" for step in failures]
    facts = {
        "execution": record.execution_id,
        "submitted" if record.state is WorkflowState.CREATED else "started": f"{moment(record.started_at)}{end}",
        "parent": record.parent_execution_id,
        "inputs": pairs(record.inputs),
        "labels": pairs(record.labels),
        "concurrency": record.concurrency_key,
        "file": record.file,
        "directory": record.cwd,
        "error": None if is_told else record.error,
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=DIM)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(one_line(value)))
    return Group(head, table)
