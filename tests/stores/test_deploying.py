"""Databases as deployments leave them: several that migrate, tables in other places, tables that somebody changed."""

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from pairs import FULL, pairs
from processes import wait_until
from psycopg_pool import ConnectionPool
from stores.outside import RUST_TABLE
from stores.postgres_server import PostgresServer
from stores.samples import record, run_python

from szal import Engine, EngineConfig, FlowDef, StepDef
from szal.errors import NotMigrated, StoreFailed
from szal.stores import PostgresExecutionStore, SqliteExecutionStore, Store, open_store
from szal.stores.postgres import migrations
from szal.stores.postgres.migrations import TABLES
from szal.stores.postgres.record_columns import FUNCTIONS
from szal.stores.structure import COLUMNS, INDEXES, KEYS

# -- several that migrate at once -------------------------------------------------------------------

LEVELS = ["read committed", "repeatable read", "serializable"]


def isolated(server: PostgresServer, schema: str, level: str) -> str:
    path, name = server.url_of(schema).rsplit("&", 1)
    escaped = level.replace(" ", "%5C%20")
    return f"{path}%20-cdefault_transaction_isolation%3D{escaped}&{name}"


SITUATIONS = [("nothing", True), ("nothing", False), ("no schema", True), ("older", True), ("older", False)]


@pytest.mark.parametrize(
    ("level", "before", "is_named"), [(level, *rest) for level in LEVELS[: 3 if FULL else 2] for rest in SITUATIONS]
)
def test_all_who_wait_for_another_that_migrates_go_on(
    server: PostgresServer, schema: str, level: str, before: str, is_named: bool
) -> None:
    if before == "no schema":
        server.drop_schema(schema)
    if before == "older":
        make_older(server, schema)
    url = isolated(server, schema, level)
    stores = [PostgresExecutionStore.connect(url, schema=schema if is_named else None, min_size=0) for _ in range(3)]
    errors: list[BaseException] = []

    def migrate(store: PostgresExecutionStore) -> None:
        try:
            store.migrate()
        except BaseException as error:
            errors.append(error)

    def waiting() -> bool:
        text = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event = 'advisory'"
        return server.execute(text) == [(3,)]

    threads = [threading.Thread(target=migrate, args=[store]) for store in stores]
    with psycopg.connect(server.url) as holder:  # so that all have looked, and wait
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [migrations._LOCK])
        for thread in threads:
            thread.start()
        wait_until(waiting)
    for thread in threads:
        thread.join()
    assert errors == []
    for store in stores:
        store.save(record(1))
        assert store.list() == ["e00001"]
        store.close()


def make_older(server: PostgresServer, schema: str) -> None:
    """Leave in *schema* what szal made before its last two migrations."""
    with PostgresExecutionStore.connect(server.url_of(schema)) as store:
        store.migrate()
    with psycopg.connect(server.url_of(schema), autocommit=True) as connection:
        connection.execute("ALTER TABLE szal_leases DROP COLUMN awaits")
        connection.execute("DROP FUNCTION szal_cut")
        connection.execute("DELETE FROM szal_migrations WHERE name > 'm003'")


# -- where the tables are ---------------------------------------------------------------------------


@pytest.fixture
def two_schemas(server: PostgresServer, schema: str) -> Iterator[tuple[str, str]]:
    """The name of a schema that comes first in the search path and is not there yet, and a URL for both."""
    own = f"{schema}_own"
    yield own, server.url_of(f"{own},{schema}")
    server.drop_schema(own)


