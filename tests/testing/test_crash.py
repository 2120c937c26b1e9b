"""A crash at a given step: what is recorded until then stays, the run is gone, and another engine goes on."""

import sqlite3
import threading
from contextlib import closing
from functools import partial

import psycopg
import pytest
from helper_engine import bounded

from szal import Engine, EngineConfig, ExecutionOwned, Flow, FlowDef, FlowMode, StepDef, WorkflowState, open_store
from szal.testing import Crashed, FakeClock, crash_after, engine, run_flow

STEPS = ["reserve", "charge", "approve", "pack", "ship"]


class Shop:
    """A flow, and what is really done by it."""

    def __init__(self, *, fails=False):
        self.done, self.keys = [], []
        flow = self.flow = Flow("shop", rollback_on_failure=True)

        @flow.step
        def reserve(ctx):
            return self.do(ctx)

        @reserve.rollback
        def release(ctx):
            return self.do(ctx, "release")

        @flow.step(max_retries=2, retry_delay=60)
        def charge(ctx, reserve):
            if ctx.attempt == 1:
                raise ConnectionError("down")
            return self.do(ctx)

        @charge.rollback
        def refund(ctx):
            return self.do(ctx, "refund")

        flow.add_step(
            StepDef("approve", step_type="wait", config={"signal": "ok", "timeout": 3600, "default": "nobody"}),
            needs=charge,
        )

        @flow.step(foreach=["a", "b"])
        def pack(ctx, approve, item):
            return self.do(ctx, f"pack {item}")

        @flow.step
        def ship(ctx, pack):
            if fails:
                raise OSError("no van")
            return self.do(ctx)

    def do(self, ctx, what=None):
        self.done.append(what or ctx.step.name)
        self.keys.append(ctx.idempotency_key)
        return what or ctx.step.name


WHOLE = ["reserve", "charge", "pack a", "pack b", "ship"]


@pytest.mark.parametrize("step", STEPS)
def test_what_is_recorded_is_not_done_again(url, step):
    shop = Shop()
    result = bounded(run_flow, shop.flow, store=url, crash=crash_after(step))
    assert result.success
    assert sorted(shop.done) == sorted(WHOLE)
    assert shop.done.index("ship") == 4
    assert result.total_duration == 3660


@pytest.mark.parametrize("step", ["reserve", "charge", "ship"])
def test_what_was_done_and_not_recorded_is_done_again_with_the_same_key(url, step):
    shop = Shop()
    assert bounded(run_flow, shop.flow, store=url, crash=crash_after(step, recorded=False)).success
    assert shop.done.count(step) == 2
    assert len(shop.done) == 6
    first, second = (key for key, what in zip(shop.keys, shop.done, strict=True) if what == step)
    assert first == second


@pytest.mark.parametrize("step", STEPS)
def test_it_is_undone_as_far_as_it_had_come(url, step):
    shop = Shop(fails=True)
    result = bounded(run_flow, shop.flow, store=url, crash=crash_after(step))
    assert result.state is WorkflowState.ROLLED_BACK
    assert shop.done[-2:] == ["refund", "release"]
    assert len(shop.done) == 6


def test_nothing_begins_after_it(url):
    shop = Shop()
    with open_store(url) as store:
        with engine(shop.flow, store=store, crash=crash_after("charge")) as test:
            with pytest.raises(Crashed, match=r"crashed after step 'charge', .*resume\('shop-1'\)"):
                test.run(shop.flow, execution_id="shop-1")
            with pytest.raises(Crashed):
                test.run(shop.flow, execution_id="shop-2")
        assert shop.done == ["reserve", "charge"]
        assert store.list() == ["shop-1"]
        record = store.get("shop-1")
        assert record.state is WorkflowState.RUNNING
        status = Engine([], EngineConfig(execution_store=store)).look("shop-1")
        assert statuses_of(status) == ["completed", "completed", "pending", "pending", "pending"]
        assert not status.is_running


def statuses_of(status):
    return [str(step.status) for step in status.steps.values()]


def test_any_engine_may_go_on(url):
    flow, done = FlowDef("f", steps=[StepDef("a"), StepDef("b")]), []

    def handler(ctx):
        done.append(ctx.step.name)

    with open_store(url) as store:
        with engine(flow, handler=handler, store=store, crash=crash_after("a")) as test, pytest.raises(Crashed):
            test.run(flow, execution_id="e1")
        with Engine(handler, EngineConfig(execution_store=store)) as other:
            assert other.interrupted() == ["e1"]
            [result] = other.recover()
        assert result.success
        assert done == ["a", "b"]
        assert [each.recoveries for each in store.ledger.holdings(["e1"])] == [0]  # a step has settled since


def test_what_was_started_is_gone_too_and_another_engine_takes_it_up(url):
    clock, shop = FakeClock(), Shop()
    with open_store(url) as store:
        with engine(shop.flow, store=store, clock=clock, crash=crash_after("charge")) as test:
            execution = test.start(shop.flow, execution_id="shop-1")
            clock.advance(90)
            with pytest.raises(Crashed):
                execution.result(0)
        with engine(shop.flow, store=store, clock=clock) as test:
            clock.advance(0)
            assert statuses_of(test.look("shop-1"))[:3] == ["completed", "completed", "running"]
            clock.advance(3600)
            assert test.result("shop-1", timeout=0).success
    assert sorted(shop.done) == sorted(WHOLE)


