"""What a store with many executions, many flows and long records costs."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import attrs
import psycopg
import pytest
from stores.outside import RUST_TABLE, Outside
from stores.samples import NOON, WIRE, record

from szal import DecodeError, Engine, EngineConfig, SqliteExecutionStore
from szal.errors import NotMigrated
from szal.model.json import decode_record, encode_record
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import ExecutionSummary, Store, open_store
from szal.stores.filters import Selection
from szal.stores.heads import COLUMNS
from szal.stores.ledger import NewExecution
from szal.stores.writes import Release, Remove, Save


def columns(outside: Outside, execution_id: str) -> tuple[Any, ...]:
    ((*found, labels, head),) = outside.run(
        f"SELECT {', '.join(COLUMNS)} FROM szal_executions WHERE execution_id = ?", execution_id
    )
    return *found, json.loads(labels) if isinstance(labels, str) else labels, json.loads(head)


def unreadable(execution_id: str) -> ExecutionSummary:
    """What is listed of a row of which nothing can be read."""
    return ExecutionSummary(execution_id=execution_id, flow_name="ci", state=None, started_at=None)


SAMPLES = [
    ExecutionRecord("e1", "ci", started_at=NOON),
    record(1, labels={"team": "a", "ü🚀": '"'}, error="it\nbroke", parent_execution_id="p"),
    record(2, state=WorkflowState.PAUSED, started_at=NOON.replace(microsecond=5)),
    *(decode_record((WIRE / f"record-{name}.json").read_text()) for name in ("failed", "rolled-back", "running")),
]


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_the_columns_are_the_same_whoever_writes_them(outside: Outside, number: int) -> None:
    sample = SAMPLES[number]
    with open_store(outside.url) as store:
        store.save(sample)
        of_szal, found = columns(outside, sample.execution_id), store.find()
        store.remove(sample.execution_id)
        outside.save(encode_record(sample))
        assert columns(outside, sample.execution_id) == of_szal
        assert store.find() == found


def test_what_another_program_changes_is_found_as_it_is_now(outside: Outside) -> None:
    with open_store(outside.url) as store:
        first = record(1, labels={"team": "a"})
        store.save(first)
        outside.save(encode_record(attrs.evolve(first, state=WorkflowState.FAILED, labels={"team": "b"})))
        assert [store.count(labels={"team": team}) for team in "ab"] == [0, 1]
        assert store.find()[0].state is WorkflowState.FAILED
        store.save(first)
        assert [store.count(labels={"team": team}) for team in "ab"] == [1, 0]
        outside.save(encode_record(attrs.evolve(first, labels={})))
        assert store.count(labels={"team": "a"}) == 0
        outside.run("UPDATE szal_executions SET data = 'no record'")
        assert (store.find(), store.count(), store.list()) == ([unreadable("e00001")], 1, ["e00001"])
        outside.run("DELETE FROM szal_executions")
        store.save(first)
        assert store.count(labels={"team": "a"}) == 1


def test_a_database_of_before_the_columns_is_upgraded(outside: Outside) -> None:
    outside.run(RUST_TABLE)
    for sample in SAMPLES:
        outside.save(encode_record(sample))
    outside.run("INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('odd', 'ci', '{')")
    with open_store(outside.url) as store:
        found = store.find(limit=None)
        assert {each.execution_id for each in found} == {"odd", *(sample.execution_id for sample in SAMPLES)}
        assert found[-1] == unreadable("odd")
        assert store.count(labels={"team": "a"}) == 1
        for sample in SAMPLES:
            before = columns(outside, sample.execution_id)
            store.save(sample)
            assert columns(outside, sample.execution_id) == before


PARSING = ("json_extract", "json_valid", "szal_field", "szal_head", "szal_cut", "szal_key", "data::json")


def test_no_statement_looks_into_a_record(outside: Outside) -> None:
    with open_store(outside.url) as store:
        said: Any = store._database.statements  # type: ignore[union-attr]
        texts = [*said.whole().values(), *(part for part in attrs.asdict(said.parts).values() if isinstance(part, str))]
        assert not [text for text in texts for word in PARSING if word in text]


def test_a_record_that_szal_saves_is_not_parsed(outside: Outside) -> None:
    """Neither as it comes nor as it changes: a trigger that did would take the place of what is written here."""
    with open_store(outside.url) as store:
        if outside.is_postgres:
            outside.run(
                "CREATE OR REPLACE FUNCTION szal_fill() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE EXCEPTION 'parsed'; END $$"
            )
        else:
            for name in ("szal_fill_new", "szal_fill_changed"):
                ((sql,),) = outside.run("SELECT sql FROM sqlite_schema WHERE name = ?", name)
                outside.run(f"DROP TRIGGER {name}")
                outside.run(sql.partition("BEGIN")[0] + "BEGIN SELECT raise(ABORT, 'parsed'); END")
        running = record(1, state=WorkflowState.RUNNING, labels={"team": "a"})
        for each in (running, running, record(1, labels={"team": "a"})):
            store.save(each)
        with pytest.raises((psycopg.Error, sqlite3.Error)):
            outside.save(encode_record(record(2)))
        assert [summary.state for summary in store.find()] == [WorkflowState.COMPLETED]


@pytest.mark.parametrize("filters", [{"flow_name": "ci"}, {}, {"states": WorkflowState.COMPLETED}])
def test_labels_are_found_by_an_index(outside: Outside, filters: dict[str, Any]) -> None:
    with open_store(outside.url) as store:
        for number in range(300):
            store.save(record(number, labels={"team": "rare" if number == 7 else f"t{number % 50}", "n": str(number)}))
        if outside.is_postgres:
            outside.run("ANALYZE szal_executions")
            outside.run("SET enable_seqscan = off")
        selection = Selection.of(limit=20, labels={"team": "rare"}, **filters)
        said: Any = store._database.statements  # type: ignore[union-attr]
        statement, parameters = said.page(selection)
        explain = "EXPLAIN " if outside.is_postgres else "EXPLAIN QUERY PLAN "
        plan = "\n".join(str(row) for row in outside.db.execute(explain + statement, parameters).fetchall())
        assert "szal_executions_labels" in plan or "SEARCH szal_labels USING PRIMARY KEY (key=? AND value=?)" in plan, (
            plan
        )
        assert [each.execution_id for each in store.find(labels={"team": "rare", "n": "7"}, **filters)] == ["e00007"]
        assert store.count(labels={"team": "rare", "n": "8"}) == 0


LABELLED: list[dict[str, Any]] = [
    {"labels": {"place": "all"}},
    {"labels": {"place": "all"}, "flow_name": "ci"},
    {"labels": {"place": "all"}, "states": WorkflowState.COMPLETED},
    {"labels": {"place": "all", "n": "3"}},
    {"labels": {"n": "3", "place": "all"}},
    {"labels": {"place": "all"}, "flow_name": "rare"},
    {"labels": {"place": "all"}, "flow_name": "none"},
    {"labels": {"place": "all"}, "states": WorkflowState.RUNNING},
    {"labels": {"place": "all"}, "flow_name": "ci", "states": [WorkflowState.RUNNING, WorkflowState.PAUSED]},
    {"labels": {"place": "all", "n": "3"}, "flow_name": "ci"},
]


def test_a_label_that_all_have_costs_sqlite_no_more_with_more_executions(path: Path) -> None:
    with open_store(f"sqlite:///{path}") as store, closing(sqlite3.connect(path)) as connection:
        costs = []
        store.save(record(3000, "rare", labels={"place": "all"}))
        for first, last in ((0, 1100), (1100, 2500)):
            records = [record(number, labels={"place": "all", "n": str(number)}) for number in range(first, last)]
            store.ledger.apply([Save.of(each) for each in records])
            costs.append([steps_of(connection, store, Selection.of(limit=5, **filters)) for filters in LABELLED])
        assert all(after <= before + 50 for before, after in zip(*costs, strict=True)), costs


def test_labels_and_other_filters_together(outside: Outside) -> None:
    """Whichever way is taken, the same is found as by looking at each."""
    states = [WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.RUNNING]
    records = [
        record(
            n, f"f{n % 7 % 3}", states[n % 11 % 3], labels={"even": str(n % 2), **({"third": "yes"} if n % 3 else {})}
        )
        for n in range(60)
    ]
    given: list[dict[str, Any]] = [
        {"labels": labels} | flow | state | since
        for labels in ({"even": "1"}, {"even": "0", "third": "yes"}, {"even": "2"}, {"third": "yes", "even": "3"})
        for flow in ({}, {"flow_name": "f1"}, {"flow_name": "none"})
        for state in ({}, {"states": states[1]}, {"states": states[:2]}, {"states": WorkflowState.CREATED})
        for since in ({}, {"since": records[20].started_at}, {"until": records[30].started_at})
    ]
    with open_store(outside.url) as store, open_store("memory:") as judge:
        for each in (store, judge):
            each.ledger.apply([Save.of(one) for one in records])
        for filters in given:
            expected = judge.find(limit=None, **filters)
            assert store.find(limit=None, **filters) == expected, filters
            assert store.count(**filters) == len(expected), filters
            assert store.find(limit=2, **filters) == expected[:2], filters
            if len(expected) > 2:
                assert store.find(limit=2, after=expected[1], **filters) == expected[2:4], filters


def steps_of(connection: sqlite3.Connection, store: Any, selection: Selection) -> int:
    """Return how many steps SQLite's machine takes for a page, to the ten."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 10
        return 0

    connection.set_progress_handler(count, 10)
    connection.execute(*store._database.statements.page(selection)).fetchall()
    connection.set_progress_handler(None, 0)
    return steps


