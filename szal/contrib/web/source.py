"""Where the pages get what they show: an engine, which is found with each request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs

from szal.contrib.application import ApplicationEngine, Settings
from szal.contrib.streaming import Streams
from szal.engine.engine import Engine
from szal.engine.opening import opened
from szal.stores.store import Store

if TYPE_CHECKING:
    from szal.engine.opening import StoreLike

__all__ = ["THREADS", "Given", "Source", "source_of", "store_of"]

Given: TypeAlias = "Engine | StoreLike | Callable[[], Engine]"
"""An engine, a function that returns one, a store, its URL, or the path of an SQLite file."""


THREADS: Final = 4
"""So many requests each process serves at a time, where nobody says anything else."""


@attrs.frozen
class Source:
    """What returns the engine, and what counts the streams of this process."""

    engine: Callable[[], Engine]
    streams: Streams


def source_of(given: Given, threads: int = THREADS) -> Source:
    """Return where pages get what they show, in a process that serves so many requests at a time.

    Of a store an engine is opened at its first use, in each process: it runs nothing. Raises TypeError for what is none
    of these, and ValueError for no number of threads.
    """
    settings = Settings(store="memory:", flows=(), around=(), threads=threads)
    if isinstance(given, Engine):
        store_of(given)
        return Source(lambda: given, Streams(lambda: threads))
    if callable(given):
        return Source(given, Streams(lambda: threads))
    if not isinstance(given, str) and not hasattr(given, "__fspath__"):
        opened(given)  # raises, and opens nothing before its first use
    of_store = ApplicationEngine(lambda: attrs.evolve(settings, store=given))
    return Source(of_store.get, of_store.streams)


def store_of(engine: Engine) -> Store:
    """Return where *engine* records. Raises TypeError without one of szal's stores."""
    store = engine.config.execution_store
    if store is None or not hasattr(store, "find"):
        raise TypeError("pages need an engine with one of szal's stores: Engine.open('sqlite:///app.db', flow)")
    return cast("Store", store)
