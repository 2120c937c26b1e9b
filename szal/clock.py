"""The clocks that szal goes by: always the real ones.

A program's tests may stop the clocks of the standard library (freezegun does). What szal waits for would never come
due then, and what a database dates by its own clock would not fit the rest. So these are functions of a `time` module
of szal's own, in which nobody replaces anything, whether szal is imported before the clocks are stopped or after. No
other module of szal reads a clock. They sleep by `time.sleep` all the same, which is cooperative under gevent.
"""

import importlib.util
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Final

__all__ = ["monotonic", "utc_now", "wall", "wall_ns"]


def _own_time() -> ModuleType:
    spec = importlib.util.find_spec(time.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_time: Final = _own_time()

monotonic: Final[Callable[[], float]] = _time.monotonic
"""Seconds from some point on: for durations and deadlines."""
wall: Final[Callable[[], float]] = _time.time
"""Unix time, which may be set back."""
wall_ns: Final[Callable[[], int]] = _time.time_ns
"""The same in nanoseconds."""


def utc_now() -> datetime:
    """Return the time, as an aware datetime.

    >>> utc_now().tzinfo is UTC
    True
    """
    return datetime.fromtimestamp(wall(), UTC)
