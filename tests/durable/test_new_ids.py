"""An execution whose id nobody has is recorded with the first that is written of it, and not waited for before that."""

import functools
import signal
import threading
from contextlib import closing, contextmanager, suppress
from itertools import product

import pytest
from helper_engine import bounded
from in_front import InFront
from injection import Injection, each_moment
from locking import Lock
from pairs import FULL, beside
from stores.samples import run_python

from szal import Engine, EngineConfig, FlowDef, InMemoryStorage, StepDef, WorkflowState
from szal.engine import journal, leased_store, leases, recording
from szal.engine.lineage import child_id
from szal.errors import LeaseLost, SinkFull, StoreFailed, WriteFailed
from szal.model.results import ExecutionRecord
from szal.stores import open_store
from szal.stores.ledger import Renewal, Signal
from szal.stores.sink.sink import Sink
from szal.stores.writes import Lease, NewExecution, Remove, Save, SaveStep

PAUSED = WorkflowState.PAUSED
FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("b")])


def new(execution_id, **more):
    record = ExecutionRecord(execution_id, "f", WorkflowState.RUNNING)
    return NewExecution(record=record, content_id="c", flow="{}", owner="me", ttl=60.0, **{"first_epoch": 7} | more)


def save(execution_id, state, epoch=7):
    return Save.of(ExecutionRecord(execution_id, "f", state), epoch)


# -- what an engine writes ----------------------------------------------------------------------------


def counting(store, asked):
    """Return *store*, whose ledger has what it is asked written down."""

    def asking(name, function):
        def ask(*args, **kwargs):
            asked.append(name)
            return function(*args, **kwargs)

        return ask

    names = ("create", "knows", "read", "write", "take_over")
    return InFront(store, ledger=InFront(store.ledger, **{n: asking(n, getattr(store.ledger, n)) for n in names}))


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_the_flows_own_id_is_asked_for_once_for_each_engine(store, durability):
    asked = []
    with store.engine_sink() as sink:
        config = EngineConfig(execution_store=counting(sink, asked), durability=durability)
        with Engine(lambda ctx: None, config) as engine:
            results = [engine.run(FLOW) for _ in range(3)]
            other = FlowDef("f", steps=[StepDef("a")])
            engine.run(other)
        with Engine(lambda ctx: None, config) as engine:
            results += [engine.run(FLOW), engine.run(FLOW)]
    assert [each for each in asked if each != "write"] == ["knows", "create", "knows", "create", "knows"]
    ids = [result.execution_id for result in results]
    assert ids[0] == FLOW.id
    assert len(set(ids)) == 5
    assert set(store.list()) == {*ids, other.id}
    assert {store.get(each).state for each in ids} == {WorkflowState.COMPLETED}


def test_an_own_id_that_was_taken_before_is_not_asked_for_again(store):
    store.save(ExecutionRecord(FLOW.id, "f", WorkflowState.COMPLETED))
    asked = []
    with store.engine_sink() as sink:
        config = EngineConfig(execution_store=counting(sink, asked))
        with Engine(lambda ctx: None, config) as engine:
            assert FLOW.id not in {engine.run(FLOW).execution_id, engine.run(FLOW).execution_id}
    assert [each for each in asked if each != "write"] == ["knows"]


@pytest.mark.parametrize("begin", ["run", "start"])
@pytest.mark.usefixtures("patient")
def test_with_durability_none_nothing_is_waited_for(store_url, begin):
    """Neither by a run, nor by its sub-flows, nor where a run is only started."""
    inner = FlowDef("inner", steps=[StepDef("i")])
    steps = [StepDef("a"), StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("b")]
    flow = FlowDef("f", steps=steps)
    with open_store(store_url) as store, store.engine_sink() as sink, closing(Lock(store_url)) as lock:
        config = EngineConfig(execution_store=sink, durability="none", storage=InMemoryStorage([inner]))
        with Engine(lambda ctx: ctx.step.name, config) as engine:
            bounded(engine.run, flow)  # under the flow's own id, which is a claim
            sink.flush(10)
            lock.take()
            execution = bounded(engine.start, flow) if begin == "start" else None
            result = bounded(execution.result if execution else engine.run, *([] if execution else [flow]))
            assert result.success
            pending = sink.get(result.execution_id)
            assert pending.state is WorkflowState.COMPLETED
            assert result.execution_id in sink.list("f")
            lock.leave()
            sink.flush(20)
        assert store.get(result.execution_id) == pending
        assert len(store.ledger.read(result.execution_id).steps) == 3
        child = store.get(child_id(result.execution_id, "in", 1))
        assert (child.state, child.parent_execution_id) == (WorkflowState.COMPLETED, result.execution_id)
        assert store.ledger.holder(result.execution_id) is None


