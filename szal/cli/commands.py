"""The commands of ``szal``."""

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import click

from szal.cli.advice import advice_on
from szal.cli.check import check
from szal.cli.console import console_for, diverted_stdout, stderr, stdout, write
from szal.cli.doctor import doctor
from szal.cli.document import record_json, summaries_json
from szal.cli.durable import recover, rerun, resume
from szal.cli.execute import RecordLost
from szal.cli.graph import to_dot, to_mermaid
from szal.cli.history import find_record, reading
from szal.cli.inputs import how_to_give
from szal.cli.interrupt import hear_of_children
from szal.cli.message import cancel, prune, resolve, signal
from szal.cli.options import json_option, needed, pairs_of, states_of, store_option, target_argument
from szal.cli.run import run
from szal.cli.session import check_waits
from szal.cli.show import executions, full_record
from szal.cli.standing import interrupted_among, standing_of
from szal.cli.target import Target, find_target
from szal.cli.text import clean, one_line
from szal.errors import InvalidFlow, InvalidInputs, LoadError, SzalError
from szal.files.schema import flow_schema
from szal.model.state import WorkflowState

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
@target_argument
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
        found.check(here=not found.is_read)  # where it was read, that was told with its place
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

for command in (resume, recover, rerun, signal, cancel, resolve, check, doctor, prune):
    szal.add_command(command)
