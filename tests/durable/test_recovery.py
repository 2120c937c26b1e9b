"""Executions that outlive their process: what goes on, where, how often, and under which definition."""

import contextlib
import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from durable.children import Child, killed
from helper_engine import bounded, statuses, waited
from ids import uid
from in_front import InFront
from processes import wait_until

from szal import (
    DefinitionMismatch,
    Engine,
    EngineConfig,
    ExecutionNotFound,
    ExecutionOwned,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    HandlerNotFound,
    Handlers,
    InMemoryStorage,
    MigrationRegistry,
    StepDef,
    StepResult,
    StepStatus,
    SzalError,
    TriggerMode,
    WorkflowState,
)
from szal.model.definition import content_id
from szal.model.json import encode_checkpoint, encode_flow, encode_record
from szal.model.state import Stop
from szal.scheduler.plan import Outcome
from szal.stores.ledger import NewExecution, TakeOver
from szal.stores.sink.sink import Sink
from szal.stores.writes import Save, SaveStep

# Dies in step DIES, once what came before is written. Each handler adds a line: its step and its key.
DYING = """
    def handler(ctx):
        add(sys.argv[2], f"{ctx.step.name} {ctx.idempotency_key}")
        if ctx.step.name == sys.argv[3]:
            die()
        return ctx.step.name

    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
"""
RUN = DYING + "    new_engine(handler).run(flow, {'n': 1}, execution_id='e')"


def chain(*names, **options):
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


def logging_to(log):
    """A handler that adds a line to the log, and returns the step's name."""

    def handler(ctx):
        log.add(f"{ctx.step.name} {ctx.idempotency_key}")
        return ctx.step.name

    return handler


# -- resume -------------------------------------------------------------------------------------------


def test_completed_steps_are_not_run_again_and_the_interrupted_one_keeps_its_key(store_url, new_engine, log):
    killed(RUN, store_url, log.path, "b")
    seen = []

    def handler(ctx):
        seen.append((dict(ctx.outputs), dict(ctx.inputs)))
        return logging_to(log)(ctx)

    result = new_engine(handler).resume("e")
    assert result.outputs == {"a": "a", "b": "b", "c": "c"}
    assert log.lines == ["a e:a", "b e:b", "b e:b", "c e:c"]
    assert seen[0] == ({"a": "a"}, {"n": 1})


# Dies in an ANY step, which began while its other dependency was still at work.
DYING_IN_ANY = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "slow":
            threading.Event().wait()
        if ctx.step.name == "first":
            die()
        return ctx.step.name

    flow = FlowDef("race", FlowMode.DAG)
    both = [flow.add_step(StepDef("fast")), flow.add_step(StepDef("slow"))]
    flow.add_step(StepDef("first", depends_on=both, trigger_mode=TriggerMode.ANY))
    new_engine(handler).run(flow, execution_id='e')
