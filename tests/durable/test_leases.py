"""Who runs an execution: owners, heartbeats, and what becomes of one who was taken for dead."""

import os
import signal
import sqlite3
import threading
from contextlib import closing, suppress

import pytest
from durable.children import Child, killed
from helper_engine import statuses, waited
from in_front import InFront
from processes import is_running, number_in, wait_until

from szal import (
    Engine,
    EngineConfig,
    ExecutionOwned,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    LeaseLost,
    StepDef,
    WorkflowState,
    WriteFailed,
)
from szal.engine.lineage import child_id
from szal.model.definition import content_id
from szal.model.json import encode_flow
from szal.stores import open_store
from szal.stores.ledger import NewExecution, TakeOver
from szal.stores.writes import SaveStep


def chain(*names):
    return FlowDef("chain", steps=[StepDef(name) for name in names])


# -- a living owner -----------------------------------------------------------------------------------

RUNNING = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "b":
            tell("begun")
            listen()
        return ctx.step.name

    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
"""


def test_who_runs_what_was_removed_writes_nothing_to_what_began_anew_under_its_id(new_engine, store):
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def old(ctx):
        if ctx.step.name == "b":
            begun.set()
            waited(go_on)
        return "old"

    def run():
        with suppress(LeaseLost):
            ended.append(engine.run(chain("a", "b", "c"), execution_id="e"))

    with Engine(old, EngineConfig(execution_store=store)) as engine:
        thread = threading.Thread(target=run)
        thread.start()
        waited(begun)
        store.remove("e")
        assert new_engine(lambda ctx: "new").run(chain("a", "b", "c"), execution_id="e").outputs["c"] == "new"
        go_on.set()
        thread.join(30)
    assert not ended
    assert {step.output for step in store.get("e").result.steps} == {"new"}


def test_what_another_process_runs_cannot_be_run_here(store_url, new_engine, log):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name))
    code = RUNNING + "    with new_engine(handler) as engine: tell(engine.run(flow, execution_id='e').state)"
    with Child(code, store_url, log.path) as child:
        assert child.hear() == "begun"
        with pytest.raises(ExecutionOwned):
            engine.resume("e")
        with pytest.raises(ExecutionOwned):
            engine.run(chain("a", "b", "c"), execution_id="e")
        assert engine.recover() == []
        child.say()
        assert child.hear() == "completed"
        child.end()
    assert engine.resume("e").outputs == {"a": "a", "b": "b", "c": "c"}
    assert ran == []
    assert log.lines == ["a", "b", "c"]


def test_what_another_engine_of_this_process_runs_cannot_be_run_here(new_engine):
    begun, go, ran = threading.Event(), threading.Event(), []
    execution = new_engine(lambda ctx: (begun.set(), waited(go))[1]).start(chain("a"), execution_id="e")
    waited(begun)
    other = new_engine(lambda ctx: ran.append(ctx.step.name))
    with pytest.raises(ExecutionOwned):
        other.resume("e")
    with pytest.raises(ExecutionOwned):
        other.run(chain("a"), execution_id="e")
    assert other.recover() == []
    go.set()
    done = execution.result(timeout=20)
    assert other.resume("e").outputs == done.outputs
    assert ran == []


def test_what_this_engine_runs_it_does_not_run_twice(new_engine):
    begun, go = threading.Event(), threading.Event()
    engine = new_engine(lambda ctx: (begun.set(), waited(go))[1])
    execution = engine.start(chain("a"), execution_id="e")
    waited(begun)
    with pytest.raises(ExecutionOwned):
        engine.resume("e")
    assert engine.recover() == []
    go.set()
    assert execution.result(timeout=20).success


def test_the_heartbeat_keeps_a_lease_however_busy_the_engine_is(new_engine, renewals):
    begun, go = threading.Event(), threading.Event()
    engine = new_engine(lambda ctx: (begun.set(), waited(go))[1], lease_ttl=6, max_concurrency=1)
    execution = engine.start(chain("a"), execution_id="e")
    waited(begun)
    for _ in range(3):  # as long as it would last by itself
        renewals.await_another("e")
    with pytest.raises(ExecutionOwned):
        new_engine().resume("e")
    go.set()
    assert execution.result(timeout=20).success


def test_a_lease_that_began_after_a_pause_is_kept_however_slow_the_renewal_before_is(new_engine, store, renewals):
    held_up, begun, asked, go, renewing, slow = (threading.Event() for _ in range(6))

    def handler(ctx):
        {"before": asked, "after": begun}[ctx.step.name].set()
        waited(held_up if ctx.step.name == "before" else go)

    def renew(renewal):
        if not renewing.is_set():
            renewing.set()
            waited(slow)
        return sink.ledger.renew(renewal)

    wait = StepDef("wait", step_type="wait", config={"signal": "s"})
    flow = FlowDef("f", steps=[StepDef("before"), wait, StepDef("after")])
    sink = store.engine_sink()
    in_front = InFront(sink, ledger=InFront(sink.ledger, renew=renew))
    with sink, Engine(handler, EngineConfig(execution_store=in_front, lease_ttl=6)) as engine:
        paused = engine.start(flow, execution_id="e")
        waited(asked)
        waited(renewing)  # of "e" as it is now
        held_up.set()
        assert paused.result(timeout=20).state is WorkflowState.PAUSED
        engine.signal("e", "s")
        resumed = threading.Thread(target=engine.resume, args=["e"])
        resumed.start()
        waited(begun)
        slow.set()
        renewals.await_another("e")
        with pytest.raises(ExecutionOwned):
            new_engine().resume("e")
        go.set()
        resumed.join(20)
        assert store.get("e").state is WorkflowState.COMPLETED


def test_the_lease_is_given_up_at_the_end(new_engine):
    new_engine().run(chain("a"), execution_id="e")
    assert new_engine().recover() == []


def test_what_the_parent_of_a_fork_ran_when_it_died_is_recovered_by_the_child(store_url, store, log):
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if os.getpid() == parent:
            begun.set()
            threading.Event().wait()

    begun, parent = threading.Event(), os.getpid()
    engine = new_engine(handler)
    engine.start(FlowDef("chain", steps=[StepDef("a")]), execution_id="e")
    begun.wait()
    if os.fork():
        os.kill(parent, signal.SIGKILL)
    end = time.monotonic() + 20
    while not engine.recover() and time.monotonic() < end:
        time.sleep(0.01)
    os._exit(0)
    """
    killed(code, store_url, log.path)  # waits for the child too, which has its standard output
    assert store.get("e").state is WorkflowState.COMPLETED
    assert log.lines == ["a", "a"]


