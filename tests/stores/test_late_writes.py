"""Writes that PostgreSQL carries out late, behind a connection that was lost: over nothing that came after them."""

import threading

import psycopg
import pytest
from processes import wait_until
from stores.cutter import Cutter
from stores.samples import record

from szal.errors import LeaseLost, StoreUnavailable
from szal.model.state import WorkflowState
from szal.stores import PostgresExecutionStore
from szal.stores.ledger import NewExecution, StepRow, TakeOver
from szal.stores.writes import Release, Save, SaveStep, Write


def begun(store: PostgresExecutionStore, first_epoch: int = 1) -> int:
    """Return the epoch of an execution that is under way, and is anybody's to take over."""
    running = record(1, state=WorkflowState.RUNNING)
    epoch = store.ledger.create(
        NewExecution(record=running, content_id="none", flow="{}", owner="somebody", ttl=-1.0, first_epoch=first_epoch)
    )
    assert epoch is not None
    return epoch


def step(number: int, data: str, epoch: int) -> SaveStep:
    return SaveStep("e00001", "pay", number, data, None, epoch)


def steps(store: PostgresExecutionStore) -> list[StepRow]:
    return store.ledger.read("e00001").steps


@pytest.mark.parametrize("retry_timeout", [5.0, 0.0])
def test_a_late_write_changes_nothing(cutter: Cutter, postgres: PostgresExecutionStore, retry_timeout: float) -> None:
    """Be it written again, or given up."""
    with PostgresExecutionStore.connect(cutter.url, retry_timeout=retry_timeout) as store:
        epoch = begun(store)
        cutter.hold_at(b"running")
        if retry_timeout:
            store.ledger.apply([step(0, '"running"', epoch)])
        else:
            with pytest.raises(StoreUnavailable):
                store.ledger.apply([step(0, '"running"', epoch)])
        store.ledger.apply([step(1, '"completed"', epoch)])
        cutter.deliver()
        assert cutter.cuts == 1
        assert steps(postgres) == [("pay", 1, '"completed"')]


