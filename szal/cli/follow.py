"""An execution that runs elsewhere, shown as it goes on."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from szal.cli.advice import Advice
from szal.cli.console import Stream, console_for, printed, stderr, stdout, write
from szal.cli.rows import DIM, name_of, note_of, queued_lines, step_cells, step_table, waits_for
from szal.cli.show import full_record, how_to_go_on, kept_of_undone
from szal.cli.standing import PAUSED, waits_for_somebody
from szal.cli.style import look_of
from szal.cli.text import brief, elapsed, one_line
from szal.clock import utc_now
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.engine.status import ExecutionStatus
from szal.engine.stream import Changes
from szal.engine.which import shown_state
from szal.model.results import StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.stores import Store

__all__ = ["TIMED_OUT", "follow", "is_redrawn"]

TIMED_OUT: Final = 124
"""The exit status for an execution that has not ended in the time that was given for that, as that of timeout(1)."""

_PER_SECOND = 4


def is_redrawn(console: Console) -> bool:
    """Whether *console* is a terminal on which what was drawn can be drawn again."""
    return console.file.isatty() and not console.is_dumb_terminal and not console.no_color


def follow(
    store: Store, execution_id: str, advice: Advice, *, as_json: bool, waits: bool = False, timeout: float | None = None
) -> int:
    """Show how an execution goes on until it has ended, and return the exit status for how it did.

    Or until it waits for somebody, unless this *waits* as well; for *timeout* seconds at most.
    """
    out = stdout()
    engine = Engine([], EngineConfig(execution_store=store))
    try:
        with engine.watch(execution_id, timeout) as watch:
            statuses = watch if waits else _until_somebody_is_asked(watch)
            last = _shown(out, statuses, advice, as_json=as_json, waits=waits)
    except KeyboardInterrupt:
        write(stderr(), f"szal: {execution_id} is followed no more, and left as it is")
        raise
    if last is None:
        return 1
    if not as_json:
        console = console_for(out)
        console.print(full_record(console, last.record, last, advice, kept=kept_of_undone(store, last)), crop=False)
    printed(out)
    if not last.state.is_live:
        return 0 if last.state is WorkflowState.COMPLETED else 1
    if not waits and waits_for_somebody(last):
        return PAUSED
    write(stderr(), f"szal: {execution_id} has not ended after {elapsed(timeout or 0.0)}, and is left as it is")
    return TIMED_OUT


def _until_somebody_is_asked(statuses: Iterable[ExecutionStatus]) -> Iterator[ExecutionStatus]:
    for status in statuses:
        yield status
        if waits_for_somebody(status):
            return


def _shown(
    out: Stream, statuses: Iterable[ExecutionStatus], advice: Advice, *, as_json: bool, waits: bool
) -> ExecutionStatus | None:
    """Show each, and return the last; None where nobody sees it any more."""
    console = console_for(out)
    if not as_json and is_redrawn(console):
        return _drawn(console, statuses, advice)
    last, changes, lines = None, Changes(outputs=True), _Lines(out, advice if waits else None)
    for last in statuses:
        if as_json:
            write(out, json.dumps(changes.of(last)[1], ensure_ascii=False))
        else:
            lines.tell(last)
        if out.is_gone:
            return None
    return last


def _drawn(console: Console, statuses: Iterable[ExecutionStatus], advice: Advice) -> ExecutionStatus | None:
    shown: list[ExecutionStatus] = []

    def draw() -> RenderableType:
        return _page(console, shown[-1], advice) if shown else Text("")

    with Live(console=console, get_renderable=draw, refresh_per_second=_PER_SECOND, transient=True) as live:
        for status in statuses:
            shown[:] = [status]
            live.refresh()
    return shown[-1] if shown else None


def _page(console: Console, status: ExecutionStatus, advice: Advice) -> RenderableType:
    """Return how it stands, in as many lines as there are."""
    state = shown_state(status.state, is_interrupted=status.is_interrupted)
    sign, colour = look_of(console, state)
    age = ((status.finished_at or utc_now()) - status.started_at).total_seconds()
    done = sum(step.status.has_ended for step in status.results)
    counts = f"  {elapsed(max(0.0, age))}  {done} of {len(status.results)} steps"
    head = Text.assemble((f"{sign} ", colour), (one_line(status.flow_name), "bold"), " ", (state, colour), counts)
    head.no_wrap, head.overflow = True, "ellipsis"
    queued = queued_lines(status)
    steps = _in_sight(status.results, max(3, console.height - 4 - len(status.waits) - len(queued)))
    table = step_table(console, steps)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis", header_style=DIM)
    for step in steps:
        table.add_row(*step_cells(console, step), said_by(step))
    page = Table.grid()
    page.add_row(head)
    page.add_row(table)
    for told in how_to_go_on(status, advice) if status.state is WorkflowState.PAUSED else ():
        whole = cell_len(told) <= console.width  # a command that is cut, or broken, is none
        page.add_row(Text(told if whole else told.rpartition(": ")[0], "yellow", no_wrap=True, overflow="ellipsis"))
    for told in queued:
        page.add_row(Text(told, style="yellow", no_wrap=True, overflow="ellipsis"))
    return page


def said_by(step: StepResult) -> Text:
    """Return what a step reported last, or what it came to, in a line."""
    return note_of(step) if step.report is None else Text(brief(step.report.data), style=DIM)


def _in_sight(steps: Sequence[StepResult], room: int) -> list[StepResult]:
    """Return the steps that there is room for: what runs, what failed, and what comes around that."""
    if len(steps) <= room:
        return [*steps]
    ranks = {StepStatus.RUNNING: 0, StepStatus.FAILED: 1, StepStatus.PENDING: 2}
    chosen = sorted(range(len(steps)), key=lambda place: (ranks.get(steps[place].status, 3), place))[:room]
    return [steps[place] for place in sorted(chosen)]


class _Lines:
    """A line for each step that has changed, as a log has them."""

    def __init__(self, out: Stream, advice: Advice | None) -> None:
        self._out = out
        self._advice = advice
        self._told: dict[str, tuple[str, str]] = {}
        self._asked: list[str] = []  # what it waits for, and how that is sent

    def tell(self, status: ExecutionStatus) -> None:
        """Write what has changed."""
        width = max((len(name_of(step)) for step in status.results), default=4)
        for step in status.results:
            now = str(step.status), "" if step.report is None else brief(step.report.data)
            before = self._told.get(step.step_name, ("pending", ""))
            self._told[step.step_name] = now
            if now[0] != before[0]:
                has_run = step.attempts and step.status is not StepStatus.RUNNING
                took = f" in {elapsed(step.duration)}" if has_run else ""
                error = f": {one_line(step.error)}" if step.error else ""
                self._line(width, name_of(step), f"{now[0]}{took}{error}")
            if now[1] and now[1] != before[1]:
                self._line(width, name_of(step), f"| {now[1]}")
        state = shown_state(status.state, is_interrupted=status.is_interrupted)
        if self._told.get("") != (state, ""):
            self._told[""] = state, ""  # no step is called so
            waits = f": {told}" if (told := waits_for(status)) else ""
            self._line(width, one_line(status.flow_name), state + waits)
        self._tell_how_it_goes_on(status, width)

    def _tell_how_it_goes_on(self, status: ExecutionStatus, width: int) -> None:
        is_paused, advice = status.state is WorkflowState.PAUSED, self._advice
        told = [*how_to_go_on(status, advice)] if advice is not None and is_paused else []
        for line in told:
            if line not in self._asked:
                self._line(width, one_line(status.flow_name), line)
        self._asked = told

    def _line(self, width: int, name: str, text: str) -> None:
        write(self._out, f"{utc_now().astimezone():%H:%M:%S} {name:<{width}}  {text}")
