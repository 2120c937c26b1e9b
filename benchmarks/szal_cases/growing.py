"""What a store costs with so many executions in it: its rows in bytes, its methods in time."""

# Every part of a statement is a constant.
# ruff: noqa: S608

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.floors.drivers import DATABASES, Driver
from benchmarks.szal_cases.copies import LABELS, copied, copy_old, customer_of, flow_of
from benchmarks.szal_cases.durable import Store, engine_at, store_at, succeeded
from szal.stores.sink.sink import Sink

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

MANY = 100  # calls in a repetition, of ids that are drawn anew
PRUNED = 100
YEARS = 20 * 365 * 86400.0
TABLES = ("szal_executions", "szal_steps", "szal_leases", "szal_flows", "szal_signals")
OF_ONE = {"sqlite": ("szal_labels",), "postgres": ()}


# -- time -------------------------------------------------------------------------------------------


def asked(name: str, ask: Callable[[Store, int], object], job: "Job") -> "Iterator[Repetition]":
    """Ask a store, which has to find something, about an execution of which the number is drawn."""
    draw = random.Random(job.size)
    with store_at(copied(name, job)) as store:

        def repetition() -> None:
            if not ask(store, draw.randrange(job.size)):
                raise RuntimeError("nothing found")

        yield repetition


def got(name: str, job: "Job") -> "Iterator[Repetition]":
    """Get records by their ids, which are drawn."""
    place = copied(name, job)
    with store_at(place) as store, DATABASES[name].connect(place) as driver:
        ids = _some_ids(driver, job.size)
        draw = random.Random(job.size)

        def repetition() -> float:
            drawn = draw.choices(ids, k=MANY)
            began = time.perf_counter()
            for execution_id in drawn:
                if store.get(execution_id) is None:
                    raise RuntimeError("not found")
            return (time.perf_counter() - began) / MANY

        yield repetition


def _some_ids(driver: Driver, size: int) -> list[str]:
    """Return ids from all over the table: random ones are what comes next to a random prefix."""
    after = "SELECT execution_id FROM szal_executions WHERE execution_id >= '{:03x}' ORDER BY execution_id LIMIT 1"
    found = [driver.rows(after.format(prefix)) for prefix in range(0, 4096, 4096 // min(size, 1024))]
    return [rows[0][0] for rows in found if rows]


def recorded(name: str, job: "Job") -> "Iterator[Repetition]":
    """A run of three steps, until it returns; it is removed again."""
    with engine_at(copied(name, job)) as engine:
        flow, sink = flow_of(0), engine.config.execution_store
        assert isinstance(sink, Sink)
        succeeded(engine.run(flow, labels=LABELS))  # it stays, and so does its definition

        def repetition() -> float:
            began = time.perf_counter()
            result = succeeded(engine.run(flow, labels=LABELS))
            took = time.perf_counter() - began
            assert result.execution_id is not None
            sink.remove(result.execution_id)
            sink.flush()
            return took

        yield repetition


def interrupted(name: str, job: "Job") -> "Iterator[Repetition]":
    """What recovery asks again and again: which executions nobody runs that could go on. There are none."""
    with engine_at(copied(name, job)) as engine:
        yield engine.interrupted


def pruned(name: str, job: "Job") -> "Iterator[Repetition]":
    """Delete the hundred that are old enough, which are put there before: for each."""
    place = copied(name, job)
    with store_at(place) as store, DATABASES[name].connect(place) as driver:

        def repetition() -> float:
            copy_old(driver, PRUNED)
            began = time.perf_counter()
            gone = store.prune(older_than=YEARS)
            took = time.perf_counter() - began
            if not gone:
                raise RuntimeError("nothing was pruned")
            return took / gone

        yield repetition


# -- bytes ------------------------------------------------------------------------------------------


def row(name: str, tables: tuple[str, ...], job: "Job") -> "Iterator[Repetition]":
    """What a row of *tables* takes with its indexes; of all of them: what an execution does."""
    place = copied(name, job)
    with DATABASES[name].connect(place) as driver:
        size_of = _in_sqlite if name == "sqlite" else _in_postgres
        ((rows,),) = driver.rows(f"SELECT count(*) FROM {tables[0] if len(tables) == 1 else TABLES[0]}")
        taken = sum(size_of(driver, table) for table in tables) / rows
        yield lambda: taken


def _in_sqlite(driver: Driver, table: str) -> int:
    names = driver.rows(f"SELECT name FROM sqlite_schema WHERE tbl_name = '{table}' AND type IN ('table', 'index')")
    pages = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE aggregate = TRUE AND name = '{}'"
    return sum(int(driver.rows(pages.format(name))[0][0]) for (name,) in names)


def _in_postgres(driver: Driver, table: str) -> int:
    return int(driver.rows(f"SELECT pg_total_relation_size('{table}')")[0][0])


def _cases(name: str) -> "dict[str, dict[str, Subject]]":
    tables = (*TABLES, *OF_ONE[name])
    return {
        f"growing-{name}": {
            "szal: run of 3 steps": partial(recorded, name),
            "szal: get": partial(got, name),
            "szal: find, the newest 20": partial(asked, name, lambda store, _: store.find(limit=20)),
            "szal: find, the newest 20 of a flow": partial(
                asked, name, lambda store, _: store.find(flow_name="flow 3", limit=20)
            ),
            "szal: find, a label that 20 have": partial(
                asked, name, lambda store, number: store.find(labels={"customer": customer_of(number)}, limit=20)
            ),
            "szal: find, the newest 20 with a label that all have": partial(
                asked, name, lambda store, _: store.find(labels={"place": LABELS["place"]}, limit=20)
            ),
            "szal: interrupted": partial(interrupted, name),
            "szal: prune, each of 100": partial(pruned, name),
            "szal: count": partial(asked, name, lambda store, _: store.count()),
        },
        f"rows-{name}": {
            **{f"szal: {table}": partial(row, name, (table,)) for table in tables},
            "szal: an execution of 3 steps": partial(row, name, tables),
        },
    }


CASES: "dict[str, dict[str, Subject]]" = {
    case: subjects for name in DATABASES for case, subjects in _cases(name).items()
}
