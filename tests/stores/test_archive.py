"""The SQL of docs/stores.md: partitions and an archive on PostgreSQL, as the page has it."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from stores.postgres_server import PostgresServer
from stores.samples import record

from szal import Engine, EngineConfig, FlowDef, StepContext, StepDef
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import PostgresExecutionStore, Store, open_store

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
ARCHIVE = "szal_archive"
LONG_AGO = datetime.now(UTC) - timedelta(days=40)
DAYS_31 = timedelta(days=31)
APPROVAL = StepDef("ask", step_type="wait", config={"signal": "approve"})
FLOW = FlowDef("orders", steps=[StepDef("first"), APPROVAL, StepDef("last")])


def sql_of(section: str) -> str:
    """Return the block of SQL in that section of the page."""
    text = PAGE.read_text()
    (part,) = re.findall(rf"^### {section}\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"^```sql\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    """Where an administrator says what the page has."""
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        yield connection


def say(connection: psycopg.Connection, statements: str) -> list[tuple[object, ...]]:
    cursor = connection.execute(statements.encode())
    return cursor.fetchall() if cursor.description else []


# -- partitions -------------------------------------------------------------------------------------


@pytest.fixture
def partitioned(postgres_url: str, connection: psycopg.Connection) -> Iterator[PostgresExecutionStore]:
    """A store that was in use before its tables were partitioned."""
    with open_store(postgres_url) as store, engine_with(store) as engine:
        engine.run(FLOW, execution_id="before", labels={"customer": "c1"})
    say(connection, sql_of("Partitions"))
    rows = "SELECT execution_id, xmin FROM szal_executions"
    were = say(connection, rows)
    with PostgresExecutionStore.connect(postgres_url) as store:
        assert [each.execution_id for each in store.find()] == ["before"]
        store.migrate()
        assert say(connection, rows) == were, "there is nothing to do for it"
        yield store


def engine_with(store: Store) -> Engine:
    def step(ctx: StepContext) -> str:
        if ctx.inputs.get("fails") and ctx.step.name == "last":
            raise OSError("no route to host")
        return f"{ctx.step.name} done"

    return Engine(step, EngineConfig(execution_store=store))


def test_executions_go_on_in_partitions(partitioned: PostgresExecutionStore, connection: psycopg.Connection) -> None:
    check_indexes_and_triggers(partitioned, connection)
    with engine_with(partitioned) as engine:
        for number in range(30):
            engine.run(FLOW, execution_id=f"e{number}", labels={"customer": f"c{number % 3}"})
        assert partitioned.count(states=WorkflowState.PAUSED) == 31
        for execution_id in partitioned.list():
            assert engine.signal(execution_id, "approve", "yes")
        assert {each.state for each in engine.recover()} == {WorkflowState.COMPLETED}
        assert partitioned.get("before").result["ask"].output == "yes"  # type: ignore[union-attr,index]
        assert partitioned.count(labels={"customer": "c2"}) == 10
        assert [each.execution_id for each in partitioned.find(flow_name="orders", limit=2)] == ["e29", "e28"]
        engine.run(FLOW, {"fails": True}, execution_id="failing")
        engine.signal("failing", "approve", "no")
        assert engine.resume("failing").state is WorkflowState.FAILED
    assert partitioned.remove("e3") is not None
    assert len(say(connection, "SELECT DISTINCT tableoid FROM szal_steps")) == 8
    assert len(say(connection, "SELECT DISTINCT tableoid FROM szal_executions")) == 8
    assert partitioned.prune(keep=1) == 30
    assert say(connection, "SELECT DISTINCT execution_id FROM szal_steps") == [("failing",)]


def check_indexes_and_triggers(partitioned: PostgresExecutionStore, connection: psycopg.Connection) -> None:
    """They are those of a table that is whole: so rows of szal-rs are found, and pages come from an index."""
    connection.execute(
        "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('rust', 'ci', %s)",
        ['{"execution_id":"rust","flow_name":"ci","state":"Completed","started_at":"2026-06-10T12:00:00Z"}'],
    )
    assert [each.state for each in partitioned.find(flow_name="ci")] == [WorkflowState.COMPLETED]
    say(connection, "SET enable_seqscan = off")
    newest = "EXPLAIN SELECT execution_id FROM szal_executions WHERE started IS NOT NULL ORDER BY started DESC LIMIT 9"
    plan = "\n".join(str(row[0]) for row in say(connection, newest))
    assert "Merge Append" in plan
    assert "Sort  " not in plan
    partitioned.remove("rust")


def test_partitions_by_time_are_not_possible(postgres_url: str, connection: psycopg.Connection) -> None:
    """As the page says: this is what PostgreSQL says."""
    open_store(postgres_url).close()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="unique constraint"):
        say(
            connection,
            "CREATE TABLE by_time (LIKE szal_executions, PRIMARY KEY (execution_id)) PARTITION BY RANGE (started)",
        )


# -- an archive -------------------------------------------------------------------------------------


@pytest.fixture
def archive(server: PostgresServer, postgres_url: str, schema: str) -> Iterator[PostgresExecutionStore]:
    """An archive beside the store, under a name of its own."""
    with PostgresExecutionStore.connect(postgres_url, schema=f"{schema}_archive") as archive:
        archive.migrate()
        yield archive
    server.drop_schema(f"{schema}_archive")


def put_away(connection: psycopg.Connection, schema: str) -> None:
    say(connection, sql_of("An archive").replace(ARCHIVE, f"{schema}_archive"))


def of_long_ago(connection: psycopg.Connection, *execution_ids: str) -> None:
    """Have executions, as they are, begin and end 40 days ago."""
    for execution_id in execution_ids:
        for column in ("started", "finished", "head", "data"):
            connection.execute(
                f"UPDATE szal_executions SET {column} = regexp_replace({column}, %s, %s, 'g') WHERE execution_id = %s",
                [r"\d{4}-\d\d-\d\dT", f"{LONG_AGO:%Y-%m-%d}T", execution_id],
            )


def test_what_is_old_moves_to_the_archive_and_is_read_there(
    postgres: PostgresExecutionStore, archive: PostgresExecutionStore, connection: psycopg.Connection, schema: str
) -> None:
    with engine_with(postgres) as engine:
        for name in ("old", "new", "waiting"):
            engine.run(FLOW, execution_id=name, labels={"customer": name})
        for name in ("old", "new"):
            engine.signal(name, "approve", f"{name} yes")
            engine.resume(name)
    of_long_ago(connection, "old")
    was = postgres.get("old")
    for _ in range(2):  # it may be repeated
        put_away(connection, schema)
        assert archive.list() == ["old"]
    assert postgres.prune(older_than=DAYS_31) == 1
    assert {*postgres.list()} == {"new", "waiting"}
    assert archive.get("old") == was
    assert [each.execution_id for each in archive.find(flow_name="orders", labels={"customer": "old"})] == ["old"]
    with engine_with(archive) as engine:
        assert engine.resume("old").outputs["ask"] == "old yes"
        again = engine.rerun("old")
        assert again.outputs == {"first": "first done", "ask": "old yes", "last": "last done"}
    assert archive.prune(older_than=DAYS_31) == 1
    assert archive.remove(str(again.execution_id)) is not None
    assert say(connection, f"SELECT count(*) FROM {schema}_archive.szal_flows") == [(0,)]


def test_what_prune_leaves_is_copied_again(
    postgres: PostgresExecutionStore, archive: PostgresExecutionStore, connection: psycopg.Connection, schema: str
) -> None:
    """A sub-flow that has ended, of an execution that goes on: it may still be undone."""
    ended = record(2, started_at=LONG_AGO, finished_at=LONG_AGO, parent_execution_id="e00001")
    postgres.save(record(1, state=WorkflowState.RUNNING))
    postgres.save(ended)
    put_away(connection, schema)
    assert postgres.prune(older_than=DAYS_31) == 0
    undone = ExecutionRecord(
        "e00002", "ci", WorkflowState.ROLLED_BACK, None, LONG_AGO, LONG_AGO, parent_execution_id="e00001"
    )
    postgres.save(undone)
    postgres.save(record(1, started_at=LONG_AGO, finished_at=LONG_AGO))
    put_away(connection, schema)
    assert postgres.prune(older_than=DAYS_31) == 2
    assert {(each.execution_id, each.state) for each in archive.find()} == {
        ("e00001", WorkflowState.COMPLETED),
        ("e00002", WorkflowState.ROLLED_BACK),
    }


@pytest.mark.skipif(not os.environ.get("SZAL_TEST_FULL"), reason="takes some seconds")
def test_it_is_put_away_while_engines_are_at_work(
    postgres: PostgresExecutionStore, archive: PostgresExecutionStore, connection: psycopg.Connection, schema: str
) -> None:
    """Nothing is lost between the two, and no run is disturbed."""
    done: list[str] = []
    with (
        postgres.engine_sink() as sink,
        Engine(lambda ctx: ctx.step.name, EngineConfig(execution_store=sink)) as engine,
    ):
        flow = FlowDef("busy", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
        for round_ in range(20):
            runs = [engine.start(flow, execution_id=f"r{round_}-{number}") for number in range(8)]
            put_away(connection, schema)
            postgres.prune(older_than=DAYS_31)
            done += [str(run.result(timeout=30).execution_id) for run in runs]
            of_long_ago(connection, *done[-8:])
    put_away(connection, schema)
    postgres.prune(older_than=DAYS_31)
    assert {*archive.list()} == {*done}
    assert postgres.list() == []
