"""The executions of an engine in a test that are paused: they go on as soon as what they wait for has come."""

import contextlib
from collections.abc import Iterable
from typing import Protocol

import attrs

from szal.errors import ExecutionNotFound, ExecutionOwned, HandlerNotFound, LeaseLost
from szal.model.state import WorkflowState
from szal.stores.ledger import Holding, Ledger
from szal.stores.store import Store
from szal.testing.clock import ROUNDING, FakeClock

__all__ = ["Paused", "Resuming"]


class Resuming(Protocol):
    """An engine."""

    @property
    def clock(self) -> FakeClock: ...
    def interrupted(self, flow_name: str | None = None) -> list[str]: ...
    def root_of(self, execution_id: str) -> str: ...
    def go_on_with(self, execution_id: str) -> None: ...


@attrs.frozen
class _Sight:
    """What there was when an execution went on: if it is paused again, that alone is no reason to go on again."""

    now: float
    signals: frozenset[str]


class Paused:
    """Has *engine* go on with what can go on in *store*, by the engine's clock: what such a clock looks after."""

    def __init__(self, engine: Resuming, store: Store, ledger: Ledger) -> None:
        self._engine = engine
        self._store = store
        self._ledger = ledger
        self._before: dict[str, _Sight] = {}

    def next_due(self) -> float | None:
        """Return when an execution can go on (Unix time): now, or when the first of those waits is over that end so."""
        now = self._engine.clock.wall()
        later = (wake for wake in self._wakes().values() if not _is_over(wake, now))
        return now if self._free() else min(later, default=None)

    def fire(self) -> None:
        """Go on with all that can, each on a thread of its own. What this engine has no handlers
        for is left alone, and so is all of it once it has crashed."""
        for execution_id, sight in self._free().items():
            self._before[execution_id] = sight
            with contextlib.suppress(HandlerNotFound, ExecutionOwned, ExecutionNotFound, LeaseLost):
                self._engine.go_on_with(execution_id)

    def instead_of(self, found: Iterable[str], flow_name: str | None) -> list[str]:
        """Return the executions, of one flow or of all, that can go on by the engine's clock; *found* by the store's.

        The store goes by a clock of its own, which may be ahead of the engine's, or behind.
        """
        now = self._engine.clock.wall()
        members: dict[str, list[Holding]] = {}
        for each in self._ledger.holdings(self._ids()):
            members.setdefault(self._engine.root_of(each.execution_id), []).append(each)
        due = [root for root, family in members.items() if any(_is_over(each.wake, now) for each in family)]
        if flow_name is not None and due:
            named = {each.execution_id for each in self._store.find(flow_name=flow_name, limit=None)}
            due = [root for root in due if root in named]
        early = {root for root in found if root in members and self._still_wait(members[root], now)}
        return [each for each in dict.fromkeys([*found, *due]) if each not in early]

    def _still_wait(self, family: Iterable[Holding], now: float) -> bool:
        """Whether all that *family* waits for is a time that has not come."""
        return not any(
            _is_over(each.wake, now) or each.cancelled or self._ledger.signals(each.execution_id) for each in family
        ) and any(each.wake is not None for each in family)

    def wake_of(self, root: str) -> float | None:
        """Return when an execution goes on by itself, it or what belongs to it (Unix time); None: it does not."""
        wakes = [wake for each, wake in self._wakes().items() if self._engine.root_of(each) == root]
        return min(wakes, default=None)

    def _free(self) -> dict[str, _Sight]:
        """Return the executions that can go on, each with what there is that it may not have seen."""
        found = dict.fromkeys(self._engine.interrupted())
        sights = self._sights(found) if found else {}
        return {each: sight for each, sight in sights.items() if self._before.get(each) != sight}

    def _sights(self, roots: Iterable[str]) -> dict[str, _Sight]:
        signals: dict[str, set[str]] = {root: set() for root in roots}
        for execution_id in self._ids():
            root = self._engine.root_of(execution_id)
            if root in signals:
                signals[root] |= {signal.signal_id for signal in self._ledger.signals(execution_id)}
        now = self._engine.clock.monotonic()
        return {root: _Sight(now, frozenset(found)) for root, found in signals.items()}

    def _wakes(self) -> dict[str, float]:
        """Return when what waits for a time is to go on, by execution."""
        holdings = self._ledger.holdings(self._ids())
        return {each.execution_id: each.wake for each in holdings if each.wake is not None}

    def _ids(self) -> list[str]:
        self._ledger.drain()
        return [each.execution_id for each in self._store.find(states=WorkflowState.PAUSED, limit=None)]


def _is_over(wake: float | None, now: float) -> bool:
    return wake is not None and wake <= now + ROUNDING
