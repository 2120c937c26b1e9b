"""Tests of flows: without a database, without waiting, and with nothing done that must not be.

`run_flow` runs one; `engine` is an engine whose clock a test moves; `crash_after` has a run crash. The contract of
stores is ``szal.testing.store_contract``, which needs pytest; the fixtures for pytest are in ``szal_pytest``.
"""

from szal.testing.clock import FakeClock
from szal.testing.crash import Crash, Crashed, crash_after
from szal.testing.running import run_flow
from szal.testing.under_test import EngineUnderTest, engine

__all__ = ["Crash", "Crashed", "EngineUnderTest", "FakeClock", "crash_after", "engine", "run_flow"]
