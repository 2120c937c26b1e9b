"""LangGraph: a compiled StateGraph, invoked synchronously; without a checkpointer and with SqliteSaver."""

import operator
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
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
    """Return a compiled graph."""
    from langgraph.graph import START, StateGraph

    graph = StateGraph(Counted)
    for place in before:
        graph.add_node(f"n{place}", function)
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


def chain_sqlite(job: "Job") -> "Iterator[Repetition]":
    """A checkpoint after each node."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    def repetition() -> float:
        path = job.new_file()
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            saver = SqliteSaver(connection)
            saver.setup()
            graph = graph_of(chain_of(job.size), checkpointer=saver)
            config = {"recursion_limit": job.size + 10, "configurable": {"thread_id": "1"}}
            began = time.perf_counter()
            graph.invoke({"count": 0}, config)
            took = time.perf_counter() - began
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return took

    yield repetition


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"langgraph": chain},
    "fan-out": {"langgraph": fan_out},
    "layers-2": {"langgraph": layers_2},
    "layers-50": {"langgraph": layers_50},
    "sleeps": {"langgraph": sleeps},
    "flows": {"langgraph": flows},
    "chain-sqlite": {"langgraph, SqliteSaver": chain_sqlite},
}
LARGEST = {"chain": 1000, "fan-out": 1000, "chain-sqlite": 1000}
