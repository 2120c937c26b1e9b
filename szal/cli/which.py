"""Which executions a command is about: the filters of ``list``, and of what acts on many at once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs
import click

from szal.cli import completion
from szal.cli.options import moment_of, not_empty, pairs_of, states_of
from szal.cli.text import moment, one_line
from szal.model.state import WorkflowState
from szal.stores import ExecutionSummary, Store
from szal.stores.filters import Filters

__all__ = ["Which", "which_options"]

_F = TypeVar("_F", bound=Callable[..., Any])
_PAGE: Final = 1000


@attrs.frozen(kw_only=True)
class Which:
    """What the filters say; all that are given must hold."""

    flow: str | None = None
    states: tuple[WorkflowState, ...] = ()
    labels: Mapping[str, str] = attrs.field(factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        """Whether any filter is given."""
        return self != Which()

    @property
    def filters(self) -> Filters:
        """Return them as a store takes them."""
        return Filters(
            flow_name=self.flow,
            states=self.states or None,
            labels=self.labels,
            since=self.since,
            until=self.until,
        )

    def pages(self, store: Store) -> Iterator[list[ExecutionSummary]]:
        """Yield what passes them, the newest first, so many at a time that it is no matter how many there are."""
        page = store.find(limit=_PAGE, **self.filters)
        while page:
            yield page
            page = store.find(limit=_PAGE, after=page[-1], **self.filters)

    def __str__(self) -> str:
        """Return them for people to read."""
        said = [
            "" if self.flow is None else f"of {one_line(self.flow)}",
            " or ".join(map(str, self.states)),
            " and ".join(f"labelled {one_line(f'{key}={value}')}" for key, value in self.labels.items()),
            "" if self.since is None else f"started since {moment(self.since)}",
            "" if self.until is None else f"started before {moment(self.until)}",
        ]
        return ", ".join(part for part in said if part)

    def words(self) -> list[str]:
        """Return the words that say them, with times that stay the same."""
        words = [] if self.flow is None else ["--flow", self.flow]
        words += [word for state in self.states for word in ("--state", str(state))]
        words += [word for key, value in self.labels.items() for word in ("--label", f"{key}={value}")]
        for option, time in (("--since", self.since), ("--until", self.until)):
            words += [] if time is None else [option, time.isoformat(timespec="microseconds")]
        return words


def which_options(function: _F) -> _F:
    """Give a command the filters, as one argument: ``which``."""

    @functools.wraps(function)
    def command(
        *,
        flow: str | None,
        states: tuple[WorkflowState, ...],
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


_OPTIONS = (
    click.option(
        "--flow",
        metavar="NAME",
        callback=not_empty,
        shell_complete=completion.flows,
        help="Only executions of this flow.",
    ),
    click.option(
        "--state",
        "states",
        metavar="STATE",
        multiple=True,
        callback=states_of,
        shell_complete=completion.states,
        help="Only this state: completed, failed, paused, …",
    ),
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
