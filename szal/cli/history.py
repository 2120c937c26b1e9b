"""Opening stores, and finding executions in them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from szal.cli.text import one_line
from szal.engine.config import EngineConfig
from szal.engine.opening import OwnSink
from szal.errors import FlushTimeout, SzalError, did_you_mean
from szal.model.results import ExecutionRecord
from szal.stores import ExecutionStore, Sink, Store, open_store
from szal.stores.url import SqliteFile, scheme_of

__all__ = [
    "BadStore",
    "NoSuchStep",
    "NoneFound",
    "NotFound",
    "check_exists",
    "find_by_prefix",
    "find_record",
    "keeps",
    "opened",
    "reading",
    "sink_at",
    "sink_on",
]

_SOME: Final = 5


@attrs.define
class BadStore(SzalError):
    """What was named as a store is none."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@attrs.define
class NotFound(SzalError):
    """No execution has this id. `candidates` begin so; where *whole* ids are asked for, even one of them is none."""

    execution_id: str
    candidates: tuple[str, ...] = ()
    whole: bool = False

    def __str__(self) -> str:
        name = one_line(self.execution_id)
        if not self.candidates:
            return f"there is no execution {name}"
        some = "".join(f"\n  {one_line(candidate)}" for candidate in self.candidates[:_SOME])
        more = "\n  …" if len(self.candidates) > _SOME else ""
        if self.whole:
            return f"there is no execution {name}; give the whole id. These begin so:{some}{more}"
        return f"{len(self.candidates)} executions begin with {name}:{some}{more}"


@attrs.define
class NoneFound(SzalError):
    """No execution passes the filters, which `asked` tells."""

    asked: str

    def __str__(self) -> str:
        return f"there is no such execution ({self.asked})"


@attrs.define
class NoSuchStep(SzalError):
    """An execution has no step of that name."""

    execution_id: str
    step: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        hint = did_you_mean(self.step, self.steps)
        return f"execution {one_line(self.execution_id)} has no step {one_line(self.step)}{hint}"


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """Open the store at *url*; raises `BadStore` and `StoreError`."""
    with _opened(url) as store:
        yield store


def _opened(url: str) -> Store:
    try:
        return open_store(url)
    except ValueError as error:
        raise BadStore(str(error)) from error


@contextmanager
def sink_at(url: str) -> Iterator[Sink]:
    """Open the store at *url*, for what writes; raises `BadStore` and `StoreError`.

    What cannot be written in the end is waited for as long as a run waits, and then raises `FlushTimeout`.
    """
    store = _opened(url)
    with _closed_in_time(OwnSink(store.engine_sink(), store)) as sink:
        yield sink


@contextmanager
def sink_on(store: Store) -> Iterator[Sink]:
    """Do so with a store that is open already."""
    with _closed_in_time(OwnSink(store.engine_sink())) as sink:
        yield sink


@contextmanager
def _closed_in_time(own: OwnSink) -> Iterator[Sink]:
    limit = EngineConfig().commit_timeout
    try:
        yield own.sink
    except BaseException:
        with suppress(FlushTimeout):  # it would hide what came first
            own.close(limit)
        raise
    own.close(limit)


@contextmanager
def reading(url: str) -> Iterator[Store]:
    """Open the store at *url*, but do not make one where there is none."""
    check_exists(url)
    with opened(url) as store:
        yield store


def keeps(url: str) -> bool:
    """Whether what is recorded there outlives this process."""
    file = _file(url)
    return scheme_of(url) != "memory" and (file is None or not file.is_memory)


def check_exists(url: str) -> None:
    """Raise `BadStore` where opening the store at *url* would make one."""
    file = _file(url)
    if file is not None and not file.is_memory and not Path(file.path).exists():
        raise BadStore(f"there is no database {file.path}")


def _file(url: str) -> SqliteFile | None:
    """Return the file that *url* names; None where it names none, or is wrong, which opening it tells."""
    with suppress(ValueError):
        return SqliteFile.of(url) if scheme_of(url) == "sqlite" else None
    return None


def find_record(store: ExecutionStore, execution_id: str) -> ExecutionRecord:
    """Return the execution with this very id, for a command that acts on it; raise `NotFound`."""
    record = store.get(execution_id)
    if record is None:
        raise NotFound(execution_id, _that_begin_with(store, execution_id), whole=True)
    return record


def find_by_prefix(store: ExecutionStore, prefix: str) -> ExecutionRecord:
    """Return the execution with this id, or else the only one whose id begins so; raise `NotFound`. To read it."""
    record = store.get(prefix)
    if record is not None:
        return record
    candidates = _that_begin_with(store, prefix)
    record = store.get(candidates[0]) if len(candidates) == 1 else None
    if record is None:
        raise NotFound(prefix, candidates)
    return record


def _that_begin_with(store: ExecutionStore, prefix: str) -> tuple[str, ...]:
    return tuple(execution_id for execution_id in store.list() if execution_id.startswith(prefix))
