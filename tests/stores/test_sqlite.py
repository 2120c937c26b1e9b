"""SQLite's own side: paths, set-up, indexes, and a file that is shared, broken, full or read-only."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from stores.samples import NOON, python, record

from szal.errors import DecodeError, NotMigrated, StoreClosed, StoreFailed, StoreUnavailable
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import SqliteExecutionStore, open_store
from szal.stores.database import Transaction
from szal.stores.filters import Selection
from szal.stores.heads import COLUMNS
from szal.stores.sqlite.statements import STATEMENTS
from szal.stores.writes import Save

RUNNING = WorkflowState.RUNNING


def insert(store: SqliteExecutionStore, statement: str, rows: list[tuple[str, ...]]) -> None:
    store._database.transact(lambda transaction: transaction.many(statement, rows))


# -- places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["szal.db", "a b.db", "what?.db", "100%20.db", "ünï→.db", "file:x", "a;b'c\"d.db"])
@pytest.mark.parametrize("form", ["path", "text", "url"])
def test_any_path_is_the_path_that_it_says(tmp_path: Path, name: str, form: str) -> None:
    if form == "url":
        name = name.replace("?", "")  # the parameters begin there
    path = tmp_path / name
    place = {"path": path, "text": str(path), "url": f"sqlite:///{path}"}[form]
    with SqliteExecutionStore.connect(place) as store:
        store.migrate()
        store.save(record(1))
    assert path.read_bytes().startswith(b"SQLite format 3")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_relative_path_stays_where_it_was_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteExecutionStore.connect("sqlite:///szal.db") as store:
        monkeypatch.chdir("/")
        store.migrate()
    assert (tmp_path / "szal.db").exists()


@pytest.mark.parametrize("url", [":memory:", "sqlite:///:memory:"])
def test_a_database_in_memory_is_seen_by_all_threads(url: str) -> None:
    with SqliteExecutionStore.connect(url) as store:
        store.migrate()
        thread = threading.Thread(target=store.save, args=[record(1)])
        thread.start()
        thread.join()
        assert store.get("e00001") == record(1)
        assert SqliteExecutionStore.connect(url).name == ":memory:"


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="synchronous is one of OFF, NORMAL, FULL, EXTRA"):
        SqliteExecutionStore.connect("x", synchronous="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="busy_timeout is negative"):
        SqliteExecutionStore.connect("x", busy_timeout=-1)


# -- set-up -----------------------------------------------------------------------------------------


def test_the_file_is_in_wal_mode_and_the_table_is_that_of_szal_rs(sqlite: SqliteExecutionStore, path: Path) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        columns = db.execute("SELECT name, type, \"notnull\", pk FROM pragma_table_info('szal_executions')").fetchall()
    db.close()
    assert columns == [
        ("execution_id", "TEXT", 0, 1),
        ("flow_name", "TEXT", 1, 0),
        ("data", "TEXT", 1, 0),
        *((name, "TEXT", 0, 0) for name in COLUMNS),
    ]


@pytest.mark.parametrize(("setting", "number"), [("FULL", 2), ("NORMAL", 1), ("OFF", 0), ("EXTRA", 3)])
def test_synchronous_is_what_was_asked_for(path: Path, setting: str, number: int) -> None:
    with SqliteExecutionStore.connect(path, synchronous=setting) as store:  # type: ignore[arg-type]
        store.migrate()
        assert store._database.read("PRAGMA synchronous") == [(number,)]


def test_a_store_that_was_not_migrated_says_so(path: Path) -> None:
    with SqliteExecutionStore.connect(path) as store:
        for use in (lambda: store.get("e1"), lambda: store.save(record(1)), store.find, store.list):
            with pytest.raises(NotMigrated, match=r"table szal_executions is missing: call store.migrate\(\) once"):
                use()


def test_migrate_twice_changes_nothing(sqlite: SqliteExecutionStore) -> None:
    sqlite.save(record(1))
    before = sqlite._database.read("SELECT sql FROM sqlite_schema ORDER BY name")
    sqlite.migrate()
    assert sqlite._database.read("SELECT sql FROM sqlite_schema ORDER BY name") == before
    assert sqlite.list() == ["e00001"]


def test_processes_and_threads_migrate_at_once(path: Path) -> None:
    code = """
        import sys, threading
        from szal.stores import open_store
        print("ready", flush=True)
        sys.stdin.readline()
        errors = []
        def work():
            try:
                open_store(sys.argv[1]).close()
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not errors, errors
    """
    processes = [python(code, f"sqlite:///{path}") for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    with SqliteExecutionStore.connect(path) as store:
        assert store._database.read("SELECT migration_set, name FROM _sqlite_migrations") == [
            ("szal", "m001_executions"),
            ("szal", "m002_ledger"),
            ("szal", "m003_awaits"),
            ("szal", "m006_columns"),
            ("szal", "m007_flows"),
            ("szal", "m008_foreign_rows"),
            ("szal", "m009_labels"),
            ("szal", "m010_pausing"),
            ("szal", "m011_queue"),
            ("szal", "m012_schedules"),
            ("szal", "m013_parents"),
            ("szal", "m014_limits"),
            ("szal", "m015_reports"),
            ("szal", "m016_keys"),
            ("szal", "m017_under_way"),
        ]


def test_a_closed_store_says_so(sqlite: SqliteExecutionStore) -> None:
    sqlite.close()
    sqlite.close()
    with pytest.raises(StoreClosed, match=r"szal.db is closed"):
        sqlite.list()


# -- a connection of somebody else ------------------------------------------------------------------


def test_a_borrowed_connection_is_used_and_left_open() -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    with SqliteExecutionStore.from_connection(connection) as store:
        store.migrate()
        with store.engine_sink() as sink:
            sink.save(record(1))
    assert connection.execute("SELECT execution_id FROM szal_executions").fetchall() == [("e00001",)]
    connection.close()


def test_a_borrowed_connection_in_the_middle_of_a_transaction_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    store = SqliteExecutionStore.from_connection(connection)
    store.migrate()
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")
    with pytest.raises(StoreFailed, match="in the middle of a transaction"):
        store.save(record(1))
    connection.commit()
    assert connection.execute("SELECT * FROM mine").fetchall() == [(1,)]
    connection.close()


def test_a_borrowed_connection_of_one_thread_fails_in_others() -> None:
    connection = sqlite3.connect(":memory:")
    store = SqliteExecutionStore.from_connection(connection)
    store.migrate()
    seen: list[BaseException] = []

    def work() -> None:
        try:
            store.save(record(1))
        except StoreFailed as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "same thread" in str(seen[0])
    connection.close()


# -- indexes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "szal_executions_started"),
        ({"since": NOON}, "szal_executions_started"),
        ({"flow_name": "ci", "states": RUNNING}, "szal_executions_flow"),
        ({"flow_name": "ci"}, "szal_executions_flow"),
        ({"flow_name": "ci", "states": [RUNNING, WorkflowState.PAUSED]}, "szal_executions_flow"),
        ({"states": RUNNING}, "szal_executions_state"),
        ({"states": [RUNNING, WorkflowState.PAUSED]}, "szal_executions_state"),
    ],
)
@pytest.mark.parametrize("after", [None, ("2026-06-10T12:00:000000000", "e1")])
@pytest.mark.parametrize("filled", [False, True])
def test_the_newest_50_come_from_an_index_without_sorting(
    sqlite: SqliteExecutionStore, filters: dict, index: str, after: tuple[str, str] | None, filled: bool
) -> None:
    if filled:
        records = (record(number, state=list(WorkflowState)[number % 8]) for number in range(100))
        sqlite.ledger.apply([Save.of(each) for each in records])
        sqlite._database.read("ANALYZE")
    statement, parameters = STATEMENTS.page(Selection.of(limit=50, after=after, **filters))
    plan = [row[3] for row in sqlite._database.read(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    tables = [step for step in plan if "szal_executions" in step]
    assert all(f"USING INDEX {index}" in step for step in tables), plan
    # Of several states, the 50 newest of each are sorted: these branches, never the table.
    sorted_ = [before for before, step in pairwise(plan) if "TEMP B-TREE" in step]
    assert set(sorted_) <= {"SCAN branch"}, plan
    assert not sorted_ or len(tables) > 1, plan


# -- rows that are no records -----------------------------------------------------------------------


def test_rows_that_are_no_records_do_not_hide_the_others(sqlite: SqliteExecutionStore) -> None:
    broken = [
        "",
        "{",
        "null",
        "[]",
        "5",
        '{"state": "Running"}',
        '{"state": "Lost", "started_at": "2026-06-10T00:00:00Z"}',
    ]
    rows = [(f"b{n}", data) for n, data in enumerate(broken)]
    insert(sqlite, "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, 'ci', ?)", rows)
    sqlite.save(record(1))
    assert [summary.execution_id for summary in sqlite.find()] == [
        "e00001",
        *(f"b{number}" for number in range(6, -1, -1)),
    ]
    assert sqlite.find(flow_name="ci", limit=None) == sqlite.find()
    assert sqlite.find(labels={"a": "b"}) == []
    assert sqlite.prune(keep=0) == 1
    for number in range(len(broken)):
        with pytest.raises(DecodeError, match=f"in the record of execution 'b{number}'"):
            sqlite.get(f"b{number}")
        with pytest.raises(DecodeError):
            sqlite.remove(f"b{number}")
    assert sqlite.list() == []


# -- trouble ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is not a database, it is a text\n" * 100, os.urandom(8192)])
def test_a_file_that_is_no_database_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match=r"szal.db: file is not a database"):
        open_store(f"sqlite:///{path}")
    with SqliteExecutionStore.connect(path) as store, pytest.raises(StoreFailed, match="not a database"):
        store.get("e1")
    assert path.read_bytes() == content


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"nowhere/szal.db: unable to open database file"):
        open_store(f"sqlite:///{tmp_path}/nowhere/szal.db")


def test_a_lock_that_stays_is_an_error_that_may_pass(sqlite: SqliteExecutionStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SqliteExecutionStore.connect(path, busy_timeout=0.05) as store:
        with pytest.raises(StoreUnavailable, match="database is locked"):
            store.save(record(1))
        assert store.list() == []  # readers never wait
        other.execute("COMMIT")
        store.save(record(1))
        assert store.list() == ["e00001"]
    other.close()


def test_a_value_over_the_limits_of_sqlite_is_refused_for_good(sqlite: SqliteExecutionStore) -> None:
    sqlite._database._writer.use(lambda db: db.conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000))
    with pytest.raises(StoreFailed, match="too big"):
        sqlite.save(record(1, inputs={"text": "x" * 200_000}))
    sqlite.save(record(2))
    assert sqlite.list() == ["e00002"]


def test_an_id_that_is_no_text_is_an_error_of_szal(sqlite: SqliteExecutionStore) -> None:
    with pytest.raises(StoreFailed, match="surrogates"):
        sqlite.get("\ud800")


def test_a_batch_that_fails_leaves_nothing_behind(sqlite: SqliteExecutionStore) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.many(
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, ?, ?)", [("a", "b", "{}")]
        )
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sqlite._database.transact(fail)
    assert sqlite.list() == []
    sqlite.save(record(1))


WRITE = """
    import sys
    from szal.model.results import ExecutionRecord
    from szal.model.state import WorkflowState
    from szal.stores import open_store
    name, url, through = sys.argv[1:]
    with open_store(url) as store:
        saver = store.engine_sink() if through == "sink" else store
        for number in range(%d):
            saver.save(ExecutionRecord(f"{name}{number}", name, WorkflowState.COMPLETED))
        if through == "sink":
            saver.close()
