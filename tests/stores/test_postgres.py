"""PostgreSQL's own side: URLs, schemas, indexes, pools, and rows that PostgreSQL does not like."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from processes import wait_until
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from stores.postgres_server import PostgresServer
from stores.samples import NOON, record, run_python

from szal.errors import DecodeError, NotMigrated, StoreClosed, StoreFailed, StoreUnavailable, WriteFailed
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.stores import PostgresExecutionStore, Store, open_store
from szal.stores.database import Transaction
from szal.stores.filters import HEAD, Selection
from szal.stores.heads import COLUMNS
from szal.stores.postgres.migrations import MIGRATIONS

RUNNING = WorkflowState.RUNNING
SECRET = "sesame-open"


def execute(store: PostgresExecutionStore, statement: str, *parameters: object) -> list[tuple]:
    def run(connection: psycopg.Connection) -> list[tuple]:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    return store._database.pool.use(run)


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error!r} {error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


# -- places and secrets -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["postgresql://{}", "postgres://{}"])
def test_a_name_has_neither_user_nor_password(form: str) -> None:
    store = PostgresExecutionStore.connect(form.format(f"me:{SECRET}@db.example:5433/app"), schema="jobs")
    assert store.name == "postgresql://db.example:5433/app, schema jobs"
    assert SECRET not in repr(store) + repr(store._database.pool) + repr(store.engine_sink())
    store.close()


@pytest.mark.parametrize("url", [f"postgresql://me:{SECRET}@[host/app", f"host=x {SECRET}", f"a://{SECRET}@b"])
def test_a_url_that_is_none_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://user:password@host") as caught:
        PostgresExecutionStore.connect(url)
    assert SECRET not in everything_said(caught.value)


def test_bad_options_are_refused() -> None:
    for options in ({"min_size": 5, "max_size": 4}, {"min_size": -1}, {"min_size": 0, "max_size": 0}):
        with pytest.raises(ValueError, match="min_size"):
            PostgresExecutionStore.connect("postgresql://host/app", **options)
    with pytest.raises(ValueError, match="retry_timeout"):
        PostgresExecutionStore.connect("postgresql://host/app", retry_timeout=-1)


def fails_fast(url: str, kind: type[Exception], words: str, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    defaults = PostgresExecutionStore.connect.__func__.__kwdefaults__  # type: ignore[attr-defined]
    with patch.dict(defaults, retry_timeout=50.0), pytest.raises(kind, match=words) as caught:
        open_store(url)
    assert time.monotonic() - began < 40
    assert SECRET not in everything_said(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["postgresql://me:{}@127.0.0.1:1/app", "postgresql://me:{}@szal.invalid/app"])
def test_a_host_that_is_not_there_is_told_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    fails_fast(url.format(SECRET), StoreUnavailable, r"refused|resolve", caplog)


@pytest.fixture
def locked(server: PostgresServer) -> str:
    """The URL of a role that needs a password, up to there."""
    if not server.controlled:
        pytest.skip("needs a server with rules of its own")
    return server.url.replace("postgres@", "locked:{}@")


@pytest.mark.parametrize("password", [f"not-{SECRET}", ""])
def test_a_wrong_password_is_told_at_once(locked: str, password: str, caplog: pytest.LogCaptureFixture) -> None:
    fails_fast(locked.format(password), StoreFailed, "password", caplog)


def test_a_wrong_database_is_told_at_once(locked: str, caplog: pytest.LogCaptureFixture) -> None:
    url = locked.format(SECRET).replace("/postgres?", "/nowhere?")
    fails_fast(url, StoreFailed, 'database "nowhere" does not exist', caplog)


def test_a_wrong_password_loses_what_a_sink_was_given_and_says_so(locked: str) -> None:
    with PostgresExecutionStore.connect(locked.format("wrong")) as store:
        sink = store.engine_sink()
        sink.save(record(1))
        with pytest.raises(WriteFailed, match=r"e00001 \(StoreFailed: .*password"):
            sink.close(20)


def test_too_many_connections_may_pass(locked: str, server: PostgresServer) -> None:
    server.execute("ALTER ROLE locked CONNECTION LIMIT 0")
    with PostgresExecutionStore.connect(locked.format(SECRET)) as store:
        with pytest.raises(StoreUnavailable, match="too many connections"):
            store.list()
        server.execute("ALTER ROLE locked CONNECTION LIMIT -1")
        with pytest.raises(NotMigrated):
            store.list()


def test_a_server_that_let_us_in_may_refuse_us_for_a_while(locked: str, server: PostgresServer) -> None:
    with PostgresExecutionStore.connect(locked.format(SECRET), retry_timeout=0.1) as store:
        with pytest.raises(NotMigrated):
            store.list()
        server.execute("ALTER ROLE locked NOLOGIN")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'locked'")
        with pytest.raises(StoreUnavailable, match="not permitted to log in"):
            store.list()
        server.execute("ALTER ROLE locked LOGIN")
        with pytest.raises(NotMigrated):
            store.list()


# -- set-up -----------------------------------------------------------------------------------------


def test_the_table_is_that_of_szal_rs(postgres: PostgresExecutionStore, schema: str) -> None:
    columns = execute(
        postgres,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = 'szal_executions' ORDER BY ordinal_position",
        schema,
    )
    assert columns[:3] == [(name, "text", "NO") for name in ("execution_id", "flow_name", "data")]
    assert {*columns[3:]} == {(name, "jsonb" if name == "labels" else "text", "YES") for name in COLUMNS}


def test_a_store_that_was_not_migrated_says_so(postgres_url: str) -> None:
    with PostgresExecutionStore.connect(postgres_url) as store:
        for use in (lambda: store.get("e1"), lambda: store.save(record(1)), store.find, store.list):
            with pytest.raises(NotMigrated, match=r"szal_\w+ is missing: call store.migrate\(\) once"):
                use()
        execute(store, "CREATE TABLE szal_executions (execution_id TEXT, flow_name TEXT, data TEXT)")
        with pytest.raises(NotMigrated, match="column state of table szal_executions is missing"):
            store.list()


def test_migrate_twice_changes_nothing(postgres: PostgresExecutionStore) -> None:
    def objects() -> list[tuple]:
        return execute(postgres, "SELECT oid, relname, relfilenode FROM pg_class WHERE relname LIKE 'szal%' ORDER BY 1")

    before = objects()
    postgres.save(record(1))
    postgres.migrate()
    assert objects() == before
    assert postgres.list() == ["e00001"]


@pytest.mark.parametrize("name", ['we"ird % schema', "Szal"])
def test_a_schema_is_made_and_holds_everything(server: PostgresServer, schema: str, name: str) -> None:
    name = f"{schema} {name}"
    with PostgresExecutionStore.connect(server.url, schema=name) as store:
        with pytest.raises(NotMigrated):
            store.list()
        store.migrate()
        try:
            store.save(record(1, labels={"a": "b"}))
            assert store.list() == store.list("ci") == ["e00001"]
            assert store.find(flow_name="ci", labels={"a": "b"}, states=WorkflowState.COMPLETED)[0].labels == {"a": "b"}
            assert store.prune(keep=0) == 1
            with PostgresExecutionStore.connect(server.url_of(schema)) as other, pytest.raises(NotMigrated):
                other.list()
        finally:
            execute(store, 'DROP SCHEMA "{}" CASCADE'.format(name.replace('"', '""')))


def test_ten_processes_migrate_at_once(server: PostgresServer, schema: str) -> None:
    code = """
        import os, sys
        from szal.stores import PostgresExecutionStore
        read, write = os.pipe()
        children = []
        for _ in range(10):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(write)
                os.read(read, 1)  # all at once
                PostgresExecutionStore.connect(sys.argv[1], schema=sys.argv[2]).migrate()
                sys.exit(0)
        os.close(write)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    """
    server.drop_schema(schema)
    done = run_python(code, server.url, schema)
    assert done.returncode == 0, done.stderr
    with PostgresExecutionStore.connect(server.url, schema=schema) as store:
        assert store.list() == []
        assert execute(store, f"SELECT name FROM {schema}.szal_migrations") == [(name,) for name, _ in MIGRATIONS]


def test_nothing_is_opened_before_it_is_used(server: PostgresServer, schema: str) -> None:
    with PostgresExecutionStore.connect(server.url_of(schema)) as store:
        assert server.sessions(schema) == []
        store.migrate()
        assert server.sessions(schema) != []
    wait_until(lambda: server.sessions(schema) == [])
    with pytest.raises(StoreClosed, match="is closed"):
        store.list()
    store.close()


# -- pools of somebody else -------------------------------------------------------------------------


@pytest.fixture
def pool(postgres_url: str, postgres: Store) -> Iterator[ConnectionPool]:
    """A pool that is set up as szal's is not."""
    with ConnectionPool(postgres_url, min_size=1, max_size=2, kwargs={"row_factory": dict_row}) as pool:
        yield pool


