"""Where the pages get what they show: an engine, which is found with each request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

from szal.contrib.application import ApplicationEngine, Settings
from szal.engine.engine import Engine
from szal.engine.opening import opened
from szal.stores.store import Store

if TYPE_CHECKING:
    from szal.engine.opening import StoreLike

__all__ = ["Given", "engine_source", "store_of"]

Given: TypeAlias = "Engine | StoreLike | Callable[[], Engine]"
"""An engine, a function that returns one, a store, its URL, or the path of an SQLite file."""


def engine_source(given: Given) -> Callable[[], Engine]:
    """Return what returns the engine. Of a store one is opened at its first use, in each process: it runs nothing.

    Raises TypeError for what is none of these.
    """
    if isinstance(given, Engine):
        store_of(given)
        return lambda: given
    if callable(given):
        return given
    if not isinstance(given, str) and not hasattr(given, "__fspath__"):
        opened(given)  # raises, and opens nothing before its first use
    store = given
    return ApplicationEngine(lambda: Settings(store=store, flows=(), around=())).get


def store_of(engine: Engine) -> Store:
    """Return where *engine* records. Raises TypeError without one of szal's stores."""
    store = engine.config.execution_store
    if store is None or not hasattr(store, "find"):
        raise TypeError("pages need an engine with one of szal's stores: Engine.open('sqlite:///app.db', flow)")
    return cast("Store", store)