"""


def test_an_any_step_whose_first_dependency_completed_before_the_crash_runs(store_url, new_engine, log):
    killed(DYING_IN_ANY, store_url, log.path)
    result = new_engine(lambda ctx: dict(ctx.outputs)).resume("e")
    assert result.success
    assert result["first"].output == {"fast": "fast"}


def test_the_record_keeps_its_beginning_and_its_labels(store_url, new_engine, store, log):
    killed(DYING + "    new_engine(handler).run(flow, execution_id='e', labels={'x': 'y'})", store_url, log.path, "b")
    before = store.get("e")
    assert before.state is WorkflowState.RUNNING
    new_engine().resume("e")
    after = store.get("e")
    assert (after.started_at, after.labels) == (before.started_at, {"x": "y"})
    assert after.finished_at > before.started_at


def test_a_completed_execution_returns_its_stored_result(new_engine):
    done = new_engine().run(chain("a"), execution_id="e")
    ran = []
    again = new_engine(lambda ctx: ran.append(ctx.step.name)).resume("e")
    assert (again.state, again.outputs, again.execution_id) == (done.state, done.outputs, "e")
    assert ran == []


def test_an_unknown_execution_is_not_found(new_engine):
    with pytest.raises(ExecutionNotFound):
        new_engine().resume("nobody")


def test_after_a_crash_an_undo_still_finds_what_its_step_has_come_to(store_url, new_engine, store, log):
    code = """
    from szal import Handlers
    def boom(ctx):
        raise ValueError("boom")
    def die_undone(ctx):
        die()
    handlers = Handlers()
    handlers.step("boom")(boom)
    handlers.step("last")(lambda ctx: None)
    handlers.rollback("last")(die_undone)
    undo = {"run": "echo undone {{steps.made.output[0].file}} >> " + sys.argv[2]}
    config = {"run": "echo '[{\\"file\\": \\"a b\\"}]'", "output": "json", "rollback": undo}
    made = StepDef("made", step_type="shell", rollbackable=True, config=config)
    steps = [made, StepDef("last", rollbackable=True), StepDef("boom")]
    new_engine(handlers).run(FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
    """
    killed(code, store_url, log.path)
    assert store.get("e").state is WorkflowState.ROLLING_BACK
    handlers = Handlers(lambda ctx: None)
    handlers.rollback("last")(lambda ctx: None)
    result = new_engine(handlers).resume("e")
    assert result.state is WorkflowState.ROLLED_BACK
    assert log.lines == ["undone a b"]


def test_undoing_goes_on_where_it_was_interrupted(store_url, new_engine, store, log):
    code = """
    def undo(ctx):
        add(sys.argv[2], ctx.idempotency_key)
        if ctx.step.name == "b":
            die()

    def handler(ctx):
        if ctx.step.name == "boom":
            raise ValueError("boom")
        return ctx.step.name

    steps = [StepDef(name, rollbackable=name != "boom") for name in ["a", "b", "c", "boom"]]
    flow = FlowDef("undone", steps=steps, rollback_on_failure=True)
    new_engine(handler, rollback_handler=undo).run(flow, execution_id="e")
    """
    killed(code, store_url, log.path)
    assert store.get("e").state is WorkflowState.ROLLING_BACK
    undone = []
    engine = new_engine(rollback_handler=lambda ctx: undone.append((ctx.idempotency_key, ctx.output)))
    result = engine.resume("e")
    assert log.lines == ["e:c:rollback", "e:b:rollback"]
    assert undone == [("e:b:rollback", "b"), ("e:a:rollback", "a")]
    assert (result.state, result.rolled_back) == (WorkflowState.ROLLED_BACK, True)
    assert [step.status for step in result.steps[:3]] == [StepStatus.ROLLED_BACK] * 3


# -- an engine that was lost, in a process that lives ---------------------------------------------------


def leave(store, execution_id="e", *done, steps=("a", "b", "c")):
    """Write what is left of a chain whose engine went away after the steps *done*."""
    flow = chain(*steps)
    record = ExecutionRecord(execution_id, "chain", WorkflowState.RUNNING, flow_id=flow.id)
    epoch = store.ledger.create(
        NewExecution(record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="somebody", ttl=-1.0)
    )
    for seq, step in enumerate(flow.steps[: len(done)]):
        result = StepResult(step.id, step.name, StepStatus.COMPLETED, done[seq], attempts=1)
        data = encode_checkpoint(result, int(Outcome.COMPLETED))
        store.ledger.apply([SaveStep(execution_id, step.name, seq, data, None, epoch)])


@pytest.mark.parametrize("how", ["resume", "recover", "run"])
def test_what_was_left_goes_on_where_it_was(new_engine, store, how):
    leave(store, "e", "A")
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.idempotency_key) or [*ctx.outputs])
    assert engine.interrupted() == ["e"]
    if how == "recover":
        [result] = engine.recover()
    else:
        result = engine.resume("e") if how == "resume" else engine.run(chain("a", "b", "c"), execution_id="e")
    assert result.outputs == {"a": "A", "b": ["a"], "c": ["a", "b"]}
    assert ran == ["e:b", "e:c"]
    assert store.get("e").state is WorkflowState.COMPLETED
    assert engine.interrupted() == []


def test_several_engines_of_one_process_share_them_out(new_engine, store):
    for number in range(8):
        leave(store, f"e{number}", "A")
    ran, together = [], threading.Barrier(4)
    engines = [new_engine(lambda ctx: ran.append(ctx.idempotency_key)) for _ in range(4)]

    def recover(engine):
        together.wait(20)
        return engine.recover()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(recover, engines))
    assert sorted(ran) == sorted(f"e{number}:{step}" for number in range(8) for step in "bc")
    assert {result.execution_id for results in found for result in results} == {f"e{number}" for number in range(8)}
    assert store.count(states=WorkflowState.COMPLETED) == 8


def test_what_is_left_too_often_ends_failed(new_engine, store):
    leave(store, "e", "A")
    for number in range(2):
        store.ledger.take_over(
            TakeOver(execution_id="e", owner=f"another {number}", ttl=-1.0, is_gone=lambda owner: True)
        )
    [result] = new_engine(max_recoveries=2).recover()
    assert (result.state, result.error) == (WorkflowState.FAILED, "gave up after 2 recoveries")
    assert statuses(result) == {"a": "completed", "b": "pending", "c": "pending"}


# -- recover ------------------------------------------------------------------------------------------

MANY = """
    def handler(ctx):
        if ctx.step.name == "b":
            begun.release()
            threading.Event().wait(20)
        return ctx.step.name

    begun = threading.Semaphore(0)
    engine = new_engine(handler)
    for number in range(12):
        flow = FlowDef("even" if number % 2 == 0 else "odd", steps=[StepDef("a"), StepDef("b")])
        engine.start(flow, execution_id=f"e{number}")
    for _ in range(12):
        begun.acquire()
    die()
"""


def test_several_processes_share_them_out(store_url, store, log):
    killed(MANY, store_url)
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.idempotency_key)
        return ctx.step.name

    engine = new_engine(handler)
    tell("ready")
    listen()
    tell(len(engine.recover()))
    """
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(code, store_url, log.path)) for _ in range(4)]
        for child in children:
            assert child.hear() == "ready"
        for child in children:
            child.say()
        counts = [int(child.end()) for child in children]
    assert sorted(log.lines) == sorted(f"e{number}:b" for number in range(12))
    assert sum(counts) >= 12  # of one that another has just finished, the stored result is returned
    assert store.count(states=WorkflowState.COMPLETED) == 12


def test_recover_takes_one_flow_or_so_many(store_url, new_engine, store):
    killed(MANY, store_url)
    engine = new_engine()
    assert {result.flow_name for result in engine.recover("odd", limit=2)} == {"odd"}
    assert store.count(states=WorkflowState.RUNNING) == 10
    assert len(engine.recover("odd")) == 4
    assert len(engine.recover()) == 6
    assert engine.recover() == []


def test_an_execution_whose_handlers_are_not_here_is_left_alone(store_url, new_engine, store, log):
    killed(RUN, store_url, log.path, "b")
    assert new_engine(Handlers()).recover() == []
    assert store.get("e").state is WorkflowState.RUNNING
    assert new_engine().resume("e").success


