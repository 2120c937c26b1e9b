"""Commands, and who is told what they print."""

import contextlib
import os
import pty
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef, StepProgress
from szal.cli.live import LiveView, PlainLog
from szal.events.progress import InBulk

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject
    from szal.cli.live import View


def printing(size: int) -> FlowDef:
    """Return a flow of one command that prints so many lines."""
    return FlowDef("prints", steps=[StepDef("seq", step_type="shell", config={"run": f"seq {size}"})])


def run(flow: FlowDef, config: EngineConfig | None = None) -> None:
    """Run *flow*, which must succeed."""
    with Engine(Handlers(), config) as engine:
        engine.run(flow).raise_for_failure()


def seen_by(view: "View", flow: FlowDef) -> None:
    """Run *flow* as ``szal run`` does."""
    with view:
        run(flow, EngineConfig(event_sink=view.event, progress_sink=InBulk(view.progress)))


def live(job: "Job") -> "Iterator[Repetition]":
    """The live screen, on a terminal that somebody reads."""
    flow = printing(job.size)
    reader, writer = pty.openpty()

    def read_on() -> None:
        with contextlib.suppress(OSError):  # so says Linux that the terminal is closed
            while os.read(reader, 65536):
                pass

    reading = threading.Thread(target=read_on, daemon=True)
    reading.start()
    with open(writer, "w") as terminal:  # noqa: PTH123 (a descriptor)
        console = Console(file=terminal, force_terminal=True, width=100, height=30)
        yield lambda: seen_by(LiveView(flow, console), flow)
    reading.join()
    os.close(reader)


def log(job: "Job") -> "Iterator[Repetition]":
    """Every line in a log file, with the time and the step's name."""
    flow = printing(job.size)

    def repetition() -> None:
        with tempfile.TemporaryFile("w") as file:
            seen_by(PlainLog(flow, Console(file=file)), flow)

    yield repetition


def nobody(job: "Job") -> "Iterator[Repetition]":
    """No progress sink."""
    yield partial(run, printing(job.size))


def own(job: "Job") -> "Iterator[Repetition]":
    """A sink of a program's own, called for each line."""
    flow = printing(job.size)

    def hear(_: StepProgress) -> None:
        """Keep nothing."""

    yield lambda: run(flow, EngineConfig(progress_sink=hear))


CASES: "dict[str, dict[str, Subject]]" = {
    "lines": {
        "szal": live,
        "szal, nobody listens": nobody,
        "szal, a log file": log,
        "szal, a sink of one's own": own,
    }
}
