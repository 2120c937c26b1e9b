"""A batch leaves what its writes leave one after another; or nothing of it is written, where one of them is lost."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import FULL

from szal import WorkflowState
from szal.errors import ExecutionNotFound, LeaseLost
from szal.model.results import ExecutionRecord
from szal.stores import open_store
from szal.stores.writes import Lease, NewExecution, Release, Remove, Save, SaveStep

IDS, EPOCHS = ("a", "b"), (1, 2)
ids, epochs, numbers = st.sampled_from(IDS), st.sampled_from(EPOCHS), st.integers(0, 5)
leases = st.builds(Lease, ids, epochs)


def record(execution_id, number):
    state = (WorkflowState.RUNNING, WorkflowState.PAUSED, WorkflowState.COMPLETED)[number % 3]
    return ExecutionRecord(execution_id, "f", state, inputs={"number": number})


def beginnings():
    """What begins each execution under each lease; a lease is that of one beginning."""

    def new(lease, number, content_id, replace, under):
        return NewExecution(
            record=record(lease.execution_id, number),
            content_id=content_id,
            flow=f'"{content_id}"',
            owner="me",
            ttl=1e6,
            steps=[("s", 0, "0")] if number == 0 else (),
            under=under,
            replace=replace,
            first_epoch=lease.epoch,
        )

    of = {}
    for execution_id, other in (("a", "b"), ("b", "a")):
        for lease in (Lease(execution_id, epoch) for epoch in EPOCHS):
            under = st.one_of(st.none(), st.builds(Lease, st.just(other), epochs))
            of[lease] = st.builds(new, st.just(lease), numbers, st.sampled_from("cd"), st.booleans(), under)
    return st.fixed_dictionaries(of)


others = st.one_of(
    st.builds(lambda lease, number: Save.of(record(lease[0], number), lease[1]), leases, numbers),
    st.builds(
        lambda lease, number, step: SaveStep(lease[0], step, number, str(number), None, lease[1]),
        leases,
        numbers,
        st.sampled_from("st"),
    ),
    st.builds(lambda lease, number: Release(*lease, float(number), [f"on {number}"]), leases, numbers),
    st.builds(Remove, ids, st.sampled_from([*EPOCHS, None])),
)
batches = st.lists(st.lists(st.one_of(leases, others), min_size=1, max_size=6), min_size=1, max_size=2)


def content(store):
    """What *store* has of each execution."""

    def of(execution_id):
        try:
            found = store.ledger.read(execution_id)
        except ExecutionNotFound:
            return None
        return found, sorted(found.steps), store.ledger.holder(execution_id), store.ledger.signals(execution_id)

    return [*map(of, IDS), sorted(store.ledger.interrupted(lambda owner: False))]


def is_written(store, writes):
    try:
        store.ledger.apply(writes)
    except LeaseLost:
        return False
    return True


def test_a_batch_leaves_what_its_writes_leave_one_after_another(backend):
    @settings(
        max_examples=600 if FULL else 60,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(beginnings(), batches)
    def check(begins, drawn):
        for store in (backend, alone):
            for execution_id in IDS:
                store.remove(execution_id)
        for batch in drawn:
            writes = [begins[each] if isinstance(each, Lease) else each for each in batch]
            before = content(backend)
            done = is_written(backend, writes)
            if not done:
                assert content(backend) == before
            one_by_one = [is_written(alone, [write]) for write in writes]
            assert all(one_by_one) is done
            if not done:
                return
            assert content(backend) == content(alone)

    with open_store("memory:") as alone:
        check()


def new(epoch, **more):
    return NewExecution(
        record=record("a", 0), content_id="c", flow="{}", owner="me", ttl=60.0, first_epoch=epoch, **more
    )


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "queued"])
def test_what_follows_a_beginning_that_is_written_twice_is_not_lost(backend, replaces, is_committed):
    """An interruption may come when it has been queued, and nobody knows."""
    first = new(7, replace=replaces)
    ends = [Save.of(record("a", 2), 7), Release("a", 7, 0.0, ())]
    if is_committed:
        backend.ledger.apply([first])
        backend.ledger.apply([first, *ends])
    else:
        backend.ledger.apply([first, first, *ends])
    assert backend.get("a").inputs == {"number": 2}
    assert backend.ledger.holder("a") is None


def test_what_was_written_under_an_earlier_lease_is_not_part_of_what_replaces_it(backend):
    backend.ledger.create(new(3))
    earlier = [SaveStep("a", "s", 0, "0", None, 3), Save.of(record("a", 2), 3), Release("a", 3)]
    backend.ledger.apply([*earlier, new(7, replace=True)])
    assert backend.ledger.read("a").steps == []
    assert (backend.get("a").inputs, backend.ledger.holder("a")) == ({"number": 0}, "me")


def test_what_is_removed_can_begin_again_in_the_same_batch(backend):
    backend.ledger.create(new(3))
    backend.ledger.apply([Remove("a", 3), new(7), Save.of(record("a", 1), 7)])
    assert (backend.get("a").inputs, backend.ledger.holder("a")) == ({"number": 1}, "me")
