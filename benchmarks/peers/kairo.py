"""kairo: a durable workflow in WebAssembly, in an event loop of its own; each call is committed, in either database."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


async def store_of(database: str, job: "Job") -> Any:
    """Return where the workflows are kept; SQLite's file is with synchronous=FULL, as it makes it."""
    from kairo_sdk import PostgresStore, SQLiteStore

    if database == "sqlite":
        return SQLiteStore(str(job.new_file()))
    from psycopg_pool import AsyncConnectionPool

    pool = AsyncConnectionPool(job.given["postgres"], open=False)
    await pool.open()
    return PostgresStore(pool)


async def opened(database: str, job: "Job") -> Any:
    """Return a runtime with a workflow "chain" of as many steps as it is asked for."""
    from kairo_sdk import EmbeddedBackend, Kairo

    kairo = Kairo(backend=await EmbeddedBackend.open(await store_of(database, job)))

    @kairo.action("one", effect="unprotected")
    async def one(_: object, __: object) -> dict[str, object]:
        return {"rows": 12, "file": "part-0001.parquet"}

    @kairo.workflow("chain")
    async def chain(ctx: Any, request: dict[str, int]) -> int:
        for number in range(request["steps"]):
            await ctx.call("one", {"number": number})
        return request["steps"]

    await kairo.start()
    return kairo


async def run(kairo: Any, steps: int) -> None:
    """Run a workflow of so many steps under a new id."""
    if await kairo.run("chain", {"steps": steps}, id=uuid.uuid4().hex) != steps:
        raise RuntimeError("a step did not run")


@contextmanager
def runtime(database: str, job: "Job") -> Iterator[tuple[asyncio.Runner, Any]]:
    """Give a loop, and the runtime in it."""
    with asyncio.Runner() as runner:
        kairo = runner.run(opened(database, job))
        yield runner, kairo
        runner.run(kairo.close())


def chain(database: str, job: "Job") -> "Iterator[Repetition]":
    """One call after another."""
    with runtime(database, job) as (runner, kairo):
        yield lambda: runner.run(run(kairo, job.size))


def flows(database: str, at_once: int, job: "Job") -> "Iterator[Repetition]":
    """Workflows of three steps, so many at once."""

    async def some(kairo: Any, number: int) -> None:
        for _ in range(number):
            await run(kairo, 3)

    async def all_of_them(kairo: Any) -> None:
        await asyncio.gather(*(some(kairo, job.size // at_once) for _ in range(at_once)))

    with runtime(database, job) as (runner, kairo):
        yield lambda: runner.run(all_of_them(kairo))


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import kairo_sdk")


def _cases(database: str) -> "dict[str, dict[str, Subject]]":
    return {
        f"chain-{database}": {"kairo": partial(chain, database)},
        f"chain-{database}-step": {"kairo": partial(chain, database)},
        f"flows-{database}": {"kairo": partial(flows, database, 1)},
        f"flows-8-{database}": {"kairo": partial(flows, database, 8)},
    }


CASES: "dict[str, dict[str, Subject]]" = {"import": {"kairo": imported}, **_cases("sqlite"), **_cases("postgres")}
LARGEST = {f"chain-{kind}": 100 for kind in ("sqlite", "sqlite-step", "postgres", "postgres-step")}