def test_one_that_cannot_be_read_keeps_no_other_from_going_on(new_engine, store, caplog):
    leave(store, "bad", "A")
    leave(store, "good", "A")
    record = store.get("bad")
    data = encode_record(record).replace('"execution_id":"bad"', '"execution_id":5')
    store.ledger.apply([Save("bad", "chain", record.state, data)])
    with caplog.at_level(logging.ERROR):
        assert [result.execution_id for result in new_engine().recover()] == ["good"]
    assert "cannot read execution bad" in caplog.text


def test_recovery_in_the_background_takes_time(new_engine):
    for interval in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="interval must be positive"):
            new_engine().start_recovery(interval)


def test_recovery_in_the_background(store_url, new_engine, store, log):
    engine = new_engine()
    engine.start_recovery(0.02)
    killed(RUN, store_url, log.path, "b")
    wait_until(lambda: store.get("e").state is WorkflowState.COMPLETED, timeout=20)


def test_an_execution_that_kills_its_process_each_time_ends_failed(store_url, new_engine, store, log):
    killed(RUN, store_url, log.path, "b")
    for _ in range(2):
        killed(DYING + "    new_engine(handler, max_recoveries=2).recover()", store_url, log.path, "b")
    [result] = new_engine(max_recoveries=2).recover()
    assert result.state is WorkflowState.FAILED
    assert result.error == "gave up after 2 recoveries"
    assert store.get("e").error == "gave up after 2 recoveries"
    assert statuses(result) == {"a": "completed", "b": "pending", "c": "pending"}
    assert [line.split()[0] for line in log.lines] == ["a", "b", "b", "b"]
    assert new_engine().recover() == []


@pytest.mark.parametrize("shape", ["steps", "sub-flow", "undo"])
def test_processes_that_get_one_step_further_each_may_die_as_often_as_there_are_steps(
    store_url, new_engine, log, shape
):
    code = """
    def work(ctx):
        if ctx.step.name == "fails":
            raise ValueError("fails")
        if sys.argv[3] != "undo":
            live(ctx)

    def live(ctx):
        add(sys.argv[2], ctx.step.name)
        calls.append(ctx.step.name)
        if len(calls) > 1:
            die()

    calls = []
    steps = [StepDef(f"s{number}", rollbackable=True) for number in range(4)]
    flow = FlowDef("f", steps=steps)
    if sys.argv[3] == "undo":
        flow = FlowDef("f", steps=[*steps, StepDef("fails")], rollback_on_failure=True)
    storage = InMemoryStorage([flow])
    if sys.argv[3] == "sub-flow":
        flow = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "f"})])
    engine = new_engine(work, storage=storage, rollback_handler=live, max_recoveries=1)
    engine.run(flow, execution_id="e")
    sink.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    for _ in range(4):
        killed(code, store_url, log.path, shape)

    def backwards(name):
        return f"s{3 - int(name[1])}"

    expected = ["s0", "s1", "s1", "s2", "s2", "s3", "s3"]
    assert log.lines == ([*map(backwards, expected)] if shape == "undo" else expected)
    state = new_engine().resume("e").state
    assert state is (WorkflowState.ROLLED_BACK if shape == "undo" else WorkflowState.COMPLETED)


def test_the_sub_flows_of_one_that_is_given_up_end_with_it(store_url, new_engine, store, log):
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        die()

    inner = FlowDef("inner", steps=[StepDef("deep")])
    middle = FlowDef("middle", steps=[StepDef("down", step_type="sub_flow", config={"flow_name": "inner"})])
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "middle"})])
    storage = InMemoryStorage([inner, middle])
    new_engine(handler, storage=storage).run(outer, execution_id="e")
    """
    killed(code, store_url, log.path)
    [result] = new_engine(max_recoveries=0).recover()
    assert result.error == "gave up after 0 recoveries"
    records = [store.get(each) for each in store.list()]
    assert {record.flow_name: record.error for record in records} == dict.fromkeys(
        ("inner", "middle", "outer"), "gave up after 0 recoveries"
    )
    assert {record.state for record in records} == {WorkflowState.FAILED}
    assert new_engine().interrupted() == []


def test_a_sub_flow_is_resumed_with_what_it_belongs_to(store_url, new_engine, store, log):
    code = """
    inner = FlowDef("inner", steps=[StepDef("deep")])
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    new_engine(lambda ctx: die(), storage=InMemoryStorage([inner])).run(outer, execution_id="e")
    """
    killed(code, store_url, log.path)
    inner = FlowDef("inner", steps=[StepDef("deep")])
    [child] = [each for each in store.list() if each != "e"]
    result = new_engine(storage=InMemoryStorage([inner])).resume(child)
    assert (result.execution_id, result.outputs) == ("e", {"in": {"deep": "deep"}})
    assert store.get(child).state is WorkflowState.COMPLETED


def test_each_run_of_an_execution_has_its_own_events(new_engine):
    seen = []
    ask = StepDef("ask", step_type="wait", config={"signal": "yes"})
    engine = new_engine(event_sink=lambda event: seen.append(event.event_type))
    engine.run(FlowDef("asking", steps=[ask]), execution_id="e")
    engine.signal("e", "yes")
    engine.resume("e")
    assert [kind for kind in seen if kind.startswith("flow")] == [
        "flow_started",
        "flow_paused",
        "flow_started",
        "flow_completed",
    ]


@pytest.mark.parametrize("how", ["resume", "recover", "run"])
def test_what_is_still_to_be_written_is_waited_for(new_engine, how):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name), durability="none")
    ask = StepDef("ask", step_type="wait", config={"signal": "yes"})
    flow = FlowDef("asking", steps=[StepDef("a"), ask, StepDef("b")])
    for number in range(20):
        engine.run(flow, execution_id=f"e{number}")
        engine.signal(f"e{number}", "yes")
        if how == "run":
            result = engine.run(flow, execution_id=f"e{number}")
        else:
            [result] = [engine.resume(f"e{number}")] if how == "resume" else engine.recover()
        assert result.success
    assert ran == ["a", "b"] * 20


