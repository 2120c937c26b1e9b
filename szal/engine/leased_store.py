"""What runs ask of a store that keeps a ledger. Whatever it raises but szal's own errors, it has failed by that."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from szal.errors import StoreFailed, SzalError, describe
from szal.interruption import is_interruption
from szal.model.results import ExecutionRecord
from szal.raised import is_a

if TYPE_CHECKING:
    from szal.model.definition import Definition
    from szal.stores.ledger import Lease, Signal, Snapshot, StepRows

__all__ = ["LeasedStore", "ask", "failure"]

P = ParamSpec("P")
T = TypeVar("T")


def failure(store: Any, error: Exception) -> Exception:
    """Return what a run is to raise for what its store raised: that, or a `StoreFailed` that tells of it.

    So nobody takes it for a step's failure, or for something that a run could be ended in order after: a write is lost.
    """
    if is_a(error, SzalError) or is_interruption(error):
        return error
    failed = StoreFailed(type(store).__name__, describe(error))
    failed.__cause__ = error
    return failed


def ask(store: Any, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of *store*, or of its ledger."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 (raised again)
        raise failure(store, error)  # noqa: B904 (it has its cause)


class LeasedStore:
    """A store that keeps a ledger, and the leases in it, with their renewal."""

    def __init__(self, store: Any, owner: str, ttl: float, heartbeat: Any) -> None:
        self.store = store
        self.owner = owner
        self.ttl = ttl
        self.heartbeat = heartbeat
        self._ledger = store.ledger

    def drain(self) -> None:
        """Wait for what this process has still to write: with the durability "none" no run does before it returns."""
        if hasattr(self.store, "drain"):
            ask(self.store, self.store.drain)

    def flush(self, execution_id: str) -> None:
        """Wait until all is committed of that execution, where the store writes behind; raise what was lost."""
        if hasattr(self.store, "flush"):
            ask(self.store, self.store.flush, execution_id=execution_id)

    def clock(self) -> float:
        """Return the time by the database's clock, as Unix time."""
        now: float = ask(self.store, self._ledger.clock)
        return now

    def signals(self, execution_id: str) -> "list[Signal]":
        """Return the signals that were sent and not delivered."""
        return ask(self.store, self._ledger.signals, execution_id)

    def read(self, execution_id: str) -> "Snapshot":
        """Return what is known of an execution. Raises `ExecutionNotFound`."""
        snapshot: Snapshot = ask(self.store, self._ledger.read, execution_id)
        return snapshot

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        """Write into an execution that has ended that a rerun of it has undone that step."""
        ask(self.store, self._ledger.undone, execution_id, step_name, data)

    def create(
        self,
        record: ExecutionRecord,
        definition: "Definition",
        *,
        steps: "StepRows" = (),
        under: "Lease | None" = None,
        replace: bool = False,
    ) -> int | None:
        """Record a new execution and return the epoch of its lease; None where there is one under that id.

        *steps* have settled before it begins; *under* is the lease of the execution whose sub-flow it is;
        *replace*: what there is under that id is left over, and goes.
        """
        self.heartbeat.start()
        content_id, text = definition.content_id, definition.text
        create, named = self._ledger.create, {"steps": steps, "under": under, "replace": replace}
        epoch: int | None = ask(self.store, create, record, content_id, text, self.owner, self.ttl, **named)
        return epoch

    def take_over(self, execution_id: str, *, under: "Lease | None" = None, reopen: bool = False) -> "Snapshot":
        """Return the execution, now this process's; *under* is the lease of the one whose sub-flow it is.

        *reopen*: also where it has ended, to be undone.
        Raises `ExecutionOwned` where somebody runs it, and `ExecutionNotFound`.
        """
        from szal.engine.owners import is_gone

        self.heartbeat.start()
        take_over, named = self._ledger.take_over, {"under": under, "reopen": reopen}
        snapshot: Snapshot = ask(self.store, take_over, execution_id, self.owner, self.ttl, is_gone, **named)
        return snapshot
