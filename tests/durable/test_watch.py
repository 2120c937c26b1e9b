"""Executions that are watched: from the process that runs them, from another one, and where the store tells nothing."""

import threading
from contextlib import closing
from itertools import pairwise

import psycopg
import pytest
from durable.children import Child
from helper_engine import ForeignStore, bounded, waited
from processes import wait_until

from szal import Engine, EngineConfig, ExecutionNotFound, FlowDef, FlowMode, StepDef
from szal.errors import StoreUnavailable
from szal.stores.postgres.pool import Pool

FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
ASKING = FlowDef("shop", steps=[StepDef("order"), StepDef("ask", step_type="wait", config={"signal": "paid"})])
LONG = 30.0
NEVER = 3600.0  # between two looks: what is heard then was told


def short(status):
    return str(status.state), "".join(str(step.status)[0] for step in status.results)


class Gate:
    """A handler that waits before each step of it ends, for the test to let it."""

    def __init__(self, *names):
        self.names = names
        self.begun = {name: threading.Event() for name in names}
        self.go = {name: threading.Event() for name in names}

    def __call__(self, ctx):
        name = ctx.step.name
        if name in self.names:
            self.begun[name].set()
            waited(self.go[name])
        return name

    def open(self):
        for event in self.go.values():
            event.set()


def listeners():
    return {thread for thread in threading.enumerate() if thread.name == "szal-watch"}


@pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.DAG])
def test_in_the_engine_that_runs_it_each_step_is_heard_of(new_engine, mode):
    gate = Gate("a", "b", "c")
    steps = [a := StepDef("a"), b := StepDef("b", depends_on=[a] if mode is FlowMode.DAG else ())]
    steps.append(StepDef("c", depends_on=[b] if mode is FlowMode.DAG else ()))
    with new_engine(gate, inline="never" if mode is FlowMode.DAG else "auto") as engine:
        engine.start(FlowDef("f", mode, steps=steps), execution_id="e")
        waited(gate.begun["a"])
        watch = engine.watch("e", interval=NEVER)
        for name, expected in (("a", "rpp"), ("b", "crp"), ("c", "ccr")):
            while (status := short(bounded(next, watch))) != ("running", expected):
                assert status[1][gate.names.index(name)] in "pr"
            gate.go[name].set()
        assert [*map(short, bounded(list, watch))][-1] == ("completed", "ccc")


def test_the_last_is_how_it_ended_and_none_is_told_twice(new_engine):
    with new_engine(lambda ctx: 1 / (ctx.step.name != "b")) as engine:
        engine.start(FLOW, execution_id="e")
        seen = bounded(list, engine.watch("e", interval=NEVER))
        assert [short(status) for status in seen][-1] == ("failed", "cfs")
        told = [short(status) for status in seen]
        assert all(one != other for one, other in pairwise(told))
        assert seen[-1].record == new_engine().look("e").record
        assert [*map(short, bounded(list, engine.watch("e")))] == [("failed", "cfs")]


def test_without_a_store_it_is_watched_to_its_end(new_engine):
    gate = Gate("b")
    with Engine(gate) as engine:
        engine.start(FLOW, execution_id="e")
        watch = engine.watch("e", interval=NEVER)
        waited(gate.begun["b"])
        gate.open()
        assert short(bounded(list, watch)[-1]) == ("completed", "ccc")
        with pytest.raises(ExecutionNotFound):
            engine.watch("e")


def test_a_store_of_four_methods_is_looked_at_now_and_then():
    store, gate = ForeignStore(), Gate("b")
    with Engine(gate, EngineConfig(execution_store=store)) as engine:
        engine.start(FLOW, execution_id="e")
        waited(gate.begun["b"])
        watch = Engine([], EngineConfig(execution_store=store)).watch("e", interval=0.01)
        assert short(next(watch)) == ("running", "")
        gate.open()
        assert short(bounded(list, watch)[-1]) == ("completed", "ccc")


def test_another_engine_hears_of_each_step_as_it_is_recorded(new_engine):
    """Although it looks by itself but once an hour."""
    gate = Gate("b", "c")
    with new_engine(gate) as engine:
        engine.start(FLOW, execution_id="e")
        try:
            watch = new_engine([]).watch("e", interval=NEVER)
            seen = [short(bounded(next, watch))]
            waited(gate.begun["b"])
            while seen[-1] != ("running", "cpp"):
                seen.append(short(bounded(next, watch)))
            gate.go["b"].set()
            assert short(bounded(next, watch)) == ("running", "ccp")
        finally:
            gate.open()
        assert [*map(short, bounded(list, watch))][-1] == ("completed", "ccc")