def test_a_closed_engine_runs_nothing(new_engine, store):
    leave(store, "e", "A")
    engine = new_engine()
    engine.close()
    for call in (
        lambda: engine.run(chain("a")),
        lambda: engine.resume("e"),
        lambda: engine.rerun("e"),
        engine.recover,
        lambda: engine.start_recovery(1),
    ):
        with pytest.raises(SzalError, match="this engine is closed"):
            call()
    assert (store.list(), store.get("e").state) == (["e"], WorkflowState.RUNNING)


# -- an idempotent start ------------------------------------------------------------------------------


def test_one_id_started_from_many_threads_and_processes_runs_once(store_url, log):
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.idempotency_key)
        return ctx.step.name

    def start():
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                results.append(engine.run(flow, {"n": 1}, execution_id="order-42"))
                return
            except ExecutionOwned:
                time.sleep(0.01)

    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
    results = []
    engine = new_engine(handler)
    threads = [threading.Thread(target=start) for _ in range(8)]
    tell("ready")
    listen()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(len([result for result in results if result.success and result.execution_id == "order-42"]))
    """
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(code, store_url, log.path)) for _ in range(4)]
        for child in children:
            assert child.hear() == "ready"
        for child in children:
            child.say()
        assert [child.end() for child in children] == ["8"] * 4
    assert log.lines == ["order-42:a", "order-42:b", "order-42:c"]


def test_one_id_started_from_many_threads_of_two_engines_runs_once(new_engine):
    ran, together = [], threading.Barrier(8)
    engines = [new_engine(lambda ctx: ran.append(ctx.idempotency_key)) for _ in range(2)]
    flow = chain("a", "b")

    def start(number):
        together.wait(20)
        return wait_until(lambda: attempt(engines[number % 2]), timeout=20)

    def attempt(engine):
        with contextlib.suppress(ExecutionOwned):
            return engine.run(flow, execution_id="order-42")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(start, range(8)))
    assert all(result.success and result.execution_id == "order-42" for result in results)
    assert ran == ["order-42:a", "order-42:b"]


def test_an_interrupted_one_is_continued_by_its_start(store_url, new_engine, log):
    killed(RUN, store_url, log.path, "b")
    assert new_engine(logging_to(log)).run(chain("a", "b", "c"), {"n": 1}, execution_id="e").success
    assert log.lines == ["a e:a", "b e:b", "b e:b", "c e:c"]


def test_another_definition_under_that_id_is_refused_with_what_differs(new_engine):
    engine = new_engine()
    engine.run(chain("a", "b"), execution_id="e")
    with pytest.raises(DefinitionMismatch) as refusal:
        engine.run(chain("a", "c", version=2), execution_id="e")
    assert refusal.value.differences == ("version 1 -> 2", "step 'b' was removed", "step 'c' is new")
    assert "execution e was started with a different definition" in str(refusal.value)


def test_an_id_is_a_text(new_engine, store):
    engine = new_engine()
    with pytest.raises(TypeError, match="execution_id must be a string, not UUID"):
        engine.run(chain("a"), execution_id=uuid.uuid4())
    with pytest.raises(ValueError, match="execution_id is empty"):
        engine.start(chain("a"), execution_id="")
    assert store.list() == []


def test_a_run_without_an_id_of_its_own_runs_again(new_engine):
    flow = chain("a")
    engine = new_engine()
    assert engine.run(flow).execution_id == flow.id
    assert engine.run(flow).execution_id != flow.id


# -- definitions that change --------------------------------------------------------------------------


def migrations(change):
    registry = MigrationRegistry("chain")
    registry.register(1, 2, change)
    return {"chain": registry}


def test_without_migrations_the_stored_definition_goes_on(store_url, new_engine, log):
    killed(RUN, store_url, log.path, "b")
    assert new_engine().resume("e").outputs == {"a": "a", "b": "b", "c": "c"}


def test_a_migrated_definition_goes_on_matched_by_name(store_url, new_engine, log):
    killed(RUN, store_url, log.path, "b")
    new = migrations(lambda flow: chain("before", "a", "b", "d", version=2))
    result = new_engine(logging_to(log), migrations=new).resume("e")
    assert result.success
    assert set(result.outputs) == {"before", "a", "b", "d"}
    assert [line.split()[0] for line in log.lines].count("a") == 1


class TestANewStepBeforeOneThatHasEnded:
    """What is left of a, b, c after a goes on as before, a, b, c: a is not done again, and yet settles after before."""

    @pytest.fixture
    def left(self, store):
        leave(store, "e", "A")

    @staticmethod
    def migrated(**options):
        new = [StepDef("before", rollbackable=True), StepDef("a", rollbackable=True), StepDef("b"), StepDef("c")]
        return migrations(lambda flow: FlowDef("chain", steps=new, version=2, **options))

    def test_runs_before_what_follows_that_one(self, left, new_engine):
        order = []
        engine = new_engine(lambda ctx: [*ctx.outputs], migrations=self.migrated(), event_sink=order.append)
        result = engine.resume("e")
        assert result.outputs == {"before": [], "a": "A", "b": ["before", "a"], "c": ["before", "a", "b"]}
        told = [(event.event_type, event.step_name) for event in order if event.step_name]
        kinds = ("step_started", "step_completed")
        assert told == [(kind, name) for name in ("before", "b", "c") for kind in kinds]

    def test_that_fails_lets_nothing_follow_and_what_was_done_is_undone(self, left, new_engine, store):
        undone = []

        def handler(ctx):
            assert ctx.step.name == "before"
            raise ValueError("no")

        engine = new_engine(
            handler,
            migrations=self.migrated(rollback_on_failure=True),
            rollback_handler=lambda ctx: undone.append((ctx.step.name, ctx.output)),
        )
        result = engine.resume("e")
        assert statuses(result) == {"before": "failed", "a": "rolled_back", "b": "skipped", "c": "skipped"}
        assert result.state is WorkflowState.ROLLED_BACK
        assert undone == [("a", "A")]

    def test_is_undone_before_that_one_which_completed_first(self, left, new_engine):
        undone = []

        def handler(ctx):
            if ctx.step.name == "b":
                raise ValueError("no")

        options = {"migrations": self.migrated(rollback_on_failure=True), "rollback_handler": undone.append}
        assert new_engine(handler, **options).resume("e").state is WorkflowState.ROLLED_BACK
        assert [ctx.step.name for ctx in undone] == ["before", "a"]

    def test_that_is_cancelled_leaves_that_one_done_and_undoes_it(self, left, new_engine):
        undone = []
        options = {"migrations": self.migrated(rollback_on_failure=True), "rollback_handler": undone.append}
        engine = new_engine(lambda ctx: engine.cancel("e"), **options)
        result = engine.resume("e")
        assert statuses(result) == {"before": "rolled_back", "a": "rolled_back", "b": "skipped", "c": "skipped"}
        assert [ctx.step.name for ctx in undone] == ["before", "a"]

    def test_that_waits_pauses_and_that_one_is_shown_as_done(self, left, new_engine):
        steps = [StepDef("before", step_type="wait", config={"signal": "go"}), *(StepDef(name) for name in "abc")]
        new = migrations(lambda flow: FlowDef("chain", steps=steps, version=2))
        engine = new_engine(migrations=new)
        paused = engine.resume("e")
        assert paused.state is WorkflowState.PAUSED
        assert statuses(paused) == {"before": "pending", "a": "completed", "b": "pending", "c": "pending"}
        engine.signal("e", "go", 1)
        assert engine.resume("e").outputs == {"before": 1, "a": "A", "b": "b", "c": "c"}

    def test_of_a_dag_opens_no_gate_too_early(self, new_engine, store):
        flow = FlowDef("dag", FlowMode.DAG, steps=[StepDef("a", id=uid("a"))])
        flow.add_step(StepDef("clean", id=uid("clean"), depends_on=uid("a"), trigger_mode=TriggerMode.ALL_DONE))
        flow.add_step(StepDef("hold", depends_on=uid("clean"), step_type="wait", config={"signal": "go"}))
        ask = StepDef("ask", depends_on=uid("clean"), condition="steps.before.status == 'completed'")
        steps = [
            StepDef("before", id=uid("before"), description="new"),
            StepDef("a", id=uid("a"), depends_on=uid("before")),
            *flow.steps[1:],
            ask,
        ]
        registry = MigrationRegistry("dag")
        registry.register(1, 2, lambda old: FlowDef("dag", FlowMode.DAG, steps=steps, version=2))
        assert new_engine().run(flow, execution_id="e").state is WorkflowState.PAUSED
        ran = []
        engine = new_engine(lambda ctx: ran.append(ctx.step.name), migrations={"dag": registry})
        assert statuses(engine.resume("e"))["ask"] == "completed"
        assert ran == ["before", "ask"]


def test_a_back_off_waits_for_a_new_step_before_it(new_engine, store):
    """It is not begun before its ancestors, however long ago its time has come."""
    flow = FlowDef("chain", steps=[StepDef("in", step_type="sub_flow", max_retries=1, config={"flow_name": "inner"})])
    record = ExecutionRecord("e", "chain", WorkflowState.RUNNING, flow_id=flow.id)
    epoch = store.ledger.create(
        NewExecution(record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="somebody", ttl=-1.0)
    )
    failed = StepResult(flow.steps[0].id, "in", StepStatus.PENDING, attempts=1)
    store.ledger.apply([SaveStep("e", "in", 0, encode_checkpoint(failed, due=1.0), None, epoch)])
    ran = []

    def handler(ctx):
        ran.append(ctx.step.name)
        if ctx.step.name == "before":
            raise ValueError("no")

    new = migrations(lambda old: FlowDef("chain", steps=[StepDef("before"), *flow.steps], version=2))
    engine = new_engine(handler, migrations=new, storage=InMemoryStorage([inner_of("d")]))
    assert statuses(engine.resume("e")) == {"before": "failed", "in": "skipped"}
    assert ran == ["before"]


def test_a_migration_that_drops_what_has_ended_is_refused_with_a_diff(store_url, new_engine, store, log, caplog):
    killed(RUN, store_url, log.path, "b")
    engine = new_engine(migrations=migrations(lambda flow: chain("b", "c", version=2)))
    with pytest.raises(DefinitionMismatch) as refusal:
        engine.resume("e")
    assert "step 'a' was removed" in refusal.value.differences
    with caplog.at_level(logging.ERROR):
        assert engine.recover() == []
    assert "cannot recover execution e" in caplog.text
    assert store.get("e").state is WorkflowState.RUNNING
    assert new_engine().resume("e").success


def test_a_start_with_the_migrated_definition_goes_on(new_engine, store):
    leave(store, "e", "A")
    engine = new_engine(migrations=migrations(lambda flow: attrs.evolve(flow, steps=[*flow.steps, StepDef("d")])))
    for _ in range(2):
        result = engine.run(chain("a", "b", "c", "d", version=2), execution_id="e")
        assert result.outputs == {"a": "A", "b": "b", "c": "c", "d": "d"}
    with pytest.raises(DefinitionMismatch) as refusal:
        engine.run(chain("a", "b", "c", "x", version=2), execution_id="e")
    assert refusal.value.differences == ("step 'd' was removed", "step 'x' is new")


# Dies in the second step of a sub-flow.
NESTED = """
    def handler(ctx):
        if ctx.step.name == "d2":
            die()
        return ctx.step.name

    inner = FlowDef("inner", steps=[StepDef("d1"), StepDef("d2"), StepDef("d3")])
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    new_engine(handler, storage=InMemoryStorage([inner])).run(outer, execution_id="e")
"""


@pytest.fixture
def killed_in_sub_flow(store_url):
    killed(NESTED, store_url)


def inner_of(*names, **options):
    return FlowDef("inner", steps=[StepDef(name) for name in names], **options)


@pytest.mark.parametrize("storage", [None, InMemoryStorage([inner_of("other", "d2")])])
def test_a_sub_flow_goes_on_with_its_stored_definition(killed_in_sub_flow, new_engine, log, storage):
    [result] = new_engine(logging_to(log), storage=storage).recover()
    assert result.outputs == {"in": {"d1": "d1", "d2": "d2", "d3": "d3"}}
    assert [line.split()[0] for line in log.lines] == ["d2", "d3"]


def test_a_sub_flow_is_migrated_too(killed_in_sub_flow, new_engine, store, log, caplog):
    def migrated(*names):
        registry = MigrationRegistry("inner")
        registry.register(1, 2, lambda flow: inner_of(*names, version=2))
        return {"inner": registry}

    with caplog.at_level(logging.ERROR):
        assert new_engine(logging_to(log), migrations=migrated("d2", "d3")).recover() == []
    assert "step 'd1' was removed" in caplog.text
    assert store.get("e").state is WorkflowState.RUNNING
    [result] = new_engine(logging_to(log), migrations=migrated("d1", "d2", "d4")).recover()
    assert result.outputs == {"in": {"d1": "d1", "d2": "d2", "d4": "d4"}}


def test_one_whose_sub_flows_cannot_go_on_here_is_left_alone(killed_in_sub_flow, new_engine, store, log):
    assert new_engine(Handlers()).recover() == []
    assert store.get("e").state is WorkflowState.RUNNING
    assert log.lines == []


def test_one_whose_sub_flows_are_not_known_here_is_left_alone(new_engine, store):
    flow = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    record = ExecutionRecord("e", "outer", WorkflowState.RUNNING, flow_id=flow.id)
    store.ledger.create(
        NewExecution(record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="somebody", ttl=-1.0)
    )
    with pytest.raises(HandlerNotFound, match="no sub-flow for step: in"):
        new_engine().resume("e")
    assert new_engine().recover() == []
    [result] = new_engine(storage=InMemoryStorage([inner_of("d1")])).recover()
    assert result.outputs == {"in": {"d1": "d1"}}


def test_the_sub_flows_that_a_flow_brings_are_recorded_with_it(store_url, new_engine):
    code = """
    flow = FlowDef("outer", steps=[
        StepDef("before"),
        StepDef("in", step_type="sub_flow", config={"flow_name": "middle"}),
    ], sub_flows=[
        FlowDef("middle", steps=[StepDef("deeper", step_type="sub_flow", config={"flow_name": "inner"})]),
        FlowDef("inner", steps=[StepDef("d1")]),
    ])
    new_engine(lambda ctx: die()).run(flow, execution_id="e")
    """
    killed(code, store_url)
    [result] = new_engine().recover()
    assert result.outputs["in"] == {"deeper": {"d1": "d1"}}


def test_the_failure_of_a_sub_flow_is_the_same_for_who_goes_on(store_url, new_engine):
    code = """
    def handler(ctx):
        raise ValueError("no")

    def listen(event):
        if (event.flow_name, event.event_type) == ("inner", "flow_failed"):
            die()

    inner = FlowDef("inner", steps=[StepDef("d1")])
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    new_engine(handler, storage=InMemoryStorage([inner]), event_sink=listen).run(outer, execution_id="e")
    """
    killed(code, store_url)
    [result] = new_engine(storage=InMemoryStorage([inner_of("d1")])).recover()
    assert result["in"].error == "sub-flow 'inner' failed: step 'd1' failed: ValueError: no"


def test_the_sub_flow_of_an_execution_that_was_removed_is_not_taken_for_the_new_ones(new_engine, store):
    ran = []
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    engine = new_engine(lambda ctx: ran.append(ctx.step.name), storage=InMemoryStorage([inner_of("d1")]))
    for _ in range(2):
        assert engine.run(outer, execution_id="e").success
        store.remove("e")
    assert ran == ["d1", "d1"]


# -- steps that must not run twice --------------------------------------------------------------------

PAYING = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "pay":
            os.kill(os.getpid(), signal.SIGKILL)  # at once: what was queued is lost
        return ctx.step.name

    steps = [StepDef("a"), StepDef("pay", idempotent=False), StepDef("c")]
    new_engine(handler, durability=sys.argv[3]).run(FlowDef("paying", steps=steps), execution_id="e")
"""


