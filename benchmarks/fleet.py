"""How far one PostgreSQL carries: flows a second by 1, 2, 4, 8 worker processes, and what they ask of the server.

python -m benchmarks.fleet                     on a server that it starts, or the one that SZAL_TEST_POSTGRES names
python -m benchmarks.fleet --into 'docs/scaling.md#fleet'

Where the server has loaded pg_stat_statements, it tells what each statement takes; where it runs on this machine, how
much of the processors it takes, and the workers.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import psycopg

from benchmarks import docs, processors
from benchmarks.fleet_flows import fleet
from benchmarks.floors.drivers import DATABASES
from benchmarks.lent import Lent
from benchmarks.machine import describe
from benchmarks.statements import Statements
from benchmarks.worker import Job
from szal import Engine

__all__ = ["main"]

_PATIENCE = 600.0  # seconds for all flows
_LOOK_EVERY = 0.02
_ROOT = Path(__file__).parents[1]
_WHO = ("workers, ms a flow", "server, ms a flow")
_LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


@attrs.frozen(kw_only=True)
class Measured:
    """What so many workers did; seconds of the processors are None where nobody can tell."""

    workers: int
    flows: int
    steps: int
    seconds: float
    by_workers: float | None
    by_server: float | None

    @property
    def a_second(self) -> float:
        """Flows a second."""
        return self.flows / self.seconds


@contextmanager
def workers_on(url: str, count: int, at_a_time: int) -> "Iterator[list[subprocess.Popen[bytes]]]":
    """Have so many worker processes wait for flows meanwhile."""
    command = [sys.executable, "-m", "szal", "worker", "benchmarks.fleet_flows:fleet", "--store", url]
    command += ["--max-executions", str(at_a_time)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    found = [subprocess.Popen(command, cwd=_ROOT, **silent) for _ in range(count)]
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            _await(lambda: _one(connection, _LISTENING) >= count, "not all workers listen")
        yield found
    finally:
        for process in found:
            process.send_signal(signal.SIGTERM)
        for process in found:
            process.wait(60)


def measure(url: str, workers: int, flows: int, steps: int, at_a_time: int) -> Measured:
    """Submit all in one transaction while the workers wait, and measure from its commit until all have ended."""
    with workers_on(url, workers, at_a_time) as processes, psycopg.connect(url) as connection:
        with Engine.open(url, []) as shop:
            for _ in range(flows):
                shop.submit(fleet, connection=connection)
        pids = [process.pid for process in processes]
        before = processors.seconds_of(pids), processors.seconds_of(processors.server_of(connection))
        began = time.monotonic()
        connection.commit()
        connection.autocommit = True
        left = "SELECT count(*) FROM szal_executions WHERE state <> 'Completed'"
        _await(lambda: _one(connection, left) == 0, "not all flows have ended")
        seconds = time.monotonic() - began
        after = processors.seconds_of(pids), processors.seconds_of(processors.server_of(connection))
    by_workers, by_server = (
        None if one is None or other is None else one - other for one, other in zip(after, before, strict=True)
    )
    return Measured(
        workers=workers, flows=flows, steps=steps, seconds=seconds, by_workers=by_workers, by_server=by_server
    )


def _await(condition: "processors.Condition", otherwise: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(_LOOK_EVERY)


def _one(connection: "psycopg.Connection[tuple[int]]", query: str) -> int:
    row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    return int(row[0])


def table(found: Sequence[Measured]) -> str:
    """Return what they did, as a table."""
    titles = ["worker processes", "flows/s", "steps/s", "times one", *(f"processor: {who}" for who in _WHO)]
    rows = [f"| {' | '.join(titles)} |"]
    rows += ["| ---: | ---: | ---: | ---: | ---: | ---: |"]
    for each in found:
        cells = [f"{each.workers}", f"{each.a_second:,.0f}", f"{each.a_second * each.steps:,.0f}"]
        cells += [f"{each.a_second / found[0].a_second:.2f}", _each(each.by_workers, each), _each(each.by_server, each)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _each(seconds: float | None, measured: Measured) -> str:
    return "" if seconds is None else f"{seconds / measured.flows * 1000:.2f}"


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--workers", metavar="N,N", default="1,2,4,8", help="worker processes (1,2,4,8)")
    options.add_argument("--flows", metavar="N", type=int, default=2000, help="flows for each (2000)")
    options.add_argument("--at-a-time", metavar="N", type=int, default=8, help="flows at a time in each worker (8)")
    options.add_argument("--scratch", metavar="DIR", type=Path, help="where the server's files are")
    options.add_argument(
        "--into", metavar="PAGE#PART", type=docs.part_of_page, help="put the tables into a part of a Markdown page"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(given)
    found: list[Measured] = []
    with Lent(options.scratch) as lent, tempfile.TemporaryDirectory(prefix="szal-bench-") as folder:
        server = lent.server()
        statements = Statements(server)
        for count in map(int, options.workers.split(",")):
            job = Job(options.flows, Path(folder), {"postgres": server})
            with DATABASES["postgres"].place(job) as url:
                with Engine.open(url, []):
                    statements.begin()
                found.append(measure(url, count, options.flows, len(fleet.definition.steps), options.at_a_time))
                statements.end(count, options.flows)
            print(f"{count}: {found[-1].a_second:,.0f} flows/s", file=sys.stderr, flush=True)
        circumstances = {**describe(), **lent.describe()}
    command = f"python -m benchmarks.fleet {shlex.join(given)}"
    docs.tell(command, [table(found), *statements.tables()], circumstances, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