# -- one who was taken for dead -----------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_who_was_taken_over_from_writes_nothing_more(store_url, new_engine, store, log, durability):
    code = (
        RUNNING
        + f"""
    # A process that stops in a transaction locks all out of SQLite.
    gate, renew = threading.Lock(), type(store.ledger).renew

    def renew_if_not_stopped(*arguments):
        with gate:
            return renew(*arguments)

    def listen():
        sink.flush()
        with gate:
            os.kill(os.getpid(), signal.SIGSTOP)

    type(store.ledger).renew = renew_if_not_stopped
    engine = new_engine(handler, lease_ttl=0.5, durability={durability!r})
    try:
        tell(engine.run(flow, execution_id="e").state)
    except LeaseLost as error:
        tell("lost", error.execution_id)
    engine.close()
    try:
        sink.close()
    except StoreError as error:
        tell(error)
    """
    )
    with Child(code, store_url, log.path) as child:
        assert child.hear() == "begun"
        engine = new_engine(lambda ctx: (log.add(f"taken over: {ctx.step.name}"), "mine")[1])
        [result] = wait_until(engine.recover)
        assert result.success
        before = (store.get("e"), store.ledger.read("e").steps)
        os.kill(child.process.pid, signal.SIGCONT)
        assert child.hear() in ["lost e", "completed"][: 2 if durability == "none" else 1]  # which waits for no commit
        child.end()
    assert (store.get("e"), store.ledger.read("e").steps) == before
    assert result.outputs["b"] == "mine"
    assert log.lines.count("taken over: b") == log.lines.count("b") == 1
    assert durability != "step" or "c" not in log.lines


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_a_run_whose_lease_is_lost_ends_at_once_and_its_handler_is_told(new_engine, store, durability):
    told = threading.Event()
    begun = threading.Event()

    def handler(ctx):
        begun.set()
        ctx.sleep(20)
        told.set() if ctx.cancelled else None

    execution = new_engine(handler, lease_ttl=0.2, durability=durability).start(chain("a", "b"), execution_id="e")
    waited(begun)
    store.ledger.take_over(TakeOver(execution_id="e", owner="somebody else", ttl=30.0, is_gone=lambda owner: True))
    with pytest.raises(LeaseLost):
        execution.result(timeout=20)
    waited(told)
    assert store.get("e").state is WorkflowState.RUNNING
    assert store.ledger.read("e").steps == []


