"""PostgreSQL while it is stopped, crashed, cut off or full, and while processes fork, end and are killed."""

import os
import random
import signal
import sys
import threading
from contextlib import suppress

import psycopg
import pytest
from forking import in_child
from processes import wait_until
from stores.cutter import Cutter
from stores.postgres_server import OwnServer, PostgresServer
from stores.samples import python, record, run_python

from szal.errors import ExecutionNotFound, LeaseLost, StoreUnavailable
from szal.model.state import WorkflowState
from szal.stores import PostgresExecutionStore, Sink, open_store
from szal.stores.ledger import NewExecution, TakeOver
from szal.stores.postgres.marks import Mark, Marks
from szal.stores.queue import Submission
from szal.stores.writes import Save, SaveStep, Write

RUNNING = WorkflowState.RUNNING


def all_as_saved(store: PostgresExecutionStore, sink: Sink, saves: int, executions: int) -> None:
    stats = sink.stats()
    assert (stats.pending, stats.failed, stats.written) == (0, 0, saves)
    assert store.count(states=WorkflowState.COMPLETED) == store.count() == executions


# -- the server -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_is_stopped_and_started_in_the_middle_of_2000_saves(
    postgres_url: str, server: PostgresServer, mode: str
) -> None:
    if not isinstance(server, OwnServer):
        pytest.skip("this server is not ours to stop")
    seen: list[str] = []
    with PostgresExecutionStore.connect(postgres_url, retry_timeout=0.2) as store:
        store.migrate()
        with store.engine_sink() as sink:
            for number in range(2000):
                sink.save(record(number % 400, state=WorkflowState.COMPLETED if number >= 1600 else RUNNING))
                if number == 700:
                    sink.flush()
                    server.stop(mode)
                if number == 1200:
                    wait_until(lambda: isinstance(sink.stats().last_error, StoreUnavailable))
                    assert sink.get("e00007") == record(7, state=RUNNING)  # from the mirror
                    with pytest.raises(StoreUnavailable):
                        store.list()
                    server.start()
                if number == 1300:
                    sink.flush(30)
                    seen = store.list()
        assert len(seen) == 400
        all_as_saved(store, sink, 2000, 400)


def test_every_session_is_ended_ten_times_during_2000_saves(
    postgres: PostgresExecutionStore, server: PostgresServer, schema: str
) -> None:
    ended = 0
    with postgres.engine_sink() as sink:
        for number in range(2000):
            sink.save(record(number % 500, state=WorkflowState.COMPLETED if number >= 1500 else RUNNING))
            if number % 200 == 199:
                wait_until(lambda: server.terminate(schema) > 0)  # one that was seen may be gone by then
                ended += 1
        sink.flush(30)
        assert ended == 10
        all_as_saved(postgres, sink, 2000, 500)


def test_a_session_that_was_ended_while_it_was_idle_is_not_noticed(
    postgres: PostgresExecutionStore, server: PostgresServer, schema: str
) -> None:
    for number in range(5):
        postgres.save(record(number))
        assert server.terminate(schema) > 0
        assert len(postgres.list()) == number + 1


def test_an_exhausted_pool_is_trouble_that_may_pass(postgres_url: str) -> None:
    with PostgresExecutionStore.connect(postgres_url, max_size=1, retry_timeout=0.1) as store:
        store.migrate()
        with store.engine_sink() as sink:

            def while_it_is_lent(connection: object) -> None:
                with pytest.raises(StoreUnavailable, match=r"couldn't get a connection after 0\.10 sec"):
                    store.save(record(1))
                for number in range(100):
                    sink.save(record(number))
                wait_until(lambda: isinstance(sink.stats().last_error, StoreUnavailable))

            store._database.pool.use(while_it_is_lent)
            sink.flush(20)
            all_as_saved(store, sink, 100, 100)


