"""``szal doctor``: whether a store works, why what is unfinished does not go on, and what to do about each."""

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

import attrs
import pytest

from szal import Engine, EngineConfig, ExecutionRecord, SqliteExecutionStore, StepDef, WorkflowState, open_store

CLINIC = """
import os
from szal import FlowDef, StepDef

def work(ctx):
    if ctx.step.name == "dies":
        os._exit(9)
    return ctx.step.name

def flow(name, *steps):
    return FlowDef(name, steps=steps)

def wait(**config):
    return StepDef("gate", step_type="wait", config=config)

dies = flow("dies", StepDef("first"), StepDef("dies")), work
once = flow("once", StepDef("first"), StepDef("dies", idempotent=False)), work
unhandled = flow("unhandled", StepDef("other"))
waits = flow("waits", wait(signal="go"), StepDef("last")), work
command = flow("command", wait(signal="go"), StepDef("say", step_type="shell", config={"run": "echo hello"}))
"""

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(autouse=True)
def url(here, monkeypatch, database):
    """The store, as SZAL_STORE names it; the flows are in clinic.py."""
    (here / "clinic.py").write_text(CLINIC)
    monkeypatch.setenv("SZAL_STORE", database)
    return database


@pytest.fixture
def clinic(here):
    sys.path.insert(0, str(here))
    return importlib.import_module("clinic")


@pytest.fixture
def begin(url, clinic):
    """``begin(flow, id)``: have an execution begin, in this process."""

    def begin(name, execution_id):
        found = getattr(clinic, name)
        flow = found[0] if isinstance(found, tuple) else found
        with open_store(url) as store, Engine(clinic.work, EngineConfig(execution_store=store)) as engine:
            engine.run(flow, execution_id=execution_id)

    return begin


@pytest.fixture
def die(url, here):
    """``die(flow, id)``: have an execution begin in a process that dies of it."""

    def die(name, execution_id):
        program = (
            "import clinic; from szal import *;"
            f"flow, work = clinic.{name};"
            "store = open_store(__import__('os').environ['SZAL_STORE']);"
            f"Engine(work, EngineConfig(execution_store=store)).run(flow, execution_id={execution_id!r})"
        )
        assert subprocess.run([sys.executable, "-c", program], cwd=here).returncode == 9

    return die


def found(result):
    """Return what was found, by what it is about."""
    return {each["what"]: each for each in json.loads(result.stdout)["findings"]}


