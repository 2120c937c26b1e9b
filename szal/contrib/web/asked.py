"""What a page is asked for: the filters in its query, and from where on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlencode

import attrs

from szal.clock import utc_now
from szal.engine.which import INTERRUPTED, Which
from szal.model.duration import parse_duration
from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary

__all__ = ["STATES", "Asked", "cursor_of"]

_TYPED: Final = ("flow", "label", "since", "until", "error")
STATES: Final = (*map(str, WorkflowState), INTERRUPTED)


class Query(Protocol):
    """The arguments of a request, of which each may be there several times."""

    def get(self, key: str, default: str) -> str: ...

    def getlist(self, key: str) -> Sequence[str]: ...


@attrs.frozen(kw_only=True)
class Asked:
    """Filters as they were typed, and what they mean; what means nothing is among the problems, and filters nothing."""

    which: Which = attrs.field(factory=Which)
    error: str = ""
    typed: Mapping[str, str] = attrs.field(factory=dict)
    problems: tuple[str, ...] = ()
    after: ExecutionSummary | None = None

    @classmethod
    def of(cls, query: Query) -> "Asked":
        """Read them from a query, or from a form."""
        problems: list[str] = []
        typed = {name: query.get(name, "").replace("\0", "").strip() for name in _TYPED}
        states = dict.fromkeys(query.getlist("state"))
        problems += [f"state: {state!r} is none of {', '.join(STATES)}" for state in states if state not in STATES]
        which = Which(
            flow=typed["flow"] or None,
            states=tuple(state for state in states if state in STATES),
            labels=_labels(typed["label"], problems),
            since=_moment("since", typed["since"], problems),
            until=_moment("until", typed["until"], problems),
        )
        after = _position(query.get("after", ""))
        return cls(which=which, error=typed["error"], typed=typed, problems=tuple(problems), after=after)

    def __bool__(self) -> bool:
        """Whether any filter is given."""
        return bool(self.which) or bool(self.error)

    def pairs(self, **other: object) -> list[tuple[str, str]]:
        """Return them as they stand in a query, with *other* in the place of some: states, or any single value."""
        states = other.pop("states", self.which.states)
        assert isinstance(states, tuple)
        values = {**self.typed, **other}
        return [("state", state) for state in states] + [(key, str(value)) for key, value in values.items() if value]

    def query(self, **other: object) -> str:
        """Return that query, with its question mark."""
        pairs = self.pairs(**other)
        return f"?{urlencode(pairs)}" if pairs else "?"

    def admits_error(self, summary: ExecutionSummary) -> bool:
        """Whether the text of its error is one that is looked for."""
        return self.error.casefold() in (summary.error or "").casefold()


def cursor_of(summary: ExecutionSummary) -> str:
    """Return what says of a page that it comes after *summary*."""
    return f"{summary.position}~{summary.execution_id}"


def _position(text: str) -> ExecutionSummary | None:
    position, tilde, execution_id = text.partition("~")
    if not tilde:
        return None
    return ExecutionSummary(
        execution_id=execution_id, flow_name="", state=None, started_at=None, position=position.replace("\0", "")
    )


def _labels(text: str, problems: list[str]) -> dict[str, str]:
    """Return the labels in ``key=value, key=value``."""
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if equals:
            labels[key.strip()] = value.strip()
        else:
            problems.append(f"{part!r} is no label: write key=value")
    return labels


def _moment(name: str, text: str, problems: list[str]) -> datetime | None:
    """Return a time: so long ago (1h, 2d), or when, in UTC unless it says otherwise."""
    if not text:
        return None
    try:
        return utc_now() - timedelta(seconds=parse_duration(text))
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        problems.append(f"{name}: {text!r} is no time: write how long ago (1h, 30m, 2d), or when (2026-11-27 14:00)")
        return None
