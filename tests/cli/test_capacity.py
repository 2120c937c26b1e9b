"""``szal capacity``: how much there is of what steps share in all engines of a store; and what shows who waits."""

import json
import re

import pytest
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef, open_store


@pytest.fixture
def url(tmp_path):
    found = f"sqlite:///{tmp_path}/szal.db"
    open_store(found).close()
    return found


def test_it_is_set_shown_and_removed(szal, url):
    assert szal("capacity", "--store", url).stderr == "No capacity is set.\n"
    shown = szal("capacity", "api", "5", "--store", url).stdout.split()
    assert shown == ["resource", "capacity", "in", "use", "waiting", "api", "5", "0", "0"]
    szal("capacity", "gpu", "2", "--store", url)
    told = json.loads(szal("capacity", "--json", "--store", url).stdout)
    assert told == [
        {"name": "api", "capacity": 5, "used": 0, "waiting": 0},
        {"name": "gpu", "capacity": 2, "used": 0, "waiting": 0},
    ]
    assert szal("capacity", "api", "none", "--store", url).stderr == "No capacity of api is set.\n"
    assert [each["name"] for each in json.loads(szal("capacity", "--json", "--store", url).stdout)] == ["gpu"]


@pytest.mark.parametrize("number", ["0", "many", "-1", "1.5"])
def test_what_is_no_capacity_is_refused(szal, url, number):
    result = szal("capacity", "--store", url, "--", "api", number)
    assert result.exit_code == 2
    assert "is neither a number from 1 on nor 'none'" in result.stderr


def test_show_says_what_a_step_waits_for(szal, url):
    closed = [True]

    def handler(ctx):
        while closed:
            ctx.sleep(0.005)

    with open_store(url) as store, Engine(handler, EngineConfig(execution_store=store)) as engine:
        store.set_capacity("api", 1)
        steps = [StepDef(name, resources={"api": 1}) for name in ("first", "second")]
        run = engine.start(FlowDef("f", FlowMode.PARALLEL, steps=steps), execution_id="e1")
        wait_until(lambda: store.ledger.limits.waiting("e1"))  # its engine knows of it a moment before
        assert [str(each) for each in engine.look("e1").queued] == ["waits for 'api' (1 of 1 in use)"]
        shown = szal("show", "e1", "--store", url).stdout
        assert re.search(r"(first|second) waits for 'api' \(1 of 1 in use\), for \d+", shown), shown
        (queued,) = json.loads(szal("show", "e1", "--json", "--store", url).stdout)["queued"]
        assert (queued["name"], queued["units"], queued["used"]) == ("api", 1, 1)
        closed.clear()
        assert run.result(20).success
        assert engine.look("e1").queued == ()


def test_show_says_behind_what_an_execution_is_queued(szal, url):
    waits = StepDef("ask", step_type="wait", config={"signal": "go"})
    flow = FlowDef("f", steps=[waits], concurrency_key="customer-{{inputs.id}}")
    with open_store(url) as store, Engine(print, EngineConfig(execution_store=store)) as engine:
        engine.run(flow, {"id": 7}, execution_id="first")
        engine.submit(flow, {"id": 7}, execution_id="second")
    assert "queued behind first for 'customer-7'" in szal("show", "second", "--store", url).stdout
    assert json.loads(szal("show", "second", "--json", "--store", url).stdout)["queued_behind"] == "first"
    assert "queued_behind" not in json.loads(szal("show", "first", "--json", "--store", url).stdout)


NEEDS_TWO = """
name: two
steps:
  - {name: call, run: echo called, resources: {api: 2}}
"""


def test_what_needs_more_than_one_of_something_is_run_and_shown_where_the_store_has_so_much(szal, here, url):
    (here / "two.yaml").write_text(NEEDS_TWO)
    assert szal("validate", "two.yaml").exit_code == 0
    refused = szal("run", "two.yaml", "--store", url)
    assert (refused.exit_code, "it needs 2 of 'api', and there is 1" in refused.stderr) == (2, True)
    szal("capacity", "api", "2", "--store", url)
    assert szal("run", "two.yaml", "--store", url, "--id", "e1").exit_code == 0
    shown = szal("show", "e1", "--store", url)
    assert (shown.exit_code, "two completed" in shown.stdout) == (0, True)
    assert szal("rerun", "e1", "--from", "call", "--store", url).exit_code == 0


def test_show_says_that_what_was_submitted_needs_more_than_there_is_and_what_to_do(szal, url):
    steps = [StepDef("call", resources={"api": 7, "gpu": 1}), StepDef("render", resources={"gpu": 2})]
    with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as engine:
        store.set_capacity("api", 5)
        engine.submit(FlowDef("f", FlowMode.PARALLEL, steps=steps), execution_id="e1", queue="heavy")
    shown = szal("show", "e1", "--store", url).stdout
    assert "call waits for 'api' (it needs 7, and there is 5)" in shown
    assert f"szal capacity api 7 --store {url}" in shown
    assert "render waits for an engine that has 2 of 'gpu'" in shown
    assert f"szal worker MODULE:ATTRIBUTE --queue heavy --store {url}" in shown
    told = json.loads(szal("show", "e1", "--json", "--store", url).stdout)
    assert told["in_queue"] == {"queue": "heavy", "priority": 0, "not_before": None}
    assert [(each["name"], each["units"], each["capacity"]) for each in told["queued"]] == [
        ("api", 7, 5),
        ("gpu", 2, None),
    ]
    paused = szal("pause", "e1", "--store", url)
    assert (paused.exit_code, "in the queue 'heavy', and has not begun: it can be cancelled" in paused.stderr) == (
        2,
        True,
    )
    result = szal("doctor", "--store", url)
    assert result.exit_code == 1
    assert "f: call waits for 'api' (it needs 7, and there is 5) (1)" in result.stdout
    szal("cancel", "e1", "--store", url)
    shown = szal("show", "e1", "--store", url).stdout
    assert "was asked to cancel: a worker ends it that takes it up; to end it: szal resume e1" in shown
