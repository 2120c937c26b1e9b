"""How the steps of an execution stand, as a table for people: in a terminal, in a notebook."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from szal.model.state import StepStatus

__all__ = ["Row", "as_html", "as_text", "head_of"]

_WIDEST: Final = 100
"""Characters of an error, in a line."""


class Row(Protocol):
    """What is told of a step: a `StepResult`."""

    step_id: str
    step_name: str
    status: StepStatus
    duration: float
    attempts: int
    error: str | None

    @property
    def items(self) -> "Sequence[Row] | None": ...


def head_of(flow: str, state: object, execution_id: str | None, error: str | None = None) -> str:
    """Return what is told of the whole.

    >>> head_of("etl", "failed", "e1", "step 'load' failed: OSError: disk full")
    "flow 'etl' failed: step 'load' failed: OSError: disk full (execution e1)"
    """
    why = f": {_in_a_line(error)}" if error else ""
    which = f" (execution {_clean(execution_id)})" if execution_id else ""
    return f"flow {flow!r} {state}{why}{which}"


def as_text(head: str, steps: Iterable[Row]) -> str:
    """Return a line for each step, under *head*."""
    rows = [_cells(step) for step in steps]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])


def as_html(head: str, steps: Iterable[Row]) -> str:
    """Return a table of the steps, under *head*; nothing in it is taken for HTML."""
    from html import escape  # a hundred times as long to import as to use

    titles = "".join(f"<th>{title}</th>" for title in ("step", "status", "time", "attempts", ""))
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in _cells(step)) for step in steps)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p>{escape(head)}</p><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cells(step: Row) -> tuple[str, str, str, str, str]:
    status, items = str(step.status), step.items
    if items:
        done = sum(item.status is StepStatus.COMPLETED for item in items)
        status += f" ({done} of {len(items)} items)"
    time = f"{step.duration:.2f}s" if step.duration or (step.attempts and step.status.has_ended) else ""
    attempts = str(step.attempts) if step.attempts > 1 else ""
    return _clean(step.step_name or step.step_id), status, time, attempts, _in_a_line(step.error or "")


def _in_a_line(text: str) -> str:
    line = _clean(text)
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def _clean(text: str) -> str:
    """Return *text* in one line, without what a terminal would act on."""
    from szal.legible import clean  # whose patterns take long to compile

    return " ".join(clean(text).split())
