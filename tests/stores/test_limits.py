"""How much there is of what steps share, in all engines of a store. The same in each store."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from szal import ExecutionRecord
from szal.stores import Sink, Store, open_store
from szal.stores.ledger import NewExecution, Renewal, TakeOver
from szal.stores.limits import Limits, Request, ResourceUse, WaitingStep
from szal.stores.writes import Lease, Release


@pytest.fixture
def limits(store: Store | Sink) -> Limits:
    return store.ledger.limits


def begin(store: Store | Sink, execution_id: str = "e1", ttl: float = 60.0) -> Lease:
    """Return the lease of a new execution."""
    record = ExecutionRecord(execution_id, "ci")
    new = NewExecution(record=record, content_id="c1", flow="{}", owner="me", ttl=ttl)
    assert store.ledger.create(new) == 1
    return new.lease


def request(lease: Lease, permit_id: str, needs: dict[str, int], **more: Any) -> Request:
    return Request(permit_id=permit_id, lease=lease, step_name=f"step {permit_id}", needs=needs, **more)


def test_a_capacity_is_set_changed_and_removed(backend: Store) -> None:
    assert backend.capacities() == {}
    backend.set_capacity("gpu", 1)
    backend.set_capacity("api", 5)
    backend.set_capacity("api", 7)
    assert backend.capacities() == {"api": 7, "gpu": 1}
    backend.set_capacity("api", None)
    backend.set_capacity("none", None)
    assert backend.capacities() == {"gpu": 1}


@pytest.mark.parametrize(("name", "capacity"), [("", 1), ("api", 0), ("api", -1), ("api", True), ("api", 1.5), (1, 1)])
def test_what_can_be_none_is_refused(backend: Store, name: Any, capacity: Any) -> None:
    with pytest.raises(ValueError, match=r"the (name of a resource|capacity)"):
        backend.set_capacity(name, capacity)


def test_no_more_is_granted_than_there_is_and_the_oldest_comes_first(store: Store | Sink, limits: Limits) -> None:
    lease = begin(store)
    limits.set_capacity("api", 2)
    asked = [request(lease, f"p{number}", {"api": 1}, asked=10.0 - number) for number in range(4)]
    assert limits.claim(asked) == {"p2", "p3"}
    assert not limits.has_turn(asked[:2])
    assert limits.claim(asked[:2]) == set()
    assert limits.uses() == [ResourceUse("api", 2, 2, 2)]
    assert limits.waiting("e1") == [
        WaitingStep(f"step p{number}", "api", 1, 2, 2, since=10.0 - number) for number in (1, 0)
    ]
    assert limits.claim([], over=["p3", "p2"]) == set()
    assert limits.has_turn(asked[:2])
    assert limits.claim(asked[:2]) == {"p0", "p1"}
    assert limits.waiting("e1") == []


def test_a_higher_priority_goes_first_and_takes_nothing_away(store: Store | Sink, limits: Limits) -> None:
    lease = begin(store)
    limits.set_capacity("api", 1)
    first, other = (request(lease, name, {"api": 1}, asked=place) for place, name in enumerate(("a", "b")))
    urgent = request(lease, "c", {"api": 1}, asked=3, priority=1)
    assert limits.claim([first]) == {"a"}
    assert limits.claim([other, urgent]) == set()
    assert limits.claim([other, urgent], over=["a"]) == {"c"}


def test_one_that_needs_much_is_not_overtaken_by_those_that_need_less(store: Store | Sink, limits: Limits) -> None:
    lease = begin(store)
    limits.set_capacity("api", 3)
    limits.set_capacity("gpu", 1)
    small, large = request(lease, "a", {"api": 1}), request(lease, "b", {"api": 3, "gpu": 1}, asked=1)
    smaller, elsewhere = request(lease, "c", {"api": 1}, asked=2), request(lease, "d", {"gpu": 1}, asked=3)
    assert limits.claim([small]) == {"a"}
    assert limits.claim([large, smaller, elsewhere]) == set()
    assert limits.claim([large, smaller, elsewhere], over=["a"]) == {"b"}
    assert limits.claim([smaller, elsewhere], over=["b"]) == {"c", "d"}


def test_one_that_needs_more_than_there_is_waits_and_holds_up_nobody(store: Store | Sink, limits: Limits) -> None:
    lease = begin(store)
    limits.set_capacity("api", 2)
    large, small = request(lease, "a", {"api": 3}), request(lease, "b", {"api": 1}, asked=1)
    assert limits.claim([large, small]) == {"b"}
    assert [str(each) for each in limits.waiting("e1")] == ["waits for 'api' (it needs 3, and there is 2)"]
    limits.set_capacity("api", 4)
    assert limits.claim([large]) == {"a"}


def test_where_the_capacity_is_removed_nobody_waits(store: Store | Sink, limits: Limits) -> None:
    lease = begin(store)
    limits.set_capacity("api", 1)
    both = [request(lease, name, {"api": 1}) for name in "ab"]
    assert len(limits.claim(both)) == 1
    limits.set_capacity("api", None)
    assert limits.claim(both) == {"a", "b"}


@pytest.mark.parametrize("how", ["released", "taken over", "run out", "removed"])
def test_what_an_execution_has_is_free_when_nobody_holds_its_lease(
    store: Store | Sink, limits: Limits, how: str
) -> None:
    lease, other = begin(store), begin(store, "e2")
    limits.set_capacity("api", 1)
    assert limits.claim([request(lease, "a", {"api": 1})]) == {"a"}
    wanted = [request(other, "b", {"api": 1})]
    if how == "released":
        store.ledger.apply([Release("e1", lease.epoch)])
    elif how == "taken over":
        store.ledger.take_over(TakeOver(execution_id="e1", owner="you", ttl=60, is_gone=lambda owner: owner == "me"))
    elif how == "removed":
        store.remove("e1")
        store.ledger.drain()
    else:
        assert limits.claim(wanted) == set()
        store.ledger.renew(Renewal(owner="me", epochs={"e1": 1}, ttl=0.05))
        while not limits.has_turn(wanted):
            store.ledger.renew(Renewal(owner="me", epochs={"e2": 1}, ttl=60))
    assert limits.claim(wanted) == {"b"}
    assert limits.uses() == [ResourceUse("api", 1, 1)]


def test_without_its_lease_nobody_is_granted_anything(store: Store | Sink, limits: Limits) -> None:
    begin(store)
    limits.set_capacity("api", 1)
    late = [request(Lease("e1", 7), "a", {"api": 1}), request(Lease("none", 1), "b", {"api": 1})]
    assert limits.claim(late) == set()
    assert limits.uses() == [ResourceUse("api", 1)]


def test_whoever_listens_hears_that_something_is_given_back(backend: Store) -> None:
    limits, lease = backend.ledger.limits, begin(backend)
    limits.set_capacity("api", 1)
    assert limits.claim([request(lease, "a", {"api": 1})]) == {"a"}
    listener, wanted, has_it = limits.listen(), [request(lease, "b", {"api": 1})], threading.Event()
    assert limits.claim(wanted) == set()

    def wait() -> None:
        while not limits.claim(wanted):
            listener.wait(30)
        has_it.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    limits.claim([], over=["a"])
    assert has_it.wait(60)
    thread.join()
    listener.close()
    listener.wait(0)


NEEDS = st.dictionaries(st.sampled_from(["api", "gpu"]), st.integers(1, 3), min_size=1)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), NEEDS, st.integers(0, 1)),
        st.tuples(st.just("give back"), st.integers(0, 20), st.just(0)),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_no_more_is_held_than_there_is_and_the_first_in_line_has_it_first(
    sqlite_at_random: Store, actions: Sequence[tuple[str, Any, int]]
) -> None:
    """Against SQLite and the store in memory, which have to say the same."""
    stores = [sqlite_at_random, open_store("memory:")]
    both = [store.ledger.limits for store in stores]
    leases = [begin(store, f"e{begin_count()}") for store in stores]
    capacities = {"api": 3, "gpu": 2}
    for limits in both:
        for name, capacity in capacities.items():
            limits.set_capacity(name, capacity)
    waiting: dict[str, tuple[dict[str, int], int, int]] = {}
    held: dict[str, dict[str, int]] = {}
    for number, (what, given_, priority) in enumerate(actions):
        over = []
        if what == "ask":
            waiting[f"{leases[0].execution_id} {number}"] = given_, priority, number
        elif held:
            over = [sorted(held)[given_ % len(held)]]
            del held[over[0]]
        found = []
        for limits, lease in zip(both, leases, strict=True):
            asked = [
                request(lease, name, needs, priority=priority, asked=float(at))
                for name, (needs, priority, at) in waiting.items()
            ]
            found.append(limits.claim(asked, over))
        assert found[0] == found[1]
        for name in found[0]:
            held[name] = waiting.pop(name)[0]
        used: Counter[str] = Counter()
        for needs in held.values():
            used.update(needs)
        assert all(used[name] <= capacity for name, capacity in capacities.items())
        line = sorted(waiting, key=lambda name: (-waiting[name][1], waiting[name][2]))
        possible = [name for name in line if all(n <= capacities[each] for each, n in waiting[name][0].items())]
        if possible:  # the first in line waits only for what is used
            needs = waiting[possible[0]][0]
            assert any(used[name] + n > capacities[name] for name, n in needs.items())
    both[0].claim([], [*held, *waiting])


COUNT = iter(range(10**6))


def begin_count() -> int:
    return next(COUNT)


@pytest.fixture
def sqlite_at_random(sqlite: Store) -> Store:
    return sqlite


def test_points_in_time_follow_one_another_at_the_interval_of_who_takes_them(limits: Limits) -> None:
    assert limits.take_turns({"api": 1000.0}) == 0.0
    assert 900 < limits.take_turns({"api": 100.0, "mail": 10000.0}) <= 1000
    assert 1000 < limits.take_turns({"api": 10.0}) <= 1100
    assert 9900 < limits.take_turns({"mail": 10.0, "api": 10.0}) <= 10000


def test_nobody_who_takes_one_at_a_time_gets_the_same(backend: Store, backend_url: str) -> None:
    taken: list[float] = []

    def take(store: Store) -> None:
        taken.extend(store.ledger.limits.take_turns({"api": 1000.0}) for _ in range(5))

    stores = [backend] * 2 if backend_url == "memory:" else [backend, open_store(backend_url)]
    threads = [threading.Thread(target=take, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [round(each / 1000) for each in sorted(taken)] == [*range(10)]
    if stores[1] is not backend:
        stores[1].close()
