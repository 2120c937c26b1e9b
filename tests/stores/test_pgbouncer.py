"""PostgreSQL behind PgBouncer in transaction mode, where each transaction may have another session."""

import logging
import secrets
import threading
from collections.abc import Iterator

import psycopg
import pytest
from click.testing import CliRunner
from helper_engine import bounded, waited
from psycopg_pool import ConnectionPool
from stores.pgbouncer import PgBouncer
from stores.postgres_server import OwnServer, PostgresServer
from stores.samples import record

import szal
from szal.cli.commands import szal as command
from szal.stores import PostgresExecutionStore, Store, open_store
from szal.stores.postgres.listener import _Ear


@pytest.fixture(scope="session")
def bouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    """PgBouncer, once for all tests."""
    if not isinstance(server, OwnServer):
        pytest.skip("PgBouncer is told of a server of our own only")
    bouncer = PgBouncer(server)
    yield bouncer
    bouncer.close()


@pytest.fixture
def url(bouncer: PgBouncer, server: PostgresServer) -> Iterator[str]:
    """A new database behind it: a schema cannot be asked for in the URL."""
    name = f"bounced_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name}")
    yield bouncer.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def work(store: Store) -> None:
    """Run flows on several threads, so that their transactions take turns in one session."""
    flow = szal.FlowDef("ci", steps=[szal.StepDef("a"), szal.StepDef("b")])
    raised: list[Exception] = []

    def run(number: int) -> None:
        try:
            with szal.Engine(lambda ctx: 1, szal.EngineConfig(execution_store=sink)) as engine:
                for each in range(8):
                    engine.run(flow, execution_id=f"e{number}-{each}")
            assert len(store.find(flow_name="ci", limit=3)) == 3
        except Exception as error:
            raised.append(error)

    with store.engine_sink() as sink:
        threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        sink.flush(20)
        assert (raised, sink.stats().failed) == ([], 0)
    assert store.count(states=szal.WorkflowState.COMPLETED) == 32


def test_open_store_needs_to_be_told_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(url) as store:
        work(store)
        assert store.prune(keep=2) == 30
    assert "prepared" not in caplog.text


def test_the_command_line_needs_to_be_told_nothing(url: str) -> None:
    with open_store(url) as store:
        store.save(record(1))
    for _ in range(2):
        result = CliRunner().invoke(command, ["list", "--store", url], prog_name="szal")
        assert (result.exit_code, "e00001" in result.output) == (0, True), result.output


def test_a_borrowed_pool_needs_to_be_told_nothing_and_stays_as_it_was(url: str) -> None:
    with ConnectionPool(url, min_size=1, max_size=4) as pool:
        store = PostgresExecutionStore.from_pool(pool)
        store.migrate()
        work(store)
        with pool.connection() as connection:
            assert connection.prepare_threshold == 5


def test_an_execution_is_watched_by_looking_where_nobody_tells_of_changes(
    url: str, bouncer: PgBouncer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And through a restart of the proxy. That it is one is found out once: no connection is made for it again."""
    caplog.set_level("INFO", "szal.stores.postgres.listener")
    flow = szal.FlowDef("f", steps=[szal.StepDef(name) for name in "abc"])
    begun, gates = ({name: threading.Event() for name in "abc"} for _ in range(2))
    ears = list[object]()
    listening = _Ear._listening
    monkeypatch.setattr(_Ear, "_listening", lambda ear: (ears.append(ear), listening(ear))[1])

    def handler(ctx: szal.StepContext) -> str:
        begun[ctx.step.name].set()
        waited(gates[ctx.step.name])
        return ctx.step.name

    def shown(status: szal.ExecutionStatus) -> str:
        return "".join(str(step.status)[0] for step in status.results)

    with open_store(url) as one, open_store(url) as other, szal.Engine.open(one, handler, durability="step") as engine:
        engine.start(flow, execution_id="e")
        try:
            with szal.Engine.open(other) as looking, looking.watch("e", interval=0.05) as watch:
                for name, expected in (("a", "cpp"), ("b", "ccp")):
                    waited(begun[name])
                    gates[name].set()
                    while shown(bounded(next, watch)) != expected:
                        pass
                bouncer.restart()
                gates["c"].set()
                assert shown(bounded(list, watch)[-1]) == "ccc"
        finally:
            for gate in gates.values():
                gate.set()
    (told,) = (each for each in map(logging.LogRecord.getMessage, caplog.records) if "(szal_changes)" in each)
    assert "the server is behind a proxy, where notifications get lost" in told
    assert len(ears) == 1


@pytest.mark.parametrize("through", ["own", "borrowed"])
@pytest.mark.parametrize("trouble", ["one of its name is there", "it is gone"])
def test_a_session_with_other_prepared_statements_is_left_for_another(
    url: str, trouble: str, through: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a threshold that was asked for; a borrowed pool as if nothing showed the proxy."""
    if through == "own":
        store = PostgresExecutionStore.connect(f"{url}&prepare_threshold=0")
    else:
        pool = ConnectionPool(url, min_size=1, open=True, kwargs={"prepare_threshold": 0})
        store = PostgresExecutionStore.from_pool(pool)
        store._database.pool._prepares = True
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other, store:
        if trouble == "one of its name is there":
            for number in range(20):
                other.execute(f"PREPARE _pg3_{number} AS SELECT {number}".encode())
            store.migrate()
        else:
            store.migrate()
            assert store.get("e00001") is None
            other.execute("DEALLOCATE ALL")
            assert store.get("e00001") is None
        store.save(record(1))
        assert store.get("e00001") == record(1)
        assert store._database.pool._prepares is False
    assert "no statement is prepared any more" in caplog.text
    if through == "borrowed":
        pool.close()


def test_directly_statements_are_prepared(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    def prepared(store: PostgresExecutionStore) -> int:
        for _ in range(7):
            store.get("e1")
        return len(store._database.read("SELECT 1 FROM pg_prepared_statements WHERE statement LIKE 'SELECT data %%'"))

    assert prepared(postgres) == 1
    for never in (
        PostgresExecutionStore.connect(postgres_url, prepare_threshold=None),
        PostgresExecutionStore.connect(f"{postgres_url}&prepare_threshold=none"),
    ):
        with never:
            assert prepared(never) == 0
    with PostgresExecutionStore.connect(f"{postgres_url}&prepare_threshold=3", prepare_threshold=None) as third:
        third.get("e1")
        assert third._database.pool.use(lambda connection: connection.prepare_threshold) == 3


@pytest.mark.parametrize("threshold", [-1, "often", True, 1.5])
def test_a_threshold_that_is_none_is_refused(threshold: object) -> None:
    with pytest.raises(ValueError, match="prepare_threshold is a number"):
        PostgresExecutionStore.connect("postgresql://h/db", prepare_threshold=threshold)  # type: ignore[arg-type]
