"""Databases through their drivers alone: rows that are ready, and reading them back."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count, islice
from queue import Queue, SimpleQueue
from typing import TYPE_CHECKING

from benchmarks.floors.drivers import BATCH, DATABASES, INSERT, Database, Driver, Row

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

PLAIN = "CREATE TABLE executions (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
SAVE = (
    "INSERT INTO executions VALUES (?, ?, ?)"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)
OUTPUT = {"rows": 12, "file": "part-0001.parquet"}


def row(execution_id: str, number: int) -> Row:
    """Return what has to be known of a step that is done; its output is made JSON here."""
    return execution_id, number, f"step {number}", "Completed", 1, 1781049600.123456, 0.25, None, json.dumps(OUTPUT)


def one_by_one(database: Database, job: "Job") -> "Iterator[Repetition]":
    """Make a step's output JSON, insert it, commit; then the next."""
    names = map("e{}".format, count())
    with database.place(job) as place, database.connect(place) as driver:
        driver.make_steps()

        def repetition() -> None:
            name = next(names)
            for number in range(job.size):
                driver.one(INSERT, row(name, number))

        yield repetition


def behind_a_queue(database: Database, job: "Job") -> "Iterator[Repetition]":
    """The same by a thread that does all the writing: a row is handed over, and its commit waited for."""
    names = map("e{}".format, count())
    rows: Queue[Row | None] = Queue()
    committed: SimpleQueue[None] = SimpleQueue()

    def write() -> None:
        with database.connect(place) as driver:
            while (given := rows.get()) is not None:
                driver.one(INSERT, given)
                committed.put(None)

    def repetition() -> None:
        name = next(names)
        for number in range(job.size):
            rows.put(row(name, number))
            committed.get()

    with database.place(job) as place:
        with database.connect(place) as driver:
            driver.make_steps()
        with ThreadPoolExecutor(1) as writer:
            writer.submit(write)
            try:
                yield repetition
            finally:
                rows.put(None)


def by_100(database: Database, job: "Job") -> "Iterator[Repetition]":
    """The same, a hundred in a transaction."""
    names = map("e{}".format, count())
    with database.place(job) as place, database.connect(place) as driver:
        driver.make_steps()

        def repetition() -> None:
            name = next(names)
            for start in range(0, job.size, 100):
                numbers = range(start, min(start + 100, job.size))
                driver.many(INSERT, [row(name, number) for number in numbers])

        yield repetition


def flows(database: Database, job: "Job") -> "Iterator[Repetition]":
    """Make the outputs of three steps JSON, insert them, commit; then the next flow."""
    names = map("e{}".format, count())
    with database.place(job) as place, database.connect(place) as driver:
        driver.make_steps()

        def repetition() -> None:
            for name in islice(names, job.size):
                driver.many(INSERT, [row(name, number) for number in range(3)])

        yield repetition


def tails(database: Database, what: str, job: "Job") -> "Iterator[Repetition]":
    """The same by as many threads as *job* is large, which share ten connections at most; see `Job.tails`."""
    names, idle = map("e{}".format, count()), SimpleQueue[Driver]()
    with database.place(job) as place, ExitStack() as connections:
        for _ in range(min(10, job.size)):
            idle.put(connections.enter_context(database.connect(place)))
        driver = idle.get()
        driver.make_steps()
        idle.put(driver)

        def call() -> None:
            name, driver = next(names), idle.get()
            driver.many(INSERT, [row(name, number) for number in range(3)])
            idle.put(driver)

        yield from job.tails(what, call)


def written(database: Database, job: "Job") -> "Iterator[Repetition]":
    """The bytes that ready rows cost, a thousand in a transaction."""
    rows = [row("e1", number) for number in range(job.size)]

    def repetition() -> float:
        with database.place(job) as place, database.connect(place) as driver:
            driver.make_steps()
            before = driver.written()
            for start in range(0, len(rows), BATCH):
                driver.many(INSERT, rows[start : start + BATCH])
            return float(driver.written() - before)

    yield repetition