@pytest.fixture
def killed_while_paying(store_url, log):
    killed(PAYING, store_url, log.path, "flow")


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_one_that_may_have_been_done_waits_for_a_decision(store_url, new_engine, store, log, durability):
    killed(PAYING, store_url, log.path, durability)
    engine = new_engine(logging_to(log))
    [result] = engine.recover()
    assert (result.state, result.error) == (WorkflowState.PAUSED, "needs a decision: pay")
    assert store.get("e").error == "needs a decision: pay"
    assert engine.recover() == []
    assert engine.resume("e").state is WorkflowState.PAUSED
    assert log.lines == ["a", "pay"]


def test_nor_is_it_run_again_by_a_rerun_that_does_not_say_so(killed_while_paying, new_engine):
    now = []
    engine = new_engine(lambda ctx: now.append(ctx.step.name))
    engine.recover()
    with pytest.raises(ValueError, match="execution e: step 'pay' may have been done: resolve it first, or name it"):
        engine.rerun("e")
    assert now == []
    assert bounded(engine.rerun, "e", "pay").success
    assert now == ["pay", "c"]


def test_nor_by_one_of_a_flow_in_which_it_is_changed(killed_while_paying, new_engine):
    engine = new_engine()
    engine.recover()
    corrected = FlowDef("paying", steps=[StepDef("a"), StepDef("pay", step_type="better"), StepDef("c")])
    with pytest.raises(ValueError, match="execution e: step 'pay' may have been done: resolve it first, or name it"):
        engine.rerun("e", flow=corrected)


