"""Fixtures of the tests of what outlives a process."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until

from szal import Engine, EngineConfig
from szal.stores import SqliteExecutionStore, Store, open_store
from szal.stores.ledger import Ledger, Renewal
from szal.stores.memory.ledger import MemoryLedger
from szal.stores.sql_ledger import SqlLedger

DATABASES = ["sqlite", "postgres"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each kind of store that it does not name itself; one that asks for a URL: not on memory."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "kind" in metafunc.fixturenames and not any("kind" in mark.args[0] for mark in marks):
        metafunc.parametrize("kind", DATABASES if "store_url" in metafunc.fixturenames else [*DATABASES, "memory"])


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tables: None, kind: str) -> str:
    """The URL of a migrated, empty database of each kind."""
    return str(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
def open_one(request: pytest.FixtureRequest, kind: str) -> Callable[[], Store]:
    """Open the test's database once more; in memory there is one store, which all share."""
    if kind == "memory":
        shared = open_store("memory:")
        return lambda: shared
    url = request.getfixturevalue("store_url")
    return lambda: open_store(url)


@pytest.fixture
def sqlite_url(fast_path: Path, sqlite_tables: Path) -> str:
    """The URL of a migrated, empty file."""
    shutil.copy(sqlite_tables, fast_path / "szal.db")
    return f"sqlite:///{fast_path}/szal.db"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores in files wait for a lock as long as those in PostgreSQL: longer than a test does."""
    monkeypatch.setitem(SqliteExecutionStore.connect.__func__.__kwdefaults__, "busy_timeout", 300.0)


@contextmanager
def fast_directory() -> Iterator[Path]:
    """A directory in memory, where the system has one: what is there outlives a process, which is enough."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A directory in memory."""
    with fast_directory() as path:
        yield path


@pytest.fixture
def store(open_one: Callable[[], Store]) -> Iterator[Store]:
    """A store in that database."""
    with open_one() as opened:
        yield opened


class Renewals:
    """What has been renewed in this process: to wait for, where a test is about a lease that is kept."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def noting(self, renew: Callable[[Any, Renewal], dict[str, bool]]) -> Callable[[Any, Renewal], dict[str, bool]]:
        def noted(ledger: Ledger, renewal: Renewal) -> dict[str, bool]:
            kept = renew(ledger, renewal)
            self._counts.update(kept.keys())
            return kept

        return noted

    def await_another(self, execution_id: str) -> None:
        """Wait until a lease is renewed once more."""
        before = self._counts[execution_id]
        wait_until(lambda: self._counts[execution_id] > before)


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> Renewals:
    found = Renewals()
    for kind in (SqlLedger, MemoryLedger):
        monkeypatch.setattr(kind, "renew", found.noting(kind.renew))
    return found


@pytest.fixture
def new_engine(open_one: Callable[[], Store]) -> Iterator[Callable[..., Engine]]:
    """Make engines, each with a store and a sink of its own, as another process would have."""
    made: list[Any] = []

    def make(handler: Any = lambda ctx: ctx.step.name, **config: Any) -> Engine:
        opened = open_one()
        sink = opened.engine_sink()
        engine = Engine(handler, EngineConfig(execution_store=sink, **config))
        made.extend((opened, sink, engine))
        return engine

    yield make
    for each in reversed(made):
        each.close()


@pytest.fixture
def log(tmp_path: Path) -> "Log":
    """Lines that any process may add to."""
    return Log(tmp_path / "log")


class Log:
    """A file of lines; a line is there as soon as `add` returns, whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: str) -> None:
        """Add a line."""
        file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    @property
    def lines(self) -> list[str]:
        """All lines so far."""
        return self.path.read_text().splitlines() if self.path.exists() else []
