"""`StepDef.resources`: what handlers share, and there is only so much of."""

import os
import threading
from random import Random

import pytest
from helper_engine import LONG, bounded, statuses, waited

from szal import (
    CancellationToken,
    DecodeError,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    Handlers,
    InvalidFlow,
    LoadError,
    StepDef,
    load_flow,
    open_store,
)
from szal.clock import utc_now
from szal.errors import ResourceHeld
from szal.model.json import decode_flow, encode_flow
from szal.scheduler.resources import Resources

DB = {"db": 1}


def parallel(*steps, **fields):
    return FlowDef("f", FlowMode.PARALLEL, steps=steps, **fields)


class Shared:
    """A handler that counts who uses what at a time; a step may wait for the test to let it go on."""

    def __init__(self, *waits):
        self.at_work, self.most, self.order = [], {}, []
        self.begun = {name: threading.Event() for name in waits}
        self.may_end = {name: threading.Event() for name in waits}
        self._lock = threading.Lock()

    def __call__(self, ctx):
        name = ctx.step.name
        with self._lock:
            self.order.append(name)
            self.at_work.append(ctx.step.resources)
            for resource in ctx.step.resources:
                used = sum(needs.get(resource, 0) for needs in self.at_work)
                self.most[resource] = max(used, self.most.get(resource, 0))
        if name in self.begun:
            self.begun[name].set()
            waited(self.may_end[name])
        else:
            ctx.sleep(0.001)
        with self._lock:
            self.at_work.remove(ctx.step.resources)
        return name


class TestWhoHasIt:
    @pytest.mark.parametrize("inline", ["auto", "never", "always"])
    def test_no_more_than_there_is_of_each(self, inline):
        draw, handler, needs = Random(1), Shared(), [{"db": 1}, {"gpu": 1}, {"db": 1, "gpu": 2}, {"gpu": 3}, {}]
        steps = [StepDef(f"{number}", resources=draw.choice(needs)) for number in range(60)]
        with Engine(handler, EngineConfig(capacities={"gpu": 3}, inline=inline)) as engine:
            assert bounded(engine.run, parallel(*steps)).success
        assert handler.most["db"] == 1
        assert handler.most["gpu"] <= 3

    def test_all_that_there_is_can_be_used_at_once(self):
        handler = Shared("a", "b")
        steps = [StepDef(name, resources={"gpu": 1}) for name in "ab"]
        with Engine(handler, EngineConfig(capacities={"gpu": 2})) as engine:
            execution = engine.start(parallel(*steps))
            for name in "ab":
                waited(handler.begun[name])
            for name in "ab":
                handler.may_end[name].set()
            assert execution.result(LONG).success

    def test_it_is_shared_by_all_runs_of_the_engine_their_items_and_sub_flows(self):
        handler = Shared()
        child = FlowDef("child", steps=[StepDef("inner", resources=DB)])
        flow = FlowDef(
            "f",
            FlowMode.PARALLEL,
            sub_flows=[child],
            steps=[
                StepDef("each", foreach=list(range(5)), resources=DB),
                StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
                StepDef("last", finally_=True, resources=DB),
            ],
        )
        with Engine(handler) as engine:
            executions = [engine.start(flow) for _ in range(4)]
            assert all(execution.result(LONG).success for execution in executions)
        assert handler.most == {"db": 1}
        assert len(handler.order) == 4 * 7

    def test_another_engine_has_its_own(self):
        handler = Shared("a")
        with Engine(handler) as engine, Engine(handler) as other:
            execution = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            assert bounded(other.run, parallel(StepDef("b", resources=DB))).success
            handler.may_end["a"].set()
            assert execution.result(LONG).success

    def test_who_asked_first_has_it_next_but_for_priorities(self):
        handler = Shared("a")
        with Engine(handler) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            steps = [StepDef(name, resources=DB, priority=int(name == "urgent")) for name in ("b", "c", "urgent")]
            rest = engine.start(parallel(*steps))
            until_asked(engine, 3)
            handler.may_end["a"].set()
            assert first.result(LONG).success
            assert rest.result(LONG).success
        assert handler.order == ["a", "urgent", "b", "c"]

    def test_who_waits_says_what_for_and_since_when_in_its_engine(self):
        handler = Shared("a")
        with Engine(handler, EngineConfig(capacities={"gpu": 2})) as engine:
            first = engine.start(parallel(StepDef("a", resources={"gpu": 2, "db": 1})))
            waited(handler.begun["a"])
            steps = [StepDef("b", resources={"gpu": 2}), StepDef("each", foreach=list(range(3)), resources=DB)]
            second = engine.start(parallel(*steps))
            until_asked(engine, 4)
            status = engine.look(second.execution_id)
            assert [(each.step_name, str(each)) for each in status.queued] == [
                ("b", "waits for 2 of 'gpu' (2 of 2 in use in its engine)"),
                ("each", "waits for 'db' (1 of 1 in use in its engine)"),
            ]
            assert all(status.started_at <= each.since <= utc_now() for each in status.queued)
            assert engine.look(first.execution_id).queued == []
            handler.may_end["a"].set()
            assert second.result(LONG).success
            assert first.result(LONG).success

    def test_who_needs_much_is_not_overtaken_for_ever(self):
        handler = Shared("a", "b")
        with Engine(handler, EngineConfig(capacities={"gpu": 2})) as engine:
            started = [engine.start(parallel(StepDef("a", resources={"gpu": 1})))]
            waited(handler.begun["a"])
            started.append(engine.start(parallel(StepDef("much", resources={"gpu": 2}))))
            until_asked(engine, 1)
            started.append(engine.start(parallel(StepDef("b", resources={"gpu": 1}))))
            until_asked(engine, 2)
            handler.may_end["a"].set()
            handler.may_end["b"].set()
            assert all(execution.result(LONG).success for execution in started)
        assert handler.order == ["a", "much", "b"]