def test_a_start_hands_out_an_id_that_is_in_the_store(new_engine, store):
    go = threading.Event()
    engine = new_engine(lambda ctx: go.wait(20))
    engine.start(FLOW).cancel()
    execution = engine.start(FLOW)
    try:
        assert execution.execution_id != FLOW.id
        assert store.get(execution.execution_id).state is WorkflowState.RUNNING
    finally:
        go.set()
    assert execution.result(20).success


def test_with_durability_none_a_start_hands_out_an_id_that_is_queued(store):
    """Whoever has it can signal and cancel at once; and the lease is renewed as any other."""
    begun_by, renewed = [], threading.Event()

    def write(each):
        if isinstance(each, NewExecution):
            begun_by.append(threading.current_thread())
        sink.ledger.write(each)

    def renew(renewal):
        kept = sink.ledger.renew(renewal)
        if execution_ids & set(kept):
            renewed.set()
        return kept

    execution_ids = set()
    with store.engine_sink() as sink:
        front = InFront(sink, ledger=InFront(sink.ledger, write=write, renew=renew))
        config = EngineConfig(execution_store=front, durability="none", lease_ttl=0.6)
        with Engine(lambda ctx: renewed.wait(20), config) as engine:
            engine._admission._taken.add(FLOW.id)
            execution = engine.start(FLOW)
            assert begun_by == [threading.current_thread()]
            execution_ids.add(execution.execution_id)
            assert engine.signal(execution.execution_id, "hello")
            assert execution.result(20).success
            assert renewed.is_set()
    assert len(begun_by) == 1


def test_a_start_whose_beginning_is_lost_raises_that_in_the_end(store):
    def apply(writes, **options):
        if any(isinstance(each, NewExecution) for each in writes):
            lost.set()
            raise StoreFailed("the store", "no")
        store.ledger.apply(writes, **options)

    lost = threading.Event()
    with Sink(InFront(store, ledger=InFront(store.ledger, apply=apply))) as sink:
        config = EngineConfig(execution_store=sink, durability="none")
        with Engine(lambda ctx: lost.wait(20) and sink.drain(20), config) as engine:
            engine._admission._taken.add(FLOW.id)
            with pytest.raises(StoreFailed, match="no"):
                engine.start(FLOW).result(20)
        with pytest.raises(WriteFailed):
            sink.flush(20)


def test_what_it_is_told_while_its_beginning_is_queued_is_heard(store):
    """By its own engine, and by another one that has the same sink."""
    begins, go = threading.Event(), threading.Event()

    def apply(writes, **options):
        if is_slow and any(isinstance(each, NewExecution) for each in writes):
            begins.set()
            assert go.wait(20)
        return store.ledger.apply(writes, **options)

    is_slow, told, ids = False, [], []
    steps = [StepDef("a"), StepDef("ask", step_type="wait", config={"signal": "approve"}), StepDef("b")]
    flow = FlowDef("f", steps=steps)
    with Sink(InFront(store, ledger=InFront(store.ledger, apply=apply))) as sink:
        config = EngineConfig(execution_store=sink, durability="none")
        other = Engine(lambda ctx: None, config)
        with Engine(lambda ctx: ids.append(ctx.execution_id), config) as engine, other:
            engine.run(flow)
            sink.flush(20)
            is_slow = True
            result = bounded(engine.run, flow)
            assert result.state is WorkflowState.PAUSED
            assert begins.wait(30)
            assert store.get(ids[-1]) is None

            def tell():
                told.append(other.signal(ids[-1], "approve", 1))
                told.append(other.resume(ids[-1]).state)
                told.append(engine.cancel(ids[-1]))

            thread = threading.Thread(target=tell)
            thread.start()
            go.set()
            thread.join(20)
    assert told == [True, WorkflowState.COMPLETED, False]


