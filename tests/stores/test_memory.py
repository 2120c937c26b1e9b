"""The store in memory: what is its own, and that it keeps what a database keeps."""

import gc
from collections.abc import Callable
from typing import TypeAlias

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stores.samples import record, run_python

from szal import clock
from szal.engine.owners import is_gone, owner_name
from szal.errors import ExecutionNotFound, ExecutionOwned, LeaseLost, StoreFailed
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import InMemoryExecutionStore, SqliteExecutionStore, Store, open_store
from szal.stores.ledger import Holding, Lease, NewExecution, Renewal, Signal, StepRow, TakeOver
from szal.stores.writes import Release, Remove, Save, SaveStep, Write

IDS = st.sampled_from(["e00000", "e00001", "e00002"])
NAMES = st.sampled_from(["a", "b", "a b"])
OWNERS = st.sampled_from(["me", "you", "they"])
TTLS = st.sampled_from([-1.0, 600.0])
Drawn: TypeAlias = tuple[str, type, WorkflowState, str, str | None, float | None, list[str] | None]
LEASES = st.none() | st.builds(Lease, IDS, st.integers(1, 2))
WRITES = st.tuples(
    IDS,
    st.sampled_from([Save, SaveStep, Release, Remove]),
    st.sampled_from([WorkflowState.PAUSED, *WorkflowState]),
    NAMES,
    st.sampled_from([None, "s0001", "s0002", "s0003"]),
    st.sampled_from([None, -5.0, 600.0]),
    st.none() | st.lists(st.sampled_from(["a", "b", "c"]), max_size=2),
)


@pytest.fixture
def store() -> InMemoryExecutionStore:
    return InMemoryExecutionStore()


def begun(store: InMemoryExecutionStore, number: int = 1, ttl: float = 60, content: str = "c1") -> int:
    epoch = store.ledger.create(
        NewExecution(
            record=record(number, state=WorkflowState.RUNNING),
            content_id=content,
            flow=f"the flow {content}",
            owner="me",
            ttl=ttl,
        )
    )
    assert epoch is not None
    return epoch


def step(number: int, name: str, epoch: int | None) -> SaveStep:
    return SaveStep(f"e{number:05}", name, 0, "{}", None, epoch)


# -- what callers hold --------------------------------------------------------------------------------


def test_what_a_caller_does_to_what_it_gave_or_got_changes_nothing(store: InMemoryExecutionStore) -> None:
    given, awaits = step(1, "a", begun(store)), ["go"]
    paused = Save.of(record(1, state=WorkflowState.PAUSED, labels={"team": "a"}))
    store.ledger.apply([given, paused, Release("e00001", 1, None, awaits)])
    given.data = given.step_name = "changed"
    awaits.append("other")
    got = store.ledger.read("e00001")
    got.steps.clear()  # type: ignore[attr-defined]
    got.record.labels["team"] = "changed"  # type: ignore[index]
    store.find()[0].labels["team"] = "changed"  # type: ignore[index]
    store.ledger.send("e00001", Signal("s1", "other", "1"))
    store.ledger.signals("e00001").clear()
    assert store.ledger.read("e00001").steps == [("a", 0, "{}")]
    assert store.ledger.read("e00001").record.labels == store.find()[0].labels == {"team": "a"}
    assert store.ledger.interrupted(lambda owner: False) == []
    assert [signal.name for signal in store.ledger.signals("e00001")] == ["other"]


def test_a_definition_is_one_text_and_goes_with_its_last_execution(store: InMemoryExecutionStore) -> None:
    for number in range(3):
        begun(store, number)
    assert len({id(store.ledger.read(f"e{number:05}").flow) for number in range(3)}) == 1
    store.remove("e00000")
    store.ledger.apply([Remove("e00001")])
    assert store.ledger.read("e00002").flow == "the flow c1"
    store.remove("e00002")
    gc.collect()
    assert dict(store._entries.definitions) == {}


# -- batches ------------------------------------------------------------------------------------------


@attrs.define
class Foreign:
    """A write that the store has never heard of."""

    execution_id: str
    epoch: int | None = None
    key = "foreign"
    replaceable = False


def test_a_batch_with_one_write_that_cannot_be_done_does_nothing(store: InMemoryExecutionStore) -> None:
    epoch = begun(store)
    for error, bad in (
        (LeaseLost, step(1, "b", epoch + 1)),
        (LeaseLost, step(2, "b", 1)),
        (StoreFailed, Foreign("e00001")),
    ):
        with pytest.raises(error):
            store.ledger.apply([step(1, "a", epoch), Save.of(record(5)), bad])
    assert store.ledger.read("e00001").steps == []
    assert store.list() == ["e00001"]


