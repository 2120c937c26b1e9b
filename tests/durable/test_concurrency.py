"""`FlowDef.concurrency_key`: of executions with the same key one runs at a time, in all engines of a store."""

import json
import threading

import pytest
from durable.children import Child
from helper_engine import LONG, bounded, waited
from processes import wait_until

from szal import (
    CancellationToken,
    Cancelled,
    DecodeError,
    Engine,
    ExecutionNotFound,
    Flow,
    FlowDef,
    InvalidFlow,
    InvalidInputs,
    LoadError,
    StepDef,
    WorkflowState,
    load_flow,
)
from szal.errors import ConcurrencyKeyTaken
from szal.model.json import decode_flow, decode_record, encode_flow, encode_record
from szal.stores.ledger import NewExecution, TakeOver
from szal.stores.queue import Claim, Submission


def keyed(*steps, name="f", key="customer-{{inputs.id}}", **more):
    return FlowDef(name, steps=steps or (StepDef("a"),), concurrency_key=key, **more)


class Gate:
    """A handler that waits until it is let go, in the step called "holds", and notes which executions it was in."""

    def __init__(self):
        self.begun, self.may_end, self.order = threading.Event(), threading.Event(), []

    def __call__(self, ctx):
        self.order.append(ctx.execution_id)
        if ctx.step.name == "holds":
            self.begun.set()
            waited(self.may_end)
        return ctx.step.name


@pytest.fixture
def gate():
    found = Gate()
    yield found
    found.may_end.set()


def hold(engine, gate, execution_id="first", **inputs):
    execution = engine.start(keyed(StepDef("holds")), inputs or {"id": 7}, execution_id=execution_id)
    waited(gate.begun)
    return execution


class TestRunning:
    def test_whoever_comes_second_is_told_who_has_it_and_nothing_is_recorded(self, new_engine, gate):
        engine, other = new_engine(gate), new_engine(gate)
        first = hold(engine, gate)
        for each in (engine, other):
            with pytest.raises(
                ConcurrencyKeyTaken, match="second has to wait: 'customer-7' is taken by execution first"
            ):
                each.run(keyed(name="g"), {"id": 7}, execution_id="second")
            with pytest.raises(ConcurrencyKeyTaken):
                each.start(keyed(), {"id": 7})
            with pytest.raises(ExecutionNotFound):
                each.look("second")
        assert other.run(keyed(), {"id": 8}).success
        gate.may_end.set()
        assert first.result(LONG).success
        assert other.run(keyed(), {"id": 7}, execution_id="second").success

    def test_whoever_waits_runs_when_it_is_free(self, new_engine, gate):
        engine, other = new_engine(gate), new_engine(gate)
        first, results = hold(engine, gate), []
        thread = threading.Thread(
            target=lambda: results.append(other.run(keyed(), {"id": 7}, if_running="wait")), daemon=True
        )
        thread.start()
        gate.may_end.set()
        assert first.result(LONG).success
        thread.join(LONG)
        assert [result.success for result in results] == [True]
        assert gate.order[0] == "first"

    def test_it_waits_no_longer_than_its_flow_may_run_and_a_token_ends_it(self, new_engine, gate):
        engine, token = new_engine(gate), CancellationToken()
        hold(engine, gate)
        with pytest.raises(ConcurrencyKeyTaken):
            bounded(engine.run, keyed(timeout=0.05), {"id": 7}, if_running="wait")
        token.cancel()
        with pytest.raises(Cancelled, match="waited for 'customer-7'"):
            bounded(engine.run, keyed(), {"id": 7}, if_running="wait", cancel=token)

    def test_a_paused_one_has_it_until_it_ends(self, new_engine, gate):
        engine = new_engine(gate)
        waits = keyed(StepDef("ask", step_type="wait", config={"signal": "go"}))
        assert engine.run(waits, {"id": 7}, execution_id="first").state is WorkflowState.PAUSED
        with pytest.raises(ConcurrencyKeyTaken):
            engine.run(keyed(), {"id": 7})
        engine.signal("first", "go", True)
        assert new_engine(gate).resume("first").success
        assert engine.run(keyed(), {"id": 7}).success

    def test_a_failed_one_gives_it_back_and_takes_it_to_be_run_again(self, new_engine):
        fails = [True]

        def handler(ctx):
            if fails:
                raise ValueError
            return ctx.step.name

        engine = new_engine(handler)
        assert not engine.run(keyed(), {"id": 7}, execution_id="first").success
        waits = keyed(StepDef("ask", step_type="wait", config={"signal": "go"}))
        assert engine.run(waits, {"id": 7}, execution_id="second").state is WorkflowState.PAUSED
        fails.clear()
        with pytest.raises(ConcurrencyKeyTaken):
            engine.run(keyed(), {"id": 7}, execution_id="first", retry_failed=True)
        with pytest.raises(ConcurrencyKeyTaken):
            engine.rerun("first")
        engine.cancel("second")
        engine.resume("second")
        assert engine.run(keyed(), {"id": 7}, execution_id="first", retry_failed=True).success
        assert engine.rerun("first", new_id="again").success

    def test_without_a_store_it_holds_in_one_engine(self, gate):
        with Engine(gate) as engine:
            first = hold(engine, gate)
            with pytest.raises(ConcurrencyKeyTaken, match="is taken by execution first"):
                engine.run(keyed(), {"id": 7})
            gate.may_end.set()
            assert first.result(LONG).success
            assert bounded(engine.run, keyed(), {"id": 7}, if_running="wait").success


