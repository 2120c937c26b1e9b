"""The commands that take executions up again: resume, recover, rerun."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import click
from rich.console import Console

from szal.cli.console import documents, stderr, write
from szal.cli.execute import PAUSED, Job, Outcome, Settings, execute, sink_of
from szal.cli.history import check_exists, find_record
from szal.cli.inputs import inputs_given
from szal.cli.live import view_of
from szal.cli.options import inputs_option, needed
from szal.cli.session import close, console_of, end, run_options
from szal.cli.standing import standing_of
from szal.cli.target import Target, find_target
from szal.cli.text import one_line
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.errors import (
    ExecutionNotFound,
    ExecutionOwned,
    HandlerNotFound,
    InvalidInputs,
    LeaseLost,
    SzalError,
    describe,
)
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord, FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers

__all__ = ["recover", "rerun", "resume"]


@attrs.define
class CannotGoOn(SzalError):
    """An execution that is there, but cannot be continued in this way."""

    execution_id: str
    problem: str

    def __str__(self) -> str:
        return f"execution {one_line(self.execution_id)}: {self.problem}"


_id_argument = click.argument("execution_id", metavar="ID")
_target_argument = click.argument("target", metavar="[FILE|MODULE:ATTRIBUTE]", required=False)


@click.command(short_help="Go on with an execution that was interrupted, or waits.")
@_id_argument
@_target_argument
@run_options
def resume(*, execution_id: str, target: str | None, settings: Settings) -> None:
    """Go on with an execution that was interrupted, or waits. The beginning of its ID is enough.

    Steps that have ended are not run again; of an execution that has ended the result is shown. The definition is
    the stored one. FILE or MODULE:ATTRIBUTE (as for run) brings what does the steps: it may be left out where all of
    them are shell commands, "call" a function, or wait. Exit status as of run; 2 also where it is being run already.
    """

    _go_on(execution_id, target, settings, _resume)


@click.command(short_help="Run a flow again, keeping what completed.")
@_id_argument
@_target_argument
@click.option("--from", "from_step", metavar="STEP", help="Run this step, and all that comes after it, again.")
@inputs_option
@run_options
def rerun(
    *, execution_id: str, target: str | None, from_step: str | None, inputs: Mapping[str, str], settings: Settings
) -> None:
    """Run a flow again, as a new execution that keeps what completed before.

    It runs what failed or was skipped, and with --from that step and what comes after it. Inputs are laid over the
    earlier ones. FILE or MODULE:ATTRIBUTE and the exit status are as of resume.
    """

    def do(engine: Engine, name: str, token: CancellationToken) -> FlowResult:
        try:
            return engine.rerun(name, from_step, _given(engine, name, inputs), cancel=token)
        except InvalidInputs:
            raise
        except ValueError as error:
            raise CannotGoOn(name, str(error)) from error

    _go_on(execution_id, target, settings, do, is_new=True)


def _given(engine: Engine, execution_id: str, texts: Mapping[str, str]) -> dict[str, Json]:
    """Return the inputs that are typed as *texts*, for a rerun of that execution."""
    store: Any = engine.config.execution_store
    record = store.get(execution_id)
    flow = None if record is None else standing_of(store, record).flow
    if flow is None or not texts:
        return {}
    registry = engine.config.migrations.get(flow.name)
    return inputs_given(flow if registry is None else registry.migrate_latest(flow), texts, record.inputs)


def _go_on(
    execution_id: str,
    target: str | None,
    settings: Settings,
    do: Callable[[Engine, str, CancellationToken], FlowResult],
    *,
    is_new: bool = False,
) -> None:
    check_exists(needed(settings.store))
    with documents(divert=settings.recorded) as document:
        found = None if target is None else find_target(target)
        console = console_of(document, settings)
        with sink_of(settings) as store:
            assert store is not None
            record = find_record(store, execution_id)
            outcome = _Continuing(settings, console, store, do, is_new).take_up(record, found)
        close(document, console, outcome, settings, target)
    end(outcome)


@attrs.frozen
class _Continuing:
    """How executions are taken up: by *do*, as themselves or as new ones."""

    settings: Settings
    console: Console
    store: Any
    do: Callable[[Engine, str, CancellationToken], FlowResult]
    is_new: bool = False

    def take_up(self, record: ExecutionRecord, target: Target | None) -> Outcome:
        """Go on with an execution on this thread; raises `CannotGoOn`, and what the engine raises."""
        name = record.execution_id
        standing = standing_of(self.store, record)
        if standing.flow is None:
            raise CannotGoOn(name, "its definition is not recorded: szal's engine did not run it")
        job = Job(
            target=self._target_for(record, standing.flow, target),
            do=lambda engine, token: self.do(engine, name, token),
            execution_id=None if self.is_new else name,
        )
        view = view_of(standing.flow, self.console, before=() if self.is_new else standing.steps)
        try:
            return execute(job, self.settings, self.store, view)
        except HandlerNotFound as error:
            more = "" if target is not None else ": name the flow's file, or the MODULE:ATTRIBUTE that has them"
            raise CannotGoOn(name, f"{error}{more}") from error

    def _target_for(self, record: ExecutionRecord, flow: FlowDef, target: Target | None) -> Target:
        """Return what does the steps, if any is to be done: never a flow's handlers for another flow's steps."""
        if target is None:
            runs = self.is_new or record.state.is_live
            if runs and any(step.step_type == "sub_flow" for step in flow.walk()):
                problem = "it has sub-flows: name the flow's file, or the MODULE:ATTRIBUTE that has them"
                raise CannotGoOn(record.execution_id, problem)
            return Target(flow)
        names = [known.name for known in (target.flow, *target.sub_flows)]
        if record.flow_name not in names:
            problem = f"it is of the flow {one_line(record.flow_name)}, not of {one_line(names[0])}"
            raise CannotGoOn(record.execution_id, problem)
        return target


# -- many -----------------------------------------------------------------------------------------------


@click.command(short_help="Go on with every execution that can.")
@click.argument("targets", metavar="[FILE|MODULE:ATTRIBUTE]...", nargs=-1)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Go on with this many at most.")
@run_options
def recover(*, targets: tuple[str, ...], limit: int | None, settings: Settings) -> None:
    """Go on with every execution that was interrupted, or that waits no longer, one after another.

    With FILE or MODULE:ATTRIBUTE (as for run, any number), with those of these flows; without, with those of flows
    that need no handlers of their own (see resume). Others are left alone, and so is what another process takes
    first. What one of them raises is said, and the others go on. With --json, a record on each line.

    Exit status: 0 all succeeded, or there was none; 1 one of them failed or could not go on; 3 none did, but one
    waits again; 130 Ctrl-C, which pauses the execution that is under way, and ends this.
    """
    check_exists(needed(settings.store))
    outcomes: list[Outcome] = []
    left_alone = problems = 0
    with documents(divert=settings.recorded) as document:
        known = {target.flow.name: (name, target) for name in targets for target in [find_target(name)]}
        console = console_of(document, settings)
        with sink_of(settings) as store:
            assert store is not None
            continuing = _Continuing(settings, console, store, _resume)
            for execution_id in _interrupted(store):
                try:
                    record = store.get(execution_id)
                    if record is None or (known and record.flow_name not in known):
                        continue
                    name, target = known.get(record.flow_name, (None, None))
                    outcome = continuing.take_up(record, target)
                except (ExecutionOwned, ExecutionNotFound, LeaseLost):  # another process was faster
                    continue
                except SzalError as error:  # the others go on
                    left_alone += 1
                    problems += bool(targets) or not isinstance(error, CannotGoOn)
                    write(stderr(), f"szal: {error}")
                    continue
                except (Exception, SystemExit) as error:  # so they do whatever code of the flow's raises
                    if is_interruption(error):
                        raise
                    left_alone += 1
                    problems += 1
                    write(stderr(), f"szal: execution {one_line(execution_id)}: {one_line(describe(error))}")
                    continue
                close(document, console, outcome, settings, name)
                outcomes.append(outcome)
                if outcome.is_interrupted or len(outcomes) == limit:
                    break
        if not outcomes and not left_alone:
            write(stderr(), "There is nothing to go on with.")
    statuses = [outcome.status for outcome in outcomes] + [1] * (problems > 0)
    end(outcomes, _worst(statuses))


def _resume(engine: Engine, name: str, token: CancellationToken) -> FlowResult:
    return engine.resume(name, cancel=token)


def _interrupted(store: Any) -> list[str]:
    with Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
        return engine.interrupted()


def _worst(statuses: list[int]) -> int:
    interrupted = [status for status in statuses if status > PAUSED]
    for status in (*interrupted[:1], 1, PAUSED):
        if status in statuses:
            return status
    return 0