def test_a_step_of_an_execution_that_is_not_there_is_not_kept(store: InMemoryExecutionStore) -> None:
    store.ledger.apply([step(1, "a", None), Release("e00001")])
    begun(store)
    assert store.ledger.read("e00001").steps == []


# -- owners -------------------------------------------------------------------------------------------


def test_an_owner_in_this_process_is_alive_while_its_lease_lasts(store: InMemoryExecutionStore) -> None:
    store.ledger.create(
        NewExecution(
            record=record(1, state=WorkflowState.RUNNING), content_id="c1", flow="{}", owner=owner_name(), ttl=60
        )
    )
    with pytest.raises(ExecutionOwned):
        store.ledger.take_over(TakeOver(execution_id="e00001", owner=owner_name(), ttl=60, is_gone=is_gone))
    assert store.ledger.interrupted(is_gone) == []


def test_to_set_the_clock_takes_no_lease_away(store: InMemoryExecutionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store)
    now = clock.wall()
    monkeypatch.setattr(clock, "wall", lambda: now + 3600)
    assert store.ledger.clock() == now + 3600
    assert store.ledger.interrupted(lambda owner: False) == []


def test_whether_an_owner_is_gone_is_asked_without_the_lock(store: InMemoryExecutionStore) -> None:
    begun(store)

    def meanwhile(owner: str) -> bool:
        if owner == "me":
            store.ledger.take_over(TakeOver(execution_id="e00001", owner="first", ttl=60, is_gone=lambda owner: True))
        return owner == "me"

    with pytest.raises(ExecutionOwned):
        store.ledger.take_over(TakeOver(execution_id="e00001", owner="second", ttl=60, is_gone=meanwhile))
    assert store.ledger.read("e00001").epoch == 2