def read_back(database: Database, job: "Job") -> "Iterator[Repetition]":
    """The rows of all steps, and what their JSON says."""
    with database.place(job) as place, database.connect(place) as driver:
        driver.make_steps()
        driver.many(INSERT, [row("e1", number) for number in range(job.size)])

        def repetition() -> None:
            rows = driver.rows("SELECT * FROM bench_steps WHERE execution_id = 'e1' ORDER BY place")
            if len([json.loads(output) for *_, output in rows]) != job.size:
                raise RuntimeError("rows are missing")

        yield repetition


def saves(database: Database, job: "Job") -> "Iterator[Repetition]":
    """Ready rows into a table that has no index but its key, a thousand in a transaction."""
    times = {"started_at": "2026-01-01T00:00:00+00:00", "duration_ms": 250}
    step = {"step_id": f"{1:032x}", "step_name": "step 1", "status": "Completed", "output": OUTPUT, "attempts": 1}
    result = {"flow_name": "flow 1", "steps": [{**step, **times, "error": None}] * 2, "success": True}
    data = json.dumps({"execution_id": "e", "flow_name": "flow 1", "state": "Completed", "result": result, **times})
    rows = [(f"{number:032x}", f"flow {number % 10}", data) for number in range(job.size)]

    def repetition() -> float:
        with database.place(job) as place, database.connect(place) as driver:
            driver.one(PLAIN, ())
            began = time.perf_counter()
            for start in range(0, len(rows), BATCH):
                driver.many(SAVE, rows[start : start + BATCH])
            return time.perf_counter() - began

    yield repetition


def find(job: "Job") -> "Iterator[Repetition]":
    """A page by an index of real columns, newest first."""
    database = DATABASES["sqlite"]
    with database.place(job) as place, database.connect(place) as driver:
        columns = "execution_id TEXT PRIMARY KEY, flow_name TEXT, state TEXT, started TEXT, data TEXT"
        driver.one(f"CREATE TABLE executions ({columns})", ())
        driver.one("CREATE INDEX by_start ON executions (flow_name, state, started, execution_id)", ())
        for start in range(0, job.size, 100_000):
            rows = [
                (f"{number:032x}", f"flow {number % 10}", state(number), f"{number:012}", "x" * 400)
                for number in range(start, min(start + 100_000, job.size))
            ]
            driver.many("INSERT INTO executions VALUES (?, ?, ?, ?, ?)", rows)
        page = (
            "SELECT execution_id, flow_name, state, started, data FROM executions"
            " WHERE flow_name = 'flow 8' AND state = 'Failed' ORDER BY started DESC, execution_id DESC LIMIT 100"
        )
        yield lambda: driver.rows(page)


def state(number: int) -> str:
    """Return how an execution of the case `find` has ended."""
    return "Failed" if number % 20 >= 18 else "Completed"


def _cases(name: str, database: Database) -> "dict[str, dict[str, Subject]]":
    return {
        f"chain-{name}": {"driver, 100 in a transaction": partial(by_100, database)},
        f"chain-{name}-step": {
            "driver, a transaction each": partial(one_by_one, database),
            "driver on a thread of its own": partial(behind_a_queue, database),
            "driver, 100 in a transaction": partial(by_100, database),
        },
        f"flows-{name}": {"driver, a transaction each": partial(flows, database)},
        f"callers-{name}": {f"driver: {what}": partial(tails, database, what) for what in ("p50", "p99", "each")},
        f"written-{name}": {"ready rows": partial(written, database)},
        f"resume-{name}": {"read, json.loads": partial(read_back, database)},
        f"saves-{name}": {"executemany by 1000, no indexes": partial(saves, database)},
    }


CASES: "dict[str, dict[str, Subject]]" = {
    "find": {"sqlite3, real columns": find},
    **{case: subjects for name, database in DATABASES.items() for case, subjects in _cases(name, database).items()},
}
