"""Fixtures of the tests of szal.testing."""

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind is, which is empty."""
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres_url")
        return found
    return {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/szal.db"}[request.param]
