"""What steps do that may be called in another process: found by import there, so this is no subject's file."""

import os
import site
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

__all__ = ["CORES", "compute", "one", "process_pool"]

CORES = os.cpu_count() or 1
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


def process_pool() -> ProcessPoolExecutor:
    """Return a pool with a process for each core, which finds this module."""
    root = str(Path(__file__).parents[1])
    return ProcessPoolExecutor(CORES, get_context("spawn"), site.addsitedir, (root,))
