"""DBOS: a durable workflow whose every step is a row, in SQLite and in PostgreSQL."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

_SCHEMA = f"dbos_{os.getpid()}"
AT_A_TIME = 8
POLL = 0.02  # seconds between two looks at a queue, as szal's at a file (DBOS's own setting: a second)
_databases: list[str] = []  # a process has one, for all its sizes


@contextmanager
def workflow_of(steps: int, database: str, job: "Job") -> Iterator[Any]:
    """Give a workflow of so many steps."""
    from dbos import DBOS

    url = job.given["postgres"] if database == "postgres" else f"sqlite:///{job.folder / 'dbos.sqlite'}"
    if not _databases:
        _databases.append(url)
        DBOS(
            config={
                "name": "benchmark",
                "system_database_url": url,
                "dbos_system_schema": _SCHEMA,
                "run_admin_server": False,
                "log_level": "CRITICAL",
            }
        )

    @DBOS.step(name=f"one-{job.size}")
    def one() -> dict[str, object]:
        return {"rows": 12, "file": "part-0001.parquet"}

    @DBOS.workflow(name=f"chain-{job.size}")
    def chained() -> int:
        for _ in range(steps):
            one()
        return steps

    DBOS.launch()
    yield chained
    DBOS.destroy()
    if database == "postgres":
        import psycopg

        with psycopg.connect(job.given["postgres"], autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")


def chain(database: str, job: "Job") -> "Iterator[Repetition]":
    """A step's row is committed before the next step begins."""
    with workflow_of(job.size, database, job) as workflow:
        yield workflow


def flows(database: str, callers: int, job: "Job") -> "Iterator[Repetition]":
    """Workflows of three steps, by so many threads."""
    with workflow_of(3, database, job) as workflow, ThreadPoolExecutor(callers) as pool:
        yield lambda: list(pool.map(lambda _: workflow(), range(job.size)))


def tails(database: str, what: str, job: "Job") -> "Iterator[Repetition]":
    """The same, by as many threads as *job* is large."""
    with workflow_of(3, database, job) as workflow:
        yield from job.tails(what, workflow)


@contextmanager
def queue_of(database: str, job: "Job") -> Iterator[tuple[Callable[[], Any], SimpleQueue[float]]]:
    """Give what enqueues a workflow of a step, of which eight are done at a time, and when it was begun."""
    from dbos import DBOS

    began: SimpleQueue[float] = SimpleQueue()

    @DBOS.step(name=f"begins-{job.size}")
    def begins() -> int:
        began.put(time.perf_counter())
        return 1

    @DBOS.workflow(name=f"queued-{job.size}")
    def queued() -> int:
        return begins()

    with workflow_of(1, database, job):
        name = f"queue-{job.size}"
        queue = DBOS.register_queue(name, worker_concurrency=AT_A_TIME, polling_interval_sec=POLL)
        yield lambda: queue.enqueue(queued), began


def queued_flows(database: str, job: "Job") -> "Iterator[Repetition]":
    """All are enqueued; until all have ended."""
    with queue_of(database, job) as (enqueue, _):

        def repetition() -> None:
            for handle in [enqueue() for _ in range(job.size)]:
                handle.get_result(polling_interval_sec=POLL)

        yield repetition


def latency(database: str, job: "Job") -> "Iterator[Repetition]":
    """Each is enqueued once the one before has ended."""
    with queue_of(database, job) as (enqueue, began):

        def repetition() -> float:
            while not began.empty():
                began.get()
            took = 0.0
            for _ in range(job.size):
                enqueued = time.perf_counter()
                handle = enqueue()
                took += began.get(timeout=60) - enqueued
                handle.get_result(polling_interval_sec=POLL)
            return took

        yield repetition


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import dbos")


def _cases(database: str) -> "dict[str, dict[str, Subject]]":
    return {
        f"chain-{database}": {"dbos": partial(chain, database)},
        f"chain-{database}-step": {"dbos": partial(chain, database)},
        f"flows-{database}": {"dbos": partial(flows, database, 1)},
        f"flows-8-{database}": {"dbos": partial(flows, database, 8)},
        f"queue-{database}": {"dbos": partial(queued_flows, database)},
        f"queue-latency-{database}": {"dbos": partial(latency, database)},
        f"callers-{database}": {f"dbos: {what}": partial(tails, database, what) for what in ("p50", "p99", "each")},
    }


CASES: "dict[str, dict[str, Subject]]" = {"import": {"dbos": imported}, **_cases("sqlite"), **_cases("postgres")}
LARGEST = {"chain-sqlite": 1000, "chain-postgres": 1000}
