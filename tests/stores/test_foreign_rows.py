"""Rows that somebody else wrote, by hand or with another program: none of them breaks what concerns the others."""

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores.outside import RUST_TABLE, Outside
from stores.samples import NOON, record

from szal import Engine, EngineConfig, ExecutionRecord, ExecutionSummary
from szal.engine.lineage import child_id
from szal.errors import DecodeError
from szal.model.state import WorkflowState
from szal.stores import SqliteExecutionStore, Store, open_store
from szal.stores.filters import key_of
from szal.stores.ledger import NewExecution

LONG = "9" * 5000
OLD = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))


def row(**fields: object) -> str:
    """A record of szal-rs's that ended long ago, with some fields another way; ``raw`` text stays as it is."""
    values = {
        "execution_id": "p",
        "flow_name": "ci",
        "state": "Completed",
        "result": None,
        "started_at": "2020-01-01T00:00:00Z",
        "finished_at": "2020-01-01T00:00:01Z",
    } | fields
    return as_object({key: value for key, value in values.items() if value is not MISSING})


def as_object(values: dict[str, object]) -> str:
    texts = {key: value.text if isinstance(value, Raw) else json.dumps(value) for key, value in values.items()}
    return f"{{{', '.join(f'{json.dumps(key)}: {text}' for key, text in texts.items())}}}"