@pytest.mark.parametrize(
    ("durability", "kind"),
    list(
        product(["none", "flow", "step"], ["memory", "sqlite", "postgres"])
        if FULL
        else [("none", "memory"), ("step", "sqlite")]
    ),
)
def test_ctrl_c_at_any_line_of_its_beginning_leaves_it_to_be_gone_on_with(open_one, durability):
    """Or nothing is there of it, where nothing was queued."""

    def at(moment):
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        with store.engine_sink() as sink:
            config = EngineConfig(execution_store=sink, durability=durability)
            with Engine(lambda ctx: ran.append(ctx.step.name), config) as engine:
                engine.run(flow)
                ran.clear()
                interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
                injection = Injection(moment, [recording, journal, leased_store, leases], interrupt, opcodes=False)
                with injection, suppress(KeyboardInterrupt):
                    engine.run(flow)
                sink.flush(20)
                for execution_id in set(store.list()) - {flow.id}:
                    assert engine.resume(execution_id).success, moment
                    assert ran.count("a") in (1, 2), moment
                sink.flush(20)
                assert not injection.happened or len(set(store.list())) <= 2
                assert {store.ledger.holder(each) for each in store.list()} == {None}, moment
        for execution_id in store.list():
            store.remove(execution_id)
        return injection

    ran = []
    with open_one() as store:
        assert each_moment(at) > 40


@pytest.mark.parametrize("durability", ["none", "flow"])
def test_a_run_whose_beginning_is_not_taken_leaves_nothing_that_somebody_would_recover(store, durability):
    """Whoever called it was told that it failed, and may call it again."""
    asked = []

    def write(each):
        asked.append(each)
        if len(asked) == 1:
            raise SinkFull("the store", 1, 0.1)
        sink.ledger.write(each)

    with store.engine_sink() as sink:
        front = InFront(sink, ledger=InFront(sink.ledger, write=write))
        with Engine(lambda ctx: None, EngineConfig(execution_store=front, durability=durability)) as engine:
            engine._admission._taken.add(FLOW.id)
            with pytest.raises(SinkFull):
                engine.run(FLOW)
            sink.flush(20)
            assert [type(each) for each in asked] == [NewExecution]
            assert store.list() == []
            assert engine.run(FLOW).success


@pytest.mark.parametrize(("durability", "kind"), beside(["none", "flow", "step"], ["sqlite", "postgres"]))
def test_a_death_at_any_write_leaves_all_of_it_or_nothing(store_url, durability):
    """Whoever recovers ends it as if nothing had happened; of what was never committed nobody hears."""
    code = """
    import os, sys
    from in_front import InFront
    from szal import Engine, EngineConfig, FlowDef, StepDef
    from szal.stores import open_store
    from szal.stores.sink.sink import Sink

    url, durability, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count = 0

    def point():
        global count
        count += 1
        if count == last:
            os._exit(77)

    def apply(writes, **options):
        point()
        store.ledger.apply(writes, **options)
        point()

    def handler(ctx):
        point()
        return ctx.step.name

    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    store = open_store(url)
    sink = Sink(InFront(store, ledger=InFront(store.ledger, apply=apply)))
    config = EngineConfig(execution_store=sink, durability=durability)
    with Engine(lambda ctx: ctx.step.name, EngineConfig(execution_store=store)) as engine:
        engine.run(flow)
    store.remove(flow.id)
    with Engine(handler, config) as engine:
        engine._admission._taken.add(flow.id)
        engine.run(flow)
        sink.close()
    store.close()
    """
    with open_store(store_url) as store:
        died, last = True, 0
        while died:
            last += 1
            ended = run_python(code, store_url, durability, last)
            assert ended.returncode in (0, 77), ended.stderr
            died = ended.returncode == 77
            with store.engine_sink() as sink:
                engine = Engine(lambda ctx: ctx.step.name, EngineConfig(execution_store=sink))
                recovered = engine.recover()
                engine.close()
            assert len(store.list()) <= 1
            for each in store.list():
                assert store.get(each).result.outputs == {"a": "a", "b": "b"}, last
                store.remove(each)
            assert not (recovered and not died)
        assert last >= 4