class TestQueueing:
    def test_a_worker_passes_over_what_has_to_wait_and_takes_it_up_in_order(self, new_engine, gate):
        engine, worker = new_engine(gate), new_engine(gate)
        first = hold(engine, gate)
        for name in ("second", "third", "fourth"):
            engine.submit(keyed(), {"id": 7}, execution_id=name)
        engine.submit(keyed(), {"id": 8}, execution_id="other")
        assert bounded(worker.work, until_idle=True, max_executions=1) == 1
        assert gate.order == ["first", "other"]
        assert engine.look("second").queued_behind == "first"
        assert engine.next_due() is None
        gate.may_end.set()
        assert first.result(LONG).success
        assert bounded(worker.work, until_idle=True) == 3
        assert gate.order == ["first", "other", "second", "third", "fourth"]

    def test_several_workers_never_run_two_of_them_at_a_time(self, new_engine):
        at_work, most, ended = [], [0], []

        def handler(ctx):
            at_work.append(None)
            most[0] = max(most[0], len(at_work))
            ctx.sleep(0.001)
            at_work.pop()
            ended.append(ctx.execution_id)

        engines = [new_engine(handler) for _ in range(2)]
        for number in range(8):
            engines[0].submit(keyed(key="one"), execution_id=f"e{number}")
        token = CancellationToken()
        threads = [threading.Thread(target=lambda e=e: e.work(stop=token), daemon=True) for e in engines]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(ended) == 8, timeout=LONG * 2)
        for number in range(8):
            assert engines[0].result(f"e{number}", timeout=LONG).success
        token.cancel()
        for thread in threads:
            thread.join(LONG)
        assert most == [1]
        assert sorted(ended) == [f"e{number}" for number in range(8)]

    def test_one_that_waits_may_be_cancelled(self, new_engine, gate):
        engine = new_engine(gate)
        first = hold(engine, gate)
        engine.submit(keyed(), {"id": 7}, execution_id="second")
        assert engine.cancel("second")
        assert engine.resume("second").state is WorkflowState.CANCELLED
        gate.may_end.set()
        assert first.result(LONG).success

    def test_a_worker_takes_up_a_cancelled_one_at_once(self, new_engine, gate):
        engine, worker = new_engine(gate), new_engine(gate)
        first = hold(engine, gate)
        for name in ("second", "third"):
            engine.submit(keyed(), {"id": 7}, execution_id=name)
        assert engine.cancel("third")
        assert bounded(worker.work, until_idle=True) == 1
        assert engine.look("third").state is WorkflowState.CANCELLED
        assert engine.look("second").queued_behind == "first"
        gate.may_end.set()
        assert first.result(LONG).success


def test_of_many_that_wait_for_one_key_what_comes_behind_them_is_claimed(store):
    queue, limits = store.ledger.queue, store.ledger.limits

    def submit(name, key):
        from szal import ExecutionRecord

        record = ExecutionRecord(name, "f", WorkflowState.CREATED, concurrency_key=key)
        new = NewExecution(record=record, content_id="c", flow="{}", owner="nobody", ttl=60)
        assert queue.submit(Submission(new=new))

    for number in range(30):
        submit(f"a{number:02}", "a")
    submit("b", "b")
    submit("none", None)
    wanted = Claim(queues=("default",), most=2, ttl=60)
    assert queue.claim(wanted) == ["a00", "b"]
    assert queue.claim(wanted) == ["none"]
    assert queue.due_in(["default"]) is not None  # once what is reserved comes back
    assert queue.claim(wanted) == []
    taken = TakeOver(execution_id="a00", owner="me", ttl=60, is_gone=lambda owner: False)
    assert limits.key_holder("a") is None
    store.ledger.take_over(taken)
    assert limits.key_holder("a") == "a00"
    queue.begun(["a00"])
    with pytest.raises(ConcurrencyKeyTaken):
        store.ledger.take_over(TakeOver(execution_id="a01", owner="me", ttl=60, is_gone=lambda owner: False))
    assert limits.key_holder("none") is None


HOLDS = """
    def act(ctx):
        if ctx.execution_id == "first":
            tell("holds")
            time.sleep(600)

    engine = new_engine(act, lease_ttl=1.0)
    engine.start(FlowDef("f", steps=[StepDef("a")], concurrency_key="one"), execution_id="first")
    listen()
"""
WORKS = """
    import json

    def act(ctx):
        add(sys.argv[2], json.dumps([time.monotonic(), 1]))
        ctx.sleep(0.003)
        add(sys.argv[2], json.dumps([time.monotonic(), -1]))

    print(new_engine(act).work(until_idle=True))
"""


