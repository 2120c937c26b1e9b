"""What is submitted and has not begun. The same in each store."""

import threading
import time
from datetime import UTC, datetime
from typing import Any

import attrs
import psycopg
import pytest

from szal import ExecutionNotFound, ExecutionOwned, ExecutionRecord, WorkflowState
from szal.stores import PostgresExecutionStore, Sink, Store, open_store
from szal.stores.ledger import NewExecution, Snapshot, TakeOver
from szal.stores.postgres.queue_statements import QUEUE
from szal.stores.queue import Claim, InQueue, Queue, Submission
from szal.stores.writes import Release, Save, SaveStep


@pytest.fixture
def queue(store: Store | Sink) -> Queue:
    return store.ledger.queue


def submit(of: Queue, execution_id: str, **more: Any) -> bool:
    record = ExecutionRecord(execution_id, "ci", WorkflowState.CREATED)
    new = NewExecution(record=record, content_id="c1", flow="{}", owner="nobody", ttl=60)
    return of.submit(Submission(new=new, **more))


def claim(queue: Queue, most: int = 9, *queues: str, ttl: float = 60, but: tuple[str, ...] = ()) -> list[str]:
    return queue.claim(Claim(queues=queues or ("default",), most=most, ttl=ttl, but=but))


def test_what_is_submitted_is_recorded_and_owned_by_nobody(store: Store | Sink, queue: Queue) -> None:
    assert submit(queue, "e1")
    found = store.get("e1")
    assert found is not None
    assert found.state is WorkflowState.CREATED
    assert store.ledger.holder("e1") is None
    assert store.ledger.interrupted(lambda owner: True) == []
    taken = store.ledger.take_over(TakeOver(execution_id="e1", owner="me", ttl=60, is_gone=lambda owner: False))
    assert (taken.flow, taken.content_id, taken.recoveries) == ("{}", "c1", 0)


def test_an_id_that_is_taken_is_not_submitted(store: Store | Sink, queue: Queue) -> None:
    assert submit(queue, "e1")
    assert not submit(queue, "e1", priority=9)
    store.save(ExecutionRecord("e2", "ci"))
    store.ledger.drain()
    assert not submit(queue, "e2")
    assert claim(queue) == ["e1"]


def test_the_highest_priority_comes_first_and_then_the_oldest(queue: Queue) -> None:
    for number, priority in enumerate((0, 5, -1, 5, 0)):
        submit(queue, f"e{number}", priority=priority)
    assert claim(queue, 2) == ["e1", "e3"]
    assert claim(queue, 2) == ["e0", "e4"]
    assert claim(queue, 2) == ["e2"]
    assert claim(queue, 2) == []


def test_of_those_that_come_in_one_millisecond_the_first_comes_first(queue: Queue) -> None:
    names = [f"e{number}" for number in range(19, 9, -1)]
    for name in names:
        submit(queue, name)
    assert [name for _ in range(5) for name in claim(queue, 2)] == names


def test_that_holds_over_several_queues_and_others_are_left_alone(queue: Queue) -> None:
    for name, where, priority in (("a", "slow", 1), ("b", "fast", 2), ("c", "slow", 3), ("d", "other", 9)):
        submit(queue, name, queue=where, priority=priority)
    assert claim(queue, 9, "slow", "fast") == ["c", "b", "a"]
    assert claim(queue, 9, "none") == []
    assert claim(queue, 9, "other") == ["d"]


def test_where_each_stands_is_told_until_it_has_begun(queue: Queue) -> None:
    submit(queue, "a", queue="slow", priority=3, not_before=4e9)
    submit(queue, "b", not_before=1e12)  # later than any datetime
    submit(queue, "c")
    places = queue.places(["a", "b", "c", "none"])
    assert places.keys() == {"a", "b", "c"}
    assert places["a"] == InQueue(queue="slow", priority=3, not_before=datetime(2096, 10, 2, 7, 6, 40, tzinfo=UTC))
    assert str(places["b"]) == "in the queue 'default', not before 9999-12-31 23:59:59 UTC"
    assert places["c"] == InQueue(queue="default")
    assert claim(queue) == ["c"]
    assert queue.places(["c"]).keys() == {"c"}
    queue.begun(["c"])
    assert queue.places(["c"]) == queue.places([]) == {}


def test_what_is_named_is_passed_over(queue: Queue) -> None:
    for name in "abc":
        submit(queue, name)
    assert claim(queue, 1, but=("a", "c")) == ["b"]


def test_nothing_begins_before_its_time(store: Store | Sink, queue: Queue) -> None:
    now = store.ledger.clock()
    submit(queue, "later", not_before=now + 3600, priority=9)
    assert claim(queue) == []
    assert 3500 < (queue.due_in(["default"]) or 0) <= 3600
    submit(queue, "before", not_before=now - 1)
    submit(queue, "now", priority=1)
    assert queue.due_in(["default"]) == 0
    assert claim(queue) == ["now", "before"]
    assert queue.due_in(["elsewhere"]) is None


