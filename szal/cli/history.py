"""Opening stores, and finding executions in them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from szal.cli.text import one_line
from szal.errors import SzalError
from szal.model.results import ExecutionRecord
from szal.stores import ExecutionStore, Store, open_store
from szal.stores.url import SqliteFile, scheme_of

__all__ = ["BadStore", "NotFound", "check_exists", "find_record", "keeps", "opened", "reading"]

_SOME: Final = 5


@attrs.define
class BadStore(SzalError):
    """What was named as a store is none."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@attrs.define
class NotFound(SzalError):
    """No execution, or more than one, has an id that begins so."""

    prefix: str
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        prefix = one_line(self.prefix)
        if not self.candidates:
            return f"there is no execution {prefix}"
        some = "".join(f"\n  {one_line(candidate)}" for candidate in self.candidates[:_SOME])
        more = "\n  …" if len(self.candidates) > _SOME else ""
        return f"{len(self.candidates)} executions begin with {prefix}:{some}{more}"


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """Open the store at *url*; raises `BadStore` and `StoreError`."""
    try:
        store = open_store(url)
    except ValueError as error:
        raise BadStore(str(error)) from error
    with store:
        yield store


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


def find_record(store: ExecutionStore, prefix: str) -> ExecutionRecord:
    """Return the execution with this id, or else the only one whose id begins so; raise `NotFound`."""
    record = store.get(prefix)
    if record is not None:
        return record
    candidates = [execution_id for execution_id in store.list() if execution_id.startswith(prefix)]
    record = store.get(candidates[0]) if len(candidates) == 1 else None
    if record is None:
        raise NotFound(prefix, tuple(candidates))
    return record
