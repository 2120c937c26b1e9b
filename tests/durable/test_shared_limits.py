"""What all engines of a store share: capacities of its database, and rates."""

import json
import threading
import time
from collections import Counter

import pytest
from durable.children import Child
from helper_engine import LONG, bounded, waited
from processes import wait_until

from szal import Engine, FlowDef, FlowMode, InvalidFlow, StepDef, WorkflowState, open_store
from szal.testing import FakeClock

API = {"api": 1}


def parallel(*steps, **more):
    return FlowDef("f", FlowMode.PARALLEL, steps=steps, **more)


def until(watch, condition):
    """Return the first status of which *condition* is true."""
    while not condition(status := bounded(next, watch)):
        pass
    return status


class Counting:
    """A handler that counts who uses the api at a time, in whichever engine."""

    def __init__(self):
        self.now, self.most, self.order = [], 0, []

    def __call__(self, ctx):
        self.now.append(None)
        self.order.append(ctx.step.name)
        self.most = max(self.most, len(self.now))
        ctx.sleep(0.002)
        self.now.pop()
        return ctx.step.name


class TestCapacities:
    def test_no_more_is_used_in_several_engines_than_there_is(self, new_engine, store):
        store.set_capacity("api", 3)
        handler = Counting()
        engines = [new_engine(handler) for _ in range(2)]
        flow = parallel(*(StepDef(f"{number}", resources=API) for number in range(12)))
        runs = [engine.start(flow, execution_id=f"e{place}") for place, engine in enumerate(engines)]
        assert all(run.result(LONG).success for run in runs)
        assert len(handler.order) == 24
        assert handler.most <= 3
        wait_until(lambda: store.ledger.limits.uses()[0].used == 0)

    def test_the_smaller_of_both_holds(self, new_engine, store):
        store.set_capacity("api", 3)
        store.set_capacity("gpu", 1)
        handler = Counting()
        steps = [StepDef(f"{number}", resources={"api": 1}) for number in range(6)]
        steps += [StepDef(f"gpu {number}", resources={"gpu": 1, "api": 1}) for number in range(6)]
        assert new_engine(handler, capacities={"api": 1, "gpu": 9}).run(parallel(*steps)).success
        assert handler.most == 1
        with pytest.raises(InvalidFlow, match="it needs 2 of 'gpu', and there is 1"):
            new_engine(handler).run(parallel(StepDef("a", resources={"gpu": 2})))
        assert new_engine(handler).run(parallel(StepDef("a", resources={"api": 3}))).success

    def test_what_the_database_says_nothing_of_is_not_asked_for_there(self, new_engine, store, monkeypatch):
        asked = []
        kind = type(store.ledger.limits)
        monkeypatch.setattr(kind, "claim", lambda *given: asked.append(given))
        engine = new_engine(Counting())
        assert engine.run(parallel(*(StepDef(f"{number}", resources=API) for number in range(9)))).success
        assert asked == []

    def test_a_step_that_waits_holds_no_worker_and_says_what_for(self, new_engine, store):
        store.set_capacity("api", 1)
        open_gate = []

        def gate(ctx):
            while not open_gate:
                ctx.sleep(0.005)

        with_it, other = new_engine(Counting(), max_concurrency=1), new_engine(gate)
        first = other.start(parallel(StepDef("holds", resources=API)), execution_id="first")
        wait_until(lambda: store.ledger.limits.uses()[0].used == 1)
        second = with_it.start(parallel(StepDef("waits", resources=API), StepDef("free")), execution_id="second")
        wait_until(lambda: [str(each) for each in store.ledger.limits.waiting("second")])
        assert [str(each) for each in store.ledger.limits.waiting("second")] == ["waits for 'api' (1 of 1 in use)"]
        wait_until(lambda: with_it.look("second").steps["free"].output == "free")
        open_gate.append(True)
        assert first.result(LONG).success
        assert second.result(LONG).success

    def test_of_many_that_wait_in_one_engine_each_says_so_there(self, new_engine, store):
        """It asks the store for one of them at a time."""
        store.set_capacity("api", 1)
        gate = threading.Event()
        engine = new_engine(lambda ctx: waited(gate))
        flow = parallel(StepDef("a", resources=API))
        runs = [engine.start(flow, execution_id=f"e{number}") for number in range(4)]

        def told():
            statuses = [engine.look(run.execution_id) for run in runs]
            return [str(each) for status in statuses for each in status.queued]

        wait_until(lambda: told() == ["waits for 'api' (1 of 1 in use)"] * 3)
        assert store.ledger.limits.uses()[0].waiting == 1
        gate.set()
        assert all(run.result(LONG).success for run in runs)
        assert told() == []

    def test_others_are_told_what_only_its_engine_knows(self):
        """Capacities of its own, rates, and what it has not asked the store for yet."""
        store, gate = open_store("memory:"), threading.Event()
        store.set_capacity("api", 1)
        steps = [StepDef(f"a{number}", resources=API) for number in range(3)]
        steps += [StepDef(f"g{number}", resources={"gpu": 1}) for number in range(2)]
        steps += [StepDef(f"r{number}", rate={"provider": "1/h"}) for number in range(2)]
        with Engine.open(store, lambda ctx: waited(gate), share_progress=True) as engine, Engine.open(store) as other:
            run = engine.start(parallel(*steps), execution_id="e")

            def told():
                return Counter(str(each) for each in other.look("e").queued)

            expected = {
                "waits for 'api' (1 of 1 in use)": 2,
                "waits for 'gpu' (1 of 1 in use in its engine)": 1,
                "waits for its turn of 'provider' (1/h)": 1,
            }
            wait_until(lambda: told() == expected, 30)
            assert all(each.since is not None for each in other.look("e").queued)
            gate.set()
            engine.cancel("e")
            run.wait(LONG)
            assert not told()

    def test_whoever_watches_is_told_what_a_step_waits_for_and_that_it_does_no_more(self, new_engine, store):
        """In its own engine and in another one; what is in use changes without anything being written for the step."""
        store.set_capacity("api", 1)
        gates = {name: threading.Event() for name in ("one", "two")}
        holding, engine = (new_engine(lambda ctx: waited(gates[ctx.step.name])) for _ in range(2))
        holds = holding.start(parallel(StepDef("one", resources=API)), execution_id="holds")
        wait_until(lambda: store.ledger.limits.uses()[0].used == 1)
        run = engine.start(parallel(StepDef("two", resources=API)), execution_id="waits")
        with engine.watch("waits", interval=0.05) as here, new_engine().watch("waits", interval=0.05) as elsewhere:
            for watch in (here, elsewhere):
                (queued,) = until(watch, lambda status: bool(status.queued)).queued
                assert (queued.step_name, str(queued)) == ("two", "waits for 'api' (1 of 1 in use)")
                assert queued.since is not None
            gates["one"].set()
            for watch in (here, elsewhere):
                assert until(watch, lambda status: not status.queued).state is WorkflowState.RUNNING
        gates["two"].set()
        assert holds.result(LONG).success
        assert run.result(LONG).success

    @pytest.mark.parametrize("how", ["pause", "cancel", "lease lost"])
    def test_who_waits_no_more_leaves_it_to_others(self, new_engine, store, how):
        store.set_capacity("api", 1)
        closed = [True]

        def gate(ctx):
            while closed and ctx.step.name == "holds":
                ctx.sleep(0.005)

        engine = new_engine(gate, lease_ttl=60.0)
        holder = engine.start(parallel(StepDef("holds", resources=API)), execution_id="holder")
        wait_until(lambda: store.ledger.limits.uses()[0].used == 1)
        left = engine.start(parallel(StepDef("waits", resources=API)), execution_id="left")
        wait_until(lambda: store.ledger.limits.waiting("left"))
        if how == "pause":
            engine.pause("left")
            assert left.result(LONG).state is WorkflowState.PAUSED
        elif how == "cancel":
            engine.cancel("left")
            assert left.result(LONG).state is WorkflowState.CANCELLED
        else:
            engine.close(drain=0)
            wait_until(lambda: store.ledger.holder("left") is None)
        wait_until(lambda: not [each for each in store.ledger.limits.uses() if each.waiting])
        closed.clear()
        assert holder.result(LONG).state in (WorkflowState.COMPLETED, WorkflowState.RUNNING)
        assert bounded(new_engine().run, parallel(StepDef("next", resources=API))).success


