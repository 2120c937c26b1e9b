"""A run as it goes on: a view that redraws itself on a terminal, or lines in a log."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from szal.cli.board import Board, Row, Snapshot, Stage
from szal.cli.style import look_of
from szal.cli.text import brief, clean_lines, elapsed, one_line
from szal.clock import monotonic, utc_now
from szal.engine.status import ExecutionStatus
from szal.events.bus import EventType, WorkflowEvent
from szal.events.progress import Printed, StepProgress
from szal.model.flow import FlowDef
from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus

__all__ = ["LiveView", "PlainLog", "View", "view_of"]

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES: Final = "|/-\\"
_PER_SECOND: Final = 10
_BAR_EVERY: Final = 1.0  # seconds: a log keeps each progress bar that is written
_ECHO: Final = 3  # columns that stay free: the terminal writes ^C there, and a line break would move the view


class View(Protocol):
    """What shows a run: an event sink, a progress sink, and a block around the run."""

    def event(self, event: WorkflowEvent) -> None: ...
    def progress(self, progress: StepProgress) -> None: ...
    def say(self, text: str) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def view_of(
    flow: FlowDef,
    console: Console,
    environment: Mapping[str, str] = os.environ,
    *,
    standing: ExecutionStatus | None = None,
    age: float = 0.0,
) -> View:
    """Return the view that *console* can show: a log where it is no terminal, or one without cursor and colour.

    *standing* is how far an execution has come that goes on, *age* how many seconds ago it began.
    """
    before = () if standing is None else standing.results
    plain = console.is_dumb_terminal or "NO_COLOR" in environment
    if plain or not console.file.isatty():
        return PlainLog(flow, console, before)
    return LiveView(flow, console, before, age)


class LiveView:
    """A line for each step, or for those that run where there are too many, redrawn ten times a second.

    It is gone when the run is over: the closing table takes its place.
    """

    def __init__(self, flow: FlowDef, console: Console, before: Sequence[StepResult] = (), age: float = 0.0) -> None:
        self._name = one_line(flow.name)
        self._console = console
        self._board = Board(flow, before=before, age=age)
        self._notice = ""
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=_PER_SECOND, transient=True)
        self.event = self._board.event
        self.progress = self._board.progress

    def say(self, text: str) -> None:
        """Show *text* in the last line from now on."""
        self._notice = text

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _draw(self) -> Table:
        """Return the view as it is now. On the thread that redraws."""
        width, height = self._console.width - _ECHO, self._console.height
        snapshot = self._board.snapshot(max(3, height - 4))
        names = _name_width(snapshot.rows, width)
        grid = Table.grid(
            Column(width=1),
            Column(width=names, no_wrap=True, overflow="ellipsis"),
            Column(width=11, no_wrap=True),
            Column(width=6, no_wrap=True, justify="right"),
            Column(width=4, no_wrap=True, justify="right"),
            Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            padding=(0, 1, 0, 0),
        )
        for row in snapshot.rows:
            grid.add_row(*self._cells(row, snapshot.now))
        page = Table.grid(Column(no_wrap=True, overflow="ellipsis"))
        grid.width = page.width = width
        page.add_row(self._headline(snapshot))
        page.add_row(grid)
        if self._notice:
            page.add_row(Text(self._notice, style="yellow"))
        return page

    def _headline(self, snapshot: Snapshot) -> Text:
        counts = [
            Text(f"{count} {stage.value}", style=look_of(self._console, stage.value)[1])
            for stage in Stage
            if (count := snapshot.counts[stage])
        ]
        parts = [Text(self._name, style="bold"), Text(elapsed(snapshot.seconds)), *counts]
        return Text("  ").join(parts)

    def _cells(self, row: Row, now: float) -> list[Text]:
        sign, colour = look_of(self._console, row.stage.value)
        if row.stage.is_active:
            frames = _PLAIN_FRAMES if self._console.options.ascii_only else _FRAMES
            sign = frames[int(now * _PER_SECOND) % len(frames)]
        seconds = row.seconds(now)
        dim = "dim" if row.stage in (Stage.WAITING, Stage.SKIPPED) else ""
        return [
            Text(sign, style=colour),
            Text("  " * row.depth + one_line(row.name), style=dim),
            Text(row.stage.value, style=colour),
            Text("" if seconds is None else elapsed(seconds)),
            Text(f"{row.attempt}/{row.tries}" if row.tries > 1 and row.attempt else "", style="yellow"),
            Text(row.note(now), style="red" if row.stage is Stage.FAILED else "dim"),
        ]


def _name_width(rows: list[Row], width: int) -> int:
    longest = max((Text(one_line(row.name)).cell_len + 2 * row.depth for row in rows), default=1)
    return max(4, min(longest, width // 3))


class PlainLog:
    """One line for each event and for each line that a step reports; each begins with the time and the step's name.

    What a step reports at once may come before the event that it has started. Its start is told first all the same.
    """

    _WORDS: Final[Mapping[EventType, str]] = {
        "flow_started": "started",
        "step_started": "started",
        "step_completed": "completed",
        "step_failed": "FAILED",
        "step_skipped": "skipped",
        "step_timeout": "timed out",
        "flow_paused": "paused",
    }

    def __init__(self, flow: FlowDef, console: Console, before: Sequence[StepResult] = ()) -> None:
        self._file = console.file
        self._lock = threading.Lock()  # whole lines: steps report on their own threads
        self._run_here: set[str | None] = set()  # executions; of others there are undos only
        self._ended_before = {step.step_id for step in before if step.status is not StepStatus.PENDING}
        self._begun: set[tuple[str | None, str | None, int | None]] = (
            set()
        )  # execution, step and item: their start is told
        self._next_bar: dict[str, float] = {}  # by step: when the next progress bar may be written
        self._width = min(24, max((len(one_line(step.name)) for step in flow.walk()), default=0))

    def event(self, event: WorkflowEvent) -> None:
        """Write what happened."""
        if event.event_type == "flow_started":
            self._run_here.add(event.execution_id)
        if event.event_type == "step_started" and not self._begins(event.execution_id, event.step_id, event.index):
            return
        text = self._text(event)
        if text is not None:
            self._line(_called(event.step_name or event.flow_name, event.index), text)

    def _text(self, event: WorkflowEvent) -> str | None:
        error = one_line(event.error or "")
        if event.event_type == "step_retry":
            return f"attempt {event.attempt} failed, again in {elapsed(event.duration or 0.0)}: {error}"
        if event.event_type == "step_rollback":
            return f"could not be rolled back: {error}" if error else "rolled_back"
        word = self._WORDS.get(event.event_type)
        if word is None:
            return None
        took = f" in {elapsed(event.duration)}" if event.duration is not None and event.attempt else ""
        return f"{word}{took}: {error}" if error else f"{word}{took}"

    def progress(self, progress: StepProgress) -> None:
        """Write what a step reported. On any thread. How a line stands that is written over, not too often."""
        name, data = _called(progress.step_name, progress.index), progress.data
        is_undo = progress.execution_id not in self._run_here or progress.step_id in self._ended_before
        if not is_undo and self._begins(progress.execution_id, progress.step_id, progress.index):
            self._line(name, self._WORDS["step_started"])
        if not isinstance(data, Printed):
            self._line(name, f"| {brief(data)}")
        elif data.is_final:
            self._lines(name, [f"| {line}" for line in clean_lines(data.text())])
        elif monotonic() >= self._next_bar.get(name, 0.0):
            self._next_bar[name] = monotonic() + _BAR_EVERY
            self._line(name, f"| {brief(data)}")

    def say(self, text: str) -> None:
        """Write *text*."""
        self._line("szal", text)

    def _begins(self, execution_id: str | None, step_id: str | None, index: int | None) -> bool:
        """Whether the start of this step, or item, has not been told; from now on it has."""
        key = (execution_id, step_id, index)
        with self._lock:
            is_new = key not in self._begun
            self._begun.add(key)
        return is_new

    def _line(self, name: str, text: str) -> None:
        self._lines(name, (text,))

    def _lines(self, name: str, texts: Iterable[str]) -> None:
        begin = f"{utc_now().astimezone():%H:%M:%S} {one_line(name):<{self._width}}  "
        lines = f"\n{begin}".join(texts)
        with self._lock:
            self._file.write(f"{begin}{lines}\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _called(step_name: str, index: int | None) -> str:
    return step_name if index is None else item_key(step_name, index)
