"""Databases of so many executions: rows that szal wrote, copied by the database itself under new ids.

A copy has an id and a start of its own, a label that it shares with 19 others, and one that all have. A definition is
shared by a hundred. Ids are random, as those of `run` are, and the newest comes last.
"""

# Every part of a statement is a constant, or what szal has written.
# ruff: noqa: S608

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from benchmarks.floors.drivers import Driver
from benchmarks.szal_cases.durable import Store, rows_of_step, store_at
from szal import Engine, EngineConfig, FlowDef, StepContext, StepDef, WorkflowState

if TYPE_CHECKING:
    from benchmarks.worker import Job

__all__ = ["LABELS", "copied", "copy_old", "customer_of", "flow_of"]

FLOWS = 10
LABELS = {"customer": "c99999999", "place": "everywhere"}
FAILING, ASKING = 8, 9
BATCH = 200_000  # copies in a transaction
Run = Callable[..., Any]


def flow_of(number: int) -> FlowDef:
    """Return a flow of three steps: one of all fails, and one waits for a signal in between."""
    steps = [StepDef("fetch"), StepDef("convert"), StepDef("load")]
    if number == ASKING:
        steps[1] = StepDef("approval", step_type="wait", config={"signal": "approve"})
    return FlowDef(f"flow {number}", steps=steps)


def _step(ctx: StepContext) -> dict[str, object]:
    if ctx.flow_name == f"flow {FAILING}" and ctx.step.name == "load":
        raise OSError("no route to host")
    return rows_of_step(ctx)


def write_models(place: str) -> list[str]:
    """Have szal write an execution of each flow into the new database at *place*, and return their ids.

    Each of them begins and ends in one second of the clock: so that text is replaced in its copies.
    """
    ids = []
    with store_at(place) as store, Engine(_step, EngineConfig(execution_store=store)) as engine:
        for number in range(FLOWS):
            while not _is_of_one_second(store, execution_id := _run(engine, number)):
                store.remove(execution_id)
            ids.append(execution_id)
    return ids


def _run(engine: Engine, number: int) -> str:
    time.sleep(1 - time.time() % 1 if time.time() % 1 > 0.7 else 0)
    result = engine.run(flow_of(number), labels=LABELS)
    execution_id = result.execution_id
    assert execution_id is not None
    if number == ASKING:
        engine.signal(execution_id, "approve", {"by": "somebody"})
        result = engine.resume(execution_id)
    wanted = WorkflowState.FAILED if number == FAILING else WorkflowState.COMPLETED
    if result.state is not wanted:
        raise RuntimeError(f"{result.state}: {result.error}")
    return execution_id


def _is_of_one_second(store: Store, execution_id: str) -> bool:
    record = store.get(execution_id)
    assert record is not None
    assert record.finished_at is not None
    return record.started_at.replace(microsecond=0) == record.finished_at.replace(microsecond=0)


def customer_of(number: int) -> str:
    """Return the label of the copy of that number."""
    return f"c{number // 20:08}"


# -- copying ----------------------------------------------------------------------------------------

_SQLITE = {
    "uuid": (
        "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a'"
        " || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
    ),
    "series": "WITH RECURSIVE s (n) AS (SELECT {0} UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {1}) SELECT n FROM s",
    "second": "strftime('%Y-%m-%dT%H:%M:%S', {0} + n, 'unixepoch')",
    "customer": "printf('c%08d', n / 20)",
    "content": "printf('%064x', n / (100 * {0}) * {0} + n % {0})",
    "labels": "{0}",
}
_POSTGRES = {
    "uuid": "gen_random_uuid()::text",
    "series": "SELECT n FROM generate_series({0}, {1} - 1) AS s (n)",
    "second": "to_char(to_timestamp({0} + n) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')",
    "customer": "'c' || lpad((n / 20)::text, 8, '0')",
    "content": "lpad(to_hex(n / (100 * {0}) * {0} + n % {0}), 64, '0')",
    "labels": "{0}::jsonb",
}
_NEW = "replace(replace(replace({0}, m.old, c.id), m.second, c.second), 'c99999999', c.customer)"
_KEY = "replace({0}, m.second, c.second)"
_FROM = "FROM copies AS c JOIN models AS m ON m.place = c.place JOIN {0} AS t ON t.{1} = m.{2}"