def test_what_runs_beside_it_is_told_and_counts_for_nothing(url):
    flow, done, begun = (
        FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b"), StepDef("c")]),
        [],
        threading.Event(),
    )

    def handler(ctx):
        if ctx.step.name == "b" and not begun.is_set():
            begun.set()
            done.append(ctx.sleep(1000))
            return "too late"
        if ctx.step.name == "a":
            assert begun.wait(20)
        return ctx.step.name

    result = bounded(run_flow, flow, handler=handler, store=url, crash=crash_after("a"))
    assert result.outputs == {"a": "a", "b": "b", "c": "c"}
    assert done == [False]


def test_a_step_of_a_sub_flow_may_be_where(url):
    done, below, above = [], Flow("below"), Flow("above")
    for flow, name in ((below, "one"), (below, "two"), (above, "one")):
        needs = "one" if name == "two" else ()
        flow.step(lambda ctx: done.append((ctx.flow_name, ctx.step.name)), name=name, needs=needs)
    above.sub_flow("call", below, needs="one")
    for step in ("below/one", "two", "above/one", "call"):
        done.clear()
        assert bounded(run_flow, above, store=url, crash=crash_after(step)).success
        assert sorted(done) == [("above", "one"), ("below", "one"), ("below", "two")]


def test_memos_are_durable(url):
    flow, made = FlowDef("f", steps=[StepDef("crawl"), StepDef("end")]), []

    def handler(ctx):
        return [ctx.once(f"page {number}", lambda number=number: made.append(number) or number) for number in range(3)]

    crash = crash_after("crawl", recorded=False)
    assert bounded(run_flow, flow, handler=handler, store=url, crash=crash)["crawl"].output == [0, 1, 2]
    assert made == [0, 1, 2, 0, 1, 2]  # those of "crawl", once, and those of "end"


def test_signals_are_delivered_once(url):
    steps = [StepDef(name, step_type="wait", config={"signal": "go"}) for name in "ab"]
    flow = FlowDef("f", steps=steps)
    result = bounded(run_flow, flow, store=url, signals=[("go", 1), ("go", 2)], crash=crash_after("a"))
    assert result.outputs == {"a": 1, "b": 2}


def test_a_step_that_must_not_run_twice_needs_a_decision(url):
    flow = FlowDef("f", steps=[StepDef("pay", idempotent=False), StepDef("ship")])
    crash = crash_after("pay", recorded=False)
    result = bounded(run_flow, flow, handler=lambda ctx: None, store=url, crash=crash)
    assert (result.state, result.error) == (WorkflowState.PAUSED, "needs a decision: pay")


def test_a_crash_that_does_not_come_is_told_of():
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("ship")])
    with pytest.raises(AssertionError, match="nothing has crashed: step 'ship' has not ended, and the run is paused"):
        run_flow(flow, handler=lambda ctx: None, crash=crash_after("ship"))


def test_without_a_store_nobody_could_go_on():
    with pytest.raises(ValueError, match="crash_after needs one of szal's own stores"):
        run_flow(Shop().flow, store=None, crash=crash_after("charge"))


def test_a_step_that_there_is_not_is_told_of():
    with pytest.raises(ValueError, match="crash_after: flow 'shop' has no step 'charg'; did you mean 'charge'"):
        run_flow(Shop().flow, crash=crash_after("charg"))


def test_nobody_takes_over_what_has_not_crashed(url):
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    with open_store(url) as store, engine(flow, handler=lambda ctx: ctx.sleep(60), store=store) as test:
        execution = test.start(flow)
        test.clock.advance(0)
        with engine(flow, handler=print, store=store, clock=test.clock) as other, pytest.raises(ExecutionOwned):
            other.resume(execution.execution_id)


# -- where the outcome is committed with what the handler writes -------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def bank(request, tmp_path):
    """A database with an account that has 100, and how it is connected to."""
    path = tmp_path / "app.db"
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{path}"
    connect = partial(psycopg.connect, url) if request.param == "postgres" else partial(sqlite3.connect, path)
    with closing(connect()) as connection:
        connection.execute("CREATE TABLE accounts (amount INTEGER)")
        connection.execute("INSERT INTO accounts VALUES (100)")
        connection.commit()
    return url, connect


def amount_in(connect):
    with closing(connect()) as connection:
        return connection.execute("SELECT amount FROM accounts").fetchone()[0]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("whose", ["the store's", "the application's"])
def test_what_is_written_with_the_outcome_is_written_once(bank, recorded, whose):
    url, connect = bank
    move, made = Flow("move"), []
    take = "UPDATE accounts SET amount = amount - 30"

    @move.step
    def pay(ctx):
        made.append(ctx.attempt)
        if whose == "the store's":
            with ctx.transaction() as connection:
                connection.execute(take)
            return
        with closing(connect()) as mine:
            try:
                with ctx.transaction(connection=mine):
                    mine.execute(take)
            except BaseException:
                mine.rollback()
                raise
            mine.commit()

    @move.step
    def tell(pay):
        return amount_in(connect)

    result = bounded(run_flow, move, store=url, crash=crash_after("pay", recorded=recorded))
    assert (result["tell"].output, amount_in(connect)) == (70, 70)
    assert len(made) == (1 if recorded else 2)
