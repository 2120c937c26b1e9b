"""Which executions a command is about: the filters of ``list``, and of what acts on many at once."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import click

from szal.cli import completion
from szal.cli.options import moment_of, not_empty, pairs_of, shown_states_of
from szal.cli.text import moment, one_line
from szal.engine.which import Which

__all__ = ["said_of", "which_options", "words_of"]

_F = TypeVar("_F", bound=Callable[..., Any])


def said_of(which: Which) -> str:
    """Return what the filters say, for people to read."""
    said = [
        "" if which.flow is None else f"of {one_line(which.flow)}",
        " or ".join(which.states),
        " and ".join(f"labelled {one_line(f'{key}={value}')}" for key, value in which.labels.items()),
        "" if which.since is None else f"started since {moment(which.since)}",
        "" if which.until is None else f"started before {moment(which.until)}",
    ]
    return ", ".join(part for part in said if part)


def words_of(which: Which) -> list[str]:
    """Return them as they are typed, with times that stay the same."""
    words = [] if which.flow is None else ["--flow", which.flow]
    words += [word for state in which.states for word in ("--state", state)]
    words += [word for key, value in which.labels.items() for word in ("--label", f"{key}={value}")]
    for option, time in (("--since", which.since), ("--until", which.until)):
        words += [] if time is None else [option, time.isoformat(timespec="microseconds")]
    return words


def which_options(function: _F) -> _F:
    """Give a command the filters, as one argument: ``which``."""

    @functools.wraps(function)
    def command(
        *,
        flow: str | None,
        states: tuple[str, ...],
        labels: Mapping[str, str],
        since: datetime | None,
        until: datetime | None,
        **rest: Any,
    ) -> None:
        which = Which(flow=flow, states=tuple(dict.fromkeys(states)), labels=labels, since=since, until=until)
        function(which=which, **rest)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]


_FLOW = click.option(
    "--flow",
    metavar="NAME",
    callback=not_empty,
    shell_complete=completion.flows,
    help="Only executions of this flow.",
)
_STATES = click.option(
    "--state",
    "states",
    metavar="STATE",
    multiple=True,
    callback=shown_states_of,
    shell_complete=completion.states,
    help="Only this state, as it is printed: completed, failed, paused, interrupted, rolled_back, …",
)
_OPTIONS = (
    _FLOW,
    _STATES,
    click.option(
        "-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs_of, help="With this label."
    ),
    click.option(
        "--since",
        metavar="TIME",
        callback=moment_of,
        help="Only what started since then: so long ago (1h, 30m, 2d), or a time (2026-11-27, '2026-11-27 14:00').",
    ),
    click.option("--until", metavar="TIME", callback=moment_of, help="Only what started before then, said likewise."),
)