def test_sqlite_keeps_the_start_of_what_has_a_label(path: Path) -> None:
    """Whoever writes, and whichever of the two changes."""
    outside = Outside(f"sqlite:///{path}")
    with closing(outside.db), open_store(outside.url) as store:
        kept = "SELECT * FROM szal_labels"
        store.save(record(1, labels={"team": "a"}))
        ((started,),) = outside.run("SELECT started FROM szal_executions")
        assert outside.run(kept) == [("team", "a", started, "e00001")]
        outside.save(encode_record(record(1, labels={"team": "a"}, started_at=NOON.replace(year=2030))))
        ((later,),) = outside.run("SELECT started FROM szal_executions")
        assert later > started
        assert outside.run(kept) == [("team", "a", later, "e00001")]
        outside.run("UPDATE szal_executions SET data = replace(data, '2030', 'never')")
        assert outside.run(kept) == [("team", "a", "", "e00001")]
        assert [each.started_at for each in store.find(labels={"team": "a"})] == [None]
        with pytest.raises(DecodeError):
            store.remove("e00001")
        assert outside.run(kept) == []


def test_labels_of_before_they_were_kept_with_the_start_are_upgraded(path: Path) -> None:
    outside = Outside(f"sqlite:///{path}")
    with closing(outside.db):
        with open_store(outside.url) as store:
            store.save(record(1, labels={"team": "a"}))
        outside.run("DROP TABLE szal_labels")
        outside.run(
            "CREATE TABLE szal_labels (key TEXT NOT NULL, value TEXT NOT NULL, execution_id TEXT NOT NULL,"
            " PRIMARY KEY (key, value, execution_id)) WITHOUT ROWID"
        )
        outside.run("INSERT INTO szal_labels VALUES ('team', 'a', 'e00001')")
        outside.run("DELETE FROM _sqlite_migrations WHERE name = 'm009_labels'")
        with SqliteExecutionStore.connect(path) as store:
            with pytest.raises(NotMigrated, match="column started of table szal_labels"):
                store.find(labels={"team": "a"})
            store.migrate()
            assert [each.execution_id for each in store.find(labels={"team": "a"})] == ["e00001"]
            store.save(record(1))
            assert outside.run("SELECT * FROM szal_labels") == []


