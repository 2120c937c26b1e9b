"""A backup that is made while flows run is a database whose processes have died at that moment (docs/stores.md).

SZAL_TEST_FULL=1: backups at any moment of many runs, and recovery of a server to a point in time.
"""

import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from helper_engine import waited
from processes import wait_until
from stores.postgres_server import REPLICATION, OwnServer, PostgresServer, Standby

from szal import Engine, EngineConfig, ExecutionRecord, FlowDef, StepContext, StepDef, WorkflowState
from szal.model.results import FlowResult
from szal.stores import Store, open_store

full = pytest.mark.skipif(not os.environ.get("SZAL_TEST_FULL"), reason="takes some seconds")
LEASE = 0.3
Made = TypeVar("Made")

Backup = Callable[[], str]
"""Makes a backup of a database, restores it elsewhere, and returns where."""


# -- ways -------------------------------------------------------------------------------------------


@pytest.fixture
def backup(request: pytest.FixtureRequest, way: str, store_url: str, tmp_path: Path) -> Iterator[Backup]:
    """A way to make a backup of the database at *store_url*."""
    if way == "pg_dump":
        with dumping(request.getfixturevalue("server"), request.getfixturevalue("schema")) as backup:
            yield backup
    else:
        yield lambda: f"sqlite:///{SQLITE[way](store_url.removeprefix('sqlite:///'), tmp_path)}"


def by_the_api(source: str, folder: Path) -> Path:
    copy = folder / f"{secrets.token_hex(4)}.db"
    with closing(sqlite3.connect(source)) as connection, closing(sqlite3.connect(copy)) as target:
        connection.backup(target, pages=10)
    return copy


def by_vacuum(source: str, folder: Path) -> Path:
    copy = folder / f"{secrets.token_hex(4)}.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    return copy


SQLITE = {"the backup API": by_the_api, "VACUUM INTO": by_vacuum}