def test_a_borrowed_pool_is_used_and_left_as_it_was(pool: ConnectionPool) -> None:
    with PostgresExecutionStore.from_pool(pool) as store:
        store.migrate()
        with store.engine_sink() as sink:
            sink.save(record(1))
        assert store.find()[0].execution_id == "e00001"
        assert store.remove("e00001") == record(1)
    with pool.connection() as connection:
        assert not connection.autocommit
        assert connection.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


def test_a_borrowed_pool_outlives_its_connections(pool: ConnectionPool, server: PostgresServer, schema: str) -> None:
    store = PostgresExecutionStore.from_pool(pool)
    store.save(record(1))
    for number in range(2, 5):
        server.terminate(schema)
        store.save(record(number))
    assert len(store.list()) == 4


def test_a_borrowed_pool_that_its_owner_has_closed_says_so(pool: ConnectionPool) -> None:
    store = PostgresExecutionStore.from_pool(pool)
    assert store.list() == []
    pool.close()
    with pytest.raises(StoreClosed, match="the PostgreSQL pool"):
        store.list()


# -- indexes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(server: PostgresServer) -> Iterator[PostgresExecutionStore]:
    """A store with 10 000 executions of four flows."""
    schema = server.new_schema()
    with open_store(server.url_of(schema)) as store:
        assert isinstance(store, PostgresExecutionStore)
        execute(
            store,
            "INSERT INTO szal_executions SELECT 'e' || n, 'flow' || n % 4, json_build_object('execution_id', 'e' || n,"
            " 'state', (ARRAY['Completed', 'Completed', 'Failed', 'Running', 'Paused'])[1 + n % 5], 'result', NULL,"
            " 'started_at', to_char(timestamp '2026-06-10 12:00' + n * interval '1 second',"
            "  'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'finished_at', NULL)::text FROM generate_series(1, 10000) AS n",
        )
        execute(store, "ANALYZE szal_executions")
        yield store
    server.drop_schema(schema)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "szal_executions_started"),
        ({"since": NOON}, "szal_executions_started"),
        ({"flow_name": "flow1", "states": RUNNING}, "szal_executions_flow"),
        ({"flow_name": "flow1"}, "szal_executions_flow"),
        ({"flow_name": "flow1", "states": [RUNNING, WorkflowState.PAUSED]}, "szal_executions_flow"),
        ({"states": RUNNING}, "szal_executions_state"),
        ({"states": [RUNNING, WorkflowState.PAUSED]}, "szal_executions_state"),
    ],
)
@pytest.mark.parametrize("after", [None, ("2026-06-10T14:00:000000000", "e7200")])
def test_the_newest_50_come_from_an_index(
    filled: PostgresExecutionStore, filters: dict, index: str, after: tuple[str, str] | None
) -> None:
    statement, parameters = filled._database.statements.page(Selection.of(limit=50, after=after, **filters))
    plan = [row[0] for row in execute(filled, f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}", *parameters)]
    text = "\n".join(plan)
    scans = [line for line in plan if " Scan " in line and "szal_executions" in line]
    assert scans, text
    # For a state that nothing is in, any index will do; and what much is in is as soon found among all.
    chosen = (f"Index Scan Backward using {index}", "Index Scan Backward using szal_executions_started")
    assert all(any(each in line for each in chosen) for line in scans if "rows=0.00" not in line), text
    assert all(int(line.split(":")[1]) <= 1000 for line in plan if "Rows Removed by Filter" in line), text
    assert all("Index Scan Backward" in line and float(line.split("rows=")[1].split()[0]) <= 50 for line in scans), text


def test_the_right_rows_come_from_it(filled: PostgresExecutionStore) -> None:
    found = filled.find(flow_name="flow3", states=RUNNING, limit=50)
    assert [int(summary.execution_id[1:]) for summary in found] == [
        number for number in range(10000, 0, -1) if number % 4 == 3 and number % 5 == 3
    ][:50]
    assert filled.count(flow_name="flow3", states=RUNNING) == 500


def test_the_order_is_that_of_code_points(postgres: PostgresExecutionStore) -> None:
    names = ["B", "a", "ä", "Z", "-", "a b", "aB", "🚀", "_"]
    for name in names:
        postgres.save(ExecutionRecord(name, "ci", started_at=NOON))
    assert postgres.list() == sorted(names)
    first = postgres.find(limit=4)
    assert [summary.execution_id for summary in first + postgres.find(after=first[-1])] == sorted(names, reverse=True)


# -- rows that PostgreSQL does not like -------------------------------------------------------------

RECORD = (
    '{"execution_id":"e1","flow_name":"ci","state":"Failed","result":null,"inputs":{"output":"%s"},'
    '"started_at":"2026-06-10T12:00:00Z","finished_at":"2026-06-10T12:00:01Z","labels":{"team":"%s"}}'
)


def test_rows_that_are_no_records_do_not_hide_the_others(postgres: PostgresExecutionStore) -> None:
    broken = [
        "",
        "{",
        "null",
        "[]",
        "5",
        '{"state": "Running"}',
        '{"state": "Lost", "started_at": "2026-06-10T00:00:00Z"}',
        '{"state": "%s", "started_at": "2026-06-10T00:00:00Z"}' % ("x" * 100_000),
        '{"state": {"a": 1}, "started_at": [1], "labels": 3}',
        "[" * 100_000,
    ]
    for number, data in enumerate(broken):
        execute(
            postgres,
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (%s, 'ci', %s)",
            f"b{number}",
            data,
        )
    postgres.save(record(1))
    assert [summary.execution_id for summary in postgres.find()] == [
        "e00001",
        "b7",
        "b6",
        *(f"b{number}" for number in (9, 8, 5, 4, 3, 2, 1, 0)),
    ]
    assert postgres.find(flow_name="ci", limit=None) == postgres.find()
    assert postgres.find(labels={"a": "b"}) == []
    assert postgres.prune(keep=0) == 1
    for number in range(len(broken)):
        with pytest.raises(DecodeError, match=f"in the record of execution 'b{number}'"):
            postgres.get(f"b{number}")
        with pytest.raises(DecodeError):
            postgres.remove(f"b{number}")
    assert postgres.list() == []


@pytest.mark.parametrize(
    "text", [r"\u0000", r"\\u0000", r"\\\u0000", r"\ud800", r"\\ud800 \ude00", r"\ud83d\ude00", r"\u001b[31m", r"\\u"]
)
def test_what_others_write_is_found_whatever_its_escapes(postgres: PostgresExecutionStore, text: str) -> None:
    execute(
        postgres,
        "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('e1', 'ci', %s)",
        RECORD % (text, "a"),
    )
    execute(
        postgres,
        "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('e2', 'ci', %s)",
        RECORD % ("", text),
    )
    found = postgres.find(flow_name="ci", states=WorkflowState.FAILED)
    assert [summary.execution_id for summary in found] == ["e2", "e1"]
    assert found[1].labels == {"team": "a"}
    assert postgres.count(labels={"team": "a"}) == 1
    assert postgres.get("e1").state is WorkflowState.FAILED  # type: ignore[union-attr]
    assert postgres.prune(keep=0) == 2


def test_a_label_with_escapes_is_itself(postgres: PostgresExecutionStore) -> None:
    labels = {"colour": "\x1b[31m", "back\\slash": "\\ud800", "ü🚀": "\u2028"}
    postgres.save(record(1, labels=labels))
    assert postgres.find(labels=labels)[0].labels == labels


NULS = {
    'result.steps[1].output["x.y"][0] holds a NUL': {
        "result": FlowResult(
            "ci",
            [
                StepResult("s", "fetch", StepStatus.COMPLETED, r"\u0000"),
                StepResult("t", "build", StepStatus.COMPLETED, {"x.y": ["a\x00b"]}),
            ],
        )
    },
    'inputs["a b"] holds a NUL': {"inputs": {"a b": "\x00"}},
    'labels["x"] holds a NUL': {"labels": {"x": "\x00"}},
    "a key of inputs": {"inputs": {"\x00": 1}},
}


@pytest.mark.parametrize("problem", list(NULS))
def test_text_with_a_nul_is_refused_by_path(postgres: PostgresExecutionStore, problem: str) -> None:
    with pytest.raises(StoreFailed) as caught:
        postgres.save(record(1, **NULS[problem]))
    assert problem in str(caught.value)
    assert str(caught.value).endswith(", which PostgreSQL cannot store")
    with postgres.engine_sink() as sink:
        for number in range(5):
            sink.save(record(number, **NULS[problem] if number == 2 else {}))
        with pytest.raises(WriteFailed, match="e00002"):
            sink.flush()
    assert postgres.list() == ["e00000", "e00001", "e00003", "e00004"]


def test_a_nul_in_a_message_is_replaced(postgres: PostgresExecutionStore) -> None:
    postgres.save(record(1, error="device said: \0"))
    assert postgres.get("e00001").error == "device said: \ufffd"


@pytest.mark.parametrize("name", ["a\x00b", "\ud800"])
def test_an_id_that_is_no_text_of_postgresql_is_an_error_of_szal(postgres: PostgresExecutionStore, name: str) -> None:
    for use in (postgres.get, postgres.remove, lambda name: postgres.find(flow_name=name)):
        with pytest.raises(StoreFailed):
            use(name)
    if name != "\ud800":
        with pytest.raises(StoreFailed, match=r"'a\\x00b' holds a NUL"):
            postgres.save(ExecutionRecord(name, "ci"))


def test_a_name_over_the_limits_of_an_index_takes_no_other_down(postgres: PostgresExecutionStore) -> None:
    import random

    name = "".join(random.choices("0123456789abcdef", k=20_000))
    with postgres.engine_sink() as sink:
        for number in range(5):
            sink.save(record(number, flow=name if number == 2 else "ci"))
        with pytest.raises(WriteFailed, match=r"e00002 \(StoreFailed: .*index"):
            sink.flush()
    assert len(postgres.list()) == 4


def test_a_batch_that_fails_leaves_nothing_behind(postgres: PostgresExecutionStore) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.many(postgres._database.statements.save, [save.row()])
        raise KeyError

    from szal.stores.writes import Save

    save = Save.of(record(1))
    with pytest.raises(KeyError):
        postgres._database.transact(fail)
    assert postgres.list() == []


def test_every_spelling_of_a_moment_finds_its_place(postgres: PostgresExecutionStore) -> None:
    moments = ["00Z", "00.000001+00:00", "00.001Z", "00.001000999Z", "00.5+00:00", "01Z"]
    for number, text in enumerate(moments):
        data = (RECORD % ("", "")).replace("2026-06-10T12:00:00Z", f"2026-06-10T12:00:{text}")
        execute(
            postgres,
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (%s, 'ci', %s)",
            f"{9 - number}",
            data,
        )
    assert postgres.list() == ["9", "8", "6", "7", "5", "4"]


def test_prune_passes_over_what_another_is_changing(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    for number in range(4):
        postgres.save(record(number))
    with psycopg.connect(postgres_url) as other:
        data = postgres.get("e00001")
        other.execute(
            "UPDATE szal_executions SET data = replace(data, 'Completed', 'Running') WHERE execution_id = 'e00001'"
        )
        assert postgres.prune(keep=0) == 3
    assert data is not None
    assert postgres.list() == ["e00001"]
    assert postgres.prune(keep=0) == 0


def test_its_examples_need_no_server(tmp_path: Path) -> None:
    done = run_python(
        "import doctest, szal.stores.postgres.store as p; sys = __import__('sys'); sys.exit(doctest.testmod(p)[0])"
    )
    assert done.returncode == 0, done.stdout


# -- what is asked of a record, without parsing its result ----------------------------------------------

START = "2026-06-10T00:00:00.123456+00:00"
LONG = {"steps": [{"output": "…🚀" * 400, "started_at": START, "note": ',"started_at":"'} for _ in range(8)]}


def big(**fields: object) -> str:
    """A record of more than 8000 bytes, in the order of keys that szal and szal-rs write."""
    first = {"execution_id": 'e "1"', "flow_name": "пример", "state": "Completed", "result": LONG}
    whole = {**first, "started_at": START, "finished_at": None}
    return json.dumps(whole | fields, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        big(),
        big(inputs={"n": 1}, labels={"who": "ann"}, error='a "quoted" error', parent_execution_id="p"),
        big(inputs={"x": [{"a": 1, "started_at": "mine"}]}, labels={"started_at": "mine"}),
        big(inputs={"text": ',"started_at":"mine"}'}, labels={"\\": '"'}),
        big(inputs={"filler": "🚀" * 1999 + "x"}),
        big(inputs={"filler": "🚀" * 1999 + "xy"}),
        big(inputs={"filler": "é" * 20_000}),
        json.dumps(dict(reversed(json.loads(big(labels={"who": "bob"})).items()))),
        json.dumps(json.loads(big()), indent=1),
        big(flow_name="f" * 3000),
        big(state="Paused", result=None, inputs={"filler": "x" * 9000}),
    ],
)
def test_long_records_show_what_they_hold(postgres: PostgresExecutionStore, text: str) -> None:
    held = json.loads(text)
    ((head,),) = postgres._database.read("SELECT szal_head(%s)", [text])
    assert json.loads(head) == [held.get(key) for key in HEAD]


def test_of_a_long_record_the_result_is_not_looked_at(postgres: PostgresExecutionStore) -> None:
    ((kept,),) = postgres._database.read("SELECT szal_cut(%s)", [big(labels={"who": "ann"})])
    assert json.loads(kept) == {
        key: value for key, value in json.loads(big(labels={"who": "ann"})).items() if value != LONG
    }


@pytest.mark.parametrize("text", [big()[:-1], big().replace(START, START + '"', 20), "x" * 9000])
def test_long_text_that_is_no_record_is_none(postgres: PostgresExecutionStore, text: str) -> None:
    assert postgres._database.read("SELECT szal_head(%s)", [text]) == [(None,)]
