"""Steps that wait: for a signal, or for a time."""

import threading
import time

import attrs
import pytest
from durable.children import Child, killed, run_child
from durable.failing import FailingSink
from helper_engine import bounded, errors, statuses, waited
from processes import wait_until

from szal import (
    EncodeError,
    Engine,
    EngineConfig,
    ExecutionNotFound,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    StoreError,
    WorkflowState,
)
from szal.engine.lineage import child_id
from szal.model.json import decode_checkpoint
from szal.stores.ledger import TakeOver


def wait_step(name="ask", **config):
    return StepDef(name, step_type="wait", config={"signal": "approve", **config})


def asking(**config):
    """A flow that asks, and goes on."""
    return FlowDef("asking", steps=[StepDef("first"), wait_step(**config), StepDef("last")])


# -- signals ------------------------------------------------------------------------------------------


def test_a_run_that_can_only_wait_is_paused_and_holds_no_thread(new_engine, store):
    engine = new_engine()
    others = set(threading.enumerate())
    execution = engine.start(asking())
    result = execution.result(timeout=20)
    wait_until(lambda: not [each for each in {*threading.enumerate()} - others if each.name.startswith("szal-run")])
    assert (result.state, result.success, result.failed_count, result.error) == (WorkflowState.PAUSED, False, 0, None)
    assert statuses(result) == {"first": "completed", "ask": "pending", "last": "pending"}
    assert store.get(result.execution_id).state is WorkflowState.PAUSED


def test_what_it_came_to_when_it_paused_is_its_result_until_it_goes_on(new_engine, store):
    seen = []

    def handler(ctx):
        if ctx.step.name == "last":
            wait_until(lambda: store.get("e").state is WorkflowState.RUNNING)
            seen.append(store.get("e").result)

    engine = new_engine(handler)
    engine.run(asking(), execution_id="e")
    assert store.get("e").result.completed_count == 1
    engine.signal("e", "approve")
    assert engine.resume("e").completed_count == 3
    assert seen == [None]


def test_all_that_needs_no_signal_runs_before_the_pause(new_engine):
    flow = FlowDef("beside", FlowMode.DAG, steps=[wait_step(), a := StepDef("a"), StepDef("b", depends_on=[a])])
    assert statuses(new_engine().run(flow)) == {"ask": "pending", "a": "completed", "b": "completed"}


@pytest.mark.parametrize("how", ["resume", "recover", "run"])
def test_a_signal_after_the_pause_is_the_output_when_it_goes_on(new_engine, how):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name) or dict(ctx.outputs))
    flow = asking()
    paused = engine.run(flow, execution_id="e")
    assert engine.signal("e", "approve", {"by": "me"})
    if how == "resume":
        result = engine.resume("e")
    elif how == "recover":
        [result] = engine.recover()
    else:
        result = engine.run(flow, execution_id="e")
    assert result.success
    assert result.execution_id == paused.execution_id
    assert result.outputs["ask"] == {"by": "me"}
    assert result.outputs["last"]["ask"] == {"by": "me"}
    assert ran == ["first", "last"]


def test_a_signal_before_the_wait_is_reached_is_kept(new_engine):
    engine = new_engine(lambda ctx: engine.signal(ctx.execution_id, "approve", "early") and ctx.step.name)
    flow = FlowDef("early", steps=[StepDef("first"), wait_step()])
    assert engine.run(flow).outputs == {"first": "first", "ask": "early"}


def test_a_signal_during_the_wait_is_delivered_at_once(new_engine):
    begun, delivered = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "busy":
            begun.set()
            waited(delivered)
        else:
            delivered.set()
        return ctx.step.name

    engine = new_engine(handler)
    ask = wait_step()
    flow = FlowDef("busy", FlowMode.DAG, steps=[StepDef("busy"), ask, StepDef("after", depends_on=[ask])])
    execution = engine.start(flow)
    waited(begun)
    engine.signal(execution.execution_id, "approve", 1)
    assert execution.result(timeout=20).outputs["ask"] == 1


