"""A queue in a database, by its driver alone: what is put is committed, taken by one, committed, ended, committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.floors.drivers import DATABASES, Database, Driver

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

_PUT = "INSERT INTO bench_queue VALUES (?, 'put', 0)"
_TAKE = "UPDATE bench_queue SET state = 'taken', due = 60 WHERE name = ?"
_END = "UPDATE bench_queue SET state = 'ended' WHERE name = ?"


@contextmanager
def queue_in(database: Database, job: "Job") -> Iterator[Driver]:
    """Give a connection to a database with the table."""
    with database.place(job) as place, database.connect(place) as driver:
        driver.many("CREATE TABLE bench_queue (name text PRIMARY KEY, state text, due double precision)", [()])
        yield driver


def transactions(statements: tuple[str, ...], database: Database, job: "Job") -> "Iterator[Repetition]":
    """So many transactions for each, on one connection, whoever would make them."""
    names = map("e{}".format, count())
    with queue_in(database, job) as driver:

        def repetition() -> None:
            for _ in range(job.size):
                row = (next(names),)
                for statement in statements:
                    driver.one(statement, row)

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    f"{case}-{name}": {label: partial(transactions, statements, database)}
    for name, database in DATABASES.items()
    for case, label, statements in (
        ("queue", "driver, three transactions each", (_PUT, _TAKE, _END)),
        ("queue-latency", "driver, two transactions each", (_PUT, _TAKE)),
    )
}
