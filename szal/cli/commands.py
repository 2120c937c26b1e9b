"""The commands of ``szal``."""

import json
from importlib.metadata import version

import click

from szal.cli import completion
from szal.cli.advice import advice_on
from szal.cli.capacity import capacity
from szal.cli.check import check
from szal.cli.console import console_for, diverted_stdout, printed, stderr, stdout, write
from szal.cli.doctor import doctor
from szal.cli.document import record_json, summaries_json
from szal.cli.durable import recover, rerun, resume
from szal.cli.failure import Commands, fails_with
from szal.cli.follow import follow
from szal.cli.help import print_and_end
from szal.cli.history import NoneFound, NoSuchStep, find_by_prefix, reading
from szal.cli.listing import executions
from szal.cli.logs import logs
from szal.cli.message import cancel, pause, prune, resolve, signal
from szal.cli.options import duration_of, json_option, needed, not_empty, store_option, target_argument
from szal.cli.outputs import whole
from szal.cli.picture import graph, write_page
from szal.cli.run import run
from szal.cli.schedules import next_, schedules
from szal.cli.session import check_waits, get_ready
from szal.cli.show import full_record, kept_of_undone
from szal.cli.target import Target, find_target
from szal.cli.text import clean, one_line
from szal.cli.top import top
from szal.cli.ui import ui
from szal.cli.which import said_of, which_options
from szal.cli.worker import worker
from szal.engine.status import ExecutionStatus
from szal.engine.view import status_of
from szal.engine.which import Which
from szal.files.schema import flow_schema

__all__ = ["szal"]


_COMPLETION = """
\b
A shell completes flows, ids and steps too (ids are those of SZAL_STORE):
  bash: eval "$(_SZAL_COMPLETE=bash_source szal)"       in ~/.bashrc
  zsh:  eval "$(_SZAL_COMPLETE=zsh_source szal)"        in ~/.zshrc
  fish: _SZAL_COMPLETE=fish_source szal | source        in config.fish
"""


def _version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        print_and_end(context, f"szal {version('szal')}")


@click.group(cls=Commands, epilog=_COMPLETION, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit."
)
def szal() -> None:
    """Run workflows, and look at what they did."""
    get_ready()


# -- flows ----------------------------------------------------------------------------------------------

szal.add_command(run)


@szal.command(short_help="Say whether a flow can be run.")
@target_argument
@store_option
@json_option
def validate(target: str, *, store: str | None, as_json: bool) -> None:
    """Say whether a flow can be run, or everything that is wrong with it.

    That is also what this machine does not have: directories, shells, and functions of "call" steps, whose modules it
    imports. With --store, whether it can be run with that: a step that waits for a signal needs one that lasts.
    """
    out = stdout()
    fails_with({"valid": False})
    found = _checked(target)
    if store is not None:
        check_waits(found, store)
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


szal.add_command(graph)


@szal.command(short_help="Print a JSON Schema of flow files, for editors.")
def schema() -> None:
    """Print a JSON Schema (draft 2020-12) of flow files, with which an editor completes and checks them.

    Save it beside the flows, and begin them with "# yaml-language-server: $schema=szal.schema.json".
    """
    _print(json.dumps(flow_schema(), indent=2, ensure_ascii=False))


def _print(text: str) -> None:
    """Print all that a command is for."""
    out = stdout()
    write(out, text)
    printed(out)


def _checked(target: str) -> Target:
    with diverted_stdout():
        found = find_target(target, here=True)
        found.check(here=not found.is_read)  # where it was read, that was told with its place
    return found


# -- executions -----------------------------------------------------------------------------------------


@szal.command("list")
@store_option
@which_options
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many, the newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_(*, store: str | None, which: Which, limit: int, as_json: bool) -> None:
    """List executions, the newest first.

    Where ids do not fit, they are cut to what tells them apart: "szal show" takes that, and prints the commands that go
    on with one.
    """
    with reading(needed(store)) as opened:
        found, interrupted = which.newest(opened, limit)
    out = stdout()
    if as_json:
        write(out, summaries_json(found, interrupted))
    elif found:
        console = console_for(out)
        console.print(executions(console, found, interrupted=interrupted))
        if interrupted:
            command = advice_on(store, "MODULE:ATTRIBUTE").resume("ID")
            write(stderr(), f"to go on with what was interrupted: {command}")
    else:
        write(stderr(), "There is no such execution." if which else "There is no execution yet.")
    printed(out)


