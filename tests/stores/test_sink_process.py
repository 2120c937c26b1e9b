"""The sink when its process is killed, ends or forks: with real processes and real files."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stores.samples import python, run_python

from szal.stores import SqliteExecutionStore, open_store

SETUP = """
    import faulthandler, os, signal, sys, threading, time, warnings
    from szal.model.results import ExecutionRecord
    from szal.model.state import WorkflowState
    from szal.stores import open_store
    warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads: that is what is tested

    def save(sink, name, first, last):
        for number in range(first, last):
            sink.save(ExecutionRecord(f"{name}{number}", name, WorkflowState.COMPLETED))

    url = "sqlite:///" + sys.argv[1]
    store = open_store(url)
    sink = store.engine_sink()
"""


def stored(path: Path, name: str) -> set[str]:
    with open_store(f"sqlite:///{path}") as store:
        return {*store.list(name)}


def names(name: str, first: int, last: int) -> set[str]:
    return {f"{name}{number}" for number in range(first, last)}


# -- killed -----------------------------------------------------------------------------------------


KILLS = """
    import random, select, signal
    chance = random.Random(int(sys.argv[2]))
    for child in range(30):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            sink = open_store(f"{url}.{child}").engine_sink()
            for number in range(10**9):
                save(sink, "e", number, number + 1)
                if number % 40 == 39:
                    sink.flush()
                    os.write(write, b".")
        os.close(write)
        select.select([read], [], [], 10 * chance.randrange(2))  # half of them after the first flush
        time.sleep(chance.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        print(40 * len(os.read(read, 100_000)))
"""


def test_after_kill_9_the_database_holds_a_prefix_with_all_that_was_flushed(path: Path) -> None:
    done = run_python(SETUP + KILLS, path, random.randrange(10**6))
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) == 30
    assert any(acknowledged)
    for child, flushed in enumerate(acknowledged):
        found = stored(Path(f"{path}.{child}"), "e")
        assert found == names("e", 0, len(found))
        assert len(found) >= flushed


# -- the end of the interpreter ---------------------------------------------------------------------

ENDS = {
    "falls off the end": (0, "save(sink, 'e', 0, 1000)"),
    "raises": (1, "save(sink, 'e', 0, 1000)\n    raise RuntimeError('the main thread')"),
    "sys.exit": (7, "save(sink, 'e', 0, 1000)\n    sys.exit(7)"),
    "in another thread": (0, "threading.Thread(target=save, args=[sink, 'e', 0, 1000]).start()"),
    "exits in another thread": (
        0,
        "threading.Thread(target=lambda: (save(sink, 'e', 0, 1000), sys.exit(3))).start()",
    ),
    "store dropped": (0, "save(sink, 'e', 0, 1000)\n    del sink, store"),
    "main raised, another goes on": (
        1,
        "threading.Thread(target=lambda: (time.sleep(0.05), save(sink, 'e', 0, 1000))).start()\n    raise RuntimeError",
    ),
    "in an atexit handler": (0, "import atexit\n    atexit.register(save, sink, 'e', 0, 1000)"),
    "sink made in an atexit handler": (
        0,
        "import atexit\n    del sink\n    atexit.register(lambda: save(store.engine_sink(), 'e', 0, 1000))",
    ),
    "a daemon thread goes on saving": (
        0,
        """save(sink, 'e', 0, 1000)
    def forever():
        try:
            while True: save(sink, 'd', 0, 1)
        except Exception as error: assert str(error) == f"the sink of {sys.argv[1]} is closed"
    threading.Thread(target=forever, daemon=True).start()""",
    ),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_whatever_the_end_all_is_there(path: Path, end: str) -> None:
    status, code = ENDS[end]
    done = run_python(f"{SETUP}\n    {code}", path)
    assert done.returncode == status, done.stderr
    assert stored(path, "e") == names("e", 0, 1000)
    assert ("Traceback" in done.stderr) == (status == 1), done.stderr


@pytest.mark.parametrize(
    "logs",
    [
        "",
        "logging.basicConfig()",
        "logging.disable(logging.ERROR)",
        "sys.stderr = open(2, 'w', closefd=False); logging.basicConfig(stream=sys.__stderr__)",
        "logging.getLogger('szal').addHandler(logging.NullHandler())",
        "logging.basicConfig(level=logging.CRITICAL)",
        "from szal.cli.session import get_ready; get_ready()",
    ],
)
def test_what_cannot_be_written_at_exit_is_named_once(path: Path, logs: str) -> None:
    code = (
        SETUP
        + f"\n    import logging; {logs}"
        + """
    import sqlite3
    sink = store.engine_sink(exit_timeout=0.1)
    other = sqlite3.connect(sys.argv[1], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sys.other = other  # to the very end
    save(sink, "e", 0, 3)
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0
    assert "exiting after 0.1s" in done.stderr
    assert f"not written to {path}: e0, e1, e2" in done.stderr
    assert done.stderr.count("e0, e1, e2") == 1


def test_where_logging_goes_elsewhere_stderr_still_names_them(path: Path) -> None:
    code = (
        SETUP
        + """
    import sqlite3, logging
    logging.basicConfig(filename=sys.argv[1] + ".log")
    sink = store.engine_sink(exit_timeout=0.1)
    other = sqlite3.connect(sys.argv[1], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sys.other = other  # to the very end
    save(sink, "e", 0, 3)
    """
    )
    done = run_python(code, path)
    assert "e0, e1, e2" in done.stderr
    assert "e0, e1, e2" in Path(f"{path}.log").read_text()


# -- forks ------------------------------------------------------------------------------------------

STAGES = {
    "before the first use": "",
    "with saves queued": "save(sink, 'p', 0, 500)",
    "while the writer commits": "save(sink, 'p', 0, 500); time.sleep(0.001)",
    "after a flush": "save(sink, 'p', 0, 500); sink.flush()",
    "while the database is locked": (
        "import sqlite3; other = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)\n"
        "    other.execute('BEGIN IMMEDIATE'); save(sink, 'p', 0, 500)\n"
        "    unlock = threading.Timer(0.3, other.close); unlock.start()"
    ),
    "after close": "save(sink, 'p', 0, 500); sink.close(); sink = store.engine_sink()",
}


@pytest.mark.parametrize("stage", list(STAGES))
def test_both_sides_of_a_fork_go_on(path: Path, stage: str) -> None:
    code = (
        f"{SETUP}\n    {STAGES[stage]}\n"
        """
    child = os.fork()
    if child == 0:
        try:
            assert sink.stats().pending == sink.stats().written == 0
            save(sink, "c", 0, 300)
            sink.flush(20)
            assert sink.stats().written == 300
            assert sink.get("c7").flow_name == "c" and sink.count(flow_name="c") == 300
            grandchild = os.fork()
            if grandchild == 0:
                save(sink, "g", 0, 300)
                sys.exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
            save(sink, "c", 300, 400)
        except BaseException as error:
            if isinstance(error, SystemExit): raise
            import traceback; traceback.print_exc()
            os._exit(1)
        sys.exit(0)
    save(sink, "p", 500, 1000)
    assert os.waitpid(child, 0)[1] == 0
    assert sink.stats().written + sink.stats().pending in (500, 1000)
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    assert stored(path, "c") == names("c", 0, 400)
    assert stored(path, "g") == names("g", 0, 300)
    first = 500 if stage == "before the first use" else 0
    assert stored(path, "p") == names("p", first, 1000)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_child_never_writes_what_the_parent_had_queued(path: Path, sqlite: SqliteExecutionStore) -> None:
    code = f"""{SETUP}
    sink = type(store).connect(url, busy_timeout=0.01).engine_sink()
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(40)  # where it hangs, it says where; the parent, and below the child
    save(sink, "p", 0, 100)
    read, write = os.pipe()
    if os.fork():
        os._exit(0)
    signal.alarm(40)
    os.close(write)
    assert os.read(read, 1) == b""  # the parent is gone, and what it had queued with it
    print("alone", flush=True)
    sys.stdin.readline()
    assert sink.get("p7") is None
    save(sink, "c", 0, 100)
    sink.close(10)
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        process = python(code, path)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "alone\n", process.communicate(timeout=20)
    _, errors = process.communicate("go on\n", timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert stored(path, "c") == names("c", 0, 100)
    assert stored(path, "p") == set()


def test_forks_in_the_middle_of_saves_of_other_threads(path: Path) -> None:
    code = (
        SETUP
        + """
    go_on = True
    counts = [0] * 3
    def work(worker):
        while go_on:
            save(sink, f"t{worker}x", counts[worker], counts[worker] + 1)
            counts[worker] += 1
            if counts[worker] % 50 == 0:
                sink.get(f"t{worker}x0"); sink.list("nothing")
            time.sleep(0.002)
    threads = [threading.Thread(target=work, args=[worker]) for worker in range(3)]
    for thread in threads: thread.start()
    for number in range(8):
        child = os.fork()
        if child == 0:
            save(sink, f"c{number}x", 0, 10)
            sink.close(20)
            os._exit(0 if store.count(flow_name=f"c{number}x") == 10 else 1)
        assert os.waitpid(child, 0)[1] == 0
    go_on = False
    for thread in threads: thread.join()
    sink.close()
    for worker in range(3):
        assert len(store.list(f"t{worker}x")) == counts[worker] > 0, counts
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr


def test_a_fork_in_on_error_does_not_wait_for_its_own_thread(path: Path) -> None:
    code = (
        SETUP
        + """
    import sqlite3
    statuses = []
    def on_error(operation, error):
        child = os.fork()
        if child == 0:
            save(sink, "c", 0, 10)
            sink.flush(20)
            os._exit(0)
        statuses.append(os.waitpid(child, 0)[1])
    store._database._writer.use(lambda db: db.conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
    sink = store.engine_sink(on_error=on_error)
    sink.save(ExecutionRecord("e1", "x" * 20_000))
    try:
        sink.flush(20)
    except Exception as error:
        assert "e1" in str(error)
    assert statuses == [0]
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    assert stored(path, "c") == names("c", 0, 10)


def test_other_stores_are_safe_to_fork(path: Path) -> None:
    code = (
        SETUP
        + """
    import sqlite3
    memory, mine = open_store("memory:"), open_store("sqlite:///:memory:")
    borrowed = type(store).from_connection(sqlite3.connect(sys.argv[1]))
    for other in (memory, mine):
        save(other, "p", 0, 5)
    assert len(borrowed.list()) == 0
    child = os.fork()
    if child == 0:
        for other in (memory, mine):
            assert len(other.list()) == 5
            save(other, "c", 0, 5)
            assert len(other.list()) == 10
        try:
            borrowed.list()
        except Exception as error:
            assert "belongs to the parent process" in str(error), error
        else:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(memory.list()) == len(mine.list()) == 5
    assert len(borrowed.list()) == 0
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr


def test_a_sink_that_the_child_inherits_is_the_childs_after_a_clean_close_in_the_parent(path: Path) -> None:
    code = (
        SETUP
        + """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        save(sink, "c", 0, 10)
        sys.exit(0)
    save(sink, "p", 0, 10)
    sink.close(); store.close()
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    """
    )
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    assert stored(path, "c") == names("c", 0, 10)
