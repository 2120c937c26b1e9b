"""The commands of ``szal``."""

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import attrs
import click

from szal.cli.advice import advice_on
from szal.cli.console import console_for, diverted_stdout, documents, stderr, stdout, write
from szal.cli.differences import Differs, tell_differences
from szal.cli.document import record_json, summaries_json
from szal.cli.dry_run import preview_of, show_preview, spec_for
from szal.cli.durable import recover, rerun, resume
from szal.cli.execute import Job, RecordLost, Settings, execute, sink_of
from szal.cli.graph import to_dot, to_mermaid
from szal.cli.history import find_record, reading
from szal.cli.inputs import how_to_give, inputs_given
from szal.cli.interrupt import hear_of_children
from szal.cli.live import view_of
from szal.cli.message import cancel, prune, resolve, signal
from szal.cli.options import inputs_option, json_option, needed, pairs_of, states_of, store_option
from szal.cli.parts import Selection, part_options
from szal.cli.session import check_waits, close, console_of, end, run_options, standing_under
from szal.cli.show import executions, full_record
from szal.cli.standing import interrupted_among, standing_of
from szal.cli.target import STDIN, Target, find_target
from szal.cli.text import clean, one_line
from szal.cli.usage import FlowCommand
from szal.engine.engine import Engine
from szal.errors import DefinitionMismatch, InvalidFlow, InvalidInputs, LoadError, SzalError
from szal.files.schema import flow_schema
from szal.model.results import FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.scheduler.cancel import CancellationToken

__all__ = ["szal"]


class _Failure(click.ClickException):
    """An error that a person made, or can do something about: one message, and an exit status."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002 (click's signature)
        """Print the message to stderr."""
        stream = stderr()
        stream.write(f"{clean(self.message)}\n")
        stream.flush()


class _RunFailed(_Failure):
    exit_code = 1


class _Commands(click.Group):
    """Commands whose errors are told in one message, never as a traceback; in help they stand in order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return their names."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except RecordLost as error:
            raise _RunFailed(f"szal: {error}") from error
        except InvalidInputs as error:
            raise _Failure(f"szal: {error}{how_to_give(error)}") from error
        except LoadError as error:  # begins with the place in the file, as editors like to find it
            raise _Failure(str(error)) from error
        except (SzalError, OSError) as error:
            raise _Failure(f"szal: {error}") from error


