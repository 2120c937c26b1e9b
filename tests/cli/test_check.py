"""``szal check``: which executions a new release could not go on with, why, and what to do about it."""

import importlib
import json
import sys

import pytest

from szal import Engine, EngineConfig, ExecutionRecord, InMemoryStorage, WorkflowState, open_store

OLD = """
from szal import FlowDef, Handlers, StepDef

def wait(name):
    return StepDef(name, step_type="wait", config={"signal": name})

def flow(name, *steps, **more):
    return FlowDef(name, steps=steps, **more)

shop = flow("shop", StepDef("reserve"), wait("approved"), StepDef("ship"))
inner = flow("inner", StepDef("first"), wait("approved"))
outer = flow("outer", StepDef("call", step_type="sub_flow", config={"flow_name": "inner"}))
later = flow("later", wait("approved"), StepDef("call", step_type="sub_flow", config={"flow_name": "inner"}))
"""

NEW = """
import attrs
from old import flow, wait, shop as old_shop, inner, outer as old_outer, later as old_later
from szal import FlowDef, Handlers, MigrationRegistry, StepDef

work = Handlers()
for each in ("reserve", "ship", "first"):
    work.step(each)(lambda ctx: None)
less = Handlers()
less.step("reserve")(lambda ctx: None)

same = old_shop, work
lacks = old_shop, less
newer = attrs.evolve(old_shop, version=2), work

migrations = MigrationRegistry()
@migrations.register(1, 2)
def renamed(flow):
    flow.steps = [StepDef("book"), *flow.steps[1:]]
    return flow
booked = Handlers()
for each in ("book", "ship"):
    booked.step(each)(lambda ctx: None)
drops = flow("shop", StepDef("book"), wait("approved"), StepDef("ship"), version=2), booked, migrations

adds = MigrationRegistry()
@adds.register(1, 2)
def with_a_step(flow):
    flow.steps = [*flow.steps, StepDef("first")]
    return flow
fits = attrs.evolve(old_shop, version=2, steps=[*old_shop.steps, StepDef("first")]), work, adds

outer = old_outer, inner, work
outer_without = flow("outer", StepDef("first")), work
inner_less = Handlers()
outer_lacks = old_outer, inner, inner_less
later = flow("later", StepDef("first")), work
"""

DEPLOY = """
name: deploy
mode: sequential
steps:
  - {name: build, run: echo built}
  - {name: gate, type: wait, config: {signal: go}}
  - {name: ship, run: echo shipped}
"""


@pytest.fixture(autouse=True)
def url(here, monkeypatch, database):
    """The store, as SZAL_STORE names it; the flows as they were are in old.py, as they are to be in new.py."""
    (here / "old.py").write_text(OLD)
    (here / "new.py").write_text(NEW)
    (here / "deploy.yaml").write_text(DEPLOY)
    monkeypatch.setenv("SZAL_STORE", database)
    open_store(database).close()
    return database


@pytest.fixture
def begin(url, here):
    """``begin(flow, *ids)``: have executions begin with the old code; they wait."""
    sys.path.insert(0, str(here))
    old = importlib.import_module("old")

    def begin(flow, *ids):
        with open_store(url) as store:
            config = EngineConfig(execution_store=store, storage=InMemoryStorage([old.inner]))
            with Engine(lambda ctx: None, config) as engine:
                for execution_id in ids:
                    engine.run(getattr(old, flow), execution_id=execution_id)

    return begin


def test_where_all_can_go_on_it_says_so(szal, begin):
    begin("shop", "a", "b")
    result = szal("check", "new:same")
    assert (result.exit_code, result.stdout) == (0, "all of 2 unfinished executions can go on with new:same\n")


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_a_handler_that_is_gone_is_told_with_the_executions_that_need_it(szal, begin):
    begin("shop", "a", "b")
    result = szal("check", "new:lacks")
    assert result.exit_code == 2, "the new flow itself lacks it"
    result = szal("check", "new:drops")
    assert result.exit_code == 1
    assert "step 'reserve' was removed" in result.stdout
    assert "  b, a\n" in result.stdout
    assert "what to do: keep, in the migrated definition, the steps that have begun" in result.stdout
    assert result.stdout.endswith("2 of 2 unfinished executions cannot go on with new:drops\n")


def test_a_handler_of_a_step_that_the_new_flow_has_no_more(szal, begin, here):
    begin("shop", "a")
    (here / "newest.py").write_text(NEW + "shop = flow('shop', StepDef('reserve')), less\n")
    result = szal("check", "newest:shop")
    assert result.exit_code == 1
    assert "shop: no handler for step: ship (1)" in result.stdout
    assert "keep what does that step" in result.stdout


def test_a_version_without_a_migration(szal, begin):
    begin("shop", "a")
    result = szal("check", "new:newer")
    assert result.exit_code == 1
    assert "it began with version 1, this code has version 2, and no migration is registered" in result.stdout
    assert szal("check", "new:fits").exit_code == 0


def test_a_sub_flow_that_is_gone_and_one_that_lacks_a_handler(szal, begin, here):
    begin("outer", "a")
    assert szal("check", "new:outer").exit_code == 0
    result = szal("check", "new:outer_without")
    assert result.exit_code == 0, "it has begun: its own definition is recorded"
    (here / "newest.py").write_text(NEW + "outer = flow('outer', StepDef('call')), Handlers(lambda c: None)\n")
    begin("later", "b")
    result = szal("check", "new:later")
    assert result.exit_code == 1
    assert "later: no sub-flow for step: call (1)" in result.stdout


def test_what_has_ended_or_is_of_another_flow_is_not_looked_at(szal, begin, url):
    begin("shop", "a")
    with open_store(url) as store:
        store.save(ExecutionRecord("b", "shop", WorkflowState.FAILED))
        store.save(ExecutionRecord("c", "nightly", WorkflowState.RUNNING))
        store.save(ExecutionRecord("d", "shop", WorkflowState.RUNNING))
    result = szal("check", "new:same")
    assert result.exit_code == 0
    assert "all of 1 unfinished executions" in result.stdout
    assert "1 of other flows: nightly (1)" in result.stderr
    assert "1 that szal's engine did not run" in result.stderr


def test_a_file_that_differs_is_told_as_resume_refuses_it(szal, here):
    szal("run", "deploy.yaml", "--id", "a")
    result = szal("check", "deploy.yaml")
    assert result.exit_code == 0, result.stderr
    (here / "deploy.yaml").write_text(DEPLOY.replace("echo shipped", "echo sent"))
    result = szal("check", "deploy.yaml")
    assert result.exit_code == 1
    assert "deploy.yaml differs: step 'ship'" in result.stdout
    assert szal("resume", "a", "deploy.yaml").exit_code == 2


def test_it_takes_nothing_over(szal, begin, url):
    begin("shop", "a")
    with open_store(url) as store:
        before = store.ledger.read("a")
        szal("check", "new:drops")
        assert store.ledger.read("a") == before


def test_as_json(szal, begin):
    begin("shop", "a")
    told = json.loads(szal("check", "new:drops", "--json").stdout)
    [blocked] = told.pop("blocked")
    assert told == {"ok": False, "checked": 1, "other_flows": {}, "foreign": 0}
    assert (blocked["execution_id"], blocked["flow_name"], blocked["state"]) == ("a", "shop", "paused")
    assert blocked["kind"] == "DefinitionMismatch"
    assert json.loads(szal("check", "new:same", "--json").stdout)["ok"] is True
