"""Transactions that handlers write in, as the stores keep them: lost answers, small pools, forks, whose turn it is."""

import os
import sqlite3
import threading

import psycopg
import psycopg_pool
import pytest
from forking import in_child
from helper_engine import LONG, bounded
from processes import wait_until
from stores.cutter import Cutter
from stores.samples import record

from szal import Engine, EngineConfig, FlowDef, StepDef
from szal.errors import CommitUnknown, NotSupportedHere, TransactionFailed
from szal.model.state import WorkflowState
from szal.stores import PostgresExecutionStore, SqliteExecutionStore
from szal.stores.ledger import Lease, NewExecution, Renewal
from szal.stores.slots import Slots
from szal.stores.transactions import OpenTransaction
from szal.stores.writes import SaveStep

PAYMENTS = "CREATE TABLE payments (note TEXT)"


def begun(store: SqliteExecutionStore | PostgresExecutionStore) -> Lease:
    """Return the lease of an execution that is under way."""
    running = record(1, state=WorkflowState.RUNNING)
    new = NewExecution(record=running, content_id="none", flow="{}", owner="me", ttl=30.0, first_epoch=7)
    assert store.ledger.create(new) == 7
    return new.lease


def opened(store: SqliteExecutionStore | PostgresExecutionStore, lease: Lease, limit: float = LONG) -> OpenTransaction:
    transaction = store.ledger.transaction(lease, limit)
    transaction.open(lambda: None)
    return transaction


def outcome(lease: Lease) -> SaveStep:
    return SaveStep(lease.execution_id, "pay", 0, "{}", None, lease.epoch)


class TestALostAnswer:
    """Of the server's to COMMIT."""

    @pytest.fixture
    def payments(self, postgres: PostgresExecutionStore, postgres_url: str) -> "psycopg.Connection[tuple[str]]":
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(PAYMENTS)
            yield connection

    def pay(self, cutter: Cutter, *, delivered: bool | None) -> Engine:
        def handler(ctx):
            with ctx.transaction() as connection:
                connection.execute(f"INSERT INTO payments VALUES ('attempt {ctx.attempt}')")
            if ctx.attempt == 1 and delivered is None:
                cutter.hold_at(b"COMMIT")
            elif ctx.attempt == 1:
                cutter.cut_at(b"COMMIT", delivered=delivered)
            return ctx.attempt

        return handler

    @pytest.mark.parametrize("delivered", [True, False])
    def test_is_found_out(self, cut, cutter, payments, delivered):
        flow = FlowDef("f", steps=[StepDef("pay", max_retries=1, retry_delay=0)])
        sink = cut.engine_sink()
        with Engine(self.pay(cutter, delivered=delivered), EngineConfig(execution_store=sink)) as engine:
            result = bounded(engine.run, flow, execution_id="e")
        sink.close()
        attempt = 1 if delivered else 2
        assert result.outputs == {"pay": attempt}
        assert payments.execute("SELECT note FROM payments").fetchall() == [(f"attempt {attempt}",)]
        assert cutter.cuts == 1

    def test_that_nobody_can_find_out_leaves_it_to_who_goes_on(self, cutter, postgres, payments):
        with PostgresExecutionStore.connect(cutter.url, retry_timeout=0.1) as store:
            config = EngineConfig(execution_store=store, commit_timeout=0.3)
            with Engine(self.pay(cutter, delivered=None), config) as engine, pytest.raises(CommitUnknown):
                bounded(engine.run, FlowDef("f", steps=[StepDef("pay")]), execution_id="e")
        cutter.deliver()
        assert payments.execute("SELECT note FROM payments").fetchall() == [("attempt 1",)]
        with Engine(lambda ctx: "again", EngineConfig(execution_store=postgres)) as engine:
            assert engine.resume("e").outputs == {"pay": 1}


