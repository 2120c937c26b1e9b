"""A row for each step, the line above them, and what goes wrong in one: what all tables of steps have in common."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from szal.cli.outputs import last_line, tails
from szal.cli.place import place_of_failure
from szal.cli.style import look_of
from szal.cli.text import brief, clean, elapsed, one_line
from szal.clock import utc_now
from szal.engine.status import ExecutionStatus
from szal.model.results import FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.pictures.standing import counts_of_items, seconds_of
from szal.steps.stream import MAX_OUTPUT

__all__ = [
    "DIM",
    "failure_of",
    "headline",
    "name_of",
    "note_of",
    "queued_lines",
    "step_cells",
    "step_table",
    "took",
    "waits_for",
    "what_was_cut",
    "width_of",
]

DIM: Final = "dim"


def took(started: datetime | None, finished: datetime | None) -> float | None:
    """Return how long an execution took that has ended: from its start to its end, with all that it waited for."""
    return None if started is None or finished is None else (finished - started).total_seconds()


def headline(
    console: Console, flow_name: str, result: FlowResult, state: str | None = None, seconds: float | None = None
) -> Text:
    """Return how a flow ended. *state* says better than the result's own how it stands, and *seconds* what it took."""
    state = state or str(result.state or (WorkflowState.COMPLETED if result.success else WorkflowState.FAILED))
    sign, colour = look_of(console, state)
    counts = [
        f"{count} {status}" for status in StepStatus if (count := sum(step.status is status for step in result.steps))
    ]
    return Text.assemble(
        (f"{sign} ", colour),
        (one_line(flow_name), "bold"),
        " ",
        (state, colour),
        f" in {elapsed(result.total_duration if seconds is None else seconds)}",
        (f"  {', '.join(counts)}" if counts else "", DIM),
    )


def step_table(console: Console, steps: Sequence[StepResult]) -> Table:
    """Return a table with the first columns for *steps*, and no row yet."""
    names = width_of([name_of(step) for step in steps])
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, show_edge=False)
    table.add_column("", width=1)
    table.add_column(
        "step",
        width=max(4, min(names, console.width // 3)),
        no_wrap=True,
        overflow="ellipsis",
        header_style=DIM,
    )
    table.add_column("state", width=11, no_wrap=True, header_style=DIM)
    table.add_column("tries", width=5, justify="right", no_wrap=True, header_style=DIM)
    table.add_column("time", width=6, justify="right", no_wrap=True, header_style=DIM)
    return table


def step_cells(console: Console, step: StepResult, state: str | None = None) -> list[Text]:
    """Return the first cells of a step's row. *state* says better than its status how it stands."""
    shown = state or str(step.status)
    sign, colour = look_of(console, shown)
    return [
        Text(sign, style=colour),
        Text(name_of(step), style=DIM if step.status is StepStatus.SKIPPED else ""),
        Text(shown, style=colour),
        Text(str(step.attempts) if step.attempts else "", style="yellow" if step.attempts > 1 else ""),
        Text("" if (seconds := seconds_of(step)) is None else elapsed(seconds)),
    ]


def name_of(step: StepResult) -> str:
    """Return the name of a step, as it is shown."""
    return one_line(step.step_name) or step.step_id  # szal-rs writes no names


def note_of(step: StepResult) -> Text:
    """Return what went wrong, or what it returned, in a line."""
    if step.items and step.status is StepStatus.PENDING:
        return Text(counts_of_items(step.items), style=DIM)
    if step.error is not None:
        return Text(one_line(step.error), style="red" if step.status is StepStatus.FAILED else DIM)
    return Text(last_line(step.output), style=DIM)


def failure_of(console: Console, step: StepResult) -> list[RenderableType]:
    """Return the whole error of a step that failed, and where; and what its command printed last, but for that."""
    if step.error is None or not step.has_failed:
        return []
    sign, colour = look_of(console, step.status)
    error = clean(step.error).rstrip()
    parts: list[RenderableType] = [
        Text.assemble((f"\n{sign} ", colour), (name_of(step), "bold")),
        Text(error, overflow="fold"),
    ]
    if place := place_of_failure(step):
        parts.append(Text(f"  at {place}", style=DIM, overflow="fold"))
    for stream, lines in tails(step.output):
        if lines[-1].strip() not in error:
            parts += [Text(f"{stream}:", style=DIM), Text("\n".join(f"  {line}" for line in lines), overflow="fold")]
    return parts


def what_was_cut(steps: Sequence[StepResult]) -> list[RenderableType]:
    """Return a line for each command that printed more than is kept."""
    lines = []
    for step in steps:
        cut = step.output.get("truncated") if isinstance(step.output, dict) and "exit_code" in step.output else None
        if isinstance(cut, list) and cut:
            streams = " and ".join(brief(stream) for stream in cut)
            lines.append(f"of {streams} of {name_of(step)} the end is kept: the last {MAX_OUTPUT // 1024} KiB")
    return [Text(line, style="yellow") for line in lines]


def waits_for(status: ExecutionStatus) -> str:
    """Return what an execution waits for, in a line; empty: nothing that is known."""
    if status.waits:
        return "waits for " + ", ".join(one_line(wait.signal or wait.step) for wait in status.waits)
    return "; ".join(queued_lines(status))


def queued_lines(status: ExecutionStatus) -> list[str]:
    """Return where an execution is queued, and what it, or its steps, wait for that others have: a line each."""
    lines = [f"{one_line(each.step_name)} {each}{_for_so_long(each.since)}" for each in status.queued]
    if status.queued_behind is not None:
        lines.append(f"queued behind {one_line(status.queued_behind)} for {status.record.concurrency_key!r}")
    if status.in_queue is not None:
        lines.append(one_line(str(status.in_queue)))
    return lines


def _for_so_long(since: datetime | None) -> str:
    return "" if since is None else f", for {elapsed(max(0.0, (utc_now() - since).total_seconds()))}"


def width_of(texts: Sequence[str]) -> int:
    """Return the width of the widest."""
    return max((cell_len(text) for text in texts), default=0)
