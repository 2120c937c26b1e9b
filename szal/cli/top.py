"""``szal top``: what a store's executions are doing, live, whichever machines run them."""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from szal.cli.console import Stream, console_for, printed, stderr, stdout, write
from szal.cli.follow import is_redrawn, said_by
from szal.cli.help import Command
from szal.cli.history import reading
from szal.cli.options import duration_of, needed, store_option
from szal.cli.rows import DIM, name_of, waits_for, width_of
from szal.cli.style import look_of
from szal.cli.text import elapsed, one_line
from szal.clock import utc_now
from szal.engine.inspection import holdings
from szal.engine.owners import process_of
from szal.engine.status import ExecutionStatus
from szal.engine.view import View
from szal.engine.which import INTERRUPTED, shown_state
from szal.errors import DecodeError, ExecutionNotFound, StoreError, StoreUnavailable
from szal.expressions.path import Json
from szal.model.state import StepStatus, WorkflowState
from szal.stores import Store
from szal.stores.filters import LIVE

__all__ = ["top"]

_MOST: Final = 200
"""Of them are looked at: what has begun, and then what waits, the newest of each."""
_RANKS: Final = (
    (WorkflowState.RUNNING, WorkflowState.ROLLING_BACK),
    (WorkflowState.PAUSED,),
    (WorkflowState.CREATED,),
)
_ORDER: Final = ("running", "rolling_back", INTERRUPTED, "paused", "created")


@attrs.frozen
class _Line:
    """One execution, as it stands."""

    status: ExecutionStatus
    owner: str
    """Who runs it, for people; empty: nobody."""

    @property
    def state(self) -> str:
        return shown_state(self.status.state, is_interrupted=self.status.is_interrupted)

    @property
    def seconds(self) -> float:
        return max(0.0, ((self.status.finished_at or utc_now()) - self.status.started_at).total_seconds())

    @property
    def done(self) -> int:
        return sum(step.status.has_ended for step in self.status.results)

    @property
    def doing(self) -> Text:
        """What it is at, in a line: the steps that run, with what the first said last, else what it waits for."""
        status = self.status
        running = [step for step in status.results if step.status is StepStatus.RUNNING]
        if not running or status.waits:
            return Text(waits_for(status), "yellow")
        names = ", ".join(name_of(step) for step in running)
        said = said_by(running[0])
        return Text.assemble(names, ": " if said else "", said)

    def as_json(self) -> dict[str, Json]:
        status = self.status
        return {
            "execution_id": status.execution_id,
            "flow_name": status.flow_name,
            "state": self.state,
            "started_at": status.started_at.isoformat(),
            "finished_at": status.finished_at and status.finished_at.isoformat(),
            "steps": {"done": self.done, "of": len(status.results)},
            "running": [step.step_name for step in status.results if step.status is StepStatus.RUNNING],
            "waits": [wait.signal or wait.step for wait in status.waits],
            "queued": [each.as_json() for each in status.queued],
            "queued_behind": status.queued_behind,
            "in_queue": status.in_queue and status.in_queue.as_json(),
            "owner": self.owner or None,
        }