"""


@pytest.mark.parametrize(("through", "each"), [("sink", 2000), ("store", 200)])
def test_two_processes_write_to_one_file(path: Path, through: str, each: int) -> None:
    processes = [python(WRITE % each, name, f"sqlite:///{path}", through) for name in "ab"]
    for process in processes:
        _, errors = process.communicate(timeout=50)
        assert process.returncode == 0, errors
    with open_store(f"sqlite:///{path}") as store:
        for name in "ab":
            assert {*store.list(name)} == {f"{name}{number}" for number in range(each)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.decode()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_that_may_pass(small_disk: Path) -> None:
    with open_store(f"sqlite:///{small_disk}/szal.db") as store:
        store.save(record(1))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"), ballast.open("wb", 0) as file:  # noqa: PT012
            while True:
                file.write(bytes(4096))
        with pytest.raises(StoreUnavailable, match=r"full|I/O"):
            store.save(record(2, inputs={"text": "x" * 300_000}))
        with pytest.raises(StoreUnavailable, match=r"full|I/O"):
            store.ledger.check_writable()
        assert store.get("e00001") == record(1)
        ballast.unlink()
        store.ledger.check_writable()
        store.save(record(2))
        assert store.list() == ["e00001", "e00002"]


RECORD = (
    '{"execution_id":"e1","flow_name":"ci","state":"Running","result":null,'
    '"started_at":"2026-06-10T12:00:00Z","finished_at":null}'
)


# -- time -------------------------------------------------------------------------------------------


def test_every_spelling_of_a_moment_finds_its_place(sqlite: SqliteExecutionStore) -> None:
    spellings = [
        "12:00:00Z",
        "12:00:00.000001+00:00",
        "12:00:00.001Z",
        "12:00:00.001000999Z",
        "12:00:00.5+00:00",
        "12:00:01Z",
    ]
    data = RECORD.replace("e1", "%s").replace("12:00:00Z", "%s")
    for number, text in enumerate(spellings):
        row = (f"{9 - number}", data % (number, text))
        insert(sqlite, "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, 'ci', ?)", [row])
    sqlite.save(ExecutionRecord("x", "ci", started_at=NOON + timedelta(milliseconds=2)))
    assert sqlite.list() == ["9", "8", "6", "7", "x", "5", "4"]
    assert sqlite.count(since=NOON + timedelta(milliseconds=1)) == 5
    assert sqlite.count(until=NOON + timedelta(milliseconds=1)) == 2
    assert [summary.execution_id for summary in sqlite.find(after="x", limit=2)] == ["7", "6"]


# -- readers ----------------------------------------------------------------------------------------


def test_nobody_waits_for_a_slow_query(sqlite: SqliteExecutionStore) -> None:
    """Seven queries that do not end, and everything else goes on."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def be_slow(_: object) -> None:
        entered.release()
        leave.wait(20)

    slow = [threading.Thread(target=sqlite._database._reader.use, args=[be_slow]) for _ in range(7)]
    for number, thread in enumerate(slow):
        thread.start()
        assert entered.acquire(timeout=20)
        sqlite.save(record(number))
        assert len(sqlite.list()) == number + 1
    leave.set()
    for thread in slow:
        thread.join(30)


def test_readers_are_opened_as_they_are_needed_and_closed(path: Path) -> None:
    def opened() -> int:
        return sum(fd.resolve() == path for fd in Path("/proc/self/fd").iterdir())

    with SqliteExecutionStore.connect(path) as store:
        store.migrate()
        for number in range(20):
            store.save(record(number))
            assert len(store.list()) == number + 1
        assert opened() == 2
        store._database._reader.use(lambda _: store.count())
        assert opened() == 3
    assert opened() == 0


def test_more_threads_than_readers_take_turns(sqlite: SqliteExecutionStore) -> None:
    for number in range(50):
        sqlite.save(record(number))
    found: list[int] = []

    def read() -> None:
        found.extend(len(sqlite.find()) for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [50] * 400
