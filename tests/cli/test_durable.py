"""Executions that go on: resume, recover, rerun, signal, cancel, resolve, prune, run --id; and why one does not."""

import json
import re
import signal
import subprocess
import threading
from datetime import timedelta

import pytest

from szal import (
    Engine,
    EngineConfig,
    ExecutionRecord,
    FlowDef,
    StepDef,
    StepResult,
    StepStatus,
    WorkflowState,
    open_store,
)
from szal.cli.board import Board, Stage
from szal.model.json import decode_record

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)

DURABLE = """
import os, time
from pathlib import Path
import szal.cli.execute
from szal import FlowDef, FlowMode, Handlers, StepDef

szal.cli.execute._GRACE = 60.0  # what a second signal does not end ends in no time that a test waits for

def work(ctx):
    name = ctx.step.name
    with open("done.txt", "a") as file:
        file.write(name + "\\n")
    if name.startswith("crash") and not Path("repaired").exists():
        os._exit(9)
    if name.startswith("broken") and not Path("repaired").exists():
        raise ValueError("not repaired yet")
    if name.startswith("nap"):
        ctx.report("ready now")
        ctx.sleep(60)
        ctx.check()
    if name.startswith("hang"):
        ctx.report("ready now")
        while not Path("repaired").exists():
            time.sleep(0.02)
    return ctx.inputs.get("value", name)

def flow(name, *steps, **more):
    return FlowDef(name, steps=steps, **more)

def wait(name, **config):
    return StepDef(name, step_type="wait", config=config)

approval = flow("approval", StepDef("ask"), wait("approved", signal="approve"), StepDef("pay")), work
other = flow("other", StepDef("ask")), work
twice = flow("twice", wait("approved", signal="approve"), wait("confirmed", signal="confirm")), work
timed = flow("timed", wait("answer", signal="answer", timeout=3600)), work
crashes = flow("crashes", StepDef("first"), StepDef("crash"), StepDef("last")), work
breaks = flow("breaks", StepDef("first"), StepDef("broken"), StepDef("last")), work
sleeps = flow("sleeps", StepDef("first"), StepDef("nap"), StepDef("last")), work
hangs = flow("hangs", StepDef("first"), StepDef("hang"), StepDef("last")), work
once = flow("once", StepDef("first"), StepDef("crash", idempotent=False), StepDef("last")), work
inner = flow("inner", wait("approved", signal="approve"))
outer = flow("outer", StepDef("call", step_type="sub_flow", config={"flow_name": "inner"})), inner, Handlers(work)
_build = StepDef("broken")
skips = FlowDef("skips", FlowMode.DAG, steps=[
    _build, StepDef("after", depends_on=_build), StepDef("cond", condition="inputs.env == 'prod'"),
]), work

def undo(ctx):
    ctx.report("undo hangs")
    time.sleep(60)
_undoes = Handlers(work)
_undoes.rollback("first")(undo)
rolls = flow(
    "rolls", StepDef("first", rollbackable=True), StepDef("broken"), rollback_on_failure=True
), _undoes
"""

NEWER = """
import attrs
from szal import MigrationRegistry
from lasting import FlowDef, StepDef, work

migrations = MigrationRegistry()

@migrations.register(1, 2)
def mended(flow):
    flow.steps = [flow.steps[0], attrs.evolve(flow.steps[1], name="mended")]
    return flow

crashes = FlowDef("crashes", version=2, steps=[StepDef("first"), StepDef("mended")]), work, migrations
"""

SHELL = """
name: deploy
steps:
  - name: build
    run: echo built
  - name: gate
    needs: build
    type: wait
    config: {signal: go}
  - name: ship
    needs: gate
    run: echo shipped
"""


@pytest.fixture(autouse=True)
def url(here, monkeypatch, database):
    """The store, as SZAL_STORE names it; flows that go on are in lasting.py and deploy.yaml."""
    (here / "lasting.py").write_text(DURABLE)
    (here / "deploy.yaml").write_text(SHELL)
    monkeypatch.setenv("SZAL_STORE", database)
    return database


def record(url, execution_id="e1"):
    with open_store(url) as store:
        return store.get(execution_id)


def done(here):
    return (here / "done.txt").read_text().split()


@pytest.fixture
def crashed(spawn):
    """``crashed(flow)``: run it as e1, in a process that dies in it."""

    def run(flow):
        assert spawn("run", f"lasting:{flow}", "--id", "e1", "--durability", "step").end() == 9

    return run