class _Board:
    """The executions of a store that have not ended; of each, only what has changed is read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views: dict[str, View] = {}
        self._has_more = False  # than are looked at

    def lines(self) -> list[_Line]:
        """Return how they stand, what runs first."""
        found: list[str] = []
        for states in _RANKS:
            if room := _MOST - len(found):
                found += (each.execution_id for each in self._store.find(states=states, limit=room))
        self._has_more = len(found) == _MOST
        found = [*dict.fromkeys(found)]  # one may have gone from one state to another meanwhile
        self._views = {name: self._views.get(name) or View(self._store, name) for name in found}
        looked = (self._look(name) for name in found)
        # one may have ended since it was found
        statuses = [status for status in looked if status is not None and status.state.is_live]
        held = holdings(self._store, [status.execution_id for status in statuses if status.is_running])
        owners = {name: process_of(each.owner) for name, each in held.items() if each.owner is not None}
        lines = [_Line(status, owners.get(status.execution_id, "")) for status in statuses]
        return sorted(lines, key=lambda line: (_ORDER.index(line.state), line.status.started_at))

    def counts(self, lines: Sequence[_Line]) -> Mapping[str, int]:
        """Return how many there are in each state, of which *lines* tell; of more than that the store counts."""
        told = Counter(line.state for line in lines)
        if self._has_more:
            interrupted = Counter(line.status.state for line in lines if line.state == INTERRUPTED)
            for state in LIVE:
                told[str(state)] = max(told[str(state)], self._store.count(states=state) - interrupted[state])
        return {state: told[state] for state in _ORDER}

    def ended(self, execution_id: str) -> _Line | None:
        """Return how one has ended that was among them; None: it was removed."""
        try:
            return _Line(View(self._store, execution_id).look(), "")
        except (ExecutionNotFound, DecodeError):
            return None

    def _look(self, execution_id: str) -> ExecutionStatus | None:
        try:
            return self._views[execution_id].look()
        except (ExecutionNotFound, DecodeError):  # removed just now; or nobody can read it
            return None


@click.command(cls=Command, short_help="What executions are doing, live, wherever they run.")
@store_option
@click.option(
    "--interval",
    callback=duration_of,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line whenever one has changed.")
def top(*, store: str | None, interval: float, once: bool, as_json: bool) -> None:
    """Show the executions that run, wait, were interrupted or have not begun, from any machine that reaches the store.

    Each has its steps, what it is at with what was reported last (--share-progress), and who runs it. On a
    terminal the list is drawn again as it changes, until Ctrl-C; elsewhere it is printed once. With --json each
    execution is a line, and again whenever it has changed; one that has ended is told once more.
    """
    if not interval >= 0.05:
        raise click.UsageError("--interval is at least 50ms")
    with reading(needed(store)) as opened:
        board, out = _Board(opened), stdout()
        console = console_for(out)
        if as_json:
            _tell(board, out, interval, once=once)
        elif once or not is_redrawn(console):
            lines = board.lines()
            console.print(_page(console, lines, board.counts(lines), room=_MOST), crop=False)
        else:
            _draw(board, console, interval)
    printed(out)


def _draw(board: _Board, console: Console, interval: float) -> None:
    """Draw it again and again, until Ctrl-C."""
    pause = threading.Event()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                live.update(_looked_at(board, console), refresh=True)
                pause.wait(interval)
        except KeyboardInterrupt:
            return


def _looked_at(board: _Board, console: Console) -> RenderableType:
    room = max(1, console.height - 3)
    try:
        lines = board.lines()
        return _page(console, lines, board.counts(lines), room)
    except StoreError as error:  # it comes back, perhaps
        return Text(one_line(str(error)), style="red")


def _tell(board: _Board, out: Stream, interval: float, *, once: bool) -> None:
    """Write a line for each execution that has changed, until Ctrl-C, or once.

    A store that is away is told of once on stderr, and looked at again, unless it is to be looked at *once*.
    """
    pause, told, problem = threading.Event(), dict[str, dict[str, Json]](), ""
    try:
        while not out.is_gone:
            try:
                told, problem = _tell_changes(board, out, told), ""
            except StoreUnavailable as error:
                if once:
                    raise
                if problem != (problem := one_line(str(error))):
                    write(stderr(), f"szal: {problem}; looking again")
            if once:
                return
            pause.wait(interval)
    except KeyboardInterrupt:
        return


def _tell_changes(board: _Board, out: Stream, told: Mapping[str, dict[str, Json]]) -> dict[str, dict[str, Json]]:
    """Write what has changed since *told*, or has ended, and return how all of it stands."""
    now = {line.status.execution_id: line.as_json() for line in board.lines()}
    ends = [board.ended(name) for name in told if name not in now]
    changed = [each for name, each in now.items() if told.get(name) != each]
    for each in (*(end.as_json() for end in ends if end is not None), *changed):
        write(out, json.dumps(each, ensure_ascii=False))
    return now


def _page(console: Console, lines: Sequence[_Line], counts: Mapping[str, int], room: int) -> RenderableType:
    """Return a table of as many of *lines* as there is *room* for, with how many are in which state above it."""
    told = [Text(f"{count} {state}", style=look_of(console, state)[1]) for state, count in counts.items() if count]
    head = Text("  ").join(told) if told else Text("Nothing runs, and nothing waits.", style=DIM)
    page = Table.grid(expand=console.file.isatty())
    page.add_row(head)
    if lines:
        page.add_row(_table(console, lines[:room]))
    left = sum(counts.values()) - min(len(lines), room)
    if left > 0:
        page.add_row(Text(f"… and {left} more", style=DIM))
    return page


def _table(console: Console, lines: Sequence[_Line]) -> Table:
    ids = width_of([one_line(line.status.execution_id) for line in lines])
    flows = width_of([one_line(line.status.flow_name) for line in lines])
    is_narrow = console.file.isatty() and console.width < ids + flows + 60
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, expand=True)
    third = console.width // 3 if is_narrow else 200
    for name, width in (("execution", min(ids, third)), ("flow", min(flows, third // 2)), ("state", 14)):
        table.add_column(name, width=max(len(name), width), no_wrap=True, overflow="ellipsis", header_style=DIM)
    table.add_column("time", width=6, justify="right", no_wrap=True, header_style=DIM)
    table.add_column("steps", width=9, justify="right", no_wrap=True, header_style=DIM)
    table.add_column("doing", ratio=1, no_wrap=True, overflow="ellipsis", header_style=DIM)
    if not is_narrow:
        owners = width_of([line.owner for line in lines])
        table.add_column("run by", width=max(6, min(owners, 40)), no_wrap=True, overflow="ellipsis", header_style=DIM)
    for line in lines:
        sign, colour = look_of(console, line.state)
        cells = [
            Text(one_line(line.status.execution_id)),
            Text(one_line(line.status.flow_name)),
            Text(f"{sign} {line.state}", style=colour),
            Text(elapsed(line.seconds)),
            Text(f"{line.done}/{len(line.status.results)}" if line.status.results else ""),
            line.doing,
            Text(one_line(line.owner), style=DIM),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table
