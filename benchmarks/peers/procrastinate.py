"""procrastinate: a queue of tasks in PostgreSQL, with a worker on a thread of this process, which is asyncio inside."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

AT_A_TIME = 8
LONG = 3600.0  # seconds: it is stopped while others are measured, and is not to be taken for dead
POLL = 0.02  # seconds between two looks where no notification comes, as for other peers (its own setting: 5)


@contextmanager
def worker_of(job: "Job") -> Iterator[tuple[Any, SimpleQueue[float]]]:
    """Give a task that a worker does, and when it was begun."""
    import psycopg
    from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

    url, schema = job.given["postgres"], f"procrastinate_{job.size}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    place = f"{url}{'&' if '?' in url else '?'}options={quote(f'-c search_path={schema}')}"
    began: SimpleQueue[float] = SimpleQueue()
    app = App(connector=PsycopgConnector(conninfo=place))

    @app.task(name="one")
    def one() -> None:
        began.put(time.perf_counter())

    with app.with_connector(SyncPsycopgConnector(conninfo=place)).open() as sync:
        sync.schema_manager.apply_schema()

    def work() -> None:
        app.run_worker(
            concurrency=AT_A_TIME,
            fetch_job_polling_interval=POLL,
            stalled_worker_timeout=LONG,
            install_signal_handlers=False,
        )

    threading.Thread(target=work, daemon=True).start()
    with app.with_connector(SyncPsycopgConnector(conninfo=place)).open() as sync:
        yield sync.tasks["one"], began


def flows(job: "Job") -> "Iterator[Repetition]":
    """All are deferred while the worker runs; until the last has begun."""
    with worker_of(job) as (task, began):

        def repetition() -> None:
            for _ in range(job.size):
                task.defer()
            for _ in range(job.size):
                began.get(timeout=60)

        yield repetition


def latency(job: "Job") -> "Iterator[Repetition]":
    """Each is deferred once the one before has been done."""
    with worker_of(job) as (task, began):

        def repetition() -> float:
            took = 0.0
            for _ in range(job.size):
                deferred = time.perf_counter()
                task.defer()
                took += began.get(timeout=60) - deferred
                time.sleep(0.005)  # the one before is over then
            return took

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    "queue-postgres": {"procrastinate": flows},
    "queue-latency-postgres": {"procrastinate": latency},
}
