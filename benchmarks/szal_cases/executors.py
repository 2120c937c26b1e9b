"""Attempts on the engine's own threads and on executors: what one costs, and what several cores are worth."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.szal_cases.durable import succeeded
from benchmarks.szal_cases.flows import independent
from benchmarks.work import CORES, compute, importable, one, process_pool
from szal import Engine, EngineConfig

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

Settings: TypeAlias = Callable[[], AbstractContextManager[dict[str, Any]]]
"""Gives settings of `EngineConfig`, for as long as what they need is there."""


@contextmanager
def own_threads() -> Iterator[dict[str, Any]]:
    """Have the engine's own workers do it."""
    yield {}


@contextmanager
def thread_pool() -> Iterator[dict[str, Any]]:
    """Have a pool of threads do it, one for each core."""
    with ThreadPoolExecutor(CORES) as pool:
        yield {"executor": pool}


@contextmanager
def processes() -> Iterator[dict[str, Any]]:
    """Have a pool of processes do it, one for each core."""
    with process_pool() as pool:
        yield {"executor": pool}


@contextmanager
def isolated() -> Iterator[dict[str, Any]]:
    """Have child processes of the engine's do it, one for each core. They are kept while others are measured."""
    with importable():
        yield {"isolation": "process", "max_concurrency": CORES, "idle_timeout": 3600.0}


@contextmanager
def dask() -> Iterator[dict[str, Any]]:
    """Have a dask cluster of this machine do it, with a process for each core."""
    from distributed import Client, LocalCluster

    from szal.contrib.dask import DaskExecutor

    options = {"n_workers": CORES, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        importable(),
        TemporaryDirectory(prefix="szal-bench-") as folder,
        LocalCluster(local_directory=folder, silence_logs=logging.ERROR, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield {"executor": DaskExecutor(client)}


EXECUTORS: dict[str, Settings] = {
    "szal": own_threads,
    "szal, ThreadPoolExecutor": thread_pool,
    "szal, ProcessPoolExecutor": processes,
    'szal, isolation="process"': isolated,
    "szal, dask": dask,
}
"""Another one is a line here."""


def attempts(settings: Settings, does: Callable[[object], int], job: "Job") -> "Iterator[Repetition]":
    """Yield a run of independent steps, of which twice as many are under way as there are cores, or as is said."""
    flow = independent(job.size)
    with settings() as given, Engine(does, EngineConfig(**{"max_concurrency": 2 * CORES, **given})) as engine:
        yield lambda: succeeded(engine.run(flow))


CASES: "dict[str, dict[str, Subject]]" = {
    case: {label: partial(attempts, settings, does) for label, settings in EXECUTORS.items()}
    for case, does in (("attempts", one), ("computing", compute))
}
