"""What a store is: the four methods that an engine needs, and what a sink needs of the store behind it."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import NoReturn, Protocol, Unpack, cast

from szal.errors import DecodeError
from szal.model.json import decode_record
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary, Filters, Ids, Page
from szal.stores.ledger import Ledger

__all__ = ["Backend", "ExecutionStore", "flush_of", "no_such_page", "read_record", "refuse_to_copy"]


class ExecutionStore(Protocol):
    """All that an engine asks of a store. Whatever has these four methods can be one.

    They are called from any thread, several at once, and may block.

    >>> class Kept(dict):
    ...     def save(self, record): self[record.execution_id] = record
    ...     def list(self, flow_name=None): return list(self)  # of all flows
    ...     def remove(self, execution_id): return self.pop(execution_id, None)
    >>> from szal import Engine, EngineConfig, FlowDef
    >>> store = Kept()
    >>> with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as engine:
    ...     _ = engine.run(FlowDef("empty"), execution_id="e")
    >>> str(store["e"].state)
    'completed'
    """

    def save(self, record: ExecutionRecord) -> None:
        """Insert *record*, or put it in the place of the one with its id."""
        ...

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none."""
        ...

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow; szal's own stores put the oldest first."""
        ...

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none."""
        ...


class Backend(Protocol):
    """What a sink needs of the store that it writes to.

    Its ledger's `apply` raises `StoreUnavailable` for what may get better by itself: the sink tries the same writes
    again. Any other exception is taken as final, and the writes of its batch are tried one by one.
    """

    @property
    def name(self) -> str:
        """What messages call this store; never holds a password."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What engines need of this store beside its records: leases, steps, signals."""
        ...

    def get(self, execution_id: str) -> ExecutionRecord | None: ...

    def list(self, flow_name: str | None = None) -> Ids: ...

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page: ...

    def count(self, **filters: Unpack[Filters]) -> int: ...

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        states: WorkflowState | Iterable[WorkflowState] | None = None,
        keep: int | None = None,
        batch: int = 1000,
    ) -> int: ...


def flush_of(store: ExecutionStore) -> Callable[[], object] | None:
    """Return the method that waits for a store that writes behind; None for one that does not."""
    return cast("Callable[[], object] | None", getattr(store, "flush", None))


def refuse_to_copy(given: object, protocol: object) -> NoReturn:  # noqa: ARG001 - both ask for one
    """Say what to do instead; it is the `__reduce_ex__` of stores and sinks, which pickle and copy call."""
    raise TypeError(
        f"a {type(given).__name__} cannot be pickled or copied: its connections, locks and threads are this process's."
        " Pass the URL of the store, and call open_store(url) where it is needed"
    )


def read_record(execution_id: str, data: str, *, to_go_on: bool = False) -> ExecutionRecord:
    """Return the record in *data*, as `decode_record` does; a `DecodeError` names the execution too."""
    try:
        if not isinstance(data, str):  # SQLite keeps bytes in any column
            raise DecodeError("", f"expected text, found {type(data).__name__}")
        return decode_record(data, to_go_on=to_go_on)
    except DecodeError as error:
        raise DecodeError(error.path, f"{error.problem} (in the record of execution {execution_id!r})") from None


def no_such_page(execution_id: str) -> ValueError:
    """Return the error for a page that is to begin after an execution that is not there (any more)."""
    return ValueError(
        f"after={execution_id!r}: no such execution; give the last summary of the page before instead of its id"
    )
