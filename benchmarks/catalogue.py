"""All cases, with their sizes and targets. Who takes part in a case is in the files of the subjects."""

from collections.abc import Iterator
from functools import partial
from math import ceil

from benchmarks.case import Case, Growth, Ideal, Versus, VersusBest
from benchmarks.floors.drivers import DATABASES
from benchmarks.trace import Trace
from benchmarks.work import CORES

__all__ = ["CASES", "SLEEP", "WORKERS", "trace_case"]

WORKERS = 16
SLEEP = 0.010
POOL = "pool of 16, submit all"
EACH = "driver, a transaction each"
FLAT = (
    "run of 3 steps",
    "get",
    "find, the newest 20",
    "find, the newest 20 of a flow",
    "find, a label that 20 have",
    "find, the newest 20 with a label that all have",
    "interrupted",
    "prune, each of 100",
)
"""What costs the same however much there is: `count` goes over all."""
POOL_OF_ONE = "pool of one, submit and wait"
PROCESSES, ISOLATED = "szal, ProcessPoolExecutor", 'szal, isolation="process"'


def ideal_makespan(sleeps: int) -> float:
    """Return the least time in which that many sleeps fit on the workers."""
    return ceil(sleeps / WORKERS) * SLEEP


def _durable_cases(database: str, title: str) -> Iterator[Case]:
    """Yield the cases that are the same for each database."""
    needs = "postgres" if database == "postgres" else None
    ways = tuple(f"no store, JSON, {way}" for way in DATABASES[database].batches)
    yield Case(
        name=f"chain-{database}",
        title=f"a chain recorded in {title}, committed when the run returns",
        sizes=(100, 1000, 10_000, 100_000),
        quick=(100, 1000, 10_000),
        needs=needs,
        targets=(
            VersusBest(ways, 2.0, least=10_000),
            Versus("driver, 100 in a transaction"),
            Versus("szal", subject='szal, "none"'),
            Growth(100, 1.25),
            Growth(1000, 1.25),
        ),
    )
    is_sqlite = database == "sqlite"
    yield Case(
        name=f"chain-{database}-step",
        title=f"a chain recorded in {title}, each step committed before the next",
        sizes=(100, 1000),
        quick=(100, 1000) if is_sqlite else (100,),
        needs=needs,
        targets=(
            Versus(EACH, 2.0 if is_sqlite else 1.5),
            Versus("driver on a thread of its own"),
            Versus("driver, 100 in a transaction"),
            *((Versus("dura", 0.9, least=1000),) if is_sqlite else ()),
        ),
        bound=EACH,
    )
    yield Case(
        name=f"chains-{database}-step",
        title=f"16 chains at once recorded in {title}, each step committed before the next",
        sizes=(1600,),
        quick=(800,),
        tiny=16,
        needs=needs,
        targets=(Versus("szal, one chain", 0.4),),
    )
    yield Case(
        name=f"fan-out-{database}",
        title=f"independent steps on 16 workers recorded in {title}",
        sizes=(100, 1000, 10_000),
        quick=(1000,),
        needs=needs,
        targets=(
            VersusBest(ways, 2.0, least=10_000),
            Versus("szal", subject='szal, "none"'),
            Versus("szal", subject='szal, "step"'),
        ),
    )
    yield Case(
        name=f"items-{database}",
        title=f"a step that runs over a list, on 16 workers, recorded in {title}",
        sizes=(1000, 10_000),
        quick=(10_000,),
        needs=needs,
        targets=(Versus("szal, as many steps", 1.0, least=10_000),),
    )
    for name, what, sizes, unit in (
        ("chain-timeouts", "a chain whose steps have a time limit each", (1000,), "step"),
        ("retry", "a chain with a retry policy that never fires", (1000,), "step"),
        ("layers-2", "layers of 50, each step waits for 2 of the layer before", (1000,), "step"),
        ("layers-50", "layers of 50, each step waits for all of the layer before", (1000,), "step"),
        ("sleeps", "independent sleeps of 10 ms on 16 workers", (200,), "step"),
        ("flows", "flows of 3 steps, one after another", (500,), "flow"),
        ("flows-8", "flows of 3 steps, from 8 threads", (500,), "flow"),
    ):
        yield Case(
            name=f"{name}-{database}",
            title=f"{what}, recorded in {title}",
            sizes=sizes,
            quick=tuple(size // 5 for size in sizes) if unit == "flow" else sizes,
            unit=unit,
            needs=needs,
            targets=(
                *((Ideal(ideal_makespan),) if name == "sleeps" else ()),
                Versus("szal", 0.25 if name == "flows" else None, subject='szal, "none"'),
                Versus("szal", subject='szal, "step"'),
                *((Versus(EACH, 2.0 if is_sqlite else 1.6),) if name == "flows" else ()),
                *((Versus("dura", 0.7, 'szal, "step"'),) if name == "flows" and is_sqlite else ()),
                *((Versus("szal, one thread", 1 / 3),) if name == "flows-8" else ()),
            ),
            bound=EACH if name == "flows" else None,
            against_peers=1.0 if name == "sleeps" else 0.1,
        )
    yield Case(
        name=f"written-{database}",
        title=f"bytes that a chain writes to {title}",
        sizes=(100, 1000, 10_000),
        quick=(100, 1000, 10_000),
        tiny=100,
        kind="bytes",
        needs=needs,
        targets=(
            Versus("ready rows"),
            *(Growth(base, 1.25, subject) for subject in ("szal", "szal, kept") for base in (100, 1000)),
        ),
    )
    yield Case(
        name=f"callers-{database}",
        title=f"flows of 3 steps by so many threads at once, recorded in {title}",
        sizes=(1, 8, 64),
        quick=(1, 8, 64),
        tiny=2,
        unit="flow",
        whole=True,
        fixed=True,
        needs=needs,
    )
    yield Case(
        name=f"resume-last-{database}",
        title=f"an execution in {title} whose process died before the last of so many committed steps, taken up",
        sizes=(1000,),
        quick=(1000,),
        unit="resume",
        whole=True,
        needs=needs,
        targets=(Versus("dura", 0.5),) if is_sqlite else (),
        against_peers=None,
    )
    yield Case(
        name=f"resume-{database}",
        title=f"an execution in {title} that waits after so many steps, taken up and let go again",
        sizes=(100, 1000, 10_000),
        quick=(1000, 10_000),
        needs=needs,
        targets=(Versus("read, json.loads", 5.0, least=10_000), Growth(1000, 1.25)),
    )
    yield Case(
        name=f"saves-{database}",
        title=f"records saved through the sink, then flush; {title}",
        sizes=(1000, 10_000),
        quick=(1000,),
        unit="save",
        needs=needs,
        targets=(
            Versus("executemany by 1000, same table", 2.5),
            Versus("executemany by 1000, no indexes"),
            Versus("a transaction each, same table"),
        ),
    )


def _growing_cases(database: str, title: str) -> Iterator[Case]:
    """Yield the cases of a store that has many executions."""
    sizes = (1000, 10_000, 100_000, 1_000_000)
    quick = (1000, 10_000)
    needs = "database" if database == "postgres" else "folder"
    yield Case(
        name=f"growing-{database}",
        title=f"{title}, with so many executions of 3 steps in it",
        sizes=sizes,
        quick=quick,
        tiny=40,
        unit="call",
        whole=True,
        needs=needs,
        targets=tuple(Growth(1000, 3.0, f"szal: {subject}", whole=True) for subject in FLAT),
    )
    yield Case(
        name=f"rows-{database}",
        title=f"{title}, a row with its indexes, with so many executions of 3 steps in it",
        sizes=sizes,
        quick=quick,
        tiny=40,
        kind="bytes",
        unit="row",
        whole=True,
        needs=needs,
    )


def _queue_cases(database: str, title: str) -> Iterator[Case]:
    """Yield the cases of flows that one engine submits and another one runs."""
    needs = "postgres" if database == "postgres" else None
    yield Case(
        name=f"queue-{database}",
        title=f"flows of a step, submitted one after another and run 8 at a time, through {title}",
        sizes=(500,),
        quick=(200,),
        unit="flow",
        needs=needs,
        targets=(Versus("driver, three transactions each"),),
        against_peers=1.0,
    )
    yield Case(
        name=f"queue-latency-{database}",
        title=f"from a submission to an idle worker until its step begins, through {title}",
        sizes=(50,),
        quick=(20,),
        unit="submission",
        needs=needs,
        targets=(Versus("driver, two transactions each"),),
        against_peers=1.0,
    )


def trace_case(trace: Trace) -> Case:
    """Return the case of replaying *trace*."""
    return Case(
        name="trace",
        title=f"{trace.name}, replayed on {WORKERS} workers",
        sizes=(len(trace.tasks),),
        quick=(len(trace.tasks),),
        unit="run",
        whole=True,
        fixed=True,
        needs="trace",
        targets=(
            Ideal(lambda _: trace.critical_path, name="the critical path"),
            Ideal(lambda _: trace.work / WORKERS, name="all work, shared evenly"),
            Versus("graphlib, pool of 16"),
        ),
        against_peers=1.0,
        against_threads=1.0,
    )


_in_a_new_interpreter = partial(
    Case,
    sizes=(1,),
    quick=(1,),
    tiny=1,
    whole=True,
    fixed=True,
    against_peers=None,
    against_threads=None,
)

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
        name="chain-new",
        title="a chain that nobody has run before: validated, planned and run",
        sizes=(1000, 10_000, 100_000),
        quick=(1000, 100_000),
        targets=(Growth(1000, 1.3),),
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
        name="items",
        title="a step that runs over a list, on 16 workers",
        sizes=(100, 1000, 10_000),
        quick=(1000, 10_000),
        targets=(Versus("szal, as many steps", 1.0, least=10_000), Versus("szal, as many steps, made before")),
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
        sizes=(200, 1000),
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
        targets=(Versus("loop with results", 20.0),),
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
        targets=(
            Versus("szal, no listener", 1.8),
            Versus("szal, no listener", subject="the same, then events made"),
        ),
    ),
    Case(
        name="observed",
        title="a chain of which nobody is told, one that is counted, and one that is traced",
        sizes=(1000, 10_000),
        quick=(1000,),
        targets=(
            Versus("szal, no listener", 1.05),
            Versus("szal, no listener", subject="szal, metrics"),
            Versus("szal, no listener", subject="szal, traces"),
        ),
    ),
    Case(
        name="subscribers",
        title="a chain on a bus with 50 subscribers, each a thread that reads",
        sizes=(1000, 10_000),
        quick=(1000,),
        # What 50 threads cost that are woken is theirs; one that reads nothing must cost no more than they do.
        targets=(
            Versus("szal, no subscriber", subject="szal, 1 subscriber"),
            Versus("szal, no subscriber"),
            Versus("szal", 1.25, subject="szal, one of 50 stuck"),
        ),
    ),
    Case(
        name="plan",
        title="validate and plan a DAG of three edges a step",
        sizes=(1000, 10_000, 100_000),
        quick=(1000, 100_000),
        # How both grow is told, and no target: docs/benchmarks.md has what it comes from.
        targets=(Versus("graphlib, order only"), Growth(1000), Growth(1000, subject="graphlib, order only")),
    ),
    Case(
        name="condition",
        title="a compiled condition on two steps, evaluated",
        sizes=(10_000,),
        quick=(10_000,),
        unit="evaluation",
        targets=(Versus("Python function", 8.0),),
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
        targets=(Versus("json.loads", 2.5),),
    ),
    Case(
        name="lines",
        title="a command that prints so many lines, with the live screen on",
        sizes=(300_000, 3_000_000),
        quick=(3_000_000,),
        unit="line",
        targets=(
            Versus("the command, to a file", 1.5, least=3_000_000),
            *(
                Versus("the command, to a file", subject=f"szal, {who}")
                for who in ("nobody listens", "a log file", "a sink of one's own")
            ),
        ),
        against_peers=None,
    ),
    *_durable_cases("sqlite", "SQLite, synchronous=FULL"),
    Case(
        name="flows-sqlite-off",
        title="flows of 3 steps, one after another, recorded in SQLite, synchronous=OFF",
        sizes=(500,),
        quick=(100,),
        unit="flow",
        targets=(Versus("dura", 0.6),),
    ),
    *_durable_cases("postgres", "PostgreSQL"),
    Case(
        name="processes-postgres",
        title="flows of 3 steps in 4 processes, recorded in one PostgreSQL",
        sizes=(500,),
        quick=(200,),
        unit="flow",
        needs="postgres",
        targets=(Versus("szal, one process", 1 / 1.6),),
    ),
    *_growing_cases("sqlite", "SQLite, synchronous=FULL"),
    *_growing_cases("postgres", "PostgreSQL"),
    Case(
        name="attempts",
        title="independent steps, on threads and on executors: what an attempt costs",
        sizes=(100, 1000, 10_000),
        quick=(1000,),
        unit="attempt",
        targets=(
            Versus("ThreadPoolExecutor"),
            Versus("ThreadPoolExecutor", subject="szal, ThreadPoolExecutor"),
            Versus("ProcessPoolExecutor", subject=PROCESSES),
            Versus("ProcessPoolExecutor", subject=ISOLATED),
            Versus("ProcessPoolExecutor", subject="szal, dask"),
            Growth(1000, 1.25, subject=PROCESSES),
        ),
        subject=PROCESSES,
        against_peers=1.0,
    ),
    Case(
        name="computing",
        title="independent steps that compute for 20 ms, on threads and on executors",
        sizes=(100,),
        quick=(50,),
        targets=(
            Versus("one after another"),
            Versus("one after another", 1 / (0.9 * CORES), subject=PROCESSES),
            Versus("one after another", 1 / (0.9 * CORES), subject=ISOLATED),
            Versus("ProcessPoolExecutor", 1.1, subject=PROCESSES),
        ),
        subject=PROCESSES,
        against_peers=1.0,
    ),
    *_queue_cases("sqlite", "SQLite, synchronous=FULL"),
    *_queue_cases("postgres", "PostgreSQL"),
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
        title="peak memory of a chain's run, as tracemalloc sees it",
        sizes=(1000, 10_000),
        quick=(1000, 10_000),
        kind="bytes",
        peak_of="chain",
        targets=(Versus("loop with results"), Growth(1000, 1.25)),
        against_peers=1.0,
        against_threads=None,
    ),
    _in_a_new_interpreter(
        name="import",
        title="import in a new interpreter",
        unit="import",
        targets=(Versus("tenacity and attrs", 1.6),),
    ),
    _in_a_new_interpreter(
        name="first-run",
        title="import and a run of one step, in a new interpreter",
        unit="run",
        targets=(),
    ),
)
