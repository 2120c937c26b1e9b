"""Fixtures of the stores' tests."""

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stores.cutter import Cutter
from stores.outside import Outside
from stores.postgres_server import OwnServer, PostgresServer

from szal.stores import PostgresExecutionStore, Sink, SqliteExecutionStore, Store, open_store

BACKENDS = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=BACKENDS)
def backend_url(request: pytest.FixtureRequest, tables: None) -> str:
    """Where a migrated, empty store of each kind is."""
    if request.param == "memory":
        return "memory:"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def sqlite_url(path: Path, sqlite_tables: Path) -> str:
    """The URL of a migrated, empty file."""
    shutil.copy(sqlite_tables, path)
    return f"sqlite:///{path}"


@pytest.fixture
def backend(backend_url: str) -> Iterator[Store]:
    """A migrated, empty store of each kind."""
    with open_store(backend_url) as store:
        yield store


@pytest.fixture(params=["direct", "sink"])
def store(request: pytest.FixtureRequest, backend: Store) -> Iterator[Store | Sink]:
    """A store of each kind, bare and behind a sink."""
    if request.param == "direct":
        yield backend
    else:
        with backend.engine_sink() as sink:
            yield sink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a database."""
    return tmp_path / "szal.db"


@pytest.fixture(params=["sqlite", "postgres"])
def outside(request: pytest.FixtureRequest, path: Path) -> Iterator[Outside]:
    """Another program at an empty database of each kind."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{path}"
    outside = Outside(url)
    with closing(outside.db):
        yield outside


@pytest.fixture
def sqlite(path: Path, sqlite_url: str) -> Iterator[SqliteExecutionStore]:
    """A migrated, empty store in a file."""
    with SqliteExecutionStore.connect(path) as store:
        yield store


@pytest.fixture
def postgres(tables: None, postgres_url: str) -> Iterator[PostgresExecutionStore]:
    """A migrated, empty store in a new schema."""
    with PostgresExecutionStore.connect(postgres_url) as store:
        yield store


@pytest.fixture
def cutter(server: PostgresServer, postgres_url: str) -> Iterator[Cutter]:
    """A wire to the server that can be cut."""
    if not isinstance(server, OwnServer):
        pytest.skip("goes through a Unix socket")
    place = Path(server.place) / f"cut-{random.randrange(10**9)}"
    place.mkdir()
    cutter = Cutter(place, postgres_url)
    yield cutter
    cutter.close()


@pytest.fixture
def cut(tables: None, cutter: Cutter) -> Iterator[PostgresExecutionStore]:
    """A migrated store behind the cutter."""
    with PostgresExecutionStore.connect(cutter.url) as store:
        yield store
