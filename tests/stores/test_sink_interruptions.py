"""The sink when a signal handler raises in the middle of it, at every moment; and where there is no room or memory."""

import random
import sys
import threading
from collections.abc import Callable

import pytest
from stores.interruptions import interrupted, interruptions
from stores.samples import ForeignBackend, record, run_python

from szal.errors import FlushTimeout, StoreClosed, StoreFailed, WriteFailed
from szal.stores import InMemoryExecutionStore, Sink

ALIVE = 20.0
"""Seconds after which what has not been written never will be."""


class SoftTimeLimit(Exception):
    """What a signal handler of somebody else raises."""


def backend() -> ForeignBackend:
    """One whose threads are counted by nobody else."""
    foreign = ForeignBackend()
    foreign.name = "interrupted"
    return foreign


def names(*numbers: int) -> list[str]:
    return [f"e{number:05}" for number in numbers]


def writers() -> list[threading.Thread]:
    """The threads of sinks; in threading's own list stays for ever what was interrupted as it began."""
    return [each for each in threading.enumerate() if each.name == "szal-writer-interrupted" and each.is_alive()]


def check(sink: Sink, foreign: ForeignBackend, *saved: int, perhaps: int) -> None:
    """The sink works, for every thread; *saved* are written, and *perhaps* is, or is not, but not by halves."""
    visible, counted = sink.get(f"e{perhaps:05}") is not None, sink.stats().pending
    problems: list[BaseException] = []

    def others() -> None:
        try:
            sink.save(record(90))
            sink.flush(ALIVE)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=others, daemon=True)
    thread.start()
    thread.join(2 * ALIVE)
    assert not thread.is_alive()
    assert problems == []
    sink.save(record(91))
    sink.flush(ALIVE)
    stats = sink.stats()
    expected = [*saved, perhaps, 90, 91] if visible else [*saved, 90, 91]
    assert sorted(foreign.store.list()) == names(*expected)
    assert (stats.pending, stats.written) == (0, len(expected))
    assert counted <= len(saved) + visible
    assert sink._writer.all_latest() == []
    sink.close(ALIVE)
    for each in writers():
        each.join(ALIVE)
    assert writers() == []


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit])
def test_an_exception_at_any_moment_of_save_leaves_all_or_nothing_of_it(warm: bool, error: type[BaseException]) -> None:
    for interruption in interruptions(error):
        foreign = backend()
        sink = Sink(foreign)
        saved = [1] if warm else []
        if warm:
            sink.save(record(1))
            sink.flush()
        interrupted(interruption, sink.save, record(2))
        check(sink, foreign, *saved, perhaps=2)


def test_and_of_a_save_that_waits_for_room() -> None:
    for interruption in interruptions():
        foreign = backend()
        foreign.open.clear()
        sink = Sink(foreign, max_pending=1, block_timeout=0.001)
        sink.save(record(1))
        interrupted(interruption, sink.save, record(2))
        foreign.open.set()
        sink.flush(ALIVE)
        check(sink, foreign, 1, perhaps=2)


READS: dict[str, Callable[[Sink], object]] = {
    "get": lambda sink: sink.get("e00002"),
    "list": lambda sink: sink.list(),
    "count": lambda sink: sink.count(),
    "flush": lambda sink: sink.flush(),
    "stats": lambda sink: sink.stats(),
    "drain": lambda sink: sink.drain(),
}


@pytest.mark.parametrize("read", READS)
def test_an_interruption_of_who_reads_or_waits_changes_nothing(read: str) -> None:
    for interruption in interruptions():
        foreign = backend()
        sink = Sink(foreign)
        foreign.open.clear()
        sink.save(record(1))
        sink.save(record(2))
        opened = threading.Timer(0.002, foreign.open.set)
        opened.start()
        interrupted(interruption, READS[read], sink)
        opened.join()
        check(sink, foreign, 1, perhaps=2)


def test_an_interrupted_close_is_a_close_that_goes_on() -> None:
    for interruption in interruptions():
        foreign = backend()
        sink = Sink(foreign)
        foreign.open.clear()
        sink.save(record(1))
        opened = threading.Timer(0.002, foreign.open.set)
        opened.start()
        interrupted(interruption, sink.close)
        opened.join()
        sink.close(ALIVE)
        assert foreign.store.list() == names(1)
        with pytest.raises(StoreClosed):
            sink.save(record(2))


def test_a_loss_is_told_though_the_first_flush_was_interrupted() -> None:
    def refuse(batch: list[str]) -> None:
        raise StoreFailed("foreign", "no")

    for interruption in interruptions():
        foreign = backend()
        foreign.refuse = refuse
        sink = Sink(foreign)
        sink.save(record(1))
        sink.drain()
        raised = interrupted(interruption, sink.flush)
        if isinstance(raised, WriteFailed) or isinstance(raised and raised.__context__, WriteFailed):
            sink.flush()
        else:
            with pytest.raises(WriteFailed, match="e00001"):
                sink.flush()
        sink.close()


