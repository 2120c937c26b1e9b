"""Where executions are recorded, and the sink that records them in the background.

Nothing is imported before it is used: sqlite_utils and psycopg are slow to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from szal.stores.url import known_scheme

if TYPE_CHECKING:
    from szal.stores.base import ExecutionStore
    from szal.stores.filters import ExecutionSummary
    from szal.stores.memory.store import InMemoryExecutionStore
    from szal.stores.postgres.store import PostgresExecutionStore
    from szal.stores.sink.sink import Sink
    from szal.stores.sink.stats import SinkStats
    from szal.stores.sqlite.store import SqliteExecutionStore
    from szal.stores.store import Store

__all__ = [
    "ExecutionStore",
    "ExecutionSummary",
    "InMemoryExecutionStore",
    "PostgresExecutionStore",
    "Sink",
    "SinkStats",
    "SqliteExecutionStore",
    "Store",
    "connect_store",
    "open_store",
]

_HOMES = {
    "ExecutionStore": "base",
    "ExecutionSummary": "filters",
    "InMemoryExecutionStore": "memory.store",
    "PostgresExecutionStore": "postgres.store",
    "Sink": "sink.sink",
    "SinkStats": "sink.stats",
    "SqliteExecutionStore": "sqlite.store",
    "Store": "store",
}

# The class that opens a URL of each scheme, by the name it has here.
_SCHEMES = {
    "memory": "InMemoryExecutionStore",
    "sqlite": "SqliteExecutionStore",
    "postgresql": "PostgresExecutionStore",
    "postgres": "PostgresExecutionStore",
}


def connect_store(url: str) -> "Store":
    """Return the store at *url* as it is: nothing is opened yet, and its tables are neither made nor changed.

    Its `migrate` does that, which `open_store` calls. Raises ValueError for another scheme.
    """
    store: Store = __getattr__(_SCHEMES[known_scheme(url, _SCHEMES)]).connect(url)
    return store


def open_store(url: str) -> "Store":
    """Return the store at *url*, migrated.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://user@host/database`` or ``memory:``. What
    SQLAlchemy and szal-rs write is understood too: a driver (``postgresql+psycopg://``), ``sqlite://file.db?mode=rwc``.

    Blocks for as long as the migration takes, which is nothing where there is none to do. Raises ValueError for
    another scheme, `StoreUnavailable` for a database that cannot be reached, `StoreFailed` for a file that is none.

    >>> with open_store("memory:") as store:
    ...     store.list()
    []
    """
    store = connect_store(url)
    try:
        store.migrate()
    except BaseException:
        store.close()
        raise
    return store


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
