"""LangGraph: a compiled StateGraph, invoked synchronously; bare, with SqliteSaver and with PostgresSaver."""

import json
import operator
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010
Graph = dict[int, list[int]]  # what each node waits for


class Counted(TypedDict):
    """The state: how many nodes have run."""

    count: Annotated[int, operator.add]


def one(_: Counted) -> dict[str, int]:
    """Do a step's work."""
    return {"count": 1}


def doze(_: Counted) -> dict[str, int]:
    """Do the work of a step of `sleeps`."""
    time.sleep(SLEEP)
    return {"count": 1}


def graph_of(before: Graph, function: Any = one, checkpointer: Any = None, **options: Any) -> Any:
    """Return a compiled graph; *function* may be a list with one for each node, *options* are every node's."""
    from langgraph.graph import START, StateGraph

    graph = StateGraph(Counted)
    for place in before:
        graph.add_node(f"n{place}", function[place] if isinstance(function, list) else function, **options)
    for place, sources in before.items():
        if sources:
            graph.add_edge([f"n{source}" for source in sources], f"n{place}")
        else:
            graph.add_edge(START, f"n{place}")
    return graph.compile(checkpointer=checkpointer)


def invoke(graph: Any, nodes: int, config: dict[str, Any] | None = None, **options: str) -> None:
    """Run every node once."""
    config = {"recursion_limit": nodes + 10, "max_concurrency": WORKERS, **(config or {})}
    if graph.invoke({"count": 0}, config, **options)["count"] != nodes:
        raise RuntimeError("a node did not run")


def invokes(before: Graph, function: Any = one, **options: Any) -> "Iterator[Repetition]":
    """Yield a repetition that runs every node once."""
    yield partial(invoke, graph_of(before, function, **options), len(before))


def chain_of(size: int) -> Graph:
    """Return what each node of a chain waits for."""
    return {place: [place - 1] if place else [] for place in range(size)}


def independent(size: int) -> Graph:
    """Return what the nodes of `fan-out` wait for: nothing."""
    return {place: [] for place in range(size)}


def chain(job: "Job") -> "Iterator[Repetition]":
    """One node after another."""
    yield from invokes(chain_of(job.size))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """All nodes in one superstep."""
    yield from invokes(independent(job.size))