class TestAPool:
    def test_of_one_connection_has_none_to_give(self, postgres_url):
        with PostgresExecutionStore.connect(postgres_url, max_size=1) as store:
            store.migrate()
            lease = begun(store)
            with pytest.raises(NotSupportedHere, match="max_size=2 or more"):
                opened(store, lease)

    def test_keeps_connections_back(self, postgres_url):
        with PostgresExecutionStore.connect(postgres_url, max_size=3, retry_timeout=1.0) as store:
            store.migrate()
            lease = begun(store)
            first = opened(store, lease)
            others = [threading.Thread(target=lambda: opened(store, lease).roll_back()) for _ in range(3)]
            for other in others:
                other.start()
            for _ in range(3):  # a writer, and a heartbeat
                assert store.ledger.renew(Renewal(owner="me", epochs=dict([lease]), ttl=30.0))
                store.save(record(2))
            first.roll_back()
            for other in others:
                other.join(LONG)
                assert not other.is_alive()

    def test_gets_its_connections_back_as_they_were(self, postgres):
        lease = begun(postgres)
        for _ in range(12):  # more than there are
            transaction = opened(postgres, lease)
            transaction.connection.row_factory = psycopg.rows.dict_row
            transaction.roll_back()
        transaction = opened(postgres, lease)
        assert transaction.connection.execute("SELECT 1").fetchall() == [(1,)]
        transaction.commit(outcome(lease), LONG)

    def test_of_the_applications_keeps_one_back_and_is_left_as_it_was(self, postgres_url):
        with psycopg_pool.ConnectionPool(postgres_url, min_size=1, max_size=2) as pool:
            store = PostgresExecutionStore.from_pool(pool)
            store.migrate()
            lease = begun(store)
            transaction = opened(store, lease)
            store.save(record(2))
            transaction.connection.execute(PAYMENTS)
            transaction.commit(outcome(lease), LONG)
            for _ in range(2):
                with pool.connection() as connection:
                    assert (connection.autocommit, connection.isolation_level) == (False, None)
                    assert connection.execute("SELECT count(*) FROM payments").fetchall() == [(0,)]

    def test_loses_the_session_of_a_handler_that_is_left_behind_and_no_other(self, postgres, server, schema):
        lease = begun(postgres)
        left, other = opened(postgres, lease), opened(postgres, lease)
        left.abandon()
        wait_until(lambda: left.problem)
        with pytest.raises(psycopg.OperationalError):
            left.connection.execute("SELECT 1")
        assert other.connection.execute("SELECT 1").fetchall() == [(1,)]
        other.commit(outcome(lease), LONG)

    def test_ends_what_a_handler_that_is_left_behind_waits_for(self, postgres):
        lease = begun(postgres)
        left = opened(postgres, lease)
        errors: list[BaseException] = []

        def sleep() -> None:
            try:
                left.connection.execute("SELECT pg_sleep(60)")
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        left.abandon()
        thread.join(LONG)
        assert isinstance(errors[0], psycopg.Error)


class TestTheTurnsOfAFile:
    def test_a_heartbeat_waits_for_a_handler_and_not_for_the_next_one(self, sqlite):
        lease = begun(sqlite)
        order: list[str] = []

        def renew() -> None:
            assert sqlite.ledger.renew(Renewal(owner="me", epochs=dict([lease]), ttl=30.0))
            order.append("renewed")

        def next_one() -> None:
            transaction = opened(sqlite, lease)
            order.append("next")
            transaction.roll_back()

        first = opened(sqlite, lease)
        first.connection.execute(PAYMENTS)
        threads = [threading.Thread(target=renew), threading.Thread(target=next_one)]
        for thread in threads:
            thread.start()
        order.append("first")
        first.commit(outcome(lease), LONG)
        for thread in threads:
            thread.join(LONG)
        assert order[0] == "first"
        assert sorted(order) == ["first", "next", "renewed"]

    def test_what_another_process_holds_is_waited_for(self, sqlite, path):
        lease = begun(sqlite)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        asked = threading.Event()
        transaction = sqlite.ledger.transaction(lease, LONG)
        thread = threading.Thread(target=lambda: transaction.open(asked.set))
        thread.start()
        assert asked.wait(LONG)
        other.execute("ROLLBACK")
        other.close()
        thread.join(LONG)
        transaction.commit(outcome(lease), LONG)
        assert len(sqlite.ledger.read(lease.execution_id).steps) == 1

    def test_who_waits_may_be_told_that_nobody_waits_for_him(self, sqlite):
        lease = begun(sqlite)
        first, second = opened(sqlite, lease), sqlite.ledger.transaction(lease, LONG)

        def check() -> None:
            raise TimeoutError("enough")

        with pytest.raises(TimeoutError, match="enough"):
            second.open(check)
        first.roll_back()
        opened(sqlite, lease).roll_back()

    def test_of_a_handler_whose_statement_does_not_end_it_is_taken_all_the_same(self, sqlite):
        lease = begun(sqlite)
        transaction = opened(sqlite, lease, limit=0.05)
        endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            transaction.connection.execute(endless).fetchall()
        wait_until(lambda: transaction.problem)
        with pytest.raises(TransactionFailed, match=r"open for more than 0\.05 s"):
            transaction.connection.execute("SELECT 1")
        transaction.roll_back()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_child_has_its_own(self, sqlite):
        lease = begun(sqlite)
        transaction = opened(sqlite, lease)
        transaction.connection.execute(PAYMENTS)

        def child() -> None:
            with pytest.raises(TransactionFailed, match="belongs to the parent"):
                transaction.connection.execute("SELECT 1")

        in_child(child)
        transaction.commit(outcome(lease), LONG)
        second = opened(sqlite, lease)
        assert second.connection.execute("SELECT count(*) FROM payments").fetchall() == [(0,)]
        second.roll_back()


def test_slots_are_had_by_so_many_at_a_time() -> None:
    slots, wanted = Slots(2), [True]
    assert slots.take(lambda: True)
    assert slots.take(lambda: True)
    waiting = threading.Thread(target=lambda: wanted.append(slots.take(lambda: wanted[0])))
    waiting.start()
    slots.give_back()
    waiting.join(LONG)
    assert wanted[-1] is True
    assert not slots.take(lambda: False)