WORKS = """
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")])

    def handler(ctx):
        if ctx.step.name != "a":
            tell(ctx.step.name)
            if listen() == "die":
                die()
        return ctx.step.name

    new_engine(handler).run(flow, execution_id="e")
"""


def test_another_process_hears_of_it_and_sees_that_one_has_died(store_url, new_engine):
    with Child(WORKS, store_url) as child:
        assert child.hear() == "b"
        with new_engine() as engine, engine.watch("e", interval=0.05) as watch:
            while short(bounded(next, watch)) != ("running", "cpp"):
                pass
            child.say()
            assert child.hear() == "c"
            status = bounded(next, watch)
            assert (short(status), status.is_running) == (("running", "ccp"), True)
            child.say("die")
            while (status := bounded(next, watch)).is_running:
                pass
            assert (short(status), status.is_interrupted) == (("running", "ccp"), True)
            threading.Thread(target=engine.resume, args=("e",)).start()
            assert short(bounded(list, watch)[-1]) == ("completed", "ccc")


def test_what_waits_is_watched_across_its_pause(new_engine):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        watch = new_engine([]).watch("e", interval=NEVER)
        assert [wait.signal for wait in next(watch).waits] == ["paid"]
        engine.signal("e", "paid")
        assert not bounded(next, watch).waits
        engine.resume("e")
        assert short(bounded(list, watch)[-1]) == ("completed", "cc")


def test_what_is_asked_of_it_is_told(new_engine):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        watch = new_engine([]).watch("e", interval=NEVER)
        next(watch)
        engine.cancel("e")
        assert bounded(next, watch).is_cancelling
        engine.resume("e")
        assert short(bounded(list, watch)[-1])[0] == "cancelled"


def test_an_undoing_is_told_step_by_step(new_engine):
    gate = Gate("a")
    flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
    handler = lambda ctx: 1 / (ctx.step.name == "a")  # noqa: E731
    with new_engine(handler, rollback_handler=gate, durability="step") as engine:
        engine.start(flow, execution_id="e")
        waited(gate.begun["a"])
        watches = [new_engine([]).watch("e", interval=NEVER), engine.watch("e", interval=NEVER)]
        assert [short(bounded(next, watch)) for watch in watches] == [("rolling_back", "cf")] * 2
        gate.open()
        for watch in watches:
            assert short(bounded(list, watch)[-1]) == ("rolled_back", "rf")


def test_what_was_submitted_is_watched_from_before_it_begins(new_engine):
    shop, worker = new_engine([]), new_engine()
    shop.submit(FLOW, execution_id="e")
    watches = [shop.watch("e", interval=NEVER), worker.watch("e", interval=NEVER)]
    assert [short(next(watch)) for watch in watches] == [("created", "ppp")] * 2
    assert worker.work(until_idle=True) == 1
    for watch in watches:
        assert short(bounded(list, watch)[-1]) == ("completed", "ccc")


def test_items_are_told(new_engine):
    gate = threading.Semaphore(0)

    def handler(ctx):
        assert gate.acquire(timeout=LONG)
        return ctx.item

    flow = FlowDef("f", inputs={"n": [1, 2]}, steps=[StepDef("each", foreach="inputs.n", max_parallel=1)])
    with new_engine(handler) as engine:
        engine.start(flow, execution_id="e")
        watches = [engine.watch("e", interval=NEVER), new_engine([]).watch("e", interval=NEVER)]
        for watch in watches:
            next(watch)
        gate.release()

        def done(status):
            return [str(item.status) for item in status.results[0].items or ()][:1] == ["completed"]

        for watch in watches:
            bounded(lambda watch=watch: next(filter(done, watch)))
        gate.release()
        for watch in watches:
            assert bounded(list, watch)[-1].results[0].output == [1, 2]


def test_several_changes_between_two_looks_are_one_status(new_engine):
    gate = Gate("c")
    with new_engine(gate) as engine:
        engine.start(FLOW, execution_id="e")
        watch = engine.watch("e", interval=NEVER)
        waited(gate.begun["c"])
        last = short(bounded(next, watch))
        if last != ("running", "ccr"):  # the first was looked at when watching began
            assert short(bounded(next, watch)) == ("running", "ccr")
        gate.open()
        bounded(list, watch)