def test_a_new_schema_of_the_roles_own_hides_nothing(server: PostgresServer, two_schemas: tuple[str, str]) -> None:
    own, url = two_schemas
    with open_store(url) as store:
        store.save(record(1))
        server.execute(f"CREATE SCHEMA {own}")
        assert store.list() == ["e00001"]
    with open_store(url) as store:
        assert store.list() == ["e00001"]
        store.save(record(2))
    assert server.execute(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{own}'") == [(0,)]


def test_an_older_version_is_upgraded_where_it_is(
    server: PostgresServer, schema: str, two_schemas: tuple[str, str]
) -> None:
    own, url = two_schemas
    make_older(server, schema)
    server.execute(f"CREATE SCHEMA {own}")
    with PostgresExecutionStore.connect(url) as store:
        with pytest.raises(NotMigrated, match="column awaits of table szal_leases is missing"):
            store.list()
        store.migrate()
        assert store.list() == []
    assert server.execute(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{own}'") == [(0,)]


def test_the_table_of_szal_rs_is_found(server: PostgresServer, schema: str, two_schemas: tuple[str, str]) -> None:
    own, url = two_schemas
    server.execute(migrations.CREATE_TABLE.replace("szal.", f"{schema}."))
    server.execute(f"CREATE SCHEMA {own}")
    with open_store(url) as store:
        store.save(record(1))
    assert server.execute(f"SELECT execution_id FROM {schema}.szal_executions") == [("e00001",)]


def test_a_search_path_that_changes_later_changes_nothing(server: PostgresServer, schema: str) -> None:
    with open_store(server.url_of(schema)) as store:
        assert isinstance(store, PostgresExecutionStore)
        assert store.pool is not None
        with store.pool.connection() as connection:
            connection.execute("SET search_path = pg_catalog")
        store.save(record(1))
        assert store.list() == ["e00001"]


def test_no_schema_at_all_is_told(server: PostgresServer, schema: str) -> None:
    server.drop_schema(schema)
    with PostgresExecutionStore.connect(server.url_of(schema)) as store:
        with pytest.raises(NotMigrated, match="the schema of table szal_executions is missing"):
            store.list()
        with pytest.raises(StoreFailed, match="no schema in the search path: name one"):
            store.migrate()


# -- what is there, and what is noted ---------------------------------------------------------------

Administrator = Callable[[str], list[Any]]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Administrator]]:
    """A URL of an empty database, and what runs statements there."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "szal.db", isolation_level=None)) as file:
            yield f"sqlite:///{tmp_path}/szal.db", lambda said: file.execute(said).fetchall()
    else:
        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url, autocommit=True) as connection:

            def run(said: str) -> list[Any]:
                cursor = connection.execute(said.encode())
                return cursor.fetchall() if cursor.description else []

            yield url, run


def connected(url: str) -> Store:
    kind = SqliteExecutionStore if url.startswith("sqlite") else PostgresExecutionStore
    return kind.connect(url)


def notes(url: str) -> str:
    return "_sqlite_migrations" if url.startswith("sqlite") else "szal_migrations"


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        *((f"DROP TABLE {table}", f"table {table}") for table in COLUMNS),
        ("ALTER TABLE szal_leases DROP COLUMN awaits", "column awaits of table szal_leases"),
    ],
)
def test_what_is_gone_is_told_before_any_step_runs_and_made_again(
    place: tuple[str, Administrator], damage: str, missing: str
) -> None:
    url, run = place
    open_store(url).close()
    run(damage)
    called: list[str] = []
    flow = FlowDef("ci", steps=[StepDef("a")])
    with connected(url) as store:
        engine = Engine(lambda ctx: called.append("a"), EngineConfig(execution_store=store))
        with pytest.raises(NotMigrated, match=f"{missing} is missing: call store.migrate"):
            engine.run(flow)
        assert called == []
        store.migrate()
        engine.run(flow)
        assert called == ["a"]


UNTOUCHED = ("szal_flows", "szal_schedules", "szal_capacities", "szal_permits", "szal_rates")


@pytest.mark.parametrize("table", [table for table in COLUMNS if table not in UNTOUCHED])
def test_what_is_dropped_later_is_told_and_made_again(place: tuple[str, Administrator], table: str) -> None:
    url, run = place
    with open_store(url) as store:
        store.save(record(1))
        run(f"DROP TABLE {table}")
        with pytest.raises(NotMigrated, match=f"table {table} is missing"):
            store.remove("e00001")
        store.migrate()
        store.save(record(2))
        assert store.remove("e00002")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_is_gone_is_made_again(postgres_url: str, server: PostgresServer, function: str) -> None:
    open_store(postgres_url).close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP FUNCTION {function} CASCADE".encode())
    with PostgresExecutionStore.connect(postgres_url) as store:
        with pytest.raises(NotMigrated, match=f"function {function} is missing"):
            store.list()
        store.migrate()
        store.save(record(1))
        assert [each.execution_id for each in store.find()] == ["e00001"]


@pytest.mark.parametrize("function", [each for each in FUNCTIONS if each != "szal_fill"])
def test_a_function_that_is_gone_is_not_taken_for_a_fault_of_a_row(postgres_url: str, function: str) -> None:
    open_store(postgres_url).close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP FUNCTION {function}".encode())
        with pytest.raises(psycopg.errors.UndefinedFunction, match=function):
            connection.execute("INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('e', 'ci', '{}')")


@pytest.mark.parametrize("missing", ["NEW.nought", "(SELECT 1 FROM nought)"], ids=["column", "table"])
def test_what_somebody_elses_trigger_misses_is_not_ours_to_make(place: tuple[str, Administrator], missing: str) -> None:
    url, run = place
    open_store(url).close()
    if url.startswith("sqlite"):
        run(f"CREATE TRIGGER mine AFTER INSERT ON szal_executions BEGIN SELECT {missing}; END")
    else:
        body = f"RAISE NOTICE '%', {missing}; RETURN NEW;"
        run(f"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        run("CREATE TRIGGER mine BEFORE INSERT ON szal_executions FOR EACH ROW EXECUTE FUNCTION mine()")
    with connected(url) as store, pytest.raises(StoreFailed, match="nought"):
        store.save(record(1))


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_that_is_gone_is_made_again_and_nobody_refused(place: tuple[str, Administrator], index: str) -> None:
    url, run = place
    open_store(url).close()
    run(f"DROP INDEX {index}")
    with connected(url) as store:
        assert store.list() == []
        store.migrate()
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.DuplicateTable), match="exists"):
        run(f"CREATE INDEX {index} ON szal_executions (flow_name)")


def test_an_index_made_by_hand_is_left(place: tuple[str, Administrator]) -> None:
    url, run = place
    run(RUST_TABLE)
    run("CREATE INDEX szal_executions_flow ON szal_executions (flow_name)")
    with open_store(url) as store:
        store.save(record(1))
        assert store.list("ci") == ["e00001"]


def test_notes_that_are_lost_are_made_again(place: tuple[str, Administrator]) -> None:
    url, run = place
    with open_store(url) as store:
        store.save(record(1))
    run(f"DROP TABLE {notes(url)}")
    with connected(url) as store:
        with pytest.raises(NotMigrated, match="what migration m001_executions makes is missing"):
            store.list()
        store.migrate()
        assert store.list() == ["e00001"]


def test_what_a_newer_szal_has_changed_is_refused(place: tuple[str, Administrator]) -> None:
    url, run = place
    open_store(url).close()
    run(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('szal', 'm999_more', 'now')"
        if url.startswith("sqlite")
        else "INSERT INTO szal_migrations VALUES ('m999_more', now())"
    )
    with connected(url) as store:
        for use in (store.list, store.migrate, lambda: store.save(record(1))):
            with pytest.raises(NotMigrated, match=r"newer version of szal has changed the tables \(m999_more\)"):
                use()


def test_a_table_of_somebody_else_is_not_repaired_but_told(place: tuple[str, Administrator]) -> None:
    url, run = place
    run("CREATE TABLE szal_signals (anything TEXT)")
    with connected(url) as store:
        with pytest.raises(StoreFailed, match="column execution_id of table szal_signals is missing"):
            store.migrate()
        with pytest.raises(NotMigrated):
            store.list()
    run("DROP TABLE szal_signals")
    open_store(url).close()


@pytest.mark.parametrize("table", KEYS)
def test_a_table_made_by_hand_without_its_key_is_told(place: tuple[str, Administrator], table: str) -> None:
    """Its rows would be written twice, or not at all."""
    url, run = place
    open_store(url).close()
    run(f"CREATE TABLE copy AS SELECT * FROM {table}")
    run(f"DROP TABLE {table}")
    run(f"CREATE TABLE {table} AS SELECT * FROM copy")
    key = ", ".join(KEYS[table])
    with connected(url) as store:
        with pytest.raises(StoreFailed, match=rf"a primary key \({key}\) of table {table} is missing"):
            store.migrate()
        with pytest.raises(NotMigrated, match="a primary key"):
            store.list()
    run(f"CREATE UNIQUE INDEX by_hand ON {table} ({key})")
    with open_store(url) as store:
        store.save(record(1))
        assert store.list() == ["e00001"]


def test_tables_and_columns_are_those_that_migrations_make(place: tuple[str, Administrator]) -> None:
    url, run = place
    open_store(url).close()
    if url.startswith("sqlite"):
        said = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    else:
        said = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    made = {(table, column) for table, column in run(said) if table.startswith("szal_") and table != "szal_migrations"}
    tables = (
        {**COLUMNS, "szal_labels": ("key", "value", "started", "execution_id")} if url.startswith("sqlite") else TABLES
    )
    assert made == {(table, column) for table, columns in tables.items() for column in columns}


def test_each_migration_can_be_done_again(place: tuple[str, Administrator]) -> None:
    url, run = place
    with open_store(url) as store:
        store.save(record(1))
    run(f"DELETE FROM {notes(url)}")
    with open_store(url) as store:
        assert store.list() == [each.execution_id for each in store.find()] == ["e00001"]


def test_a_role_that_may_not_read_the_notes_uses_the_tables(server: PostgresServer, schema: str) -> None:
    role = f"{schema}_role"
    open_store(server.url_of(schema)).close()
    try:
        server.execute(f"CREATE ROLE {role} LOGIN")
        server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        server.execute(f"REVOKE ALL ON {schema}.szal_migrations FROM {role}")
        with PostgresExecutionStore.connect(f"{server.url_of(schema)}&user={role}") as store:
            store.migrate()
            store.save(record(1))
            assert store.list() == ["e00001"]
    finally:
        server.execute(f"DROP OWNED BY {role}")
        server.execute(f"DROP ROLE {role}")


# -- SQLite -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "journal", "bits"), pairs(["", "?mode=ro"], ["wal", "delete"], [0o755, 0o555]))
def test_what_can_only_be_read_is_listed_and_shown(mode: str, journal: str, bits: int) -> None:
    code = """
        import contextlib, os, sqlite3, sys, tempfile
        from szal.errors import StoreUnavailable
        from szal.model.results import ExecutionRecord
        from szal.model.state import WorkflowState
        from szal.cli.history import find_by_prefix, reading
        from szal.stores import open_store

        mode, journal, bits = sys.argv[1], sys.argv[2], int(sys.argv[3])
        record = ExecutionRecord("e1", "ci", WorkflowState.COMPLETED)
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            url = f"sqlite:///{place}/szal.db"
            with open_store(url) as store:
                store.save(record)
            with contextlib.closing(sqlite3.connect(f"{place}/szal.db", isolation_level=None)) as file:
                file.execute(f"PRAGMA journal_mode = {journal}")
            os.chmod(f"{place}/szal.db", 0o444)
            os.chmod(place, bits)
            if (child := os.fork()) == 0:
                if os.geteuid() == 0:
                    os.setuid(65534)
                with reading(url + mode) as store:
                    assert store.list() == [each.execution_id for each in store.find()] == ["e1"]
                    assert find_by_prefix(store, "e") == store.get("e1")
                    with contextlib.suppress(StoreUnavailable):
                        store.save(record)
                        raise AssertionError
                os._exit(0)
            code = os.waitpid(child, 0)[1]
            os.chmod(place, 0o755)
            assert code == 0
    """
    done = run_python(code, mode, journal, str(bits))
    assert done.returncode == 0, done.stderr


def test_an_sqlite_that_is_too_old_is_told_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(StoreFailed, match=r"SQLite 3.35 or newer is needed, and Python has 3.34.1 here"):
        SqliteExecutionStore.connect(path)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(StoreFailed, match="newer is needed"):
        SqliteExecutionStore.from_connection(connection)


# -- PostgreSQL in any language ---------------------------------------------------------------------

ENCODINGS = ["SQL_ASCII", "LATIN1", "EUC_JP"]


@pytest.fixture(scope="module", params=ENCODINGS)
def encoded(request: pytest.FixtureRequest, server: PostgresServer) -> Iterator[str]:
    """The URL of a migrated database in each encoding."""
    name = f"szal_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    open_store(url).close()
    yield url
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("client", ["", "SQL_ASCII"])
def test_any_text_goes_through_a_database_in_any_encoding(encoded: str, client: str) -> None:
    text = "a\u00e9 \u4e2d\u6587 \U0001f600"
    flow = FlowDef("ci", steps=[StepDef("a", description=text), StepDef("b")])
    with ConnectionPool(encoded, min_size=1, open=True, kwargs={"client_encoding": client} if client else {}) as pool:
        borrowed = PostgresExecutionStore.from_pool(pool)
        for store in (borrowed, open_store(encoded)):
            with store.engine_sink() as sink, Engine(lambda ctx: text, EngineConfig(execution_store=sink)) as engine:
                result = engine.run(flow, inputs={"text": text}, labels={"text": text})
            assert result.success
            found = store.get(result.execution_id)
            assert found is not None
            assert found.labels == {"text": text}
            assert found.result is not None
            assert [step.output for step in found.result.steps] == [text, text]
            assert [row.step_name for row in store.ledger.read(result.execution_id).steps] == ["a", "b"]
            (summary,) = [each for each in store.find() if each.execution_id == result.execution_id]
            assert summary.state is found.state
            assert summary.labels["text"] in (text, "a/u00e9 /u4e2d/u6587 /ud83d/ude00")
            store.remove(result.execution_id)
        with pool.connection() as connection:
            own = client or connection.info.parameter_status("server_encoding")
            assert connection.info.parameter_status("client_encoding") == own


SETTINGS_OF_ROLES = {
    "array_nulls": "off",
    "DateStyle": "SQL,\\ DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
}


def test_settings_of_a_role_change_nothing(server: PostgresServer, schema: str) -> None:
    path, name = server.url_of(schema).rsplit("&", 1)
    options = quote("".join(f" -c {key}={value}" for key, value in SETTINGS_OF_ROLES.items()), safe="")
    began = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
    with open_store(f"{path}{options}&{name}") as store:
        store.save(record(1, flow="NULL", labels={"NULL": "NULL"}, started_at=began))
        (found,) = store.find(since=began, until=began + timedelta(microseconds=1), labels={"NULL": "NULL"})
        assert found.started_at == began
        with store.engine_sink() as sink, Engine(lambda ctx: 1, EngineConfig(execution_store=sink)) as engine:
            result = engine.run(FlowDef("ci", steps=[StepDef("a"), StepDef("b")]))
        assert [row.seq for row in store.ledger.read(result.execution_id).steps] == [0, 1]
        assert store.prune(keep=0) == 2