@pytest.mark.parametrize("how", ["resume", "recover"])
@pytest.mark.parametrize(
    ("decision", "ends"),
    [
        ("completed", (["c"], {"a": "completed", "pay": "completed", "c": "completed"}, "by hand")),
        ("failed", ([], {"a": "completed", "pay": "failed", "c": "skipped"}, None)),
        ("retry", (["pay", "c"], {"a": "completed", "pay": "completed", "c": "completed"}, "paid twice")),
    ],
)
def test_a_decision_lets_it_go_on(killed_while_paying, new_engine, decision, ends, how):
    now = []
    engine = new_engine(lambda ctx: now.append(ctx.step.name) or "paid twice")
    engine.recover()
    engine.resolve("e", "pay", decision, output="by hand" if decision == "completed" else None)
    [result] = [engine.resume("e")] if how == "resume" else engine.recover()
    assert (now, statuses(result), result["pay"].output) == ends


def test_one_that_is_cancelled_waits_for_no_decision(killed_while_paying, new_engine):
    ran = []
    engine = new_engine(lambda ctx: ran.append(ctx.step.name))
    [paused] = engine.recover()
    assert paused.state is WorkflowState.PAUSED
    assert engine.cancel("e")
    [result] = engine.recover()
    assert result.state is WorkflowState.CANCELLED
    assert statuses(result) == {"a": "completed", "pay": "failed", "c": "skipped"}
    assert result["pay"].error == "pay ended before it was decided whether it had been done"
    assert ran == []
    assert engine.recover() == []


