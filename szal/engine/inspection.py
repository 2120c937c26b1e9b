"""What tools ask of a store beside its records: who could go on, who holds what, and whether it works at all."""

from collections.abc import Collection, Mapping, Sequence

from szal.clock import wall
from szal.engine.config import EngineConfig
from szal.engine.correction import Correction
from szal.engine.owners import is_gone
from szal.errors import ExecutionNotFound
from szal.model.flow import FlowDef
from szal.model.json import Checkpoint, decode_checkpoint
from szal.stores.base import ExecutionStore
from szal.stores.ledger import Holding, ledger_of
from szal.stores.limits import ResourceUse
from szal.stores.queue import InQueue

__all__ = [
    "await_pending",
    "check_writable",
    "checkpoints_of",
    "differences_from",
    "holdings",
    "nobody_runs",
    "places_of",
    "resource_uses",
    "store_time",
]


def nobody_runs(store: ExecutionStore) -> frozenset[str]:
    """Return the executions with which whoever recovers goes on."""
    ledger = ledger_of(store)
    return frozenset() if ledger is None else frozenset(ledger.interrupted(is_gone))


def holdings(store: ExecutionStore, execution_ids: Collection[str]) -> dict[str, Holding]:
    """Return the leases of those of these executions that have one, by execution."""
    ledger = ledger_of(store)
    return {} if ledger is None else {each.execution_id: each for each in ledger.holdings(execution_ids)}


def places_of(store: ExecutionStore, execution_ids: Collection[str]) -> Mapping[str, InQueue]:
    """Return where those of these executions stand that were submitted and have not begun, by execution."""
    ledger = ledger_of(store)
    return {} if ledger is None else ledger.queue.places(execution_ids)


def checkpoints_of(store: ExecutionStore, execution_id: str) -> dict[str, Checkpoint]:
    """Return what is kept of steps beside their results: when their attempts were, tracebacks, how undoing failed.

    By their names, an item's under its own key (`item_key`). Empty where the store keeps none, or no longer.
    """
    ledger = ledger_of(store)
    try:
        rows = () if ledger is None else ledger.read(execution_id).steps
    except ExecutionNotFound:
        return {}
    return {key: decode_checkpoint(data, key) for key, _, data in rows}


def store_time(store: ExecutionStore) -> float:
    """Return the time that leases and waits go by, as Unix time: the database's, else this machine's.

    Raises what the store raises.
    """
    ledger = ledger_of(store)
    return wall() if ledger is None else ledger.clock()


def check_writable(store: ExecutionStore) -> None:
    """Have it write something, and take it back; raise what keeps it from being written."""
    ledger = ledger_of(store)
    if ledger is not None:
        ledger.check_writable()


def await_pending(store: ExecutionStore) -> None:
    """Return once all that is queued is committed; raise what was lost."""
    ledger = ledger_of(store)
    if ledger is not None:
        ledger.flush()


def differences_from(
    store: ExecutionStore | None, execution_id: str, flow: FlowDef, config: EngineConfig
) -> tuple[str, ...]:
    """Return how *flow* differs from what an execution began with; nothing, where no definition is kept.

    Raises what `Correction.of` does, and `ExecutionNotFound`.
    """
    ledger = ledger_of(store)
    return () if ledger is None else Correction.of(ledger, ledger.read(execution_id), flow, config).differences


def resource_uses(store: ExecutionStore) -> Sequence[ResourceUse]:
    """Return how much there is of what steps share in all engines of *store*, and how much is used, by name."""
    ledger = ledger_of(store)
    return () if ledger is None else ledger.limits.uses()
