"""Each statement on a database that is filled: it uses the indexes that stand with it, and no table is read through."""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from stores.postgres_server import PostgresServer
from stores.samples import NOON

import szal
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores import open_store
from szal.stores.filters import LIVE, Retention, Selection
from szal.stores.heads import UNKNOWN
from szal.stores.postgres.one_execution import in_one, statement_of
from szal.stores.postgres.schema import statements as postgres_statements
from szal.stores.sqlite.statements import SAVE_MANY_STEPS, STATEMENTS
from szal.stores.statements import Composed, Statements
from szal.stores.writes import Lease, NewExecution, Release, Remove, Save, SaveStep, Write

COUNT = 3000
STATES = "['Completed', 'Failed', 'Completed', 'Completed', 'Completed']"
STATE_OF = "CASE WHEN n % 100 = 0 THEN 'Running' WHEN n % 100 = 1 THEN 'Paused' ELSE 'Completed' END"

# One row of parameters for each; a batch takes columns of them.
ROWS: dict[str, tuple[Any, ...]] = {
    "save": ("e1", "ci", "{}", *UNKNOWN),
    "begin": ("new", "ci", "{}", *UNKNOWN),
    "save_step": ("e1", "a", 0, "{}", None),
    "save_held_step": ("e1", "a", 0, "1", None, "e1", 1),
    "steps_since": ("e1", 0),
    "version": ("e1",) * 5,
    "report": ("e1", "a", 1, 0.0, "1", None),
    "unreport": ("e1", "a"),
    "watch": (60.0, "e1"),
    "save_few_steps": (json.dumps([{"execution_id": "e1", "step_name": "a", "seq": 0, "result": "1", "epoch": 1}]),),
    "carry_out_few": (
        json.dumps(
            {
                "held": [{"execution_id": "e1", "epoch": 1}],
                "new": [{"execution_id": "new", "content_id": "c", "flow": "{}", "epoch": 1, "data": "{}"}],
                "steps": [{"execution_id": "e1", "step_name": "a", "seq": 0, "result": "1"}],
                "saves": [{"execution_id": "e1", "flow_name": "ci", "data": "{}"}],
                "releases": [{"execution_id": "e1"}],
            }
        ),
        "w1",
        1,
        "w1",
        3,
    ),
    "add_flow": ("c", "{}", "c"),
    "oldest_kept": (3,),
    "hold_flows": ("c1",),
    "forget_flows": ("c1",),
    "flow": ("c1",),
    "leases.add": ("e1", "me", 1, 60.0, "c1", None, None),
    "leases.take_over": ("me", 1, 60.0, 0, "e1"),
    "claim_now": ('["queue1", "queue2"]', '["queue1", "queue2"]', "[]", 3, 3, 60.0),
    "take_new": ("me", 1, 60.0, "e1", 1, "w", 1, "w", 2),
    "leases.renew": (60.0, None, "e1", "me", 1),
    "leases.under_way": ("{}", "e1", 1),
    "leases.release": (None, None, "e1"),
    "send": ("s1", "go", "1", "e1"),
    "undone": ("{}", "e1", "a"),
    "mark": ("w1", 1, "w1", 2),
    "queue.enqueue": ("new", "default", 0, None, 0.0, "k"),
    "queue.claim": ('["queue1", "queue2"]', "[]", 3, 3, 60.0),
    "queue.due": ("queue1",),
    "queue.ripen": ("queue1",),
    "queue.sweep": ("queue1",),
    "schedules.put": ("nightly", "{}", "{}", 0.0),
    "schedules.remove": ("nightly",),
    "schedules.advance": (1.0, None, "nightly", "{}", 0.0),
    "limits.set_capacity": ("api", 5),
    "limits.remove_capacity": ("api",),
    "limits.ask": ("p", "api", "a", 1, 0, 0.0, "e1", 1),
    "limits.give_back": ("p1",),
    "limits.lock": ("api",),
    "limits.sweep": ("r1",),
    "limits.turn": ('["r1"]', '["p1"]'),
    "limits.grant": ('["r1"]', '["p1"]'),
    "limits.held": ("p1",),
    "limits.take_turns": ("api", 0.1),
    "limits.take_key": ("k", "e1"),
    "limits.free_key": ("e1", "k1"),
    "limits.key_holder": ("k1",),
    "step": ("e1", "a"),
    "end_session": (1, NOON),
    "is_under_way": ("700",),
    **dict.fromkeys(
        (
            "live",
            "leases.candidates",
            "leases.awake",
            "now",
            "forget_marks",
            "queue.announce",
            "limits.announce",
            "limits.capacities",
            "limits.uses",
            "is_there",
            "session",
            "transaction",
            "identity",
            "schedules.all",
            "leases.wake",
        ),
        (),
    ),
}
ONE = ("e1",)  # of the others


