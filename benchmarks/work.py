"""What steps do that may be called in another process: found by import there, so this is no subject's file."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

__all__ = ["CORES", "compute", "importable", "one", "process_pool"]

CORES = os.cpu_count() or 1
_ROOT = str(Path(__file__).parents[1])
TURNS = 400_000  # some 20 ms


def one(_: object) -> int:
    """Do the work of a step that does nothing."""
    return 1


def compute(_: object) -> int:
    """Do the work of a step that computes, and holds Python's lock meanwhile."""
    total = 0
    for number in range(TURNS):
        total += number & 7
    return total


@contextmanager
def importable() -> Iterator[None]:
    """Have processes that are begun meanwhile find this module."""
    sys.path.append(_ROOT)
    try:
        yield
    finally:
        sys.path.remove(_ROOT)


@contextmanager
def process_pool() -> Iterator[ProcessPoolExecutor]:
    """Give a pool with a process for each core."""
    with importable(), ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        yield pool
