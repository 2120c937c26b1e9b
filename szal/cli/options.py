"""What stands behind options: ``key=value`` pairs, durations, states."""

import re
from collections.abc import Mapping, Sequence

import click

from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.json.text import loads
from szal.model.state import WorkflowState

__all__ = [
    "duration_of",
    "inputs_of",
    "inputs_option",
    "json_option",
    "labels_of",
    "needed",
    "states_of",
    "store_option",
    "value_of",
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


def inputs_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, Json]:
    """Return ``-i key=value`` options as inputs; the last one for a key counts.

    A value that is JSON is taken as such (``3``, ``true``, ``null``, ``[1, 2]``, ``"3"``), any other is a string.
    """
    return {key: value_of(text) for key, text in _pairs(texts, param)}


def value_of(text: str) -> Json:
    """Return what *text* says as JSON, or the text itself where it is none."""
    try:
        return loads(text)
    except DecodeError:
        return text


def labels_of(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> Mapping[str, str]:
    """Return ``--label key=value`` options as labels, which are always strings."""
    return dict(_pairs(texts, param))


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

inputs_option = click.option(
    "-i",
    "--input",
    "inputs",
    metavar="KEY=VALUE",
    multiple=True,
    callback=inputs_of,
    help="An input of the flow. A value that is JSON is taken as such, any other is a string.",
)