def test_only_what_is_open_can_be_decided(killed_while_paying, new_engine):
    engine = new_engine()
    engine.recover()
    for step in ("a", "c", "nowhere"):
        with pytest.raises(ValueError, match=f"nothing is to be decided on step '{step}'"):
            engine.resolve("e", step, "retry")
    with pytest.raises(ValueError, match="decision is one of"):
        engine.resolve("e", "pay", "maybe")
    with pytest.raises(ValueError, match=r"only a step that counts as completed has one.*'failed'"):
        engine.resolve("e", "pay", "failed", {"paid": 7})
    with pytest.raises(ExecutionNotFound):
        engine.resolve("nobody", "pay", "retry")
    engine.resolve("e", "pay", "completed")
    with pytest.raises(ValueError, match="nothing is to be decided"):
        engine.resolve("e", "pay", "failed")
    assert engine.resume("e").success


def test_what_runs_is_not_to_be_decided_on(new_engine):
    begun, go = threading.Event(), threading.Event()
    engine = new_engine(lambda ctx: (begun.set(), waited(go))[1])
    execution = engine.start(FlowDef("paying", steps=[StepDef("pay", idempotent=False)]), execution_id="e")
    waited(begun)
    for each in (engine, new_engine()):
        with pytest.raises(ExecutionOwned):
            each.resolve("e", "pay", "failed")
    go.set()
    assert execution.result(timeout=20).success


INNER = """
    inner = FlowDef("inner", steps=[StepDef("pay", idempotent=False), StepDef("done")])
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    new_engine(lambda ctx: die(), storage=InMemoryStorage([inner])).run(outer, execution_id="e")
"""


@pytest.fixture
def with_open_question(store_url, new_engine, store):
    """An engine, and the id of a sub-flow that waits for a decision on its first step."""
    killed(INNER, store_url)
    inner = FlowDef("inner", steps=[StepDef("pay", idempotent=False), StepDef("done")])
    engine = new_engine(storage=InMemoryStorage([inner]))
    [result] = bounded(engine.recover)
    [child] = [each for each in store.list() if each != "e"]
    assert result.state is WorkflowState.PAUSED
    assert store.get(child).error == "needs a decision: pay"
    assert result.error == store.get("e").error == f"sub-flow {child} needs a decision: pay"
    assert engine.recover() == []
    return engine, child


def test_a_decision_on_a_sub_flow_lets_all_go_on(with_open_question):
    engine, child = with_open_question
    engine.resolve(child, "pay", "completed", output=1)
    [result] = bounded(engine.recover)
    assert result.outputs == {"in": {"pay": 1, "done": "done"}}


def test_cancelling_what_waits_for_a_decision_on_a_sub_flow(with_open_question, store):
    engine, child = with_open_question
    engine.cancel("e")
    [result] = bounded(engine.recover)
    assert result.state is WorkflowState.CANCELLED
    assert store.get(child).state is WorkflowState.CANCELLED