@szal.command(short_help="Show an execution: its steps, and what it waits for.")
@click.argument("execution_id", metavar="[ID]", required=False, callback=not_empty, shell_complete=completion.ids)
@store_option
@which_options
@click.option(
    "--output",
    "step",
    metavar="STEP",
    callback=not_empty,
    shell_complete=completion.recorded_steps,
    help="Print all that this step returned, only.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the record as JSON; with what it waits for, and whether it was interrupted.",
)
@click.option(
    "-f", "--follow", "follows", is_flag=True, help="Go on showing it until it has ended, or waits for somebody."
)
@click.option("--wait", "waits", is_flag=True, help="With -f: go on also while it waits for somebody.")
@click.option("--timeout", metavar="DURATION", callback=duration_of, help="With -f: for so long at most.")
@click.option(
    "--html",
    "page",
    metavar="FILE",
    callback=not_empty,
    help="Write a page to that file, and print nothing: graph, timeline, inputs, outputs, errors (needs szal[graph]).",
)
def show(
    *,
    execution_id: str | None,
    store: str | None,
    which: Which,
    step: str | None,
    as_json: bool,
    follows: bool,
    waits: bool,
    timeout: float | None,
    page: str | None,
) -> None:
    """Show an execution: its steps, when each ran, what it returned, errors in full, and the next command.

    The beginning of its ID is enough. With --flow, --state, … and no ID it is the newest of these. Outputs are folded;
    --output STEP prints one whole: text as it is (of a command what it printed to stdout), anything else as JSON.

    With -f it is shown until it has ended, whichever machine runs it, or waits for a signal, a decision or to be
    resumed, and nothing else ends that: it says so, and what to type. Exit status: 0 it completed, 1 any other end, 3
    it waits, 124 the time is over, 130 Ctrl-C. Neither of the last two changes anything about it. With --json each
    change is an object on a line.
    """
    if (waits or timeout is not None) and not follows:
        raise click.UsageError("--wait and --timeout go with --follow")
    if follows and (page is not None or step is not None):
        raise click.UsageError("--follow goes with neither --html nor --output")
    if (execution_id is None) is not bool(which):
        raise click.UsageError("which execution? Give its ID, or --flow, --state, … for the newest of these.")
    if page is not None and (as_json or step is not None):
        raise click.UsageError("--html goes with neither --json nor --output")
    with reading(needed(store)) as opened:
        if execution_id is None:
            found, _ = which.newest(opened, 1)
            if not found:
                raise NoneFound(said_of(which))
            execution_id = found[0].execution_id
        record = find_by_prefix(opened, execution_id)
        if follows:
            advice = advice_on(store)
            how = {"as_json": as_json, "waits": waits}
            raise SystemExit(follow(opened, record.execution_id, advice, timeout=timeout, **how))
        standing = status_of(opened, record)
        if page is not None:
            write_page(opened, standing, advice_on(store), page)
            return
        kept = kept_of_undone(opened, standing)
    out = stdout()
    if step is not None:
        write(out, _output(record.execution_id, standing, step, as_json=as_json))
    elif as_json:
        write(out, _standing_json(standing))
    else:
        console = console_for(out)
        console.print(full_record(console, record, standing, advice_on(store), kept=kept), crop=False)
    printed(out)


def _standing_json(standing: ExecutionStatus) -> str:
    return record_json(
        standing.record,
        standing.waits,
        is_interrupted=standing.is_interrupted,
        queued=standing.queued,
        queued_behind=standing.queued_behind,
        in_queue=standing.in_queue,
    )


def _output(execution_id: str, standing: ExecutionStatus, name: str, *, as_json: bool) -> str:
    """Return what a step returned, for a person or as JSON."""
    step = next((each for each in standing.results if name in (each.step_name, each.step_id)), None)
    if step is None:
        raise NoSuchStep(execution_id, name, tuple(each.step_name or each.step_id for each in standing.results))
    return json.dumps(step.output, ensure_ascii=False) if as_json else clean(whole(step.output))


# -- what goes on -----------------------------------------------------------------------------------------

_STEERING = (resume, recover, rerun, signal, pause, cancel, resolve)
_OTHERS = (top, logs, worker, schedules, next_, capacity, check, doctor, prune, ui)
for command in (*_STEERING, *_OTHERS):
    szal.add_command(command)
