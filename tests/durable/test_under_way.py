"""That a step has begun, and since when: seen where it runs, and from elsewhere although no write was made for it."""

import threading

import pytest
from durable.children import Child
from helper_engine import bounded, waited
from processes import wait_until

from szal import ExecutionNotFound, FlowDef, FlowMode, InMemoryStorage, StepDef
from szal.contrib.web import wsgi
from szal.engine import sharing, under_way
from szal.errors import StoreUnavailable
from szal.stores.ledger import Renewal
from szal.stores.memory.ledger import MemoryLedger
from szal.stores.sql_ledger import SqlLedger

SHARED = {"share_progress": True}
NOT_SHARED = {"lease_ttl": 0.9}  # told with the renewals of the lease


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Steps are told of as soon as they have begun, and ten times a second: nothing is waited for in vain."""
    monkeypatch.setattr(under_way, "_LEAST", 0.0)
    monkeypatch.setattr(sharing, "_EVERY", 0.1)


class Held:
    """A handler that stays in some steps until it is let go."""

    def __init__(self, *names):
        self.names, self.begun, self.go = names, threading.Semaphore(0), threading.Event()

    def __call__(self, ctx):
        if ctx.step.name in self.names:
            self.begun.release()
            waited(self.go)
        return [1, 2]


def begun(status):
    """Return by name how each step stands: at which attempt, and whether it says since when."""
    return {step.step_name: (str(step.status), step.attempts, step.started_at is not None) for step in status.results}


RUNNING, PENDING = ("running", 1, True), ("pending", 0, False)


def until(engine, expected, execution_id="e"):
    """Return how an execution stands, as soon as it is recorded, and its steps do as *expected*."""

    def look():
        try:
            found = engine.look(execution_id)
        except ExecutionNotFound:
            return None
        return found if begun(found) == expected else None

    return wait_until(look, 30)


def all_running(items):
    """Return two items, once both are told of: one may be before the other."""
    return items if [str(item.status) for item in items or ()] == ["running"] * 2 else None


@pytest.mark.parametrize("config", [SHARED, NOT_SHARED], ids=["shared", "not shared"])
def test_elsewhere_a_step_reads_running_since_it_began_until_it_ends(new_engine, config):
    handler, flow = Held("b"), FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    engine, other = new_engine(handler, **config), new_engine([])
    execution = engine.start(flow, execution_id="e")
    assert handler.begun.acquire(timeout=30)
    with other.watch("e", interval=0.1, timeout=30) as watch:
        expected = {"a": ("completed", 1, True), "b": RUNNING, "c": PENDING}  # the row of a may come after what is told
        seen = next(status for status in watch if begun(status) == expected)
        here = engine.look("e")
        assert begun(here) == expected
        assert here.steps["b"].started_at == seen.steps["b"].started_at
        handler.go.set()
        last = bounded(list, watch)[-1]
    assert {state for state, *_ in begun(last).values()} == {"completed"}
    assert execution.result(30)["b"].started_at == seen.steps["b"].started_at


def test_so_do_items_sub_flows_and_waits_beside_what_runs(new_engine, store):
    listed = StepDef("list")
    steps = [
        listed,
        StepDef("each", foreach="steps.list.output", depends_on=[listed]),
        StepDef("below", step_type="sub_flow", config={"flow_name": "inner"}),
        StepDef("ask", step_type="wait", config={"signal": "go"}),
    ]
    storage = InMemoryStorage()
    storage.insert(FlowDef("inner", steps=[StepDef("in")]))
    handler = Held("each", "in")
    engine, other = new_engine(handler, storage=storage, **SHARED), new_engine([])
    engine.start(FlowDef("f", FlowMode.DAG, steps=steps), execution_id="e")
    for _ in range(3):
        assert handler.begun.acquire(timeout=30)
    expected = {"list": ("completed", 1, True), "each": RUNNING, "below": RUNNING, "ask": RUNNING}
    for looks in (other, engine):
        items = wait_until(lambda looks=looks: all_running(until(looks, expected).steps["each"].items), 30)
        assert all(item.started_at is not None for item in items)
    (child,) = store.find(parent="e")
    until(other, {"in": RUNNING}, child.execution_id)
    engine.signal("e", "go")  # before the others end: else it pauses for that
    until(engine, {**expected, "ask": ("completed", 1, True)})
    handler.go.set()
    assert engine.result("e", timeout=30).success


@pytest.mark.parametrize("kind", ["sqlite"])
def test_which_attempt_it_is_is_told(new_engine):
    go = threading.Event()

    def handler(ctx):
        if ctx.attempt == 1:
            raise OSError("busy")
        waited(go)

    engine = new_engine(handler, **SHARED)
    engine.start(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0.0)]), execution_id="e")
    until(new_engine([]), {"a": ("running", 2, True)})
    go.set()
    assert engine.result("e", timeout=30)["a"].attempts == 2


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("config", [SHARED, NOT_SHARED], ids=["shared", "not shared"])
def test_of_steps_that_are_quick_nothing_is_written(new_engine, monkeypatch, config):
    monkeypatch.setattr(under_way, "_LEAST", 3600.0)
    told = []
    for kind in (SqlLedger, MemoryLedger):
        renew = kind.renew

        def renewing(ledger, renewal: Renewal, renew=renew):
            told.append(renewal.under_way)
            return renew(ledger, renewal)

        monkeypatch.setattr(kind, "renew", renewing)
        monkeypatch.setattr(kind, "tell_under_way", lambda _, told_now: told.append(told_now))
    handler = Held("a")
    engine = new_engine(handler, lease_ttl=0.9, **{key: value for key, value in config.items() if key != "lease_ttl"})
    engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    wait_until(lambda: told, 30)
    handler.go.set()
    assert engine.result("e", timeout=30).success
    assert not any(told)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_has_been_told_is_not_written_again(new_engine, store, monkeypatch):
    written, looked = [], threading.Semaphore(0)
    for kind in (SqlLedger, MemoryLedger):
        monkeypatch.setattr(kind, "tell_under_way", lambda _, told: written.append(told))
    news = under_way.Told.news

    def looking(told, *given):
        looked.release()
        return news(told, *given)

    monkeypatch.setattr(under_way.Told, "news", looking)
    handler = Held("a", "b")
    engine = new_engine(handler, **SHARED)
    engine.start(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")]), execution_id="e")
    for _ in range(2):
        assert handler.begun.acquire(timeout=30)
    while looked.acquire(blocking=False):
        pass
    for _ in range(3):  # the second of these began after both steps, and what it found is written before the third
        assert looked.acquire(timeout=30)
    before = len(written)
    for _ in range(3):
        assert looked.acquire(timeout=30)
    assert len(written) == before > 0
    handler.go.set()
    assert engine.result("e", timeout=30).success


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_store_that_is_away_holds_up_no_step_and_is_told_later(new_engine, monkeypatch):
    tried = []
    for kind in (SqlLedger, MemoryLedger):
        tell = kind.tell_under_way

        def telling(ledger, told, tell=tell):
            tried.append(told)
            if len(tried) == 1:
                raise StoreUnavailable("the store", "away")
            tell(ledger, told)

        monkeypatch.setattr(kind, "tell_under_way", telling)
    handler = Held("a")
    engine = new_engine(handler, **SHARED)
    engine.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    until(new_engine([]), {"a": RUNNING})
    handler.go.set()
    assert engine.result("e", timeout=30).success


CODE = """
    from szal.engine import sharing, under_way
    under_way._LEAST, sharing._EVERY = 0.0, 0.1

    def handler(ctx):
        if ctx.step.name == "b":
            threading.Event().wait()

    engine = new_engine(handler, share_progress=True)
    engine.start(FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e")
    listen()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_from_another_process_it_is_seen_until_that_dies_and_what_it_told_counts_no_more(store_url, new_engine):
    other = new_engine(lambda ctx: 1)
    with Child(CODE, store_url) as child:
        until(other, {"a": ("completed", 1, True), "b": RUNNING})
        page = wsgi(other).test_client().get("/executions/e").text
        assert page.count('class="badge s-running"') == 2  # the execution, and the step
        child.process.kill()
        child.process.wait()
        until(other, {"a": ("completed", 1, True), "b": PENDING})
    assert [result.success for result in bounded(other.recover)] == [True]