def test_it_ends_after_its_time_and_where_it_is_closed(new_engine):
    gate = Gate("a")
    with new_engine(gate) as engine:
        engine.start(FLOW, execution_id="e")
        waited(gate.begun["a"])
        assert [*map(short, engine.watch("e", timeout=0.0))] == [("running", "rpp")]
        assert [*map(short, bounded(list, engine.watch("e", timeout=0.05)))] == [("running", "rpp")]
        watch = engine.watch("e")
        next(watch)
        threading.Timer(0.05, watch.close).start()
        assert bounded(list, watch) == []
        with engine.watch("e") as watch:
            pass
        assert [*watch] == []
        gate.open()


def test_it_ends_where_the_engine_is_closed(new_engine):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
    other = new_engine([])
    watch = other.watch("e")
    next(watch)
    threading.Timer(0.05, other.close).start()
    assert bounded(list, watch) == []


def test_what_is_not_there_is_not_found_and_a_wrong_call_is_told(new_engine):
    engine = new_engine()
    with pytest.raises(ExecutionNotFound, match="none"):
        engine.watch("none")
    with pytest.raises(TypeError, match="must be a string"):
        engine.watch(3)
    with pytest.raises(ValueError, match="interval must be positive"):
        engine.watch("e", interval=0)
    with pytest.raises(ValueError, match="timeout"):
        engine.watch("e", timeout=-1)


def test_what_is_removed_while_it_is_watched_is_not_found(new_engine, store):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
    watch = new_engine([]).watch("e", interval=0.01)
    next(watch)
    store.remove("e")
    with pytest.raises(ExecutionNotFound):
        bounded(list, watch)


def test_any_number_watch_for_one_thread_which_ends_after_the_last(new_engine):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        engine.run(ASKING, execution_id="f")
    before = listeners()
    other = new_engine([])
    watches = [other.watch(name) for name in "efefef"]
    (listener,) = listeners() - before
    for watch in watches[1:]:
        watch.close()
    assert not listeners() - before - {listener}
    assert listener.is_alive()
    del watches, watch
    listener.join(30)
    assert not listener.is_alive()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_store_that_is_away_is_waited_for(new_engine, monkeypatch):
    from szal.stores.sql_ledger import SqlLedger

    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        watch = new_engine([]).watch("e", interval=0.02)
        next(watch)
        version, asked = SqlLedger.version, threading.Event()

        def away(ledger, execution_id):
            asked.set()
            raise StoreUnavailable("it", "away")

        monkeypatch.setattr(SqlLedger, "version", away)
        engine.signal("e", "paid")
        found = []
        thread = threading.Thread(target=lambda: found.append(next(watch)))
        thread.start()
        waited(asked)
        monkeypatch.setattr(SqlLedger, "version", version)
        thread.join(LONG)
        assert [[*status.waits] for status in found] == [[]]


@pytest.mark.parametrize("kind", ["postgres"])
def test_a_lost_connection_is_opened_again_and_hears(new_engine, store_url, monkeypatch):
    """What changes meanwhile is looked for."""
    made = []
    own = Pool.own_connection
    monkeypatch.setattr(Pool, "own_connection", lambda pool: made.append(own(pool)) or made[-1])
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        watch = new_engine([]).watch("e", interval=0.1)
        next(watch)
        wait_until(lambda: made, 30)
        pid = made[0].info.backend_pid
        with closing(psycopg.connect(store_url, autocommit=True)) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        wait_until(lambda: len(made) > 1, 30)
        engine.signal("e", "paid")
        assert not bounded(next, watch).waits


@pytest.mark.parametrize("kind", ["postgres"])
def test_who_may_only_read_looks_now_and_then(new_engine, store_url):
    with new_engine() as engine:
        engine.run(ASKING, execution_id="e")
        url = store_url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
        with Engine.open(url) as reader, reader.watch("e", interval=0.02) as watch:
            next(watch)
            engine.signal("e", "paid")
            assert not bounded(next, watch).waits


@pytest.mark.parametrize("kind", ["postgres"])
def test_nothing_is_told_where_nobody_watches(new_engine, store_url):
    with closing(psycopg.connect(store_url, autocommit=True)) as ear, new_engine() as engine:
        ear.execute("LISTEN szal_changes")
        engine.run(ASKING, execution_id="e")
        engine.signal("e", "paid")
        engine.resume("e")
        for number in range(40):  # in batches of every size
            engine.run(FLOW, execution_id=f"e{number}")
        ear.execute("SELECT 1")
        assert [*ear.notifies(timeout=0)] == []
