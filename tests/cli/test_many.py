"""Many executions with one command: which they are, whether it is meant, what becomes of each, and how it is left."""

import importlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from processes import wait_until

from szal import Engine, EngineClosed, EngineConfig, ExecutionRecord, WorkflowState, open_store
from szal.engine.chosen import id_of_rerun

SHOP = """
import time
from pathlib import Path
from szal import FlowDef, Handlers, StepDef

def work(ctx):
    with open("done.txt", "a") as file:
        file.write(f"{ctx.execution_id} {ctx.step.name}\\n")
    if ctx.step.name == "pay" and not Path("repaired").exists():
        raise OSError("the bank is down")
    while ctx.step.name == "ship" and Path("hangs").exists():
        time.sleep(0.05)
    if ctx.step.name == "ship" and Path("slow").exists():
        ctx.report("ready now")
        ctx.sleep(60)
        ctx.check()
    return ctx.step.name

def wait(name):
    return StepDef(name, step_type="wait", config={"signal": name})

def flow(name, *steps):
    return FlowDef(name, steps=steps)

shop = flow("shop", StepDef("reserve"), StepDef("pay"), StepDef("ship")), work
other = flow("other", StepDef("pay")), work
approval = flow("approval", StepDef("ask"), wait("approve"), StepDef("tell")), work
inner = flow("inner", wait("approve"))
outer = flow("outer", StepDef("call", step_type="sub_flow", config={"flow_name": "inner"})), inner, Handlers(work)
"""

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(autouse=True)
def url(here, monkeypatch, database):
    """The store, as SZAL_STORE names it; the flows are in market.py."""
    (here / "market.py").write_text(SHOP)
    monkeypatch.setenv("SZAL_STORE", database)
    open_store(database).close()
    return database


@pytest.fixture
def market(here, url):
    """The module with the flows."""
    sys.path.insert(0, str(here))
    return importlib.import_module("market")


@pytest.fixture
def begin(url, market):
    """``begin(flow, *ids)``: have executions of a flow of market.py run here."""

    def begin(name, *ids, **options):
        flow, *_ = getattr(market, name)
        with open_store(url) as store:
            config = EngineConfig(execution_store=store)
            with Engine(market.work, config) as engine:
                for execution_id in ids:
                    engine.run(flow, execution_id=execution_id, **options)

    return begin


@pytest.fixture
def repair(here):
    """``repair()``: what failed does not any more; returns the current directory."""

    def repair():
        (here / "repaired").touch()
        return here

    return repair


def interrupted(url, flow, *ids):
    """Leave executions as a process leaves them that is told to end."""

    def leave(ctx):
        engine.release()

    for execution_id in ids:
        with open_store(url) as store:
            engine = Engine(leave, EngineConfig(execution_store=store))
            with pytest.raises(EngineClosed):
                engine.run(flow, execution_id=execution_id)


def states(url, **filters):
    with open_store(url) as store:
        return {summary.execution_id: str(summary.state) for summary in store.find(limit=None, **filters)}


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def done(here):
    path = here / "done.txt"
    return path.read_text().splitlines() if path.exists() else []


