"""Fixtures of the stores' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from szal.stores import PostgresExecutionStore, SqliteExecutionStore, Store, open_store

BACKENDS = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A migrated, empty store of each kind."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/szal.db"}[request.param]
    with open_store(url) as store:
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
