"""Who waits for whom in PostgreSQL: leases are locked before records, in one order; a renewal waits for nobody."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from helper_engine import bounded
from in_front import InFront
from processes import wait_until
from stores.test_ledger import alive, begun, create, gone, record, step, take_over

from szal import WorkflowState
from szal.errors import ExecutionNotFound, ExecutionOwned, LeaseLost, WriteFailed
from szal.stores import PostgresExecutionStore, Sink
from szal.stores.ledger import Ledger, Renewal, Wish
from szal.stores.writes import Release, Save

SLOW_COMMIT = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON szal_steps DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""


@pytest.fixture
def ledger(postgres: PostgresExecutionStore) -> Ledger:
    return postgres.ledger


@pytest.fixture
def admin(postgres: PostgresExecutionStore, postgres_url: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def ended(execution_id: str, epoch: int) -> Save:
    done = record(execution_id, WorkflowState.COMPLETED)
    done.finished_at = done.started_at
    return Save.of(done, epoch)


class Held:
    """Commits of steps wait until `let_go`."""

    def __init__(self, admin: "psycopg.Connection[tuple[object, ...]]") -> None:
        self._admin = admin
        admin.execute(SLOW_COMMIT)
        admin.execute("SELECT pg_advisory_lock(4711)")

    def await_one(self) -> None:
        """Wait until a commit waits."""
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: self._admin.execute(waiting).fetchone() != (0,))

    def let_go(self) -> None:
        self._admin.execute("SELECT pg_advisory_unlock(4711)")


@pytest.fixture
def held(admin: "psycopg.Connection[tuple[object, ...]]") -> Held:
    return Held(admin)


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., "Future[object]"]]:
    """Call a function on another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_a_renewal_does_not_wait_for_a_writer_whose_commit_takes_long(ledger: Ledger, held: Held, elsewhere) -> None:
    epoch, other = begun(ledger, "e1"), begun(ledger, "e2")
    writing = elsewhere(ledger.apply, [step("e1", "a", 0, epoch)])
    held.await_one()
    renewal = Renewal(owner="me", epochs={"e1": epoch, "e2": other}, ttl=60)
    assert bounded(ledger.renew, renewal) == {"e1": Wish.NOTHING, "e2": Wish.NOTHING}
    held.let_go()
    writing.result(20)


def test_a_lease_that_is_being_given_back_holds_up_the_renewal_of_no_other(
    ledger: Ledger, held: Held, elsewhere
) -> None:
    epoch, other = begun(ledger, "e1"), begun(ledger, "e2", ttl=0.05)
    writing = elsewhere(ledger.apply, [step("e1", "a", 0, epoch), Release("e1", epoch)])
    held.await_one()
    assert bounded(ledger.renew, Renewal(owner="me", epochs={"e1": epoch, "e2": other}, ttl=60))["e2"] is Wish.NOTHING
    with pytest.raises(ExecutionOwned):
        take_over(ledger, "e2", "you", alive)
    held.let_go()
    writing.result(20)


def test_who_renews_while_another_waits_to_take_over_keeps_it(ledger: Ledger, held: Held, elsewhere, admin) -> None:
    """The other one waits for the writer, and looks at the lease after that."""
    epoch = begun(ledger, ttl=-1)
    writing = elsewhere(ledger.apply, [step("e1", "a", 0, epoch)])
    held.await_one()
    taking = elsewhere(take_over, ledger, "e1", "you", alive)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event <> 'advisory'"
    wait_until(lambda: admin.execute(waiting).fetchone() != (0,))
    assert bounded(ledger.renew, Renewal(owner="me", epochs={"e1": epoch}, ttl=60)) == {"e1": Wish.NOTHING}
    held.let_go()
    writing.result(20)
    with pytest.raises(ExecutionOwned):
        taking.result(20)
    ledger.apply([step("e1", "b", 1, epoch)])