# -- definitions ------------------------------------------------------------------------------------


def begin(store: Store, number: int, content_id: str) -> None:
    started = record(number, state=WorkflowState.RUNNING)
    new = NewExecution(record=started, owner="me", ttl=60.0, content_id=content_id, flow="{}")
    assert store.ledger.create(new) is not None


def end(store: Store, number: int) -> None:
    store.ledger.apply([Save.of(record(number)), Release(record(number).execution_id)])


def flows(outside: Outside) -> set[str]:
    return {row[0] for row in outside.run("SELECT content_id FROM szal_flows")}


@pytest.mark.parametrize("way", ["prune", "remove", "write"])
def test_a_definition_goes_with_the_last_execution_of_it(outside: Outside, way: str) -> None:
    ways: dict[str, Callable[[Store], object]] = {
        "prune": lambda store: store.prune(keep=2),
        "remove": lambda store: store.remove("e00000"),
        "write": lambda store: store.ledger.apply([Remove("e00000")]),
    }
    with open_store(outside.url) as store:
        for number, content_id in enumerate(["once", "twice", "twice"]):
            begin(store, number, content_id)
            end(store, number)
        ways[way](store)
        assert flows(outside) == {"twice"}
        store.prune(keep=1)
        assert flows(outside) == {"twice"}
        store.prune(keep=0)
        assert flows(outside) == set()