def test_a_deadlock_is_tried_again(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    """The store loses: the other one gets what the store has locked. Who waits looks for a deadlock once, after 1 s."""
    change = "UPDATE szal_executions SET flow_name = 'other' WHERE execution_id = %s"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%%'"
    has_lost = False
    while not has_lost:
        postgres.ledger.apply([Save.of(record(number, state=RUNNING)) for number in (1, 2)])
        with psycopg.connect(postgres_url) as other:
            other.execute("SET deadlock_timeout = '1min'; SET lock_timeout = '3s'")
            other.execute(change, ["e00002"])
            writes = [Save.of(record(number)) for number in (1, 2)]
            saver = threading.Thread(target=postgres.ledger.apply, args=[writes])
            saver.start()
            wait_until(lambda: postgres._database.read(waiting))
            try:
                other.execute(change, ["e00001"])
                has_lost = True
            except psycopg.errors.LockNotAvailable:  # the store had looked before that
                other.rollback()
        saver.join(20)
    assert postgres.count(flow_name="ci", states=WorkflowState.COMPLETED) == 2


def test_two_sinks_write_the_same_executions_at_once(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    with open_store(postgres_url) as second, postgres.engine_sink() as one, second.engine_sink() as two:
        for number in range(1000):
            one.save(record(number % 50))
            two.save(record(50 - number % 50))
        one.flush(30)
        two.flush(30)
        assert one.stats().failed == two.stats().failed == 0
        assert postgres.count() == 51


# -- a COMMIT whose answer is lost ------------------------------------------------------------------


@pytest.mark.parametrize("delivered", [True, False])
def test_a_save_is_done_once(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, delivered: bool
) -> None:
    """If it was committed, it must not be done again: another may have gone on from there."""

    def go_on() -> None:
        if postgres.get("e00001") is not None:
            postgres.save(record(1))

    cutter.cut_at(b"COMMIT\0", delivered=delivered, then=go_on)
    cut.save(record(1, state=RUNNING))
    assert cutter.cuts == 1
    expected = WorkflowState.COMPLETED if delivered else RUNNING
    assert postgres.get("e00001") == record(1, state=expected)


@pytest.mark.parametrize("delivered", [True, False])
def test_a_removal_returns_what_it_removed(cut: PostgresExecutionStore, cutter: Cutter, delivered: bool) -> None:
    cut.save(record(1))
    cutter.cut_at(b"COMMIT\0", delivered=delivered)
    assert cut.remove("e00001") == record(1)
    assert cut.list() == []
    assert cutter.cuts == 1


def begun(store: PostgresExecutionStore) -> int:
    """Return the epoch of an execution that is under way, and is anybody's to take over."""
    epoch = store.ledger.create(
        NewExecution(record=record(1, state=RUNNING), content_id="none", flow="{}", owner="somebody", ttl=-1.0)
    )
    assert epoch is not None
    return epoch


@pytest.mark.parametrize("delivered", [True, False])
def test_a_step_is_written_again(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, delivered: bool
) -> None:
    """Nobody else can have gone on from there: the lease is still held."""
    step = SaveStep("e00001", "a", 0, '"first"', None, begun(cut))
    cutter.cut_at(b"first", delivered=delivered)
    cut.ledger.apply([step])
    assert cutter.cuts == 1
    assert postgres.ledger.read("e00001").steps == [("a", 0, '"first"')]


@pytest.mark.parametrize("delivered", [True, False])
def test_a_step_of_one_that_was_taken_over_meanwhile_is_not_written_again(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, delivered: bool
) -> None:
    step = SaveStep("e00001", "a", 0, '"first"', None, begun(cut))

    def go_on() -> None:
        epoch = postgres.ledger.take_over(
            TakeOver(execution_id="e00001", owner="other", ttl=60, is_gone=lambda _: True)
        ).epoch
        postgres.ledger.apply([SaveStep("e00001", "a", 0, '"second"', None, epoch)])

    cutter.cut_at(b"first", delivered=delivered, then=go_on)
    with pytest.raises(LeaseLost):
        cut.ledger.apply([step])
    assert postgres.ledger.read("e00001").steps == [("a", 0, '"second"')]


@pytest.mark.parametrize("delivered", [True, False])
def test_what_has_not_begun_is_taken_over_whether_the_server_heard_of_it_or_not(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, delivered: bool
) -> None:
    created = record(1, state=WorkflowState.CREATED)
    postgres.ledger.queue.submit(
        Submission(new=NewExecution(record=created, content_id="none", flow="{}", owner="nobody", ttl=60))
    )
    known = cut.ledger.read("e00001", steps=False)
    cutter.cut_at(b"the owner", delivered=delivered)
    wanted = TakeOver(execution_id="e00001", owner="the owner", ttl=60, is_gone=lambda _: False, known=known)
    epoch = cut.ledger.take_over(wanted).epoch
    assert cutter.cuts == 1
    assert postgres.ledger.holder("e00001") == "the owner"
    cut.ledger.apply([Save.of(record(1, state=RUNNING), epoch)])
    assert postgres.get("e00001") == record(1, state=RUNNING)


@pytest.mark.parametrize("word", [b"BEGIN", b'"state"', b"COMMIT\0"])
@pytest.mark.parametrize("delivered", [True, False])
def test_a_sink_writes_everything_once_and_in_order(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, word: bytes, delivered: bool
) -> None:
    with cut.engine_sink() as sink:
        for number in range(400):
            if number % 50 == 25:
                cutter.cut_at(word, delivered=delivered)
            sink.save(record(number % 100, state=RUNNING))
            sink.save(record(number % 100))
            if number % 7 == 0:
                sink.remove(f"e{number % 100:05}")
            if number % 50 == 49:
                sink.flush(30)
        sink.flush(30)
        assert sink.stats().failed == 0
    assert cutter.cuts == 8
    assert {*postgres.list()} == {f"e{number % 100:05}" for number in range(300, 400) if number % 7}
    assert postgres.count(states=WorkflowState.COMPLETED) == postgres.count()


def test_what_is_in_doubt_when_time_is_up_is_settled_by_the_next_try(
    cutter: Cutter, postgres: PostgresExecutionStore
) -> None:
    """As the sink's writer does it: the same batch again, however much later."""
    with PostgresExecutionStore.connect(cutter.url, retry_timeout=0.0) as store:
        batch: list[Write] = [Save.of(record(1, state=RUNNING))]
        cutter.cut_at(b"COMMIT\0", delivered=True, then=lambda: postgres.save(record(1)))
        with pytest.raises(StoreUnavailable):
            store.ledger.apply(batch)
        store.ledger.apply(batch)
        assert postgres.get("e00001") == record(1)
        store.ledger.apply([Save.of(record(1, state=RUNNING))])
        assert postgres.get("e00001") == record(1, state=RUNNING)


def test_a_transaction_that_has_not_ended_is_waited_for(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    database = postgres._database
    mark = Mark("somebody", 2, 1)

    def has_committed() -> bool:
        return database.pool.use(lambda connection: database._has_committed(connection, mark))

    with psycopg.connect(postgres_url) as other:
        other.execute("INSERT INTO szal_commits VALUES ('somebody', 2, 0)")
        with pytest.raises(StoreUnavailable, match="has not ended yet"):
            has_committed()
        other.rollback()
        assert not has_committed()
        other.execute("INSERT INTO szal_commits VALUES ('somebody', 2, 0)")
        other.commit()
    assert has_committed()


def crash(server: PostgresServer) -> None:
    """Kill a process of *server*, which then ends all sessions, and forgets what it has not written to its log."""
    with psycopg.connect(server.url) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT pg_sleep(10)")
    wait_until(lambda: is_up(server))


def is_up(server: PostgresServer) -> bool:
    with suppress(psycopg.OperationalError):
        server.execute("SELECT 1")
        return True
    return False


def use_up_numbers(server: PostgresServer, count: int) -> None:
    """Have *server* commit so many transactions."""
    server.execute(f"DO $$ BEGIN FOR n IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


def test_what_a_crash_undid_is_done_again_though_others_have_its_number_now(
    cut: PostgresExecutionStore, cutter: Cutter, postgres: PostgresExecutionStore, server: PostgresServer
) -> None:
    cut.save(record(2))

    def fail() -> None:
        crash(server)
        use_up_numbers(server, 20)

    cutter.cut_at(b"COMMIT\0", delivered=False, then=fail)
    cut.save(record(1))
    assert cutter.cuts == 1
    assert postgres.get("e00001") == record(1)


def test_each_writer_leaves_one_mark(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    for number in range(5):
        postgres.save(record(number))
        with pytest.raises(ExecutionNotFound):
            postgres.ledger.request_cancel("nobody")  # a transaction that is undone
    count = "SELECT count(*), count(DISTINCT writer) FROM szal_commits"
    assert postgres._database.read(count) == [(1, 1)]
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("INSERT INTO szal_commits VALUES ('long gone', 2, 0)")
    assert postgres._database.read(count) == [(2, 2)]
    postgres.prune(keep=1)
    assert postgres._database.read(count) == [(1, 1)]


def test_a_child_leaves_marks_of_its_own() -> None:
    marks = Marks()
    mark = marks.next()
    marks.left(mark)

    def go_on() -> None:
        assert marks.next().writer != mark.writer

    in_child(go_on)
    assert marks.next() == Mark(mark.writer, 2, 1)


# -- processes that are killed, end, or fork --------------------------------------------------------

SETUP = """
    import os, sys, threading, time, warnings
    from szal.model.results import ExecutionRecord
    from szal.model.state import WorkflowState
    from szal.stores import open_store, PostgresExecutionStore
    warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads: that is what is tested

    def save(sink, name, first, last):
        for number in range(first, last):
            sink.save(ExecutionRecord(f"{name}{number}", name, WorkflowState.COMPLETED))

    url = sys.argv[1]
    store = open_store(url)
    sink = store.engine_sink()
"""

KILLS = """
    import random, select, signal
    chance = random.Random(int(sys.argv[2]))
    for child in range(12):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            for number in range(10**9):
                save(sink, f"k{child}x", number, number + 1)
                if number % 40 == 39:
                    sink.flush()
                    os.write(write, b".")
        os.close(write)
        select.select([read], [], [], 10 * chance.randrange(2))  # half of them after the first flush
        time.sleep(chance.random() * 0.05)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        print(40 * len(os.read(read, 100_000)))
"""


def names(name: str, first: int, last: int) -> set[str]:
    return {f"{name}{number}" for number in range(first, last)}


def test_after_kill_9_the_database_holds_a_prefix_with_all_that_was_flushed(
    postgres: PostgresExecutionStore, postgres_url: str, server: PostgresServer, schema: str
) -> None:
    postgres.close()
    done = run_python(SETUP + KILLS, postgres_url, random.randrange(10**6))
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) == 12
    assert any(acknowledged)
    wait_until(lambda: not server.sessions(schema))  # one that was committing goes on to the end
    with open_store(postgres_url) as store:
        for child, flushed in enumerate(acknowledged):
            found = {*store.list(f"k{child}x")}
            assert found == names(f"k{child}x", 0, len(found))
            assert len(found) >= flushed


ENDS = {
    "falls off the end": (0, "save(sink, 'e', 0, 1000)"),
    "raises": (1, "save(sink, 'e', 0, 1000)\n    raise RuntimeError('the main thread')"),
    "in another thread": (0, "threading.Thread(target=save, args=[sink, 'e', 0, 1000]).start()"),
    "store dropped": (0, "save(sink, 'e', 0, 1000)\n    del sink, store"),
    "in an atexit handler, on a new pool": (
        0,
        """import atexit
    fresh = PostgresExecutionStore.connect(url).engine_sink()
    atexit.register(save, fresh, 'e', 0, 1000)""",
    ),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_whatever_the_end_all_is_there(postgres: PostgresExecutionStore, postgres_url: str, end: str) -> None:
    status, code = ENDS[end]
    done = run_python(f"{SETUP}\n    {code}", postgres_url)
    assert done.returncode == status, done.stderr
    assert {*postgres.list("e")} == names("e", 0, 1000)
    assert ("Traceback" in done.stderr) == (status == 1), done.stderr
    assert status or done.stderr == ""


STAGES = {
    "before the first use": "store.close(); store = PostgresExecutionStore.connect(url); sink = store.engine_sink()",
    "with saves queued": "save(sink, 'p', 0, 500)",
    "while the writer commits": "save(sink, 'p', 0, 500); time.sleep(0.004)",
    "after a flush": "save(sink, 'p', 0, 500); sink.flush()",
    "after close": "save(sink, 'p', 0, 500); sink.close(); sink = store.engine_sink()",
}


def test_both_sides_of_a_fork_go_on_at_every_stage(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    code = f"""{SETUP}
    for stage, prepare in {STAGES!r}.items():
        exec(prepare)
        before = sink.stats().pending + sink.stats().written
        child = os.fork()
        if child == 0:
            name = stage.replace(" ", "-") + "-c"
            try:
                assert sink.stats().pending == sink.stats().written == 0
                save(sink, name, 0, 300)
                sink.flush(20)
                assert sink.get(f"{{name}}7").flow_name == name and sink.count(flow_name=name) == 300
                grandchild = os.fork()
                if grandchild == 0:
                    save(sink, name, 300, 600)
                    sys.exit(0)
                assert os.waitpid(grandchild, 0)[1] == 0
                save(sink, name, 600, 700)
            except Exception:
                import traceback; traceback.print_exc()
                os._exit(1)
            sys.exit(0)
        save(sink, stage, 500, 1000)
        assert os.waitpid(child, 0)[1] == 0, stage
        assert sink.stats().pending + sink.stats().written == before + 500
        sink.flush(20)
    """
    done = run_python(code, postgres_url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {*postgres.list("p")} == names("p", 0, 500)
    for stage in STAGES:
        assert {*postgres.list(stage)} == names(stage, 500, 1000)
        child = stage.replace(" ", "-") + "-c"
        assert {*postgres.list(child)} == names(child, 0, 700)


def test_a_fork_disturbs_no_statement_of_another_thread(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    code = f"""{SETUP}
    results = []
    def work():
        for number in range(40):
            results.append(store._database.read("SELECT pg_backend_pid(), pg_sleep(0.01), %s", [number])[0][2])
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads: thread.start()
    for number in range(8):
        child = os.fork()
        if child == 0:
            store.save(ExecutionRecord(f"c{{number}}", "c"))
            sys.exit(0)  # with everything that is done at an exit
        assert os.waitpid(child, 0)[1] == 0
    for thread in threads: thread.join()
    assert sorted(results) == sorted([*range(40)] * 3)
    """
    done = run_python(code, postgres_url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(postgres.list("c")) == 8


def test_a_child_does_not_keep_the_locks_of_a_parent_that_was_killed(
    postgres: PostgresExecutionStore, postgres_url: str
) -> None:
    postgres.save(record(1))
    code = f"""{SETUP}
    import signal
    locked = threading.Event()
    def lock(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM szal_executions FOR UPDATE")
        locked.set()
        time.sleep(50)
    threading.Thread(target=store._database.pool.use, args=[lock], daemon=True).start()
    locked.wait(20)
    parent = os.getpid()
    if os.fork() == 0:
        os.kill(parent, signal.SIGKILL)
        print("alone", flush=True)
        sys.stdin.readline()
        os._exit(0)
    time.sleep(50)
    """
    process = python(code, postgres_url)
    assert process.stdout is not None
    assert process.stdout.readline() == "alone\n"
    saved = threading.Thread(target=postgres.save, args=[record(1, state=RUNNING)])
    saved.start()
    saved.join(30)
    stuck = saved.is_alive()
    process.communicate("go\n")
    saved.join(30)
    assert not stuck
    assert postgres.get("e00001") == record(1, state=RUNNING)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="these need to be told before, and end otherwise")
def test_a_fork_that_python_was_not_told_of_in_time_is_survived(
    postgres: PostgresExecutionStore, postgres_url: str
) -> None:
    """uWSGI forks, and then tells the child."""
    code = f"""{SETUP}
    import ctypes
    store.save(ExecutionRecord("p0", "p"))
    child = ctypes.CDLL(None).fork()
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        store.save(ExecutionRecord("c0", "c"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert store._database.pool.use(lambda connection: connection.execute("SELECT 1").fetchall()) == [(1,)]
    store.save(ExecutionRecord("p1", "p"))
    """
    done = run_python(code, postgres_url)
    assert done.returncode == 0, done.stderr
    assert {*postgres.list()} == {"p0", "p1", "c0"}


def test_a_borrowed_pool_stays_with_the_parent(postgres: PostgresExecutionStore, postgres_url: str) -> None:
    code = f"""{SETUP}
    from psycopg_pool import ConnectionPool
    with ConnectionPool(url, min_size=1) as pool:
        borrowed = PostgresExecutionStore.from_pool(pool)
        borrowed.list()
        child = os.fork()
        if child == 0:
            try:
                borrowed.list()
            except Exception as error:
                os._exit(0 if "belongs to the parent process" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert borrowed.list() == []
    """
    done = run_python(code, postgres_url)
    assert done.returncode == 0, done.stderr
