"""What a sink and its thread keep alive: nothing of what is done. Reference counts alone see to it."""

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from processes import wait_until
from stores.samples import ForeignBackend, record

from szal.errors import StoreFailed, StoreUnavailable, WriteFailed
from szal.stores import Sink, Store, open_store
from szal.stores.writes import Save


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Run:
    """What an engine has much of, and hands to a sink as what is to be told: itself, its results, and the sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.told: list[Exception | None] = []

    def done(self, error: Exception | None) -> None:
        self.told.append(error)


def submit(sink: Sink, *, epoch: int | None = None) -> "weakref.ref[Run]":
    """Submit two operations that tell a run, drain the sink, and drop the run."""
    run = Run(sink)
    for number in (1, 2):
        save = Save.of(record(number), epoch)
        save.done = run.done
        sink.ledger.write(save)
    sink.drain(10)
    wait_until(lambda: len(run.told) == 2)
    return weakref.ref(run)


def is_gone(reference: "weakref.ref[object]") -> bool:
    wait_until(lambda: reference() is None)
    return True


def writers(place: Path) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"szal-writer-{place}")]


def files(place: Path) -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one of iterdir itself
            found.append(str(each.readlink()))
    return [name for name in found if name.startswith(str(place))]


@pytest.fixture(params=["written", "lost", "tried again", "given up", "lost by a foreign exception"])
def end(request: pytest.FixtureRequest) -> str:
    """How the last batch has ended."""
    end: str = request.param
    return end


def foreign_of(end: str) -> ForeignBackend:
    foreign = ForeignBackend()
    calls = count()

    def refuse(batch: list[str]) -> None:
        if end == "lost":
            raise StoreFailed("foreign", "no") from ZeroDivisionError("the driver's")
        if end == "given up" or (end == "tried again" and next(calls) < 3):
            raise StoreUnavailable("foreign", "away")
        if end == "lost by a foreign exception":
            raise SystemExit

    foreign.refuse = refuse
    return foreign


def test_an_idle_thread_keeps_nothing_of_its_last_batch(end: str) -> None:
    sink = Sink(foreign_of(end), give_up_after=0.01 if end == "given up" else None)
    assert is_gone(submit(sink))
    error = sink.stats().last_error
    assert (error is None) == (end == "written")
    while error is not None:
        assert error.__traceback__ is None
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def test_also_over_a_store_that_refuses_it(backend: Store) -> None:
    sink = backend.engine_sink()
    assert is_gone(submit(sink, epoch=7))
    assert sink.stats().failed == 2


def test_a_dropped_sink_ends_its_thread_and_lets_go_of_its_store(end: str) -> None:
    foreign = foreign_of(end)
    sink = Sink(foreign, give_up_after=0.01 if end == "given up" else None)
    submit(sink)
    thread = sink._writer._thread
    assert thread is not None
    references: list[weakref.ref[object]] = [weakref.ref(each) for each in (sink, sink._writer, foreign)]
    del sink, foreign
    thread.join(30)
    assert not thread.is_alive()
    assert all(map(is_gone, references))


def test_a_closed_sink_too(end: str) -> None:
    foreign = foreign_of(end)
    sink = Sink(foreign, give_up_after=0.01 if end == "given up" else None)
    submit(sink)
    with suppress(WriteFailed):
        sink.close()
    references: list[weakref.ref[object]] = [weakref.ref(each) for each in (sink, sink._writer, foreign)]
    del sink, foreign
    assert all(map(is_gone, references))


def test_thirty_dropped_engines_leave_no_thread_and_no_open_file(tmp_path: Path) -> None:
    def use(number: int) -> None:
        sink = open_store(f"sqlite:///{tmp_path}/szal{number}.db").engine_sink()
        submit(sink)
        sink.list()

    for number in range(30):
        use(number)
    assert not gc.isenabled()
    wait_until(lambda: not writers(tmp_path))
    wait_until(lambda: not files(tmp_path))


def test_a_dropped_postgres_store_leaves_no_session(server: object, schema: str, postgres_url: str) -> None:
    threads = threading.active_count()
    store = open_store(postgres_url)
    store.save(record(1))
    reference = weakref.ref(store)
    del store
    assert is_gone(reference)
    wait_until(lambda: threading.active_count() <= threads)