def test_a_late_write_of_a_sink_changes_nothing(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    epoch = begun(cut)
    with cut.engine_sink() as sink:
        cutter.hold_at(b"running")
        sink.ledger.write(step(0, '"running"', epoch))
        sink.flush(30)
        sink.ledger.write(step(1, '"completed"', epoch))
        sink.flush(30)
        cutter.deliver()
    assert steps(postgres) == [("pay", 1, '"completed"')]


def test_a_late_write_changes_nothing_after_the_lease_was_given_back(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    epoch = begun(cut)
    cutter.hold_at(b"running")
    cut.ledger.apply([step(0, '"running"', epoch)])
    cut.ledger.apply([step(1, '"completed"', epoch), Save.of(record(1), epoch), Release("e00001", epoch)])
    cutter.deliver()
    assert steps(postgres) == [("pay", 1, '"completed"')]


def test_a_late_write_changes_nothing_of_what_began_anew_under_that_id(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    epoch = begun(cut, first_epoch=17)
    cutter.hold_at(b"running")
    cut.ledger.apply([step(0, '"running"', epoch)])
    cut.remove("e00001")
    assert begun(cut, first_epoch=12) == 12
    cutter.deliver()
    assert steps(postgres) == []


def test_a_late_write_that_has_begun_is_waited_for(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, postgres_url: str
) -> None:
    epoch = begun(cut)
    cut.ledger.apply([step(0, '"pending"', epoch)])
    cutter.hold_at(b"running")
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT FROM szal_steps FOR UPDATE")  # so that it has looked at its lease, and no more
        writer = threading.Thread(target=cut.ledger.apply, args=[[step(1, '"running"', epoch)]])
        writer.start()
        wait_until(lambda: cutter.cuts == 1)
        late = threading.Thread(target=cutter.deliver)
        late.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%szal_%%'"
        wait_until(lambda: postgres._database.read(waiting) == [(2,)])
    writer.join(20)
    late.join(20)
    cut.ledger.apply([step(2, '"completed"', epoch)])
    assert steps(postgres) == [("pay", 2, '"completed"')]


def test_whoever_takes_over_writes_as_ever(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    epoch = begun(cut)
    cutter.hold_at(b"running")
    cut.ledger.apply([step(0, '"running"', epoch)])
    taken = postgres.ledger.take_over(TakeOver(execution_id="e00001", owner="other", ttl=60, is_gone=lambda _: True))
    assert taken.epoch == epoch + 1
    cutter.cut_at(b"BEGIN", delivered=False)
    cut.ledger.apply([step(1, '"again"', taken.epoch)])
    assert cutter.cuts == 1  # by one statement, as before
    with pytest.raises(LeaseLost):
        cut.ledger.apply([step(2, '"completed"', epoch)])
    cutter.deliver()
    assert steps(postgres) == [("pay", 1, '"again"')]


@pytest.mark.parametrize("retry_timeout", [5.0, 0.0])
def test_a_late_batch_changes_nothing(cutter: Cutter, postgres: PostgresExecutionStore, retry_timeout: float) -> None:
    """Few writes of several kinds: they are one statement too."""
    with PostgresExecutionStore.connect(cutter.url, retry_timeout=retry_timeout) as store:
        epoch = begun(store)
        batch: list[Write] = [step(0, '"running"', epoch), Save.of(record(1, state=WorkflowState.RUNNING), epoch)]
        cutter.hold_at(b"running")
        if retry_timeout:
            store.ledger.apply(batch)
        else:
            with pytest.raises(StoreUnavailable):
                store.ledger.apply(batch)
        store.ledger.apply([step(1, '"completed"', epoch), Save.of(record(1), epoch), Release("e00001", epoch)])
        cutter.deliver()
        assert cutter.cuts == 1
        assert steps(postgres) == [("pay", 1, '"completed"')]
        assert postgres.get("e00001") == record(1)


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("is_claim", [True, False])
def test_an_execution_begins_once_whether_the_answer_or_the_question_was_lost(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, is_claim: bool, delivered: bool
) -> None:
    cut.list()  # so that all has been looked at
    running = record(1, state=WorkflowState.RUNNING)
    new = NewExecution(record=running, content_id="c", flow='"of mine"', owner="me", ttl=60.0, first_epoch=12)
    cutter.cut_at(b"of mine", delivered=delivered)
    if is_claim:
        assert cut.ledger.create(new) == 12
    else:
        cut.ledger.apply([new, step(0, '"done"', 12)])
    assert cutter.cuts == 1
    assert postgres.get("e00001") == running
    assert postgres.ledger.holder("e00001") == "me"
    assert len(steps(postgres)) == (not is_claim)
    assert cut.ledger.create(new) is None


def test_an_execution_that_begins_late_changes_nothing(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    cut.list()
    running = record(1, state=WorkflowState.RUNNING)
    new = NewExecution(record=running, content_id="c", flow='"of mine"', owner="me", ttl=60.0, first_epoch=12)
    cutter.hold_at(b"of mine")
    cut.ledger.apply([new, step(0, '"running"', 12)])
    cut.ledger.apply([step(1, '"completed"', 12), Save.of(record(1), 12), Release("e00001", 12)])
    cutter.deliver()
    assert cutter.cuts == 1
    assert steps(postgres) == [("pay", 1, '"completed"')]
    assert postgres.get("e00001") == record(1)


def test_a_late_transaction_changes_nothing(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    """Nobody has sent its COMMIT."""
    cut.save(record(1, state=WorkflowState.PAUSED))
    cutter.hold_at(b"BEGIN")
    cut.save(record(1, state=WorkflowState.RUNNING))
    cut.save(record(1))
    cutter.deliver()
    assert cutter.cuts == 1
    assert postgres.get("e00001") == record(1)


def test_a_late_commit_is_waited_for(cutter: Cutter, postgres: PostgresExecutionStore) -> None:
    """Be it asked about, or forgotten: what it has written is locked until then."""
    with PostgresExecutionStore.connect(cutter.url, retry_timeout=0.0) as store:
        batch: list[Write] = [Save.of(record(1, state=WorkflowState.RUNNING))]
        cutter.hold_at(b"COMMIT\0")
        with pytest.raises(StoreUnavailable, match="server closed the connection"):
            store.ledger.apply(batch)
        with pytest.raises(StoreUnavailable, match="has not ended yet"):
            store.ledger.apply(batch)
        other = threading.Thread(target=store.save, args=[record(1)])
        other.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%szal_%%'"
        wait_until(lambda: postgres._database.read(waiting) == [(1,)])
        cutter.deliver()
        other.join(20)
        store.ledger.apply(batch)  # it was committed: it is not written over the other
        assert postgres.get("e00001") == record(1)