def until_asked(engine, number):
    """Wait until so many steps wait for something."""
    deadline = threading.Event()
    for _ in range(int(LONG / 0.002)):
        if len({id(permit) for queue in list(engine.resources._queues.values()) for _, permit in queue}) == number:
            return
        deadline.wait(0.002)
    raise TimeoutError


class TestWhileItWaits:
    def test_it_holds_no_worker(self):
        handler = Shared("a")
        with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            second = engine.start(parallel(StepDef("b", resources=DB), StepDef("c"), StepDef("d")))
            until_asked(engine, 1)
            while handler.order != ["a", "c", "d"]:
                threading.Event().wait(0.002)
            handler.may_end["a"].set()
            assert first.result(LONG).success
            assert second.result(LONG).success

    def test_what_has_it_is_next_to_get_a_worker(self):
        handler = Shared("a", "x")
        steps = [StepDef("x", timeout=LONG), *(StepDef(f"y{n}", timeout=LONG) for n in range(5))]
        with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            second = engine.start(parallel(StepDef("b", resources=DB), *steps))
            until_asked(engine, 1)
            waited(handler.begun["x"])
            handler.may_end["a"].set()
            assert first.result(LONG).success
            handler.may_end["x"].set()
            assert second.result(LONG).success
        assert handler.order[:3] == ["a", "x", "b"]

    def test_what_must_not_run_twice_begins_when_it_has_it(self):
        handler, store = Shared("a"), open_store("memory:")
        with store, Engine(handler, EngineConfig(execution_store=store)) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            second = engine.start(parallel(StepDef("b", resources=DB, idempotent=False)), execution_id="x")
            until_asked(engine, 1)
            assert not store.ledger.read("x").steps
            handler.may_end["a"].set()
            assert first.result(LONG).success
            assert second.result(LONG).outputs == {"b": "b"}

    def test_it_stands_as_pending_and_its_limit_counts_from_its_start(self):
        handler = Shared("a")
        with Engine(handler) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            second = engine.start(parallel(StepDef("b", resources=DB, timeout=1.5)))
            until_asked(engine, 1)
            assert str(second.progress().steps["b"].status) == "pending"
            threading.Event().wait(1.6)
            handler.may_end["a"].set()
            assert first.result(LONG).success
            assert second.result(LONG).success

    @pytest.mark.parametrize("how", ["cancelled", "flow timeout exceeded"])
    def test_it_may_be_cancelled_or_run_out_of_its_flows_time(self, how):
        handler, token = Shared("a"), CancellationToken()
        with Engine(handler) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            limit = None if how == "cancelled" else 0.05
            second = engine.start(parallel(StepDef("b", resources=DB), timeout=limit), cancel=token)
            if limit is None:
                until_asked(engine, 1)
                token.cancel()
            assert second.result(LONG)["b"].error == how
            until_asked(engine, 0)
            handler.may_end["a"].set()
            assert first.result(LONG).success
            assert engine.run(parallel(StepDef("c", resources=DB))).success

    def test_one_that_has_lost_waits_no_more(self):
        handler = Shared("a")
        loser, winner = StepDef("b", resources=DB), StepDef("c")
        either = StepDef("d", depends_on=[loser, winner], trigger_mode="any", cancel_losers=True)
        with Engine(handler) as engine:
            first = engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            result = engine.run(FlowDef("f", FlowMode.DAG, steps=[loser, winner, either]))
            assert statuses(result) == {"b": "skipped", "c": "completed", "d": "completed"}
            handler.may_end["a"].set()
            assert first.result(LONG).success