class Planner:
    """Tells which indexes of szal's tables a statement uses, and which tables it reads through."""

    def __init__(self, connection: Any, statements: Statements) -> None:
        self.connection = connection
        self.statements = statements

    def plan(self, statement: str, parameters: Sequence[object]) -> list[str]:
        rows = self.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        return [row[3] for row in rows]

    def indexes(self, plan: list[str]) -> set[str]:
        return set(re.findall(r"USING (?:COVERING )?INDEX (\w+)", "\n".join(plan)))

    def read_through(self, plan: list[str]) -> list[str]:
        return [line for line in plan if re.match(r"SCAN (szal_\w+|[elst])\b(?!.* INDEX )", line)]


class PostgresPlanner(Planner):
    """The same for PostgreSQL."""

    def plan(self, statement: str, parameters: Sequence[object]) -> list[str]:
        return [row[0] for row in self.connection.execute(f"EXPLAIN (COSTS OFF) {statement}", parameters).fetchall()]

    def indexes(self, plan: list[str]) -> set[str]:
        return set(re.findall(r"Index (?:Only )?Scan (?:Backward )?(?:using|on) (\w+)", "\n".join(plan)))

    def read_through(self, plan: list[str]) -> list[str]:
        return [line for line in plan if "Seq Scan on szal_" in line]


FILL = """
    INSERT INTO szal_executions (execution_id, flow_name, data)
    SELECT 'e' || n, 'flow' || (n % 4), {record} FROM {numbers};
    INSERT INTO szal_flows SELECT 'c' || n, '{{}}' FROM {numbers};
    INSERT INTO szal_leases (execution_id, epoch, expires, content_id, recoveries, cancelled, pausing)
        SELECT 'e' || n, 1, 0, 'c1', 0, 0, 0 FROM {numbers};
    INSERT INTO szal_steps SELECT 'e' || n, 'a', 0, '{{}}', NULL FROM {numbers};
    INSERT INTO szal_steps SELECT 'e' || n, 'b', 1, '{{}}', 's' || n FROM {numbers};
    INSERT INTO szal_signals SELECT 'e' || n, 's' || n, 'go', '1', 0 FROM {numbers};
    INSERT INTO szal_queue SELECT 'e' || n, 'queue' || (n % 4), n % 3, NULL, n % 2 * 9e9, n, 'k' || n FROM {numbers};
    INSERT INTO szal_concurrency SELECT 'k' || n, 'e' || n FROM {numbers};
    INSERT INTO szal_capacities SELECT 'r' || n, 5 FROM {numbers} WHERE n < 9;
    INSERT INTO szal_permits SELECT 'p' || n, 'r' || (n % 9), 'a', 1, 0, n, 'e' || n, 1, n % 2 FROM {numbers};
    INSERT INTO szal_reports SELECT 'e' || n, 'a', 1, 0, '1', NULL FROM {numbers};
    INSERT INTO szal_schedules SELECT 's' || n, '{{}}', '{{}}', 0, NULL FROM {numbers};
"""


@pytest.fixture(scope="module")
def of_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    """A file with 3000 executions of four flows, and what belongs to them."""
    path = tmp_path_factory.mktemp("statements") / "szal.db"
    open_store(f"sqlite:///{path}").close()
    record = (
        f"json_object('execution_id', 'e' || n, 'state', {STATE_OF}, 'started_at',"
        " strftime('%Y-%m-%dT%H:%M:%SZ', '2026-06-10 12:00', n || ' seconds'), 'labels', json_object('team', 'a'))"
    )
    numbers = f"(WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < {COUNT}) SELECT n FROM i)"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FILL.format(record=record, numbers=numbers))  # and not analysed: szal never does
        yield Planner(connection, STATEMENTS)