def test_a_definition_that_is_just_being_used_again_stays(postgres_url: str) -> None:
    """Whoever deletes the last execution of it waits for who begins another, and the other way round."""
    outside = Outside(postgres_url)
    with closing(outside.db), open_store(postgres_url) as store:
        begin(store, 0, "c")
        end(store, 0)
        with outside.db.transaction():
            outside.run("SELECT 1 FROM szal_flows FOR KEY SHARE")
            outside.run(
                "INSERT INTO szal_leases (execution_id, epoch, expires, content_id, recoveries, cancelled)"
                " SELECT 'e9', 1, 0, 'c', 0, 0"
            )
            thread = Thread(target=store.remove, args=("e00000",))
            thread.start()
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%szal_flows%'"
            deadline = monotonic() + 20
            while not outside.db.execute(waiting).fetchall() and monotonic() < deadline:
                outside.db.execute("SELECT pg_stat_clear_snapshot()")
        thread.join(20)
        assert not thread.is_alive()
        assert flows(outside) == {"c"}
        assert store.list() == []


# -- prune ------------------------------------------------------------------------------------------


def statements_of(store: Any, work: Callable[[], object]) -> int:
    """Return how many statements *work* makes: those that the database is asked through its seam."""
    database, count = store._database, 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            return method(*arguments, **options)

        return call

    for name in ("read", "read_of", "transact"):
        setattr(database, name, counted(getattr(database, name)))
    try:
        work()
    finally:
        for name in ("read", "read_of", "transact"):
            delattr(database, name)
    return count


def sent_to_sqlite(store: Any, work: Callable[[], object]) -> int:
    """Return how many statements SQLite runs for *work*."""
    sent: list[str] = []
    connections = [store._database._writer, *store._database._reader._connections]

    def trace(callback: Callable[[str], object] | None) -> None:
        for connection in connections:
            connection.use(lambda db: db.conn.set_trace_callback(callback))

    trace(sent.append)
    try:
        work()
    finally:
        trace(None)
    return len(sent)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_prune_asks_as_much_of_many_flows_as_of_one(outside: Outside, keep: int) -> None:
    counts = []
    with open_store(outside.url) as store:
        for flow_count in (1, 50, 200):
            store.ledger.apply([Save.of(record(number, f"f{number % flow_count}")) for number in range(200)])
            counts.append(statements_of(store, lambda: store.prune(keep=keep)))
            assert store.count() == min(200, keep * flow_count)
            store.prune(keep=0)
    assert len({*counts}) <= 2, counts
    assert max(counts) <= 12, counts


