"""Executions as tables: how one went, step by step, and which there are."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

import attrs
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from szal.cli.advice import Advice
from szal.cli.standing import Standing, explained
from szal.cli.style import look_of
from szal.cli.text import brief, clean, elapsed, moment, one_line
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.steps.stream import MAX_OUTPUT
from szal.stores import ExecutionSummary

__all__ = ["closing", "command_line", "executions", "full_record"]

_MOST_ROWS: Final = 60  # of a closing table: above that, what went well is only counted
_MOST_ERRORS: Final = 3
_DIM: Final = "bright_black"


def closing(
    console: Console, result: FlowResult, *, recorded: bool, state: str | None = None, standing: Standing | None = None
) -> RenderableType:
    """Return what is shown when a run is over: a row for each step, the first errors, and the execution's id.

    *state* says better than the result's own how it stands, and *standing* that of its steps, where it could go on.
    """
    states = {} if standing is None else _states(result.execution_id, standing)
    steps = result.steps
    left_out = 0
    if len(steps) > _MOST_ROWS:
        wanted = (step for step in steps if step.status in (StepStatus.FAILED, StepStatus.ROLLED_BACK))
        steps = list(islice(wanted, _MOST_ROWS))
        left_out = len(result.steps) - len(steps)
    table = _step_table(console, steps)
    table.add_column("note", no_wrap=True, overflow="ellipsis", ratio=1, header_style=_DIM)
    for step in steps:
        table.add_row(*_step_cells(console, step, states.get(step.step_name)), _note(step))
    parts: list[RenderableType] = [_headline(console, result.flow_name, result, state)]
    if steps:
        parts.append(table)
    if left_out:
        parts.append(Text(f"  … and {left_out} more steps", style=_DIM))
    parts += _what_went_wrong(console, result)
    parts += _what_was_cut(result.steps)
    hint = "" if recorded else "  (not recorded: no --store)"
    parts.append(Text.assemble(("execution ", _DIM), one_line(result.execution_id or ""), (hint, _DIM)))
    return Group(*parts)


def _what_went_wrong(console: Console, result: FlowResult) -> list[RenderableType]:
    """Return the first errors in full, and the flow's own where it says more than the first of them."""
    failures = list(result.failures())
    parts = [part for step in failures[:_MOST_ERRORS] for part in _error(console, step)]
    known = [f"step {step.step_name!r} failed: {step.error}" for step in failures]
    told = result.state in (WorkflowState.PAUSED, WorkflowState.CANCELLED)  # by what it waits for, or the headline
    if result.error and result.error not in known and not (told and not failures):
        parts.append(Text(f"\n{one_line(result.error)}", style="red"))
    return [*parts, Text("")] if parts else []


def _headline(console: Console, flow_name: str, result: FlowResult, state: str | None = None) -> Text:
    state = state or str(result.state or (WorkflowState.COMPLETED if result.success else WorkflowState.FAILED))
    sign, colour = look_of(console, state)
    counts = [
        f"{count} {status}".replace("_", " ")
        for status in StepStatus
        if (count := sum(step.status is status for step in result.steps))
    ]
    return Text.assemble(
        (f"{sign} ", colour),
        (one_line(flow_name), "bold"),
        " ",
        (state.replace("_", " "), colour),
        f" in {elapsed(result.total_duration)}",
        (f"  {', '.join(counts)}" if counts else "", _DIM),
    )


# -- steps ----------------------------------------------------------------------------------------------


