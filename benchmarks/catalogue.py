"""All cases, with their sizes and targets. Who takes part in a case is in the files of the subjects."""

from math import ceil

from benchmarks.case import Case, Growth, Ideal, Versus

__all__ = ["CASES", "SLEEP", "WORKERS"]

WORKERS = 16
SLEEP = 0.010
POOL = "pool of 16, submit all"
POOL_OF_ONE = "pool of one, submit and wait"


def ideal_makespan(sleeps: int) -> float:
    """Return the least time in which that many sleeps fit on the workers."""
    return ceil(sleeps / WORKERS) * SLEEP


CASES = (
    Case(
        name="chain",
        title="a chain: each step waits for the one before, no limits, no store",
        sizes=(100, 1000, 10_000, 100_000),
        quick=(100, 1000, 10_000, 100_000),
        targets=(
            Versus("loop with results", 3.0),
            Versus("pool of 16, submit and wait", 0.3),
            Versus("graphlib"),
            Growth(1000, 1.25),
        ),
    ),
    Case(
        name="chain-timeouts",
        title="a chain whose steps have a time limit each",
        sizes=(100, 1000, 10_000),
        quick=(1000,),
        targets=(Versus(POOL_OF_ONE, 1.3),),
    ),
    Case(
        name="fan-out",
        title="independent steps on 16 workers",
        sizes=(100, 1000, 10_000),
        quick=(100, 1000, 10_000),
        targets=(Versus(POOL, 0.8, least=1000), Versus("pool of 16, map"), Versus("loop with results")),
    ),
    Case(
        name="layers-2",
        title="layers of 50, each step waits for 2 of the layer before",
        sizes=(1000,),
        quick=(1000,),
        tiny=8,
        targets=(Versus(POOL), Versus("graphlib")),
    ),
    Case(
        name="layers-50",
        title="layers of 50, each step waits for all of the layer before",
        sizes=(1000,),
        quick=(1000,),
        tiny=8,
        targets=(Versus(POOL, 1.0, least=1000), Versus("graphlib")),
    ),
    Case(
        name="sleeps",
        title="independent sleeps of 10 ms on 16 workers",
        sizes=(200,),
        quick=(200,),
        targets=(Ideal(ideal_makespan, 1.06), Versus(POOL)),
        against_peers=1.0,
        against_threads=1.0,
    ),
    Case(
        name="flows",
        title="flows of 3 steps, one after another",
        sizes=(500,),
        quick=(500,),
        unit="flow",
        targets=(Versus("loop with results"),),
    ),
    Case(
        name="flows-8",
        title="flows of 3 steps, from 8 threads",
        sizes=(500,),
        quick=(500,),
        unit="flow",
        targets=(Versus("loop with results"),),
    ),
    Case(
        name="retry",
        title="a chain with a retry policy that never fires",
        sizes=(1000, 10_000),
        quick=(10_000,),
        targets=(Versus("szal, no policy", 1.05), Versus("tenacity around each call")),
    ),
    Case(
        name="events",
        title="a chain with two events a step and one listener",
        sizes=(1000, 10_000),
        quick=(1000, 10_000),
        targets=(Versus("szal, no listener", 1.4),),
    ),
    Case(
        name="plan",
        title="validate and plan a DAG of three edges a step",
        sizes=(1000, 10_000, 100_000),
        quick=(1000, 100_000),
        targets=(Versus("graphlib, order only"), Growth(1000, 1.25)),
    ),
    Case(
        name="condition",
        title="a compiled condition on two steps, evaluated",
        sizes=(10_000,),
        quick=(10_000,),
        unit="evaluation",
        targets=(Versus("Python function"),),
    ),
    Case(
        name="template",
        title="a compiled template of three placeholders, rendered",
        sizes=(10_000,),
        quick=(10_000,),
        unit="rendering",
        targets=(Versus("str.format"),),
    ),
    Case(
        name="encode",
        title="a record of that many steps to JSON",
        sizes=(1000, 10_000),
        quick=(1000,),
        targets=(Versus("json.dumps of ready dicts"),),
    ),
    Case(
        name="decode",
        title="the same record from JSON",
        sizes=(1000, 10_000),
        quick=(1000,),
        targets=(Versus("json.loads"),),
    ),
    Case(
        name="chain-sqlite",
        title="a chain recorded in SQLite, synchronous=FULL, committed when the run returns",
        sizes=(100, 1000, 10_000),
        quick=(100, 1000, 10_000),
        targets=(Versus("no store, JSON, executemany", 2.0, least=10_000), Versus("sqlite3, a transaction a step")),
    ),
    Case(
        name="saves",
        title="records saved through the sink, then flush; SQLite, synchronous=FULL",
        sizes=(1000, 10_000),
        quick=(10_000,),
        unit="save",
        targets=(
            Versus("executemany by 100, same table", 2.5),
            Versus("executemany by 100, no indexes"),
            Versus("a transaction each, same table"),
        ),
    ),
    Case(
        name="chain-postgres",
        title="a chain recorded in PostgreSQL, committed when the run returns",
        sizes=(100, 1000, 10_000),
        quick=(100, 1000),
        targets=(Versus("no store, JSON, unnest", 2.0, least=10_000),),
    ),
    Case(
        name="saves-postgres",
        title="records saved through the sink, then flush; PostgreSQL",
        sizes=(1000, 10_000),
        quick=(1000,),
        unit="save",
        targets=(
            Versus("executemany by 100, same table", 2.5),
            Versus("a transaction each, same table"),
        ),
    ),
    Case(
        name="find",
        title="the first 100 executions of a flow in a state, in a table of so many rows",
        sizes=(1000, 1_000_000),
        quick=(1000, 100_000),
        tiny=50,
        unit="page",
        whole=True,
        targets=(Versus("sqlite3, real columns"),),
    ),
    Case(
        name="memory",
        title="peak memory of a chain's run",
        sizes=(1000, 10_000),
        quick=(1000,),
        kind="bytes",
        targets=(Versus("loop with results"),),
    ),
    Case(
        name="import",
        title="import in a new interpreter",
        sizes=(1,),
        quick=(1,),
        tiny=1,
        unit="import",
        whole=True,
        targets=(Versus("tenacity and attrs", 2.0),),
        against_peers=None,
    ),
)
