"""Fixtures that several folders of tests share: a PostgreSQL server."""

from collections.abc import Iterator

import pytest
from stores.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = postgres_server()
    yield server
    server.close()


@pytest.fixture
def schema(server: PostgresServer) -> Iterator[str]:
    """A new schema."""
    name = server.new_schema()
    yield name
    server.drop_schema(name)


@pytest.fixture
def postgres_url(server: PostgresServer, schema: str) -> str:
    """Where a new schema is the first of the search path."""
    return server.url_of(schema)