@pytest.mark.parametrize("tell", ["signal", "cancel"])
def test_what_is_told_a_sub_flow_under_way_is_heard_at_once(new_engine, tell):
    """Long before the next heartbeat."""
    settled, heard, begun = threading.Event(), [], threading.Event()

    def handler(ctx):
        begun.set()
        waited(settled)

    def listen(event):
        if event.step_name == "ask" and event.event_type in ("step_completed", "step_skipped"):
            heard.append(event.event_type)
            settled.set()

    inner = FlowDef("inner", steps=[wait_step()])
    steps = [StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("busy")]
    engine = new_engine(handler, storage=InMemoryStorage([inner]), event_sink=listen)
    other = engine.start(FlowDef("other", FlowMode.PARALLEL, steps=steps), execution_id="other")
    execution = engine.start(FlowDef("outer", FlowMode.PARALLEL, steps=steps), execution_id="e")
    waited(begun)
    child = child_id("e", "in", 1)
    wait_until(lambda: engine.config.execution_store.get(child), timeout=20)
    engine.signal(child, "approve") if tell == "signal" else engine.cancel(child)
    result = execution.result(timeout=20)
    assert heard == ["step_completed" if tell == "signal" else "step_skipped"]
    assert result.state is (WorkflowState.COMPLETED if tell == "signal" else WorkflowState.CANCELLED)
    assert other.result(timeout=20).state is WorkflowState.PAUSED


@pytest.mark.parametrize("tell", ["signal", "cancel"])
def test_so_is_what_it_is_told_as_soon_as_the_store_has_it(open_one, tell):
    """Before the engine that has just recorded it does anything else."""
    told = []

    class Telling:
        def wrap(self, name, function):
            def operation(*args, **kwargs):
                found = function(*args, **kwargs)
                if name == "ledger.create" and args[0].under is not None:
                    act = engine.signal if tell == "signal" else engine.cancel
                    told.append(act(args[0].record.execution_id, *["approve"][: tell == "signal"]))
                return found

            return operation

    def handler(ctx):
        for _ in range(1000):  # until told, or its sub-flow is over
            if heard.is_set() or not ctx.sleep(0.01):
                break

    heard = threading.Event()
    inner = FlowDef("inner", steps=[wait_step()])
    steps = [StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("busy")]
    with open_one() as opened, opened.engine_sink() as sink:
        config = EngineConfig(
            execution_store=FailingSink(sink, Telling()),
            storage=InMemoryStorage([inner]),
            lease_ttl=600.0,
            event_sink=lambda event: heard.set() if event.event_type == "flow_completed" else None,
        )
        with Engine(handler, config) as engine:
            result = bounded(engine.run, FlowDef("outer", FlowMode.PARALLEL, steps=steps))
    assert told == [True]
    assert result.state is (WorkflowState.COMPLETED if tell == "signal" else WorkflowState.CANCELLED)


def test_a_signal_of_another_engine_reaches_a_wait_under_way(new_engine):
    begun, delivered = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "busy":
            begun.set()
            waited(delivered)
        else:
            delivered.set()

    ask = wait_step()
    flow = FlowDef("busy", FlowMode.DAG, steps=[StepDef("busy"), ask, StepDef("after", depends_on=[ask])])
    execution = new_engine(handler, lease_ttl=0.3).start(flow, execution_id="e")
    waited(begun)
    assert new_engine().signal("e", "approve", "from beside", signal_id="1")
    assert not new_engine().signal("e", "approve", "from beside", signal_id="1")
    assert execution.result(timeout=20).outputs["ask"] == "from beside"


def test_a_signal_of_another_process_reaches_a_wait_under_way(store_url, new_engine):
    code = """
    def handler(ctx):
        if ctx.step.name == "busy":
            tell("begun")
            delivered.wait(20)
        else:
            delivered.set()
        return ctx.step.name

    delivered = threading.Event()
    ask = StepDef("ask", step_type="wait", config={"signal": "approve"})
    flow = FlowDef("busy", FlowMode.DAG, steps=[StepDef("busy"), ask, StepDef("after", depends_on=[ask])])
    with new_engine(handler, lease_ttl=0.3) as engine:
        tell(engine.run(flow, execution_id="e").outputs["ask"])
    """
    with Child(code, store_url) as child:
        assert child.hear() == "begun"
        assert new_engine().signal("e", "approve", "from afar", signal_id="1")
        assert not new_engine().signal("e", "approve", "from afar", signal_id="1")
        assert child.hear() == "from afar"
        child.end()


def test_a_signal_sent_twice_with_one_id_is_delivered_once(store_url, new_engine):
    engine = new_engine()
    flow = FlowDef("two", steps=[wait_step("one"), wait_step("two")])
    engine.run(flow, execution_id="e")
    code = "    tell(new_engine().signal('e', 'approve', 1, signal_id='the same'))"
    assert sorted([run_child(code, store_url), run_child(code, store_url)]) == ["False", "True"]
    assert not engine.signal("e", "approve", 2, signal_id="the same")
    result = engine.resume("e")
    assert result.state is WorkflowState.PAUSED
    assert result.outputs == {"one": 1}
    assert not engine.signal("e", "approve", 2, signal_id="the same")  # delivered, and still known
    engine.signal("e", "approve", 3)
    assert engine.resume("e").outputs == {"one": 1, "two": 3}


