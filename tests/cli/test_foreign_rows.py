"""Rows that somebody else wrote, on the command line."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import open_store

ROW = (
    '{"execution_id":"%s","flow_name":"ci","state":"%s","result":%s,"started_at":"%s",'
    '"finished_at":"2020-01-01T00:00:01Z","error":%s}'
)
ROWS = {
    "year-1": ROW % ("year-1", "Completed", "null", "0001-01-01T00:00:00+14:00", "null"),
    "lost": ROW % ("lost", "Lost", "null", "2020-01-01T00:00:00Z", r'"\ud800"'),
    "stopped": ROW % ("stopped", "Paused", "5", "2020-01-01T00:00:00Z", '"interrupted"'),
    "nothing": "",
    "huge": ROW % ("huge", "Completed", "9" * 5000, "2020-01-01T00:00:00Z", "9" * 5000),
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a database with all of them and one execution of szal's is."""
    url = f"sqlite:///{tmp_path}/foreign.db"
    with open_store(url) as store:
        store.save(ExecutionRecord("good", "ci", WorkflowState.COMPLETED))
    with closing(sqlite3.connect(tmp_path / "foreign.db", isolation_level=None)) as connection:
        connection.executemany(
            "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, 'ci', ?)", ROWS.items()
        )
    return url


def test_all_are_listed(szal: Any, url: str) -> None:
    result = szal("list", "--store", url)
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split()[1:4] for line in result.stdout.splitlines()[1:]}
    assert lines.keys() == {"good", *ROWS}
    assert lines["nothing"] == ["ci", "·", "unknown"]
    assert lines["year-1"] == ["ci", "✓", "completed"]
    items = {item["execution_id"]: item for item in json.loads(szal("list", "--store", url, "--json").stdout)}
    assert (items["year-1"]["state"], items["year-1"]["started_at"]) == ("Completed", None)
    assert (items["lost"]["state"], items["lost"]["started_at"]) == (None, "2020-01-01T00:00:00+00:00")
    only = json.loads(szal("list", "--store", url, "--json", "--state", "paused", "--flow", "ci").stdout)
    assert [item["execution_id"] for item in only] == ["stopped"]


PROBLEMS = {
    "year-1": "started_at: '0001-01-01T00:00:00+14:00' is outside the years",
    "lost": "state: 'Lost' is none of",
    "stopped": "result: expected an object",
    "nothing": "not JSON",
    "huge": "result: an integer of 5000 digits",
}


def test_to_show_one_says_what_is_wrong_with_it(szal: Any, url: str) -> None:
    for name, problem in PROBLEMS.items():
        result = szal("show", name[:3], "--store", url)  # the beginning is enough
        assert result.exit_code != 0
        assert problem in result.stderr
        assert f"in the record of execution '{name}'" in result.stderr


def test_they_keep_nothing_from_being_pruned_or_recovered(szal: Any, url: str) -> None:
    assert szal("recover", "--store", url).exit_code == 0
    assert szal("show", "go", "--store", url).exit_code == 0
    assert szal("prune", "--older-than", "1d", "--store", url).exit_code == 0
    with open_store(url) as store:
        assert {*store.list()} == {"good", "lost", "stopped", "nothing"}
