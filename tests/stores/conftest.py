"""Fixtures of the stores' tests."""

import random
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
def backend_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind is, which is empty."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/szal.db"}[request.param]


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
def sqlite(path: Path) -> Iterator[SqliteExecutionStore]:
    """A migrated, empty store in a file."""
    with SqliteExecutionStore.connect(path) as store:
        store.migrate()
        yield store


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[PostgresExecutionStore]:
    """A migrated, empty store in a new schema."""
    with PostgresExecutionStore.connect(postgres_url) as store:
        store.migrate()
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
def cut(cutter: Cutter) -> Iterator[PostgresExecutionStore]:
    """A migrated store behind the cutter."""
    with PostgresExecutionStore.connect(cutter.url) as store:
        store.migrate()
        yield store