def test_what_is_reserved_comes_back_when_that_is_over_and_what_has_begun_does_not(queue: Queue) -> None:
    submit(queue, "a")
    submit(queue, "b")
    assert claim(queue, 1, ttl=0.5) == ["a"]
    assert claim(queue, 2) == ["b"]
    queue.begun(["b"])
    end = time.monotonic() + 20
    while not (again := claim(queue)):
        assert time.monotonic() < end
    assert again == ["a"]
    queue.give_back(["a", "b"])
    assert claim(queue) == ["a"]
    queue.begun(["a"])
    assert queue.due_in(["default"]) is None


def test_what_has_begun_meanwhile_does_not_come_back(store: Store | Sink, queue: Queue) -> None:
    submit(queue, "a")
    assert claim(queue, ttl=0.05) == ["a"]
    store.save(ExecutionRecord("a", "ci", WorkflowState.RUNNING))
    store.ledger.drain()
    end = time.monotonic() + 20
    while queue.due_in(["default"]) is not None:
        assert claim(queue) == []
        assert time.monotonic() < end


def test_what_is_removed_is_claimed_by_nobody(store: Store | Sink, queue: Queue) -> None:
    submit(queue, "a")
    store.remove("a")
    store.ledger.drain()
    assert claim(queue) == []
    assert submit(queue, "a")


def test_of_several_who_claim_at_a_time_each_gets_others(backend: Store, backend_url: str) -> None:
    for number in range(40):
        submit(backend.ledger.queue, f"e{number:02}")
    stores = [backend if backend_url == "memory:" else open_store(backend_url) for _ in range(4)]
    found: list[str] = []

    def work(store: Store) -> None:
        while taken := claim(store.ledger.queue, 3):
            found.extend(taken)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for store in stores:
        store.close()
    assert sorted(found) == [f"e{number:02}" for number in range(40)]


def test_no_server_takes_a_claim_to_be_worth_compiling(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    """PostgreSQL compiles (JIT) what it takes to be dear: which takes longer than hundreds of claims."""
    del postgres  # its tables are there
    claim = QUEUE.claim.with_schema("").replace("%b", "%s")
    with psycopg.connect(postgres_url) as connection:
        [(plan,), *_] = connection.execute(f"EXPLAIN {claim}", ('["default"]', "[]", 8, 8, 60.0)).fetchall()
    assert float(plan.partition("..")[2].partition(" ")[0]) < 1000, plan


class TestWhatHasNotBegun:
    """It may be taken over as it was found, if it is so still."""

    def found(self, store: Store | Sink, queue: Queue) -> Snapshot:
        assert submit(queue, "e1")
        return store.ledger.read("e1", steps=False)

    def take(self, store: Store | Sink, owner: str, known: Snapshot | None) -> Snapshot:
        wanted = TakeOver(execution_id="e1", owner=owner, ttl=60, is_gone=lambda owner: False, rise=3, known=known)
        return store.ledger.take_over(wanted)

    def test_is_taken_over_under_an_epoch_of_its_own(self, store: Store | Sink, queue: Queue) -> None:
        known = self.found(store, queue)
        taken = self.take(store, "me", known)
        assert (taken.epoch, taken.record.state, taken.flow) == (known.epoch + 3, WorkflowState.CREATED, "{}")
        assert store.ledger.holder("e1") == "me"
        assert [each.owner for each in (known, taken, store.ledger.read("e1"))] == [None, "me", "me"]
        store.ledger.apply([Save.of(attrs.evolve(taken.record, state=WorkflowState.RUNNING), taken.epoch)])
        assert store.get("e1").state is WorkflowState.RUNNING

    def test_is_not_where_somebody_has_it_by_now(self, store: Store | Sink, queue: Queue) -> None:
        known = self.found(store, queue)
        self.take(store, "you", known)
        with pytest.raises(ExecutionOwned):
            self.take(store, "me", known)

    def test_is_as_it_stands_where_somebody_has_had_it(self, store: Store | Sink, queue: Queue) -> None:
        known = self.found(store, queue)
        epoch = self.take(store, "you", known).epoch
        running = attrs.evolve(known.record, state=WorkflowState.RUNNING)
        store.ledger.apply([Save.of(running, epoch), SaveStep("e1", "a", 1, "{}", None, epoch), Release("e1", epoch)])
        taken = self.take(store, "me", known)
        assert (taken.record.state, [row.step_name for row in taken.steps]) == (WorkflowState.RUNNING, ["a"])
        assert taken.epoch > epoch

    def test_is_cancelled_where_somebody_has_asked_for_that(self, store: Store | Sink, queue: Queue) -> None:
        known = self.found(store, queue)
        assert store.ledger.request_cancel("e1")
        assert self.take(store, "me", known).cancelled

    def test_is_not_there_where_it_was_removed(self, store: Store | Sink, queue: Queue) -> None:
        known = self.found(store, queue)
        store.remove("e1")
        store.ledger.drain()
        with pytest.raises(ExecutionNotFound):
            self.take(store, "me", known)
