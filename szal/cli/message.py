"""The commands that tell an execution something, without running it: signal, pause, cancel, resolve, prune."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import get_args

import click

from szal.cli import completion
from szal.cli.advice import advice_on
from szal.cli.console import stderr, stdout, write
from szal.cli.continuing import CannotGoOn
from szal.cli.fate import Already
from szal.cli.help import Command
from szal.cli.history import check_exists, find_record, reading, sink_at
from szal.cli.many import Many, Plan, act_on_many, many_options, one_or_many
from szal.cli.options import (
    duration_of,
    json_option,
    live_id_argument,
    needed,
    not_empty,
    states_of,
    store_option,
    value_argument,
)
from szal.cli.standing import signals_of
from szal.cli.text import one_line
from szal.engine.chosen import Action
from szal.engine.config import EngineConfig
from szal.engine.deciding import Resolution
from szal.engine.engine import Engine
from szal.engine.status import ExecutionStatus
from szal.engine.view import status_of
from szal.events.bus import WorkflowEvent
from szal.expressions.path import Json
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.steps.handlers import Handlers
from szal.stores import Sink

__all__ = ["cancel", "pause", "prune", "resolve", "signal"]


def _tell(answer: Mapping[str, Json], text: str, *, as_json: bool) -> None:
    """Print what was done: *answer* for a program, or *text* for a person."""
    write(stdout(), json.dumps(answer, ensure_ascii=False) if as_json else text)


@contextmanager
def _reached(store: str | None, execution_id: str) -> Iterator[tuple[Engine, ExecutionRecord, ExecutionStatus]]:
    """Yield an execution that has not ended, and an engine that reaches it."""
    url = needed(store)
    check_exists(url)
    with sink_at(url) as sink:
        record = find_record(sink, execution_id)
        if not record.state.is_live:
            raise CannotGoOn(record.execution_id, f"it has ended ({record.state})")
        with Engine(Handlers(), EngineConfig(execution_store=sink)) as engine:
            yield engine, record, status_of(sink, record)


@click.command(cls=Command, short_help="Send a signal to an execution.")
@live_id_argument
@click.argument("name", callback=not_empty, shell_complete=completion.signals)
@click.argument("value", metavar="[JSON]", required=False, callback=value_argument)
@click.option(
    "--id",
    "signal_id",
    metavar="SIGNAL_ID",
    callback=not_empty,
    help="A second signal with this id does nothing.",
)
@store_option
@json_option
def signal(
    *, execution_id: str, name: str, value: Json, signal_id: str | None, store: str | None, as_json: bool
) -> None:
    """Send the signal NAME to an execution: to the first of its steps that waits for it, now or later.

    A value that is JSON is taken as such, any other is text, and so is a number that would be printed in another way;
    without one it is null. The execution need not be running: it goes on with resume or recover.
    """
    with _reached(store, execution_id) as (engine, record, standing):
        sent = engine.signal(record.execution_id, name, value, signal_id=signal_id)
    shown = one_line(record.execution_id)
    _tell(
        {"execution_id": record.execution_id, "state": record.state.value, "signal": name, "sent": sent},
        f"sent {one_line(name)} to {shown}" if sent else f"{shown} was sent a signal with this id before",
        as_json=as_json,
    )
    known = None if standing.flow is None else signals_of(standing.flow)
    if known is not None and name not in known:
        others = f"it waits for {', '.join(map(one_line, sorted(known)))}" if known else "it waits for none"
        write(stderr(), f"szal: no step of {one_line(record.flow_name)} waits for {one_line(name)}: {others}")
    elif record.state is WorkflowState.PAUSED:
        write(stderr(), f"to go on: {advice_on(store).resume(record.execution_id, standing.flow)}")


@click.command(cls=Command, short_help="Cancel an execution, wherever it runs.")
@click.argument("execution_id", metavar="[ID]", required=False, callback=not_empty, shell_complete=completion.live_ids)
@many_options
@store_option
@json_option
def cancel(*, execution_id: str | None, many: Many, store: str | None, as_json: bool) -> None:
    """Cancel an execution, wherever it runs: its process sees it within ten seconds (a third of its --lease-ttl).

    One that waits, or was interrupted, is cancelled when it goes on: with resume or recover.

    Without an ID, many: all that have not ended and pass --flow, --state, --label, --since and --until. It says how
    many, and asks.
    """
    name, _ = one_or_many(many, execution_id, takes_target=False)
    if name is None:
        _cancel_many(many, store, as_json=as_json)
    else:
        _cancel(name, store, as_json=as_json)


def _cancel_many(many: Many, store: str | None, *, as_json: bool) -> None:
    def cancel(engine: Engine, _: Sink, execution_id: str) -> None:
        if not engine.cancel(execution_id):
            raise Already("it has ended meanwhile")

    def engine(sink: Sink, _: Callable[[WorkflowEvent], object]) -> Engine:
        return Engine(Handlers(), EngineConfig(execution_store=sink))

    plan = Plan(action=Action.CANCEL, becomes=str, engine=engine, do=cancel, store=store, target=None, as_json=as_json)
    act_on_many(plan, many)


def _cancel(execution_id: str, store: str | None, *, as_json: bool) -> None:
    with _reached(store, execution_id) as (engine, record, standing):
        if not engine.cancel(record.execution_id):
            raise CannotGoOn(record.execution_id, "it has ended meanwhile")
    runs = record.state is not WorkflowState.PAUSED and not standing.is_interrupted
    _tell(
        {"execution_id": record.execution_id, "state": record.state.value, "asked": True, "runs": runs},
        f"asked {one_line(record.execution_id)} to cancel",
        as_json=as_json,
    )
    if not runs:
        write(stderr(), f"nobody runs it; to end it: {advice_on(store).resume(record.execution_id, standing.flow)}")


@click.command(cls=Command, short_help="Pause an execution, wherever it runs.")
@live_id_argument
@store_option
@json_option
def pause(*, execution_id: str, store: str | None, as_json: bool) -> None:
    """Pause an execution, wherever it runs: its process sees it within ten seconds (a third of its --lease-ttl).

    Nothing new starts in it then, and what runs comes to its end. It stays paused until resume: recover leaves it
    alone, whatever it waits for.
    """
    with _reached(store, execution_id) as (engine, record, standing):
        if not engine.pause(record.execution_id):
            why = "it has ended meanwhile, or is being undone"
            if standing.in_queue is not None:
                why = f"it is {one_line(str(standing.in_queue))}, and has not begun: it can be cancelled"
            raise CannotGoOn(record.execution_id, why)
        state = engine.look(record.execution_id).state
    is_paused = state is WorkflowState.PAUSED
    name = one_line(record.execution_id)
    _tell(
        {"execution_id": record.execution_id, "state": state.value, "asked": True, "runs": not is_paused},
        f"paused {name}" if is_paused else f"asked {name} to pause",
        as_json=as_json,
    )
    write(stderr(), f"to go on: {advice_on(store).resume(record.execution_id, standing.flow)}")


@click.command(cls=Command, short_help="Decide on a step of which nobody knows whether it was done.")
@live_id_argument
@click.argument("step", callback=not_empty, shell_complete=completion.recorded_steps)
@click.argument("decision", type=click.Choice(get_args(Resolution)))
@click.argument("output", metavar="[JSON]", required=False, callback=value_argument)
@store_option
@json_option
def resolve(
    *, execution_id: str, step: str, decision: Resolution, output: Json, store: str | None, as_json: bool
) -> None:
    """Decide on a STEP that may or may not have been done: its process died, or it does not know.

    It counts as completed (with this output) or failed, or is run again. Then resume or recover goes on.
    """
    if output is not None and decision != "completed":
        raise click.UsageError("only a completed step has an output")
    with _reached(store, execution_id) as (engine, record, standing):
        try:
            engine.resolve(record.execution_id, step, decision, output)
        except ValueError as error:
            hint = "" if record.state is not WorkflowState.PAUSED or not record.error else f"; {one_line(record.error)}"
            problem = f"nothing is to be decided on step {one_line(step)}{hint}"
            raise CannotGoOn(record.execution_id, problem) from error
    _tell(
        {"execution_id": record.execution_id, "step": step, "decision": decision},
        f"step {one_line(step)} of {one_line(record.execution_id)}: {decision}",
        as_json=as_json,
    )
    write(stderr(), f"to go on: {advice_on(store).resume(record.execution_id, standing.flow)}")


@click.command(cls=Command, short_help="Delete executions that have ended.")
@store_option
@click.option(
    "--older-than", callback=duration_of, metavar="TIME", help="Only those that ended before that (30d, 12h)."
)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Leave the newest N of each flow.")
@click.option(
    "--state",
    "states",
    metavar="STATE",
    multiple=True,
    callback=states_of,
    shell_complete=completion.states,
    help="Only this state: completed, failed, … Without it, whatever has ended.",
)
@json_option
def prune(
    *,
    store: str | None,
    older_than: float | None,
    keep: int | None,
    states: tuple[WorkflowState, ...],
    as_json: bool,
) -> None:
    """Delete executions that have ended, with all that is kept of them. Safe while others run.

    At least one of --older-than and --keep is needed.
    """
    with reading(needed(store)) as opened:
        try:
            count = opened.prune(older_than=older_than, keep=keep, states=states or None)
        except ValueError as error:
            raise click.UsageError(
                str(error).replace("older_than", "--older-than").replace(" keep", " --keep")
            ) from error
    _tell({"deleted": count}, f"{count} execution{'s' * (count != 1)} deleted", as_json=as_json)
