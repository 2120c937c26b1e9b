"""The commands that take executions up again: resume, recover, rerun."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import click

from szal.cli import completion
from szal.cli.console import Stream, console_for, documents, stderr, write
from szal.cli.continuing import CannotGoOn, Continuing, GoOn, Wanted
from szal.cli.execute import Outcome, Settings, sink_of
from szal.cli.failure import error_json
from szal.cli.fate import Already
from szal.cli.help import Command
from szal.cli.history import check_exists, find_record
from szal.cli.many import Many, Plan, act_on_many, many_options, one_or_many, target_of_many
from szal.cli.options import inputs_option, needed, not_empty, pairs_of, values_of
from szal.cli.session import close, console_of, end, run_options
from szal.cli.standing import PAUSED
from szal.cli.target import Target, find_target
from szal.cli.text import clean, one_line
from szal.engine.chosen import Action, id_of_rerun
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.errors import (
    ExecutionNotFound,
    ExecutionOwned,
    InvalidInputs,
    LeaseLost,
    SzalError,
    describe,
)
from szal.events.bus import WorkflowEvent
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers
from szal.stores import Sink

__all__ = ["recover", "rerun", "resume"]


_id_argument = click.argument(
    "execution_id", metavar="[ID]", required=False, callback=not_empty, shell_complete=completion.ids
)
_target_argument = click.argument(
    "target", metavar="[FILE|MODULE:ATTRIBUTE]", required=False, shell_complete=completion.targets
)


@click.command(cls=Command, short_help="Go on with an execution that was interrupted, or waits.")
@_id_argument
@_target_argument
@click.option(
    "-i",
    "--input",
    "inputs",
    metavar="KEY=VALUE",
    multiple=True,
    callback=pairs_of,
    help="A secret input, which was not recorded. Without it, the environment variable SZAL_SECRET_KEY is taken.",
)
@many_options
@run_options
def resume(
    *, execution_id: str | None, target: str | None, inputs: Mapping[str, str], many: Many, settings: Settings
) -> None:
    """Go on with an execution that was interrupted, or waits.

    Steps that have ended are not run again; of an execution that has ended the result is shown. The definition is the
    stored one: where FILE says something else, it is refused, with the differences (rerun runs what a corrected file
    says). FILE or MODULE:ATTRIBUTE (as for run, or a Handlers alone) brings what does the steps: it may be left out
    where all of them are shell commands, "call" a function, or wait. Commands run where they ran first, unless --cwd
    says where that is now. Exit status as of run; 2 also where it is being run already.

    Without an ID, many: all that pass --flow, --state, --label, --since and --until, and that nobody runs although they
    could go on; with --state paused, also what waits. It says how many, asks, and tells what became of each. What
    another process takes first is left to it. Exit status: 0; 1 where one failed or could not go on; 3 where one waits.
    """
    name, target = one_or_many(many, execution_id, target)
    if name is None:
        if inputs:
            raise click.UsageError("-i is for one execution: for many, set SZAL_SECRET_KEY in the environment")
        _go_on_with_many(Action.RESUME, many, target, settings, _resume)
    else:
        _go_on(name, target, settings, _resume, secrets=inputs)


@click.command(cls=Command, short_help="Run a flow again, keeping what completed.")
@_id_argument
@_target_argument
@click.option(
    "--from",
    "from_step",
    metavar="STEP",
    callback=not_empty,
    shell_complete=completion.recorded_steps,
    help="Run this step, and all that comes after it, again.",
)
@inputs_option
@click.option(
    "--output",
    "outputs",
    metavar="STEP=VALUE",
    multiple=True,
    callback=values_of,
    help="Do not run this step: it has completed with this output, which is read as an input is. What follows it runs.",
)
@click.option(
    "--new-id", metavar="ID", callback=not_empty, help="The id of the new execution. Given again, nothing runs twice."
)
@many_options
@run_options
def rerun(
    *,
    execution_id: str | None,
    target: str | None,
    from_step: str | None,
    inputs: Mapping[str, str],
    outputs: Mapping[str, Json],
    new_id: str | None,
    many: Many,
    settings: Settings,
) -> None:
    """Run a flow again, as a new execution that keeps what completed before.

    It runs what failed or was skipped, and with --from that step and what comes after it. With FILE or
    MODULE:ATTRIBUTE it is run as that says now: a step that is new or changed runs, with all that comes after it, and
    how it differs from the earlier execution is told. Inputs are laid over the earlier ones. What may be left out, and
    the exit status, are as of resume.

    Without an ID, many: as with resume, but what has failed, or was rolled back, unless --state says otherwise. Each
    becomes ID-rerun-1, and what was run again already is left out, so the same command can be given once more.
    """

    def do(engine: Engine, name: str, token: CancellationToken, wanted: Wanted) -> FlowResult:
        becomes = id_of_rerun(name) if many else new_id
        flow = wanted.flow
        try:
            return engine.rerun(
                name, from_step, wanted.inputs, flow=flow, outputs=outputs, new_id=becomes, cancel=token
            )
        except InvalidInputs:
            raise
        except ValueError as error:
            raise CannotGoOn(name, str(error)) from error

    name, target = one_or_many(many, execution_id, target)
    if name is None and new_id is not None:
        raise click.UsageError("--new-id is for one execution: of many, each has an id made of its own")
    if name is None:
        _go_on_with_many(Action.RERUN, many, target, settings, do, again=inputs)
    else:
        _go_on(name, target, settings, do, again=inputs)


def _go_on(
    execution_id: str,
    target: str | None,
    settings: Settings,
    do: GoOn,
    *,
    again: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> None:
    check_exists(needed(settings.store))
    with documents(divert=settings.recorded) as document:
        found = None if target is None else find_target(target, is_recorded=True)
        console = console_of(document, settings)
        with sink_of(settings) as store:
            assert store is not None
            record = find_record(store, execution_id)
            continuing = Continuing(settings, console, store, do, again, secrets or {})
            outcome = continuing.take_up(record, found, target)
        close(document, console, outcome, settings, target)
    end(outcome)


# -- many -----------------------------------------------------------------------------------------------


def _go_on_with_many(
    action: Action,
    many: Many,
    named: str | None,
    settings: Settings,
    do: GoOn,
    *,
    again: Mapping[str, str] | None = None,
) -> None:
    """Do that with all that *many* chooses: those of the target's flow, unless it says another."""
    is_new = again is not None
    with documents(divert=settings.recorded):
        target = target_of_many(named)

    def engine(sink: Sink, on_event: Callable[[WorkflowEvent], object]) -> Engine:
        does = Target.of_any() if target is None else target
        return Engine(does.handler, settings.config(does, execution_store=sink, event_sink=on_event))

    def go_on(engine: Engine, sink: Sink, execution_id: str) -> FlowResult:
        record = sink.get(execution_id)
        if record is None:
            raise ExecutionNotFound(execution_id)
        if not is_new and not record.state.is_live:
            raise Already(f"it has ended ({record.state})")
        rerun = sink.get(id_of_rerun(execution_id)) if is_new else None
        if rerun is not None:
            raise Already(f"it was run again as {rerun.execution_id} ({rerun.state})")
        continuing = Continuing(settings, console_for(stderr()), sink, do, again)
        found = continuing.prepare(record, target, named)
        return do(engine, execution_id, CancellationToken(), found.wanted)

    if target is not None and not target.is_any and many.which.flow is None:
        many = attrs.evolve(many, which=attrs.evolve(many.which, flow=target.flow.name))
    plan = Plan(
        action=action,
        becomes=id_of_rerun if is_new else str,
        engine=engine,
        do=go_on,
        store=settings.store,
        target=named,
        as_json=settings.recorded,
    )
    act_on_many(plan, many)


