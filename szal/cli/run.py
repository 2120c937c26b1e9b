"""The command ``szal run``: a flow, or a part of one, or what that would do."""

import contextlib
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs
import click
from rich.console import Console

from szal.cli.advice import advice_on
from szal.cli.announcement import Announcement, announce
from szal.cli.console import console_for, diverted_stdout, documents, stderr
from szal.cli.differences import Differs, tell_differences
from szal.cli.dry_run import preview_of, show_preview, spec_for
from szal.cli.execute import Job, Settings, execute, sink_of
from szal.cli.history import reading
from szal.cli.inputs import inputs_given, inputs_shown
from szal.cli.live import view_of
from szal.cli.options import id_option, inputs_option, labels_option, needed, target_argument
from szal.cli.parts import Chosen, Selection, part_options
from szal.cli.session import check_waits, close, console_of, end, run_options
from szal.cli.standing import age_of
from szal.cli.target import STDIN, Target, find_target
from szal.cli.text import one_line
from szal.cli.usage import FlowCommand
from szal.engine.engine import Engine
from szal.engine.view import status_of
from szal.errors import DefinitionMismatch
from szal.expressions.path import Json
from szal.model.results import FlowResult
from szal.model.step import new_id
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan
from szal.stores import ExecutionStore

__all__ = ["run", "run_target"]


@click.command(cls=FlowCommand)
@target_argument
@inputs_option
@labels_option
@id_option
@click.option("--retry-failed", is_flag=True, help="Run what has failed under that --id again; what completed stands.")
@part_options
@run_options
def run(
    *,
    target: str,
    inputs: Mapping[str, str],
    labels: Mapping[str, str],
    execution_id: str | None,
    retry_failed: bool,
    from_step: str | None,
    only: str | None,
    reuse: str | None,
    dry_run: bool,
    settings: Settings,
) -> None:
    """Run a flow, or a part of it.

    It is named by its FILE (YAML or JSON; - is standard input), or by the MODULE and the ATTRIBUTE that holds it: a
    Flow, a FlowDef, a tuple of one with its Handlers, its sub-flows and its MigrationRegistry, or a function that
    returns one of these. Commands run in the folder of the FILE. With --help, the inputs that it takes are listed, too.

    Ctrl-C pauses the run: what has ended is kept, what runs is told to end, nothing is undone, and it says how to go
    on. SIGTERM leaves it to whoever recovers. Without a store it is cancelled, and rolled back where it says so. Once
    more ends the waiting for steps that do not end, a third time all of it.

    Exit status: 0 success, 1 the flow failed (or "szal cancel" ended it), 2 it could not be run, 3 it waits for a
    signal, a time or a decision, 130 Ctrl-C, 143 SIGTERM.
    """
    if execution_id is not None:
        needed(settings.store)
    selection = Selection(from_step=from_step, only=only, reuse=reuse)
    selection.check(settings.store)
    if retry_failed and (execution_id is None or from_step or only or reuse):
        raise click.UsageError("--retry-failed needs the --id of what has failed, and runs a whole flow")
    if dry_run:
        if execution_id is not None:
            raise click.UsageError("--dry-run says what a new execution would do: leave --id out")
        _preview(target, inputs, selection, settings)
        return
    run_target(target, inputs, settings, selection, execution_id=execution_id, labels=labels, retry_failed=retry_failed)


def run_target(
    target: str,
    inputs: Mapping[str, str],
    settings: Settings,
    selection: Selection,
    *,
    execution_id: str | None,
    labels: Mapping[str, str],
    known: Target | None = None,
    retry_failed: bool = False,
) -> NoReturn:
    """Run what is named *target*, and is *known* where it need not be looked for, and end the process.

    *inputs* are as they were typed.
    """
    with documents(divert=settings.recorded) as document:
        found = find_target(target) if known is None else known
        found.check()
        check_waits(found, settings.store)
        name = new_id() if execution_id is None else execution_id
        console = console_of(document, settings)
        with sink_of(settings) as store:
            chosen, differences = _chosen(target, found, selection, store, console)
            given = inputs_given(chosen.flow, inputs, chosen.earlier)

            def do(engine: Engine, token: CancellationToken) -> FlowResult:
                return chosen.run(engine, name, given, labels, token, retry_failed=retry_failed)

            record = None if store is None else store.get(name)
            standing = None if record is None or store is None else status_of(store, record)
            if record is None:
                about = _announcement(chosen, given, execution_id=name, labels=labels, directory=settings.cwd)
                announce(about, console, settings)
            elif standing is not None and record.state.is_live:
                announce(Announcement.of_status(standing, settings.cwd), console, settings)
            view = view_of(chosen.flow, console, standing=standing, age=age_of(record))
            try:
                outcome = execute(Job(target=found, do=do, execution_id=name), settings, store, view)
            except DefinitionMismatch as error:
                if standing is None or standing.flow is None or standing.flow.name != chosen.flow.name:
                    raise
                raise Differs(name, target, error.differences, advice_on(settings.store, target)) from error
        # A part of a file's flow goes on as it is recorded, and so does what was read from standard input.
        named = None if target == STDIN or (chosen.part is not None and found.is_read) else target
        close(document, console, attrs.evolve(outcome, differences=differences), settings, named)
    end(outcome)


def _announcement(chosen: Chosen, given: Mapping[str, Json], **facts: Any) -> Announcement:
    """Return what is told of a new execution."""
    note, part = None, chosen.part
    if part is not None:
        step = one_line(part.step)
        note = f"only step {step}" if len(part.runs) == 1 else f"from step {step} on"
    if chosen.reuse is not None:
        note = f"{note}, with what execution {one_line(chosen.reuse)} has completed"
    inputs = {**(chosen.earlier or {}), **given}
    return Announcement(
        flow=chosen.flow,
        inputs=inputs_shown(chosen.flow, {**Plan.of(chosen.flow).inputs.defaults, **inputs}),
        given=inputs,
        note=note,
        **facts,
    )


def _chosen(
    target: str, found: Target, selection: Selection, store: ExecutionStore | None, console: Console
) -> tuple[Chosen, tuple[str, ...]]:
    """Return what is to be run, and how it differs from what it takes things from, which is told."""
    chosen = selection.of(found.flow, store)
    differences = chosen.differences(found.flow, store, found.config())
    tell_differences(console, target, chosen.reuse, differences, "what is taken from there is as it was")
    return chosen, differences


def _preview(target: str, inputs: Mapping[str, str], selection: Selection, settings: Settings) -> None:
    """Say what a run would do."""
    with diverted_stdout() as document, contextlib.ExitStack() as stack:
        found = find_target(target)
        found.check()
        reads = selection.reuse is not None and settings.store is not None
        store = stack.enter_context(reading(settings.store)) if reads and settings.store is not None else None
        chosen, _ = _chosen(target, found, selection, store, console_for(stderr()))
        given = inputs_given(chosen.flow, inputs, chosen.earlier)
        config = found.config(execution_store=store, cwd=settings.cwd)
        spec = spec_for(found, chosen, given, store, config)
        show_preview(preview_of(spec, chosen.reuse), document, as_json=settings.recorded)
