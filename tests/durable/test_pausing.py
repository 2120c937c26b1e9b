"""Pausing an execution, wherever it runs, until a person goes on with it."""

import threading

import pytest
from durable.children import Child, killed
from helper_engine import statuses, waited
from processes import run_command_line, wait_until

from szal import (
    Engine,
    ExecutionNotFound,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    LeaseLost,
    StepDef,
    SzalError,
    WorkflowState,
)
from szal.model.state import Stop
from szal.stores.ledger import TakeOver

PAUSED, RUNNING, COMPLETED = WorkflowState.PAUSED, WorkflowState.RUNNING, WorkflowState.COMPLETED


def chain(*names, **options):
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


class Gate:
    """A handler whose step *name* waits until it is opened."""

    def __init__(self, name):
        self.name, self.begun, self.go = name, threading.Event(), threading.Event()
        self.ran = []
        self.was_told = []

    def __call__(self, ctx):
        self.ran.append(ctx.step.name)
        if ctx.step.name == self.name:
            self.begun.set()
            waited(self.go)
            self.was_told.append(ctx.cancelled)
        return ctx.step.name


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_what_runs_comes_to_its_end_untold_and_nothing_new_starts(new_engine, store, durability):
    gate = Gate("b")
    engine = new_engine(gate, durability=durability)
    execution = engine.start(chain("a", "b", "c"), execution_id="e")
    waited(gate.begun)
    assert engine.pause("e")
    gate.go.set()
    paused = execution.result(20)
    assert paused.state is PAUSED
    assert paused.error == "paused"
    assert statuses(paused) == {"a": "completed", "b": "completed", "c": "pending"}
    assert gate.was_told == [False]
    engine.config.execution_store.flush()
    other = new_engine(gate)
    assert store.get("e").stop is Stop.PAUSED
    assert other.recover() == []
    assert other.look("e").state is PAUSED
    assert other.resume("e").success
    assert gate.ran == ["a", "b", "c"]
    assert store.get("e").stop is None


def test_parallel_steps_that_run_end_and_the_others_do_not_begin(new_engine):
    gate = Gate("a")
    flow = FlowDef("wide", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abc"])
    engine = new_engine(gate, max_concurrency=1)
    execution = engine.start(flow, execution_id="e")
    waited(gate.begun)
    engine.pause("e")
    wait_until(lambda: str(engine.look("e").steps["c"].status) == "pending")  # it is taken from the worker's queue
    gate.go.set()
    assert statuses(execution.result(20)) == {"a": "completed", "b": "pending", "c": "pending"}
    assert engine.resume("e").success
    assert sorted(gate.ran) == ["a", "b", "c"]


def test_a_step_that_fails_while_it_is_paused_is_tried_again_after_that(new_engine):
    gate, tries = Gate("a"), []

    def handler(ctx):
        gate(ctx)
        tries.append(ctx.attempt)
        if len(tries) == 1:
            raise ValueError

    engine = new_engine(handler)
    execution = engine.start(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0.01)]), execution_id="e")
    waited(gate.begun)
    engine.pause("e")
    gate.go.set()
    assert execution.result(20).state is PAUSED
    assert engine.resume("e").success
    assert tries == [1, 1]  # they are counted anew


def test_the_last_step_ends_the_execution(new_engine):
    gate = Gate("b")
    engine = new_engine(gate)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(gate.begun)
    engine.pause("e")
    gate.go.set()
    assert execution.result(20).state is COMPLETED
    assert not engine.pause("e")


def test_a_sleep_that_has_not_begun_waits_for_nobody(new_engine):
    gate = Gate("a")
    engine = new_engine(gate)
    nap = StepDef("nap", step_type="sleep", config={"seconds": 0})
    execution = engine.start(FlowDef("f", steps=[StepDef("a"), nap, StepDef("b")]), execution_id="e")
    waited(gate.begun)
    engine.pause("e")
    gate.go.set()
    assert execution.result(20).state is PAUSED
    assert list(engine.look("e").waits) == []
    assert engine.resume("e").success