class TestGivingItBack:
    def test_between_two_attempts_others_have_it(self):
        order = []

        def handler(ctx):
            order.append(f"{ctx.step.name} {ctx.attempt}")
            if order == ["a 1"]:
                raise OSError("not yet")

        steps = [StepDef("a", resources=DB, max_retries=1, retry_delay=0.05, priority=1), StepDef("b", resources=DB)]
        with Engine(handler) as engine:
            assert engine.run(parallel(*steps)).success
        assert order == ["a 1", "b 1", "a 2"]

    def test_what_is_left_behind_keeps_it_until_it_ends(self, caplog):
        """It may still be using it: nobody else may begin."""
        handler = Shared("a")
        with Engine(handler) as engine:
            assert not engine.run(parallel(StepDef("a", resources=DB, timeout=0.02))).success
            assert caplog.messages[-1].endswith("its thread is left behind, and keeps db until it ends")
            second = engine.start(parallel(StepDef("b", resources=DB)))
            until_asked(engine, 1)
            assert handler.order == ["a"]
            handler.may_end["a"].set()
            assert second.result(LONG).success

    def test_an_undo_needs_it_too(self):
        handler, undone = Shared("a"), []
        handlers = Handlers(handler)
        handlers.rollback("b")(lambda ctx: undone.append("b"))

        @handlers.step("fail")
        def fail(ctx):
            engine.start(parallel(StepDef("a", resources=DB)))
            waited(handler.begun["a"])
            raise ValueError("no")

        steps = [StepDef("b", resources=DB, rollbackable=True), StepDef("fail")]
        with Engine(handlers) as engine:
            execution = engine.start(FlowDef("f", steps=steps, rollback_on_failure=True))
            waited(handler.begun["a"])
            until_asked(engine, 1)
            assert undone == []
            handler.may_end["a"].set()
            assert execution.result(LONG).rolled_back
        assert undone == ["b"]

    def test_after_a_fork_a_child_has_all_of_it(self):
        resources = Resources(DB)
        permit = resources.ask("a", DB, 0, lambda permit: None)
        child = os.fork()
        if child == 0:
            permit.release()
            os._exit(0 if resources.ask("b", DB, 0, lambda permit: None).is_held else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert permit.is_held

    def test_whoever_waits_for_itself_is_told(self):
        def handler(ctx):
            if ctx.step.name == "outer":
                return engine.run(parallel(StepDef("inner", resources=DB, max_retries=3))).raise_for_failure().outputs
            return None

        with Engine(handler) as engine:
            result = bounded(engine.run, parallel(StepDef("outer", resources=DB)))
            assert "inner needs 1 of 'db', which the step holds whose handler runs this flow" in result["outer"].error
            assert isinstance(result["outer"].exception, ResourceHeld)
            assert engine.run(parallel(StepDef("inner", resources=DB))).success


@pytest.mark.parametrize("seed", range(20))
def test_permits_are_granted_in_their_order_and_never_too_many(seed):
    draw, capacities = Random(seed), {"a": 2, "b": 3}
    resources, waiting, held = Resources(capacities), [], []

    def granted(permit):
        first = next(each for each in waiting if set(each.needs) & set(permit.needs))
        assert first is permit
        waiting.remove(permit)
        held.append(permit)

    for _ in range(200):
        if draw.random() < 0.5:
            names = draw.sample(["a", "b", "c"], draw.randint(1, 3))
            needs = {name: draw.randint(1, capacities.get(name, 1)) for name in names}
            permit = resources.ask("s", needs, draw.randint(0, 2), granted)
            (held if permit.is_held else waiting).append(permit)
            waiting.sort(key=lambda each: each.order)
        elif held or waiting:
            permit = draw.choice(held + waiting)
            (held if permit in held else waiting).remove(permit)
            permit.release()
            permit.release()
        for name in "abc":
            assert sum(each.needs.get(name, 0) for each in held) <= capacities.get(name, 1)
        for place, each in enumerate(waiting):  # whoever could go on, and is not behind somebody, does not wait
            ahead = {name for other in waiting[:place] for name in other.needs}
            used = {name: sum(other.needs.get(name, 0) for other in held) for name in each.needs}
            assert ahead & set(each.needs) or any(used[n] + each.needs[n] > capacities.get(n, 1) for n in each.needs)


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("resources", "problem"),
        [
            ({"db": 0}, "resources of 'db' is not at least 1 \\(0\\)"),
            ({"db": True}, "resources of 'db' "),
            ({3: 1}, "resources has a name that is not a string \\(3\\)"),
            ({"": 1}, "resources has a name that is empty"),
            ("db", "resources is no mapping of names to numbers \\('db'\\)"),
        ],
    )
    def test_what_is_no_share_is_refused(self, resources, problem):
        with pytest.raises(InvalidFlow, match=problem):
            parallel(StepDef("a", resources=resources)).validate()
        if resources != "db":
            with pytest.raises(ValueError, match=problem.replace("resources", "capacities")):
                EngineConfig(capacities=resources)

    def test_what_the_engine_does_itself_shares_nothing(self):
        step = StepDef("a", step_type="sleep", config={"seconds": 0}, resources=DB)
        with pytest.raises(InvalidFlow, match="resources of a step of type 'sleep'"):
            parallel(step).validate()

    def test_more_than_there_is_is_refused_before_anything_runs(self):
        handler = Shared()
        flow = parallel(StepDef("a"), StepDef("b", resources={"gpu": 2, "db": 1}))
        with Engine(handler) as engine, pytest.raises(InvalidFlow) as refused:
            engine.run(flow)
        there_is = "EngineConfig(capacities={'gpu': 2}), or store.set_capacity('gpu', 2) (szal capacity)"
        assert refused.value.problems == (f"step 'b': it needs 2 of 'gpu', and there is 1: {there_is}",)
        assert handler.order == []

    def test_it_is_recorded_and_said_in_files(self, tmp_path):
        path = tmp_path / "flow.yaml"
        path.write_text("name: f\nsteps:\n  - {name: a, run: 'true', resources: {db: 1, gpu: 2}}\n")
        flow = load_flow(path)
        assert decode_flow(encode_flow(flow)).steps[0].resources == flow.steps[0].resources == {"db": 1, "gpu": 2}
        path.write_text("name: f\nsteps:\n  - {name: a, run: 'true', resources: {db: some}}\n")
        with pytest.raises(LoadError, match=r"3:.*'db' in .* must be a whole number"):
            load_flow(path)
        with pytest.raises(DecodeError, match=r"steps\[0\].resources"):
            decode_flow(encode_flow(flow).replace('{"db":1,"gpu":2}', '{"db":"1"}'))