def test_a_gate_that_nobody_waits_at_is_not_kept() -> None:
    foreign = backend()
    foreign.open.clear()
    sink = Sink(foreign)
    sink.save(record(1))
    for _ in range(10):
        with pytest.raises(FlushTimeout):
            sink.flush(0)
    assert sink._writer._gates._shut == {}
    foreign.open.set()
    sink.close()


# -- no room on the stack, no memory ----------------------------------------------------------------


def test_a_save_at_the_end_of_the_stack_leaves_all_or_nothing() -> None:
    def deep(levels: int, sink: Sink) -> None:
        if levels:
            deep(levels - 1, sink)
        else:
            sink.save(record(2))

    fits = 0
    limit = sys.getrecursionlimit()
    for levels in range(limit - 250, limit):
        foreign = backend()
        sink = Sink(foreign)
        try:
            deep(levels, sink)
            fits += 1
        except RecursionError:
            pass
        check(sink, foreign, perhaps=2)
    assert 0 < fits < 250


MEMORY = """
    import _testcapi
    from stores.samples import ForeignBackend, record
    from szal.stores import Sink
    from szal.stores.writes import Save
    failed = 0
    save = Save.of(record(2))
    for allocation in range(1, 100):
        foreign = ForeignBackend()
        sink = Sink(foreign)
        sink.save(record(1))  # so that the thread is there: one that begins without memory is never heard of again
        sink.flush()
        submit = sink.ledger.write
        try:
            _testcapi.set_nomemory(allocation, allocation + 1)
            submit(save)
            _testcapi.remove_mem_hooks()
        except MemoryError:
            _testcapi.remove_mem_hooks()
            failed += 1
        visible = sink.get("e00002") is not None
        sink.save(record(3))
        sink.flush(5)
        assert foreign.store.list() == ["e00001"] + ["e00002"] * visible + ["e00003"], allocation
        assert sink.stats().pending == 0
        sink.close(5)
    print(failed)
"""


def test_a_save_without_memory_leaves_all_or_nothing() -> None:
    pytest.importorskip("_testcapi")
    done = run_python(MEMORY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


# -- where there can be no thread -------------------------------------------------------------------


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_where_there_can_be_no_thread_who_saves_writes(no_threads: None) -> None:
    foreign = backend()
    sink = Sink(foreign)
    for number in (1, 2):
        sink.save(record(number))
        assert len(foreign.store.list()) == number
    sink.flush()
    sink.close()
    assert sink.stats().written == 2


def test_and_who_is_interrupted_there_leaves_it_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "writer" in thread.name and not there_are_threads:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for moment, interruption in enumerate(interruptions()):
        there_are_threads = False
        store = InMemoryExecutionStore()
        sink = Sink(store)
        interrupted(interruption, sink.save, record(2))
        visible = sink.get("e00002") is not None
        there_are_threads = bool(moment % 2)
        sink.save(record(3))
        sink.flush(ALIVE)
        assert store.list() == names(2, 3)[not visible :], interruption.where
        assert sink.stats().pending == 0
        sink.close(ALIVE)


# -- real signals -----------------------------------------------------------------------------------

SIGNALS = """
    import faulthandler, random, signal, sys, threading, time
    faulthandler.dump_traceback_later(45, exit=True)  # where it hangs, it says where
    from stores.samples import record
    from szal.stores import open_store
    chance = random.Random(int(sys.argv[2]))
    came = 0
    end = time.monotonic() + 1.5

    def hammer():  # a function: what comes up at the end of a loop, Python 3.13 raises outside of the `try` around it
        global acknowledged, begun
        for number in range(10**9):
            execution.labels = {"number": str(number)}
            begun = number
            sink.save(execution)
            acknowledged = number
            if number % 7 == 0:
                sink.flush()
            if number % 11 == 0:
                sink.get(execution.execution_id), sink.list()
            if number % 13 == 0:
                store.get("e00000"), store.save(record(0)), store.remove("e00000")

    with open_store(sys.argv[1]) as store:
        rounds = 0
        while rounds <= 50 or time.monotonic() < end:  # also where the machine is slow
            rounds += 1
            sink = store.engine_sink()
            execution = record(rounds)
            acknowledged = begun = -1
            try:
                try:
                    # Once more a second later: what comes up in a weak reference's callback, the interpreter ignores.
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + chance.random() * 0.003, 1.0)
                    hammer()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                came += 1
            found = sink.get(execution.execution_id)
            seen = -1 if found is None else int(found.labels["number"])
            assert acknowledged <= seen <= begun
            others = threading.Thread(target=lambda: sink.flush(10), daemon=True)
            others.start()
            others.join(30)
            assert not others.is_alive()
            sink.flush(10)
            assert store.get(execution.execution_id) == found
            assert sink.stats().pending == 0
            sink.close(10)
    print(came, rounds)
"""


def test_signals_at_random_moments_leave_sink_and_store_usable(backend_url: str) -> None:
    code = "import signal\n    signal.signal(signal.SIGALRM, signal.default_int_handler)\n" + SIGNALS
    done = run_python(f"    {code}", backend_url, random.randrange(10**6))
    assert done.returncode == 0, done.stderr
    came, rounds = map(int, done.stdout.split())
    assert came == rounds > 50
