"""What the commands that run something have in common: their options, and how they end."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar, get_args

import attrs
import click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from szal.cli.advice import Advice, advice_on, command_line
from szal.cli.closing import closing
from szal.cli.console import Stream, console_for, stderr, write
from szal.cli.document import record_json
from szal.cli.execute import Outcome, Settings, leave
from szal.cli.executors import executor_option, opened_executor
from szal.cli.history import keeps
from szal.cli.interrupt import hear_of_children
from szal.cli.options import duration_of, needed, store_option
from szal.cli.target import Target
from szal.cli.text import clean, one_line
from szal.engine.config import Durability
from szal.errors import SzalError
from szal.model.state import WorkflowState
from szal.stores.url import without_password

__all__ = ["check_waits", "close", "console_of", "end", "get_ready", "run_options"]

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    store_option,
    executor_option,
    click.option(
        "--max-concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Steps at a time. Without it 16, or as many as the --executor has workers, where these are more.",
    ),
    click.option(
        "--timeout",
        callback=duration_of,
        metavar="TIME",
        help="Limit the run (90s, 10m); the flow's own limit is void.",
    ),
    click.option(
        "--durability",
        type=click.Choice(get_args(Durability)),
        help="What is waited for to be committed: nothing, all before the flow ends (the default), or each step.",
    ),
    click.option(
        "--lease-ttl",
        callback=duration_of,
        metavar="TIME",
        default="30s",
        show_default=True,
        help="How long after its last sign of life another machine may take the execution over. There are three signs"
        " in that time, and with each it is seen whether a cancellation was asked for.",
    ),
    click.option(
        "--share-progress",
        is_flag=True,
        help="Let szal show -f, top and logs, and the dashboard, see what steps report, from any machine: at most one"
        " write a second.",
    ),
    click.option(
        "--cwd",
        type=click.Path(exists=True, file_okay=False),
        metavar="DIR",
        help="Where commands run, from now on. Else that is where they ran first: in the folder of the flow's file, or"
        " where szal was started. It is recorded, and where it is gone, an execution does not go on.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the execution's record on stdout, all else on stderr."),
)


class _StepLogs(logging.Handler):
    """Log records, as clean lines on what is stderr at the time."""

    @property
    def stream(self) -> Stream:
        """What they are written to."""
        return stderr()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; of a connection that is replaced szal itself tells, where that matters."""
        if record.name.startswith("psycopg.pool") and record.levelno < logging.ERROR:
            return
        with contextlib.suppress(Exception):  # a log line that cannot be written ends nothing
            write(self.stream, f"{record.levelname.lower()}: {clean(self.format(record))}")


def get_ready() -> None:
    """Do what a process of the command line begins with."""
    hear_of_children()
    if not logging.root.handlers:
        logging.root.addHandler(_StepLogs())


def run_options(function: _F) -> _F:
    """Give a command the options that say how a flow is run, as one argument: ``settings``."""

    @functools.wraps(function)
    def command(
        *,
        store: str | None,
        executor: str | None,
        max_concurrency: int | None,
        timeout: float | None,
        durability: Durability | None,
        lease_ttl: float,
        share_progress: bool,
        cwd: str | None,
        as_json: bool,
        **rest: Any,
    ) -> None:
        if durability is not None or share_progress:
            needed(store)
        if not lease_ttl > 0:
            raise click.BadParameter("it must be more than 0", param_hint="--lease-ttl")
        with opened_executor(executor) as elsewhere:
            settings = Settings(
                store=store,
                recorded=as_json,
                elsewhere=elsewhere,
                max_concurrency=max_concurrency,
                timeout=timeout,
                durability=durability or "flow",
                lease_ttl=lease_ttl,
                share_progress=share_progress,
                cwd=cwd,
            )
            function(settings=settings, **rest)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]


def console_of(document: Stream, settings: Settings) -> Console:
    """Return where people read of the run: not on stdout, if that is for JSON."""
    return console_for(stderr() if settings.recorded else document)


def check_waits(target: Target, store: str | None) -> None:
    """Raise `NotKept` where a step waits for a signal, and nothing outlives this process that it could be sent to."""
    waits = [one_line(step.name) for step in target.waits()]
    if waits and (store is None or not keeps(store)):
        raise NotKept(tuple(waits), store)


@attrs.define
class NotKept(SzalError):
    """A flow that waits for a signal, and that is to be run without a store that lasts."""

    steps: tuple[str, ...]
    store: str | None

    def __str__(self) -> str:
        first, *others = self.steps
        which = f"step {first} waits" if not others else f"the steps {', '.join(self.steps)} wait"
        lost = "without a store" if self.store is None else f"with the store {without_password(self.store)}"
        do = "give --store sqlite:///szal.db, or set SZAL_STORE"
        return f"{which} for a signal, and {lost} nothing is kept of the run that could go on: {do}"


def close(document: Stream, console: Console, outcome: Outcome, settings: Settings, target: str | None) -> None:
    """Print how a run ended, and how it can go on; with ``--json``, its record."""
    console.print(_ending(outcome, console, settings))
    if settings.store is not None and keeps(settings.store):
        for line in _how_to_go_on(outcome, advice_on(settings.store, target)):
            console.print(command_line(line), soft_wrap=True)
    if settings.recorded and outcome.record is not None:
        standing = outcome.standing
        told = record_json(
            outcome.record,
            () if standing is None else standing.waits,
            is_interrupted=standing is not None and standing.is_interrupted,
            differences=outcome.differences,
        )
        write(document, told)


def _ending(outcome: Outcome, console: Console, settings: Settings) -> RenderableType:
    if outcome.result is None:
        text = "interrupted; nothing is known of how far it came"
        return Text(f"{text}\nexecution {one_line(outcome.execution_id)}" if outcome.execution_id else text)
    word = "interrupted" if outcome.is_left and outcome.result.state is not WorkflowState.PAUSED else None
    recorded = settings.store is not None
    table = closing(
        console, outcome.result, recorded=recorded, record=outcome.record, state=word, standing=outcome.standing
    )
    return Group(Text("This had ended before; nothing was run."), table) if outcome.is_old else table


def _how_to_go_on(outcome: Outcome, advice: Advice) -> Iterator[str]:
    waits, recorded = ((), None) if outcome.standing is None else (outcome.standing.waits, outcome.standing.flow)
    yield from advice.waits(waits)
    if outcome.is_left and outcome.record is not None:
        yield from advice.after_interruption(outcome.record, recorded)
    elif waits:
        is_decision = all(wait.signal is None and wait.until is None for wait in waits)
        word = "once that is decided" if is_decision else "then"
        yield f"{word}: {advice.resume(outcome.execution_id, recorded)}"
    elif outcome.status and outcome.record is not None:
        yield from advice.after_failure(outcome.record, outcome.flow)


def end(outcomes: Outcome | Sequence[Outcome], status: int | None = None) -> NoReturn:
    """End the process, also where a step's thread hangs."""
    found = [outcomes] if isinstance(outcomes, Outcome) else outcomes
    status = found[0].status if status is None else status
    if any(outcome.left_behind for outcome in found):
        leave(status)
    click.get_current_context().exit(status)