HOLDS = """
    def act(ctx):
        if ctx.step.name == "holds":
            tell("holds")
            time.sleep(600)
        add(sys.argv[2], ctx.step.name)

    engine = new_engine(act, lease_ttl=2.0)
    engine.start(FlowDef("held", steps=[StepDef("holds", resources={"api": 1})]), execution_id="held")
    listen()
"""
SHARES = """
    import json

    def act(ctx):
        add(sys.argv[2], json.dumps([time.monotonic(), 1]))
        ctx.sleep(0.003)
        add(sys.argv[2], json.dumps([time.monotonic(), -1]))

    steps = [StepDef(f"{number}", resources={"api": 1}) for number in range(20)]
    assert new_engine(act).run(FlowDef("f", "parallel", steps=steps)).success
"""


def test_two_processes_use_no_more_than_there_is(store_url, store, log):
    store.set_capacity("api", 3)
    with Child(SHARES, store_url, log.path) as one, Child(SHARES, store_url, log.path) as other:
        one.end(60)
        other.end(60)
    used = 0
    for _, change in sorted(map(json.loads, log.lines)):
        used += change
        assert used <= 3
    assert len(log.lines) == 80


def test_what_a_process_had_that_was_killed_is_free_again_and_is_had_by_who_goes_on(store_url, store, log, new_engine):
    store.set_capacity("api", 1)
    with Child(HOLDS, store_url, log.path) as child:
        assert child.hear() == "holds"
        engine = new_engine(lambda ctx: log.add(ctx.step.name), lease_ttl=2.0)
        waiting = engine.start(parallel(StepDef("waits", resources=API)), execution_id="waiting")
        wait_until(lambda: store.ledger.limits.waiting("waiting"))
        child.process.kill()
        assert waiting.result(LONG).success
    assert log.lines == ["waits"]
    assert [each.state for each in engine.recover()] == [WorkflowState.COMPLETED]
    assert log.lines == ["waits", "holds"]
    wait_until(lambda: store.ledger.limits.uses()[0].used == 0)


