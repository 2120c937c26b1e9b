"""The sink over SQLite while the file is locked, read-only, or out of space: real faults, which pass."""

import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores.samples import Process, python, record, run_python

from szal.errors import StoreUnavailable
from szal.model.state import WorkflowState
from szal.stores import Sink, SqliteExecutionStore

EVERY = 200


def save_through(sink: Sink, trouble: Callable[[], None], cure: Callable[[], None]) -> None:
    """Save records before, during and after *trouble*, which ends only when the writer has met it."""
    for number in range(EVERY):
        sink.save(record(number, state=WorkflowState.RUNNING))
    sink.flush(10)
    trouble()
    for number in range(EVERY, 2 * EVERY):
        sink.save(record(number, state=WorkflowState.RUNNING))
        sink.save(record(number))
    met = threading.Event()
    while not isinstance(sink.stats().last_error, StoreUnavailable):
        met.wait(0.005)
    assert sink.get("e00399") == record(399)
    assert len(sink.list()) == 2 * EVERY
    cure()
    for number in range(EVERY):
        sink.save(record(number))
    sink.flush(20)


def check(store: SqliteExecutionStore, sink: Sink) -> None:
    stats = sink.stats()
    assert (stats.pending, stats.failed, stats.written) == (0, 0, 4 * EVERY)
    assert store.count(states=WorkflowState.COMPLETED) == store.count() == 2 * EVERY


@pytest.fixture
def impatient(path: Path, sqlite: SqliteExecutionStore) -> Iterator[SqliteExecutionStore]:
    with SqliteExecutionStore.connect(path, busy_timeout=0.05) as store:
        yield store


def test_another_process_holds_the_write_lock(path: Path, impatient: SqliteExecutionStore) -> None:
    code = """
        import sqlite3, sys
        other = sqlite3.connect(sys.argv[1], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
        other.execute("COMMIT")
    """
    holders: list[Process] = []

    def lock() -> None:
        holders.append(python(code, path))
        assert holders[0].stdout is not None
        assert holders[0].stdout.readline() == "locked\n"

    with impatient.engine_sink() as sink:
        save_through(sink, lock, lambda: holders[0].communicate("go on\n") and None)
        check(impatient, sink)


def attribute(flag: str, path: Path) -> None:
    """Set or clear the immutable flag, which stops root as well.

    Not on the -shm file: it is mapped, and a write to a mapped page of an immutable file ends the process.
    """
    for file in (path, Path(f"{path}-wal")):
        if file.exists():
            subprocess.run(["chattr", flag, str(file)], check=True, capture_output=True)


def test_the_file_becomes_read_only_and_then_writable_again(
    path: Path, sqlite: SqliteExecutionStore, request: pytest.FixtureRequest
) -> None:
    try:
        attribute("+i", path)
        attribute("-i", path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot make a file immutable here: {error}")
    request.addfinalizer(lambda: attribute("-i", path))

    def freeze() -> None:
        with (
            sqlite._database._writer._lock
        ):  # so that the connection opens anew, as after a fork: it finds the file read-only
            sqlite._database._writer._discard()
        attribute("+i", path)

    with sqlite.engine_sink() as sink:
        save_through(sink, freeze, lambda: attribute("-i", path))
        check(sqlite, sink)


def test_the_disk_is_full_and_then_is_not(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.decode()}")
    request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
    ballast = disk / "ballast"

    def fill() -> None:
        with pytest.raises(OSError, match="No space"), ballast.open("wb", 0) as file:  # noqa: PT012
            while True:
                file.write(bytes(4096))

    with SqliteExecutionStore.connect(disk / "szal.db") as store:
        store.migrate()
        with store.engine_sink() as sink:
            save_through(sink, fill, ballast.unlink)
            check(store, sink)


def test_a_limit_on_the_size_of_files_is_met_and_lifted(path: Path) -> None:
    code = """
        import resource, signal, sys
        from stores.samples import record
        from stores.test_sink_faults import check, save_through
        from szal.stores import open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with open_store("sqlite:///" + sys.argv[1]) as store, store.engine_sink() as sink:
            save_through(
                sink,
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1])),
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
            )
            check(store, sink)
    """
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr


def test_order_is_kept_for_every_execution_while_another_writer_competes(
    path: Path, impatient: SqliteExecutionStore
) -> None:
    stop = threading.Event()

    def compete() -> None:
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        while not stop.is_set():
            other.execute("BEGIN IMMEDIATE")
            stop.wait(0.07)
            other.execute("COMMIT")
            stop.wait(0.01)
        other.close()

    thread = threading.Thread(target=compete)
    thread.start()
    try:
        with impatient.engine_sink() as sink:
            for round_ in range(20):
                for state in (WorkflowState.RUNNING, WorkflowState.PAUSED, WorkflowState.RUNNING):
                    for number in range(20):
                        sink.save(record(number, state=state, labels={"round": str(round_)}))
            for number in range(20):
                sink.save(record(number))
            sink.flush(30)
            assert impatient.count(states=WorkflowState.COMPLETED) == impatient.count() == 20
    finally:
        stop.set()
        thread.join()