@pytest.mark.parametrize("beside", [0, 1], ids=["on the run's thread", "on a worker"])
def test_a_command_of_a_run_whose_lease_is_lost_is_killed(store, tmp_path, beside):
    """Another process runs it again by now."""
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {pid}; while :; do sleep 100; done"
    command = StepDef("a", step_type="shell", config={"run": script, "stop": {"grace": 60}})
    others = [StepDef("other", step_type="shell", config={"run": ":"})] * beside
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[command, *others])
    with Engine(Handlers(), EngineConfig(execution_store=store, lease_ttl=0.6)) as engine:
        execution = engine.start(flow, execution_id="e")
        group = wait_until(lambda: number_in(pid))
        store.ledger.take_over(TakeOver(execution_id="e", owner="somebody else", ttl=30.0, is_gone=lambda owner: True))
        with pytest.raises(LeaseLost):
            execution.result(timeout=20)
    assert not is_running(group)


def test_a_write_under_an_old_lease_is_refused_and_disturbs_no_other(new_engine, store):
    go, begun = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        waited(go)

    engine = new_engine(handler)  # a heartbeat long after all is over
    lost = engine.start(chain("a"), execution_id="lost")
    kept = engine.start(chain("a"), execution_id="kept")
    waited(begun)
    store.ledger.take_over(TakeOver(execution_id="lost", owner="somebody else", ttl=30.0, is_gone=lambda owner: True))
    go.set()
    assert kept.result(timeout=20).success
    with pytest.raises(LeaseLost, match="execution lost was taken over"):
        lost.result(timeout=20)
    assert store.ledger.read("lost").steps == []
    assert store.get("lost").state is WorkflowState.RUNNING


