"""Attempts on a dask cluster: what there is between `EngineConfig.executor` and `dask.distributed`.

dask calls a function again, on another worker, where one was lost: up to four times, and tells nobody. An attempt is
one call. So whoever is about to make it claims it first, at the scheduler, which gives that away once.
"""

from szal.extra import optional

with optional("distributed", extra="dask", feature="an executor of dask"):
    import distributed  # noqa: F401 (what is below needs it)

from szal.contrib.dask.claims import KilledWorker
from szal.contrib.dask.executor import DaskExecutor, adapted

__all__ = ["DaskExecutor", "KilledWorker", "adapted"]
