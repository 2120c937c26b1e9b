"""How long each page of the dashboard takes on the server, with few executions and with many.

python -m benchmarks.dashboard                            needs szal[web]; 1 000 and 100 000 executions
python -m benchmarks.dashboard --into 'docs/observe.md#dashboard'

On SQLite and on a PostgreSQL that it starts. Each page is had several times; of these the best is told, and of several
pages the ratio of many executions to few: a page that goes through all of them has a hundred there.
"""

import argparse
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import docs
from benchmarks.floors.drivers import DATABASES
from benchmarks.lent import Lent
from benchmarks.machine import describe
from benchmarks.worker import Job
from szal import Engine, ExecutionRecord, FlowDef, StepDef, WorkflowState, open_store
from szal.stores.writes import Save

__all__ = ["main"]

_WAITING = 40
_BATCH = 1000
_STATES = {97: WorkflowState.FAILED, 98: WorkflowState.CANCELLED, 99: WorkflowState.PAUSED}
_PAGES = {
    "executions": "/",
    "of a flow": "/?flow=flow3",
    "that failed": "/?state=failed",
    "with a label": "/?label=customer%3Dc5",
    "with a text in the error": "/?error=KeyError",
    "a flow": "/flows/flow3",
    "waiting": "/waiting",
    "one of many steps": "/executions/big",
    "one of 5 steps": "/executions/small",
}


def fill(url: str, count: int, steps: int) -> None:
    """Record so many executions; one of so many *steps*, one of few, and some that wait."""
    now = datetime.now(UTC)
    with open_store(url) as store:
        for first in range(0, count, _BATCH):
            store.ledger.apply([Save.of(_record(number, now)) for number in range(first, min(first + _BATCH, count))])
        ask = StepDef("ask", step_type="wait", config={"signal": "answer"})
        with Engine.open(store, lambda ctx: {"step": ctx.step.name}) as engine:
            for name, many in (("big", steps), ("small", 5)):
                engine.run(FlowDef(name, steps=[StepDef(f"step {at}") for at in range(many)]), execution_id=name)
            for _ in range(min(count, _WAITING)):
                engine.run(FlowDef("asking", steps=[StepDef("first"), ask]))


def _record(number: int, now: datetime) -> ExecutionRecord:
    state = _STATES.get(number % 100, WorkflowState.COMPLETED)
    began = now - timedelta(seconds=7 * number)
    ended = None if state.is_live else began + timedelta(seconds=number % 9)
    error = "step 'load' failed: KeyError: 'customer'" if state is WorkflowState.FAILED else None
    labels = {"customer": f"c{number % 500}"}
    return ExecutionRecord(f"e{number}", f"flow{number % 7}", state, None, began, ended, labels=labels, error=error)


def pages(url: str, times: int) -> Iterator[tuple[str, float]]:
    """Yield how many milliseconds each page takes at best, its answer included."""
    from szal.contrib.web import wsgi

    with Engine.open(url) as engine:
        client: Any = wsgi(engine, actions=True, secret_key=secrets.token_bytes(8)).test_client()
        for name, path in _PAGES.items():

            def have(path: str = path) -> None:
                answer = client.get(path)
                assert answer.status_code == 200, path

            yield name, _best(have, times)


def _best(do: Callable[[], None], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        do()
        best = min(best, time.perf_counter() - began)
    return best * 1000


def table(found: dict[str, dict[str, list[float]]], counts: Sequence[int]) -> str:
    """Return what was found, as a table."""
    titles = ["page"]
    for database in found:
        titles += [f"{database}: {count:,}" for count in counts] + ["ratio"]
    rows = [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}"]
    for name in _PAGES:
        cells = [name]
        for times in found.values():
            cells += [f"{each:.0f} ms" for each in times[name]] + [f"{times[name][-1] / times[name][0]:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    told = (__doc__ or "").splitlines()[0]
    options = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=told)
    options.add_argument("--executions", metavar="N,N", default="1000,100000", help="how many (1000,100000)")
    options.add_argument("--steps", metavar="N", type=int, default=5000, help="of the one that has many (5000)")
    options.add_argument("--times", metavar="N", type=int, default=7, help="how often each page is had (7)")
    options.add_argument("--databases", metavar="NAME,NAME", default="sqlite,postgres", help="sqlite,postgres")
    options.add_argument("--scratch", metavar="DIR", type=Path, help="where the server's files are")
    options.add_argument(
        "--into", metavar="PAGE#PART", type=docs.part_of_page, help="put the table into a part of a Markdown page"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(given)
    counts = [*map(int, options.executions.split(","))]
    found: dict[str, dict[str, list[float]]] = {}
    with Lent(options.scratch) as lent, tempfile.TemporaryDirectory(prefix="szal-bench-") as folder:
        for database in options.databases.split(","):
            times = found.setdefault(database, {name: [] for name in _PAGES})
            servers = {} if database == "sqlite" else {"postgres": lent.server()}
            for count in counts:
                with DATABASES[database].place(Job(count, Path(folder), servers)) as place:
                    url = place if "://" in place else f"sqlite:///{place}"
                    fill(url, count, options.steps)
                    for name, best in pages(url, options.times):
                        times[name].append(best)
        circumstances = {**describe(), **lent.describe()}
    command = f"python -m benchmarks.dashboard {shlex.join(given)}"
    docs.tell(command, [table(found, counts)], circumstances, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