def test_a_process_that_is_killed_leaves_it_to_others(store_url, store, new_engine, log):
    with Child(HOLDS, store_url) as child:
        assert child.hear() == "holds"
        engine = new_engine(lambda ctx: log.add(ctx.execution_id), lease_ttl=1.0)
        engine.submit(keyed(key="one"), execution_id="second")
        child.process.kill()
        assert bounded(engine.run, keyed(key="one"), execution_id="third", if_running="wait").success
    while engine.look("first").state.is_live or engine.look("second").state.is_live:
        bounded(engine.work, until_idle=True)
    assert engine.result("first").success
    assert sorted(log.lines) == ["first", "second", "third"]


def test_two_processes_work_on_them_one_at_a_time(store_url, new_engine, log):
    engine = new_engine()
    for number in range(12):
        engine.submit(keyed(key=f"key {number % 2}"), execution_id=f"e{number}")
    with Child(WORKS, store_url, log.path) as one, Child(WORKS, store_url, log.path) as other:
        one.end(60)
        other.end(60)
    bounded(new_engine(lambda ctx: None).work, until_idle=True)  # what one gave back as the other went
    for number in range(12):
        assert engine.result(f"e{number}", timeout=LONG).success
    used = 0
    for _, change in sorted(map(json.loads, log.lines)):
        used += change
        assert used <= 2


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("key", "inputs", "problem"),
        [
            ("customer-{{inputs.id", None, "concurrency_key: .*"),
            ("{{steps.a.output}}", None, "when an execution begins there is nothing but its inputs"),
            ("{{inputs}}", None, "name one of them"),
            ("{{inputs.idd}}", {"id": 1}, "there is no input 'idd'; did you mean 'id'"),
            ("{{inputs.id}}", {"id": {"secret": True}}, "the input is secret, and the key is recorded"),
            ("", None, "concurrency_key is no text \\(''\\)"),
            (7, None, "concurrency_key is no text \\(7\\)"),
        ],
    )
    def test_what_is_no_key_is_refused(self, key, inputs, problem):
        with pytest.raises(InvalidFlow, match=problem):
            keyed(key=key, inputs=inputs or {}).validate()

    @pytest.mark.parametrize("kind", ["memory"])
    @pytest.mark.parametrize(
        ("key", "inputs", "problem"),
        [
            ("{{inputs.id}}", {}, "no concurrency_key can be made of them: .*inputs.id"),
            ("{{inputs.id}}", {"id": ""}, "comes to nothing"),
            ("{{inputs.id}}", {"id": None}, "no concurrency_key can be made of them"),
            ("{{inputs.id}}", {"id": "x" * 1001}, "is longer than 1000 characters"),
        ],
    )
    def test_inputs_that_make_none_are_refused_before_anything_is_recorded(
        self, new_engine, store, key, inputs, problem
    ):
        engine = new_engine()
        for call in (engine.run, engine.start, engine.submit):
            with pytest.raises(InvalidInputs, match=problem):
                call(keyed(key=key), inputs)
        assert store.list() == []

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_any_value_makes_one(self, new_engine, store):
        engine = new_engine()
        for number, (value, key) in enumerate([(7, "7"), ([1, "ä"], '[1, "ä"]'), (True, "true")]):
            engine.run(keyed(key="{{inputs.id}}"), {"id": value}, execution_id=f"e{number}")
            engine.config.execution_store.flush()
            found = store.get(f"e{number}")
            assert found.concurrency_key == key
            assert decode_record(encode_record(found)) == found

    def test_a_sub_flow_has_none(self):
        step = StepDef("s", step_type="sub_flow", config={"flow_name": "f"})
        with pytest.raises(InvalidFlow, match="sub-flow 'f': it has a concurrency_key, and runs within another"):
            FlowDef("outer", steps=[step], sub_flows=[keyed(key="one")]).validate()

    def test_it_is_recorded_and_said_in_files(self, tmp_path):
        path = tmp_path / "flow.yaml"
        path.write_text("name: f\nconcurrency: customer-{{inputs.id}}\nsteps:\n  - {name: a, run: 'true'}\n")
        flow = load_flow(path)
        assert decode_flow(encode_flow(flow)).concurrency_key == flow.concurrency_key == "customer-{{inputs.id}}"
        assert "concurrency" not in encode_flow(FlowDef("f"))
        path.write_text("name: f\nconcurrency: '{{steps.a.output}}'\nsteps:\n  - {name: a, run: 'true'}\n")
        with pytest.raises(LoadError, match=r"2:1.*when an execution begins there is nothing but its inputs"):
            load_flow(path)
        with pytest.raises(DecodeError, match="concurrency_key"):
            decode_flow(encode_flow(flow).replace('"customer-{{inputs.id}}"', "7"))

    def test_a_flow_of_functions_knows_the_input_that_it_names(self):
        flow = Flow("f", concurrency_key="customer-{{inputs.id}}")
        flow.step(lambda: 1, name="a")
        with pytest.raises(InvalidInputs, match="input 'id' is required: the flow's concurrency_key names it"):
            flow.run()
        assert flow.run({"id": 7}).success
