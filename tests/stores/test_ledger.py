"""What a store keeps of executions under way: leases with epochs, steps, signals. The same in each."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helper_engine import bounded

from szal import (
    ExecutionNotFound,
    ExecutionOwned,
    ExecutionRecord,
    LeaseLost,
    StepResult,
    StepStatus,
    WorkflowState,
    WriteFailed,
)
from szal.model.json import encode_checkpoint
from szal.stores import Sink, Store, open_store
from szal.stores.ledger import Lease, Ledger, NewExecution, Renewal, Signal, Snapshot, TakeOver, Wish
from szal.stores.writes import Release, Remove, Save, SaveStep

RUNNING = WorkflowState.RUNNING


@pytest.fixture
def ledger(store: Store | Sink) -> Ledger:
    return store.ledger


def alive(owner: str) -> bool:
    return False


def gone(owner: str) -> bool:
    return True


def record(execution_id: str = "e1", state: WorkflowState = RUNNING) -> ExecutionRecord:
    return ExecutionRecord(execution_id, "ci", state)


def create(ledger: Ledger, record: ExecutionRecord, owner: str, ttl: float = 60, **more: Any) -> int | None:
    return ledger.create(NewExecution(record=record, content_id="c1", flow="{}", owner=owner, ttl=ttl, **more))


def take_over(
    ledger: Ledger, execution_id: str, owner: str, is_gone: Callable[[str], bool], ttl: float = 60, **more: Any
) -> Snapshot:
    wanted = TakeOver(execution_id=execution_id, owner=owner, ttl=ttl, is_gone=is_gone, **more)
    return ledger.take_over(wanted)


def begun(ledger: Ledger, execution_id: str = "e1", owner: str = "me", ttl: float = 60) -> int:
    epoch = ledger.create(
        NewExecution(record=record(execution_id), content_id="c1", flow='{"the": "flow"}', owner=owner, ttl=ttl)
    )
    assert epoch is not None
    return epoch


def step(execution_id: str, name: str, seq: int, epoch: int, signal_id: str | None = None) -> SaveStep:
    data = encode_checkpoint(StepResult("i", name, StepStatus.COMPLETED, name), 0)
    return SaveStep(execution_id, name, seq, data, signal_id, epoch)


def test_what_follows_a_removal_under_the_same_lease_is_refused(store: Store, ledger: Ledger) -> None:
    epoch = begun(ledger)
    with pytest.raises(LeaseLost):
        ledger.apply([Remove("e1", epoch), step("e1", "a", 0, epoch)])
    assert store.list() == ["e1"]


def test_an_execution_begins_once(store: Store, ledger: Ledger) -> None:
    assert begun(ledger) == 1
    assert create(ledger, record(), "other") is None
    assert store.get("e1").state is RUNNING
    found = ledger.read("e1")
    assert (found.epoch, found.content_id, found.flow) == (1, "c1", '{"the": "flow"}')


def test_it_knows_what_has_begun_until_that_is_removed(store: Store, ledger: Ledger) -> None:
    assert not ledger.knows("e1")
    begun(ledger)
    assert ledger.knows("e1")
    store.remove("e1")
    ledger.drain()
    assert not ledger.knows("e1")


def test_a_definition_is_kept_once_for_any_number_of_executions(ledger: Ledger) -> None:
    begun(ledger, "e1")
    begun(ledger, "e2")
    assert [ledger.read(name).flow for name in ("e1", "e2")] == ['{"the": "flow"}'] * 2


def test_of_many_who_begin_one_execution_one_does(ledger: Ledger) -> None:
    together, epochs = threading.Barrier(8), []

    def begin() -> None:
        together.wait(30)
        epochs.append(create(ledger, record(), threading.current_thread().name))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(epochs, key=str) == [1] + [None] * 7


def test_a_live_owner_is_not_taken_over(ledger: Ledger) -> None:
    begun(ledger)
    with pytest.raises(ExecutionOwned):
        take_over(ledger, "e1", "other", alive)
    assert ledger.read("e1").epoch == 1


def test_many_steps_in_one_batch_are_all_there_each_as_it_was_said_last(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([step("e1", f"s{number}", number, epoch) for number in range(50)])
    ledger.apply([step("e1", f"s{number % 240}", 1000 + number, epoch, f"signal {number}") for number in range(250)])
    steps = ledger.read("e1").steps
    expected = [(f"s{number % 240}", 1000 + number) for number in range(10, 250)]
    assert [(name, seq) for name, seq, _ in steps] == expected


@pytest.mark.parametrize("why", ["gone", "expired", "released", "its own"])
def test_an_execution_that_nobody_runs_is_taken_over_with_the_next_epoch(ledger: Ledger, why: str) -> None:
    epoch = begun(ledger, ttl=-1 if why == "expired" else 60)
    ledger.apply([step("e1", "b", 1, epoch), step("e1", "a", 0, epoch)])
    if why == "released":
        ledger.apply([Release("e1", epoch)])
    claim = take_over(ledger, "e1", "me" if why == "its own" else "other", gone if why == "gone" else alive)
    assert (claim.epoch, claim.recoveries) == (2, 0 if why == "released" else 1)  # who gives it back has not died
    assert [name for name, _, _ in claim.steps] == ["a", "b"]


def test_one_that_has_ended_is_taken_over_only_to_be_undone(ledger: Ledger) -> None:
    parent, epoch = begun(ledger, "parent"), begun(ledger, "e1")
    ledger.apply(
        [step("e1", "a", 0, epoch), Save.of(record("e1", WorkflowState.COMPLETED), epoch), Release("e1", epoch)]
    )
    assert take_over(ledger, "e1", "me", alive, under=Lease("parent", parent)).epoch is None
    claim = take_over(ledger, "e1", "me", alive, under=Lease("parent", parent), reopen=True)
    assert (claim.epoch, claim.recoveries, claim.record.state) == (2, 0, WorkflowState.COMPLETED)
    assert [name for name, _, _ in claim.steps] == ["a"]
    ledger.apply([Save.of(record("e1", WorkflowState.ROLLING_BACK), 2)])
    with pytest.raises(LeaseLost):
        ledger.apply([Save.of(record("e1", WorkflowState.COMPLETED), epoch)])
    assert ledger.read("e1").epoch == 2


def test_of_many_who_take_one_over_one_does(ledger: Ledger) -> None:
    begun(ledger, ttl=-1)
    together, outcomes = threading.Barrier(8), []

    def take_it_over() -> None:
        together.wait(30)
        try:
            outcomes.append(take_over(ledger, "e1", threading.current_thread().name, alive).epoch)
        except ExecutionOwned:
            outcomes.append(None)

    threads = [threading.Thread(target=take_it_over) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes, key=str) == [2] + [None] * 7


def test_going_on_after_a_pause_is_no_recovery(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([Save.of(record(state=WorkflowState.PAUSED), epoch), Release("e1", epoch)])
    assert [take_over(ledger, "e1", "me", alive).recoveries for _ in range(2)] == [0, 0]


def test_recoveries_are_counted_anew_with_progress_and_only_together_with_that(ledger: Ledger) -> None:
    begun(ledger)
    assert [take_over(ledger, "e1", "w", gone, ttl=-1).recoveries for _ in range(3)] == [1, 2, 3]
    settled = step("e1", "a", 0, 4)
    settled.progress_of = "e1"
    with pytest.raises(LeaseLost):
        ledger.apply([settled, step("e1", "b", 1, 3)])
    assert ledger.read("e1").recoveries == 3
    ledger.apply([settled, step("e1", "a", 1, 4)])  # also where another write replaces it
    assert [take_over(ledger, "e1", "w", gone, ttl=-1).recoveries for _ in range(2)] == [1, 2]


def test_that_of_a_sub_flow_is_its_parents_who_alone_is_recovered(ledger: Ledger) -> None:
    begun(ledger, "parent")
    begun(ledger, "child")
    epoch = take_over(ledger, "parent", "other", gone).epoch
    assert epoch is not None
    child = take_over(ledger, "child", "other", alive, under=Lease("parent", epoch))
    assert child.recoveries == 0
    settled = step("child", "a", 0, child.epoch or 0)
    settled.progress_of = "parent"
    ledger.apply([settled])
    assert ledger.read("parent").recoveries == 0


def test_what_has_ended_is_not_taken_over(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([Save.of(record(state=WorkflowState.COMPLETED), epoch), Release("e1", epoch)])
    claim = take_over(ledger, "e1", "other", gone)
    assert claim.epoch is None
    assert claim.record.state is WorkflowState.COMPLETED


def test_writes_of_an_older_epoch_are_refused_whole(store: Store, ledger: Ledger) -> None:
    old = begun(ledger)
    new = take_over(ledger, "e1", "other", gone).epoch
    for late in (step("e1", "a", 0, old), Save.of(record(state=WorkflowState.COMPLETED), old), Release("e1", old)):
        with pytest.raises(LeaseLost):
            ledger.apply([step("e1", "b", 0, new), late])
    assert ledger.read("e1").steps == []
    assert store.get("e1").state is RUNNING


@pytest.mark.parametrize("count", [1, 10, 40])  # PostgreSQL has one statement for few, another for many
def test_steps_of_several_executions_are_one_batch(ledger: Ledger, count: int) -> None:
    epochs = {name: begun(ledger, name) for name in ("e1", "e2")}
    names = [f'"{number}" ist schön, \\u0041 %s' for number in range(count)]
    batch = [step(name, each, seq, epochs[name], "s1") for seq, each in enumerate(names) for name in epochs]
    ledger.apply(batch)
    for name in epochs:
        written = [(each.step_name, each.seq, each.data) for each in batch if each.execution_id == name]
        assert ledger.read(name).steps == written
        ledger.send(name, Signal("s1", "go", "1"))
        assert ledger.signals(name) == []  # it was delivered


@pytest.mark.parametrize("count", [1, 40])
def test_who_is_refused_is_named_and_nothing_is_written_for_others(ledger: Ledger, count: int) -> None:
    epochs = {name: begun(ledger, name) for name in ("e1", "e2")}
    take_over(ledger, "e2", "other", gone)
    with pytest.raises(LeaseLost, match="e2"):
        ledger.apply([step(name, f"s{seq}", seq, epochs[name]) for seq in range(count) for name in epochs])
    assert ledger.read("e1").steps == ledger.read("e2").steps == []


def test_a_refused_write_tells_its_sender_and_a_good_one_too(ledger: Ledger) -> None:
    told: list[object] = []
    good, late = step("e1", "a", 0, begun(ledger)), step("e1", "b", 1, 7)
    good.done = late.done = told.append
    for write in (good, late):
        with suppress(LeaseLost):  # a sink tells it to the sender alone
            ledger.write(write)
    with suppress(WriteFailed):
        ledger.flush()
    assert [type(error) for error in told] == [type(None), LeaseLost]


def test_a_second_write_of_a_step_replaces_the_first(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([step("e1", "a", 0, epoch), step("e1", "b", 1, epoch), step("e1", "a", 2, epoch)])
    assert [(name, seq) for name, seq, _ in ledger.read("e1").steps] == [("b", 1), ("a", 2)]


def test_through_a_sink_a_refused_write_takes_nobody_elses_down(backend: Store) -> None:
    ledger = backend.ledger
    old, other = begun(ledger, "e1"), begun(ledger, "e2")
    take_over(ledger, "e1", "other", gone)
    told: list[object] = []
    with backend.engine_sink() as sink:
        late = step("e1", "a", 0, old)
        late.done = told.append
        for operation in (step("e2", "a", 0, other), late, step("e2", "b", 1, other)):
            sink.ledger.write(operation)
        with pytest.raises(Exception, match="e1"):
            sink.flush()
    assert [name for name, _, _ in ledger.read("e2").steps] == ["a", "b"]
    assert ledger.read("e1").steps == []
    assert [type(error) for error in told] == [LeaseLost]


def test_renewing_keeps_what_is_held_and_tells_what_is_lost(ledger: Ledger) -> None:
    epochs = {name: begun(ledger, name) for name in ("e1", "e2", "e3")}
    take_over(ledger, "e2", "other", gone)
    ledger.request_cancel("e3")
    assert ledger.renew(Renewal(owner="me", epochs=epochs, ttl=60)) == {"e1": Wish.NOTHING, "e3": Wish.CANCEL}


def test_which_steps_have_begun_is_kept_with_the_lease_that_it_is_told_under(ledger: Ledger) -> None:
    epochs = {name: begun(ledger, name) for name in ("e1", "e2", "e3")}

    def told(name: str) -> str | None:
        return ledger.version(name).under_way

    assert told("e1") is None
    renewal = Renewal(owner="me", epochs=epochs, ttl=60, under_way={"e1": "one", "e2": "two"})
    assert ledger.renew(renewal).keys() == epochs.keys()
    assert [told(name) for name in epochs] == ["one", "two", None]
    before = ledger.version("e1")
    ledger.renew(Renewal(owner="me", epochs=epochs, ttl=60))
    assert told("e1") == "one"  # nothing was told: it stays
    ledger.tell_under_way({Lease("e1", epochs["e1"]): "new", Lease("e2", epochs["e2"] + 1): "of another lease"})
    assert [told(name) for name in epochs] == ["new", "two", None]
    assert ledger.version("e1") != before
    ledger.tell_under_way({})
    ledger.tell_under_way({Lease("unknown", 1): "nobody's"})


def test_what_is_written_to_see_whether_it_can_be_is_not_there_afterwards(store: Store | Sink, ledger: Ledger) -> None:
    begun(ledger)
    ledger.check_writable()
    ledger.check_writable()
    assert store.list() == ["e1"]
    store.save(record("e2"))
    ledger.drain()
    assert store.count() == 2


def test_how_a_lease_stands_whether_it_is_held_or_not(ledger: Ledger) -> None:
    epoch, _ = begun(ledger, "e1", ttl=60), begun(ledger, "e2", ttl=-1)
    ledger.apply([Release("e1", epoch, wake=7.0)])
    ledger.request_cancel("e1")
    take_over(ledger, "e2", "other", gone)
    found = {each.execution_id: each for each in ledger.holdings(["e1", "e2", "e3"])}
    assert found.keys() == {"e1", "e2"}
    one, two = found["e1"], found["e2"]
    assert (one.owner, one.recoveries, one.wake, one.cancelled) == (None, 0, 7.0, True)
    assert one.expires < ledger.clock()
    assert (two.owner, two.recoveries, two.wake, two.cancelled) == ("other", 1, None, False)
    assert 0 < two.expires - ledger.clock() <= 61


def test_who_asks_in_vain_for_a_lease_keeps_nobody_from_renewing_it(ledger: Ledger) -> None:
    """However often: `resume` in a loop must not cost the owner its lease."""
    epoch = begun(ledger, ttl=30)
    renewal = Renewal(owner="me", epochs={"e1": epoch}, ttl=-1)  # what is renewed shows: it has run out

    def renewed(owner: str) -> bool:
        assert owner == "me"
        bounded(ledger.renew, renewal)
        assert ledger.holder("e1") is None
        return False

    with pytest.raises(ExecutionOwned):
        take_over(ledger, "e1", "other", renewed)


def test_a_renewed_lease_counts_from_now(ledger: Ledger) -> None:
    epoch = begun(ledger, ttl=-1)
    assert ledger.interrupted(alive) == ["e1"]
    assert ledger.renew(Renewal(owner="me", epochs={"e1": epoch, "unknown": 1}, ttl=60)) == {"e1": False}
    assert ledger.interrupted(alive) == []
    assert ledger.renew(Renewal(owner="other", epochs={"e1": epoch}, ttl=60)) == {}


def test_the_clock_is_unix_time(ledger: Ledger) -> None:
    assert abs(ledger.clock() - time.time()) < 60


def test_those_that_were_interrupted_come_before_those_that_have_waited(ledger: Ledger) -> None:
    for name, wake in (("late", -1), ("soon", -10)):
        epoch = begun(ledger, name)
        paused = Save.of(record(name, WorkflowState.PAUSED), epoch)
        ledger.apply([paused, Release(name, epoch, ledger.clock() + wake)])
    begun(ledger, "second", ttl=-10)
    begun(ledger, "first", ttl=-20)
    assert ledger.interrupted(alive) == ["first", "second", "soon", "late"]


def test_interrupted_are_those_that_nobody_runs(ledger: Ledger) -> None:
    begun(ledger, "live")
    begun(ledger, "expired", ttl=-1)
    epoch = begun(ledger, "done")
    ledger.apply([Save.of(record("done", WorkflowState.COMPLETED), epoch), Release("done", epoch)])
    assert ledger.interrupted(alive) == ["expired"]
    assert sorted(ledger.interrupted(gone)) == ["expired", "live"]


@pytest.mark.parametrize("by", ["time", "signal", "cancel", "nothing"])
def test_a_paused_execution_wakes_by(ledger: Ledger, by: str) -> None:
    epoch = begun(ledger)
    wake = ledger.clock() + (-1 if by == "time" else 3600)
    ledger.apply([Save.of(record(state=WorkflowState.PAUSED), epoch), Release("e1", epoch, wake)])
    if by == "signal":
        ledger.send("e1", Signal("s1", "go", "1"))
    if by == "cancel":
        ledger.request_cancel("e1")
    assert ledger.interrupted(alive) == ([] if by == "nothing" else ["e1"])


@pytest.mark.parametrize("awaits", [["go"], ["other", "go"], None, [], ["other"], ["g", "o"], ["go on"]])
def test_a_signal_wakes_what_waits_for_it(ledger: Ledger, awaits: list[str] | None) -> None:
    epoch = begun(ledger)
    ledger.apply([Save.of(record(state=WorkflowState.PAUSED), epoch), Release("e1", epoch, None, awaits)])
    ledger.send("e1", Signal("s1", "go", "1"))
    assert ledger.interrupted(alive) == (["e1"] if awaits is None or "go" in awaits else [])


def test_a_signal_that_was_delivered_wakes_nothing(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.send("e1", Signal("s1", "go", "1"))
    paused = [Save.of(record(state=WorkflowState.PAUSED), epoch), Release("e1", epoch)]
    ledger.apply([step("e1", "ask", 0, epoch, signal_id="s1"), *paused])
    assert ledger.interrupted(alive) == []


def test_what_has_ended_takes_no_signal_and_cannot_be_cancelled(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.apply([Save.of(record(state=WorkflowState.COMPLETED), epoch), Release("e1", epoch)])
    assert not ledger.send("e1", Signal("s1", "go", "1"))
    assert not ledger.request_cancel("e1")
    assert not ledger.request_pause("e1")
    assert ledger.signals("e1") == []


def test_who_takes_over_learns_that_it_is_to_be_cancelled(ledger: Ledger) -> None:
    begun(ledger)
    assert ledger.request_cancel("e1")
    assert take_over(ledger, "e1", "other", gone).cancelled


@pytest.mark.parametrize("state", [WorkflowState.RUNNING, WorkflowState.PAUSED, WorkflowState.ROLLING_BACK])
def test_what_is_to_be_paused_is_left_alone_until_it_is_taken_over(ledger: Ledger, state: WorkflowState) -> None:
    """Where it may still be paused; an undoing goes on."""
    epoch = begun(ledger)
    assert ledger.request_pause("e1")
    assert ledger.renew(Renewal(owner="me", epochs={"e1": epoch}, ttl=60)) == {"e1": Wish.PAUSE}
    ledger.apply([Save.of(record(state=state), epoch), Release("e1", epoch, wake=0.0)])
    is_undone = state is WorkflowState.ROLLING_BACK
    assert ledger.interrupted(gone) == (["e1"] if is_undone else [])
    assert ledger.request_pause("e1") is not is_undone
    epoch = take_over(ledger, "e1", "other", gone).epoch or 0
    assert ledger.renew(Renewal(owner="other", epochs={"e1": epoch}, ttl=60)) == {"e1": Wish.NOTHING}
    ledger.apply([Release("e1", epoch, wake=0.0)])
    assert ledger.interrupted(gone) == ["e1"]


def test_what_is_to_be_paused_and_cancelled_is_cancelled(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.request_pause("e1")
    ledger.request_cancel("e1")
    assert ledger.renew(Renewal(owner="me", epochs={"e1": epoch}, ttl=60)) == {"e1": Wish.CANCEL}
    ledger.apply([Release("e1", epoch)])
    assert ledger.interrupted(gone) == ["e1"]


def test_a_new_execution_of_that_id_is_not_to_be_paused(ledger: Ledger) -> None:
    epoch = begun(ledger)
    ledger.request_pause("e1")
    ledger.apply([Save.of(record(state=WorkflowState.COMPLETED), epoch), Release("e1", epoch), Remove("e1")])
    epoch = begun(ledger)
    assert ledger.renew(Renewal(owner="me", epochs={"e1": epoch}, ttl=60)) == {"e1": Wish.NOTHING}


def test_a_signal_is_kept_once_in_order_until_a_step_has_taken_it(ledger: Ledger) -> None:
    epoch = begun(ledger)
    assert [
        ledger.send("e1", Signal(signal, "go", value)) for value, signal in (("1", "s1"), ("2", "s2"), ("9", "s1"))
    ] == [
        True,
        True,
        False,
    ]
    assert [(signal.signal_id, signal.value) for signal in ledger.signals("e1")] == [("s1", "1"), ("s2", "2")]
    ledger.apply([step("e1", "ask", 0, epoch, signal_id="s1")])
    assert [signal.signal_id for signal in ledger.signals("e1")] == ["s2"]


def test_what_is_unknown_is_an_error(ledger: Ledger) -> None:
    for call in (
        lambda: ledger.read("no"),
        lambda: take_over(ledger, "no", "me", gone),
        lambda: ledger.send("no", Signal("s1", "go", "1")),
        lambda: ledger.request_cancel("no"),
        lambda: ledger.request_pause("no"),
    ):
        with pytest.raises(ExecutionNotFound):
            call()


def test_removing_an_execution_removes_all_of_it(store: Store, ledger: Ledger) -> None:
    for name, remove in (("e1", lambda: store.remove("e1")), ("e2", lambda: store.prune(older_than=0))):
        epoch = begun(ledger, name)
        ledger.send(name, Signal("s1", "go", "1"))
        done = ExecutionRecord(name, "ci", WorkflowState.COMPLETED)
        done.finished_at = done.started_at
        ledger.apply([step(name, "a", 0, epoch), Save.of(done, epoch), Release(name, epoch)])
        remove()
        ledger.drain()
        assert store.get(name) is None
        assert create(ledger, record(name), "me") == 1
        assert (ledger.read(name).steps, ledger.signals(name)) == ([], [])
        store.remove(name)
        ledger.drain()


def test_an_execution_that_rust_wrote_has_no_lease(store: Store, ledger: Ledger) -> None:
    store.save(record("rust"))
    ledger.drain()
    assert ledger.read("rust").epoch is None
    assert ledger.interrupted(gone) == []


def test_of_two_epochs_in_one_batch_the_older_is_refused(ledger: Ledger) -> None:
    old = begun(ledger)
    new = take_over(ledger, "e1", "you", gone).epoch
    with pytest.raises(LeaseLost):
        ledger.apply([step("e1", "a", 0, old), step("e1", "b", 1, new)])
    assert ledger.read("e1").steps == []


def test_a_removal_through_a_sink_forgets_everything(backend: Store) -> None:
    ledger = backend.ledger
    ledger.apply([step("e1", "a", 0, begun(ledger))])
    ledger.send("e1", Signal("s1", "go", "1"))
    with backend.engine_sink() as sink:
        sink.remove("e1")
    assert begun(ledger) == 1
    assert (ledger.read("e1").steps, ledger.signals("e1")) == ([], [])


def test_an_execution_may_begin_with_steps_that_have_settled(ledger: Ledger) -> None:
    steps = [("a", 0, "1"), ("b", 1, "2")]
    assert create(ledger, record(), "me", steps=steps) == 1
    assert ledger.read("e1").steps == steps
    assert create(ledger, record(), "me", steps=[("c", 2, "3")]) is None
    assert ledger.read("e1").steps == steps


def test_one_of_an_id_that_another_program_has_removed_begins_from_nothing(path: Path, postgres_url: str) -> None:
    """szal-rs knows nothing of the tables beside its own."""
    gone = "DELETE FROM szal_executions"
    for url in (f"sqlite:///{path}", postgres_url):
        with open_store(url) as store:
            epoch = begun(store.ledger)
            store.ledger.send("e1", Signal("s1", "go", "1"))
            store.ledger.apply([step("e1", "a", 0, epoch)])
            with closing(sqlite3.connect(path) if url.startswith("sqlite") else psycopg.connect(url)) as other:
                other.execute(gone)
                other.commit()
            assert begun(store.ledger) == 1
            assert (store.ledger.read("e1").steps, store.ledger.signals("e1")) == ([], [])


# -- what belongs to another execution ----------------------------------------------------------------


def test_who_has_lost_the_parent_begins_nothing_and_takes_nothing_over_for_it(store: Store, ledger: Ledger) -> None:
    old = begun(ledger, "parent")
    begun(ledger, "begun", ttl=-1.0)
    new = take_over(ledger, "parent", "other", gone).epoch
    with pytest.raises(LeaseLost, match="parent"):
        create(ledger, record("child"), "me", under=Lease("parent", old))
    with pytest.raises(LeaseLost, match="parent"):
        take_over(ledger, "begun", "me", gone, under=Lease("parent", old))
    assert store.get("child") is None
    assert take_over(ledger, "begun", "other", alive, under=Lease("parent", new)).epoch == 2
    assert create(ledger, record("child"), "other", under=Lease("parent", new)) == 1


def test_who_has_the_parent_has_the_child_whoever_had_that(ledger: Ledger) -> None:
    parent = begun(ledger, "parent")
    begun(ledger, "child", owner="who had the parent")
    with pytest.raises(ExecutionOwned):
        take_over(ledger, "child", "me", alive)
    assert take_over(ledger, "child", "me", alive, under=Lease("parent", parent)).epoch == 2


def test_a_paused_execution_whose_owner_died_before_it_let_go_is_interrupted(ledger: Ledger) -> None:
    ledger.apply([Save.of(record(state=WorkflowState.PAUSED), begun(ledger))])
    assert ledger.interrupted(alive) == []
    assert ledger.interrupted(gone) == ["e1"]