def test_whoever_takes_over_finds_what_was_being_written(ledger: Ledger, held: Held, elsewhere) -> None:
    epoch = begun(ledger, ttl=-1)
    writing = elsewhere(ledger.apply, [step("e1", "a", 0, epoch)])
    held.await_one()
    taking = elsewhere(take_over, ledger, "e1", "you", gone)
    held.let_go()
    writing.result(20)
    assert [name for name, _, _ in taking.result(20).steps] == ["a"]
    with pytest.raises(LeaseLost):
        ledger.apply([step("e1", "b", 1, epoch)])


def test_prune_leaves_alone_what_has_ended_and_is_held_still(postgres: PostgresExecutionStore, ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([ended("e1", epoch)])
    assert postgres.prune(older_than=0) == 0
    ledger.apply([Release("e1", epoch)])
    assert postgres.prune(older_than=0) == 1


def test_writers_renewals_take_overs_and_prunings_never_wait_for_each_other_in_a_circle(
    postgres: PostgresExecutionStore, ledger: Ledger, admin
) -> None:
    """The database tells how many deadlocks it has resolved."""
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = admin.execute(deadlocks).fetchone()
    names = [f"e{number}" for number in range(6)]

    def often(act: Callable[[int], object]) -> None:
        for number in range(60):
            with suppress(LeaseLost, ExecutionOwned, ExecutionNotFound):
                act(number)

    epochs = {name: begun(ledger, name) for name in names}

    def write(number: int) -> None:
        order = names if number % 2 else names[::-1]
        ledger.apply(
            [write for name in order for write in (step(name, "a", number, epochs[name]), ended(name, epochs[name]))]
        )

    def save(number: int) -> None:
        order = names if number % 2 else names[::-1]
        ledger.apply([Save.of(record(f"free {name}")) for name in order])

    def steal(number: int) -> None:
        name = names[number % 6]
        postgres.remove(name)
        epochs[name] = create(ledger, record(name), "me") or epochs[name]

    acts = [
        write,  # of one lease there is never more than one writer
        save,
        save,
        lambda _: ledger.renew(Renewal(owner="me", epochs=dict(reversed(epochs.items())), ttl=60)),
        lambda number: take_over(ledger, names[number % 6], "me", gone),
        lambda _: postgres.prune(older_than=0, batch=3),
        steal,
    ]
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(often, act) for act in acts]:
            done.result(60)
    admin.execute("SELECT pg_stat_force_next_flush()")
    assert admin.execute(deadlocks).fetchone() == before


def test_a_lost_lease_costs_the_rest_of_its_batch_one_transaction_more_and_is_told_once(
    postgres: PostgresExecutionStore, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, batches, started = postgres.ledger, [], threading.Event()
    epochs = {name: begun(ledger, name) for name in ("e0", "e1", "e2")}
    take_over(ledger, "e1", "you", gone)

    def apply(writes: object, **options: object) -> None:
        started.wait(20)
        batches.append(len(writes))  # type: ignore[arg-type]
        ledger.apply(writes, **options)

    lost: list[object] = []
    in_front = InFront(postgres, ledger=InFront(ledger, apply=apply))
    with Sink(in_front, on_error=lambda write, error: lost.append((write.execution_id, type(error)))) as sink:
        for number in range(300):
            name = f"e{number % 3}"
            sink.ledger.write(step(name, f"s{number}", number, epochs[name]))
        started.set()
        with pytest.raises(WriteFailed):
            sink.flush(30)
    assert lost == [("e1", LeaseLost)] * 100
    told = "execution e1 was taken over by another process: what this process still does for it is not recorded"
    assert [record.getMessage() for record in caplog.records if "e1" in record.getMessage()] == [told]
    assert len(batches) <= 4  # what was taken first, and the rest; each as it is, and without what is lost
    assert [len(ledger.read(name).steps) for name in epochs] == [100, 0, 100]