@click.command(cls=Command, short_help="Go on with every execution that can.")
@click.argument("targets", metavar="[FILE|MODULE:ATTRIBUTE]...", nargs=-1, shell_complete=completion.targets)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Go on with this many at most.")
@run_options
def recover(*, targets: tuple[str, ...], limit: int | None, settings: Settings) -> None:
    """Go on with every execution that was interrupted, or that waits no longer, one after another.

    With FILE or MODULE:ATTRIBUTE (as for run, any number), with those of these flows, and of a Handlers with all;
    without, with those of flows that need no handlers of their own (see resume). Others are left alone, and so is what
    another process takes first. What one of them raises is said, and the others go on: so is one whose directory is
    gone, or which differs from FILE. With --json, a record on each line, or an object with its id and the error.

    Exit status: 0 all succeeded, or there was none; 1 one of them failed or could not go on; 3 none did, but one
    waits again; 130 Ctrl-C, which pauses the execution that is under way, and ends this.
    """
    check_exists(needed(settings.store))
    outcomes: list[Outcome] = []
    left_alone = problems = 0
    with documents(divert=settings.recorded) as document:
        known, of_any = _known(targets)
        console = console_of(document, settings)
        with sink_of(settings) as store:
            assert store is not None
            continuing = Continuing(settings, console, store, _resume)
            for execution_id in _interrupted(store):
                try:
                    record = store.get(execution_id)
                    name, target = (None, None) if record is None else known.get(record.flow_name, of_any)
                    if record is None or (targets and target is None):
                        continue
                    outcome = continuing.take_up(record, target, name)
                except (ExecutionOwned, ExecutionNotFound, LeaseLost):  # another process was faster
                    continue
                except SzalError as error:  # the others go on
                    left_alone += 1
                    problems += bool(targets) or not isinstance(error, CannotGoOn)
                    _tell(document, settings, execution_id, error, str(error))
                    continue
                except (Exception, SystemExit) as error:  # so they do whatever code of the flow's raises
                    if is_interruption(error):
                        raise
                    left_alone += 1
                    problems += 1
                    said = f"execution {one_line(execution_id)}: {one_line(describe(error))}"
                    _tell(document, settings, execution_id, error, said)
                    continue
                close(document, console, outcome, settings, name)
                outcomes.append(outcome)
                if outcome.is_interrupted or len(outcomes) == limit:
                    break
        if not outcomes and not left_alone:
            write(stderr(), "There is nothing to go on with.")
    statuses = [outcome.status for outcome in outcomes] + [1] * (problems > 0)
    end(outcomes, _worst(statuses))