class TestTheStore:
    @on_both_databases
    def test_that_works_is_said_to_and_is_left_as_it_was(self, szal, url):
        with open_store(url) as store:
            result = szal("doctor")
            assert result.exit_code == 0
            assert "can be written to, in" in result.stdout
            assert "no execution is unfinished" in result.stdout
            assert store.count() == 0

    def test_in_memory_works(self, szal):
        assert szal("doctor", "--store", "memory:").exit_code == 0

    def test_that_is_not_there_is_not_made(self, szal, here):
        result = szal("doctor")
        assert result.exit_code == 1
        assert "there is no database" in result.stdout
        assert not (here / "szal.db").exists()

    def test_that_is_not_migrated_is_left_so(self, szal, here):
        with closing(sqlite3.connect(here / "szal.db")) as raw:
            raw.execute("CREATE TABLE other (id)")
        result = szal("doctor")
        assert result.exit_code == 1
        assert "✗ table szal_executions is missing" in result.stdout
        assert "szal list" in result.stdout
        with closing(sqlite3.connect(here / "szal.db")) as raw:
            assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]

    def test_that_a_newer_szal_has_changed(self, szal, url, here):
        open_store(url).close()
        with closing(sqlite3.connect(here / "szal.db")) as raw, raw:
            raw.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('szal', '9999_next', 'now')"
            )
        result = szal("doctor")
        assert result.exit_code == 1
        assert "a newer version of szal has changed the tables" in result.stdout
        assert "pip install -U szal" in result.stdout

    def test_that_only_reads(self, szal, url):
        open_store(url).close()
        result = szal("doctor", "--store", f"{url}?mode=ro")
        assert result.exit_code == 1
        assert "it cannot be written to: attempt to write a readonly database" in result.stdout
        assert "mode=ro" in result.stdout
        assert "no execution is unfinished" in result.stdout, "what can be read is looked at all the same"

    @pytest.mark.parametrize("database", ["postgres"], indirect=True)
    def test_on_a_server_that_only_reads(self, szal, url):
        open_store(url).close()
        result = szal("doctor", "--store", url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20"))
        assert result.exit_code == 1
        assert "read-only transaction" in result.stdout
        assert "name the server that takes writes" in result.stdout

    def test_that_somebody_has_locked(self, szal, url, here, monkeypatch):
        open_store(url).close()
        impatient = partial(SqliteExecutionStore.connect, busy_timeout=0.01)
        monkeypatch.setattr("szal.cli.doctor.connect_store", impatient)
        with closing(sqlite3.connect(here / "szal.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            result = szal("doctor")
        assert result.exit_code == 1
        assert "it cannot be written to: database is locked" in result.stdout
        assert "fuser" in result.stdout

    def test_that_is_no_database(self, szal, here):
        (here / "szal.db").write_text("x" * 10_000)
        result = szal("doctor")
        assert result.exit_code == 1
        assert "file is not a database" in result.stdout

    def test_that_cannot_be_reached(self, szal):
        result = szal("doctor", "--store", "postgresql://me:secret@127.0.0.1:1/app?connect_timeout=2")
        assert result.exit_code == 1
        assert "Connection refused" in result.stdout
        assert "pg_isready -d 'postgresql://me" in result.stdout
        assert "secret" not in result.output

    @pytest.mark.parametrize("database", ["postgres"], indirect=True)
    def test_that_lets_nobody_in(self, szal, url):
        result = szal("doctor", "--store", url.replace("/postgres?", "/nowhere?"))
        assert result.exit_code == 1
        assert "does not exist" in result.stdout
        assert "see that the user, the password and the database are right" in result.stdout

    def test_a_url_that_is_none_is_a_mistake_of_the_caller(self, szal):
        assert szal("doctor", "--store", "mysql://x").exit_code == 2

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to mount a small disk")
    def test_on_a_disk_that_is_full(self, szal, tmp_path, request):
        disk = tmp_path / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
        if done.returncode:
            pytest.skip("cannot mount a small disk")
        request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
        open_store(f"sqlite:///{disk}/szal.db").close()
        with pytest.raises(OSError, match="No space"), (disk / "ballast").open("wb", 0) as file:  # noqa: PT012
            while True:
                file.write(bytes(4096))
        result = szal("doctor", "--store", f"sqlite:///{disk}/szal.db")
        assert result.exit_code == 1
        assert "full" in result.stdout
        assert f"df -h {disk}" in result.stdout


class TestWhatIsUnfinished:
    @on_both_databases
    def test_what_was_submitted_is_told_with_its_queue_and_the_command_that_works_on_it(self, szal, url, clinic):
        with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as engine:
            engine.submit(clinic.dies[0], execution_id="a", queue="slow")
            engine.submit(clinic.dies[0], execution_id="b", not_before=datetime(2999, 1, 1, tzinfo=UTC))
        result = szal("doctor", "clinic:dies", "--json")
        assert result.exit_code == 0
        queued, later = found(result)["queued"], found(result)["time"]
        assert (queued["execution_ids"], queued["details"]) == (["a"], ["dies, in the queue 'slow' (1)"])
        assert "szal worker clinic:dies --queue slow --store" in queued["do"]
        assert (later["execution_ids"], later["details"]) == (["b"], ["dies, in the queue 'default' (1)"])

    @on_both_databases
    def test_schedules_that_nobody_begins(self, szal, url, clinic):
        with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as engine:
            for name in ("nightly", "patient", "later"):
                overlap = "queue" if name == "patient" else "allow"
                engine.schedule(clinic.dies[0], "0 2 * * *", name=name, overlap=overlap)
            assert szal("doctor").exit_code == 0
            schedules = store.ledger.schedules
            for row in schedules.all():
                if row.name != "later":
                    schedules.put(attrs.evolve(row, data=f"{row.data} ", next_at=0.0))
        result = szal("doctor", "--json")
        assert result.exit_code == 1
        late = found(result)["schedules"]
        assert (late["count"], late["text"]) == (1, "1 schedule overdue: no worker begins what is due")
        assert late["details"][0].startswith("nightly, for ")

    def test_what_was_submitted_and_no_program_here_can_do(self, szal, url, clinic):
        with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as engine:
            engine.submit(clinic.flow("unhandled", StepDef("other")), execution_id="a")
        assert szal("doctor").exit_code == 0
        result = szal("doctor", "clinic:unhandled")
        assert (result.exit_code, "unhandled: no handler for step: other" in result.stdout) == (1, True)

    @on_both_databases
    def test_whose_process_died_and_nobody_takes_up(self, szal, die):
        die("dies", "a")
        result = szal("doctor")
        assert result.exit_code == 1
        assert "1 execution that nobody takes up; what does their steps is in a program" in result.stdout
        assert "szal recover MODULE:ATTRIBUTE" in result.stdout
        result = szal("doctor", "clinic:dies")
        assert "1 execution that could go on at once, and nobody takes up" in result.stdout
        assert "what to do: szal recover clinic:dies" in result.stdout

    def test_whose_process_died_as_often_as_it_may(self, szal, die, url):
        die("dies", "a")
        with open_store(url) as store:
            store._database._writer.use(lambda db: db.conn.execute("UPDATE szal_leases SET recoveries = 5"))
        result = szal("doctor", "clinic:dies")
        assert "whose process died again and again" in result.stdout
        assert "szal rerun a clinic:dies" in result.stdout

    def test_that_may_have_been_done_waits_for_a_decision(self, szal, die):
        die("once", "a")
        szal("resume", "a", "clinic:once")
        result = szal("doctor")
        assert result.exit_code == 1
        assert "1 execution waiting for a decision" in result.stdout
        assert "szal resolve a dies" in result.stdout

    @on_both_databases
    def test_that_waits_is_well(self, szal, begin):
        begin("waits", "a")
        result = szal("doctor", "--json")
        assert result.exit_code == 0
        told = found(result)
        assert (told["signal"]["grade"], told["signal"]["execution_ids"]) == ("note", ["a"])
        assert told["signal"]["do"] == 'szal signal a go --store "$SZAL_STORE"'

    def test_whose_signal_has_come_waits_for_somebody_to_go_on(self, szal, begin):
        begin("waits", "a")
        szal("signal", "a", "go")
        result = szal("doctor", "clinic:waits")
        assert result.exit_code == 1
        assert "1 execution that could go on at once" in result.stdout

    @on_both_databases
    def test_that_runs_is_told_with_its_process(self, szal, url, clinic):
        told = []
        with open_store(url) as store:
            engine = Engine(lambda ctx: told.append(szal("doctor")), EngineConfig(execution_store=store))
            engine.run(clinic.dies[0], execution_id="a")
        assert told[0].exit_code == 0
        assert "1 leases are held; the first runs out in" in told[0].stdout
        assert f"process {os.getpid()} on {os.uname().nodename} (1)" in told[0].stdout

    def test_whose_process_lives_and_does_not_renew_its_lease(self, szal, url, clinic):
        told = []

        def late(ctx):
            store._database._writer.use(lambda db: db.conn.execute("UPDATE szal_leases SET expires = 0"))
            told.append(szal("doctor"))

        with open_store(url) as store:
            Engine(late, EngineConfig(execution_store=store)).run(clinic.waits[0], execution_id="b")
            Engine(late, EngineConfig(execution_store=store)).run(clinic.dies[0], execution_id="a")
        assert told[0].exit_code == 1
        assert "1 execution whose process lives, and does not renew the lease" in told[0].stdout

    def test_that_cannot_go_on_here(self, szal, begin, here):
        place = here / "place"
        place.mkdir()
        szal("run", "clinic:command", "--id", "a", "--cwd", place)
        szal("signal", "a", "go")
        place.rmdir()
        result = szal("doctor")
        assert result.exit_code == 1
        assert "1 execution that cannot go on" in result.stdout
        assert "is not there: say where that is" in result.stdout

    def test_of_szal_rs_is_left_alone(self, szal, url):
        with open_store(url) as store:
            store.save(ExecutionRecord("a", "ci", WorkflowState.RUNNING))
        result = szal("doctor")
        assert result.exit_code == 0
        assert "1 execution that szal's engine did not run" in result.stdout
