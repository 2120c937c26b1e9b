"""Signals that a test gives a flow from the start: whichever of its executions waits for one has it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from szal.errors import did_you_mean
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.json.text import as_recorded
from szal.stores.ledger import Ledger, Signal, ledger_of
from szal.stores.writes import SaveStep, Write

__all__ = ["Given", "Signals", "listed"]

Signals: TypeAlias = Mapping[str, Json] | Iterable[tuple[str, Json]]
"""By name; or in order, where one is to come several times."""


def listed(signals: Signals, flow: FlowDef) -> Sequence[Signal]:
    """Return *signals* as they are sent; raise ValueError for one that no step of *flow* or its sub-flows waits for."""
    pairs = [*signals.items()] if isinstance(signals, Mapping) else [*signals]
    steps = [step for each in (flow, *flow.sub_flows) for step in each.walk() if step.step_type == "wait"]
    awaited = [step.config["signal"] for step in steps if isinstance(step.config, Mapping) and "signal" in step.config]
    if not any("{{" in str(name) for name in awaited):  # which a template says is not known before
        for name, _ in pairs:
            if name not in awaited:
                hint = did_you_mean(str(name), [str(each) for each in awaited])
                raise ValueError(f"signals: no step of flow {flow.name!r} waits for {name!r}{hint}")
    numbered = enumerate(pairs)
    return [Signal(f"test:{number}", name, as_recorded(value, "value")[0]) for number, (name, value) in numbered]


class Given:
    """A store in front of *store*, in which *signals* have been sent to whoever waits for them first."""

    def __init__(self, store: Any, signals: Sequence[Signal]) -> None:
        ledger = ledger_of(store)
        if ledger is None:
            raise ValueError("signals need one of szal's own stores, where they are kept")
        self._store = store
        self.ledger = GivenLedger(ledger, signals)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class GivenLedger:
    """The ledger of such a store. All that is not here is that of the store behind."""

    def __init__(self, behind: Ledger, signals: Sequence[Signal]) -> None:
        self._behind = behind
        self._left = {signal.signal_id: signal for signal in signals}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def signals(self, execution_id: str) -> list[Signal]:
        """Return those that are left, after those that were really sent."""
        return [*self._behind.signals(execution_id), *self._left.values()]

    def write(self, write: Write, /) -> None:
        """Carry it out; a signal that it delivers is left no more."""
        self._behind.write(write)
        if isinstance(write, SaveStep) and write.signal_id is not None:
            self._left.pop(write.signal_id, None)