@pytest.fixture(scope="module")
def of_postgres(server: PostgresServer) -> Iterator[Planner]:
    """A schema with the same."""
    schema = server.new_schema()
    url = server.url_of(schema)
    open_store(url).close()
    record = (
        f"json_build_object('execution_id', 'e' || n, 'state', {STATE_OF}, 'started_at', to_char(timestamp"
        " '2026-06-10 12:00' + n * interval '1 second', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'finished_at', NULL,"
        " 'parent_execution_id', NULL, 'labels', json_build_object('team', 'a'), 'error', NULL)::text"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.format(record=record, numbers=f"generate_series(1, {COUNT}) AS n").encode())
        connection.execute("ANALYZE")
        # Of so few rows it would rather read them all: this tells whether it need not.
        for way in ("seqscan", "hashjoin", "mergejoin", "hashagg"):
            connection.execute(f"SET enable_{way} = off".encode())
        yield PostgresPlanner(connection, postgres_statements(None))
    server.drop_schema(schema)


@pytest.fixture(params=["of_sqlite", "of_postgres"])
def planner(request: pytest.FixtureRequest) -> Planner:
    """The planner of each database."""
    found: Planner = request.getfixturevalue(request.param)
    return found


def test_each_statement_uses_the_indexes_that_stand_with_it(planner: Planner) -> None:
    wrong = {}
    for name, statement in planner.statements.whole().items():
        row = ROWS.get(name, ONE)
        plan = planner.plan(statement, [[value] for value in row] if "%b" in statement else row)
        reads_all = name in ("schedules.all", "limits.capacities", "limits.uses")  # there are few, and all are wanted
        if planner.indexes(plan) != set(statement.indexes.split()) or (planner.read_through(plan) and not reads_all):
            wrong[name] = "\n".join(plan)
    assert not wrong, "\n\n".join(f"{name}: {plan}" for name, plan in wrong.items())


BEGINS = NewExecution(record=ExecutionRecord("new", "ci"), content_id="c1", flow="{}", owner="me", ttl=60.0)
SAVE, RELEASE = Save("e1", "ci", WorkflowState.COMPLETED, "{}", 1), Release("e1", 1)
STEPS = [SaveStep("e1", name, 0, "{}", None, 1) for name in "abc"]
UNDER_A_LEASE: dict[str, list[Write]] = {
    "its end": [SAVE, RELEASE],
    "steps": [*STEPS],
    "all of it": [*STEPS, SAVE, RELEASE],
}


@pytest.mark.parametrize("what", UNDER_A_LEASE)
def test_what_one_execution_writes_under_its_lease_uses_the_indexes_that_stand_with_it(
    of_postgres: Planner, what: str
) -> None:
    check_one(of_postgres, UNDER_A_LEASE[what], [Lease("e1", 1)])


@pytest.mark.parametrize("steps", [0, 3])
def test_so_does_what_it_begins_with(of_postgres: Planner, steps: int) -> None:
    check_one(of_postgres, [BEGINS, *(attrs.evolve(step, execution_id="new") for step in STEPS[:steps])], [])


def check_one(planner: Planner, writes: list[Write], leases: list[Lease]) -> None:
    found = in_one(writes, leases, {"c1"})
    assert found is not None
    shape, values = found
    statement = statement_of(shape, "")
    plan = planner.plan(statement, [*values, "w1", 1, "w1", 3])
    assert planner.indexes(plan) == set(statement.indexes.split())
    assert not planner.read_through(plan)


@pytest.mark.parametrize(
    ("writes", "leases", "defined"),
    [
        ([SAVE, attrs.evolve(SAVE, execution_id="e2")], [Lease("e1", 1), Lease("e2", 1)], ()),
        ([SAVE, attrs.evolve(SAVE, execution_id="e2")], [Lease("e1", 1)], ()),
        ([RELEASE, RELEASE], [Lease("e1", 1)], ()),
        ([Remove("e1", 1)], [Lease("e1", 1)], ()),
        ([BEGINS], [], ()),
        ([BEGINS], [Lease("e1", 1)], {"c1"}),
        ([*STEPS] * 4, [Lease("e1", 1)], ()),
    ],
    ids=["two leases", "two executions", "two releases", "removed", "undefined", "a part of another", "many steps"],
)
def test_other_writes_are_not_those_of_one_execution(writes, leases, defined) -> None:
    assert in_one(writes, leases, defined) is None


def test_each_says_who_runs_it(planner: Planner) -> None:
    assert all(statement.by for statement in planner.statements.whole().values())
    assert planner.statements.whole().keys() >= ROWS.keys() - {
        "carry_out_few",
        "take_new",
        "claim_now",
        "save_few_steps",
        "undone",
        "hold_flows",
        "queue.announce",
        "limits.announce",
        "limits.lock",
        "identity",
        "mark",
        "watch",
        "forget_marks",
        "end_session",
        "is_under_way",
        "session",
        "transaction",
    }


