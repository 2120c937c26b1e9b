"""LangGraph: a compiled StateGraph, invoked synchronously; bare, with SqliteSaver and with PostgresSaver."""

import json
import operator
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


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


def graph_of(before: dict[int, list[int]], function: Any = one, checkpointer: Any = None) -> Any:
    """Return a compiled graph; *function* may be a list with one for each node."""
    from langgraph.graph import START, StateGraph

    graph = StateGraph(Counted)
    for place in before:
        graph.add_node(f"n{place}", function[place] if isinstance(function, list) else function)
    for place, sources in before.items():
        if sources:
            graph.add_edge([f"n{source}" for source in sources], f"n{place}")
        else:
            graph.add_edge(START, f"n{place}")
    return graph.compile(checkpointer=checkpointer)


def invokes(before: dict[int, list[int]], function: Any = one) -> "Iterator[Repetition]":
    """Yield a repetition that runs every node once."""
    graph = graph_of(before, function)
    config = {"recursion_limit": len(before) + 10, "max_concurrency": WORKERS}

    def repetition() -> None:
        if graph.invoke({"count": 0}, config)["count"] != len(before):
            raise RuntimeError("a node did not run")

    yield repetition


def chain_of(size: int) -> dict[int, list[int]]:
    """Return what each node of a chain waits for."""
    return {place: [place - 1] if place else [] for place in range(size)}


def chain(job: "Job") -> "Iterator[Repetition]":
    """One node after another."""
    yield from invokes(chain_of(job.size))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """All nodes in one superstep."""
    yield from invokes({place: [] for place in range(job.size)})


def layers(size: int, dependencies: int) -> dict[int, list[int]]:
    """Return layers of 50 nodes."""
    width = max(1, min(50, size // 2))
    before: dict[int, list[int]] = {}
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
    yield from invokes({place: [] for place in range(job.size)}, doze)


def flows(job: "Job") -> "Iterator[Repetition]":
    """A graph of three nodes, invoked again and again."""
    graph = graph_of(chain_of(3))

    def repetition() -> None:
        for _ in range(job.size):
            graph.invoke({"count": 0})

    yield repetition


def saved(saver: Any, size: int, options: dict[str, str]) -> float:
    """Run a chain with a checkpoint after each node, and return how long that took."""
    saver.setup()
    graph = graph_of(chain_of(size), checkpointer=saver)
    config = {"recursion_limit": size + 10, "configurable": {"thread_id": "1"}}
    began = time.perf_counter()
    graph.invoke({"count": 0}, config, **options)
    return time.perf_counter() - began


def chain_sqlite(options: dict[str, str], job: "Job") -> "Iterator[Repetition]":
    """A new file each time."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    def repetition() -> float:
        path = job.new_file()
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            took = saved(SqliteSaver(connection), job.size, options)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return took

    yield repetition


def chain_postgres(options: dict[str, str], job: "Job") -> "Iterator[Repetition]":
    """A new schema each time."""
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg import connect
    from psycopg.rows import dict_row

    schema = f"langgraph_{os.getpid()}"

    def repetition() -> float:
        with connect(job.given["postgres"], autocommit=True, prepare_threshold=0, row_factory=dict_row) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
            connection.execute(f"SET search_path = {schema}")
            try:
                return saved(PostgresSaver(connection), job.size, options)
            finally:
                connection.execute(f"DROP SCHEMA {schema} CASCADE")

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


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"langgraph": chain},
    "fan-out": {"langgraph": fan_out},
    "layers-2": {"langgraph": layers_2},
    "layers-50": {"langgraph": layers_50},
    "sleeps": {"langgraph": sleeps},
    "flows": {"langgraph": flows},
    "chain-sqlite": {"langgraph, SqliteSaver": partial(chain_sqlite, {})},
    "chain-sqlite-step": {"langgraph, SqliteSaver": partial(chain_sqlite, {"durability": "sync"})},
    "chain-postgres": {"langgraph, PostgresSaver": partial(chain_postgres, {})},
    "chain-postgres-step": {"langgraph, PostgresSaver": partial(chain_postgres, {"durability": "sync"})},
    "trace": {"langgraph": replay},
    "import": {"langgraph": imported},
}
LARGEST = {"chain": 1000, "fan-out": 1000, "chain-sqlite": 100, "chain-postgres": 100}
