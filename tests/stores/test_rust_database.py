"""One database with szal-rs: what it made is opened in place, and what szal writes it can read."""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from stores.samples import NOON, WIRE, record

from szal.model.json import decode_record
from szal.model.results import FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.stores import Store, open_store

RECORDS = {
    name: (WIRE / f"record-{name}.json").read_text() for name in ("completed", "failed", "rolled-back", "running")
}
U64 = 2**64


class Rust:
    """szal-rs's side of the database: its schema, its statements, and the rules of its decoder."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mark = "%s" if url.startswith("postgresql:") else "?"
        self.db: Any = (
            psycopg.connect(url, autocommit=True)
            if url.startswith("postgresql:")
            else sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        )

    def create(self) -> None:
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS szal_executions (\n    execution_id TEXT PRIMARY KEY,\n"
            "    flow_name TEXT NOT NULL,\n    data TEXT NOT NULL\n)"
        )

    def save(self, data: str) -> None:
        fields = json.loads(data)
        self.db.execute(
            f"INSERT INTO szal_executions (execution_id, flow_name, data) VALUES ({', '.join([self.mark] * 3)})"
            " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data",
            (fields["execution_id"], fields["flow_name"], data),
        )

    def read(self, execution_id: str) -> dict[str, Any]:
        statement = f"SELECT data FROM szal_executions WHERE execution_id = {self.mark}"
        (data,) = self.db.execute(statement, (execution_id,)).fetchone()
        fields = json.loads(data)
        self._check_record(fields)
        return dict(fields)

    def _check_record(self, fields: dict[str, Any]) -> None:
        assert type(fields["execution_id"]) is type(fields["flow_name"]) is str
        assert fields["state"] in {state.value for state in WorkflowState}
        assert datetime.fromisoformat(fields["started_at"]).utcoffset() is not None
        assert fields["finished_at"] is None or datetime.fromisoformat(fields["finished_at"]).utcoffset() is not None
        if (result := fields["result"]) is not None:
            assert type(result["flow_name"]) is str
            assert type(result["success"]) is type(result["rolled_back"]) is bool
            self._check_u64(result["total_duration_ms"])
            for step in result["steps"]:
                assert str(uuid.UUID(step["step_id"])) == step["step_id"]
                assert step["status"] in {status.value for status in StepStatus}
                assert "output" in step
                self._check_u64(step["duration_ms"])
                self._check_u64(step["attempts"])
                assert step["attempts"] < 2**32
                assert step["error"] is None or type(step["error"]) is str

    @staticmethod
    def _check_u64(value: object) -> None:
        assert type(value) is int
        assert 0 <= value < U64


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    """Where an empty database is."""
    postgres: str = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return postgres or f"sqlite:///{path}"


@pytest.fixture
def rust(url: str) -> Iterator[Rust]:
    """A database that szal-rs made, with a record in each of four states."""
    rust = Rust(url)
    rust.create()
    for data in RECORDS.values():
        rust.save(data)
    yield rust
    rust.db.close()


@pytest.fixture
def store(rust: Rust) -> Iterator[Store]:
    with open_store(rust.url) as store:
        yield store


def test_a_database_of_szal_rs_is_upgraded_in_place(rust: Rust, store: Store) -> None:
    assert store.list() == [
        "7c1d2e3f-0a1b-4c2d-9e3f-405162738495",
        "e3",
        "5b0c3a0e-1c4a-49d4-8d3b-4f2f7f6d9c11",
        "0b8f6a52-61a6-4b53-9f0f-1f4f6a3e7a01",
    ]
    assert store.list("deploy") == ["e3", "0b8f6a52-61a6-4b53-9f0f-1f4f6a3e7a01"]
    for data in RECORDS.values():
        saved = decode_record(data)
        assert store.get(saved.execution_id) == saved


@pytest.mark.parametrize("name", list(RECORDS))
def test_its_records_are_found_by_state(store: Store, name: str) -> None:
    expected = decode_record(RECORDS[name])
    (summary,) = store.find(states=expected.state)
    assert summary.execution_id == expected.execution_id
    assert (summary.started_at, summary.finished_at) == (expected.started_at, expected.finished_at)
    assert store.find(flow_name=expected.flow_name, states=expected.state) == [summary]


def test_rows_that_rust_adds_later_are_found(rust: Rust, store: Store) -> None:
    rust.save(RECORDS["running"].replace("0b8f6a52", "ffffffff").replace("22.019384756", "22.019384999"))
    running = store.find(states=WorkflowState.RUNNING)
    assert [summary.execution_id[:8] for summary in running] == ["ffffffff", "0b8f6a52"]
    assert store.find(states=WorkflowState.RUNNING, after=running[0]) == running[1:]
    rust.save(RECORDS["running"].replace('"Running"', '"Cancelled"'))
    assert [summary.state for summary in store.find(flow_name="deploy")][1] is WorkflowState.CANCELLED
    assert store.count(states=WorkflowState.RUNNING) == 1


@pytest.mark.parametrize("through", ["store", "sink"])
def test_what_szal_updates_rust_can_read(rust: Rust, store: Store, through: str) -> None:
    running = decode_record(RECORDS["running"])
    steps = [
        StepResult(str(uuid.uuid4()), "build", StepStatus.COMPLETED, {"n": U64 - 1}, 1e18, 2**31, started_at=NOON),
        StepResult(str(uuid.uuid4()), "test", StepStatus.FAILED, None, -1.0, 1, "ValueError: \ud800", "ValueError"),
    ]
    result = FlowResult("deploy", steps, 0.0004, False, True, running.execution_id, WorkflowState.ROLLED_BACK, "no")
    done = attrs.evolve(running, state=WorkflowState.ROLLED_BACK, result=result, finished_at=NOON, labels={"a": "b"})
    if through == "store":
        store.save(done)
    else:
        with store.engine_sink() as sink:
            sink.save(running)
            sink.save(done)
    fields = rust.read(running.execution_id)
    assert list(fields)[:6] == list(json.loads(RECORDS["running"]))
    assert fields["state"] == "RolledBack"
    assert fields["result"]["steps"][0]["duration_ms"] == U64 - 1
    assert rust.db.execute("SELECT count(*) FROM szal_executions").fetchone() == (4,)


@pytest.mark.parametrize("name", list(RECORDS))
def test_what_is_read_and_written_back_means_the_same_to_rust(rust: Rust, store: Store, name: str) -> None:
    before = json.loads(RECORDS[name])
    saved = store.get(before["execution_id"])
    assert saved is not None
    store.save(saved)
    after = rust.read(before["execution_id"])

    def moments(fields: dict[str, Any]) -> list[datetime | None]:
        texts = (fields.pop("started_at"), fields.pop("finished_at"))
        return [None if text is None else datetime.fromisoformat(text) for text in texts]

    assert moments(after) == moments(before)
    assert after == before


def test_rust_goes_on_using_a_database_of_szal(url: str) -> None:
    with open_store(url) as store:
        store.save(record(1))
        rust = Rust(url)
        rust.create()
        rust.save(RECORDS["failed"])
        rust.read("e00001")
        assert store.count() == 2
        rust.db.execute("DELETE FROM szal_executions WHERE execution_id = 'e00001'")
        assert store.get("e00001") is None
        rust.db.close()