# -- the write, in each store ------------------------------------------------------------------------------


@pytest.fixture(params=["bare", "sink"])
def ledger(request, store):
    """A store's ledger, and that of a sink in front of it."""
    if request.param == "bare":
        yield store.ledger
        return
    with store.engine_sink() as sink:
        yield sink.ledger


def test_it_is_there_with_its_lease_and_what_follows(store, ledger):
    ledger.apply(
        [new("e", steps=[("a", 0, "1")]), SaveStep("e", "b", 1, "2", None, 7), save("e", WorkflowState.PAUSED)]
    )
    found = store.ledger.read("e")
    assert (found.epoch, found.flow, found.content_id) == (7, "{}", "c")
    assert found.steps == [("a", 0, "1"), ("b", 1, "2")]
    assert found.record.state is WorkflowState.PAUSED
    assert store.ledger.holder("e") == "me"
    assert store.ledger.renew(Renewal(owner="me", epochs={"e": 7}, ttl=60.0)) == {"e": False}


def test_where_somebody_has_its_id_nothing_of_it_is_written(store, ledger):
    store.ledger.create(new("e", first_epoch=3))
    with pytest.raises(LeaseLost) as lost:
        ledger.apply([new("other"), new("e"), SaveStep("e", "b", 1, "2", None, 7)])
    assert lost.value.leases == {("e", 7)}
    assert (store.list(), store.ledger.read("e").steps) == (["e"], [])


@pytest.mark.parametrize("replaces", [True, False])
def test_a_second_time_it_changes_nothing(store, ledger, replaces):
    """An interruption may come when it has been queued, and nobody knows."""
    first = new("e", replace=replaces)
    ledger.apply([first, SaveStep("e", "a", 0, "1", None, 7), save("e", WorkflowState.PAUSED)])
    ledger.apply([first])
    assert store.ledger.read("e").steps == [("a", 0, "1")]
    assert store.get("e").state is WorkflowState.PAUSED


def test_what_is_left_over_under_its_id_goes_where_it_replaces_that(store, ledger):
    store.ledger.create(new("e", first_epoch=3, steps=[("a", 0, "1")]))
    store.ledger.send("e", Signal("s", "go", "1"))
    ledger.apply([new("e", replace=True)])
    found = store.ledger.read("e")
    assert (found.epoch, found.steps, store.ledger.signals("e")) == (7, [], [])


def test_under_a_lease_that_is_lost_it_is_not_written_nor_what_follows_and_all_else_is(store):
    store.ledger.create(new("parent", first_epoch=3))
    lost = []
    with store.engine_sink(on_error=lambda write, error: lost.append((write.execution_id, type(error)))) as sink:
        with held_up(sink):
            sink.ledger.write(new("other"))
            sink.ledger.write(new("child", under=Lease("parent", 2)))
            sink.ledger.write(SaveStep("child", "a", 0, "1", None, 7))
            sink.ledger.write(new("grandchild", under=Lease("child", 7)))
            sink.ledger.write(SaveStep("other", "a", 0, "1", None, 7))
        with pytest.raises(WriteFailed):
            sink.flush(20)
    assert lost == [("child", LeaseLost), ("child", LeaseLost), ("grandchild", LeaseLost)]
    assert sorted(store.list()) == ["other", "parent"]
    assert len(store.ledger.read("other").steps) == 1


def test_what_follows_one_that_is_refused_is_lost_for_the_same_reason(store):
    lost = []

    def apply(writes, **options):
        if any(isinstance(each, NewExecution) and each.execution_id == "bad" for each in writes):
            raise StoreFailed("the store", "no")
        store.ledger.apply(writes, **options)

    front = InFront(store, ledger=InFront(store.ledger, apply=apply))
    with Sink(front, on_error=lambda write, error: lost.append((write.execution_id, str(error)))) as sink:
        with held_up(sink):
            for write in (new("bad"), new("good"), SaveStep("bad", "a", 0, "1", None, 7), save("good", PAUSED)):
                sink.ledger.write(write)
        with pytest.raises(WriteFailed):
            sink.flush(20)
    assert lost == [("bad", "the store: no")] * 2
    assert (store.list(), store.get("good").state) == (["good"], PAUSED)


