"""What stands behind options: ``key=value`` pairs, durations, states."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import click

from szal.cli.inputs import Unclear, value_of
from szal.clock import utc_now
from szal.expressions.path import Json
from szal.model.state import WorkflowState

__all__ = [
    "duration_of",
    "inputs_option",
    "json_option",
    "moment_of",
    "needed",
    "pairs_of",
    "states_of",
    "store_option",
    "target_argument",
    "value_argument",
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_of(_ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Return seconds: ``90``, ``90s``, ``1.5m``, ``250ms``, ``2h``, ``1d``."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration: write 90s, 10m, 1.5h or 250ms", param=param)
    return float(match[1]) * _SECONDS[match[2]]


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
    known = {name: state for state in WorkflowState for name in (str(state), state.value)}
    for text in texts:
        if text not in known:
            raise click.BadParameter(f"{text!r} is none of {', '.join(map(str, WorkflowState))}", param=param)
    return tuple(known[text] for text in texts)


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


def value_argument(_ctx: click.Context, param: click.Parameter, text: str | None) -> Json:
    """Return the value of an argument, null where it is not there (see `value_of`)."""
    try:
        return None if text is None else value_of(text)
    except Unclear as error:
        raise click.BadParameter(str(error), param=param) from None


def needed(store: str | None) -> str:
    """Return the store's URL, for a command that does nothing without one."""
    if store is None:
        raise click.UsageError("which store? Give --store sqlite:///szal.db, or set SZAL_STORE.")
    return store


store_option = click.option(
    "--store",
    metavar="URL",
    envvar="SZAL_STORE",
    help="Where executions are recorded: sqlite:///szal.db, postgresql://… Taken from SZAL_STORE too.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

target_argument = click.argument("target", metavar="FILE|MODULE:ATTRIBUTE")

inputs_option = click.option(
    "-i",
    "--input",
    "inputs",
    metavar="KEY=VALUE",
    multiple=True,
    callback=pairs_of,
    help="An input of the flow, read as the type that it declares. Where it declares none, JSON is taken as such, all"
    " else is text; so is a number that would be printed in another way (1.10, 007).",
)
