"""What a program names as its store, as an engine has it: a URL and a path are opened for it, and closed with it."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import attrs

from szal.engine.config import EngineConfig, check_store
from szal.errors import FlushTimeout, did_you_mean
from szal.model.flow import definition_of

if TYPE_CHECKING:
    from szal.model.flow import Defined, FlowDef
    from szal.stores.base import ExecutionStore
    from szal.stores.sink.sink import Sink
    from szal.stores.store import Store

__all__ = ["AsItIs", "Opened", "OwnSink", "StoreLike", "check_settings", "config_of", "opened"]

StoreLike: TypeAlias = "str | os.PathLike[str] | AsItIs | ExecutionStore"
"""A URL, the path of an SQLite file, a store, or its sink."""

_FILES: Final = (".db", ".sqlite", ".sqlite3")
_SETTINGS: Final = [field.name for field in attrs.fields(EngineConfig)]


class Opened(Protocol):
    """What an engine has opened."""

    def close(self, limit: float) -> None:
        """Close it, and wait so many seconds at most for what is queued for it."""


@attrs.frozen
class OwnSink:
    """A sink that was made for an engine, and the store behind it, where that was opened for the engine, too."""

    sink: "Sink"
    behind: "Store | None" = None

    def close(self, limit: float) -> None:
        """Close both, and wait *limit* seconds at most; those for which the sink's thread has tried by now count.

        Raises what closing the sink does. After `FlushTimeout` its thread goes on, and the store stays open for that.
        """
        try:
            self.sink.close(max(0.0, limit - self.sink.stats().lag))
        except FlushTimeout as late:
            raise FlushTimeout(late.store, late.execution_ids, limit, late.problem) from None
        except BaseException:
            self._close_store()
            raise
        self._close_store()

    def _close_store(self) -> None:
        if self.behind is not None:
            self.behind.close()


@attrs.frozen
class AsItIs:
    """The URL of a store whose tables somebody else makes: nothing of it is opened before its first use."""

    url: str


def opened(store: StoreLike) -> tuple["ExecutionStore", Opened | None]:
    """Return *store* as an engine has it, and what is to be closed in the end.

    A store of szal's is seen through a sink of its own; it stays open itself, as it is the caller's.
    Raises TypeError for what is none of these, and what `szal.open_store` raises.
    """
    from szal.stores import connect_store, open_store  # the databases' libraries are slow to import, and optional here

    if isinstance(store, str | os.PathLike | AsItIs):
        behind = connect_store(store.url) if isinstance(store, AsItIs) else open_store(_url_of(store))
        try:
            sink = behind.engine_sink()
        except BaseException:
            behind.close()
            raise
        return sink, OwnSink(sink, behind)
    check_store("store", store, "a URL, a path, a store or its sink")
    if hasattr(store, "engine_sink"):
        made = cast("Store", store).engine_sink()
        return made, OwnSink(made)
    return store, None


def _url_of(store: "str | os.PathLike[str]") -> str:
    """Return the URL of a store; that of an SQLite file for a path: any `Path`, and a name such as ``app.db``."""
    text = os.fspath(store)
    if not isinstance(text, str):
        raise TypeError("the path of a store is text, not bytes")
    is_path = not isinstance(store, str) or (text.lower().endswith(_FILES) and ":" not in text)
    return f"sqlite:///{text}" if is_path else text


def config_of(store: "ExecutionStore | None", settings: dict[str, object]) -> EngineConfig:
    """Return a config with these *settings*; raise TypeError for one that there is not."""
    check_settings(settings)
    return EngineConfig(execution_store=store, **settings)  # type: ignore[arg-type]


def check_settings(settings: Iterable[str], inputs_of: "FlowDef | Defined | None" = None) -> None:
    """Raise TypeError for a setting that there is not. It may have been meant to be one of the *inputs_of* a flow."""
    for name in settings:
        if name == "execution_store":
            raise TypeError("the store is given once: execution_store does not go with it")
        if name not in _SETTINGS:
            hint = did_you_mean(name, _SETTINGS)
            flow = None if inputs_of is None else definition_of(inputs_of)
            if flow is not None and (name in flow.inputs or name in (flow.parameters or ())):
                hint = f": it is an input, and inputs are given as one mapping, as in run({{{name!r}: …}})"
            raise TypeError(f"an engine has no setting {name!r}{hint}")