def layers(size: int, dependencies: int) -> Graph:
    """Return layers of 50 nodes."""
    width = max(1, min(50, size // 2))
    before: Graph = {}
    for place in range(size):
        start = place // width * width - width
        before[place] = (
            [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        )
    return before


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """A superstep for each layer."""
    yield from invokes(layers(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from invokes(layers(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    yield from invokes(independent(job.size), doze)


def flows(job: "Job") -> "Iterator[Repetition]":
    """A graph of three nodes, invoked again and again."""
    graph = graph_of(chain_of(3))

    def repetition() -> None:
        for _ in range(job.size):
            invoke(graph, 3)

    yield repetition


def flows_8(job: "Job") -> "Iterator[Repetition]":
    """The same, from eight threads."""
    graph = graph_of(chain_of(3))
    with ThreadPoolExecutor(8) as callers:
        yield lambda: list(callers.map(lambda _: invoke(graph, 3), range(job.size)))


def retry(job: "Job") -> "Iterator[Repetition]":
    """A policy for each node."""
    from langgraph.types import RetryPolicy

    yield from invokes(chain_of(job.size), retry_policy=RetryPolicy(max_attempts=4, retry_on=OSError))


def chain_timeouts(job: "Job") -> "Iterator[Repetition]":
    """A limit for each superstep: one for nodes is for coroutines only."""
    graph = graph_of(chain_of(job.size))
    graph.step_timeout = 60.0
    yield partial(invoke, graph, job.size)


# -- with a checkpointer: what is kept is the state after each superstep ----------------------------------


@contextmanager
def sqlite_saver(job: "Job") -> Iterator[Any]:
    """Give a saver in a new file; a commit is on disk when it returns, as with SQLite's own settings."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    path = job.new_file()
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        yield SqliteSaver(connection)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@contextmanager
def postgres_saver(job: "Job") -> Iterator[Any]:
    """Give a saver in a new schema, with the connection that its documentation asks for."""
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg import connect
    from psycopg.rows import dict_row

    schema = f"langgraph_{os.getpid()}"
    with connect(job.given["postgres"], autocommit=True, prepare_threshold=0, row_factory=dict_row) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}")
        try:
            yield PostgresSaver(connection)
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


SAVERS = {"sqlite": sqlite_saver, "postgres": postgres_saver}


def saved(
    database: str, durability: str, before_of: Callable[[int], Graph], function: Any, job: "Job"
) -> "Iterator[Repetition]":
    """Yield a repetition that runs every node once."""
    before = before_of(job.size)

    def repetition() -> float:
        with SAVERS[database](job) as saver:
            saver.setup()
            graph = graph_of(before, function, saver)
            began = time.perf_counter()
            invoke(graph, len(before), {"configurable": {"thread_id": "1"}}, durability=durability)
            return time.perf_counter() - began

    yield repetition


def saved_flows(database: str, callers: int, job: "Job") -> "Iterator[Repetition]":
    """Yield a repetition that invokes a graph of three nodes again and again, by so many threads."""

    def repetition() -> float:
        with SAVERS[database](job) as saver, ThreadPoolExecutor(callers) as pool:
            saver.setup()
            graph = graph_of(chain_of(3), checkpointer=saver)
            configs = [{"configurable": {"thread_id": str(number)}} for number in range(job.size)]
            began = time.perf_counter()
            list(pool.map(partial(invoke, graph, 3), configs))
            return time.perf_counter() - began

    yield repetition


def replay(job: "Job") -> "Iterator[Repetition]":
    """A trace of a workflow: a superstep ends when the slowest of its nodes has."""
    tasks = json.loads(Path(job.given["trace"]).read_text())["tasks"]

    def node(seconds: float) -> Any:
        def nap(_: Counted) -> dict[str, int]:
            time.sleep(seconds)
            return {"count": 1}

        return nap

    naps = [node(seconds) for _, seconds, _ in tasks]
    yield from invokes({place: after for place, (_, _, after) in enumerate(tasks)}, naps)


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import langgraph.graph")


def _recorded(database: str, label: str) -> "dict[str, dict[str, Subject]]":
    """Return the cases that are recorded. "async" is LangGraph's default: all is written when `invoke` returns."""
    whole = partial(saved, database, "async")
    return {
        f"chain-{database}": {
            label: partial(whole, chain_of, one),
            f'{label}, "exit"': partial(saved, database, "exit", chain_of, one),  # keeps the last state only
        },
        f"chain-{database}-step": {label: partial(saved, database, "sync", chain_of, one)},
        f"fan-out-{database}": {label: partial(whole, independent, one)},
        f"layers-2-{database}": {label: partial(whole, partial(layers, dependencies=2), one)},
        f"layers-50-{database}": {label: partial(whole, partial(layers, dependencies=50), one)},
        f"sleeps-{database}": {label: partial(whole, independent, doze)},
        f"flows-{database}": {label: partial(saved_flows, database, 1)},
        f"flows-8-{database}": {label: partial(saved_flows, database, 8)},
    }


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"langgraph": chain},
    "chain-timeouts": {"langgraph": chain_timeouts},
    "retry": {"langgraph": retry},
    "fan-out": {"langgraph": fan_out},
    "layers-2": {"langgraph": layers_2},
    "layers-50": {"langgraph": layers_50},
    "sleeps": {"langgraph": sleeps},
    "flows": {"langgraph": flows},
    "flows-8": {"langgraph": flows_8},
    "trace": {"langgraph": replay},
    "import": {"langgraph": imported},
    **_recorded("sqlite", "langgraph, SqliteSaver"),
    **_recorded("postgres", "langgraph, PostgresSaver"),
}
LARGEST = {
    case: 1000
    for name in ("chain", "retry", "chain-timeouts", "fan-out")
    for case in (name, f"{name}-sqlite", f"{name}-postgres")
}
