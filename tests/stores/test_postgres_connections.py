"""Which errors of PostgreSQL are waited for, and how long connecting takes: hosts, networks, sessions, forks.

SZAL_TEST_FULL=1: also what takes seconds, or gigabytes.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from processes import wait_until
from psycopg_pool import ConnectionPool
from stores.postgres_server import OwnServer, PostgresServer
from stores.relay import Relay
from stores.samples import python, record

from szal.errors import StoreFailed, StoreUnavailable, WriteFailed
from szal.stores import PostgresExecutionStore, open_store
from szal.stores.postgres import connection as connection_module

FULL = bool(os.environ.get("SZAL_TEST_FULL"))


def with_setting(url: str, setting: str) -> str:
    """Return the URL of sessions with a setting, beside the search path."""
    return url.replace("options=", f"options=-c{quote(setting)}%20")


# -- what passes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["statement_timeout=50", "lock_timeout=50", "pg_cancel_backend"])
def test_a_statement_that_was_cancelled_is_tried_again(
    postgres: PostgresExecutionStore, postgres_url: str, server: PostgresServer, schema: str, cause: str
) -> None:
    url = with_setting(postgres_url, cause) if "=" in cause else postgres_url
    with psycopg.connect(server.url) as other, PostgresExecutionStore.connect(url, retry_timeout=0) as store:
        other.execute(f"LOCK TABLE {schema}.szal_executions IN SHARE MODE".encode())
        sink = store.engine_sink()
        for number in range(5):
            sink.save(record(number))

        def is_cancelled() -> bool:
            if cause == "pg_cancel_backend":
                who = f"application_name = '{schema}' AND wait_event_type = 'Lock'"
                server.execute(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {who}")
            return isinstance(sink.stats().last_error, StoreUnavailable)

        wait_until(is_cancelled)
        other.rollback()
        sink.close(20)
        assert sink.stats().failed == 0
        assert len(store.list()) == 5


def test_migrate_takes_as_long_as_it_takes(postgres_url: str, server: PostgresServer, schema: str) -> None:
    url = with_setting(with_setting(postgres_url, "statement_timeout=100"), "lock_timeout=100")
    raised: list[Exception] = []

    def migrate() -> None:
        try:
            store.migrate()
        except Exception as error:
            raised.append(error)

    waiting = (
        f"SELECT 1 FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
        " AND now() - query_start > interval '0.2s'"
    )
    with psycopg.connect(server.url) as other, PostgresExecutionStore.connect(url, retry_timeout=0.0) as store:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [0x737A616C])
        thread = threading.Thread(target=migrate)
        thread.start()
        wait_until(lambda: raised or server.execute(waiting))
        other.rollback()
        thread.join(30)
        assert raised == []
        shown = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
        assert store._database.read(shown) == [("100ms", "100ms")]


# -- what does not ----------------------------------------------------------------------------------


def test_statements_are_not_compiled_but_for_those_of_a_pool_that_is_borrowed(
    postgres: PostgresExecutionStore, postgres_url: str
) -> None:
    with ConnectionPool(postgres_url, min_size=1, max_size=2) as pool:
        borrowed = PostgresExecutionStore.from_pool(pool)
        for store, jit in (postgres, "off"), (borrowed, "on"):
            assert store.list() == []
            assert store._database.pool.use(lambda connection: connection.execute("SHOW jit").fetchone()) == (jit,)


def test_too_many_parameters_are_refused_for_good(postgres: PostgresExecutionStore) -> None:
    statement = f"SELECT 1 WHERE 1 IN ({', '.join(['%s'] * 70_000)})"
    with pytest.raises(StoreFailed, match="number of parameters must be between 0 and 65535"):
        postgres._database.read(statement, [*range(70_000)])
    assert postgres.list() == []


def test_a_record_that_no_server_takes_keeps_nothing_else_from_being_written(
    postgres: PostgresExecutionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not FULL:
        monkeypatch.setattr(connection_module, "_LONGEST", 100_000)
    text = "ü" * (50_000 if not FULL else 2**29)
    sink = postgres.engine_sink()
    sink.save(record(1))
    sink.save(record(2, inputs={"text": text}))
    sink.save(record(3))
    with pytest.raises(WriteFailed, match=r"e00002 .*bytes are more than PostgreSQL takes at once"):
        sink.flush(300)
    sink.close()
    assert postgres.list() == ["e00001", "e00003"]


def test_a_batch_that_no_server_takes_is_written_in_parts(
    postgres: PostgresExecutionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_LONGEST", 20_000)
    with postgres.engine_sink() as sink:
        for number in range(20):
            sink.save(record(number, inputs={"text": "x" * 5_000}))
    assert len(postgres.list()) == 20


# -- sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["own", "borrowed"])
def test_a_session_that_became_read_only_is_left_for_another(
    postgres: PostgresExecutionStore, postgres_url: str, through: str
) -> None:
    """As after a failover behind a name: the old sessions stay what they were."""
    pool = ConnectionPool(postgres_url, min_size=1, max_size=2, open=True)
    store = postgres if through == "own" else PostgresExecutionStore.from_pool(pool)
    for number in range(3):
        store._database.pool.use(lambda connection: connection.execute("SET default_transaction_read_only = on"))
        store.save(record(number))
        assert len(store.list()) == number + 1
    pool.close()


def test_a_pool_that_takes_what_is_closed_back_is_given_back_what_was_lent(
    postgres: PostgresExecutionStore, postgres_url: str
) -> None:
    with ConnectionPool(postgres_url, min_size=1, max_size=1, close_returns=True) as pool:
        store = PostgresExecutionStore.from_pool(pool)

        def interrupted(connection: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store._database.pool.use(interrupted)
        store._database.pool.use(lambda connection: connection.execute("SET default_transaction_read_only = on"))
        store.save(record(1))
        assert store.list() == ["e00001"]


# -- hosts and networks -----------------------------------------------------------------------------


@pytest.fixture
def relay(server: PostgresServer, postgres_url: str) -> Iterator[Relay]:
    if not isinstance(server, OwnServer):
        pytest.skip("goes to a Unix socket")
    relay = Relay(postgres_url)
    yield relay
    relay.close()


def through(url: str, hosts: str, ports: str, **parameters: object) -> str:
    """Return *url* with other hosts."""
    place, _, rest = url.partition("?host=")
    more = "".join(f"&{key}={value}" for key, value in parameters.items())
    return f"{place}?host={hosts.replace('{}', rest.partition('&')[0])}&port={ports}&{rest.partition('&')[2]}{more}"


class Bouncer(Relay):
    """Turns everybody away."""

    def answers(self, client: socket.socket) -> bool:
        super().answers(client)
        client.close()
        return False


def test_all_of_a_pool_goes_to_the_host_that_answered(postgres_url: str, relay: Relay) -> None:
    with closing(Bouncer(postgres_url)) as away:
        url = through(postgres_url, "127.0.0.1,127.0.0.1", f"{away.port},{relay.port}", sslmode="disable")
        with PostgresExecutionStore.connect(url, min_size=4) as store:
            store.migrate()
            wait_until(lambda: relay.accepted == 5)
            assert store.list() == []
        assert away.accepted == 1


@pytest.mark.skipif(not FULL, reason="libpq gives each host two seconds at least")
def test_a_host_that_does_not_answer_takes_its_time_once(postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = through(postgres_url, "127.0.0.1,{}", f"{silent.getsockname()[1]},5432", connect_timeout=2)
        began = time.monotonic()
        with PostgresExecutionStore.connect(url, min_size=3, retry_timeout=0) as store:
            store.migrate()
            assert time.monotonic() - began < 3


@pytest.mark.parametrize("timeout", ["0", "-1"])
def test_no_limit_for_connecting_is_no_limit(postgres_url: str, timeout: str) -> None:
    with open_store(f"{postgres_url}&connect_timeout={timeout}") as store:
        store.save(record(1))
        assert store.list() == ["e00001"]


def test_a_network_that_goes_silent_is_noticed(postgres_url: str, relay: Relay) -> None:
    with PostgresExecutionStore.connect(
        through(postgres_url, "127.0.0.1", str(relay.port), tcp_user_timeout=100, connect_timeout=2), retry_timeout=0
    ) as store:
        store.migrate()
        relay.pull_the_cable()
        with pytest.raises(StoreUnavailable):
            store.save(record(1))
        assert store.list() == []  # over a new connection


def test_keepalives_are_on_unless_the_url_says_otherwise(postgres_url: str, relay: Relay) -> None:
    def settings(**parameters: object) -> list[int]:
        def read(connection: psycopg.Connection[Any]) -> list[int]:
            with socket.socket(fileno=os.dup(connection.fileno())) as own:
                options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                return [
                    own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    *(own.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for option in options),
                ]

        with PostgresExecutionStore.connect(through(postgres_url, "127.0.0.1", str(relay.port), **parameters)) as store:
            return store._database.pool.use(read)

    assert settings() == [1, 10, 5, 4, 30_000]
    assert settings(keepalives_idle=7, tcp_user_timeout=0)[:2] == [1, 7]
    assert settings(keepalives=0, tcp_user_timeout=0)[0] == 0


def test_a_pool_that_cannot_connect_any_more_says_why_and_goes_on(postgres_url: str, server: PostgresServer) -> None:
    """Its connections may have gone one by one, each at the end of its time, with nobody using them."""
    if not isinstance(server, OwnServer):
        pytest.skip("this server is not ours to stop")
    with PostgresExecutionStore.connect(postgres_url, retry_timeout=0.2) as store:
        store.migrate()
        pool = store._database.pool._pool
        assert pool is not None
        pool.drain()
        server.stop("immediate")
        pool.check()
        try:
            with pytest.raises(StoreUnavailable, match="No such file"):
                wait_until(lambda: store.list() and False)
        finally:
            server.start()
        assert store.list() == []


@pytest.mark.skipif(not FULL, reason="the threads of a pool are given a second each to end")
def test_who_waits_for_a_pool_that_a_fork_closes_does_not_wait_on(
    postgres: PostgresExecutionStore, postgres_url: str, relay: Relay
) -> None:
    code = """
        import os, sys, threading, time, warnings
        from szal.stores import PostgresExecutionStore
        warnings.simplefilter("ignore", DeprecationWarning)
        store = PostgresExecutionStore.connect(sys.argv[1])
        found = []
        threading.Thread(target=lambda: found.append(store.list()), daemon=True).start()
        sys.stdin.readline()
        child = os.fork()
        if child == 0:
            os._exit(0)
        print("forked", flush=True)
        os.waitpid(child, 0)
        began = time.monotonic()
        while not found and time.monotonic() < began + 30:
            time.sleep(0.01)
        print(time.monotonic() - began, flush=True)
    """
    relay.answered = 1
    process = python(code, through(postgres_url, "127.0.0.1", str(relay.port), connect_timeout=30))
    wait_until(lambda: relay.accepted == 2)  # the pool's own
    relay.answered = 1_000_000
    out, err = process.communicate("go\n")
    assert process.returncode == 0, err
    assert float(out.split()[1]) < 25
