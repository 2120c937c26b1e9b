"""What steps under way report, seen by whoever looks."""

import json
import threading
import time

import pytest
from durable.children import Child
from helper_engine import bounded, waited
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef, StepStatus
from szal.stores.memory.ledger import MemoryLedger
from szal.stores.sql_ledger import SqlLedger

FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("b")])


def said(status, name="a"):
    step = status.steps[name]
    return str(step.status), None if step.report is None else step.report.data


class Reports:
    """A handler that reports what the test says, and ends when it says so."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, ctx):
        if ctx.step.name == "a":
            ctx.report({"done": 1})
            self.begun.set()
            waited(self.go)


def shared_of(store, name="e"):
    return [(each.step_name, json.loads(each.data)) for each in store.ledger.reports(name)]


def test_the_last_report_of_a_running_step_is_seen_here_and_elsewhere_until_it_ends(new_engine, store):
    handler = Reports()
    with new_engine(handler, share_progress=True) as engine:
        engine.start(FLOW, execution_id="e")
        waited(handler.begun)
        assert said(engine.look("e")) == ("running", {"done": 1})
        other = new_engine([])
        watch = other.watch("e", interval=0.05)
        while said(bounded(next, watch)) != ("running", {"done": 1}):
            pass
        assert said(other.look("e")) == ("running", {"done": 1})
        handler.go.set()
        last = bounded(list, watch)[-1]
        assert said(last) == ("completed", None)
        wait_until(lambda: shared_of(store) == [], 30)


def test_nothing_is_written_where_nobody_asked_for_it(new_engine, store, monkeypatch):
    def written(*_):
        raise AssertionError("something is written")

    for kind in (SqlLedger, MemoryLedger):
        monkeypatch.setattr(kind, "report", written)
    handler, before = Reports(), set(threading.enumerate())
    with new_engine(handler) as engine:
        engine.start(FLOW, execution_id="e")
        waited(handler.begun)
        assert said(engine.look("e")) == ("running", None)
        assert "szal-progress" not in {thread.name for thread in {*threading.enumerate()} - before}
        handler.go.set()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_step_is_written_once_a_second_at_most_however_often_it_reports(new_engine, store, monkeypatch):
    """Whatever comes meanwhile, the last of it is what is written."""
    written, done = [], threading.Event()
    for kind in (SqlLedger, MemoryLedger):
        report = kind.report

        def noting(ledger, reports, ended=(), report=report):
            written.append([json.loads(each.data) for each in reports])
            report(ledger, reports, ended)

        monkeypatch.setattr(kind, "report", noting)

    def handler(ctx):
        for number in range(2000):
            ctx.report(number)
        waited(done)

    began = time.monotonic()
    with new_engine(handler, share_progress=True) as engine:
        engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        wait_until(lambda: shared_of(store) == [("a", 1999)], 30)
        done.set()
    assert len([rows for rows in written if rows]) <= time.monotonic() - began + 2


def test_a_store_that_is_away_holds_up_no_report(new_engine, monkeypatch):
    away = threading.Event()

    def held_up(*_):
        waited(away)

    for kind in (SqlLedger, MemoryLedger):
        monkeypatch.setattr(kind, "report", held_up)
    with new_engine(lambda ctx: ctx.report(1), share_progress=True) as engine:
        assert bounded(engine.run, FLOW, execution_id="e").success
        away.set()


def test_the_engine_s_own_sink_hears_as_before_and_what_must_not_be_seen_is_masked(new_engine, store):
    heard, go = [], threading.Event()

    def handler(ctx):
        ctx.report({"token": "s3cret", "n": 1})
        waited(go)

    with new_engine(handler, share_progress=True, progress_sink=heard.append, redact=["token"]) as engine:
        engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        found = wait_until(lambda: shared_of(store), 30)
        assert [progress.data["n"] for progress in wait_until(lambda: heard, 30)] == [1]
        assert "s3cret" not in str(found)
        assert "s3cret" not in str(engine.look("e").steps["a"].report)
        go.set()


@pytest.mark.parametrize("data", [{1, 2}, float("nan"), object])
def test_what_json_cannot_hold_is_written_as_its_repr(new_engine, store, data):
    go = threading.Event()

    def handler(ctx):
        ctx.report(data)
        waited(go)

    with new_engine(handler, share_progress=True) as engine:
        engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
        assert wait_until(lambda: shared_of(store), 30) == [("a", repr(data))]
        go.set()


def test_the_last_line_of_a_command_is_seen(new_engine, tmp_path):
    (tmp_path / "go").touch()
    run = f"echo one; echo two; while [ -e {tmp_path}/go ]; do sleep 0.02; done"
    with new_engine(Handlers(), share_progress=True) as engine:
        engine.start(FlowDef("f", steps=[StepDef("a", step_type="shell", config={"run": run})]), execution_id="e")
        wait_until(lambda: said(engine.look("e")) == ("running", {"stream": "stdout", "line": "two"}), 30)
        (tmp_path / "go").unlink()
        assert engine.result("e", timeout=30).success


def test_without_a_store_it_is_seen_in_the_engine():
    handler = Reports()
    with Engine(handler, EngineConfig(share_progress=True)) as engine:
        execution = engine.start(FLOW)
        waited(handler.begun)
        assert said(execution.progress()) == ("running", {"done": 1})
        handler.go.set()


REPORTS = """
    def handler(ctx):
        ctx.report("from the first")
        while not store.ledger.reports("e"):
            time.sleep(0.01)
        die()

    new_engine(handler, share_progress=True, max_recoveries=9).run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
"""


def test_what_a_process_said_that_died_goes_with_its_lease(store_url, new_engine, store):
    with Child(REPORTS, store_url) as child:
        child.process.wait(30)
    status = new_engine([]).look("e")
    assert (said(status), status.is_running) == (("pending", "from the first"), False)
    begun, go = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        waited(go)

    with new_engine(handler, share_progress=True) as engine:
        thread = threading.Thread(target=engine.resume, args=("e",))
        thread.start()
        waited(begun)
        assert said(new_engine([]).look("e")) == ("pending", None)
        go.set()
        thread.join(30)
        assert new_engine([]).look("e").steps["a"].status is StepStatus.COMPLETED
        wait_until(lambda: shared_of(store) == [], 30)


def test_reports_go_with_their_execution(new_engine, store):
    handler = Reports()
    with new_engine(handler, share_progress=True) as engine:
        engine.start(FLOW, execution_id="e")
        wait_until(lambda: shared_of(store), 30)
        store.remove("e")
        assert shared_of(store) == []
        handler.go.set()
