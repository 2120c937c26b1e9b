"""Which executions a command is about: the filters of ``list``, and of what acts on many at once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import click

from szal.cli import completion
from szal.cli.options import moment_of, not_empty, pairs_of, shown_states_of
from szal.cli.standing import INTERRUPTED, shown_state
from szal.cli.text import moment, one_line
from szal.engine.status import interrupted_among
from szal.model.state import WorkflowState
from szal.stores import ExecutionSummary, Store
from szal.stores.filters import LIVE, Filters

__all__ = ["UNFINISHED", "Found", "Which", "which_options"]

_F = TypeVar("_F", bound=Callable[..., Any])
Found: TypeAlias = tuple[list[ExecutionSummary], frozenset[str]]
"""Executions, and which of them nobody runs although they could go on."""

_PAGE: Final = 1000
_FEWEST: Final = 200  # where they are looked through
_MAY_BE_INTERRUPTED: Final = tuple(str(state) for state in LIVE if state is not WorkflowState.PAUSED)


@attrs.frozen(kw_only=True)
class Which:
    """What the filters say; all that are given must hold. States are as they are shown, "interrupted" among them."""

    flow: str | None = None
    states: tuple[str, ...] = ()
    labels: Mapping[str, str] = attrs.field(factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        """Whether any filter is given."""
        return self != Which()

    def pages(self, store: Store, size: int = _PAGE) -> Iterator[Found]:
        """Yield what passes them, the newest first, so many at a time that it is no matter how many there are.

        "interrupted" is none that stores know: what counts as running is looked through for it.
        """
        looks_through = 0 < len({INTERRUPTED, *_MAY_BE_INTERRUPTED} & {*self.states}) <= len(_MAY_BE_INTERRUPTED)
        size, filters = max(size, _FEWEST if looks_through else 1), self._filters()
        page = store.find(limit=size, **filters)
        while page:
            left = interrupted_among(store, page)
            shown = (shown_state(each.state, is_interrupted=each.execution_id in left) for each in page)
            passes = [not looks_through or state in self.states for state in shown]
            yield [each for each, does in zip(page, passes, strict=True) if does], left
            page = store.find(limit=size, after=page[-1], **filters)

    def newest(self, store: Store, limit: int) -> Found:
        """Return the newest that pass them, at most *limit*."""
        chosen: list[ExecutionSummary] = []
        left: frozenset[str] = frozenset()
        for found, interrupted in self.pages(store, min(limit, _PAGE)):
            chosen += found
            left |= interrupted
            if len(chosen) >= limit:
                break
        return chosen[:limit], left

    def _filters(self) -> Filters:
        asked = {*self.states, *(_MAY_BE_INTERRUPTED if INTERRUPTED in self.states else ())}
        return Filters(
            flow_name=self.flow,
            states=[state for state in WorkflowState if str(state) in asked] or None,
            labels=self.labels,
            since=self.since,
            until=self.until,
        )

    def __str__(self) -> str:
        """Return them for people to read."""
        said = [
            "" if self.flow is None else f"of {one_line(self.flow)}",
            " or ".join(self.states),
            " and ".join(f"labelled {one_line(f'{key}={value}')}" for key, value in self.labels.items()),
            "" if self.since is None else f"started since {moment(self.since)}",
            "" if self.until is None else f"started before {moment(self.until)}",
        ]
        return ", ".join(part for part in said if part)

    def words(self) -> list[str]:
        """Return them as they are typed, with times that stay the same."""
        words = [] if self.flow is None else ["--flow", self.flow]
        words += [word for state in self.states for word in ("--state", state)]
        words += [word for key, value in self.labels.items() for word in ("--label", f"{key}={value}")]
        for option, time in (("--since", self.since), ("--until", self.until)):
            words += [] if time is None else [option, time.isoformat(timespec="microseconds")]
        return words


UNFINISHED: Final = Which(states=(INTERRUPTED, *map(str, LIVE)))
"""All that have not ended."""


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