def _statements(said: dict[str, str], first: int, last: int, oldest: float) -> Iterator[str]:
    """Yield what copies the models number *first* to *last* - 1, the first of which begins at *oldest*."""
    yield (
        f"INSERT INTO copies SELECT n, n % {FLOWS}, {said['uuid']}, {said['second'].format(int(oldest))},"
        f" {said['customer']}, {said['content'].format(FLOWS)} FROM ({said['series'].format(first, last)}) AS numbers"
    )
    labels = said["labels"].format(_NEW.format("CAST(t.labels AS text)"))
    yield (
        "INSERT INTO szal_executions (execution_id, flow_name, data, state, started, finished, labels, head)"
        f" SELECT c.id, t.flow_name, {_NEW.format('t.data')}, t.state, {_KEY.format('t.started')},"
        f" {_KEY.format('t.finished')}, {labels}, {_NEW.format('t.head')}"
        f" {_FROM.format('szal_executions', 'execution_id', 'old')} ORDER BY c.n"
    )
    yield (
        "INSERT INTO szal_steps (execution_id, step_name, seq, result, signal_id)"
        f" SELECT c.id, t.step_name, t.seq, {_KEY.format('t.result')}, t.signal_id"
        f" {_FROM.format('szal_steps', 'execution_id', 'old')} ORDER BY c.n, t.seq"
    )
    yield (
        "INSERT INTO szal_signals (execution_id, signal_id, name, value, sent) SELECT c.id, t.signal_id, t.name,"
        f" t.value, t.sent {_FROM.format('szal_signals', 'execution_id', 'old')} ORDER BY c.n"
    )
    yield (
        "INSERT INTO szal_flows (content_id, data) SELECT c.content, max(t.data)"
        f" {_FROM.format('szal_flows', 'content_id', 'content')} GROUP BY c.content ON CONFLICT DO NOTHING"
    )
    yield (
        "INSERT INTO szal_leases (execution_id, owner, epoch, expires, content_id, recoveries, cancelled)"
        " SELECT c.id, t.owner, t.epoch, t.expires, c.content, t.recoveries, t.cancelled"
        f" {_FROM.format('szal_leases', 'execution_id', 'old')} ORDER BY c.n"
    )
    yield "DELETE FROM copies"


def _copy(run: Run, said: dict[str, str], models: list[str], count: int) -> None:
    run(
        "CREATE TEMP TABLE copies (n bigint PRIMARY KEY, place bigint, id text, second text, customer text,"
        " content text)"
    )
    run("CREATE TEMP TABLE models (place bigint PRIMARY KEY, old text, second text, content text)")
    for place, execution_id in enumerate(models):
        run(
            f"INSERT INTO models SELECT {place}, e.execution_id, substr(started, 1, 19), content_id"
            " FROM szal_executions AS e JOIN szal_leases AS l ON l.execution_id = e.execution_id"
            f" WHERE e.execution_id = '{execution_id}'"
        )
    oldest = datetime.now(UTC).timestamp() - count
    for first in range(0, count, BATCH):
        run("BEGIN")
        for statement in _statements(said, first, min(first + BATCH, count), oldest):
            run(statement)
        run("COMMIT")
    run("DROP TABLE copies")
    run("DROP TABLE models")


def _in_sqlite(job: "Job") -> str:
    path = Path(job.given["folder"], f"{job.size}.db")
    if not path.exists():
        half = path.with_suffix(".half")
        models = write_models(str(half))
        with closing(sqlite3.connect(half, isolation_level=None)) as connection:
            for setting in ("journal_mode = OFF", "synchronous = OFF", "temp_store = MEMORY", "cache_size = -2000000"):
                connection.execute(f"PRAGMA {setting}")
            _copy(connection.execute, _SQLITE, models, job.size)
            connection.execute("PRAGMA journal_mode = WAL")
        _forget(str(half), models)
        half.rename(path)
    return str(path)


def _in_postgres(job: "Job") -> str:
    import psycopg

    url, schema = job.given["database"], f"copies_{job.size}"
    place = f"{url}{'&' if '?' in url else '?'}options={quote(f'-c search_path={schema}')}"
    with psycopg.connect(place, autocommit=True) as connection:
        is_whole = "SELECT FROM pg_namespace WHERE nspname = %s AND obj_description(oid) = 'whole'"
        if not connection.execute(is_whole, [schema]).fetchall():
            connection.execute(f"CREATE SCHEMA {schema}")
            models = write_models(place)
            _copy(partial(_run_plain, connection), _POSTGRES, models, job.size)
            _forget(place, models)
            for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]):
                connection.execute(f"VACUUM ANALYZE {table}")
            connection.execute(f"COMMENT ON SCHEMA {schema} IS 'whole'")
    return place


def _run_plain(connection: Any, statement: str) -> None:
    connection.execute(statement.encode())


def _forget(place: str, models: list[str]) -> None:
    with store_at(place) as store:
        for execution_id in models:
            store.remove(execution_id)


def copied(name: str, job: "Job") -> str:
    """Return the address of a database, "sqlite" or "postgres", that has as many executions as *job* says.

    All subjects of a case share it: the first makes it.
    """
    return _in_sqlite(job) if name == "sqlite" else _in_postgres(job)


def copy_old(driver: Driver, many: int) -> None:
    """Copy so many executions that are completed to the year 2000; their ids begin with "old"."""
    these = f"(SELECT execution_id FROM szal_executions WHERE state = 'Completed' ORDER BY started LIMIT {many})"
    new, year = "'old' || substr(execution_id, 4)", "replace({}, substr(started, 1, 5), '2000-')"
    data = year.format(f"replace(data, execution_id, {new})")
    for table, columns, values in (
        ("szal_leases", "owner, epoch, expires, content_id, recoveries, cancelled", None),
        ("szal_steps", "step_name, seq, result, signal_id", None),
        ("szal_signals", "signal_id, name, value, sent", None),
        (
            "szal_executions",
            "flow_name, state, labels, data, started, finished, head",
            f"flow_name, state, labels, {data}, {', '.join(map(year.format, ('started', 'finished', 'head')))}",
        ),
    ):
        driver.one(
            f"INSERT INTO {table} (execution_id, {columns}) SELECT {new}, {values or columns} FROM {table}"
            f" WHERE execution_id IN {these}",
            (),
        )