@pytest.mark.parametrize("keep", [20, 1000])
def test_prune_does_not_look_through_what_stays(outside: Outside, keep: int) -> None:
    """A flow of long ago has thirty executions, and each of many others one."""
    counts = []
    with open_store(outside.url) as store:
        for last in (50, 400):
            store.ledger.apply([Save.of(record(n, "old" if n < 30 else f"f{n}")) for n in range(last)])
            counts.append(statements_of(store, lambda: store.prune(keep=keep, batch=10)))
            assert store.count() == last - max(0, 30 - keep)
    assert counts[0] == counts[1], counts


def test_prune_reads_no_heads_of_what_is_live(outside: Outside) -> None:
    with open_store(outside.url) as store:
        store.save(record(1, state=WorkflowState.RUNNING, parent_execution_id="e00002"))
        store.save(record(2))
        store.save(record(3))
        outside.run("UPDATE szal_executions SET head = 'never read'")
        assert store.prune(keep=0) == 1
        assert store.list() == ["e00001", "e00002"]


# -- what was interrupted ---------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["direct", "sink"])
def test_the_interrupted_are_found_by_as_many_statements_however_many_there_are(outside: Outside, through: str) -> None:
    counts = []
    with open_store(outside.url) as store:
        for count in (1, 40):
            for number in range(count):
                if store.get(f"e{number:05}") is None:
                    begin(store, number, "c")
            outside.run("UPDATE szal_leases SET owner = NULL, expires = 0")
            with store.engine_sink() as sink:
                config = EngineConfig(execution_store=store if through == "direct" else sink)
                with Engine(lambda ctx: None, config) as engine:
                    counts.append((statements_of if outside.is_postgres else sent_to_sqlite)(store, engine.interrupted))
                    assert len(engine.interrupted()) == count
    assert counts[0] == counts[1] <= 4, counts


def test_any_number_of_executions_can_be_asked_for_at_once(outside: Outside) -> None:
    """A server takes 65 535 parameters."""
    with open_store(outside.url) as store:
        begin(store, 1, "c")
        asked = ["e00001", *(f"x{number}" for number in range(70_000))]
        assert [row.execution_id for row in store.ledger.records(asked)] == ["e00001"]


def test_a_database_of_the_schema_before_is_upgraded(outside: Outside) -> None:
    """It has the notes of all migrations but the last three, an index of an expression, and a definition too many."""
    open_store(outside.url).close()
    for name in ("fill_one", "fill_new", "fill_changed", "labels_new", "labels_changed", "labels_gone"):
        outside.run(f"DROP TRIGGER IF EXISTS szal_{name}" + (" ON szal_executions" if outside.is_postgres else ""))
    outside.run("DROP VIEW IF EXISTS szal_fill")
    for name in ("flow", "state", "started", "labels", "parent", "keys"):
        outside.run(f"DROP INDEX IF EXISTS szal_executions_{name}")
    for name in COLUMNS:
        outside.run(f"ALTER TABLE szal_executions DROP COLUMN {name}")
    field = "szal_field(data)" if outside.is_postgres else "json_extract(data, '$.state')"
    if outside.is_postgres:
        outside.run(
            "CREATE FUNCTION szal_field(data text) RETURNS text IMMUTABLE LANGUAGE sql"
            " AS $$ SELECT data::json ->> 'state' $$"
        )
    outside.run(f"CREATE INDEX szal_executions_state ON szal_executions (({field}))")
    notes = "szal_migrations" if outside.is_postgres else "_sqlite_migrations"
    outside.run(f"DELETE FROM {notes} WHERE name > 'm006'")
    outside.run("INSERT INTO szal_flows VALUES ('left', '{}')")
    for sample in SAMPLES:
        outside.save(encode_record(sample))
    with open_store(outside.url) as store:
        assert store.count(labels={"team": "a"}) == 1
        assert len(store.find(limit=None)) == len(SAMPLES)
        assert flows(outside) == set()