class Raw:
    """JSON, or not, as it stands."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Raw({self.text[:30]})"


MISSING = Raw("")

# What cannot be judged of each, and the field that `get` names; None: `get` can read it.
TIMES = {
    "year 1": "0001-01-01T00:00:00+14:00",
    "year 9999": "9999-12-31T23:59:59-14:00",
    "no day": "2026-02-30T00:00:00Z",
    "no time": "yesterday",
    "later than all, as a text": "~",
    "no offset": "2026-01-01T00:00:00",
    "missing": MISSING,
    "null": None,
    "a number": 1767225600,
    "huge": Raw(LONG),
    "an object": {"a": 1},
    "true": True,
}
LABELS: dict[str, object] = {
    "5000 digits": {"team": "a", "n": Raw(LONG)},
    "5000 digits as a text": {"team": "a", "n": LONG},
    "a list": [1],
    "a text": "team",
    "nested": Raw("[" * 2000 + "]" * 2000),
    "nested less": {"team": "a", "deep": Raw("[" * 900 + "]" * 900)},
    "a NUL": {"team": "a", "x": "\0"},
    "half a pair": {"team": "a", "x": Raw(r'"\ud800"')},
    "null": {"team": None},
}
WHOLE = ["", "null", "5", "[1]", '"text"', "{", "{a: 1}", "NaN", "[" * 2000 + "]" * 2000, LONG, "\N{SNOWMAN}", "{}"]
STATES: list[object] = ["Lost", "completed", "", "x" * 100_000, None, 7, ["Completed"], {"a": 1}, Raw(LONG), MISSING]


@pytest.fixture
def store(outside: Outside) -> Iterator[Store]:
    with open_store(outside.url) as store:
        yield store


FILTERS: dict[str, Any] = {
    "flow_name": "ci",
    "states": [WorkflowState.COMPLETED, WorkflowState.RUNNING],
    "labels": {"team": "a"},
    "since": OLD,
    "until": datetime.max.replace(tzinfo=UTC),
}


# Alone, in pairs with the flow, and all; each of the 32 where there is time for it.
SOME = 300 if os.environ.get("SZAL_TEST_FULL") else 12
COMBINATIONS = [
    names
    for count in range(len(FILTERS) + 1)
    for names in combinations(FILTERS, count)
    if count in (0, 1, len(FILTERS)) or (count == 2 and "flow_name" in names) or os.environ.get("SZAL_TEST_FULL")
]


def check(store: Store, bad: Sequence[str]) -> None:
    """Check that all works, with the rows *bad* beside one that is right and passes all filters."""
    good = record(1, labels={"team": "a"})
    store.save(good)
    listed = store.find(limit=None)
    assert sorted(each.execution_id for each in listed) == sorted([good.execution_id, *bad])
    assert store.list() == store.list("ci") == [each.execution_id for each in reversed(listed)]
    assert store.count() == len(listed)
    for names in COMBINATIONS:
        filters: Any = {name: FILTERS[name] for name in names}
        expected = [each for each in listed if passes(each, filters)]
        assert good.execution_id in [each.execution_id for each in expected]
        assert store.find(limit=None, **filters) == expected, names
        assert store.find(limit=100, **filters) == expected, names
        assert store.count(**filters) == len(expected), names
    middle = len(listed) // 2
    for after in (listed[middle], listed[middle].execution_id):
        assert store.find(limit=None, after=after) == listed[middle + 1 :]
    paged = store.find(limit=5)
    while page := store.find(limit=5, after=paged[-1]):
        paged += page
    assert paged == listed


def passes(summary: ExecutionSummary, filters: dict[str, Any]) -> bool:
    timed = summary.started_at is not None
    return (
        summary.state in filters.get("states", [summary.state])
        and filters.get("labels", {}).items() <= summary.labels.items()
        and (timed or not filters.keys() & {"since", "until"})
        and ("since" not in filters or summary.started_at >= filters["since"])  # type: ignore[operator]
        and ("until" not in filters or summary.started_at < filters["until"])  # type: ignore[operator]
    )


def insert(outside: Outside, rows: Mapping[str, str]) -> None:
    for execution_id, data in rows.items():
        outside.insert(data, execution_id)


def by_id(store: Store) -> dict[str, ExecutionSummary]:
    return {each.execution_id: each for each in store.find(limit=None)}


def check_get(store: Store, execution_id: str, field: str | None) -> None:
    """Check that `get` and `remove` name *field*, and that the row is gone after that."""
    with pytest.raises(DecodeError, match=re.escape(f"in the record of execution {execution_id!r}")) as raised:
        store.get(execution_id)
    if field is not None:
        assert raised.value.path == field
    with pytest.raises(DecodeError):
        store.remove(execution_id)
    assert store.get(execution_id) is None


def test_a_start_that_is_none_is_no_start(store: Store, outside: Outside) -> None:
    insert(outside, {name: row(started_at=time, labels={"team": "a"}) for name, time in TIMES.items()})
    check(store, [*TIMES])
    found = by_id(store)
    for name in TIMES:
        assert (found[name].state, found[name].started_at) == (WorkflowState.COMPLETED, None)
        assert found[name].labels == {"team": "a"}
    assert store.find(until=NOON) == []
    assert store.prune(keep=1) == 0  # nobody can tell how new they are
    assert store.prune(older_than=10**9) == 0
    for name in TIMES:
        check_get(store, name, "started_at")


def test_an_end_that_is_none_is_never_old(store: Store, outside: Outside) -> None:
    times = {name: time for name, time in TIMES.items() if time not in (MISSING, None)}
    insert(outside, {name: row(finished_at=time) for name, time in times.items()})
    check(store, [*times])
    found = by_id(store)
    for name in times:
        assert (found[name].started_at, found[name].finished_at) == (datetime(2020, 1, 1, tzinfo=UTC), None)
    assert store.prune(older_than=0) == 1
    assert {*store.list()} == times.keys()
    for name in [*times][1:]:
        check_get(store, name, "finished_at")
    assert store.prune(keep=0) == 1  # without a look at any time


def test_a_state_that_szal_does_not_know_is_none(store: Store, outside: Outside) -> None:
    states = {f"p{number}": state for number, state in enumerate(STATES)}
    insert(outside, {name: row(state=state) for name, state in states.items()})
    check(store, [*states])
    found = by_id(store)
    assert [found[name].state for name in states] == [None] * len(states)
    assert store.prune(older_than=0) == 1
    assert store.prune(keep=0) == 0
    for name in states:
        check_get(store, name, "state")


def test_labels_that_are_none_are_left_out(store: Store, outside: Outside) -> None:
    insert(
        outside,
        {
            name: row(labels=Raw(as_object(labels)) if isinstance(labels, dict) else labels)
            for name, labels in LABELS.items()
        },
    )
    check(store, [*LABELS])
    found = by_id(store)
    if not outside.is_postgres:  # SQLite reads no JSON that deep
        assert found.pop("nested").state is None
    found.pop("e00001")
    for name, summary in found.items():
        assert (summary.state, summary.started_at) == (WorkflowState.COMPLETED, datetime(2020, 1, 1, tzinfo=UTC))
        assert ("team" in summary.labels) == (name not in ("a list", "a text", "nested", "null"))
    assert store.prune(older_than=0) == len(found) + 1


def test_what_is_no_record_is_listed_with_nothing_but_its_id(store: Store, outside: Outside) -> None:
    rows = {f"p{number}": data for number, data in enumerate(WHOLE)}
    insert(outside, rows)
    check(store, [*rows])
    found = by_id(store)
    for name in rows:
        assert found[name] == ExecutionSummary(execution_id=name, flow_name="ci", state=None, started_at=None)
    assert store.prune(keep=0) == 1
    for name in rows:
        check_get(store, name, None)


# -- upgrading --------------------------------------------------------------------------------------


def rows() -> Iterator[str]:
    """Yield one of each kind."""
    yield from WHOLE
    yield from (row(started_at=each) for each in TIMES.values())
    yield from (row(finished_at=each) for each in TIMES.values())
    yield from (row(state=each) for each in STATES)
    yield row(labels=Raw("[" * 900 + "]" * 900), error=Raw(LONG), parent_execution_id=Raw(r'"\ud800"'))
    yield row(error=Raw(r'"\udfff"'), labels=Raw(rf'{{"team": "a", "x": "\ud800", "\u0000": "{LONG}"}}'))


def test_a_database_with_all_of_them_is_upgraded(outside: Outside) -> None:
    outside.run(RUST_TABLE)
    for number, data in enumerate(rows()):
        outside.insert(data, f"p{number}")
    with open_store(outside.url) as store:
        check(store, [f"p{number}" for number in range(len([*rows()]))])
        before = store.find(limit=None)
        for number, data in enumerate(rows()):  # and as one changes, it says the same
            outside.run("UPDATE szal_executions SET data = '{}' WHERE execution_id = ?", f"p{number}")
            outside.run("UPDATE szal_executions SET data = ? WHERE execution_id = ?", data, f"p{number}")
        assert store.find(limit=None) == before
    # As a version before this one has left them, which took texts for times and JSON of any depth for a summary.
    outside.run("UPDATE szal_executions SET started = NULL, state = '[1]', finished = '~'")
    outside.run("UPDATE szal_executions SET head = ?", f'["Completed", {LONG}, [], 7]')
    outside.run(
        f"DELETE FROM {'szal' if outside.is_postgres else '_sqlite'}_migrations WHERE name = 'm008_foreign_rows'"
    )
    with open_store(outside.url) as store:
        assert store.find(limit=None) == before


def test_bytes_that_are_no_text_are_listed(sqlite: SqliteExecutionStore, path: Path) -> None:
    """SQLite takes any bytes for text, bytes for whatever, and NULL for an id, which no execution has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number, data in enumerate(("CAST(X'ff' AS TEXT)", "X'ff'", "7", "CAST('[' || X'ff' AS TEXT)")):
            connection.execute(
                f"INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('p{number}', 'ci', {data})"
            )
        for execution_id in ("NULL", "X'ff'"):
            connection.execute(
                f"INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ({execution_id}, 'ci', ?)",
                [row()],
            )
        connection.execute(
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ('named', CAST(X'ff' AS TEXT), ?)",
            [row(error=Raw(r'"\ud800"'))],
        )
    assert {each.execution_id for each in sqlite.find(flow_name="ci")} == {"p0", "p1", "p2", "p3"}
    (named,) = sqlite.find(states=WorkflowState.COMPLETED)
    assert named.execution_id == "named"
    assert str(named.error).encode()
    assert sorted(sqlite.list()) == ["named", "p0", "p1", "p2", "p3"]
    assert sqlite.count() == 5
    for number in range(4):
        with pytest.raises(DecodeError, match=f"in the record of execution 'p{number}'"):
            sqlite.get(f"p{number}")
    assert sqlite.prune(older_than=0, batch=1) == 1