class TestRun:
    def test_paused_is_status_3_and_says_what_for_and_how_to_go_on(self, szal):
        result = szal("run", "lasting:approval", "--id", "order-42")
        assert result.exit_code == 3
        assert "approval paused" in result.stdout
        last = result.stdout.splitlines()[-2:]
        assert last == [
            'waits for the signal approve (step approved): szal signal order-42 approve --store "$SZAL_STORE"',
            'then: szal resume order-42 lasting:approval --store "$SZAL_STORE"',
        ]

    @pytest.mark.parametrize("store", [[], ["--store", "memory:"], ["--json"]], ids=" ".join)
    def test_what_waits_is_not_begun_without_a_store_that_lasts(self, szal, here, monkeypatch, store):
        monkeypatch.delenv("SZAL_STORE", raising=False)
        result = szal("run", "lasting:approval", *store)
        assert result.exit_code == 2
        assert "step approved waits for a signal, and with" in result.stderr
        assert "give --store sqlite:///szal.db, or set SZAL_STORE" in result.stderr
        assert not (here / "done.txt").exists()

    def test_nor_is_what_has_a_sub_flow_that_waits(self, szal, monkeypatch):
        monkeypatch.delenv("SZAL_STORE", raising=False)
        assert szal("run", "lasting:outer").exit_code == 2

    def test_an_id_is_run_once(self, szal, here):
        assert szal("run", "lasting:other", "--id", "e1").exit_code == 0
        again = szal("run", "lasting:other", "--id", "e1")
        assert again.exit_code == 0
        assert "nothing was run" in again.stdout
        assert done(here) == ["ask"]

    @on_both_databases
    def test_an_id_that_was_interrupted_goes_on(self, szal, here, crashed):
        crashed("crashes")
        (here / "repaired").touch()
        assert szal("run", "lasting:crashes", "--id", "e1").exit_code == 0
        assert done(here) == ["first", "crash", "crash", "last"]

    def test_an_empty_id_is_none(self, szal, here):
        result = szal("run", "lasting:other", "--id", "")
        assert result.exit_code == 2
        assert "--id" in result.stderr
        assert not (here / "done.txt").exists()

    @pytest.mark.parametrize("database", ["postgres"], indirect=True)
    def test_an_id_that_the_store_cannot_hold(self, szal):
        result = szal("run", "lasting:other", "--id", "x" * 5000)
        assert result.exit_code == 2
        assert result.stderr == "szal: execution_id is 5000 bytes long: an index of this store takes 1300\n"

    def test_an_id_of_another_flow(self, szal):
        szal("run", "lasting:other", "--id", "e1")
        result = szal("run", "lasting:approval", "--id", "e1")
        assert result.exit_code == 2
        assert "different definition" in result.stderr

    @pytest.mark.parametrize("option", [["--id", "e1"], ["--durability", "step"]])
    def test_without_a_store_there_is_nothing_to_go_on_with(self, szal, monkeypatch, option):
        monkeypatch.delenv("SZAL_STORE")
        assert szal("run", "lasting:other", *option).exit_code == 2

    @pytest.mark.parametrize("durability", ["none", "flow", "step"])
    def test_durability(self, szal, url, durability):
        result = szal("run", "lasting:approval", "--id", "e1", "--durability", durability)
        assert "szal signal e1 approve" in result.stdout
        assert record(url).state is WorkflowState.PAUSED