def test_each_signal_goes_to_one_step_in_the_order_sent(new_engine):
    engine = new_engine()
    flow = FlowDef("each", FlowMode.PARALLEL, steps=[wait_step("one"), wait_step("two"), wait_step("three")])
    engine.run(flow, execution_id="e")
    engine.signal("e", "approve", 1)
    engine.signal("e", "another", 0)
    engine.signal("e", "approve", 2)
    result = engine.resume("e")
    assert result.outputs == {"one": 1, "two": 2}
    assert result.state is WorkflowState.PAUSED


def test_a_signal_that_cannot_be_kept_is_refused(new_engine):
    engine = new_engine()
    with pytest.raises(ExecutionNotFound):
        engine.signal("nobody", "approve")
    engine.run(asking(), execution_id="e")
    with pytest.raises(EncodeError):
        engine.signal("e", "approve", object())


def test_a_store_without_a_sink_keeps_waits_and_signals_too(store):
    with Engine(lambda ctx: ctx.step.name, EngineConfig(execution_store=store)) as engine:
        assert engine.run(asking(), execution_id="e").state is WorkflowState.PAUSED
        assert engine.signal("e", "approve", 1)
        assert engine.resume("e").outputs == {"first": "first", "ask": 1, "last": "last"}


def test_without_a_signal_it_is_paused_again_and_recover_leaves_it_alone(new_engine):
    engine = new_engine()
    engine.run(asking(), execution_id="e")
    assert engine.recover() == []
    assert engine.resume("e").state is WorkflowState.PAUSED


def test_a_signal_that_no_step_waits_for_wakes_nothing(new_engine, store):
    engine = new_engine()
    engine.run(asking(), execution_id="e")
    assert engine.signal("e", "reject")
    assert engine.signal("e", "approve or not")
    assert engine.interrupted() == []
    assert engine.recover() == []
    assert engine.signal("e", "approve", "yes")
    [result] = engine.recover()
    assert result.outputs["ask"] == "yes"


def test_a_signal_to_an_execution_that_has_ended_is_not_accepted(new_engine):
    engine = new_engine()
    engine.run(FlowDef("short", steps=[StepDef("only")]), execution_id="e")
    assert not engine.signal("e", "approve")
    assert not engine.cancel("e")
    assert str(engine.resume("e").state) == "completed"


def test_one_whose_recovery_ends_before_it_goes_on_is_found_again(new_engine, store):
    engine = new_engine()
    engine.run(asking(), execution_id="e")
    engine.signal("e", "approve", "yes")
    assert engine.interrupted() == ["e"]
    before = store.ledger.read("e").epoch
    wanted = TakeOver(execution_id="e", owner="somebody", ttl=0.05, is_gone=lambda owner: False)
    assert store.ledger.take_over(wanted).epoch == before + 1
    assert store.get("e").state is WorkflowState.PAUSED
    wait_until(lambda: engine.interrupted() == ["e"], timeout=20)
    [result] = engine.recover()
    assert result.outputs == {"first": "first", "ask": "yes", "last": "last"}


def test_a_signal_wakes_one_that_is_recovered_in_the_background(new_engine, store):
    new_engine().run(asking(), execution_id="e")
    engine = new_engine()
    engine.start_recovery(0.02)
    new_engine().signal("e", "approve", "yes")
    wait_until(lambda: store.get("e").state is WorkflowState.COMPLETED, timeout=20)
    assert store.get("e").result.outputs["ask"] == "yes"


def test_what_another_program_runs_cannot_be_told_to_cancel(new_engine, store):
    store.save(ExecutionRecord("rust", "theirs", WorkflowState.RUNNING))
    with pytest.raises(StoreError, match="execution rust is running, but not of szal's engine"):
        new_engine().cancel("rust")


def test_a_paused_execution_is_cancelled_when_it_goes_on(new_engine):
    engine = new_engine()
    engine.run(asking(), execution_id="e")
    engine.cancel("e")
    [result] = engine.recover()
    assert result.state is WorkflowState.CANCELLED
    assert errors(result) == {"ask": "cancelled", "last": "cancelled"} or statuses(result)["last"] == "skipped"


@pytest.mark.parametrize("signal", ["", None, 7])
def test_a_wait_for_nothing_fails(new_engine, signal):
    flow = FlowDef("bad", steps=[StepDef("ask", step_type="wait", config={"signal": "{{inputs.signal}}"})])
    assert "config.signal" in new_engine().run(flow, {"signal": signal})["ask"].error


