"""The sink when a signal handler raises in the middle of it, at every moment; and where there is no room or memory."""

import threading
from collections.abc import Callable

import pytest
from stores.interruptions import interrupted, interruptions
from stores.samples import ForeignBackend, record

from szal.errors import SinkFull
from szal.stores import Sink

ALIVE = 5.0
"""Seconds after which what has not been written never will be."""


class SoftTimeLimit(Exception):
    """What a signal handler of somebody else raises."""


def names(*numbers: int) -> list[str]:
    return [f"e{number:05}" for number in numbers]


def writers() -> list[threading.Thread]:
    """The threads of sinks; in threading's own list stays for ever what was interrupted as it began."""
    return [each for each in threading.enumerate() if "szal-writer" in each.name and each.is_alive()]


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
    assert writers() == []


@pytest.mark.filterwarnings("ignore:.*thread started by:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit])
def test_an_exception_at_any_moment_of_save_leaves_all_or_nothing_of_it(warm: bool, error: type[BaseException]) -> None:
    for interruption in interruptions(error):
        foreign = ForeignBackend()
        sink = Sink(foreign)
        saved = [1] if warm else []
        if warm:
            sink.save(record(1))
            sink.flush()
        raised = interrupted(interruption, sink.save, record(2))
        assert raised is None or type(raised) is error, interruption.where
        check(sink, foreign, *saved, perhaps=2)


def test_and_of_a_save_that_waits_for_room() -> None:
    for interruption in interruptions():
        foreign = ForeignBackend()
        foreign.open.clear()
        sink = Sink(foreign, max_pending=1, block_timeout=0.001)
        sink.save(record(1))
        raised = interrupted(interruption, sink.save, record(2))
        assert type(raised) in (KeyboardInterrupt, SinkFull), interruption.where
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
        foreign = ForeignBackend()
        sink = Sink(foreign)
        foreign.open.clear()
        sink.save(record(1))
        sink.save(record(2))
        opened = threading.Timer(0.002, foreign.open.set)
        opened.start()
        raised = interrupted(interruption, READS[read], sink)
        assert type(raised) in (KeyboardInterrupt, type(None)), interruption.where
        opened.join()
        check(sink, foreign, 1, perhaps=2)