def _step_table(console: Console, steps: Sequence[StepResult]) -> Table:
    names = _width([_name(step) for step in steps])
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, show_edge=False)
    table.add_column("", width=1)
    table.add_column(
        "step",
        width=max(4, min(names, console.width // 3)),
        no_wrap=True,
        overflow="ellipsis",
        header_style=_DIM,
    )
    table.add_column("state", width=11, no_wrap=True, header_style=_DIM)
    table.add_column("tries", width=5, justify="right", no_wrap=True, header_style=_DIM)
    table.add_column("time", width=6, justify="right", no_wrap=True, header_style=_DIM)
    return table


def _step_cells(console: Console, step: StepResult, state: str | None = None) -> list[Text]:
    """Return the first cells of a step's row. *state* says better than its status how it stands."""
    shown = state or str(step.status)
    sign, colour = look_of(console, shown)
    return [
        Text(sign, style=colour),
        Text(_name(step), style=_DIM if step.status is StepStatus.SKIPPED else ""),
        Text(shown.replace("_", " "), style=colour),
        Text(str(step.attempts) if step.attempts else "", style="yellow" if step.attempts > 1 else ""),
        Text(elapsed(step.duration) if step.attempts else ""),
    ]


def _name(step: StepResult) -> str:
    return one_line(step.step_name) or step.step_id  # szal-rs writes no names


def _note(step: StepResult) -> Text:
    if step.error is not None:
        return Text(one_line(step.error), style="red" if step.status is StepStatus.FAILED else _DIM)
    output = step.output
    if isinstance(output, dict) and "exit_code" in output and isinstance(output.get("stdout"), str):
        lines = output["stdout"].rstrip().rsplit("\n", 1)  # a shell step's: as the live view showed it
        return Text(brief(lines[-1]), style=_DIM)
    return Text(brief(output), style=_DIM)


# -- one execution --------------------------------------------------------------------------------------


def full_record(
    console: Console, record: ExecutionRecord, standing: Standing | None = None, advice: Advice | None = None
) -> RenderableType:
    """Return all that a person wants to know of an execution. To be printed with crop=False: commands are not cut."""
    if standing is None:
        standing = Standing(steps=() if record.result is None else record.result.steps)
    parts: list[RenderableType] = [_facts(console, record, standing)]
    parts += [command_line(line) for line in _why_not_on(record, standing, advice or Advice())]
    steps = explained(standing, standing.steps)
    if any(step.status is not StepStatus.PENDING for step in steps):
        parts += [Text(""), _timeline(console, record, steps, _record_states(record, standing))]
    elif record.result is None:
        parts.append(Text("No step is recorded yet.", style=_DIM))
    parts += [part for step in steps for part in _error(console, step)]
    parts += _what_was_cut(steps)
    return Group(*parts)


def command_line(text: str) -> Text:
    """Return a line that has a command in it: not wrapped, as what is copied from a terminal would be broken."""
    return Text(text, style="yellow", no_wrap=True, overflow="ignore")


def _why_not_on(record: ExecutionRecord, standing: Standing, advice: Advice) -> Iterator[str]:
    """Yield why an execution that could go on does not."""
    command = advice.resume(record.execution_id, standing.flow)
    if standing.is_cancelling:
        end = f"nobody runs it; to end it: {command}" if standing.is_interrupted else "it ends soon"
        yield f"was asked to cancel: {end}"
        return
    if record.state is WorkflowState.PAUSED and record.stop is Stop.INTERRUPTED:
        yield from advice.after_interruption(record, standing.flow)
    elif standing.is_interrupted and record.state is not WorkflowState.PAUSED:
        yield f"interrupted: nobody runs it any more; to go on: {command}"
    elif standing.is_interrupted:
        yield f"it can go on now: {command}"
    yield from advice.waits(standing.waits)


def _record_states(record: ExecutionRecord, standing: Standing) -> Mapping[str, str]:
    if record.state is not WorkflowState.PAUSED and not standing.is_interrupted:
        return {}
    return _states(record.execution_id, standing)


def _states(execution_id: str | None, standing: Standing) -> Mapping[str, str]:
    """Return, by name, how steps stand that had begun, but that nobody works on."""
    states = {step.step_name: "interrupted" for step in standing.steps if step.status is StepStatus.RUNNING}
    for wait in standing.waits:
        if wait.execution_id == execution_id:
            is_decision = wait.signal is None and wait.until is None
            states[wait.step] = "undecided" if is_decision else "paused"
    return states


def _facts(console: Console, record: ExecutionRecord, standing: Standing) -> RenderableType:
    if record.result is None:
        state = str(record.state)
        if standing.is_interrupted and record.state is not WorkflowState.PAUSED:
            state = "interrupted"
        sign, colour = look_of(console, state)
        headline = Text.assemble(
            (f"{sign} ", colour), (one_line(record.flow_name), "bold"), " ", (state.replace("_", " "), colour)
        )
    else:
        headline = _headline(console, record.flow_name, attrs.evolve(record.result, state=record.state))
    end = f" to {moment(record.finished_at)}" if record.finished_at else ""
    facts = {
        "execution": record.execution_id,
        "started": f"{moment(record.started_at)}{end}",
        "parent": record.parent_execution_id,
        "inputs": _pairs(record.inputs),
        "labels": _pairs(record.labels),
        "file": record.file,
        "directory": record.cwd,
        "error": None if record.state is WorkflowState.PAUSED and standing.flow is not None else record.error,
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=_DIM)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(one_line(value)))
    return Group(headline, table)


def _pairs(values: object) -> str:
    return "  ".join(f"{key}={brief(value)}" for key, value in dict(values).items())  # type: ignore[call-overload]


def _timeline(
    console: Console, record: ExecutionRecord, steps: Sequence[StepResult], states: Mapping[str, str]
) -> Table:
    """Return a table whose last column draws when each step ran; a skipped step has its reason there."""
    table = _step_table(console, steps)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis", header_style=_DIM)
    taken = sum(column.width or 0 for column in table.columns) + len(table.columns)
    scale = _Scale.of(record, steps, max(10, min(console.width, 120) - taken), ascii_only=console.options.ascii_only)
    table.columns[-1].header = scale.header()
    for step in steps:
        bar = _note(step) if step.started_at is None else Text(scale.bar(step), style=look_of(console, step.status)[1])
        table.add_row(*_step_cells(console, step, states.get(step.step_name)), bar)
    return table


@attrs.frozen
class _Scale:
    """From moments to columns."""

    start: datetime
    seconds: float
    width: int
    ascii_only: bool

    @classmethod
    def of(cls, record: ExecutionRecord, steps: Sequence[StepResult], width: int, *, ascii_only: bool) -> "_Scale":
        began = [step.started_at for step in steps if step.started_at is not None]
        ends = [step.started_at + timedelta(seconds=step.duration) for step in steps if step.started_at is not None]
        start = min([record.started_at, *began])
        end = max([record.finished_at or start, *ends])
        return cls(start, max((end - start).total_seconds(), 0.001), width, ascii_only)

    def header(self) -> str:
        end = elapsed(self.seconds)
        return f"0{end:>{self.width - 1}}"

    def bar(self, step: StepResult) -> str:
        assert step.started_at is not None
        block, thin = ("#", "|") if self.ascii_only else ("█", "▏")
        first = (step.started_at - self.start).total_seconds() / self.seconds * self.width
        length = step.duration / self.seconds * self.width
        left = min(int(first), self.width - 1)
        filled = min(round(first + length), self.width) - left
        return " " * left + (block * filled if filled >= 1 else thin)


def _error(console: Console, step: StepResult) -> list[RenderableType]:
    """Return the whole error of a step that failed, or was not undone."""
    if step.error is None or step.status is not StepStatus.FAILED:
        return []
    sign, colour = look_of(console, step.status)
    title = Text.assemble((f"\n{sign} ", colour), (_name(step), "bold"))
    return [title, Text(clean(step.error).rstrip(), overflow="fold")]


def _what_was_cut(steps: Sequence[StepResult]) -> list[RenderableType]:
    """Return a line for each command that printed more than is kept."""
    lines = []
    for step in steps:
        cut = step.output.get("truncated") if isinstance(step.output, dict) and "exit_code" in step.output else None
        if isinstance(cut, list) and cut:
            streams = " and ".join(brief(stream) for stream in cut)
            lines.append(f"of {streams} of {_name(step)} the end is kept: the last {MAX_OUTPUT // 1024} KiB")
    return [Text(line, style="yellow") for line in lines]


# -- many -----------------------------------------------------------------------------------------------


def executions(
    console: Console, found: Sequence[ExecutionSummary], *, whole_ids: bool, interrupted: Collection[str] = ()
) -> RenderableType:
    """Return a table of *found*. Ids are cut to what tells them apart, unless *whole_ids*.

    One that counts as running, but is among *interrupted*, is shown as such: nobody runs it.
    """
    length = _distinct([summary.execution_id for summary in found])
    ids = [one_line(item.execution_id if whole_ids else item.execution_id[:length]) for item in found]
    flows = [one_line(item.flow_name) for item in found]
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, expand=True)
    widths = {"execution": _width(ids), "flow": min(_width(flows), console.width // 4), "state": 13, "started": 16}
    for name, width in widths.items():
        table.add_column(name, width=max(width, len(name)), no_wrap=True, overflow="ellipsis", header_style=_DIM)
    table.add_column("time", width=6, justify="right", no_wrap=True, header_style=_DIM)
    table.add_column("error", ratio=1, no_wrap=True, overflow="ellipsis", header_style=_DIM)
    for item, shown, flow in zip(found, ids, flows, strict=True):
        is_left = item.execution_id in interrupted and item.state is not WorkflowState.PAUSED
        state = "interrupted" if is_left else str(item.state or "unknown")
        sign, colour = look_of(console, state)
        start, end = item.started_at, item.finished_at
        took = None if start is None or end is None else (end - start).total_seconds()
        table.add_row(
            Text(shown),
            Text(flow),
            Text(f"{sign} {state.replace('_', ' ')}", style=colour),
            Text("" if start is None else moment(start, "minutes"), style=_DIM),
            Text("" if took is None else elapsed(took)),
            Text(one_line(item.error or ""), style=_DIM),
        )
    return table


def _width(texts: Sequence[str]) -> int:
    return max((cell_len(text) for text in texts), default=0)


def _distinct(ids: Sequence[str]) -> int:
    """Return how many characters (at least eight) tell these ids apart."""
    ordered = sorted(ids)
    longest = 0
    for one, other in pairwise(ordered):
        common = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        longest = max(longest, common)
    return max(8, longest + 1)