@pytest.mark.parametrize("durability", ["none", "flow"])
def test_beginnings_are_waited_for_as_long_as_commits_not_as_for_room(store, durability):
    """By a sub-flow that is claimed, and by a signal: with `block_timeout=0` a sink never holds up who writes."""

    def apply(writes, **options):
        if any(isinstance(each, NewExecution) for each in writes):
            go.wait(20)
        return store.ledger.apply(writes, **options)

    def drain(timeout=None, *, begin_of=None, of=None):
        if begin_of is not None:
            go.set()
        return sink.ledger.drain(timeout, begin_of=begin_of)

    go, told = threading.Event(), []
    inner = FlowDef("inner", steps=[StepDef("i")])
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    with Sink(InFront(store, ledger=InFront(store.ledger, apply=apply)), block_timeout=0) as sink:
        front = InFront(sink, ledger=InFront(sink.ledger, drain=drain))
        config = EngineConfig(execution_store=front, durability=durability, storage=InMemoryStorage([inner]))

        def handler(ctx):
            if durability == "none" and ctx.step.name == "a":
                told.append(engine.signal(ctx.execution_id, "hello"))

        try:
            with Engine(handler, config) as engine:
                engine._admission._taken.add(flow.id)
                assert bounded(engine.run, flow, timeout=20).success
        finally:
            go.set()
        assert told == ([True] if durability == "none" else [])


@contextmanager
def held_up(sink):
    """Have what is queued meanwhile written in one batch, once the writer has begun one without it."""
    committer = sink._writer._committer
    lock, reached = committer.at_work, threading.Event()

    class Reached:
        def __enter__(self):
            reached.set()
            lock.acquire()

        def __exit__(self, *raised):
            lock.release()

    with lock:
        committer.at_work = Reached()
        sink.ledger.write(Remove("nobody"))
        assert reached.wait(20)
        committer.at_work = lock
        yield


# -- its sub-flows ------------------------------------------------------------------------------------------


def test_a_run_that_could_not_be_recorded_says_so_and_not_that_somebody_has_taken_it(store):
    """Where a sub-flow is claimed under the lease that it never had."""

    def apply(writes, **options):
        if any(isinstance(each, NewExecution) for each in writes):
            raise StoreFailed("the store", "no")
        store.ledger.apply(writes, **options)

    inner = FlowDef("inner", steps=[StepDef("i")])
    flow = FlowDef("f", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    with Sink(InFront(store, ledger=InFront(store.ledger, apply=apply))) as sink:
        config = EngineConfig(execution_store=sink, storage=InMemoryStorage([inner]))
        with Engine(lambda ctx: None, config) as engine:
            engine._admission._taken.add(flow.id)
            with pytest.raises((WriteFailed, StoreFailed), match="no"):
                engine.run(flow)
        assert store.list() == []
        with suppress(WriteFailed):
            sink.flush(20)


def test_a_run_raises_what_was_lost_of_a_sub_flow_that_is_over(store):
    """It has ended, and nobody listens to its losses any more."""

    def apply(writes, **options):
        if any(isinstance(each, Save) and each.flow_name == "inner" and not each.state.is_live for each in writes):
            raise StoreFailed("the store", "no")
        store.ledger.apply(writes, **options)

    inner = FlowDef("inner", steps=[StepDef("i")])
    flow = FlowDef("f", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    with Sink(InFront(store, ledger=InFront(store.ledger, apply=apply))) as sink:
        config = EngineConfig(execution_store=sink, storage=InMemoryStorage([inner]))
        with Engine(lambda ctx: None, config) as engine, pytest.raises((WriteFailed, StoreFailed), match="no"):
            engine.run(flow)
        with suppress(WriteFailed):  # where the run heard of it before it asked
            sink.flush(20)
