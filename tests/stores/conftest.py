"""Fixtures of the stores' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from szal.stores import PostgresExecutionStore, SqliteExecutionStore, Store, open_store

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a database."""
    return tmp_path / "szal.db"


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
