"""When each step of an execution ran, and was undone, as bars beside its row."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from szal.cli.rows import DIM, note_of, step_cells, step_table
from szal.cli.style import look_of
from szal.cli.text import elapsed
from szal.model.json import Checkpoint
from szal.model.key import item_key
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus
from szal.pictures.standing import seconds_of

__all__ = ["timeline", "undos_of"]

Span = tuple[datetime, datetime]
"""From when to when."""


def undos_of(steps: Sequence[StepResult], kept: Mapping[str, Checkpoint]) -> dict[str, Span]:
    """Return from when to when each step was undone, by its name, as far as *kept* tells that; or its items were."""
    found = {}
    for step in steps:
        keys = [step.step_name, *(item_key(step.step_name, index) for index in range(len(step.items or ())))]
        undos = [undo for key in keys if key in kept for undo in kept[key].undos]
        if undos:
            found[step.step_name] = min(each.started_at for each in undos), max(each.ended_at for each in undos)
    return found


def timeline(
    console: Console,
    record: ExecutionRecord,
    steps: Sequence[StepResult],
    states: Mapping[str, str],
    undos: Mapping[str, Span],
) -> Table:
    """Return a table whose last column draws when each step ran, and was undone, as far as *undos* tells that.

    A skipped step has its reason there.
    """
    table = step_table(console, steps)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis", header_style=DIM)
    taken = sum(column.width or 0 for column in table.columns) + len(table.columns)
    scale = _Scale.of(record, steps, max(10, min(console.width, 120) - taken), ascii_only=console.options.ascii_only)
    table.columns[-1].header = scale.header()
    for step in steps:
        if step.started_at is None:
            bar = note_of(step)
        else:
            ran, undone = scale.bar(step, undos.get(step.step_name))
            was = step.status if not undone else StepStatus.COMPLETED if step.error is None else StepStatus.FAILED
            bar = Text.assemble((ran, look_of(console, was)[1]), (undone, look_of(console, StepStatus.ROLLED_BACK)[1]))
        table.add_row(*step_cells(console, step, states.get(step.step_name)), bar)
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
        ends = [start + timedelta(seconds=seconds_of(step) or 0.0) for step in steps if (start := step.started_at)]
        start = min([record.started_at, *began])
        end = max([record.finished_at or start, *ends])
        return cls(start, max((end - start).total_seconds(), 0.001), width, ascii_only)

    def header(self) -> str:
        end = elapsed(self.seconds)
        return f"0{end:>{self.width - 1}}"

    def bar(self, step: StepResult, undo: Span | None) -> tuple[str, str]:
        """Return what is drawn of a step, and behind that of its undoing."""
        assert step.started_at is not None
        block, thin = ("#", "|") if self.ascii_only else ("█", "▏")
        left, filled = self._place(step.started_at, step.started_at + timedelta(seconds=seconds_of(step) or 0.0))
        ran = " " * left + (block * filled if filled >= 1 else thin)
        if undo is None:
            return ran, ""
        left, filled = self._place(*undo)
        shade = "<" if self.ascii_only else "░"
        return ran, " " * (left - len(ran)) + shade * max(filled - max(0, len(ran) - left), 1)

    def _place(self, start: datetime, end: datetime) -> tuple[int, int]:
        """Return in which column that begins, and how many it fills."""
        first, last = ((moment - self.start).total_seconds() / self.seconds * self.width for moment in (start, end))
        left = min(int(first), self.width - 1)
        return left, min(round(last), self.width) - left
