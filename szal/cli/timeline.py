"""When each step of an execution ran, as bars beside its row."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from szal.cli.rows import DIM, note_of, step_cells, step_table
from szal.cli.style import look_of
from szal.cli.text import elapsed
from szal.model.results import ExecutionRecord, StepResult

__all__ = ["timeline"]


def timeline(
    console: Console, record: ExecutionRecord, steps: Sequence[StepResult], states: Mapping[str, str]
) -> Table:
    """Return a table whose last column draws when each step ran; a skipped step has its reason there."""
    table = step_table(console, steps)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis", header_style=DIM)
    taken = sum(column.width or 0 for column in table.columns) + len(table.columns)
    scale = _Scale.of(record, steps, max(10, min(console.width, 120) - taken), ascii_only=console.options.ascii_only)
    table.columns[-1].header = scale.header()
    for step in steps:
        bar = (
            note_of(step) if step.started_at is None else Text(scale.bar(step), style=look_of(console, step.status)[1])
        )
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