class _StepLogs(logging.Handler):
    """Log records, as clean lines on what is stderr at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        with contextlib.suppress(Exception):  # a log line that cannot be written ends nothing
            stream = stderr()
            stream.write(f"{record.levelname.lower()}: {clean(self.format(record))}\n")
            stream.flush()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="szal", message="szal %(version)s")
def szal() -> None:
    """Run workflows, and look at what they did."""
    hear_of_children()
    if not logging.root.handlers:
        logging.root.addHandler(_StepLogs())


# -- flows ----------------------------------------------------------------------------------------------

_target_argument = click.argument("target", metavar="FILE|MODULE:ATTRIBUTE")


@szal.command(cls=FlowCommand)
@_target_argument
@inputs_option
@click.option(
    "-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs_of, help="To find the execution by."
)
@click.option(
    "--id",
    "execution_id",
    metavar="ID",
    help="The execution's id. One that was interrupted or waits goes on; one that has ended is only shown.",
)
@part_options
@run_options
def run(
    *,
    target: str,
    inputs: Mapping[str, str],
    labels: Mapping[str, str],
    execution_id: str | None,
    from_step: str | None,
    only: str | None,
    reuse: str | None,
    dry_run: bool,
    settings: Settings,
) -> None:
    """Run a flow, or a part of it.

    It is named by its FILE (YAML or JSON; - is standard input), or by the MODULE and the ATTRIBUTE that holds it: a
    FlowDef, a tuple of a FlowDef with its Handlers, its sub-flows and its MigrationRegistry, or a function that returns
    one of these. Commands run in the folder of the FILE. With --help, the inputs that it takes are listed, too.

    Ctrl-C pauses the run: what has ended is kept, what runs is told to end, nothing is undone, and it says how to go
    on. SIGTERM leaves it to whoever recovers. Without a store it is cancelled, and rolled back where it says so. Once
    more ends the waiting for steps that do not end, a third time all of it.

    Exit status: 0 success, 1 the flow failed (or "szal cancel" ended it), 2 it could not be run, 3 it waits for a
    signal, a time or a decision, 130 Ctrl-C, 143 SIGTERM.
    """
    if execution_id is not None:
        needed(settings.store)
        if not execution_id:
            raise click.BadParameter("it is empty", param_hint="--id")
    selection = Selection(from_step=from_step, only=only, reuse=reuse)
    selection.check(settings.store)
    if dry_run:
        if execution_id is not None:
            raise click.UsageError("--dry-run says what a new execution would do: leave --id out")
        _preview(target, inputs, selection, settings)
        return
    with documents(divert=settings.recorded) as document:
        found = find_target(target)
        found.check()
        check_waits(found, settings.store)
        name = new_id() if execution_id is None else execution_id
        console = console_of(document, settings)
        with sink_of(settings) as store:
            chosen = selection.of(found.flow, store)
            given = inputs_given(chosen.flow, inputs, chosen.earlier)

            def do(engine: Engine, token: CancellationToken) -> FlowResult:
                return chosen.run(engine, name, given, labels, token)

            differences = chosen.differences(found.flow, store, found.config())
            tell_differences(console, target, chosen.reuse, differences, _TAKEN)
            standing = standing_under(store, name)
            view = view_of(chosen.flow, console, before=standing.steps)
            try:
                outcome = execute(Job(target=found, do=do, execution_id=name), settings, store, view)
            except DefinitionMismatch as error:
                if standing.flow is None or standing.flow.name != chosen.flow.name:
                    raise
                raise Differs(name, target, error.differences, advice_on(settings.store, target)) from error
        # A part of a file's flow goes on as it is recorded, and so does what was read from standard input.
        named = None if target == STDIN or (chosen.part is not None and found.is_read) else target
        close(document, console, attrs.evolve(outcome, differences=differences), settings, named)
    end(outcome)


_TAKEN = "what is taken from there is as it was"


def _preview(target: str, inputs: Mapping[str, str], selection: Selection, settings: Settings) -> None:
    """Say what a run would do."""
    with documents(divert=True) as document, contextlib.ExitStack() as stack:
        found = find_target(target)
        found.check()
        reads = selection.reuse is not None and settings.store is not None
        store = stack.enter_context(reading(settings.store)) if reads and settings.store is not None else None
        chosen = selection.of(found.flow, store)
        given = inputs_given(chosen.flow, inputs, chosen.earlier)
        differences = chosen.differences(found.flow, store, found.config())
        tell_differences(console_for(stderr()), target, chosen.reuse, differences, _TAKEN)
        config = found.config(execution_store=store, cwd=settings.cwd)
        spec = spec_for(found, chosen, given, store, config)
        show_preview(preview_of(spec, chosen.reuse), document, as_json=settings.recorded)


@szal.command(short_help="Say whether a flow can be run.")
@_target_argument
@store_option
@json_option
def validate(target: str, *, store: str | None, as_json: bool) -> None:
    """Say whether a flow can be run, or everything that is wrong with it.

    That is also what this machine does not have: directories, shells, and functions of "call" steps, whose modules it
    imports. With --store, whether it can be run with that: a step that waits for a signal needs one that lasts.
    """
    out = stdout()
    try:
        found = _checked(target)
        if store is not None:
            check_waits(found, store)
    except SzalError as error:
        if as_json:
            write(out, json.dumps({"valid": False, "problems": _problems(error)}))
        raise
    flows = [(flow, sum(1 for _ in flow.walk())) for flow in found.flows]
    waits = [one_line(step.name) for step in found.waits()]
    if as_json:
        told = [{"name": flow.name, "mode": flow.mode.value, "steps": steps} for flow, steps in flows]
        write(out, json.dumps({"valid": True, "flows": told, "needs_store": bool(waits)}))
        return
    for flow, steps in flows:
        write(out, f"{one_line(flow.name)}: valid ({flow.mode}, {steps} step{'s' * (steps != 1)})")
    if waits and store is None:
        write(stderr(), f"szal run needs --store here: a signal is waited for ({', '.join(waits)})")


def _problems(error: SzalError) -> list[str]:
    if isinstance(error, LoadError):
        return [f"{error.file}{problem}" for problem in error.problems]
    return list(error.problems) if isinstance(error, InvalidFlow) else [str(error)]


@szal.command(short_help="Draw a flow, for Mermaid or Graphviz.")
@_target_argument
@click.option(
    "--format",
    "language",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
    help="What to write: Mermaid, or DOT for Graphviz.",
)
def graph(target: str, language: str) -> None:
    """Draw a flow, as text for Mermaid or Graphviz."""
    with diverted_stdout():
        flow = find_target(target).flow
    write(stdout(), to_dot(flow) if language == "dot" else to_mermaid(flow))


@szal.command(short_help="Print a JSON Schema of flow files, for editors.")
def schema() -> None:
    """Print a JSON Schema (draft 2020-12) of flow files, with which an editor completes and checks them.

    Save it beside the flows, and begin them with "# yaml-language-server: $schema=szal.schema.json".
    """
    write(stdout(), json.dumps(flow_schema(), indent=2, ensure_ascii=False))


def _checked(target: str) -> Target:
    with diverted_stdout():
        found = find_target(target, here=True)
        found.check(here=True)
    return found


# -- executions -----------------------------------------------------------------------------------------


@szal.command("list")
@store_option
@click.option("--flow", metavar="NAME", help="Only executions of this flow.")
@click.option(
    "--state",
    "states",
    metavar="STATE",
    multiple=True,
    callback=states_of,
    help="Only this state: completed, failed, paused, …",
)
@click.option("-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs_of, help="With this label.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many, the newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_(
    *,
    store: str | None,
    flow: str | None,
    states: tuple[WorkflowState, ...],
    labels: Mapping[str, str],
    limit: int,
    as_json: bool,
) -> None:
    """List executions, the newest first."""
    with reading(needed(store)) as opened:
        found = opened.find(flow_name=flow, states=states or None, labels=labels, limit=limit)
        interrupted = interrupted_among(opened, found)
    out = stdout()
    if as_json:
        write(out, summaries_json(found, interrupted))
    elif found:
        console = console_for(out)
        console.print(executions(console, found, whole_ids=not out.isatty(), interrupted=interrupted))
        if interrupted:
            command = advice_on(store, "MODULE:ATTRIBUTE").resume("ID")
            write(stderr(), f"to go on with what was interrupted: {command}")
    else:
        write(stderr(), "There is no such execution." if flow or states or labels else "There is no execution yet.")


@szal.command(short_help="Show an execution: its steps, and what it waits for.")
@click.argument("execution_id", metavar="ID")
@store_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the record as JSON; with what it waits for, and whether it was interrupted.",
)
def show(*, execution_id: str, store: str | None, as_json: bool) -> None:
    """Show an execution: its steps, when each ran, errors in full, and why it does not go on.

    The beginning of its ID is enough.
    """
    with reading(needed(store)) as opened:
        record = find_record(opened, execution_id)
        standing = standing_of(opened, record)
    out = stdout()
    if as_json:
        write(out, record_json(record, standing.waits, is_interrupted=standing.is_interrupted))
    else:
        console = console_for(out)
        console.print(full_record(console, record, standing, advice_on(store)), crop=False)


# -- what goes on -----------------------------------------------------------------------------------------

for command in (resume, recover, rerun, signal, cancel, resolve, prune):
    szal.add_command(command)