INNER = FlowDef("inner", steps=[StepDef("deep")])
OUTER = FlowDef("outer", steps=[StepDef("a"), StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_who_was_taken_over_from_records_no_sub_flow(new_engine, store, durability):
    ran = []

    def handler(ctx):
        ran.append(ctx.step.name)
        store.ledger.take_over(TakeOver(execution_id="e", owner="somebody else", ttl=30.0, is_gone=lambda owner: True))

    engine = new_engine(handler, storage=InMemoryStorage([INNER]), durability=durability)
    lost = pytest.raises(LeaseLost, match="execution e was taken over")
    with suppress(LeaseLost) if durability == "none" else lost:  # which is over before anything is written, or not
        engine.run(OUTER, execution_id="e")
    with suppress(WriteFailed):
        engine.config.execution_store.flush()
    assert store.list() == ["e"]
    assert ran in ([["a"], ["a", "deep"]] if durability == "none" else [["a"]])


def test_a_sub_flow_whose_lease_is_still_valid_goes_on_with_its_parent(new_engine, store):
    """Its lease began later than the parent's, on a machine that is no more."""
    child = child_id("e", "in", 1)
    for flow, name, parent, ttl in ((OUTER, "e", None, -1.0), (INNER, child, "e", 10.0)):
        record = ExecutionRecord(name, flow.name, WorkflowState.RUNNING, flow_id=flow.id, parent_execution_id=parent)
        store.ledger.create(
            NewExecution(
                record=record,
                content_id=content_id(flow),
                flow=encode_flow(flow),
                owner="elsewhere/boot/1/2/x",
                ttl=ttl,
            )
        )
    [result] = new_engine(storage=InMemoryStorage([INNER])).recover()
    assert result.outputs == {"a": "a", "in": {"deep": "deep"}}
    assert store.get(child).state is WorkflowState.COMPLETED


# -- cancelling ---------------------------------------------------------------------------------------


def test_another_process_can_cancel(store_url, new_engine):
    code = """
    def handler(ctx):
        tell("begun")
        ctx.sleep(20)
        tell("told" if ctx.cancelled else "not told")

    with new_engine(handler, lease_ttl=1.5) as engine:
        tell(engine.run(FlowDef("chain", steps=[StepDef("a"), StepDef("b")]), execution_id="e").state)
    """
    with Child(code, store_url) as child:
        assert child.hear() == "begun"
        new_engine().cancel("e")
        assert child.hear() == "told"
        assert child.hear() == "cancelled"
        child.end()


def test_another_engine_of_this_process_can_cancel(new_engine):
    begun = threading.Event()

    def handler(ctx):
        begun.set()
        ctx.sleep(20)

    execution = new_engine(handler, lease_ttl=1.5).start(chain("a", "b"), execution_id="e")
    waited(begun)
    assert new_engine().cancel("e")
    assert execution.result(timeout=20).state is WorkflowState.CANCELLED


def test_this_engine_cancels_at_once(new_engine, store):
    begun = threading.Event()

    def handler(ctx):
        begun.set()
        ctx.sleep(20)

    engine = new_engine(handler)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(begun)
    engine.cancel("e")
    result = execution.result(timeout=20)
    assert result.state is WorkflowState.CANCELLED
    assert statuses(result)["b"] == "skipped"


def test_one_that_was_to_be_cancelled_when_its_process_died_is_cancelled_by_who_recovers_it(store_url, new_engine, log):
    code = RUNNING + "    new_engine(handler).run(flow, execution_id='e')"
    ran = []
    with Child(code, store_url, log.path) as child:
        assert child.hear() == "begun"
        engine = new_engine(lambda ctx: ran.append(ctx.step.name))
        engine.cancel("e")
        child.process.kill()
        child.process.wait()
        [result] = engine.recover()
    assert result.state is WorkflowState.CANCELLED
    assert ran == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_who_is_not_known_to_the_server_that_took_over_writes_nothing_under_the_next_owners_lease(
    store_url, fast_path, kind
):
    """A standby that had not heard of the last take-over: here a copy of the file, made before it."""
    copy = fast_path / "standby.db"
    with open_store(store_url) as store:
        new = NewExecution(
            record=ExecutionRecord("e", "inner", WorkflowState.RUNNING), content_id="c", flow="{}", owner="x", ttl=-1.0
        )
        store.ledger.create(new)
        with (
            closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as original,
            closing(sqlite3.connect(copy)) as standby,
        ):
            original.backup(standby)
        epochs = []
        for url in (store_url, f"sqlite:///{copy}"):
            with open_store(url) as each, Engine(lambda ctx: None, EngineConfig(execution_store=each)) as engine:
                epochs.append(engine._admission.recovery().leased.take_over("e").epoch)
        assert epochs[0] != epochs[1]
        with open_store(f"sqlite:///{copy}") as standby, pytest.raises(LeaseLost):
            standby.ledger.apply([SaveStep("e", "a", 0, "{}", None, epochs[0])])