class TestSignal:
    @on_both_databases
    def test_it_is_delivered_when_the_execution_goes_on(self, szal, url):
        szal("run", "lasting:approval", "--id", "e1")
        sent = szal("signal", "e1", "approve", '{"by": "ann"}')
        assert (sent.exit_code, sent.stdout) == (0, "sent approve to e1\n")
        assert sent.stderr == 'to go on: szal resume e1 MODULE:ATTRIBUTE --store "$SZAL_STORE"\n'
        assert szal("resume", "e1", "lasting:approval").exit_code == 0
        assert record(url).result["approved"].output == {"by": "ann"}

    def test_what_is_no_json_is_a_string(self, szal, url):
        szal("run", "lasting:approval", "--id", "e1")
        szal("signal", "e1", "approve", "yes please")
        szal("resume", "e1", "lasting:approval")
        assert record(url).result["approved"].output == "yes please"

    def test_a_second_one_with_the_same_id_does_nothing(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        assert "sent approve" in szal("signal", "e1", "approve", "--id", "s1").stdout
        again = szal("signal", "e1", "approve", "--id", "s1")
        assert (again.exit_code, again.stdout) == (0, "e1 was sent a signal with this id before\n")

    def test_json_says_whether_it_was_sent(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        command = ["signal", "e1", "approve", "--id", "s1", "--json"]
        expected = {"execution_id": "e1", "state": "Paused", "signal": "approve", "sent": True}
        assert json.loads(szal(*command).stdout) == expected
        assert json.loads(szal(*command).stdout) == {**expected, "sent": False}

    def test_a_name_that_nothing_waits_for_is_pointed_out(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        result = szal("signal", "e1", "aprove")
        assert result.exit_code == 0
        assert result.stderr == "szal: no step of approval waits for aprove: it waits for approve\n"

    @pytest.mark.parametrize("command", [["signal", "e1", "approve"], ["cancel", "e1"]])
    def test_one_that_has_ended_takes_none(self, szal, command):
        szal("run", "lasting:other", "--id", "e1")
        result = szal(*command)
        assert result.exit_code == 2
        assert "it has ended (completed)" in result.stderr

    @pytest.mark.parametrize(
        "command",
        [["signal", "e1", "x"], ["cancel", "e1"], ["resolve", "e1", "s", "retry"], ["resume", "e1"], ["rerun", "e1"]],
    )
    def test_one_that_is_not_there(self, szal, command):
        szal("run", "lasting:other", "--id", "f1")
        result = szal(*command)
        assert result.exit_code == 2
        assert "there is no execution e1" in result.stderr

    def test_no_database_is_made(self, szal, here):
        assert szal("signal", "e1", "x").exit_code == szal("resume", "e1").exit_code == szal("recover").exit_code == 2
        assert not (here / "szal.db").exists()


class TestResume:
    def test_after_a_crash_what_was_done_is_not_done_again(self, szal, here, crashed):
        crashed("crashes")
        (here / "repaired").touch()
        result = szal("resume", "e1", "lasting:crashes")
        assert result.exit_code == 0
        assert "crashes completed in" in result.stdout
        assert done(here) == ["first", "crash", "crash", "last"]

    def test_a_failed_one_is_shown_as_it_is(self, szal):
        szal("run", "lasting:breaks", "--id", "e1")
        result = szal("resume", "e1", "lasting:breaks")
        assert result.exit_code == 1
        assert "nothing was run" in result.stdout

    def test_what_has_ended_needs_no_target(self, szal):
        szal("run", "lasting:outer", "--id", "e1")
        szal("cancel", "e1")
        assert szal("resume", "e1").exit_code == 2
        szal("resume", "e1", "lasting:outer")
        result = szal("resume", "e1")
        assert result.exit_code == 1
        assert "nothing was run" in result.stdout

    def test_a_sub_flow_goes_on_with_what_it_belongs_to(self, szal):
        szal("run", "lasting:outer", "--id", "e1")
        child = re.search(r"szal signal (\S+) approve", szal("show", "e1").stdout)[1]
        szal("signal", child, "approve")
        found = decode_record(szal("resume", child, "lasting:outer", "--json").stdout)
        assert (found.execution_id, found.state) == ("e1", WorkflowState.COMPLETED)

    def test_shell_steps_need_no_target(self, szal, here):
        szal("run", "deploy.yaml", "--id", "e1")
        (here / "deploy.yaml").unlink()
        szal("signal", "e1", "go")
        result = szal("resume", "e1")
        assert result.exit_code == 0
        assert "shipped" in result.stdout

    def test_others_need_one(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        result = szal("resume", "e1")
        assert result.exit_code == 2
        assert "name the flow's file, or the MODULE:ATTRIBUTE" in result.stderr

    def test_not_with_the_handlers_of_another_flow(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        result = szal("resume", "e1", "lasting:other")
        assert result.exit_code == 2
        assert "it is of the flow approval, not of other" in result.stderr

    def test_not_while_it_runs_elsewhere(self, szal, spawn, here):
        process = spawn("run", "lasting:hangs", "--id", "e1")
        process.until("| ready")
        result = szal("resume", "e1", "lasting:hangs")
        assert result.exit_code == 2
        assert "execution e1 is being run already" in result.stderr
        (here / "repaired").touch()
        assert process.end() == 0

    def test_json_is_the_record(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        szal("signal", "e1", "approve")
        found = decode_record(szal("resume", "e1", "lasting:approval", "--json").stdout)
        assert (found.execution_id, found.state) == ("e1", WorkflowState.COMPLETED)

    def test_the_live_view_shows_what_was_done_before(self, spawn, crashed, here):
        crashed("crashes")
        (here / "repaired").touch()
        process = spawn("resume", "e1", "lasting:crashes", terminal=True)
        assert process.end() == 0
        drawn = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", process.seen)
        assert re.search(r"crashes  \d+ms  2 waiting  1 completed|✓ first +completed", drawn)
        assert "crashes completed in" in drawn


def test_a_board_begins_with_what_was_done_before():
    steps = [StepDef("a", id="a"), StepDef("b", id="b")]
    before = [StepResult("a", "a", StepStatus.COMPLETED, duration=2.0, attempts=1)]
    snapshot = Board(FlowDef("f", steps=steps), before=before).snapshot(10)
    assert [row.stage for row in snapshot.rows] == [Stage.COMPLETED, Stage.WAITING]
    assert snapshot.counts == {Stage.COMPLETED: 1, Stage.WAITING: 1}
    assert snapshot.rows[0].seconds(snapshot.now) == 2.0


class TestRecover:
    @on_both_databases
    def test_it_goes_on_with_what_was_interrupted_and_what_waits_no_longer(self, szal, here, crashed, url):
        crashed("crashes")
        szal("run", "lasting:approval", "--id", "e2")
        szal("run", "lasting:approval", "--id", "e3")
        szal("signal", "e2", "approve")
        (here / "repaired").touch()
        assert szal("recover", "lasting:crashes", "lasting:approval").exit_code == 0
        states = [record(url, name).state for name in ("e1", "e2", "e3")]
        assert states == [WorkflowState.COMPLETED, WorkflowState.COMPLETED, WorkflowState.PAUSED]

    def test_one_that_waits_again_is_status_3(self, szal):
        szal("run", "lasting:twice", "--id", "e1")
        szal("signal", "e1", "approve")
        result = szal("recover", "lasting:twice")
        assert result.exit_code == 3
        assert "szal signal e1 confirm" in result.stdout

    @pytest.mark.parametrize("error", ["SystemExit(3)", "ValueError('a bug')"])
    def test_whatever_one_raises_it_is_said_and_the_others_go_on(self, szal, here, url, crashed, error):
        crashed("crashes")
        szal("run", "deploy.yaml", "--id", "e2")
        szal("signal", "e2", "go")
        (here / "newer.py").write_text(NEWER.replace("flow.steps =", f"raise {error}\n    flow.steps ="))
        result = szal("recover", "newer:crashes", "deploy.yaml")
        assert result.exit_code == 1
        assert error.partition("(")[0] in result.stderr
        states = [str(record(url, name).state) for name in ("e1", "e2")]
        assert states == ["running", "completed"]

    def test_json_has_a_line_for_what_does_not_go_on_too(self, szal, here, crashed):
        crashed("crashes")
        szal("run", "deploy.yaml", "--id", "e2")
        szal("signal", "e2", "go")
        (here / "newer.py").write_text(NEWER.replace("flow.steps =", "raise ValueError('a bug')\n    flow.steps ="))
        lines = szal("recover", "newer:crashes", "deploy.yaml", "--json").stdout.splitlines()
        told = {each["execution_id"]: each for each in map(json.loads, lines)}
        assert told["e1"]["error_type"]
        assert "a bug" in told["e1"]["error"]
        assert told["e2"]["state"] == "Completed"

    def test_only_the_flows_that_are_named(self, szal, url, crashed):
        crashed("crashes")
        result = szal("recover", "lasting:approval")
        assert (result.exit_code, result.stderr) == (0, "There is nothing to go on with.\n")
        assert record(url).state is WorkflowState.RUNNING

    def test_a_limit(self, szal, url):
        for name in ("e1", "e2"):
            szal("run", "deploy.yaml", "--id", name)
            szal("signal", name, "go")
        assert szal("recover", "--limit", 1).exit_code == 0
        assert sorted(str(record(url, name).state) for name in ("e1", "e2")) == ["completed", "paused"]

    def test_without_a_target_those_that_need_handlers_are_left_alone(self, szal, url):
        szal("run", "lasting:approval", "--id", "e1")
        szal("signal", "e1", "approve")
        result = szal("recover")
        assert result.exit_code == 0
        assert "execution e1: no handler for" in result.stderr
        assert "nothing to go on with" not in result.stderr
        assert record(url).state is WorkflowState.PAUSED

    def test_one_that_fails_is_status_1_and_json_is_a_record_a_line(self, szal, here, crashed):
        crashed("crashes")
        szal("run", "deploy.yaml", "--id", "e2")
        szal("signal", "e2", "go")
        (here / "repaired").touch()
        (here / "lasting.py").write_text(DURABLE.replace("file.write(", "raise OSError('no disk'); file.write("))
        result = szal("recover", "lasting:crashes", "deploy.yaml", "--json")
        found = {line["execution_id"]: line["state"] for line in map(json.loads, result.stdout.splitlines())}
        assert result.exit_code == 1
        assert found == {"e1": "Failed", "e2": "Completed"}


class TestMigrations:
    def test_what_was_interrupted_goes_on_with_the_newest_definition(self, szal, here, crashed, url):
        crashed("crashes")
        (here / "newer.py").write_text(NEWER)
        assert szal("resume", "e1", "newer:crashes").exit_code == 0
        assert record(url).result.outputs == {"first": "first", "mended": "mended"}


class TestRerun:
    def test_a_new_execution_runs_what_failed(self, szal, here, url):
        szal("run", "lasting:breaks", "--id", "e1")
        (here / "repaired").touch()
        result = szal("rerun", "e1", "lasting:breaks", "-i", "value=7")
        assert result.exit_code == 0
        new = record(url, result.stdout.split()[-1])
        assert new.parent_execution_id == "e1"
        assert new.result.outputs == {"first": "first", "broken": 7, "last": 7}
        assert done(here) == ["first", "broken", "broken", "last"]

    def test_from_a_step(self, szal, here):
        (here / "repaired").touch()
        szal("run", "lasting:breaks", "--id", "e1")
        assert szal("rerun", "e1", "lasting:breaks", "--from", "broken").exit_code == 0
        assert done(here) == ["first", "broken", "last", "broken", "last"]

    def test_with_the_output_of_a_step_given(self, szal, here, url):
        szal("run", "lasting:breaks", "--id", "e1")
        for _ in "12":
            given = ["--output", 'broken={"by": "hand"}', "--new-id", "e2"]
            result = szal("rerun", "e1", "lasting:breaks", *given)
            assert result.exit_code == 0, result.stderr
        assert record(url, "e2").result.outputs == {"first": "first", "broken": {"by": "hand"}, "last": "last"}
        assert done(here) == ["first", "broken", "last"]
        shown = szal("show", "e2")
        assert re.search(r"broken +{\"by\": \"hand\"}", shown.stdout), shown.stdout

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (["--output", "brocken=1"], "did you mean 'broken'"),
            (["--output", "broken"], "not of the form key=value"),
            (["--output", "broken=None"], "write null"),
            (["--new-id", ""], "it is empty"),
        ],
    )
    def test_what_is_wrong_with_what_is_given_is_told(self, szal, url, given, told):
        szal("run", "lasting:breaks", "--id", "e1")
        result = szal("rerun", "e1", "lasting:breaks", *given)
        assert result.exit_code == 2
        assert told in result.stderr

    def test_an_id_is_for_one(self, szal):
        result = szal("rerun", "--flow", "breaks", "--new-id", "e2")
        assert result.exit_code == 2
        assert "--new-id is for one execution" in result.stderr

    def test_from_a_step_that_is_not_there(self, szal):
        szal("run", "lasting:breaks", "--id", "e1")
        result = szal("rerun", "e1", "lasting:breaks", "--from", "brocken")
        assert result.exit_code == 2
        assert "no step 'brocken'" in result.stderr

    def test_ctrl_c_pauses_the_new_one(self, szal, spawn, here, url):
        (here / "repaired").touch()
        szal("run", "lasting:hangs", "--id", "e1")
        (here / "repaired").unlink()
        process = spawn("rerun", "e1", "lasting:hangs", "--from", "hang")
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.until("once more")
        (here / "repaired").touch()
        assert process.end() == 130
        assert "hangs paused in" in process.seen
        new = re.search(r"to go on: szal resume (\S+) lasting:hangs", process.seen)[1]
        assert record(url, new).parent_execution_id == "e1"
        assert szal("resume", new, "lasting:hangs").exit_code == 0


class TestCancel:
    def test_a_paused_one_is_cancelled_when_it_goes_on(self, szal, url):
        szal("run", "lasting:approval", "--id", "e1")
        result = szal("cancel", "e1")
        assert result.exit_code == 0
        assert "nobody runs it; to end it: szal resume e1" in result.stderr
        assert szal("resume", "e1", "lasting:approval").exit_code == 1
        assert record(url).state is WorkflowState.CANCELLED

    @on_both_databases
    def test_one_that_runs_in_another_process_ends_at_its_next_heartbeat(self, szal, spawn, url):
        process = spawn("run", "lasting:sleeps", "--id", "e1", "--lease-ttl", "300ms")
        process.until("| ready")
        result = szal("cancel", "e1", "--json")
        assert json.loads(result.stdout) == {"execution_id": "e1", "state": "Running", "asked": True, "runs": True}
        assert result.stderr == ""
        assert process.end() == 1
        assert "sleeps cancelled in" in process.seen
        assert record(url).result["last"].error == "cancelled"

    def test_show_says_that_it_was_asked(self, szal, crashed):
        crashed("crashes")
        szal("cancel", "e1")
        asked = "was asked to cancel: nobody runs it; to end it: szal resume e1 MODULE:ATTRIBUTE"
        assert asked in szal("show", "e1").stdout


class TestResolve:
    def test_a_decision_is_waited_for_and_taken(self, szal, here, crashed, url):
        crashed("once")
        (here / "repaired").touch()
        paused = szal("resume", "e1", "lasting:once")
        assert paused.exit_code == 3
        assert "szal resolve e1 crash completed|failed|retry" in paused.stdout
        shown = szal("show", "e1").stdout
        assert "szal resolve e1 crash completed|failed|retry" in shown
        assert re.search(r"crash +undecided", shown)
        (wait,) = json.loads(szal("show", "e1", "--json").stdout)["waits"]
        assert wait == {"execution_id": "e1", "step": "crash", "signal": None, "until": None}
        resolved = szal("resolve", "e1", "crash", "completed", '{"ok": 1}', "--json").stdout
        assert json.loads(resolved) == {"execution_id": "e1", "step": "crash", "decision": "completed"}
        assert szal("resume", "e1", "lasting:once").exit_code == 0
        assert record(url).result["crash"].output == {"ok": 1}
        assert done(here) == ["first", "crash", "last"]

    def test_where_nothing_is_to_be_decided(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        result = szal("resolve", "e1", "ask", "retry")
        assert result.exit_code == 2
        assert "nothing is to be decided on step ask" in result.stderr

    def test_only_what_is_completed_has_an_output(self, szal):
        assert szal("resolve", "e1", "ask", "failed", "1").exit_code == 2


class TestShow:
    @on_both_databases
    def test_which_signal_it_waits_for_and_until_when(self, szal):
        szal("run", "lasting:timed", "--id", "e1")
        text = szal("show", "e1").stdout
        assert re.search(r"answer +paused", text)
        assert re.search(r"waits for the signal answer \(step answer\) until \d{4}-.*: szal signal e1 answer", text)

    def test_json_says_it_too(self, szal):
        ran = json.loads(szal("run", "lasting:approval", "--id", "e1", "--json").stdout)
        shown = szal("show", "e1", "--json").stdout
        assert ran == json.loads(shown)
        assert ran["waits"] == [{"execution_id": "e1", "step": "approved", "signal": "approve", "until": None}]
        assert decode_record(shown).state is WorkflowState.PAUSED

    def test_a_signal_that_was_sent_is_waited_for_no_longer(self, szal):
        szal("run", "lasting:twice", "--id", "e1")
        szal("signal", "e1", "approve")
        assert "waits for" not in szal("show", "e1").stdout
        szal("resume", "e1", "lasting:twice")
        assert "waits for the signal confirm" in szal("show", "e1").stdout

    def test_of_a_sub_flow_it_names_the_execution_that_takes_the_signal(self, szal, url):
        szal("run", "lasting:outer", "--id", "e1")
        found = re.search(r"szal signal (\S+) approve", szal("show", "e1").stdout)
        assert found[1] != "e1"
        assert szal("signal", found[1], "approve").exit_code == 0
        assert szal("resume", "e1", "lasting:outer").exit_code == 0
        assert record(url).state is WorkflowState.COMPLETED

    def test_that_it_can_go_on(self, szal):
        szal("run", "lasting:approval", "--id", "e1")
        szal("signal", "e1", "approve")
        assert "it can go on now: szal resume e1" in szal("show", "e1").stdout

    def test_an_interrupted_one_shows_how_far_it_came(self, szal, crashed):
        crashed("crashes")
        text = szal("show", "e1").stdout
        assert "interrupted: nobody runs it any more" in text
        assert re.search(r"first +completed", text)
        assert re.search(r"last +pending", text)
        assert json.loads(szal("show", "e1", "--json").stdout)["interrupted"] is True

    def test_the_list_tells_interrupted_from_running(self, szal, crashed):
        crashed("crashes")
        szal("run", "lasting:other", "--id", "e2")
        assert re.search(r"e1 +crashes +! interrupted", szal("list").stdout)
        found = json.loads(szal("list", "--json").stdout)
        assert {each["execution_id"]: each["interrupted"] for each in found} == {"e1": True, "e2": False}

    @on_both_databases
    def test_it_is_found_by_the_state_that_is_printed(self, szal, crashed):
        crashed("crashes")
        szal("run", "lasting:other", "--id", "e2")
        szal("run", "lasting:approval", "--id", "e3")

        def listed(*states):
            words = [word for state in states for word in ("--state", state)]
            return [each["execution_id"] for each in json.loads(szal("list", "--json", *words).stdout)]

        assert listed("interrupted") == ["e1"]
        assert listed("running") == []
        assert listed("interrupted", "completed") == ["e2", "e1"]
        assert listed("interrupted", "paused", "completed") == ["e3", "e2", "e1"]
        assert json.loads(szal("show", "--state", "interrupted", "--json").stdout)["execution_id"] == "e1"

    def test_the_newest_of_a_flow_or_state(self, szal):
        for name in ("e1", "e2"):
            szal("run", "lasting:breaks", "--id", name)
        szal("run", "lasting:other", "--id", "e3")
        assert "execution  e2" in szal("show", "--state", "failed").stdout
        assert "execution  e3" in szal("show", "--flow", "other").stdout
        result = szal("show", "--state", "cancelled")
        assert (result.exit_code, result.stderr) == (2, "szal: there is no such execution (cancelled)\n")

    @pytest.mark.parametrize("arguments", [[], ["e1", "--state", "failed"]], ids=" ".join)
    def test_one_is_named_in_one_way(self, szal, arguments):
        szal("run", "lasting:breaks", "--id", "e1")
        assert szal("show", *arguments).exit_code == 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
    def test_that_a_signal_interrupted_it_and_how_it_goes_on(self, szal, spawn, number):
        process = spawn("run", "lasting:sleeps", "--id", "e1")
        process.until("| ready")
        process.signal(number)
        process.end()
        text = szal("show", "e1").stdout
        assert re.search(r"interrupted.*; to go on: szal resume e1 MODULE:ATTRIBUTE --store", text)
        assert re.search(r"nap +pending", text)
        listed = szal("list")
        assert "interrupted" in listed.stdout
        assert listed.stderr == (
            'to go on with what was interrupted: szal resume ID MODULE:ATTRIBUTE --store "$SZAL_STORE"\n'
        )

    def test_why_steps_were_skipped(self, szal):
        szal("run", "lasting:skips", "--id", "e1")
        text = szal("show", "e1").stdout
        assert "condition not met: inputs.env == 'prod'" in text
        assert "dependency failed: broken" in text
        szal("run", "lasting:breaks", "--id", "e2")
        assert "prior step failed: broken" in szal("show", "e2").stdout

    def test_what_another_program_wrote_is_shown_as_it_is(self, szal, url):
        with open_store(url) as store:
            store.save(ExecutionRecord("rust", "ci", WorkflowState.RUNNING))
        assert "No step is recorded yet." in szal("show", "rust").stdout
        result = szal("resume", "rust")
        assert result.exit_code == 2
        assert "its definition is not recorded" in result.stderr


class TestDurations:
    """How long one took is one number: from its start to its end, with what it waited for."""

    @on_both_databases
    def test_of_one_that_went_on(self, szal, url):
        szal("run", "deploy.yaml", "--id", "e1")
        with open_store(url) as store:  # as if it had waited for an hour
            paused = store.get("e1")
            paused.started_at -= timedelta(hours=1)
            store.save(paused)
        szal("signal", "e1", "go")
        closed = szal("resume", "e1").stdout
        ended = record(url)
        assert "deploy completed in 1h00m" in closed
        assert "deploy completed in 1h00m" in szal("show", "e1").stdout
        assert re.search(r"completed .* 1h00m", szal("list").stdout)
        took = (ended.finished_at - ended.started_at).total_seconds()
        assert ended.result.total_duration == pytest.approx(took, abs=1)


class TestWhatToType:
    """What is printed can be copied: each command is whole, in one line, and a shell reads it as it is meant."""

    def commands(self, text):
        return re.findall(r"(szal (?:resume|rerun|signal|show|cancel|resolve) .*)", text)

    def words(self, command):
        done = subprocess.run(
            ["bash", "-c", f"szal() {{ printf '%s\\0' \"$@\"; }}; {command}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.removesuffix("\0").split("\0")

    @pytest.mark.parametrize(
        "odd", ["an id with spaces", "it's", "$HOME", "-x", "x\ny", "tab\tbed", "\u202eevil", "é" * 90]
    )
    def test_odd_ids_are_quoted(self, szal, url, odd):
        result = szal("run", "deploy.yaml", "--id", odd)
        told, then = map(self.words, self.commands(result.stdout))
        assert szal(*told).exit_code == 0
        assert szal(*then).exit_code == 0
        assert record(url, odd).state is WorkflowState.COMPLETED

    @pytest.mark.parametrize("environment", [True, False], ids=["variable", "option"])
    def test_they_name_the_store(self, szal, url, monkeypatch, environment):
        store = [] if environment else ["--store", url]
        if not environment:
            monkeypatch.delenv("SZAL_STORE")
        result = szal("run", "lasting:breaks", "--id", "e1", *store)
        (again,) = self.commands(result.stdout)
        assert self.words(again) == ["rerun", "e1", "lasting:breaks", "--store", url]
        assert again.endswith('--store "$SZAL_STORE"') is environment

    def test_what_failed_is_run_again_by_what_is_printed(self, szal, here):
        (here / "fails.yaml").write_text("name: fails\nsteps:\n  - {name: a, run: test -e repaired}\n")
        assert szal("run", "fails.yaml", "--id", "e1").exit_code == 1
        (here / "repaired").touch()
        first, second = self.commands(szal("show", "e1").stdout)
        assert self.words(first)[:2] == ["rerun", "e1"]
        assert self.words(second)[2] == str(here / "fails.yaml")
        assert [szal(*self.words(each)).exit_code for each in (first, second)] == [0, 0]

    def test_none_for_what_went_well(self, szal):
        result = szal("run", "lasting:other", "--id", "e1")
        assert self.commands(result.stdout + szal("show", "e1").stdout) == []


class TestPrune:
    @on_both_databases
    def test_what_has_ended_goes_and_what_waits_stays(self, szal, url):
        for name in ("e1", "e2", "e3"):
            szal("run", "lasting:other", "--id", name)
        szal("run", "lasting:approval", "--id", "e4")
        assert szal("prune", "--older-than", "30d").stdout == "0 executions deleted\n"
        assert szal("prune", "--keep", 2).stdout == "1 execution deleted\n"
        left = szal("prune", "--older-than", "0s", "--state", "completed", "--json")
        assert json.loads(left.stdout) == {"deleted": 2}
        with open_store(url) as store:
            assert store.list() == ["e4"]

    @pytest.mark.parametrize("options", [[], ["--keep", "1", "--state", "paused"]])
    def test_not_everything_and_nothing_that_lives(self, szal, options):
        szal("run", "lasting:other")
        result = szal("prune", *options)
        assert result.exit_code == 2
        assert "Error: " in result.stderr
        assert options or "--older-than, --keep or both" in result.stderr


class TestSignalsOfTheSystem:
    def test_the_second_ctrl_c_ends_the_grace_and_the_table_is_shown(self, spawn, url):
        process = spawn("run", "lasting:hangs", "--id", "e1")
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.until("once more")
        process.signal(signal.SIGINT)
        assert process.end() == 130  # the grace is 5s
        assert "hangs paused in" in process.seen
        assert re.search(r"hang +pending", process.seen)
        assert record(url).result["last"].status is StepStatus.PENDING

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
    def test_an_undoing_that_hangs_is_left_to_whoever_goes_on_with_it(self, szal, spawn, here, url, number):
        process = spawn("run", "lasting:rolls", "--id", "e1")
        process.until("undo hangs")
        process.signal(number)
        process.until("once more")
        process.signal(number)
        assert process.end() == 128 + number
        again = "interrupted while it was undone; to go on with that: szal resume e1 lasting:rolls"
        assert again in process.seen
        assert record(url).state is WorkflowState.ROLLING_BACK
        (here / "lasting.py").write_text(DURABLE.replace("time.sleep(60)", "pass"))
        assert szal("resume", "e1", "lasting:rolls").exit_code == 1
        assert record(url).state is WorkflowState.ROLLED_BACK

    def test_without_a_store_it_ends_an_undoing_that_hangs(self, spawn):
        process = spawn("run", "lasting:rolls", SZAL_STORE="memory:")
        process.until("undo hangs")
        process.signal(signal.SIGTERM)
        process.until("once more")
        process.signal(signal.SIGTERM)
        assert process.end() == 143
        assert "not rolled back: first" in process.seen

    def test_in_the_midst_of_a_step_that_must_not_run_twice_a_decision_is_asked_for(self, szal, spawn, here, url):
        (here / "lasting.py").write_text(DURABLE.replace('StepDef("hang")', 'StepDef("hang", idempotent=False)'))
        process = spawn("run", "lasting:hangs", "--id", "e1")
        process.until("| ready")
        process.signal(signal.SIGINT)
        process.until("once more")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "szal resolve e1 hang completed|failed|retry" in process.seen
        assert re.search(r"hang +undecided", process.seen)
        assert szal("resolve", "e1", "hang", "completed").exit_code == 0
        assert szal("resume", "e1", "lasting:hangs").exit_code == 0

    def test_recover_stops_with_the_one_that_is_interrupted(self, szal, spawn, url):
        for name in ("e1", "e2"):
            process = spawn("run", "lasting:sleeps", "--id", name)
            process.until("| ready")
            process.signal(signal.SIGTERM)
            assert process.end() == 143
        process = spawn("recover", "lasting:sleeps")
        process.until("| ready")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        states = [record(url, name).state for name in ("e1", "e2")]
        assert sorted(map(str, states)) == ["paused", "running"]


class TestHurry:
    def test_it_leaves_alone_what_is_not_cancelled(self):
        with Engine(lambda ctx: engine.end_grace() or ctx.sleep(0.05), EngineConfig()) as engine:
            assert engine.start(FlowDef("f", steps=[StepDef("a"), StepDef("b")])).result(30).success
            assert engine.abandoned == 0

    def test_it_gives_up_on_the_handlers_of_cancelled_runs(self):
        begun, freed = threading.Event(), threading.Event()

        def hang(ctx):
            begun.set()
            freed.wait(30)

        with Engine(hang, EngineConfig(cancel_grace=60)) as engine:
            execution = engine.start(FlowDef("f", steps=[StepDef("a"), StepDef("b")]))
            begun.wait(30)
            execution.cancel()
            engine.end_grace()
            result = execution.result(30)
            freed.set()
        assert result.state is WorkflowState.CANCELLED
        assert result["a"].status is StepStatus.FAILED