_Named: TypeAlias = tuple[str | None, Target | None]


def _known(names: Sequence[str]) -> tuple[Mapping[str, _Named], _Named]:
    """Return the targets of these names by flow, and the one that does the steps of any other, if there is one."""
    targets = [(name, find_target(name, is_recorded=True)) for name in names]
    known: dict[str, _Named] = {target.flow.name: (name, target) for name, target in targets if not target.is_any}
    of_any: _Named = next(((name, target) for name, target in targets if target.is_any), (None, None))
    return known, of_any


def _tell(document: Stream, settings: Settings, execution_id: str, error: BaseException, message: str) -> None:
    """Say why an execution does not go on."""
    write(stderr(), f"szal: {clean(message)}")
    if settings.recorded:
        write(document, error_json(error, message, {"execution_id": execution_id}))


def _resume(engine: Engine, name: str, token: CancellationToken, wanted: Wanted) -> FlowResult:
    return engine.resume(name, inputs=wanted.inputs, cancel=token)


def _interrupted(store: Any) -> list[str]:
    with Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
        return engine.interrupted()


def _worst(statuses: list[int]) -> int:
    interrupted = [status for status in statuses if status > PAUSED]
    for status in (*interrupted[:1], 1, PAUSED):
        if status in statuses:
            return status
    return 0