def test_a_wait_without_a_store_fails_with_what_is_missing():
    with Engine(lambda ctx: None, EngineConfig()) as engine:
        assert "needs one of szal's own stores" in bounded(engine.run, asking())["ask"].error


# -- in sub-flows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["resume", "recover"])
def test_a_sub_flow_that_waits_pauses_all_and_a_signal_to_it_goes_on_with_all(new_engine, store, how):
    storage = InMemoryStorage([FlowDef("inner", steps=[wait_step(), StepDef("done")])])
    engine = new_engine(storage=storage)
    outer = [StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("last")]
    assert engine.run(FlowDef("outer", steps=outer), execution_id="e").state is WorkflowState.PAUSED
    [child] = store.find(flow_name="inner")
    assert child.state is WorkflowState.PAUSED
    engine.signal(child.execution_id, "approve", 7)
    [result] = [engine.resume("e")] if how == "resume" else engine.recover()
    assert (result.execution_id, result.state) == ("e", WorkflowState.COMPLETED)
    assert result.outputs["sub"] == {"ask": 7, "done": "done"}
    assert store.get(child.execution_id).state is WorkflowState.COMPLETED
    assert engine.recover() == []


# -- time ---------------------------------------------------------------------------------------------


def test_a_wait_past_its_time_takes_its_default(new_engine):
    engine = new_engine()
    assert engine.run(asking(timeout=1.5, default="nobody"), execution_id="e").state is WorkflowState.PAUSED
    [result] = wait_until(engine.recover)
    assert result.success
    assert result.outputs["ask"] == "nobody"


def test_a_wait_past_its_time_without_a_default_fails(new_engine):
    engine = new_engine()
    engine.run(asking(timeout=1.5), execution_id="e")
    [result] = wait_until(engine.recover)
    assert result.state is WorkflowState.FAILED
    assert errors(result) == {"ask": "step timeout: ask after 1500ms", "last": "prior step failed"}


def test_the_attempts_of_a_wait_are_counted_across_pauses(new_engine):
    engine = new_engine()
    step = attrs.evolve(wait_step(timeout=0.03), max_retries=2, retry_delay=0.0)
    result = engine.run(FlowDef("asking", steps=[step]), execution_id="e")
    paused = 0
    while result.state is WorkflowState.PAUSED:  # once for each attempt, where no time-out passes before it pauses
        paused += 1
        [result] = wait_until(engine.recover, timeout=20)
    assert paused in (1, 2, 3)
    assert result["ask"].error == "retry exhausted: ask after 3 attempts: step timeout: ask after 30ms"
    assert result["ask"].attempts == 3


def test_a_wait_within_its_time_goes_on_for_a_signal_only(new_engine):
    engine = new_engine()
    engine.run(asking(timeout=1000, default=None), execution_id="e")
    assert engine.recover() == []
    engine.signal("e", "approve", 1)
    assert [result.outputs["ask"] for result in engine.recover()] == [1]


def test_the_time_of_a_wait_counts_from_its_beginning_not_from_the_resume(new_engine, store):
    engine = new_engine()
    engine.run(asking(timeout=1000), execution_id="e")
    assert (due := due_of(store, "ask")) is not None
    engine.resume("e")
    assert due_of(store, "ask") == due


def test_a_sleep_ends_by_itself(new_engine):
    began = time.monotonic()
    flow = FlowDef("nap", steps=[StepDef("nap", step_type="sleep", config={"seconds": 0.1}), StepDef("last")])
    assert bounded(new_engine().run, flow).outputs == {"nap": None, "last": "last"}
    assert time.monotonic() - began >= 0.1


def test_a_sleep_keeps_its_end_across_a_crash(store_url, new_engine, store):
    code = """
    steps = [StepDef("nap", step_type="sleep", config={"seconds": 4.0}), StepDef("last")]
    with new_engine() as engine:
        execution = engine.start(FlowDef("nap", steps=steps), execution_id="e")
        while not store.ledger.read("e").steps:
            time.sleep(0.002)
        die()
    """
    killed(code, store_url)
    due = due_of(store, "nap")
    time.sleep(max(0.0, due - time.time()))
    began = time.monotonic()
    ends = []
    result = bounded(new_engine(lambda ctx: ends.append(time.time())).resume, "e")
    assert result.success
    assert time.monotonic() - began < 3.8  # it would sleep for another four seconds
    assert ends[0] >= due


def due_of(store, step):
    """Return when the wait that is recorded for *step* ends."""
    [due] = [decode_checkpoint(data, name).due for name, _, data in store.ledger.read("e").steps if name == step]
    return due