def test_what_the_parent_runs_is_not_taken_over_in_a_child_while_that_lives() -> None:
    code = """
        import os, sys
        from szal import ExecutionOwned, ExecutionRecord, WorkflowState, open_store
        from szal.engine.owners import is_gone, owner_name
        from szal.stores.ledger import NewExecution, TakeOver

        def begin(name, ttl):
            record = ExecutionRecord(name, "ci", WorkflowState.RUNNING)
            new = NewExecution(record=record, content_id="c", flow="{}", owner=owner_name(), ttl=ttl)
            assert store.ledger.create(new) == 1

        def take_over(is_gone):
            wanted = TakeOver(execution_id="running", owner=owner_name(), ttl=60, is_gone=is_gone)
            return store.ledger.take_over(wanted)

        store = open_store("memory:")
        begin("running", 0.3)
        begin("interrupted", -1)
        until = store.ledger.clock() + 0.4
        read, write = os.pipe()
        if os.fork() == 0:
            while store.ledger.clock() < until:
                pass
            assert store.ledger.interrupted(is_gone) == ["interrupted"]
            try:
                take_over(is_gone)
            except ExecutionOwned:
                assert take_over(lambda owner: True).epoch == 2
                os.write(write, b"x")
            os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"x"
        assert store.ledger.read("running").epoch == 1
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr


# -- the same as a database ---------------------------------------------------------------------------


def holdings(store: Store, execution_id: str) -> list[Holding]:
    """Return how a lease stands, but for its time: each store has a clock of its own."""
    return [attrs.evolve(each, expires=0.0) for each in store.ledger.holdings([execution_id])]


class LedgerMachine(RuleBasedStateMachine):
    """Whatever is done to a store in memory and to SQLite, both answer the same."""

    @initialize()
    def start(self) -> None:
        self.stores: tuple[InMemoryExecutionStore, SqliteExecutionStore] = (
            InMemoryExecutionStore(),
            open_store("sqlite:///:memory:"),  # type: ignore[assignment]
        )
        self.sent = self.steps = 0

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()

    def both(self, call: Callable[[InMemoryExecutionStore | SqliteExecutionStore], object]) -> object:
        memory, database = (self.answer(call, store) for store in self.stores)
        assert memory == database
        return memory

    def answer(self, call: Callable[..., object], store: InMemoryExecutionStore | SqliteExecutionStore) -> object:
        try:
            return call(store)
        except (ExecutionNotFound, ExecutionOwned, LeaseLost) as error:
            return type(error), str(error)

    @rule(
        name=IDS,
        owner=OWNERS,
        ttl=TTLS,
        content=st.sampled_from(["c1", "c2"]),
        steps=st.lists(NAMES, max_size=2, unique=True),
        under=LEASES,
        replace=st.booleans(),
    )
    def begin(
        self, *, name: str, owner: str, ttl: float, content: str, steps: list[str], under: Lease | None, replace: bool
    ) -> None:
        new = NewExecution(
            record=record(int(name[1:]), state=WorkflowState.RUNNING),
            content_id=content,
            flow=f"flow {content}",
            owner=owner,
            ttl=ttl,
            steps=[StepRow(step, seq, "{}") for seq, step in enumerate(steps, -2)],
            under=under,
            replace=replace,
        )
        self.both(lambda store: store.ledger.create(new))

    @rule(name=IDS, owner=OWNERS, ttl=TTLS, gone=st.booleans(), under=LEASES, reopen=st.booleans())
    def take_over(self, *, name: str, owner: str, ttl: float, gone: bool, under: Lease | None, reopen: bool) -> None:
        wanted = TakeOver(execution_id=name, owner=owner, ttl=ttl, is_gone=lambda _: gone, under=under, reopen=reopen)
        self.both(lambda store: store.ledger.take_over(wanted))

    @rule(name=IDS, step_name=NAMES)
    def undone(self, name: str, step_name: str) -> None:
        self.both(lambda store: store.ledger.undone(name, step_name, '{"undone": 1}'))

    @rule(owner=OWNERS, epochs=st.dictionaries(IDS, st.integers(1, 3)), ttl=TTLS)
    def renew(self, owner: str, epochs: dict[str, int], ttl: float) -> None:
        self.both(lambda store: store.ledger.renew(Renewal(owner=owner, epochs=epochs, ttl=ttl)))

    @rule(name=IDS, signal=NAMES, again=st.booleans())
    def send(self, name: str, signal: str, again: bool) -> None:
        self.sent += not again
        self.both(lambda store: store.ledger.send(name, Signal(f"s{self.sent:04}", signal, f'"{self.sent}"')))

    @rule(name=IDS)
    def request_cancel(self, name: str) -> None:
        self.both(lambda store: store.ledger.request_cancel(name))

    @rule(name=IDS)
    def request_pause(self, name: str) -> None:
        self.both(lambda store: store.ledger.request_pause(name))

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4), behind=st.sampled_from([0, 0, 0, 1, None]))
    def apply(self, writes: list[Drawn], behind: int | None) -> None:
        batch = [self.write(write, behind) for write in writes]
        self.both(lambda store: store.ledger.apply(batch))

    def write(self, write: Drawn, behind: int | None) -> Write:
        name, kind, state, step_name, signal, wake, awaits = write
        entry = self.stores[0]._entries.of.get(name)
        lease = None if entry is None else entry.lease
        epoch = None if behind is None or lease is None else lease.epoch - behind
        if kind is Release:
            return Release(name, epoch, None if wake is None else self.stores[0].ledger.clock() + wake, awaits)
        if kind is Remove:
            return Remove(name, epoch)
        if (
            kind is SaveStep and entry is not None and epoch is not None
        ):  # else a database keeps it for one that is not there, too
            self.steps += 1
            return SaveStep(name, step_name, self.steps, "{}", signal, epoch)
        return Save.of(record(int(name[1:]), state=state), epoch)

    @rule(name=IDS)
    def remove(self, name: str) -> None:
        self.both(lambda store: store.remove(name))

    @rule(keep=st.integers(0, 2))
    def prune(self, keep: int) -> None:
        self.both(lambda store: store.prune(keep=keep))

    @invariant()
    def the_same_is_known(self) -> None:
        for name in ("e00000", "e00001", "e00002"):
            self.both(lambda store, name=name: store.ledger.read(name))  # type: ignore[misc]
            self.both(lambda store, name=name: store.ledger.signals(name))  # type: ignore[misc]
            self.both(lambda store, name=name: store.ledger.holder(name))  # type: ignore[misc]
            self.both(lambda store, name=name: store.ledger.knows(name))  # type: ignore[misc]
            self.both(
                lambda store, name=name: [attrs.evolve(each, expires=0.0) for each in store.ledger.holdings([name])]
            )  # type: ignore[misc]
        for gone in (True, False):
            self.both(lambda store, gone=gone: sorted(store.ledger.interrupted(lambda _: gone)))  # type: ignore[misc]
        self.both(lambda store: store.find())


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=30, stateful_step_count=30)


def test_an_execution_that_was_only_saved_has_no_lease(store: InMemoryExecutionStore) -> None:
    store.save(ExecutionRecord("plain", "ci", WorkflowState.RUNNING))
    assert (
        store.ledger.take_over(TakeOver(execution_id="plain", owner="me", ttl=60, is_gone=lambda owner: True)).epoch
        is None
    )
    assert not store.ledger.request_cancel("plain")