def test_many_steps_are_one_statement(of_sqlite: Planner) -> None:
    plan = of_sqlite.plan(SAVE_MANY_STEPS, [None] * SAVE_MANY_STEPS.count("?"))
    assert not of_sqlite.indexes(plan)
    assert not of_sqlite.read_through(plan)


# -- composed ---------------------------------------------------------------------------------------

FILTERS: dict[str, dict[str, Any]] = {
    "flow": {"flow_name": "flow1"},
    "state": {"states": WorkflowState.RUNNING},
    "states": {"states": LIVE},
    "since": {"since": NOON},
    "until": {"until": NOON},
    "parent": {"parent": "e7"},
    "label": {"labels": {"team": "b"}},
    "after": {"after": ("2026-06-10T12:30:000000000", "e1800")},
}


def selections(limit: int | None) -> Iterator[tuple[set[str], Selection]]:
    """Yield each set of filters, and what it selects."""
    for count in range(len(FILTERS) + 1):
        for names in combinations(FILTERS, count):
            if not {"state", "states"} <= {*names}:
                given: dict[str, Any] = {"limit": limit}
                for name in names:
                    given |= FILTERS[name]
                yield {*names}, Selection.of(**given)


def indexes_of(filters: set[str]) -> set[str]:
    """Return the indexes that have the newest of what passes together, in order; of a flow that is each state's.

    Those of one parent are few, but there may be another index for several filters.
    """
    if "parent" in filters:
        return {"szal_executions_parent"} | (indexes_of(filters - {"parent"}) if len(filters) > 1 else set())
    if "flow" in filters:
        # The flow that most are of is as soon found among all.
        return {"szal_executions_flow", "szal_executions_state", "szal_executions_started"}
    return {"szal_executions_started"} | ({"szal_executions_state"} if filters & {"state", "states"} else set())


def test_the_newest_come_from_an_index_whatever_the_filters(planner: Planner) -> None:
    for filters, selection in selections(limit=20):
        plan = planner.plan(*planner.statements.page(selection))
        assert not planner.read_through(plan), (filters, plan)
        if "label" not in filters:  # else another one may be thought shorter
            assert planner.indexes(plan), (filters, plan)
            assert planner.indexes(plan) <= indexes_of(filters), (filters, plan)


def test_what_has_a_flow_or_a_state_or_a_time_is_counted_by_an_index(planner: Planner) -> None:
    for filters, selection in selections(limit=None):
        composed: list[Composed] = [planner.statements.number(selection), planner.statements.page(selection)]
        for each in composed:
            plan = planner.plan(*each)
            if filters & {"state", "states"}:
                assert not planner.read_through(plan), (filters, plan)


@pytest.mark.parametrize("older_than", [None, 3600])
def test_what_is_pruned_is_found_by_an_index(planner: Planner, older_than: float | None) -> None:
    retention = Retention.of(older_than, None, 1, 100)
    done = ("2026-06-10T12:00:000000000", "e1")
    plan = planner.plan(*planner.statements.prunable(WorkflowState.COMPLETED, retention, done))
    # What most executions are is as soon found among all.
    assert planner.indexes(plan) <= {"szal_executions_state", "szal_executions_started"}, plan
    assert not planner.read_through(plan), plan


def test_all_ids_come_in_order(planner: Planner) -> None:
    for flow_name in (None, "flow1"):
        rows = planner.connection.execute(*planner.statements.ids(flow_name)).fetchall()
        assert len(rows) == (COUNT if flow_name is None else COUNT // 4)


MAKING = ("migrations", "record_columns")


def test_sql_stands_nowhere_else() -> None:
    """Statements are in few files for each database, and how its tables come to be is in others."""
    root = Path(szal.__path__[0])
    sql = re.compile(r"\b(FROM|INTO|UPDATE|JOIN|TABLE|EXISTS|ON) (szal\.)?szal_")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if sql.search(path.read_text())}
    both = ("terms", "statements", "lease_statements", "queue_statements", "limit_statements")
    statements = {f"stores/sqlite/{name}.py" for name in (*both, "labels")}
    statements |= {f"stores/postgres/{name}.py" for name in (*both, "single_statements", "one_execution")}
    made_by = {f"stores/{each}/{name}.py" for each in ("sqlite", "postgres") for name in MAKING}
    assert statements <= found <= statements | made_by