@contextmanager
def dumping(server: PostgresServer, schema: str) -> Iterator[Backup]:
    """Dump a schema, and restore it in a database of its own."""
    if not isinstance(server, OwnServer):
        pytest.skip("pg_dump has to be of the server's version")
    programs, made = server.server.bin_path, []

    def backup() -> str:
        name = f"szal_copy_{secrets.token_hex(6)}"
        server.execute(f"CREATE DATABASE {name}")
        made.append(name)
        copy = re.sub(r"(://[^/?]*)(/[^?]*)?", rf"\1/{name}", server.url, count=1)
        dump = [str(programs / "pg_dump"), "-Fc", "-n", schema, "-d", server.url]
        dumped = subprocess.run(dump, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run([str(programs / "pg_restore"), "-d", copy], check=True, input=dumped)
        return f"{copy}&options=-csearch_path%3D{schema}"

    yield backup
    for name in made:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


ways = pytest.mark.parametrize(("kind", "way"), [*(("sqlite", way) for way in SQLITE), ("postgres", "pg_dump")])


# -- what runs --------------------------------------------------------------------------------------

STEPS = FlowDef("steps", steps=[StepDef("a"), StepDef("b"), StepDef("c"), StepDef("d", idempotent=False)])
ONCE = FlowDef("once", steps=[StepDef("a"), StepDef("pay", idempotent=False), StepDef("d")])
ASKING = FlowDef("asking", steps=[StepDef("a"), StepDef("ask", step_type="wait", config={"signal": "s"}), StepDef("d")])
TIMED = FlowDef(
    "timed",
    steps=[StepDef("ask", step_type="wait", config={"signal": "s", "timeout": 1.5, "default": "late"}), StepDef("d")],
)


class Handler:
    """Does steps and keeps their keys; *held* steps begin and wait until it lets `go`."""

    def __init__(self, *held: str) -> None:
        self.keys: dict[tuple[str, str], str] = {}
        self.go = threading.Event()
        self._held = held

    def __call__(self, ctx: StepContext) -> Any:
        assert ctx.execution_id is not None
        self.keys[ctx.execution_id, ctx.step.name] = ctx.idempotency_key
        if ctx.step.name in self._held:
            waited(self.go)
        return [ctx.step.name, *ctx.outputs.values()]

    def has_begun(self, *called: tuple[str, str]) -> bool:
        return set(called) <= self.keys.keys()


@contextmanager
def engine_at(url: str, handler: Any) -> Iterator[tuple[Engine, Store]]:
    with open_store(url) as store, store.engine_sink() as sink:
        config = EngineConfig(execution_store=sink, lease_ttl=LEASE, durability="step")
        with Engine(handler, config) as engine:
            yield engine, store


def recovered(engine: Engine, *execution_ids: str) -> dict[str, FlowResult]:
    """Recover until each of these has ended or waits, as their leases run out."""
    found: dict[str, FlowResult] = {}

    def are_all() -> bool:
        found.update({str(result.execution_id): result for result in engine.recover()})
        return found.keys() >= set(execution_ids)

    wait_until(are_all, 20)
    return found


def outputs_and_states(result: FlowResult) -> object:
    return result.state, [(step.step_name, step.status, step.output) for step in result.steps]


def interrupted_by(take: Callable[[], Made], url: str, original: Handler) -> tuple[Made, dict[str, FlowResult]]:
    """Return what *take* does while c and pay are under way and two others wait; and how all of them end then."""
    with engine_at(url, original) as (engine, _):
        for flow in (ASKING, TIMED):
            assert engine.run(flow, execution_id=flow.name).state is WorkflowState.PAUSED
        runs = [engine.start(flow, execution_id=flow.name) for flow in (STEPS, ONCE)]
        try:
            wait_until(lambda: original.has_begun(("steps", "c"), ("once", "pay")))
            taken = take()
        finally:
            original.go.set()
        expected = {flow.name: run.result(20) for flow, run in zip((STEPS, ONCE), runs, strict=True)}
        assert engine.signal("asking", "s", "yes")
        expected["asking"] = engine.resume("asking")
        engine.run(STEPS, execution_id="later")
    return taken, expected


@ways
def test_what_ran_at_the_moment_of_a_backup_ends_in_the_copy_as_if_nothing_had_happened(
    store_url: str, backup: Backup
) -> None:
    original = Handler("c", "pay")
    copy, expected = interrupted_by(backup, store_url, original)
    check_the_copy(copy, original, expected)


def check_the_copy(copy: str, original: Handler, expected: dict[str, FlowResult]) -> None:
    """See to it that a backup of the moment when c and pay were under way goes on from there."""
    again = Handler()
    with engine_at(copy, again) as (engine, store):
        assert {*store.list()} == {"asking", "timed", "steps", "once"}
        found = recovered(engine, "steps", "once", "timed")
        assert outputs_and_states(found["steps"]) == outputs_and_states(expected["steps"])
        assert found["timed"].outputs["ask"] == "late"
        assert again.has_begun(("steps", "c"), ("steps", "d"))
        assert not again.keys.keys() & {("steps", "a"), ("steps", "b"), ("once", "a"), ("once", "pay")}
        assert again.keys["steps", "c"] == original.keys["steps", "c"]
        assert (found["once"].state, found["once"].error) == (WorkflowState.PAUSED, "needs a decision: pay")
        engine.resolve("once", "pay", "completed", output=expected["once"]["pay"].output)
        assert outputs_and_states(engine.resume("once")) == outputs_and_states(expected["once"])
        assert engine.signal("asking", "s", "yes"), "one that was sent after the backup is not there"
        assert outputs_and_states(engine.resume("asking")) == outputs_and_states(expected["asking"])


def test_a_file_that_is_copied_without_its_log_is_no_backup(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/szal.db") as store, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        store.save(ExecutionRecord("e", "flow"))
        shutil.copy(tmp_path / "szal.db", tmp_path / "copy.db")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            copy.execute("SELECT * FROM szal_executions")


# -- more -------------------------------------------------------------------------------------------


@full
@ways
def test_a_backup_of_any_moment_has_a_prefix_of_what_happened(store_url: str, backup: Backup) -> None:
    flow = FlowDef("long", steps=[StepDef(f"s{number}") for number in range(12)])
    runs, copies = 40, []

    def step(ctx: StepContext) -> list[Any]:
        return [ctx.step.name, len(ctx.outputs)]

    with engine_at(store_url, step) as (engine, _):
        started = [engine.start(flow, execution_id=f"e{number}") for number in range(runs)]
        while not all(run.done for run in started) and len(copies) < 8:
            copies.append(backup())
        expected = {str(run.result(60).execution_id): outputs_and_states(run.result()) for run in started}
    assert copies
    for copy in copies:
        with engine_at(copy, step) as (engine, store):
            wait_until(lambda: engine.recover() is not None and not live(store), 30)
            there = store.list()
            assert {name: outputs_and_states(engine.resume(name)) for name in there} == {
                name: expected[name] for name in there
            }


def live(store: Store) -> int:
    return store.count(states=[state for state in WorkflowState if state.is_live])


class Restored(OwnServer):
    """A server from a base backup and the archived WAL of *primary*, as it was at a point that has a name."""

    def __init__(self, base: Standby, archive: Path, point: str) -> None:
        self.place, self.server, self.data = base.place, base.server, base.data
        (self.data / "standby.signal").unlink()
        (self.data / "recovery.signal").touch()
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write(
                f"primary_conninfo = ''\nrestore_command = 'cp {archive}/%f %p'\narchive_mode = off\n"
                f"recovery_target_name = '{point}'\nrecovery_target_action = 'promote'\n"
            )
        shutil.chown(self.data / "recovery.signal", self.server.system_user)
        PostgresServer.__init__(self, base.url)
        self.start()
        wait_until(lambda: self.execute("SELECT pg_is_in_recovery()") == [(False,)], 20)

    def _socket(self) -> str:
        return str(self.place)


@full
def test_a_server_that_is_taken_back_to_a_point_in_time_goes_on_from_there(server: PostgresServer) -> None:
    if not isinstance(server, OwnServer):
        pytest.skip("servers are started where they are ours")
    archive = Path(tempfile.mkdtemp(prefix="szal-wal-"))
    shutil.chown(archive, server.server.system_user)
    primary = OwnServer(f"{REPLICATION}archive_mode = on\narchive_command = 'cp %p {archive}/%f'\n")
    original = Handler("c", "pay")
    try:
        schema = primary.new_schema()
        base = Standby(primary)
        base.stop()
        point = "SELECT pg_create_restore_point('then')"
        _, expected = interrupted_by(lambda: primary.execute(point), primary.url_of(schema), original)
        ((last,),) = primary.execute("SELECT pg_walfile_name(pg_switch_wal())")
        wait_until((archive / last).exists, 20)
        restored = Restored(base, archive, "then")
        try:
            check_the_copy(restored.url_of(schema), original, expected)
        finally:
            restored.stop("immediate")
    finally:
        primary.close()
        shutil.rmtree(archive, ignore_errors=True)
