"""What the fixtures do that szal gives pytest; they are in `szal_pytest`, for pytest not to load szal by itself."""

from contextlib import ExitStack
from typing import Any

from szal.model.flow import FlowDef
from szal.steps.resolving import Authored
from szal.stores.base import ExecutionStore
from szal.testing.clock import FakeClock
from szal.testing.under_test import EngineUnderTest, engine

__all__ = ["Engines"]


class Engines:
    """Makes the engines of one test: on one *store*, with one clock, and closed with this."""

    def __init__(self, store: ExecutionStore) -> None:
        self._store = store
        self._clock = FakeClock()
        self._opened = ExitStack()

    def __call__(self, *flows: FlowDef | Authored, **options: Any) -> EngineUnderTest:
        """Return an engine, as `szal.testing.engine` does, which has the *options*."""
        return self._opened.enter_context(engine(*flows, **{"store": self._store, "clock": self._clock, **options}))

    def close(self) -> None:
        """Close them all, the last one first."""
        self._opened.close()