# -- an engine --------------------------------------------------------------------------------------


def test_they_keep_no_engine_from_what_it_can_go_on_with(store: Store, outside: Outside) -> None:
    for number, data in enumerate(rows()):
        begun = record(0, state=WorkflowState.RUNNING)
        new = NewExecution(
            record=type(begun)(f"p{number}", "ci", begun.state), owner="me", ttl=1.0, content_id="c", flow="{}"
        )
        assert store.ledger.create(new) is not None
        outside.run("UPDATE szal_executions SET data = ? WHERE execution_id = ?", data, f"p{number}")
    running = record(1, state=WorkflowState.RUNNING)
    assert store.ledger.create(NewExecution(record=running, owner="me", ttl=1.0, content_id="c", flow="{}"))
    outside.run("UPDATE szal_leases SET owner = NULL, expires = 0")
    with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as engine:
        assert engine.interrupted() == [running.execution_id]
        assert engine.recover() == []
    assert store.prune(older_than=0, keep=1) >= 0


def test_sub_flows_of_each_other_keep_no_engine_from_the_others(store: Store, outside: Outside) -> None:
    circle = [child_id("p", "a", number) for number in range(3)]
    running = record(1, state=WorkflowState.RUNNING)
    for name in (*circle, running.execution_id):
        begun = ExecutionRecord(name, "ci", WorkflowState.RUNNING)
        new = NewExecution(record=begun, owner="me", ttl=1.0, content_id="c", flow="{}")
        assert store.ledger.create(new) is not None
    outside.run("UPDATE szal_leases SET owner = NULL, expires = 0")
    for name, parent in zip(circle, (circle[0], circle[2], circle[1]), strict=True):
        data = row(execution_id=name, state="Running", finished_at=None, parent_execution_id=parent)
        outside.run("UPDATE szal_executions SET data = ? WHERE execution_id = ?", data, name)
    with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as engine:
        assert engine.interrupted() == [running.execution_id]
        for name in circle:
            with pytest.raises(DecodeError, match="is a sub-flow of itself"):
                engine.resume(name)
    assert store.prune(keep=0) == 0