class TestRerun:
    @on_both_databases
    def test_runs_again_what_has_failed_and_tells_what_became_of_each(self, szal, begin, here, url):
        begin("shop", "a", "b", "c")
        begin("other", "d")
        (here / "repaired").touch()
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert result.exit_code == 0
        assert "3 executions to rerun (3 failed): of shop" in result.stdout
        assert "a as a-rerun-1 completed" in result.stdout
        assert result.stdout.rstrip().endswith("3 executions: 3 completed")
        assert states(url, states=WorkflowState.COMPLETED).keys() == {"a-rerun-1", "b-rerun-1", "c-rerun-1"}
        assert sum(line.endswith("reserve") for line in done(here)) == 3, "what completed is kept"

    def test_twice_runs_nothing_twice(self, szal, begin, here):
        begin("shop", "a", "b")
        (here / "repaired").touch()
        szal("rerun", "market:shop", "--flow", "shop", "--yes")
        before = done(here)
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert result.exit_code == 0
        assert "left out: 2 run again already" in result.stdout
        assert done(here) == before

    def test_reruns_the_rerun_that_failed_and_not_what_that_came_from(self, szal, begin, here):
        begin("shop", "a")
        assert szal("rerun", "market:shop", "--flow", "shop", "--yes").exit_code == 1
        (here / "repaired").touch()
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert "1 execution to rerun" in result.stdout
        assert "a-rerun-1 as a-rerun-2 completed" in result.stdout

    def test_leaves_out_what_somebody_has_rerun_by_hand(self, szal, begin, here):
        begin("shop", "a", "b")
        (here / "repaired").touch()
        szal("rerun", "a", "market:shop")
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert "1 execution to rerun" in result.stdout
        assert "left out: 1 run again already" in result.stdout

    def test_by_two_at_a_time_runs_once(self, szal, begin, repair, url, monkeypatch):
        begin("shop", "a")
        here = repair()

        def rerun_by_both(engine, *arguments, **options):
            work = importlib.import_module("market").work
            with open_store(url) as store, Engine(work, EngineConfig(execution_store=store)) as other:
                rerun(other, *arguments, **options)
            return rerun(engine, *arguments, **options)

        rerun = Engine.rerun
        monkeypatch.setattr(Engine, "rerun", rerun_by_both)
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert result.exit_code == 0
        assert "a done already: another process has run it: completed" in result.stdout
        assert [line for line in done(here) if line.endswith("ship")] == ["a-rerun-1 ship"]

    def test_one_that_cannot_go_on_stops_no_other_and_is_told(self, szal, begin, here):
        begin("shop", "a")
        begin("other", "b")
        (here / "repaired").touch()
        result = szal("rerun", "market:shop", "--since", "1h", "--flow", "shop", "--yes")
        assert result.exit_code == 0
        result = szal("rerun", "--state", "failed", "--yes")
        assert result.exit_code == 1
        assert "b cannot go on: no handler for step: pay" in result.stdout

    def test_a_flow_that_fails_again_is_exit_status_1_and_says_how_to_look(self, szal, begin):
        begin("shop", "a")
        result = szal("rerun", "market:shop", "--flow", "shop", "--yes")
        assert result.exit_code == 1
        assert "failed in" in result.stdout
        assert "the bank is down" in result.stdout
        assert "why one failed: szal show ID" in result.stdout

    def test_of_what_has_not_ended_is_refused(self, szal):
        result = szal("rerun", "--state", "running", "--yes")
        assert result.exit_code == 2
        assert "szal resume" in result.stderr


