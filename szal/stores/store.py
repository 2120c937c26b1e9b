"""What each of szal's own stores is."""

from types import TracebackType
from typing import Any, Protocol, Self

from szal.stores.base import Backend, ExecutionStore
from szal.stores.sink.sink import Sink

__all__ = ["Store"]


class Store(Backend, ExecutionStore, Protocol):
    """What each of szal's own stores is: see `SqliteExecutionStore` for what the methods promise.

    >>> from szal import open_store
    >>> with open_store("memory:") as store:
    ...     store.count()
    0
    """

    def migrate(self) -> None: ...

    def engine_sink(self, **options: Any) -> Sink: ...

    def set_capacity(self, name: str, capacity: int | None) -> None: ...

    def capacities(self) -> dict[str, int]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
