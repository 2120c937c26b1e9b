"""What stands behind options and arguments: ids, ``key=value`` pairs, durations, times, states."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from szal.cli import completion
from szal.cli.inputs import Unclear, value_of
from szal.cli.project import project
from szal.clock import utc_now
from szal.engine.which import INTERRUPTED
from szal.expressions.path import Json
from szal.model.duration import parse_duration
from szal.model.fields import problem_of_name
from szal.model.state import WorkflowState
from szal.number import JSON_NUMBER

__all__ = [
    "duration_of",
    "id_option",
    "inputs_option",
    "json_option",
    "labels_option",
    "live_id_argument",
    "moment_of",
    "needed",
    "not_empty",
    "pairs_of",
    "queues_option",
    "shown_states_of",
    "states_of",
    "store_option",
    "target_argument",
    "value_argument",
    "values_of",
]


def duration_of(_ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Return seconds: a number of them, or what flow files call a duration (``90s``, ``1h30m``, ``250ms``)."""
    if text is None:
        return None
    if JSON_NUMBER.fullmatch(text) and 0 <= (seconds := float(text)) < math.inf:
        return seconds
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None


def moment_of(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | None:
    """Return an aware time: so long ago (``1h``, ``2d``), or when (``2026-11-27 14:00``), in local time unless it says.

    What is longer ago than there are years is the first moment of all.
    """
    if text is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text.strip()).astimezone()
    try:
        ago = duration_of(ctx, param, text)
    except click.BadParameter:
        problem = "is no time: write how long ago (1h, 30m, 2d), or when (2026-11-27, '2026-11-27 14:00')"
        raise click.BadParameter(f"{text!r} {problem}", param=param) from None
    try:
        return utc_now() - timedelta(seconds=ago or 0.0)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def states_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> tuple[WorkflowState, ...]:
    """Return states, written as they are printed (rolled_back) or as in JSON (RolledBack)."""
    return tuple(_KNOWN_STATES[_known_state(text, param)] for text in texts)


def shown_states_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    """Return states as they are printed, "interrupted" among them."""
    return tuple(text if text == INTERRUPTED else _known_state(text, param, INTERRUPTED) for text in texts)


_KNOWN_STATES: Final = {str(state): state for state in WorkflowState}


def _known_state(text: str, param: click.Parameter, *more: str) -> str:
    name = next((str(state) for state in WorkflowState if text in (str(state), state.value)), None)
    if name is None:
        raise click.BadParameter(f"{text!r} is none of {', '.join([*_KNOWN_STATES, *more])}", param=param)
    return name


def _pairs(texts: Sequence[str], param: click.Parameter) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not of the form key=value", param=param)
        pairs.append((key, value))
    return pairs


def pairs_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> Mapping[str, str]:
    """Return ``key=value`` options by key, as they are typed; the last one for a key counts."""
    return dict(_pairs(texts, param))


def values_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> Mapping[str, Json]:
    """Return ``key=value`` options by key, each value as `value_of` reads it; the last one for a key counts."""
    try:
        return {key: value_of(text) for key, text in _pairs(texts, param)}
    except Unclear as error:
        raise click.BadParameter(str(error), param=param) from None


def value_argument(_ctx: click.Context, param: click.Parameter, text: str | None) -> Json:
    """Return the value of an argument, null where it is not there (see `value_of`)."""
    try:
        return None if text is None else value_of(text)
    except Unclear as error:
        raise click.BadParameter(str(error), param=param) from None


def not_empty(_ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """Return *text*; refuse an empty one, which a variable of a shell script is that was not set."""
    if text is not None and not text.strip():
        raise click.BadParameter("it is empty (is a variable not set?)", param=param)
    return text


def _names_of_queues(_ctx: click.Context, param: click.Parameter, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names; refuse what can be none."""
    for name in names:
        if (problem := problem_of_name(name)) is not None:
            raise click.BadParameter(f"the name of a queue {problem}", param=param)
    return tuple(names)


def needed(store: str | None) -> str:
    """Return the store's URL, for a command that does nothing without one."""
    if store is None:
        raise click.UsageError("which store? Give --store sqlite:///szal.db, or set SZAL_STORE.")
    return store


live_id_argument = click.argument("execution_id", metavar="ID", callback=not_empty, shell_complete=completion.live_ids)
"""The whole id of an execution that has not ended."""

store_option = click.option(
    "--store",
    metavar="URL",
    callback=not_empty,
    envvar="SZAL_STORE",
    default=lambda: project().store,
    help="Where executions are recorded: sqlite:///szal.db, postgresql://… Taken from SZAL_STORE too.",
)

queues_option = click.option(
    "--queue",
    "queues",
    metavar="NAME",
    multiple=True,
    default=["default"],
    show_default=True,
    callback=_names_of_queues,
    help="Of which queues; may be repeated.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

target_argument = click.argument("target", metavar="FILE|MODULE:ATTRIBUTE", shell_complete=completion.targets)

labels_option = click.option(
    "-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs_of, help="To find the execution by."
)

id_option = click.option(
    "--id",
    "execution_id",
    metavar="ID",
    callback=not_empty,
    shell_complete=completion.live_ids,
    help="The execution's id. One that was interrupted or waits goes on; one that has ended is only shown.",
)

inputs_option = click.option(
    "-i",
    "--input",
    "inputs",
    metavar="KEY=VALUE",
    multiple=True,
    callback=pairs_of,
    shell_complete=completion.inputs,
    help="An input of the flow, read as the type that it declares. Where it declares none, JSON is taken as such, all"
    " else is text; so is a number that would be printed in another way (1.10, 007).",
)