@pytest.mark.parametrize("end", ["completes", "fails"])
def test_so_do_its_undoing_and_its_finally_steps(new_engine, end):
    gate, undone = Gate("b"), []

    def handler(ctx):
        gate(ctx)
        if end == "fails" and ctx.step.name == "b":
            raise ValueError

    engine = new_engine(handler, rollback_handler=lambda ctx: undone.append(ctx.step.name))
    steps = [StepDef("a", rollbackable=True), StepDef("b"), StepDef("tell", finally_=True, foreach=[1, 2])]
    execution = engine.start(FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
    waited(gate.begun)
    assert engine.pause("e")
    gate.go.set()
    assert execution.result(20).state is (COMPLETED if end == "completes" else WorkflowState.ROLLED_BACK)
    assert gate.ran == ["a", "b", "tell", "tell"]
    assert undone == ([] if end == "completes" else ["a"])


def test_from_another_engine_it_is_heard_at_the_next_heartbeat(new_engine, renewals):
    gate = Gate("a")
    execution = new_engine(gate, lease_ttl=0.3).start(chain("a", "b"), execution_id="e")
    waited(gate.begun)
    other = new_engine()
    assert other.pause("e")
    assert other.pause("e")  # asked twice
    assert other.look("e").state is RUNNING
    for _ in "12":  # after the second it has been told of what the first one found
        renewals.await_another("e")
    gate.go.set()
    assert execution.result(20).state is PAUSED
    assert other.recover() == []
    assert other.resume("e").success


CODE = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "a":
            tell("begun")
            listen()
            for _ in "12":  # heartbeats: after the second it has been told of what the first one found
                before = store.ledger.holdings(["e"])
                while store.ledger.holdings(["e"]) == before:
                    time.sleep(0.01)

    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b")])
    result = new_engine(handler, lease_ttl=0.3).run(flow, execution_id="e")
    tell(result.state)
"""


def test_from_another_process(store_url, new_engine, log):
    engine = new_engine()
    with Child(CODE, store_url, log.path) as child:
        assert child.hear() == "begun"
        assert engine.pause("e")
        child.say()
        assert child.hear() == "paused"
        child.end()
    assert log.lines == ["a"]
    assert engine.recover() == []
    assert engine.resume("e").success


def test_the_process_that_was_to_pause_dies(store_url, new_engine, log):
    engine = new_engine()
    with Child(CODE.replace("lease_ttl=0.3", "lease_ttl=600"), store_url, log.path) as child:
        assert child.hear() == "begun"
        assert engine.pause("e")
        child.process.kill()
        child.process.wait()
    assert engine.recover() == []  # it was to be left alone
    assert engine.pause("e")
    assert engine.look("e").state is PAUSED
    assert engine.recover() == []
    assert engine.resume("e").outputs == {"a": "a", "b": "b"}


def test_what_nobody_runs_is_paused_at_once(store_url, new_engine):
    code = "    new_engine(lambda ctx: die()).run(FlowDef('f', steps=[StepDef('a')]), execution_id='e')"
    killed(f"\n{code}\n", store_url)
    engine = new_engine()
    assert engine.interrupted() == ["e"]
    assert engine.pause("e")
    status = engine.look("e")
    assert (status.state, status.error, status.is_running) == (PAUSED, "paused", False)
    assert engine.recover() == []
    assert engine.resume("e").success


def test_what_waits_is_left_alone_although_its_signal_comes(new_engine, store):
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "ok"}), StepDef("pay")])
    engine = new_engine()
    engine.run(flow, execution_id="e")
    before = store.get("e").result
    assert engine.pause("e")
    assert store.get("e").result.steps == before.steps
    assert engine.signal("e", "ok", 7)
    engine.start_recovery(0.01)
    assert engine.recover() == []
    assert engine.look("e").state is PAUSED
    assert engine.resume("e").outputs == {"ask": 7, "pay": "pay"}


def test_a_pause_that_is_asked_for_while_it_goes_to_wait_holds(new_engine, store):
    """Its owner never hears of it: it has just given its lease back, to wait for a signal."""
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "ok"})])
    engine = new_engine()
    engine.run(flow, execution_id="e")
    store.ledger.request_pause("e")
    engine.signal("e", "ok")
    assert engine.recover() == []
    assert engine.resume("e").success


def test_what_is_paused_can_be_cancelled(new_engine):
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "ok"})])
    engine = new_engine()
    engine.run(flow, execution_id="e")
    engine.pause("e")
    engine.cancel("e")
    assert [result.state for result in engine.recover()] == [WorkflowState.CANCELLED]


def test_a_start_with_its_id_goes_on(new_engine):
    gate = Gate("a")
    engine = new_engine(gate)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(gate.begun)
    engine.pause("e")
    gate.go.set()
    execution.wait(20)
    assert engine.run(chain("a", "b"), execution_id="e").success


def test_a_sub_flow_is_paused_with_what_it_belongs_to(new_engine):
    gate = Gate("x")
    below = FlowDef("below", steps=[StepDef("x"), StepDef("y")])
    flow = FlowDef("above", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "below"}), StepDef("z")])
    engine = new_engine(gate, storage=InMemoryStorage([below]))
    execution = engine.start(flow, execution_id="e")
    waited(gate.begun)
    (child,) = (each for each in engine.config.execution_store.list("below"))
    assert engine.pause(child)
    gate.go.set()
    assert execution.result(20).state is PAUSED
    assert engine.look(child).state is PAUSED
    assert engine.recover() == []
    assert engine.resume("e").success
    assert gate.ran == ["x", "y", "z"]


def test_what_is_undone_comes_to_its_end(new_engine):
    undoing, go = threading.Event(), threading.Event()
    handlers = Handlers(lambda ctx: 1 / 0)
    handlers.step("a")(lambda ctx: None)
    handlers.rollback("a")(lambda ctx: (undoing.set(), waited(go))[1])
    flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("b")], rollback_on_failure=True)
    engine = new_engine(handlers)
    execution = engine.start(flow, execution_id="e")
    waited(undoing)
    wait_until(lambda: engine.look("e").state is WorkflowState.ROLLING_BACK)
    assert not engine.pause("e")
    go.set()
    assert execution.result(20).state is WorkflowState.ROLLED_BACK


def test_who_has_lost_its_lease_pauses_nothing(new_engine, store):
    gate = Gate("a")
    engine = new_engine(gate, lease_ttl=600)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(gate.begun)
    store.ledger.take_over(TakeOver(execution_id="e", owner="another", ttl=600, is_gone=lambda _: True))
    assert engine.pause("e")
    gate.go.set()
    with pytest.raises(LeaseLost):
        execution.result(20)
    assert store.get("e").state is RUNNING


def test_what_cannot_be_paused_is_told(new_engine):
    with pytest.raises(ExecutionNotFound):
        new_engine().pause("nobody")
    with Engine(lambda ctx: None) as unrecorded, pytest.raises(SzalError, match="szal's own stores"):
        unrecorded.pause("e")


def test_on_the_command_line(store_url, new_engine):
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "ok"})])
    engine = new_engine()
    engine.run(flow, execution_id="e")
    said = run_command_line("pause", "e", "--store", store_url)
    assert (said.returncode, said.stdout) == (0, "paused e\n")
    assert "to go on: szal resume e" in said.stderr
    shown = run_command_line("show", "e", "--store", store_url).stdout
    assert "szal resume e" in shown
    assert engine.signal("e", "ok", 1)
    assert run_command_line("recover", "--store", store_url).stderr.startswith("There is nothing to go on with.")
    assert run_command_line("resume", "e", "--store", store_url).returncode == 0
    said = run_command_line("pause", "e", "--store", store_url)
    assert said.returncode == 2
    assert "it has ended (completed)" in said.stderr