class TestChoosing:
    def test_by_time_label_and_limit_takes_the_oldest_of_what_passes_all(self, szal, begin):
        begin("shop", "a", "b", "c", labels={"day": "1"})
        begin("shop", "d")
        result = szal("rerun", "--label", "day=1", "--since", "1h", "--limit", 2, "--dry-run", "--json")
        assert [line.get("execution_id") for line in lines(result)] == ["a", "b", None]
        assert szal("rerun", "--flow", "shop", "--until", "1h", "--dry-run").stdout.startswith("0 executions")

    def test_a_dry_run_does_nothing(self, szal, begin, here, url):
        begin("shop", "a")
        (here / "repaired").touch()
        result = szal("rerun", "market:shop", "--flow", "shop", "--dry-run")
        assert result.exit_code == 0
        assert "1 execution to rerun" in result.stdout
        assert "Nothing was done" in result.stdout
        assert states(url) == {"a": "failed"}

    def test_without_a_terminal_nothing_is_done_unless_yes_is_said(self, szal, begin, url):
        begin("shop", "a")
        result = szal("rerun", "market:shop", "--flow", "shop")
        assert result.exit_code == 2
        assert "--yes" in result.stderr
        assert "--dry-run" in result.stderr
        assert states(url) == {"a": "failed"}

    @pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 1)])
    def test_at_a_terminal_it_asks(self, begin, url, answer, status):
        begin("shop", "a")
        terminal, its = pty.openpty()
        command = [sys.executable, "-m", "szal", "rerun", "market:shop", "--flow", "shop"]
        with subprocess.Popen(command, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            os.write(terminal, f"{answer}\n".encode())
            _, said = process.communicate(timeout=20)
        os.close(terminal)
        os.close(its)
        assert "rerun 1 execution? [y/N]" in said
        assert process.returncode == status
        assert len(states(url)) == (1 if answer == "n" else 2)

    def test_sub_flows_go_with_what_they_belong_to(self, szal):
        szal("run", "market:outer", "--id", "a")
        result = szal("cancel", "--state", "paused", "--dry-run")
        assert "1 execution to cancel" in result.stdout
        assert "left out: 1 sub-flows" in result.stdout

    @pytest.mark.parametrize("command", ["rerun", "resume", "cancel"])
    def test_neither_an_id_nor_a_filter_says_what_to_give(self, szal, command):
        result = szal(command, "--yes")
        assert result.exit_code == 2
        assert "--flow" in result.stderr
        assert szal(command).exit_code == 2

    def test_an_id_and_a_filter_are_too_much(self, szal, begin):
        begin("approval", "a")
        assert "not both" in szal("cancel", "a", "--flow", "approval").stderr
        assert "not both" in szal("resume", "a", "market:approval", "--flow", "approval").stderr
        assert "no ID is given" in szal("resume", "a", "--flow", "approval").stderr

    @pytest.mark.parametrize("time", ["yesterday", "", "1 hour", "-1h"])
    def test_what_is_no_time_is_refused_with_what_one_is(self, szal, time):
        result = szal("rerun", "--since", time, "--dry-run")
        assert result.exit_code == 2
        assert "2026-11-27" in result.stderr

    @pytest.mark.parametrize("time", ["1h", "90", "1000000000d", "2001-01-01", "2001-01-01 14:00", "0001-01-01T00:00Z"])
    def test_a_time_is_an_age_or_a_date(self, szal, begin, time):
        begin("shop", "a")
        assert szal("rerun", "--since", time, "--dry-run").stdout.startswith("1 execution ")

    def test_list_and_show_take_the_same_filters(self, szal, begin):
        begin("shop", "a")
        begin("other", "b")
        listed = json.loads(szal("list", "--since", "1h", "--flow", "shop", "--state", "failed", "--json").stdout)
        assert [each["execution_id"] for each in listed] == ["a"]
        assert json.loads(szal("list", "--until", "1h", "--json").stdout) == []
        assert json.loads(szal("show", "--since", "1h", "--json").stdout)["execution_id"] == "b"

    def test_what_is_shown_as_interrupted_is_chosen_by_that_word(self, szal, market, repair, url):
        repair()
        interrupted(url, market.shop[0], "a")
        result = szal("resume", "market:shop", "--state", "interrupted", "--yes")
        assert result.stdout.rstrip().endswith("1 execution: 1 completed")

    def test_more_than_a_page_of_them(self, szal, url):
        with open_store(url) as store, store.engine_sink() as sink:
            for number in range(2500):
                sink.save(ExecutionRecord(f"e{number:04}", "shop", WorkflowState.FAILED))
        result = szal("rerun", "--flow", "shop", "--dry-run", "--json")
        assert [line["execution_id"] for line in lines(result)[:-1]] == [f"e{number:04}" for number in range(2500)]


class TestResume:
    @on_both_databases
    def test_goes_on_with_what_nobody_runs_and_leaves_what_waits(self, szal, begin, market, here, url):
        (here / "repaired").touch()
        interrupted(url, market.shop[0], "a", "b")
        begin("approval", "c")
        dry = szal("resume", "--flow", "shop", "--dry-run")
        assert dry.stdout.startswith("2 executions to resume (2 interrupted): ")
        result = szal("resume", "market:shop", "--since", "1h", "--flow", "shop", "--yes")
        assert result.exit_code == 0
        assert result.stdout.rstrip().endswith("2 executions: 2 completed")
        result = szal("resume", "market:approval", "--flow", "approval", "--yes")
        assert "left out: 1 waiting for a signal" in result.stdout

    def test_with_state_paused_what_waits_is_tried_and_waits_on(self, szal, begin):
        begin("approval", "a")
        result = szal("resume", "market:approval", "--flow", "approval", "--state", "paused", "--yes")
        assert result.exit_code == 3
        assert "a paused" in result.stdout

    def test_what_another_process_takes_up_meanwhile_is_left_to_it(self, szal, market, url, monkeypatch):
        taken, over = threading.Event(), threading.Event()

        def hold(ctx):
            taken.set()
            assert over.wait(20)

        def resume_after_another(engine, execution_id, **options):
            threading.Thread(target=resume, args=[other, execution_id]).start()
            assert taken.wait(20)
            return resume(engine, execution_id, **options)

        interrupted(url, market.shop[0], "a")
        resume = Engine.resume
        monkeypatch.setattr(Engine, "resume", resume_after_another)
        with open_store(url) as store, Engine(hold, EngineConfig(execution_store=store)) as other:
            result = szal("resume", "market:shop", "--flow", "shop", "--yes")
            over.set()
        assert result.exit_code == 0
        assert "a taken by another process" in result.stdout

    def test_what_is_being_run_is_left_out(self, szal, market, url):
        answers = []

        def look(ctx):
            if ctx.step.name == "reserve":
                answers.append(szal("resume", "market:shop", "--flow", "shop", "--yes"))

        with open_store(url) as store, Engine(look, EngineConfig(execution_store=store)) as engine:
            engine.run(market.shop[0], execution_id="a")
        assert "left out: 1 being run" in answers[0].stdout

    def test_of_what_has_ended_is_refused(self, szal):
        result = szal("resume", "--state", "failed", "--yes")
        assert result.exit_code == 2
        assert "szal rerun" in result.stderr


class TestCancel:
    @on_both_databases
    def test_asks_all_and_says_how_those_end_that_nobody_runs(self, szal, begin, url):
        begin("approval", "a", "b")
        result = szal("cancel", "--flow", "approval", "--yes")
        assert result.exit_code == 0
        assert "2 executions: 2 asked to cancel" in result.stdout
        assert "szal resume MODULE:ATTRIBUTE --flow approval" in result.stdout
        szal("resume", "market:approval", "--flow", "approval", "--yes")
        assert set(states(url).values()) == {"cancelled"}

    def test_each_is_an_object_on_a_line_and_the_last_one_sums_up(self, szal, begin):
        begin("approval", "a")
        one, summary = lines(szal("cancel", "--flow", "approval", "--yes", "--json"))
        assert (one["execution_id"], one["outcome"]) == ("a", "asked")
        assert (summary["summary"], summary["total"], summary["interrupted"]) == ({"asked": 1}, 1, False)


class TestASignal:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_in_the_middle_tells_what_was_done_and_how_the_rest_goes_on(self, spawn, begin, szal, repair, number):
        begin("shop", "a", "b", "c")
        here = repair()
        (here / "slow").touch()
        options = ["market:shop", "--flow", "shop", "--yes"]
        process = spawn("rerun", *options, "--at-once", "1")
        process.until("to rerun")
        wait_until(lambda: "a-rerun-1 ship" in done(here), 20)
        process.signal(number)
        assert process.end() == 128 + number
        assert "a as a-rerun-1 stopped" in process.seen
        assert "3 executions: 1 stopped, 2 not begun" in process.seen
        assert "what was begun goes on with: szal resume market:shop --flow shop" in process.seen
        (here / "slow").unlink()
        assert szal("resume", *options).exit_code == 0
        assert szal("rerun", *options).exit_code == 0
        assert states(os.environ["SZAL_STORE"], states=WorkflowState.COMPLETED).keys() == {
            "a-rerun-1",
            "b-rerun-1",
            "c-rerun-1",
        }

    def test_a_second_one_does_not_wait_for_what_hangs(self, spawn, begin, repair):
        begin("shop", "a")
        here = repair()
        (here / "hangs").touch()
        process = spawn("rerun", "market:shop", "--flow", "shop", "--yes")
        wait_until(lambda: "a-rerun-1 ship" in done(here), 20)
        process.signal(signal.SIGINT)
        process.until("once more to stop waiting")
        process.signal(signal.SIGINT)
        assert process.end() == 130
        assert "1 stopped" in process.seen


def test_the_id_of_a_rerun_is_the_same_for_whoever_reruns_it():
    assert id_of_rerun("a-rerun-9") == "a-rerun-10"
    assert id_of_rerun("rerun-1") == "rerun-1-rerun-1"