class TestRates:
    def test_attempts_of_several_engines_begin_one_after_the_other(self, new_engine, store, monkeypatch):
        """Each takes one of the points in time that the store has, and none begins before its own has come."""
        kind, taken, begun = type(store.ledger.limits), [], []
        take_turns = kind.take_turns

        def noted(limits, intervals):
            delay = take_turns(limits, intervals)
            taken.append((time.monotonic() + delay, intervals))
            return delay

        monkeypatch.setattr(kind, "take_turns", noted)
        engines = [new_engine(lambda ctx: begun.append(time.monotonic())) for _ in range(2)]
        flow = parallel(*(StepDef(f"{number}", rate={"api": "50/s"}) for number in range(6)))
        runs = [engine.start(flow, execution_id=f"e{place}") for place, engine in enumerate(engines)]
        assert all(run.result(LONG).success for run in runs)
        assert [intervals for _, intervals in taken] == [{"api": 0.02}] * 12
        points = sorted(point for point, _ in taken)
        assert all(late >= point - 0.02 for late, point in zip(sorted(begun), points, strict=True))

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_a_clock_that_a_test_moves_is_what_they_go_by(self, new_engine):
        clock = FakeClock()
        began = clock.monotonic()
        flow = parallel(*(StepDef(f"{number}", rate={"api": "1/m"}, resources=API) for number in range(4)))
        assert bounded(new_engine(clock=clock).run, flow).success
        assert round(clock.monotonic() - began) == 180

    def test_one_that_has_to_wait_for_long_is_cancelled_at_once(self, new_engine):
        engine = new_engine()
        flow = FlowDef("f", steps=[StepDef("a", rate={"api": "1/h"}), StepDef("b", rate={"api": "1/h"})])
        run = engine.start(flow, execution_id="x")
        wait_until(lambda: engine.look("x").steps["a"].output == "a")
        run.cancel()
        assert run.result(LONG)["b"].error == "cancelled"
        assert run.result(LONG).state is WorkflowState.CANCELLED
