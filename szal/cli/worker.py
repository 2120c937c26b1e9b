"""``szal worker``: a process that runs what others submit, and what was interrupted."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from szal.cli import completion
from szal.cli.console import documents, stderr, write
from szal.cli.execute import Settings, leave, leave_at_once, sink_of
from szal.cli.help import Command
from szal.cli.history import check_exists
from szal.cli.interrupt import Interruption
from szal.cli.lost import ExecutorGone
from szal.cli.options import needed, queues_option
from szal.cli.project import project
from szal.cli.session import run_options
from szal.cli.target import Target, find_target
from szal.cli.text import one_line
from szal.clock import monotonic
from szal.engine.engine import Engine
from szal.errors import ExecutorBroken
from szal.events.bus import WorkflowEvent
from szal.model.migration import MigrationRegistry
from szal.scheduler.cancel import CancellationToken

__all__ = ["together", "worker"]

_CHILD: Final = "--with-parent"
_WORDS: Final = "szal.words"
_PAUSES: Final = (1.0, 30.0)
"""Seconds before a process that died is begun again: at first, and at most. Each time twice as long if it died soon.
"""
_SOON: Final = 60.0
_SAID: Final = {
    1: "taking up nothing more; what runs ends its steps, and the rest of it is left to others; once more to hurry",
    2: "killing commands, and waiting for nothing else; once more to leave at once",
}


class _Worker(Command):
    """Keeps what was typed, for processes that are to do the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the options and arguments."""
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Worker, short_help="Run what programs submit, until it is stopped.")
@click.argument("targets", metavar="FILE|MODULE:ATTRIBUTE...", nargs=-1, shell_complete=completion.targets)
@queues_option
@click.option(
    "--max-executions",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="So many executions at a time.",
)
@click.option("--until-idle", is_flag=True, help="End as soon as nothing is due, as a job of cron does.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="So many processes, each with so many executions.",
)
@click.option(_CHILD, "with_parent", is_flag=True, hidden=True)
@run_options
def worker(
    *,
    targets: tuple[str, ...],
    queues: tuple[str, ...],
    max_executions: int,
    until_idle: bool,
    processes: int,
    with_parent: bool,
    settings: Settings,
) -> None:
    """Run executions that programs submit (engine.submit), and those that were interrupted, until it is stopped.

    FILE or MODULE:ATTRIBUTE, as for run, any number: whose flows it runs; what is of other flows is left to other
    workers. Any number of workers, on any number of machines, share what one database has. Those of the highest
    priority begin first, the oldest first among equals.

    SIGTERM and Ctrl-C let the steps end that run, record how far each execution has come, and leave the rest to other
    workers, which go on at once. With --processes, one that dies is begun again.

    With --json each event is an object on a line of stdout. Exit status: 0; 1 where its executor is lost.
    """
    if not (targets or project().flows):
        raise click.UsageError("which flows? Give FILE or MODULE:ATTRIBUTE, any number.")
    store = needed(settings.store)
    check_exists(store)
    target = together([find_target(name, is_recorded=True) for name in targets])
    if processes > 1 and not with_parent:
        _Processes(processes, click.get_current_context().meta[_WORDS]).run()
        return
    with documents(divert=settings.recorded) as document, sink_of(settings) as sink:

        def told(event: WorkflowEvent) -> None:
            if event.event_type.startswith("flow_"):
                write(document, _line(event, as_json=settings.recorded))

        engine = Engine(target.handler, settings.config(target, execution_store=sink, event_sink=told))
        _work(engine, queues, max_executions, until_idle=until_idle, with_parent=with_parent)
    leave(0)


def _work(engine: Engine, queues: Sequence[str], max_executions: int, *, until_idle: bool, with_parent: bool) -> None:
    stop = CancellationToken()

    def end() -> None:
        stop.cancel()
        engine.close(drain=0.0)

    if with_parent:
        threading.Thread(target=_await_parent, args=(end,), name="szal-parent", daemon=True).start()
    with Interruption(say=_say, cancel=end, end_grace=engine.end_grace, get_out=leave_at_once), engine:
        try:
            engine.work(queues, max_executions, until_idle=until_idle, stop=stop)
        except ExecutorBroken as error:  # what it had is left to others
            raise ExecutorGone(None, str(error)) from error


def _say(came: signal.Signals, count: int) -> None:
    write(stderr(), f"szal: {came.name}: {_SAID[count]}")


def _await_parent(end: Any) -> None:
    """Call *end* once the parent is gone, which has the other end of standard input."""
    with suppress(OSError):
        while os.read(0, 1):  # not through sys.stdin, whose lock the interpreter wants at its end
            pass
    end()


def together(targets: Sequence[Target]) -> Target:
    """Return one target that has the flows, the handlers and the migrations of all; of none, what the project has."""
    if not targets:
        return Target.of_any()
    if len(targets) == 1:
        return targets[0]
    handlers: list[Any] = []
    migrations: dict[str, MigrationRegistry] = {}
    for target in targets:
        several: Sequence[Any] = target.handler if isinstance(target.handler, list | tuple) else [target.handler]
        handlers += [each for each in several if each not in handlers]
        migrations.update(target.migrations)
    first, *others = {flow.name: flow for target in targets for flow in target.flows}.values()
    return Target(first, handlers, tuple(others), migrations)


def _line(event: WorkflowEvent, *, as_json: bool) -> str:
    """Return what is told of an execution that begins, or is over."""
    if as_json:
        fields = {
            "event": event.event_type,
            "flow_name": event.flow_name,
            "execution_id": event.execution_id,
            "time": event.timestamp.isoformat(),
            "error": event.error,
        }
        return json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)
    what = event.event_type.removeprefix("flow_").replace("_", " ")
    error = f": {one_line(event.error)}" if event.error else ""
    which = f"{one_line(event.flow_name)} {one_line(event.execution_id or '')}"
    return f"{event.timestamp.astimezone():%H:%M:%S} {which} {what}{error}"


class _Processes:
    """So many workers, each a process of its own, begun again where it dies; none outlives this one."""

    def __init__(self, count: int, words: Sequence[str]) -> None:
        self._command = [*project().command, "worker", _CHILD, *words]
        self._count = count
        self._is_over = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()

    def run(self) -> None:
        """Begin them, and wait until all have ended as they should."""
        threads = [threading.Thread(target=self._keep, name=f"szal-worker-process_{n}") for n in range(self._count)]

        with Interruption(say=_say, cancel=self._end, end_grace=self._tell, get_out=leave_at_once):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _keep(self) -> None:
        pause, most = _PAUSES
        while not self._is_over.is_set():
            began = monotonic()
            told = self._run_one()
            if told is None or self._is_over.is_set():
                return
            write(stderr(), f"szal: {told}; another one takes its place")
            self._is_over.wait(pause)
            pause = min(pause * 2, most) if monotonic() - began < _SOON else _PAUSES[0]

    def _run_one(self) -> str | None:
        """Run one until it ends; return how, unless that is as it should."""
        try:
            # In a group of its own: a Ctrl-C of the terminal is for this process, which tells the others.
            child = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
        except OSError as error:  # there is no memory, or no process to be had just now
            return f"a worker process cannot be begun: {error}"
        with child:
            self._children.add(child)
            if self._is_over.is_set():
                child.terminate()
            status = child.wait()
            self._children.discard(child)
        if status == 0:
            return None
        how = f"was killed by {_name_of(-status)}" if status < 0 else f"ended with {status}"
        return f"worker process {child.pid} {how}"

    def _end(self) -> None:
        self._is_over.set()
        self._tell()

    def _tell(self) -> None:
        for child in [*self._children]:
            child.terminate()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, between the first and the last
        return f"signal {number}"
