"""From `run` to a row: the functions that it takes are those that docs/architecture.md walks through."""

import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg

import szal
from szal import Engine, EngineConfig, FlowDef, StepDef
from szal.stores import open_store

PACKAGE = str(Path(szal.__file__).parent)
WALKS = Path(__file__).parents[2].joinpath("docs", "architecture.md").read_text().split("## From `run` to a row")[1]
RECORD, STEP = re.split("How a step ended", WALKS.split("\n## ")[0])


def named(walk: str) -> list[str]:
    """Return the functions that the numbered lines of *walk* begin with."""
    return re.findall(r"^\d+\. `([\w.]+)`", walk, re.MULTILINE)


def on_the_stack(frame: FrameType | None) -> tuple[str, ...]:
    """Return szal's functions that have led to *frame*, the outermost first."""
    found: list[str] = []
    while frame is not None:
        name = frame.f_code.co_qualname
        if frame.f_code.co_filename.startswith(PACKAGE) and "<" not in name:
            found.insert(0, name)
        frame = frame.f_back
    return tuple(found)


@contextmanager
def profiled(profile: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    """Have *profile* called in this thread, and in those that begin meanwhile."""
    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(before)


def trips(url: str) -> tuple[list[str], list[str]]:
    """Run a flow of one step behind a sink; return the longest ways to the driver of this thread, and the writer's."""
    found: dict[str, set[tuple[str, ...]]] = {"run": set(), "write": set(), "queue": set()}
    runs = threading.get_ident()
    drivers = {sqlite3.Connection.execute.__name__, sqlite3.Connection.executemany.__name__}

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        is_driver = False
        if event == "c_call":
            is_driver = isinstance(getattr(argument, "__self__", None), sqlite3.Connection)
            is_driver = is_driver and argument.__name__ in drivers
        if is_driver:
            found["run" if threading.get_ident() == runs else "write"].add(on_the_stack(frame))
        elif event == "call" and frame.f_code.co_qualname == "Writer.write":
            found["queue"].add(on_the_stack(frame))

    with (
        open_store(url) as store,
        profiled(profile),
        store.engine_sink() as sink,
        Engine(lambda ctx: 1, EngineConfig(execution_store=sink)) as engine,
    ):
        engine.run(FlowDef("f", steps=[StepDef("a")]))
    [queue] = (each[each.index("Journal.settled") :] for each in found["queue"] if "Journal.settled" in each)
    begins = max((each for each in found["run"] if "SqlLedger._create" in each), key=lambda trip: (len(trip), trip))
    [write] = {
        each for each in found["write"] if "SqlLedger._carry_out" in each and "SqlLedger._check_held" not in each
    }
    return [*begins], [*queue, *write]


def test_the_walks_are_those_that_the_code_takes(tmp_path: Path) -> None:
    record, step = trips(f"sqlite:///{tmp_path}/szal.db")
    assert record == named(RECORD)
    assert step == named(STEP)
    assert max(len(record), len(step)) <= 15


def test_on_postgresql_few_writes_are_one_statement(postgres_url: str) -> None:
    """So is a record whose id may be somebody else's; each way is the one above, with another end."""
    found: dict[str, set[tuple[str, ...]]] = {"run": set(), "write": set()}
    runs = threading.get_ident()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is psycopg.Cursor.execute.__code__:
            trip = on_the_stack(frame)
            if "PostgresLedger._carry_out_few" in trip:
                found["run" if threading.get_ident() == runs else "write"].add(trip)

    with (
        open_store(postgres_url) as store,
        profiled(profile),
        store.engine_sink() as sink,
        Engine(lambda ctx: 1, EngineConfig(execution_store=sink)) as engine,
    ):
        engine.run(FlowDef("f", steps=[StepDef("a")]))
    [claim], [write] = found["run"], found["write"]
    once = ["PostgresLedger._carry_out_few", "PostgresDatabase.at_once", "PostgresDatabase.use"]
    lent = ["Pool.use", "Pool._lend", "Pool._carry_out", "execute"]
    before_claim = named(RECORD)[: named(RECORD).index("SqlLedger.create")]
    before_write = named(STEP)[4 : named(STEP).index("SqlLedger.apply") + 1]
    retried = ["call"]  # a sink's thread has a loop of its own
    assert [*claim] == [*before_claim, "PostgresLedger.create", *once, *retried, *lent]
    assert [*write] == [*before_write, "PostgresLedger._apply_shortly", *once, *lent]
    assert max(len(claim), len(write)) <= 15
