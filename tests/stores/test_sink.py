"""The sink: order, visibility, batches, losses, limits, and its end; over a store that somebody else wrote."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from stores.samples import NOON, ForeignBackend, record

from szal.errors import (
    EncodeError,
    FlushTimeout,
    SinkFull,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreUnavailable,
    WriteFailed,
)
from szal.model.state import WorkflowState
from szal.stores import InMemoryExecutionStore, Sink, Store
from szal.stores.writes import SaveStep, Write

RUNNING = WorkflowState.RUNNING


@pytest.fixture
def foreign() -> ForeignBackend:
    return ForeignBackend()


@pytest.fixture
def sink(foreign: ForeignBackend) -> Iterator[Sink]:
    sink = Sink(foreign)
    yield sink
    foreign.open.set()
    sink._writer.close(10)


@pytest.fixture
def held(foreign: ForeignBackend, sink: Sink) -> Sink:
    """A sink whose writer is in the middle of a transaction (of e00000), and stays there until `open` is set."""
    foreign.open.clear()
    sink.save(record(0))
    assert foreign.waiting.wait(30)
    return sink


def refuse(*words: str) -> "callable":  # type: ignore[valid-type]
    def check(batch: list[str]) -> None:
        if bad := [entry for entry in batch for word in words if entry.endswith(word)]:
            raise StoreFailed("foreign", f"does not like {bad[0]}")

    return check


# -- order and batches ------------------------------------------------------------------------------


def test_what_is_queued_goes_into_one_transaction_in_order(foreign: ForeignBackend, held: Sink) -> None:
    for number in (3, 1, 2):
        held.save(record(number))
    held.remove("e00001")
    foreign.open.set()
    held.flush()
    assert foreign.batches[1:] == [["completed e00003", "completed e00001", "completed e00002", "remove e00001"]]


def test_batches_hold_at_most_1000(foreign: ForeignBackend, held: Sink) -> None:
    for number in range(1, 2501):
        held.save(record(number))
    foreign.open.set()
    held.flush()
    assert [len(batch) for batch in foreign.batches] == [1, 1000, 1000, 500]
    assert held.stats().batches == 4


def test_saves_of_one_record_are_merged_by_the_stores(backend: Store) -> None:
    with backend.engine_sink() as sink:
        for state in (RUNNING, WorkflowState.PAUSED, RUNNING, WorkflowState.COMPLETED):
            sink.save(record(1, state=state))
        sink.flush()
        assert sink.stats().written == 4
        assert backend.get("e00001") == record(1)


def test_a_running_save_never_overwrites_a_later_completed(backend: Store) -> None:
    with backend.engine_sink() as sink:
        for number in range(3000):
            sink.save(record(number % 50, state=RUNNING))
            sink.save(record(number % 50))
        sink.flush()
        assert backend.count(states=WorkflowState.COMPLETED) == backend.count() == 50


def test_the_thread_is_a_daemon_with_a_name_and_starts_at_the_first_save(foreign: ForeignBackend, sink: Sink) -> None:
    others = set(threading.enumerate())

    def writers() -> list[threading.Thread]:
        found = {*threading.enumerate()} - others
        return [thread for thread in found if thread.name == "szal-writer-foreign"]

    sink.list()
    sink.flush()
    assert writers() == []
    sink.save(record(1))
    (thread,) = writers()
    assert thread.daemon


# -- visibility -------------------------------------------------------------------------------------


def test_what_is_pending_is_visible(foreign: ForeignBackend, sink: Sink) -> None:
    foreign.store.save(record(7, flow="cd"))
    foreign.store.save(record(8))
    foreign.open.clear()
    sink.save(record(2))
    sink.save(record(1, state=RUNNING))
    sink.remove("e00008")
    sink.save(record(7, flow="moved"))
    assert sink.get("e00001") == record(1, state=RUNNING)
    assert sink.get("e00008") is None
    assert sink.list() == ["e00007", "e00002", "e00001"]
    assert sink.list("cd") == []
    assert sink.list("moved") == ["e00007"]
    assert sink.list("ci") == ["e00002", "e00001"]
    assert sink.remove("e00001") == record(1, state=RUNNING)
    assert sink.remove("e00001") is None
    assert foreign.store.list() == ["e00007", "e00008"]


def test_find_count_and_prune_wait_for_what_is_pending(backend: Store) -> None:
    with backend.engine_sink() as sink:
        for number in range(100):
            sink.save(record(number))
        assert sink.count() == 100
        sink.save(record(100))
        assert sink.find(limit=1)[0].execution_id == "e00100"
        sink.save(record(101))
        assert sink.prune(keep=2) == 100
        assert sink.list() == ["e00100", "e00101"]


def test_find_does_not_wait_for_ever(foreign: ForeignBackend) -> None:
    sink = Sink(foreign, block_timeout=0.02)
    foreign.open.clear()
    sink.save(record(1))
    with pytest.raises(FlushTimeout, match="e00001"):
        sink.find()
    foreign.open.set()
    sink.close()


def test_nothing_that_is_committed_is_held(backend: Store) -> None:
    with backend.engine_sink() as sink:
        for number in range(500):
            sink.save(record(number, state=RUNNING))
        sink.flush()
        assert sink._writer.all_latest() == []
        assert sink.get("e00007") == record(7, state=RUNNING)


def test_what_else_is_pending_of_an_execution_hides_no_save_of_it(held: Sink) -> None:
    held.save(record(1))
    held.ledger.write(SaveStep("e00001", "build", 0, "{}"))
    assert "e00001" in held.list()
    with pytest.raises(FlushTimeout, match="e00001"):
        held.flush(timeout=0)


def test_what_cannot_be_encoded_fails_in_the_caller_and_leaves_the_rest(sink: Sink) -> None:
    with pytest.raises(EncodeError, match="labels"):
        sink.save(record(1, labels={"when": NOON}))
    sink.save(record(2))
    sink.flush()
    assert sink.list() == ["e00002"]
    assert sink.stats().failed == 0


# -- transient trouble ------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_in_order(
    foreign: ForeignBackend, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(batch: list[str]) -> None:
        if foreign.calls < 6:
            raise StoreUnavailable("foreign", "database is locked")

    foreign.refuse = locked
    for number in range(10):
        sink.save(record(number))
    sink.flush(20)
    assert [entry for batch in foreign.batches for entry in batch] == [f"completed e{n:05}" for n in range(10)]
    stats = sink.stats()
    assert (stats.pending, stats.written, stats.failed) == (0, 10, 0)
    assert isinstance(stats.last_error, StoreUnavailable)
    assert "database is locked" in caplog.text


def test_give_up_after_ends_it(foreign: ForeignBackend) -> None:
    lost: list[str] = []
    down = True

    def away(batch: list[str]) -> None:
        if down:
            raise StoreUnavailable("foreign", "gone")

    foreign.refuse = away
    sink = Sink(foreign, give_up_after=0.05, on_error=lambda write, error: lost.append(write.execution_id))
    sink.save(record(1))
    with pytest.raises(WriteFailed, match="could not write e00001") as caught:
        sink.flush(10)
    assert isinstance(caught.value.errors[0], StoreUnavailable)
    assert lost == ["e00001"]
    down = False
    sink.save(record(2))
    sink.close()
    assert foreign.store.list() == ["e00002"]


# -- losses -----------------------------------------------------------------------------------------


def test_what_ends_the_block_of_a_sink_is_raised_and_tells_of_what_was_lost(foreign: ForeignBackend) -> None:
    def save_and_fail() -> None:
        with Sink(foreign) as sink:
            sink.save(record(1))
            raise KeyError("the program's own")

    foreign.refuse = refuse("e00001")
    with pytest.raises(KeyError, match="the program's own") as caught:
        save_and_fail()
    [note] = caught.value.__notes__
    assert note.startswith("WriteFailed, as the block was left: foreign: could not write e00001")


def test_a_poisoned_record_takes_no_other_down(
    foreign: ForeignBackend, held: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    foreign.refuse = refuse("e00002", "e00004")
    for number in range(1, 6):
        held.save(record(number))
    foreign.open.set()
    with pytest.raises(WriteFailed) as caught:
        held.flush()
    assert caught.value.execution_ids == ("e00002", "e00004")
    assert str(caught.value).startswith("foreign: could not write e00002, e00004 (StoreFailed: foreign: does not like")
    assert foreign.store.list() == ["e00000", "e00001", "e00003", "e00005"]
    stats = held.stats()
    assert (stats.pending, stats.written, stats.failed) == (0, 4, 2)
    assert "lost the record of execution e00002" in caplog.text
    assert held.get("e00002") is None
    held.flush()  # each loss is reported once


def test_the_poison_of_sqlite_itself_takes_no_other_down(sqlite: Store) -> None:
    import sqlite3

    writer = sqlite._database._writer  # type: ignore[attr-defined]
    writer.use(lambda db: db.conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000))
    with sqlite.engine_sink() as sink:
        for number in range(100):
            sink.save(record(number, inputs={"text": "x" * 200_000 if number == 50 else ""}))
        with pytest.raises(WriteFailed, match=r"e00050 \(StoreFailed: .*too big"):
            sink.flush()
        assert len(sink.list()) == 99


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SystemExit("x"), KeyboardInterrupt("x")])
def test_any_exception_of_a_backend_is_a_loss_not_an_end(
    foreign: ForeignBackend, held: Sink, error: BaseException
) -> None:
    def explode(batch: list[str]) -> None:
        if any(entry.endswith("e00002") for entry in batch):
            raise error

    foreign.refuse = explode
    for number in (1, 2):
        held.save(record(number))
    foreign.open.set()
    with pytest.raises(WriteFailed, match=f"e00002.*{type(error).__name__}"):
        held.flush(10)
    held.save(record(3))
    held.flush(10)
    assert "e00003" in foreign.store.list()
    assert held.stats().pending == 0


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), KeyboardInterrupt()])
def test_an_on_error_that_raises_ends_nothing(
    foreign: ForeignBackend, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(write: Write, problem: Exception) -> None:
        raise error

    foreign.refuse = refuse("e00001")
    sink = Sink(foreign, on_error=on_error)
    sink.save(record(1))
    sink.save(record(2))
    with pytest.raises(WriteFailed):
        sink.flush()
    assert sink.list() == ["e00002"]
    assert "on_error failed for execution e00001" in caplog.text
    sink.close()


def test_on_error_is_called_in_the_writer_before_flush_comes_back_and_may_save_again(foreign: ForeignBackend) -> None:
    seen: list[tuple[str, str]] = []

    def on_error(write: Write, problem: Exception) -> None:
        seen.append((write.execution_id, threading.current_thread().name))
        sink.save(record(9))
        with pytest.raises(StoreError, match="would wait for itself"):
            sink.flush()

    foreign.refuse = refuse("e00001")
    sink = Sink(foreign, on_error=on_error, max_pending=5)
    sink.save(record(1))
    with pytest.raises(WriteFailed):
        sink.flush()
    assert seen == [("e00001", "szal-writer-foreign")]
    sink.close()
    assert foreign.store.list() == ["e00009"]


def test_flush_of_one_execution_leaves_the_losses_of_others_to_others(foreign: ForeignBackend, sink: Sink) -> None:
    foreign.refuse = refuse("e00001", "e00002")
    sink.save(record(1))
    sink.save(record(2))
    sink.flush(execution_id="e00003")
    with pytest.raises(WriteFailed, match="write e00002"):
        sink.flush(execution_id="e00002")
    sink.flush(execution_id="e00002")
    with pytest.raises(WriteFailed, match="write e00001"):
        sink.flush()


def test_close_reports_what_no_flush_has(foreign: ForeignBackend, sink: Sink) -> None:
    foreign.refuse = refuse("e00001")
    sink.save(record(1))
    with pytest.raises(WriteFailed, match="e00001"):
        sink.close()
    sink.close()


# -- limits -----------------------------------------------------------------------------------------


def test_a_full_sink_makes_save_wait_then_says_so(foreign: ForeignBackend) -> None:
    sink = Sink(foreign, max_pending=3, block_timeout=0.05)
    foreign.open.clear()
    for number in range(3):
        sink.save(record(number))
    with pytest.raises(SinkFull, match=r"3 writes are pending, and none was committed within 0.05s"):
        sink.save(record(3))
    assert sink.get("e00003") is None
    assert sink.stats().pending == 3
    foreign.open.set()
    sink.flush(30)  # in which there is room again
    sink.save(record(4))
    sink.close()
    assert foreign.store.list() == ["e00000", "e00001", "e00002", "e00004"]


def test_a_waiting_save_goes_on_when_there_is_room(foreign: ForeignBackend) -> None:
    sink = Sink(foreign, max_pending=1)
    foreign.open.clear()
    sink.save(record(0))
    threads = [threading.Thread(target=sink.save, args=[record(number)]) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    assert sink.stats().pending == 1
    foreign.open.set()
    for thread in threads:
        thread.join(30)
    sink.close()
    assert sorted(foreign.store.list()) == [f"e{number:05}" for number in range(5)]
    assert max(len(batch) for batch in foreign.batches) == 1


def test_a_save_that_waits_learns_of_close(foreign: ForeignBackend) -> None:
    sink = Sink(foreign, max_pending=1)
    foreign.open.clear()
    sink.save(record(0))
    raised: SimpleQueue[BaseException] = SimpleQueue()

    def late() -> None:
        try:
            sink.save(record(1))
        except StoreClosed as error:
            raised.put(error)

    thread = threading.Thread(target=late)
    thread.start()
    with pytest.raises(FlushTimeout):
        sink.close(timeout=0.02)
    assert str(raised.get(timeout=20)) == "the sink of foreign is closed"
    thread.join()
    foreign.open.set()
    sink.close()
    assert foreign.store.list() == ["e00000"]


def test_nonsense_is_refused(foreign: ForeignBackend) -> None:
    with pytest.raises(ValueError, match="max_pending"):
        Sink(foreign, max_pending=0)


# -- flush and close --------------------------------------------------------------------------------


def test_flush_names_what_is_pending_when_time_is_up(foreign: ForeignBackend, held: Sink) -> None:
    held.save(record(1))
    with pytest.raises(FlushTimeout, match=r"not written after 0.01s: e00000, e00001") as caught:
        held.flush(0.01)
    assert caught.value.execution_ids == ("e00000", "e00001")
    foreign.open.set()
    held.flush()
    assert foreign.store.list() == ["e00000", "e00001"]


def test_flush_waits_only_for_what_was_before(foreign: ForeignBackend, held: Sink) -> None:
    flushed = threading.Event()
    thread = threading.Thread(target=lambda: (held.flush(), flushed.set()))
    thread.start()

    def next_is_stuck(batch: list[str]) -> None:
        foreign.open.clear()

    foreign.refuse = next_is_stuck
    foreign.open.set()
    assert flushed.wait(30)
    held.save(record(1))
    thread.join()


def test_what_is_written_of_one_execution_is_waited_for_whatever_is_queued_of_others(
    foreign: ForeignBackend, held: Sink
) -> None:
    held.save(record(1))
    held.ledger.drain(of="e00007", timeout=0.0)  # of which there is nothing
    with pytest.raises(FlushTimeout):
        held.ledger.drain(of="e00001", timeout=0.0)
    foreign.open.set()
    held.ledger.drain(of="e00001", timeout=20)
    assert foreign.store.get("e00001") is not None


def test_close_drains_once_and_ends_the_thread(foreign: ForeignBackend, sink: Sink) -> None:
    others = set(threading.enumerate())
    for number in range(100):
        sink.save(record(number))
    sink.close()
    assert sink.stats().written == len(foreign.store.list()) == 100
    left = {*threading.enumerate()} - others
    assert not [thread for thread in left if thread.name == "szal-writer-foreign"]
    sink.close()
    for use in (sink.save, lambda record: sink.remove(record.execution_id)):
        with pytest.raises(StoreClosed, match="the sink of foreign is closed"):
            use(record(1))
    assert sink.get("e00001") == record(1)
    assert len(sink.list()) == sink.count() == 100
    sink.flush()


def test_a_sink_that_was_never_used_closes_too(sink: Sink) -> None:
    sink.flush()
    sink.close()


def test_a_dropped_sink_still_writes_all_and_then_ends(foreign: ForeignBackend) -> None:
    sink = Sink(foreign)
    foreign.open.clear()
    for number in range(50):
        sink.save(record(number))
    gone, thread = weakref.ref(sink), sink._writer._thread
    assert thread is not None
    del sink
    gc.collect()
    assert gone() is None
    foreign.open.set()
    thread.join(30)
    assert not thread.is_alive()
    assert len(foreign.store.list()) == 50


def test_its_repr_says_what_it_is(sink: Sink) -> None:
    assert repr(sink) == "<Sink of foreign, 0 pending>"


# -- bounded ----------------------------------------------------------------------------------------


def test_tens_of_thousands_of_executions_leave_nothing_in_memory(sqlite: Store) -> None:
    import psutil

    process = psutil.Process()
    measured = []
    with sqlite.engine_sink(max_pending=2000) as sink:
        done = record(1)
        for number in range(30_000):
            done.execution_id = f"e{number}"
            sink.save(done)
            if number % 6000 == 5999:
                measured.append(process.memory_info().rss)
                assert sink.stats().pending <= 2000
        sink.flush()
        assert sink._writer.all_latest() == []
        assert sink.stats().written == 30_000
    assert measured[-1] - measured[1] < 6_000_000


def test_the_store_of_a_sink_stays_open() -> None:
    store = InMemoryExecutionStore()
    with store.engine_sink() as sink:
        sink.save(record(1))
    assert store.list() == ["e00001"]


def test_a_closed_store_loses_what_is_pending_and_says_so(sqlite: Store, caplog: pytest.LogCaptureFixture) -> None:
    sink = sqlite.engine_sink()
    sqlite.close()
    sink.save(record(1))
    with caplog.at_level(logging.ERROR), pytest.raises(WriteFailed, match=r"e00001 \(StoreClosed"):
        sink.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("give_up_after", float("nan")),
        ("give_up_after", -1),
        ("block_timeout", -1),
        ("exit_timeout", -0.5),
        ("max_pending", 0),
        ("max_pending", 1.5),
    ],
)
def test_numbers_that_mean_nothing_are_refused(name, value):
    with InMemoryExecutionStore() as store, pytest.raises(ValueError, match=name):
        store.engine_sink(**{name: value})
    with InMemoryExecutionStore() as store, pytest.raises(TypeError, match=f"{name} is not a number"):
        store.engine_sink(**{name: "1"})