@pytest.mark.parametrize("attempt", [1, 2])
def test_cancelling_what_died_in_a_sub_flow_ends_that_too_with_its_rollback(store_url, new_engine, store, log, attempt):
    code = f"""
    steps = [StepDef("made", rollbackable=True), StepDef("deep")]
    inner = FlowDef("inner", steps=steps, rollback_on_failure=True)
    config = {{"flow_name": "inner"}}
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config=config, max_retries=1, retry_delay=0)])
    calls = []
    def handler(ctx):
        if ctx.step.name == "deep":
            calls.append(ctx)
            if len(calls) == {attempt}:
                die()
            raise ValueError("try again")

    new_engine(handler, storage=InMemoryStorage([inner]), rollback_handler=print).run(outer, execution_id="e")
    """
    killed(code, store_url, log.path)
    steps = [StepDef("made", rollbackable=True), StepDef("deep")]
    inner = FlowDef("inner", steps=steps, rollback_on_failure=True)
    undo = logging_to(log)
    engine = new_engine(logging_to(log), storage=InMemoryStorage([inner]), rollback_handler=undo)
    engine.cancel("e")
    [result] = bounded(engine.recover)
    assert result.state is WorkflowState.CANCELLED
    children = [each for each in store.list() if each != "e"]
    assert [store.get(each).state for each in children] == [WorkflowState.ROLLED_BACK] * attempt
    assert [line.split()[0] for line in log.lines] == ["made"]
    assert engine.interrupted() == []


def test_what_else_can_run_does_before_a_decision_is_waited_for(store_url, new_engine, log):
    code = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "pay":
            die()

    steps = [StepDef("pay", idempotent=False), StepDef("beside")]
    new_engine(handler, max_concurrency=1).run(FlowDef("two", FlowMode.PARALLEL, steps=steps), execution_id="e")
    """
    killed(code, store_url, log.path)
    [result] = bounded(new_engine(logging_to(log)).recover)
    assert (result.state, result.error) == (WorkflowState.PAUSED, "needs a decision: pay")
    assert statuses(result) == {"pay": "pending", "beside": "completed"}


# -- a crash in the midst of stopping ------------------------------------------------------------------


def left_behind(store, names, result, outcome, stop=None):
    """Leave a parallel flow of which one step has settled, as a process does that dies."""
    flow = FlowDef("left", FlowMode.PARALLEL, steps=[StepDef(name) for name in names])
    record = ExecutionRecord("e", flow.name, WorkflowState.RUNNING, flow_id=flow.id, stop=stop)
    epoch = store.ledger.create(
        NewExecution(record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="somebody", ttl=-1.0)
    )
    data = encode_checkpoint(result, int(outcome))
    store.ledger.apply([SaveStep("e", result.step_name, 0, data, None, epoch)])


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_a_cancellation_is_carried_on_where_the_process_died(new_engine, store, names):
    skipped = StepResult("i", "a", StepStatus.SKIPPED, error="cancelled")
    left_behind(store, names, skipped, Outcome.PASSED, Stop.CANCELLED)
    [result] = bounded(new_engine().recover)
    assert result.state is WorkflowState.CANCELLED
    assert set(statuses(result).values()) == {"skipped"}


def test_a_step_that_said_it_was_cancelled_cancels_nothing(new_engine, store):
    said = StepResult("i", "a", StepStatus.SKIPPED, attempts=1, error="cancelled")
    left_behind(store, "ab", said, Outcome.PASSED)
    [result] = bounded(new_engine().recover)
    assert statuses(result) == {"a": "skipped", "b": "completed"}
    assert result.success


# -- what is written ----------------------------------------------------------------------------------


class Weighing:
    """A store that keeps count of the bytes that are written to it."""

    def __init__(self, store):
        self._store = store
        self.ledger = InFront(store.ledger, apply=self.apply)
        self.bytes = 0
        self.rows = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def apply(self, writes, *, once=False):
        self.rows += len(writes)
        self.bytes += sum(len(json.dumps(write.row())) for write in writes)
        self._store.ledger.apply(writes, once=once)


def weight(store, steps):
    weighing = Weighing(store)
    with Sink(weighing) as sink, Engine(lambda ctx: "x" * 100, EngineConfig(execution_store=sink)) as engine:
        engine.run(chain(*(f"s{number:04}" for number in range(steps))))
    return weighing


def test_what_is_written_grows_with_the_steps_and_no_faster(store):
    few, many = weight(store, 50), weight(store, 500)
    assert few.rows <= 53
    assert many.rows <= 503
    assert many.bytes < 10.5 * few.bytes


def test_a_definition_is_kept_once(new_engine, store):
    engine = new_engine()
    ids = {store.ledger.read(engine.run(chain("a", "b")).execution_id).content_id for _ in range(3)}
    assert len(ids) == 1
    assert ids != {store.ledger.read(engine.run(chain("a", "c")).execution_id).content_id}


def test_executions_whose_ids_hold_a_colon_have_sub_flows_of_their_own(new_engine, store):
    """The second one's sub-flow had the id of the first one's, and replaced it."""
    engine = new_engine(storage=InMemoryStorage([chain("a")]))
    for execution_id, name in (("tenant", "7:call"), ("tenant:7", "call")):
        step = StepDef(name, step_type="sub_flow", config={"flow_name": "chain"})
        engine.run(FlowDef("outer", steps=[step]), execution_id=execution_id)
    children = {store.get(each).parent_execution_id for each in store.list("chain")}
    assert children == {"tenant", "tenant:7"}
