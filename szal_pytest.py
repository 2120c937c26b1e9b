"""What szal gives pytest: the fixtures `szal_engine` and `szal_store`.

pytest loads this wherever szal is installed. So nothing of szal is imported before a test asks for one of them.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from szal.stores import Store
    from szal.testing.plugin import Engines


@pytest.fixture
def szal_store() -> "Iterator[Store]":
    """An empty store in memory. A fixture of that name in a conftest.py takes its place for `szal_engine`, too."""
    from szal.stores import open_store

    with open_store("memory:") as store:
        yield store


@pytest.fixture
def szal_engine(szal_store: "Store") -> "Iterator[Engines]":
    """Make an engine that is closed with the test: ``szal_engine(order, fakes={"charge": "c1"})``.

    It takes what `szal.testing.engine` takes. All of one test have its `szal_store`, and one clock.
    """
    from szal.testing.plugin import Engines

    with closing(Engines(szal_store)) as engines:
        yield engines