# -- any time ---------------------------------------------------------------------------------------


def near(*parts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(parts)


YEARS = near("0000", "0001", "1999", "2024", "2026", "9999", "10000")
DAYS = near("01-01", "02-28", "02-29", "02-30", "04-31", "12-31", "13-01", "00-10", "06-00")
CLOCKS = near("00:00:00", "23:59:59", "24:00:00", "23:59:60", "12:60:00", "12:00")
FRACTIONS = near("", ".", ".5", ".000001", ".999999999", ".12345678901234567890", ",5", ".1x")
ZONES = near(
    "", "Z", "z", "+00:00", "-00:00", "+14:00", "-14:00", "+23:59", "-23:59", "+24:00", "+01:60", "+0100", "+1:00"
)
TEXTS = st.builds("".join, st.tuples(YEARS, st.just("-"), DAYS, near("T", "T", " ", "t"), CLOCKS, FRACTIONS, ZONES))


@given(texts=st.lists(TEXTS | st.text(max_size=30), min_size=1, max_size=40))
@settings(max_examples=SOME, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_databases_tell_a_time_as_python_does(store: Store, outside: Outside, texts: list[str]) -> None:
    outside.run("DELETE FROM szal_executions")
    for number, text in enumerate(texts):
        outside.insert(row(started_at=text, finished_at=text), f"p{number:02}")
    found = outside.run("SELECT started, finished FROM szal_executions ORDER BY execution_id")
    assert found == [(key_of(text), key_of(text)) for text in texts]
    assert {each.execution_id: each.position for each in store.find()} == {
        f"p{number:02}": key_of(text) for number, text in enumerate(texts)
    }


# -- any row ----------------------------------------------------------------------------------------

SCALARS = st.sampled_from([None, True, 7, -1.5, 10**4500, "", "a", "ci", "~", "Running", "9" * 5000])
ANYTHING = SCALARS | st.sampled_from([[], [1], {}, {"team": "a"}, {"a": {"b": [None]}}])
KNOWN_STATES = st.sampled_from([state.value for state in WorkflowState])
KNOWN_TIMES = near(
    "2020-01-01T00:00:00Z", "2026-06-10T12:00:00.5+02:00", "0001-01-01T00:00:00Z", *map(str, TIMES.values())
)
FIELDS = {
    "state": KNOWN_STATES | ANYTHING,
    "started_at": KNOWN_TIMES | ANYTHING,
    "finished_at": KNOWN_TIMES | ANYTHING,
    "labels": st.dictionaries(near("team", "ü", '"', ""), near("a", "b") | ANYTHING, max_size=3) | ANYTHING,
    "parent_execution_id": near("p00", "p01", "p02") | ANYTHING,
    "error": ANYTHING,
}
RECORDS = st.fixed_dictionaries({}, optional=FIELDS)


def text_of(value: Any) -> str:
    """Return *value* as JSON, whatever its size."""
    if isinstance(value, dict):
        return as_object({key: Raw(text_of(item)) for key, item in value.items()})
    return "1" + "0" * 4500 if value == 10**4500 else json.dumps(value)


def summary_of(number: int, fields: dict[str, Any]) -> ExecutionSummary:
    """Return what is to be listed: each field, if it is what it should be."""

    def time(name: str) -> datetime | None:
        key = key_of(fields.get(name))
        return datetime.fromisoformat(fields[name]).astimezone(UTC) if key else None

    def text(name: str) -> str | None:
        return fields[name] if isinstance(fields.get(name), str) else None

    labels = fields.get("labels")
    state = fields.get("state")
    return ExecutionSummary(
        execution_id=f"p{number:02}",
        flow_name="ci",
        state=WorkflowState(state) if state in [known.value for known in WorkflowState] else None,
        started_at=time("started_at"),
        finished_at=time("finished_at"),
        parent_execution_id=text("parent_execution_id"),
        labels={k: v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {},
        error=text("error"),
    )


@given(records=st.lists(RECORDS, min_size=1, max_size=8), keep=st.integers(0, 3), years=st.sampled_from([None, 0, 100]))
@settings(max_examples=SOME // 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_any_row_what_can_be_read_is_listed_and_judged(
    store: Store, outside: Outside, records: list[dict[str, Any]], keep: int, years: int | None
) -> None:
    outside.run("DELETE FROM szal_executions")
    for number, fields in enumerate(records):
        outside.insert(text_of(fields), f"p{number:02}")
    expected = {f"p{number:02}": summary_of(number, fields) for number, fields in enumerate(records)}
    check(store, [*expected])
    store.remove("e00001")
    assert {each.execution_id: each for each in store.find(limit=None)} == expected
    assert store.prune(older_than=None if years is None else years * 365.25 * 86400, keep=keep) >= 0
    left = {*store.list()}
    for execution_id, summary in expected.items():
        if execution_id not in left:
            assert summary.state is not None
            assert not summary.state.is_live
            assert not keep or summary.started_at is not None
            told = records[int(execution_id[1:])].get("finished_at")
            assert years is None or (summary.started_at if told is None else summary.finished_at) is not None
